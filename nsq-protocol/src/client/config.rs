//! Every timeout and limit of the client, with its unit, range and default. No IO but the host's name.

use std::time::Duration;

use crate::client::lookup::poll::LookupConfig;
use crate::codec::auth::AuthSecret;
use crate::codec::compression::Compression;
use crate::codec::frame::HARD_MAX_FRAME;
use crate::codec::identify::IdentifyRequest;
use crate::codec::message::{MESSAGE_HEAD_LEN, MessageRef};
use crate::codec::names::{ChannelName, TopicName};
use crate::error::Error;
use crate::flow::policy::{GiveUp, GiveUpHandler, RdyMode};
use crate::io::tls::TlsConfig;

/// nsqd's `--max-heartbeat-interval` unless configured: it refuses a longer interval.
const MAX_HEARTBEAT: Duration = Duration::from_secs(60);

/// nsqd refuses a shorter interval.
const MIN_HEARTBEAT: Duration = Duration::from_secs(1);

/// The largest `max_in_flight`: what a process can be asked to hold, far over any useful window.
const MAX_IN_FLIGHT: u32 = 1_000_000;

/// Room for answers and error texts in a frame, whatever the message limit: they are below 1 KiB.
const MIN_FRAME: usize = 64 << 10;

/// What an adaptive consumer asks nsqd for unless configured otherwise: the least that nsqd takes by default. It
/// bounds how long the last messages of a burst wait at nsqd.
const ADAPTIVE_OUTPUT_BUFFER_TIMEOUT: Duration = Duration::from_millis(25);

/// What a consumer has nsqd gather before it writes: the most that nsqd allows by default. Under load a larger write is
/// fewer wake-ups at both ends; without, nsqd writes at once, however little it is (see `pace`).
const CONSUMER_OUTPUT_BUFFER_SIZE: i64 = 65_536;

/// The largest message that a client can be set to take: what a frame can hold.
const MAX_MESSAGE: usize = HARD_MAX_FRAME - MESSAGE_HEAD_LEN - 4;

/// How one connection to an nsqd is made and kept; the same for consumers and producers.
///
/// Start from [`ConnectionConfig::default`] and change fields.
///
/// # Example
/// ```
/// use nsq_protocol::{Compression, ConnectionConfig, ProducerConfig, TlsConfig};
///
/// let mut connection = ConnectionConfig::default();
/// connection.tls = Some(TlsConfig::new().root_ca_file("/etc/nsq/ca.pem"));
/// connection.compression = Compression::Deflate { level: 6 };
/// connection.auth_secret = Some("secret".into());
/// let mut config = ProducerConfig::new().nsqd("127.0.0.1:4150");
/// config.connection = connection;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionConfig {
    /// Names this client in nsqadmin (default: the host's name up to its first dot).
    pub client_id: String,
    /// The host this runs on (default: its name, where the system tells it).
    pub hostname: String,
    /// The program, as `name/version` (default `nsq-protocol/<version>`).
    pub user_agent: String,
    /// Limit for the TCP connection, over all IP addresses of a name; over 0 (default 5 s). Resolving the name
    /// comes before it and has the same limit, which is also what a resolver that hangs can add to a stop.
    pub connect_timeout: Duration,
    /// Limit for each step of the handshake: the answers to IDENTIFY, AUTH and SUB, and the whole of TLS's own
    /// handshake; over 0 (default 5 s, as long as nsqd gives it).
    pub handshake_timeout: Duration,
    /// Limit for the peer to take the next 64 KiB of our bytes; over 0 (default 10 s).
    pub write_timeout: Duration,
    /// How often nsqd shows that it lives, 1 s to 60 s in whole ms (default 30 s).
    pub heartbeat_interval: Duration,
    /// The longest silence of nsqd before a connection is given up; more than `heartbeat_interval`. `None` (default):
    /// twice that.
    pub read_timeout: Option<Duration>,
    /// Idle time before TCP's own probes; over 0 (default 30 s).
    pub tcp_keepalive: Duration,
    /// How long bytes may stay unacknowledged before the system gives the connection up; over 0
    /// (default 30 s, Linux only).
    pub tcp_user_timeout: Duration,
    /// The largest message body that is taken or sent, bytes; 1 to about 16 MiB (default 1 MiB, as nsqd's
    /// `--max-msg-size`). A peer that announces a larger frame is dropped before anything is allocated.
    pub max_msg_size: usize,
    /// The first wait before a reconnection (default 100 ms). It doubles, with jitter, up to `reconnect_max`.
    pub reconnect_min: Duration,
    /// The longest wait before a reconnection (default 15 s).
    pub reconnect_max: Duration,
    /// Bytes that nsqd gathers before it writes, 64 to 65536; `None`: 65536 for a consumer, where nsqd allows that, and
    /// otherwise nsqd's default, 16384.
    pub output_buffer_size: Option<u32>,
    /// How long nsqd gathers them, 25 ms to 30 s; `None`: 25 ms for a consumer with [`RdyMode::Adaptive`], where
    /// nsqd allows that, and otherwise nsqd's default, 250 ms.
    pub output_buffer_timeout: Option<Duration>,
    /// Where the client runs, for nsqd after 1.3.0 (default empty).
    pub topology_region: String,
    /// Where in the region, for nsqd after 1.3.0 (default empty).
    pub topology_zone: String,
    /// Encryption; `None` (default): everything goes in clear. With it, an nsqd that offers none is refused.
    pub tls: Option<TlsConfig>,
    /// What to ask nsqd for (default none). An nsqd without it, unlike one without TLS, is used all the same, with
    /// a warning.
    pub compression: Compression,
    /// For an nsqd that wants AUTH; `None` (default): such an nsqd is refused. It goes in clear unless `tls` is
    /// set.
    pub auth_secret: Option<AuthSecret>,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        let hostname = host_name();
        Self {
            client_id: hostname.split('.').next().unwrap_or_default().to_owned(),
            hostname,
            user_agent: concat!("nsq-protocol/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(30),
            read_timeout: None,
            tcp_keepalive: Duration::from_secs(30),
            tcp_user_timeout: Duration::from_secs(30),
            max_msg_size: 1 << 20,
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_secs(15),
            output_buffer_size: None,
            output_buffer_timeout: None,
            topology_region: String::new(),
            topology_zone: String::new(),
            tls: None,
            compression: Compression::None,
            auth_secret: None,
        }
    }
}

