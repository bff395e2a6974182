//! nsqd's HTTP API: request in, response out. Sockets are `crate::http`'s business; its worker threads run
//! this.
//!
//! Not here: `/config`, `/debug`, which are about Go or about what the broker has not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nsq_protocol::{Bodies, BodiesBuf, ChannelName, TopicName};
use serde_json::json;

use super::config::{BrokerConfig, NSQD_VERSION, hostname};
use super::core::{LimitError, Missing, NewBatch};
use super::hub::{Hub, wall_ns};
use super::stats::StatsFilter;
use crate::http::{Handler, Request, Response};

/// How far a body may be over the limits and still be read, so that the answer is nsqd's and not a general
/// 413: a message that is a little too large is the usual mistake.
const BODY_SLACK: usize = 1 << 20;

/// The largest body that the HTTP server should read.
pub(super) fn max_body(config: &BrokerConfig) -> usize {
    config.max_body_size.max(config.max_msg_size) + BODY_SLACK
}

/// See the module.
pub(super) struct Api {
    hub: Arc<Hub>,
    hostname: String,
    tcp_port: u16,
    /// Known only once the server listens.
    http_port: AtomicU16,
    started: SystemTime,
}

/// What nsqd calls an error: a status and a code, or here for a refusal a sentence.
type ApiError = (u16, String);

fn fail<T>(status: u16, code: &str) -> Result<T, ApiError> {
    Err((status, code.to_owned()))
}

impl From<Missing> for ApiError {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Topic => (404, "TOPIC_NOT_FOUND".into()),
            Missing::Channel => (404, "CHANNEL_NOT_FOUND".into()),
        }
    }
}

impl From<LimitError> for ApiError {
    fn from(refusal: LimitError) -> Self {
        (503, refusal.to_string())
    }
}

impl Api {
    /// The API of `hub`; call [`Api::set_http_port`] once it is known.
    pub(super) fn new(hub: Arc<Hub>, tcp_port: u16, started: SystemTime) -> Self {
        Self { hub, hostname: hostname(), tcp_port, http_port: AtomicU16::new(0), started }
    }

    pub(super) fn set_http_port(&self, port: u16) {
        self.http_port.store(port, Ordering::Relaxed);
    }

    fn route(&self, request: &Request) -> Result<Response, ApiError> {
        let method = match request.path.as_str() {
            "/ping" | "/info" | "/stats" => "GET",
            "/pub" | "/mpub" | "/topic/create" | "/topic/delete" | "/topic/empty"
            | "/topic/pause" | "/topic/unpause" | "/channel/create" | "/channel/delete"
            | "/channel/empty" | "/channel/pause" | "/channel/unpause" => "POST",
            _ => return fail(404, "NOT_FOUND"),
        };
        if request.method != method {
            return fail(405, "METHOD_NOT_ALLOWED");
        }
        let done = |()| Response { status: 200, ..Response::default() };
        match request.path.as_str() {
            "/ping" => Ok(Response::text(200, "OK")),
            "/info" => Ok(self.info()),
            "/stats" => Ok(self.stats(request)),
            "/pub" => self.publish(request),
            "/mpub" => self.publish_many(request),
            path if path.starts_with("/topic/") => self.topic(request).map(done),
            _ => self.channel(request).map(done),
        }
    }

