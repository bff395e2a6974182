//! What a broker can be told, named after nsqd's flags, with the defaults. Reads the host's name and how much memory
//! there is.

use std::time::Duration;

use nsq_protocol::CommandLimits;

use crate::runtime::memory;

/// The version told to clients: tools such as nsqadmin parse it, and this is the nsqd that we behave like.
pub(super) const NSQD_VERSION: &str = "1.3.0";

/// The shortest heartbeat interval and message timeout that a client may ask for; nsqd's.
pub(super) const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The smallest output buffer that a client may ask for, in bytes; nsqd's.
pub(super) const MIN_OUTPUT_BUFFER: i64 = 64;

/// How a broker is set up. Fields are named after nsqd's flags; where a default is not nsqd's, it says so.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `host:port` for NSQ clients; port 0 takes a free one. Default 127.0.0.1:4150, where nsqd takes every
    /// address.
    pub tcp_address: String,
    /// `host:port` for the HTTP API, likewise; `None`: no HTTP. Default 127.0.0.1:4151.
    pub http_address: Option<String>,
    /// What `/info` gives as this host's name. Default: the host's name.
    pub broadcast_address: String,
    /// Names that the HTTP API is asked for by, besides localhost, its addresses and `broadcast_address`. Default none:
    /// others are refused, because a web page can have its own name point here. nsqd answers to every name.
    pub allowed_hosts: Vec<String>,
    /// Messages that may wait in one `#ephemeral` topic or channel; what it cannot hold is dropped there, as by nsqd. Default
    /// 10000; 0 is 1. In others nsqd writes what is more to disk; here `max_memory` alone is their limit.
    pub mem_queue_size: usize,
    /// Bytes that all messages together may take, bookkeeping included; a PUB beyond it is refused.
    /// Default 1 GiB, or less: half of the container's limit, a quarter of the machine's memory. nsqd has no such limit.
    pub max_memory: usize,
    /// Bytes of one message body. Default 1 MiB.
    pub max_msg_size: usize,
    /// Bytes of the body of IDENTIFY, AUTH or MPUB. Default 5 MiB.
    pub max_body_size: usize,
    /// The largest RDY. Default 65535, the most that every known client takes (nsqd: 2500): at 500,000
    /// messages a second, 2500 are in flight for 5 ms only.
    pub max_rdy_count: u32,
    /// In-flight limit of a message where the client names none. Default 60 s.
    pub msg_timeout: Duration,
    /// The longest that a client may name, and how far TOUCH can stretch it. Default 15 min.
    pub max_msg_timeout: Duration,
    /// The longest delay of REQ and DPUB. Default 1 h.
    pub max_req_timeout: Duration,
    /// The interval of heartbeats where the client names none. Default 30 s; a fixed value in nsqd.
    pub heartbeat_interval: Duration,
    /// The longest that a client may name. Default 60 s.
    pub max_heartbeat_interval: Duration,
    /// The largest output buffer that a client may ask for, in bytes. Default 64 KiB. The answer to the
    /// client honours it; the buffer itself is the broker's own.
    pub max_output_buffer_size: usize,
    /// The shortest output buffer timeout that a client may ask for. Default 25 ms. Without effect, as the
    /// next two: messages are sent as soon as the queue runs dry.
    pub min_output_buffer_timeout: Duration,
    /// The longest. Default 30 s.
    pub max_output_buffer_timeout: Duration,
    /// The one of clients that ask for none. Default 250 ms.
    pub output_buffer_timeout: Duration,
    /// Consumers of one channel; 0: no limit, the default.
    pub max_channel_consumers: usize,
    /// TCP connections at one time; the next one gets an error frame. Default 4096: each takes a
    /// descriptor and a thread, a consumer two. nsqd has no limit.
    pub max_connections: usize,
    /// Topics at one time. Default 20000. nsqd has no limit.
    pub max_topics: usize,
    /// Channels at one time, over all topics. Default 20000. nsqd has no limit.
    pub max_channels: usize,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            tcp_address: "127.0.0.1:4150".into(),
            http_address: Some("127.0.0.1:4151".into()),
            broadcast_address: hostname(),
            allowed_hosts: Vec::new(),
            mem_queue_size: 10_000,
            max_memory: memory::for_messages().bytes,
            max_msg_size: 1 << 20,
            max_body_size: 5 << 20,
            max_rdy_count: 65_535,
            msg_timeout: Duration::from_secs(60),
            max_msg_timeout: Duration::from_secs(15 * 60),
            max_req_timeout: Duration::from_secs(60 * 60),
            heartbeat_interval: Duration::from_secs(30),
            max_heartbeat_interval: Duration::from_secs(60),
            max_output_buffer_size: 64 << 10,
            min_output_buffer_timeout: Duration::from_millis(25),
            max_output_buffer_timeout: Duration::from_secs(30),
            output_buffer_timeout: Duration::from_millis(250),
            max_channel_consumers: 0,
            max_connections: 4096,
            max_topics: 20_000,
            max_channels: 20_000,
        }
    }
}

impl BrokerConfig {
    pub(super) fn command_limits(&self) -> CommandLimits {
        CommandLimits { max_msg_size: self.max_msg_size, max_body_size: self.max_body_size }
    }
}

/// This host's name; `localhost` where it cannot be known without a libc call.
pub(super) fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok());
    let name = name.unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".into() } else { name.into() }
}
