//! nsqd's HTTP API: request in, response out. Sockets are `crate::http`'s business; its worker threads run
//! this.
//!
//! Not here: `/debug`, which is about Go.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nsq_protocol::{Bodies, BodiesBuf, ChannelName, TopicName};
use serde_json::json;

use super::api_error::ApiError;
use super::config::{BrokerConfig, NSQD_VERSION, TlsRequired, hostname};
use super::core::{Missing, NewBatch};
use super::hub::{Hub, timestamp_ns};
use super::options_api;
use super::stats::{StatsFilter, seconds};
use crate::http::{Handler, OwnNames, Request, Response, foreign_origin};
use crate::runtime::clock;

/// How far a body may be over the limits and still be read, so that the answer is nsqd's and not a general
/// 413: a message that is a little too large is the usual mistake.
const BODY_SLACK: usize = 1 << 20;

/// The largest body that the HTTP server should read.
pub(super) fn max_body(config: &BrokerConfig) -> usize {
    config.max_body_size.max(config.max_msg_size) + BODY_SLACK
}

/// The HTTP API of one broker, in clear or over TLS.
pub(super) struct Api {
    hub: Arc<Hub>,
    hostname: String,
    ports: Arc<Ports>,
    is_encrypted: bool,
    /// Workers that may be waiting for nsqlookupds.
    makers: AtomicUsize,
    /// Known only once the server listens.
    names: OnceLock<OwnNames>,
}

/// HTTP requests handled at one time. Each takes the core's lock for most of its work; those that create topics may wait for an
/// nsqlookupd that has just gone away, and are half of them at most.
pub(super) const WORKERS: usize = 8;

/// The most workers that wait for nsqlookupds at one time. The HTTP server gives no more of them such requests; but it gives up
/// those that take too long, whose workers go on.
const MAKERS_MAX: usize = WORKERS / 2;

/// One of those workers.
struct Maker<'a>(&'a AtomicUsize);

impl Drop for Maker<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where a broker is found; 0 and unset are none.
#[derive(Default)]
pub(super) struct Ports {
    pub(super) tcp: u16,
    http: OnceLock<u16>,
    https: OnceLock<u16>,
}

impl Ports {
    pub(super) fn new(tcp: u16) -> Self {
        Self { tcp, ..Self::default() }
    }
}

impl Api {
    /// The API of `hub`; call [`Api::set_address`] once it is known.
    pub(super) fn new(hub: Arc<Hub>, ports: Arc<Ports>, is_encrypted: bool) -> Self {
        let (makers, names) = Default::default();
        Self { hub, hostname: hostname(), ports, is_encrypted, makers, names }
    }

    /// Says where it listens; the first time counts.
    pub(super) fn set_address(&self, address: SocketAddr) {
        let config = &self.hub.config;
        let mut allowed = config.allowed_hosts.clone();
        allowed.push(config.broadcast_address.clone());
        let _ = self.names.set(OwnNames::new(vec![address.ip()], allowed));
        let port = if self.is_encrypted { &self.ports.https } else { &self.ports.http };
        let _ = port.set(address.port());
    }

    /// Where TLS is required, the answer to all that comes in clear.
    fn refuse_in_clear(&self) -> Option<Response> {
        let is_refused = !self.is_encrypted && self.hub.config.tls_required == TlsRequired::Always;
        is_refused.then(|| {
            let port = self.ports.https.get().copied().unwrap_or_default();
            Response::json(403, &json!({ "message": "TLS_REQUIRED", "https_port": port }))
        })
    }