    fn info(&self) -> Response {
        let config = &self.hub.config;
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let info = json!({
            "version": NSQD_VERSION,
            "broadcast_address": config.broadcast_address,
            "hostname": self.hostname,
            "http_port": self.http_port.load(Ordering::Relaxed),
            "tcp_port": self.tcp_port,
            "start_time": seconds(self.started),
            "max_heartbeat_interval": ns(config.max_heartbeat_interval),
            "max_output_buffer_size": config.max_output_buffer_size,
            "max_output_buffer_timeout": ns(config.max_output_buffer_timeout),
            "max_deflate_level": 6,
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
        };
        let stats = self.hub.with_core(|core| core.stats(&filter));
        if request.get("format") == Some("json") {
            return Response::json(200, &stats);
        }
        let now = SystemTime::now();
        let uptime = now.duration_since(self.started).unwrap_or_default();
        let start = rfc3339(seconds(self.started));
        Response::text(200, stats.to_text(&start, uptime, seconds(now)))
    }

    fn publish(&self, request: &Request) -> Result<Response, ApiError> {
        if request.body.len() > self.hub.config.max_msg_size {
            return fail(413, "MSG_TOO_BIG");
        }
        if request.body.is_empty() {
            return fail(400, "MSG_EMPTY");
        }
        let topic = publish_topic(request)?;
        let delay = match request.get("defer") {
            None => Duration::ZERO,
            Some(ms) => match ms.parse().map(Duration::from_millis) {
                Ok(delay) if delay <= self.hub.config.max_req_timeout => delay,
                _ => return fail(400, "INVALID_DEFER"),
            },
        };
        self.put(&topic, NewBatch::one(&request.body), delay)
    }

    fn publish_many(&self, request: &Request) -> Result<Response, ApiError> {
        let config = &self.hub.config;
        if request.body.len() > config.max_body_size {
            return fail(413, "BODY_TOO_BIG");
        }
        let topic = publish_topic(request)?;
        let binary = request.get("binary").is_some_and(|value| !matches!(value, "false" | "0"));
        let batch = if binary {
            let bodies =
                Bodies::decode(&request.body, &config.command_limits()).map_err(|error| {
                    let code = error.code.as_str();
                    (413, code.strip_prefix("E_").unwrap_or(code).to_owned())
                })?;
            NewBatch::many(bodies)
        } else {
            let mut bodies = BodiesBuf::new();
            for line in request.body.split(|byte| *byte == b'\n') {
                if line.len() > config.max_msg_size {
                    return fail(413, "MSG_TOO_BIG");
                }
                bodies.push(line);
            }
            if bodies.is_empty() {
                self.hub.with_core(|core| core.create_topic(&topic))?;
                return Ok(Response::text(200, "OK"));
            }
            NewBatch::many(bodies.as_bodies())
        };
        self.put(&topic, batch, Duration::ZERO)
    }

    fn put(
        &self,
        topic: &TopicName,
        batch: NewBatch,
        delay: Duration,
    ) -> Result<Response, ApiError> {
        self.hub
            .with_core(|core| core.publish(None, topic, batch, delay, Instant::now(), wall_ns()))?;
        Ok(Response::text(200, "OK"))
    }

    fn topic(&self, request: &Request) -> Result<(), ApiError> {
        if request.path == "/topic/create" {
            let topic = publish_topic(request)?;
            return Ok(self.hub.with_core(|core| core.create_topic(&topic))?);
        }
        let Some(name) = request.get("topic") else { return fail(400, "MISSING_ARG_TOPIC") };
        let topic = match TopicName::new(name) {
            Ok(topic) => topic,
            // Only this one checks the name; for the others it is just not there.
            Err(_) if request.path == "/topic/empty" => return fail(400, "INVALID_TOPIC"),
            Err(_) => return fail(404, "TOPIC_NOT_FOUND"),
        };
        let result = self.hub.with_core(|core| match request.path.as_str() {
            "/topic/delete" => core.delete_topic(&topic),
            "/topic/empty" => core.empty_topic(&topic),
            path => core.pause_topic(&topic, path == "/topic/pause", Instant::now()),
        });
        Ok(result?)
    }

    fn channel(&self, request: &Request) -> Result<(), ApiError> {
        let Some(topic) = request.get("topic") else { return fail(400, "MISSING_ARG_TOPIC") };
        let Ok(topic) = TopicName::new(topic) else { return fail(400, "INVALID_ARG_TOPIC") };
        let Some(channel) = request.get("channel") else { return fail(400, "MISSING_ARG_CHANNEL") };
        let Ok(channel) = ChannelName::new(channel) else {
            return fail(400, "INVALID_ARG_CHANNEL");
        };
        self.hub.with_core(|core| match request.path.as_str() {
            "/channel/create" if core.has_topic(&topic) => {
                core.create_channel(&topic, &channel, Instant::now())?;
                Ok(())
            }
            "/channel/create" => Err(Missing::Topic.into()),
            "/channel/delete" => Ok(core.delete_channel(&topic, &channel)?),
            "/channel/empty" => Ok(core.empty_channel(&topic, &channel)?),
            path => Ok(core.pause_channel(&topic, &channel, path == "/channel/pause")?),
        })
    }
}

impl Handler for Api {
    fn handle(&self, request: &Request) -> Response {
        let response = self
            .route(request)
            .unwrap_or_else(|(status, code)| Response::json(status, &json!({ "message": code })));
        if request.path == "/ping" && response.status == 200 {
            return response;
        }
        response.with_header("X-NSQ-Content-Type", "nsq; version=1.0")
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
    let Some(name) = request.get("topic") else { return fail(400, "MISSING_ARG_TOPIC") };
    TopicName::new(name).or_else(|_| fail(400, "INVALID_TOPIC"))
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// `2026-11-24T02:15:09Z`, for seconds since the Unix epoch that are not before it.
fn rfc3339(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let is_leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let (mut year, mut day) = (1970, days);
    while day >= 365 + i64::from(is_leap(year)) {
        day -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + i64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nsq_protocol::thread::stop_pair;

    fn api() -> Api {
        let config = BrokerConfig { max_msg_size: 100, ..BrokerConfig::default() };
        let (_stop, token) = stop_pair();
        Api::new(Arc::new(Hub::new(Arc::new(config), token).0), 4150, UNIX_EPOCH)
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
        let api = Api::new(Arc::new(Hub::new(Arc::new(config), token).0), 4150, UNIX_EPOCH);
        assert_eq!(ask(&api, "POST", "/pub?topic=t", &[7; 100]), (200, "OK".into()));
        let (status, body) = ask(&api, "POST", "/pub?topic=t", &[7; 100]);
        assert_eq!(status, 503);
        assert!(
            body.contains("280 of 300 bytes are queued; consume or raise --max-memory"),
            "{body}"
        );
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

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_486_509, "2026-11-24T02:15:09Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