/// The host's name without a system call of our own: `unsafe` is forbidden and no dependency offers it.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME"))
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

fn whole_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn refuse(what: String) -> Result<(), Error> {
    Err(Error::Config { what })
}

impl ConnectionConfig {
    /// The limit on a frame's size field.
    pub(crate) fn max_frame(&self) -> usize {
        (self.max_msg_size + MESSAGE_HEAD_LEN + 4).max(MIN_FRAME)
    }

    /// Longest silence of the peer before the connection is given up.
    pub(crate) fn read_timeout(&self) -> Duration {
        self.read_timeout.unwrap_or(2 * self.heartbeat_interval)
    }

    pub(crate) fn identify_request(&self) -> IdentifyRequest {
        let deflate_level = match self.compression {
            Compression::Deflate { level } => i64::from(level),
            _ => 0,
        };
        IdentifyRequest {
            tls_v1: self.tls.is_some(),
            snappy: self.compression == Compression::Snappy,
            deflate: deflate_level > 0,
            deflate_level,
            client_id: self.client_id.clone(),
            hostname: self.hostname.clone(),
            user_agent: self.user_agent.clone(),
            feature_negotiation: true,
            heartbeat_interval: whole_ms(self.heartbeat_interval),
            output_buffer_size: self.output_buffer_size.map_or(0, i64::from),
            output_buffer_timeout: self.output_buffer_timeout.map_or(0, whole_ms),
            topology_region: self.topology_region.clone(),
            topology_zone: self.topology_zone.clone(),
            ..IdentifyRequest::default()
        }
    }

