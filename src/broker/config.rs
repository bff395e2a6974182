//! What a broker can be told, named after nsqd's flags, with the defaults. Reads the host's name and how much memory
//! there is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nsq_protocol::CommandLimits;

use super::auth::AuthServers;
use crate::http::ServerTls;
use crate::model::config::Durability;
use crate::runtime::memory;

/// The version told to clients: tools such as nsqadmin parse it, and this is the nsqd that we behave like.
pub(crate) const NSQD_VERSION: &str = "1.3.0";

/// The shortest heartbeat interval and message timeout that a client may ask for; nsqd's.
pub(super) const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The smallest output buffer that a client may ask for, in bytes; nsqd's.
pub(super) const MIN_OUTPUT_BUFFER: i64 = 64;

/// Whether clients must speak TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsRequired {
    /// They may.
    #[default]
    No,
    /// They must, but for the HTTP API.
    ExceptHttp,
    /// They must: the plain HTTP API answers 403 to everything.
    Always,
}

/// How a broker is set up. Fields are named after nsqd's flags; where a default is not nsqd's, it says so.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `host:port` for NSQ clients; port 0 takes a free one. Default 127.0.0.1:4150, where nsqd takes every
    /// address.
    pub tcp_address: String,
    /// `host:port` for the HTTP API, likewise; `None`: no HTTP. Default 127.0.0.1:4151.
    pub http_address: Option<String>,
    /// `host:port` for the HTTP API over TLS, likewise, where there is `tls`; `None`: none. Default 127.0.0.1:4152.
    pub https_address: Option<String>,
    /// The certificate to speak TLS with, to those clients who ask for it; none. It can be read again while the broker runs.
    pub tls: Option<Arc<ServerTls>>,
    /// Whether they must ask for it; no. It needs `tls`.
    pub tls_required: TlsRequired,
    /// This host's name as `/info` gives it, and nsqlookupds. Default: the host's name.
    pub broadcast_address: String,
    /// The ports that nsqlookupds are told; 0, the default: those that are bound.
    pub broadcast_tcp_port: u16,
    /// Likewise for the HTTP API.
    pub broadcast_http_port: u16,
    /// `host:port` for TCP of each nsqlookupd to register with, at most 64. Default none. Needs an HTTP API.
    pub lookupd_tcp_addresses: Vec<String>,
    /// How long a connection to an nsqlookupd's HTTP API may take to be made: it is asked which channels a new topic has.
    /// Default 2 s.
    pub http_client_connect_timeout: Duration,
    /// How long the whole question may take. Default 5 s.
    pub http_client_request_timeout: Duration,
    /// Names that the HTTP API is asked for by, besides localhost, its addresses and `broadcast_address`. Default none:
    /// others are refused, because a web page can have its own name point here. nsqd answers to every name.
    pub allowed_hosts: Vec<String>,
    /// `host:port` of a statsd daemon that is told over UDP how things are. Default none.
    pub statsd_address: Option<String>,
    /// What each of its keys begins with; `%s` is `broadcast_address` and the HTTP API's port. Default `nsq.%s`.
    pub statsd_prefix: String,
    /// How often it is told. Default 60 s.
    pub statsd_interval: Duration,
    /// Whether it is told of memory, too. Default yes.
    pub statsd_mem_stats: bool,
    /// Bytes of one packet; a line is never cut. Default 508.
    pub statsd_udp_packet_size: usize,
    /// Whether `#ephemeral` topics and channels are left out there. Default no.
    pub statsd_exclude_ephemeral: bool,
    /// Which shares of the messages of a channel are told to be done within how long, from publication to FIN: each above 0
    /// and up to 1. Default none. With some, each channel takes up to 5.2 KB more.
    pub e2e_processing_latency_percentiles: Vec<f64>,
    /// Over how long. Default 10 min.
    pub e2e_processing_latency_window_time: Duration,
    /// Messages that may wait in one `#ephemeral` topic or channel; what it cannot hold is dropped there, as by nsqd. Default
    /// 10000; 0 is 1. In others nsqd writes what is more to disk; here `max_memory` alone is their limit.
    pub mem_queue_size: usize,
    /// The directory that keeps topics, channels and messages; `None`, the default: they are in memory only, where nsqd
    /// always has one.
    pub data_path: Option<PathBuf>,
    /// What an acknowledged message survives, with `data_path`. Default: the process.
    pub durability: Durability,
    /// Bytes that all topics' logs together may take; a PUB beyond it is refused. Default: no limit.
    pub max_disk: u64,
    /// After so many messages what is written is got to the disk, where no message waits for that. Default 2500.
    pub sync_every: usize,
    /// After so long likewise. Default 2 s.
    pub sync_timeout: Duration,
    /// Bytes that all messages together may take, bookkeeping included; a PUB beyond it is refused, unless there is a
    /// `data_path`: then it is on disk only.
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
    /// Who says what a client of TCP may do: it must AUTH before it publishes or subscribes. None: all may do all, the default.
    pub auth: Option<Arc<AuthServers>>,
    /// Whether clients may have their streams in snappy frames. Default true.
    pub snappy: bool,
    /// Whether they may have them deflated. Default true.
    pub deflate: bool,
    /// The highest level that they may have then, 1 to 9; a higher one is lowered to it. Default 6.
    pub max_deflate_level: u8,
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
            https_address: Some("127.0.0.1:4152".into()),
            tls: None,
            tls_required: TlsRequired::No,
            broadcast_address: hostname(),
            broadcast_tcp_port: 0,
            broadcast_http_port: 0,
            lookupd_tcp_addresses: Vec::new(),
            http_client_connect_timeout: Duration::from_secs(2),
            http_client_request_timeout: Duration::from_secs(5),
            allowed_hosts: Vec::new(),
            statsd_address: None,
            statsd_prefix: "nsq.%s".into(),
            statsd_interval: Duration::from_secs(60),
            statsd_mem_stats: true,
            statsd_udp_packet_size: 508,
            statsd_exclude_ephemeral: false,
            e2e_processing_latency_percentiles: Vec::new(),
            e2e_processing_latency_window_time: Duration::from_secs(10 * 60),
            mem_queue_size: 10_000,
            data_path: None,
            durability: Durability::Process,
            max_disk: u64::MAX,
            sync_every: 2500,
            sync_timeout: Duration::from_secs(2),
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
            auth: None,
            snappy: true,
            deflate: true,
            max_deflate_level: 6,
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