    /// Refuses what a page of another site sends, through the browser of somebody who reaches this API.
    fn check_sender(&self, request: &Request) -> Result<(), ApiError> {
        let unnamed = OwnNames::default();
        let names = self.names.get().unwrap_or(&unnamed);
        let scheme = if self.is_encrypted { "https://" } else { "http://" };
        if let Some(host) = names.foreign_host(request) {
            return Err(ApiError::ForeignHost(host.to_owned()));
        }
        match foreign_origin(request, scheme) {
            Some(origin) if request.method != "GET" => {
                Err(ApiError::ForeignOrigin(origin.to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn route(&self, request: &Request) -> Result<Response, ApiError> {
        self.check_sender(request)?;
        if let Some(option) = request.path.strip_prefix("/config/") {
            return match request.method.as_str() {
                "GET" | "PUT" => options_api::answer(&self.hub, request, option),
                _ => Err(ApiError::MethodNotAllowed),
            };
        }
        let method = match request.path.as_str() {
            "/ping" | "/info" | "/stats" => "GET",
            "/pub" | "/mpub" | "/topic/create" | "/topic/delete" | "/topic/empty"
            | "/topic/pause" | "/topic/unpause" | "/channel/create" | "/channel/delete"
            | "/channel/empty" | "/channel/pause" | "/channel/unpause" => "POST",
            _ => return Err(ApiError::NotFound),
        };
        if request.method != method {
            return Err(ApiError::MethodNotAllowed);
        }
        let done = |()| Response { status: 200, ..Response::default() };
        match request.path.as_str() {
            "/ping" => Ok(match self.failure() {
                None => Response::text(200, "OK"),
                Some(why) => Response::text(500, format!("NOK - {why}")),
            }),
            "/info" => Ok(self.info()),
            "/stats" => Ok(self.stats(request)),
            "/pub" => self.publish(request),
            "/mpub" => self.publish_many(request),
            path if path.starts_with("/topic/") => self.topic(request).map(done),
            _ => self.channel(request).map(done),
        }
    }

    /// Why the disk takes no messages; `None`: it does, or none is asked.
    fn failure(&self) -> Option<String> {
        self.hub.logs()?.failure()
    }

    fn info(&self) -> Response {
        let config = &self.hub.config;
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let info = json!({
            "version": NSQD_VERSION,
            "broadcast_address": config.broadcast_address,
            "hostname": self.hostname,
            "http_port": self.ports.http.get().copied().unwrap_or_default(),
            "tcp_port": self.ports.tcp,
            "start_time": seconds(self.hub.started),
            "max_heartbeat_interval": ns(config.max_heartbeat_interval),
            "max_output_buffer_size": config.max_output_buffer_size,
            "max_output_buffer_timeout": ns(config.max_output_buffer_timeout),
            "max_deflate_level": config.max_deflate_level,
        });
        Response::json(200, &info)
    }

    fn stats(&self, request: &Request) -> Response {
        let flag = |name| !matches!(request.get(name), Some("false" | "0"));
        let filter = StatsFilter {
            topic: request.get("topic").unwrap_or_default(),
            channel: request.get("channel").unwrap_or_default(),
            include_clients: flag("include_clients"),
            include_memory: flag("include_mem"),
            now_ns: timestamp_ns(),
        };
        let mut stats = self.hub.with_core(|core| core.stats(&filter));
        if let Some(why) = self.failure() {
            stats.health = format!("NOK - {why}");
        }
        if request.get("format") == Some("json") {
            return Response::json(200, &stats);
        }
        let now = clock::unix_ms();
        // None where the clock was set back.
        let uptime_ms = u64::try_from(now.0 - self.hub.started.0).unwrap_or(0);
        Response::text(200, stats.to_text(Duration::from_millis(uptime_ms), now))
    }

    fn publish(&self, request: &Request) -> Result<Response, ApiError> {
        if request.body.len() > self.hub.config.max_msg_size {
            return Err(ApiError::MsgTooBig);
        }
        if request.body.is_empty() {
            return Err(ApiError::MsgEmpty);
        }
        let topic = publish_topic(request)?;
        let delay = match request.get("defer") {
            None => Duration::ZERO,
            Some(ms) => match ms.parse().map(Duration::from_millis) {
                Ok(delay) if delay <= self.hub.config.max_req_timeout => delay,
                _ => return Err(ApiError::InvalidDefer),
            },
        };
        self.put(&topic, NewBatch::one(&request.body), delay)
    }

    fn publish_many(&self, request: &Request) -> Result<Response, ApiError> {
        let config = &self.hub.config;
        if request.body.len() > config.max_body_size {
            return Err(ApiError::BodyTooBig);
        }
        let topic = publish_topic(request)?;
        let binary = request.get("binary").is_some_and(|value| !matches!(value, "false" | "0"));
        let batch = if binary {
            let bodies = Bodies::decode(&request.body, &config.command_limits())
                .map_err(|error| ApiError::BadBodies(error.code))?;
            NewBatch::many(bodies)
        } else {
            let mut bodies = BodiesBuf::new();
            for line in request.body.split(|byte| *byte == b'\n') {
                if line.len() > config.max_msg_size {
                    return Err(ApiError::MsgTooBig);
                }
                bodies.push(line);
            }
            if bodies.is_empty() {
                self.prepare(&topic)?;
                self.hub.make_topic(&topic)?;
                return Ok(Response::text(200, "OK"));
            }
            NewBatch::many(bodies.as_bodies())
        };
        self.put(&topic, batch, Duration::ZERO)
    }

    /// As [`Hub::prepare`], which waits for nsqlookupds; by a few workers at one time, so that others are there for what does not.
    fn prepare(&self, topic: &TopicName) -> Result<(), ApiError> {
        if !self.hub.may_wait_for(topic) {
            return Ok(());
        }
        let _maker = self.maker()?;
        self.hub.prepare(std::iter::once(topic));
        Ok(())
    }

    fn maker(&self) -> Result<Maker<'_>, ApiError> {
        let one_more = |makers| (makers < MAKERS_MAX).then_some(makers + 1);
        let taken = self.makers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.map(|_| Maker(&self.makers)).map_err(ApiError::TooManyMake)
    }

    fn put(
        &self,
        topic: &TopicName,
        batch: NewBatch,
        delay: Duration,
    ) -> Result<Response, ApiError> {
        self.prepare(topic)?;
        self.hub.publish(topic, batch, delay)?;
        Ok(Response::text(200, "OK"))
    }

    fn topic(&self, request: &Request) -> Result<(), ApiError> {
        if request.path == "/topic/create" {
            let topic = publish_topic(request)?;
            self.prepare(&topic)?;
            return Ok(self.hub.make_topic(&topic)?);
        }
        let Some(name) = request.get("topic") else { return Err(ApiError::MissingArgTopic) };
        let topic = match TopicName::new(name) {
            Ok(topic) => topic,
            // Only this one checks the name; for the others it is just not there.
            Err(_) if request.path == "/topic/empty" => return Err(ApiError::InvalidTopic),
            Err(_) => return Err(ApiError::TopicNotFound),
        };
        if request.path == "/topic/delete" {
            return Ok(self.hub.delete_topic(&topic)??);
        }
        let result = self.hub.change(&topic, |core| match request.path.as_str() {
            "/topic/empty" => core.empty_topic(&topic),
            "/topic/pause" => core.pause_topic(&topic),
            _ => core.unpause_topic(&topic, Instant::now()),
        });
        Ok(result??)
    }

    fn channel(&self, request: &Request) -> Result<(), ApiError> {
        let Some(topic) = request.get("topic") else { return Err(ApiError::MissingArgTopic) };
        let Ok(topic) = TopicName::new(topic) else { return Err(ApiError::InvalidArgTopic) };
        let Some(channel) = request.get("channel") else { return Err(ApiError::MissingArgChannel) };
        let Ok(channel) = ChannelName::new(channel) else {
            return Err(ApiError::InvalidArgChannel);
        };
        self.hub.change(&topic, |core| match request.path.as_str() {
            "/channel/create" if core.has_topic(&topic) => {
                core.create_channel(&topic, &channel, Instant::now())?;
                Ok(())
            }
            "/channel/create" => Err(Missing::Topic.into()),
            "/channel/delete" => Ok(core.delete_channel(&topic, &channel)?),
            "/channel/empty" => Ok(core.empty_channel(&topic, &channel)?),
            "/channel/pause" => Ok(core.pause_channel(&topic, &channel)?),
            _ => Ok(core.unpause_channel(&topic, &channel)?),
        })?
    }
}

impl Handler for Api {
    fn handle(&self, request: &Request) -> Response {
        let refused = self.refuse_in_clear().map_or_else(|| self.route(request), Ok);
        let response = refused.unwrap_or_else(|error| {
            Response::json(error.status(), &json!({ "message": error.text() }))
        });
        if request.path == "/ping" && response.status == 200 {
            return response;
        }
        response.with_header("X-NSQ-Content-Type", "nsq; version=1.0")
    }

    fn may_wait(&self, request: &Request) -> bool {
        let makes = matches!(request.path.as_str(), "/pub" | "/mpub" | "/topic/create");
        makes && publish_topic(request).is_ok_and(|topic| self.hub.may_wait_for(&topic))
    }

    fn refuse(&self, status: u16, reason: &str) -> Response {
        let message = match status {
            413 => "BODY_TOO_BIG",
            _ => reason,
        };
        Response::json(status, &json!({ "message": message }))
            .with_header("X-NSQ-Content-Type", "nsq; version=1.0")
    }
}

/// The topic of calls that create it.
fn publish_topic(request: &Request) -> Result<TopicName, ApiError> {
    let Some(name) = request.get("topic") else { return Err(ApiError::MissingArgTopic) };
    TopicName::new(name).map_err(|_| ApiError::InvalidTopic)
}

#[cfg(test)]
mod tests {
    use super::super::lookupd::register::register_with;
    use super::super::lookupd::wire::Node;
    use super::*;
    use crate::model::unix_time::UnixMs;
    use nsq_protocol::thread::stop_pair;

    fn api() -> Api {
        let config = BrokerConfig { max_msg_size: 100, ..BrokerConfig::default() };
        let (_stop, token) = stop_pair();
        Api::new(Arc::new(Hub::new(Arc::new(config), UnixMs(0), token).0), Arc::default(), false)
    }

    fn ask(api: &Api, method: &str, target: &str, body: &[u8]) -> (u16, String) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let request = Request {
            method: method.into(),
            path: path.into(),
            query: pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
            body: body.into(),
            ..Request::default()
        };
        let response = api.handle(&request);
        (response.status, String::from_utf8(response.body).unwrap())
    }

    #[test]
    fn a_publish_that_finds_memory_full_is_a_503_that_says_what_to_do() {
        let config = BrokerConfig { max_memory: 300, ..BrokerConfig::default() };
        let (_stop, token) = stop_pair();
        let api = Api::new(
            Arc::new(Hub::new(Arc::new(config), UnixMs(0), token).0),
            Arc::default(),
            false,
        );
        assert_eq!(ask(&api, "POST", "/pub?topic=t", &[7; 100]), (200, "OK".into()));
        let (status, body) = ask(&api, "POST", "/pub?topic=t", &[7; 100]);
        assert_eq!(status, 503);
        assert!(
            body.contains("280 of 300 bytes are queued; consume or raise --max-memory"),
            "{body}"
        );
    }

    #[test]
    fn who_makes_a_topic_when_too_many_wait_for_nsqlookupds_is_told_so_at_once() {
        let api = api();
        assert_eq!(ask(&api, "POST", "/pub?topic=there", b"x").0, 200);
        let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        api.hub.lookupds.set_node(Node {
            version: NSQD_VERSION.to_owned(),
            tcp_port: 1,
            http_port: 2,
            hostname: "h".to_owned(),
            broadcast_address: "h".to_owned(),
        });
        register_with(&api.hub, &[away.to_string()]).unwrap();
        let all: Vec<_> = (0..MAKERS_MAX).map(|_| api.maker().unwrap()).collect();
        for target in ["/pub?topic=new", "/mpub?topic=new", "/topic/create?topic=new"] {
            let (status, body) = ask(&api, "POST", target, b"x");
            assert_eq!(status, 503, "{target}");
            assert!(body.contains("4 requests that make topics wait for nsqlookupds"), "{body}");
        }
        assert_eq!(ask(&api, "POST", "/pub?topic=there", b"x").0, 200);
        drop(all);
        api.maker().unwrap();
        api.hub.lookupds.close();
        let _all: Vec<_> = (0..MAKERS_MAX).map(|_| api.maker().unwrap()).collect();
        assert_eq!(ask(&api, "POST", "/pub?topic=new", b"x").0, 200);
    }

    #[test]
    fn the_text_form_of_stats_names_topics_and_channels() {
        let api = api();
        assert_eq!(ask(&api, "POST", "/pub?topic=t", b"x").0, 200);
        assert_eq!(ask(&api, "POST", "/channel/create?topic=t&channel=c", b"").0, 200);
        let (status, text) = ask(&api, "GET", "/stats", b"");
        assert_eq!(status, 200);
        for part in
            ["start_time 1970-01-01T00:00:00Z", "[t  ", "[c  ", "depth: 1", "Producers: None"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