    fn check(&self) -> Result<(), Error> {
        for (name, value) in [
            ("connect_timeout", self.connect_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("write_timeout", self.write_timeout),
            ("tcp_keepalive", self.tcp_keepalive),
            ("tcp_user_timeout", self.tcp_user_timeout),
            ("reconnect_min", self.reconnect_min),
        ] {
            if value < Duration::from_millis(1) {
                return refuse(format!("{name} is {value:?}: it must be at least 1 ms"));
            }
        }
        if !(MIN_HEARTBEAT..=MAX_HEARTBEAT).contains(&self.heartbeat_interval) {
            let given = self.heartbeat_interval;
            return refuse(format!(
                "heartbeat_interval is {given:?}: it must be {MIN_HEARTBEAT:?} to {MAX_HEARTBEAT:?}"
            ));
        }
        if let Some(given) = self.read_timeout.filter(|given| *given <= self.heartbeat_interval) {
            let heartbeat = self.heartbeat_interval;
            return refuse(format!(
                "read_timeout is {given:?}: it must be over the heartbeat_interval, {heartbeat:?}"
            ));
        }
        if !(1..=MAX_MESSAGE).contains(&self.max_msg_size) {
            let given = self.max_msg_size;
            return refuse(format!("max_msg_size is {given}: it must be 1 to {MAX_MESSAGE} bytes"));
        }
        if let Compression::Deflate { level: level @ (0 | 10..) } = self.compression {
            return refuse(format!("the deflate level is {level}: it must be 1 to 9"));
        }
        if self.auth_secret.as_ref().is_some_and(|secret| secret.as_bytes().is_empty()) {
            return refuse("the auth_secret is empty".to_owned());
        }
        self.tls.as_ref().map_or(Ok(()), TlsConfig::check)
    }
}

fn check_addresses(addresses: &[String]) -> Result<(), Error> {
    if addresses.is_empty() {
        return refuse("no nsqd address is given".to_owned());
    }
    Ok(())
}

/// What a [`crate::Consumer`] subscribes to, where, and how much it holds.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use nsq_protocol::ConsumerConfig;
///
/// let mut config = ConsumerConfig::new("plays".parse()?, "count".parse()?)
///     .nsqd("127.0.0.1:4150")
///     .max_in_flight(100);
/// config.msg_timeout = Some(Duration::from_secs(120));
/// # Ok::<(), nsq_protocol::NameError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConsumerConfig {
    /// The topic. SUB creates it where it does not exist.
    pub topic: TopicName,
    /// The channel. SUB creates it where it does not exist.
    pub channel: ChannelName,
    /// The nsqd to consume from, as `host:port` of the TCP port; one connection for each, for ever. At least one,
    /// unless there is an nsqlookupd.
    pub nsqd_addresses: Vec<String>,
    /// The nsqlookupds that tell where more nsqds are, and how they are asked. Both this and `nsqd_addresses` may
    /// be given, as in go-nsq: an nsqd that is in both is connected to once.
    pub lookup: LookupConfig,
    /// Messages that may be in flight over all connections, 1 to 1,000,000 (default 2500). Memory is bounded by
    /// twice that times the message size. With fewer than one for each nsqd, they take turns.
    pub max_in_flight: u32,
    /// How the RDY of each connection is chosen (default [`RdyMode::Adaptive`]).
    pub rdy: RdyMode,
    /// Within this each nsqd has its turn, where there are more of them than `max_in_flight`; 1 s or more
    /// (default 30 s). Time that handlers take comes on top.
    pub low_rdy_timeout: Duration,
    /// A turn in which no message comes ends after this; 10 ms or more (default 1 s).
    pub low_rdy_idle_timeout: Duration,
    /// After a failed message ([`crate::Delivery::requeue`], a panic of the handler), no connection is asked for
    /// messages for this long (default 1 s), doubled, with jitter, for each failure in a row. Then one message is
    /// asked for, and if it is finished, everything flows again.
    pub backoff_min: Duration,
    /// The longest such wait (default 2 min); zero: failures change nothing.
    pub backoff_max: Duration,
    /// A message that was delivered more often is given up instead of handed over; 0: none is (default). With it,
    /// [`ConsumerConfig::on_give_up`] says what becomes of such a message; without that, it is finished.
    pub max_attempts: u16,
    /// Set by [`ConsumerConfig::on_give_up`].
    pub(crate) give_up: Option<GiveUpHandler>,
    /// Whether messages that wait here, or in a handler, are touched at half of their msg-timeout, so that nsqd does
    /// not deliver them again; up to nsqd's `--max-msg-timeout`, 15 min (default no). A handler that hangs keeps
    /// its message for as long.
    pub auto_touch: bool,
    /// In-flight limit that nsqd is asked to apply to a message, 1 s to 15 min; `None`: nsqd's default, 60 s.
    pub msg_timeout: Option<Duration>,
    /// Per cent of messages to receive, 1 to 99; 0: all (default). nsqd 1.3.0 really delivers one per cent more.
    pub sample_rate: u8,
    /// How long [`crate::Consumer::stop`] waits for held messages to be answered (default 30 s).
    pub stop_timeout: Duration,
    /// Delay of a message that is given back because its handler panicked (default 1 s), so that a message that
    /// always panics does not spin. One that is dropped unanswered otherwise is given back without delay.
    pub panic_requeue_delay: Duration,
    /// How each connection is made and kept.
    pub connection: ConnectionConfig,
}

