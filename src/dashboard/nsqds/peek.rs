//! Shows the next messages of a topic, taking none from anybody: through a channel of its own, which nsqd makes for it
//! and throws away with the connection. Runs on the thread of the call, with the consumer's own threads beside it.

use std::time::{Duration, Instant};

use nsq_protocol::{
    ChannelName, Consumer, ConsumerConfig, MessageRef, NodeInfo, Oversized, RdyMode, StatsFilter,
    TlsConfig, TopicName,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::actions::ActionError;
use super::watch::{PEEKS, Watch};

/// The most messages of one peek: what a reader looks through.
const MESSAGES_MAX: u32 = 20;

/// Messages, where the call does not say.
const MESSAGES_DEFAULT: u32 = 10;

/// The most of one body that is shown, in bytes.
const BODY_MAX: usize = 4096;

/// How long messages are waited for: a reader waits with it.
pub(super) const WAIT: Duration = Duration::from_secs(3);

/// How long a connection, and each step of its handshake, may take.
pub(super) const CONNECT_WAIT: Duration = Duration::from_secs(1);

/// How long nsqd may take to let go.
pub(super) const STOP_WAIT: Duration = Duration::from_millis(500);

/// The body of `POST /api/queue/peek`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeekRequest {
    /// Its address in `GET /api/queue`.
    nsqd: String,
    /// Whose messages.
    topic: String,
    /// How many messages.
    #[serde(default = "messages_default")]
    #[schemars(range(min = 1, max = MESSAGES_MAX))]
    limit: u32,
}

fn messages_default() -> u32 {
    MESSAGES_DEFAULT
}

impl PeekRequest {
    /// What is looked at, for the action log.
    pub(crate) fn target(&self) -> String {
        format!("{} {}", self.nsqd, self.topic)
    }
}

impl Watch {
    /// Waits for messages that are published from now on.
    ///
    /// # Errors
    /// The request is not whole, the topic is not there or has no channel, nsqd refused.
    pub(crate) fn peek(&self, request: &PeekRequest) -> Result<Value, ActionError> {
        if !(1..=MESSAGES_MAX).contains(&request.limit) {
            let reason =
                format!("limit must be a number from 1 to {MESSAGES_MAX}, not {}", request.limit);
            return Err(ActionError::Invalid(reason));
        }
        let topic = TopicName::new(&request.topic).map_err(ActionError::invalid)?;
        let admin = self.admin(&request.nsqd)?;
        let _permit = self.peeks.try_acquire().ok_or_else(|| {
            ActionError::Busy(format!("{PEEKS} peeks are under way; try again in some seconds"))
        })?;
        let filter = StatsFilter::new().topic(topic).clients(false);
        let stats = admin.stats(&filter).map_err(failed)?;
        let Some(told) = stats.topic(&topic) else {
            let reason = format!("there is no {topic} at {}", request.nsqd);
            return Err(ActionError::NotFound(reason));
        };
        // nsqd gives what waits in a topic to its first channel, whichever that is.
        if told.channels.is_empty() {
            let reason = format!(
                "topic {topic} at {} has no channel: the first one gets the messages that wait, and a peek must not",
                request.nsqd
            );
            return Err(ActionError::Conflict(reason));
        }
        let info = admin.info().map_err(failed)?;
        let tls = self.tls_of(&request.nsqd);
        let consumer = connect(&request.nsqd, &info, tls, topic, request.limit)?;
        let started = Instant::now();
        let messages = collect(&consumer, request.limit as usize, started);
        consumer.stop_within(STOP_WAIT);
        Ok(json!({
            "messages": messages,
            "waited_ms": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }))
    }
}

impl Watch {
    /// How the TCP port of that nsqd is spoken to: where its HTTP API is read over TLS, with the same certificate.
    fn tls_of(&self, http: &str) -> Option<TlsConfig> {
        let queue = self.queue.as_ref().filter(|_| http.starts_with("https://"))?;
        Some(queue.tls.nsqd.clone())
    }
}

/// The first messages that come, up to [`WAIT`] after `started`.
fn collect(consumer: &Consumer, wanted: usize, started: Instant) -> Vec<Value> {
    let batches = consumer.batches();
    let mut messages = Vec::new();
    while messages.len() < wanted {
        let left = WAIT.saturating_sub(started.elapsed());
        let Ok(batch) = batches.recv_timeout(left) else { break };
        messages.extend(batch.iter().take(wanted - messages.len()).map(show));
        batch.finish();
    }
    messages
}

/// What an nsqd said, with its cause.
fn failed(error: impl Into<anyhow::Error>) -> ActionError {
    ActionError::upstream(error.into())
}

fn connect(
    http: &str,
    info: &NodeInfo,
    tls: Option<TlsConfig>,
    topic: TopicName,
    limit: u32,
) -> Result<Consumer, ActionError> {
    let name = format!("playcounts-peek-{:08x}#ephemeral", rand::random::<u32>());
    let channel = ChannelName::new(&name).map_err(failed)?;
    let mut error = ActionError::upstream(format!("{http} tells no TCP address"));
    for address in tcp_addresses(http, info) {
        let config = ConsumerConfig::new(topic, channel)
            .nsqd(address)
            .max_in_flight(limit)
            .rdy(RdyMode::Fixed)
            .oversized(Oversized::HandOver { kept: BODY_MAX })
            .tls(tls.clone())
            .connect_timeout(CONNECT_WAIT)
            .handshake_timeout(CONNECT_WAIT)
            .user_agent(concat!("playcounts-peek/", env!("CARGO_PKG_VERSION")));
        match Consumer::start(config) {
            Ok(consumer) => return Ok(consumer),
            Err(failure) => error = failed(failure),
        }
    }
    Err(error)
}

/// Where an nsqd's TCP port may be, by what it tells: at its broadcast address, or where its HTTP port is found, as with
/// a tunnel or a container. On this machine only there: another address would not be the same nsqd for sure.
fn tcp_addresses(http: &str, info: &NodeInfo) -> Vec<String> {
    let authority = http.split_once("://").map_or(http, |(_, authority)| authority);
    let authority = authority.trim_end_matches('/');
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = bare.eq_ignore_ascii_case("localhost")
        || bare.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    let port = info.tcp_port;
    let watched = format!("{host}:{port}");
    let broadcast = match info.broadcast_address.as_str() {
        "" => None,
        name if name.contains(':') && !name.starts_with('[') => Some(format!("[{name}]:{port}")),
        name => Some(format!("{name}:{port}")),
    };
    match broadcast.filter(|broadcast| !is_here && *broadcast != watched) {
        Some(broadcast) => vec![broadcast, watched],
        None => vec![watched],
    }
}

fn show(message: MessageRef<'_>) -> Value {
    let shown = &message.body[..message.body.len().min(BODY_MAX)];
    json!({
        "id": message.id.to_string(),
        "published_at": message.timestamp_ns / 1_000_000,
        "attempts": message.attempts,
        "body": String::from_utf8_lossy(shown),
        "bytes": message.full_len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tcp_port_is_looked_for_where_it_can_be() {
        let check = |http: &str, broadcast: &str, want: &[&str]| {
            let mut info = NodeInfo::default();
            (info.broadcast_address, info.tcp_port) = (broadcast.to_owned(), 4150);
            assert_eq!(tcp_addresses(http, &info), want, "{http}");
        };
        check("127.0.0.1:4151", "elsewhere", &["127.0.0.1:4150"]);
        check("http://localhost:1/", "elsewhere", &["localhost:4150"]);
        check("https://a:4152", "", &["a:4150"]);
        check("[::1]:4151", "x", &["[::1]:4150"]);
        check("a:4151", "b", &["b:4150", "a:4150"]);
        check("a:4151", "a", &["a:4150"]);
        check("a:4151", "", &["a:4150"]);
        check("a:4151", "::2", &["[::2]:4150", "a:4150"]);
    }
}