impl ConsumerConfig {
    /// The defaults for that topic and channel; [`ConsumerConfig::nsqd`] or [`ConsumerConfig::lookupd`] must follow
    /// at least once.
    pub fn new(topic: TopicName, channel: ChannelName) -> Self {
        Self {
            topic,
            channel,
            nsqd_addresses: Vec::new(),
            lookup: LookupConfig::default(),
            max_in_flight: 2500,
            rdy: RdyMode::default(),
            low_rdy_timeout: Duration::from_secs(30),
            low_rdy_idle_timeout: Duration::from_secs(1),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(120),
            max_attempts: 0,
            give_up: None,
            auto_touch: false,
            msg_timeout: None,
            sample_rate: 0,
            stop_timeout: Duration::from_secs(30),
            panic_requeue_delay: Duration::from_secs(1),
            connection: ConnectionConfig::default(),
        }
    }

    /// Adds an nsqd's TCP address, `host:port`.
    pub fn nsqd(mut self, address: impl Into<String>) -> Self {
        self.nsqd_addresses.push(address.into());
        self
    }

    /// Adds an nsqlookupd's HTTP address, `host:port` or `http://host:port`.
    pub fn lookupd(mut self, address: impl Into<String>) -> Self {
        self.lookup.addresses.push(address.into());
        self
    }

    /// Sets `max_in_flight`.
    pub fn max_in_flight(mut self, messages: u32) -> Self {
        self.max_in_flight = messages;
        self
    }

    /// Sets what becomes of messages that are given up; see [`ConsumerConfig::max_attempts`].
    ///
    /// `handler` runs on the thread that receives, and may publish the message to another topic first, for example.
    /// When it panics, the message is given back as from any handler.
    pub fn on_give_up(
        mut self,
        handler: impl Fn(MessageRef<'_>) -> GiveUp + Send + Sync + 'static,
    ) -> Self {
        self.give_up = Some(GiveUpHandler::new(handler));
        self
    }

    /// With an output buffer as suits a consumer, where none was asked for.
    pub(crate) fn identify_request(&self) -> IdentifyRequest {
        let mut request = self.plain_identify_request();
        if self.connection.output_buffer_size.is_none() {
            request.output_buffer_size = CONSUMER_OUTPUT_BUFFER_SIZE;
        }
        if self.rdy == RdyMode::Adaptive && self.connection.output_buffer_timeout.is_none() {
            request.output_buffer_timeout = whole_ms(ADAPTIVE_OUTPUT_BUFFER_TIMEOUT);
        }
        request
    }

    /// The same for an nsqd that does not take such an output buffer.
    pub(crate) fn plain_identify_request(&self) -> IdentifyRequest {
        IdentifyRequest {
            msg_timeout: self.msg_timeout.map_or(0, whole_ms),
            sample_rate: i64::from(self.sample_rate),
            ..self.connection.identify_request()
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.nsqd_addresses.is_empty() && self.lookup.addresses.is_empty() {
            return refuse("no nsqd address and no nsqlookupd address is given".to_owned());
        }
        self.lookup.check()?;
        if !(1..=MAX_IN_FLIGHT).contains(&self.max_in_flight) {
            let given = self.max_in_flight;
            return refuse(format!("max_in_flight is {given}: it must be 1 to {MAX_IN_FLIGHT}"));
        }
        if self.sample_rate > 99 {
            return refuse(format!("sample_rate is {}: it must be 0 to 99", self.sample_rate));
        }
        for (name, value, min) in [
            ("low_rdy_timeout", self.low_rdy_timeout, Duration::from_secs(1)),
            ("low_rdy_idle_timeout", self.low_rdy_idle_timeout, Duration::from_millis(10)),
            ("backoff_min", self.backoff_min, Duration::from_millis(1)),
        ] {
            if value < min {
                return refuse(format!("{name} is {value:?}: it must be at least {min:?}"));
            }
        }
        self.connection.check()
    }
}

/// Where a [`crate::Producer`] publishes, and how much it sends ahead of the answers.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use nsq_protocol::ProducerConfig;
///
/// // The second nsqd is for when the first one fails.
/// let mut config = ProducerConfig::new().nsqd("127.0.0.1:4150").nsqd("127.0.0.1:5150");
/// config.publish_timeout = Duration::from_secs(5);
/// config.max_pending_commands = 100;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProducerConfig {
    /// The nsqd to publish to, as `host:port` of the TCP port; at least one. The first that works is used; the
    /// others are for when it fails.
    pub nsqd_addresses: Vec<String>,
    /// Commands sent and not yet answered, 1 or more (default 1024). A further one waits.
    pub max_pending_commands: usize,
    /// Their bytes (default 16 MiB). A further one waits, unless none is pending.
    pub max_pending_bytes: usize,
    /// How long a publish is tried, over all retries (default 30 s).
    pub publish_timeout: Duration,
    /// How long one nsqd may take for one answer before the connection is given up (default 10 s).
    pub response_timeout: Duration,
    /// The largest MPUB body, sizes and count included, bytes (default 5 MiB, as nsqd's `--max-body-size`).
    pub max_body_size: usize,
    /// The most messages in one MPUB, 1 or more (default 100,000). nsqd takes a fifth of its `--max-body-size`, about
    /// a million.
    pub max_mpub_messages: usize,
    /// The longest delay of a deferred publish (default 1 h, as nsqd's `--max-req-timeout`).
    pub max_delay: Duration,
    /// How each connection is made and kept.
    pub connection: ConnectionConfig,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            nsqd_addresses: Vec::new(),
            max_pending_commands: 1024,
            max_pending_bytes: 16 << 20,
            publish_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_secs(10),
            max_body_size: 5 << 20,
            max_mpub_messages: 100_000,
            max_delay: Duration::from_secs(3600),
            connection: ConnectionConfig::default(),
        }
    }
}

impl ProducerConfig {
    /// The defaults; [`ProducerConfig::nsqd`] must follow at least once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an nsqd's TCP address, `host:port`.
    pub fn nsqd(mut self, address: impl Into<String>) -> Self {
        self.nsqd_addresses.push(address.into());
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        check_addresses(&self.nsqd_addresses)?;
        if self.max_mpub_messages == 0 {
            return refuse("max_mpub_messages is 0: it must be at least 1".to_owned());
        }
        if self.max_pending_commands == 0 {
            return refuse("max_pending_commands is 0: it must be at least 1".to_owned());
        }
        self.connection.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut ConsumerConfig), want: &str) {
        let name = "t";
        let mut config = ConsumerConfig::new(name.parse().unwrap(), name.parse().unwrap());
        config.nsqd_addresses.push("h:1".into());
        change(&mut config);
        let got = config.check().map_or_else(|error| error.to_string(), |()| String::new());
        assert_eq!(got, want);
    }

    #[test]
    fn each_setting_out_of_range_is_named() {
        let ms = Duration::from_millis;
        check(|_| {}, "");
        check(|c| c.nsqd_addresses.clear(), "no nsqd address and no nsqlookupd address is given");
        check(|c| c.max_in_flight = 0, "max_in_flight is 0: it must be 1 to 1000000");
        check(|c| c.sample_rate = 100, "sample_rate is 100: it must be 0 to 99");
        check(
            |c| c.connection.heartbeat_interval = ms(100),
            "heartbeat_interval is 100ms: it must be 1s to 60s",
        );
        check(
            |c| c.connection.write_timeout = Duration::ZERO,
            "write_timeout is 0ns: it must be at least 1 ms",
        );
        check(
            |c| c.connection.compression = Compression::Deflate { level: 10 },
            "the deflate level is 10: it must be 1 to 9",
        );
        check(|c| c.connection.auth_secret = Some("".into()), "the auth_secret is empty");
        check(
            |c| c.connection.max_msg_size = 17 << 20,
            "max_msg_size is 17825792: it must be 1 to 16777186 bytes",
        );
    }
}
