//! How one connection is made and kept: every timeout and limit, with its unit, range and default. Reads the host's
//! name, and nothing else.

use std::time::Duration;

use crate::codec::auth::AuthSecret;
use crate::codec::compression::Compression;
use crate::codec::frame::HARD_MAX_FRAME;
use crate::codec::identify::IdentifyRequest;
use crate::codec::message::MESSAGE_HEAD_LEN;
use crate::error::Error;
use crate::io::tls_config::TlsConfig;

/// As good as for ever: `Duration::MAX` is a way to say "no limit", and is past the end of any clock.
pub(crate) const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The longest that Linux takes for TCP's idle time, about 9 hours.
const MAX_KEEPALIVE: Duration = Duration::from_secs(32_767);

/// Likewise for unacknowledged bytes, about 24 days.
const MAX_USER_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// nsqd's `--max-heartbeat-interval` unless configured: it refuses a longer interval.
const MAX_HEARTBEAT: Duration = Duration::from_secs(60);

/// nsqd refuses a shorter interval.
const MIN_HEARTBEAT: Duration = Duration::from_secs(1);

/// Room for answers and error texts in a frame, whatever the message limit: they are below 1 KiB.
const MIN_FRAME: usize = 64 << 10;

/// The largest message that a client can be set to take: what a frame can hold.
const MAX_MESSAGE: usize = HARD_MAX_FRAME - MESSAGE_HEAD_LEN - 4;

/// How one connection to an nsqd is made and kept.
///
/// A [`crate::ConsumerConfig`] and a [`crate::ProducerConfig`] have each of these settings as a method of their own; this
/// type is for settings that several of them share.
///
/// # Example
/// ```
/// use nsq_protocol::{ConnectionConfig, ConsumerConfig, ProducerConfig};
///
/// let connection = ConnectionConfig::new().client_id("worker-7").auth_secret("secret");
/// let producer = ProducerConfig::new().nsqd("127.0.0.1:4150").connection(connection.clone());
/// let consumer = ConsumerConfig::new("plays".parse()?, "count".parse()?).connection(connection);
/// # Ok::<(), nsq_protocol::NameError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    pub(crate) client_id: String,
    pub(crate) hostname: String,
    pub(crate) user_agent: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) read_timeout: Option<Duration>,
    pub(crate) tcp_keepalive: Duration,
    pub(crate) tcp_user_timeout: Duration,
    pub(crate) max_msg_size: usize,
    pub(crate) reconnect_min: Duration,
    pub(crate) reconnect_max: Duration,
    pub(crate) output_buffer_size: Option<u32>,
    pub(crate) output_buffer_timeout: Option<Duration>,
    pub(crate) topology_region: String,
    pub(crate) topology_zone: String,
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) compression: Compression,
    pub(crate) auth_secret: Option<AuthSecret>,
}

/// The setters of a connection's settings, for a type that has a [`ConnectionConfig`] at that path; and what can be read.
macro_rules! connection_setters {
    ($($at:tt)*) => {
        /// Names this client in nsqadmin (default: the host's name up to its first dot).
        pub fn client_id(mut self, name: impl Into<String>) -> Self {
            self $($at)*.client_id = name.into();
            self
        }

        /// The host this runs on (default: its name, where the system tells it).
        pub fn hostname(mut self, name: impl Into<String>) -> Self {
            self $($at)*.hostname = name.into();
            self
        }

        /// The program, as `name/version` (default `nsq-protocol/<version>`).
        pub fn user_agent(mut self, name: impl Into<String>) -> Self {
            self $($at)*.user_agent = name.into();
            self
        }

        /// Limit for the TCP connection, over all IP addresses of a name; over 0 (default 5 s). Resolving the name
        /// comes before it and has the same limit, which is also what a resolver that hangs can add to a stop.
        pub fn connect_timeout(mut self, limit: Duration) -> Self {
            self $($at)*.connect_timeout = limit;
            self
        }

        /// Limit for each step of the handshake: the answers to IDENTIFY, AUTH and SUB, and the whole of TLS's own
        /// handshake; over 0 (default 5 s, as long as nsqd gives it).
        pub fn handshake_timeout(mut self, limit: Duration) -> Self {
            self $($at)*.handshake_timeout = limit;
            self
        }

        /// Limit for the peer to take the next 64 KiB of our bytes; over 0 (default 10 s).
        pub fn write_timeout(mut self, limit: Duration) -> Self {
            self $($at)*.write_timeout = limit;
            self
        }

        /// How often nsqd shows that it lives, 1 s to 60 s in whole ms (default 30 s).
        pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
            self $($at)*.heartbeat_interval = interval;
            self
        }

        /// The longest silence of nsqd before a connection is given up; more than the heartbeat interval. `None`
        /// (default): twice that.
        pub fn read_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
            self $($at)*.read_timeout = limit.into();
            self
        }

        /// Idle time before TCP's own probes; over 0 (default 30 s), and no more than the system takes (Linux: 32,767 s).
        pub fn tcp_keepalive(mut self, idle: Duration) -> Self {
            self $($at)*.tcp_keepalive = idle;
            self
        }

        /// How long bytes may stay unacknowledged before the system gives the connection up; over 0
        /// (default 30 s, Linux only).
        pub fn tcp_user_timeout(mut self, limit: Duration) -> Self {
            self $($at)*.tcp_user_timeout = limit;
            self
        }

        /// The largest message body that is taken or sent, bytes; 1 to about 16 MiB (default 1 MiB, as nsqd's
        /// `--max-msg-size`). Of a larger message that comes no more is held than [`crate::ConsumerConfig::oversized`]
        /// says; a peer that announces any other frame beyond it is dropped before anything is allocated.
        pub fn max_msg_size(mut self, bytes: usize) -> Self {
            self $($at)*.max_msg_size = bytes;
            self
        }

        /// The first wait before a reconnection (default 100 ms). It doubles, with jitter, up to the longest.
        pub fn reconnect_min(mut self, wait: Duration) -> Self {
            self $($at)*.reconnect_min = wait;
            self
        }

        /// The longest wait before a reconnection (default 15 s).
        pub fn reconnect_max(mut self, wait: Duration) -> Self {
            self $($at)*.reconnect_max = wait;
            self
        }

        /// Bytes that nsqd gathers before it writes, 64 to 65536; `None` (default): 65536 for a consumer, where nsqd
        /// allows that, and otherwise nsqd's default, 16384.
        pub fn output_buffer_size(mut self, bytes: impl Into<Option<u32>>) -> Self {
            self $($at)*.output_buffer_size = bytes.into();
            self
        }

        /// How long nsqd gathers them, 25 ms to 30 s; `None` (default): 25 ms for a consumer with
        /// [`crate::RdyMode::Adaptive`], where nsqd allows that, and otherwise nsqd's default, 250 ms.
        pub fn output_buffer_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
            self $($at)*.output_buffer_timeout = limit.into();
            self
        }

        /// Where the client runs, for nsqd after 1.3.0 (default empty).
        pub fn topology_region(mut self, name: impl Into<String>) -> Self {
            self $($at)*.topology_region = name.into();
            self
        }

        /// Where in the region, for nsqd after 1.3.0 (default empty).
        pub fn topology_zone(mut self, name: impl Into<String>) -> Self {
            self $($at)*.topology_zone = name.into();
            self
        }

        /// Encryption; `None` (default): everything goes in clear. With it, an nsqd that offers none is refused.
        #[cfg(feature = "tls")]
        pub fn tls(mut self, tls: impl Into<Option<TlsConfig>>) -> Self {
            self $($at)*.tls = tls.into();
            self
        }

        /// What to ask nsqd for (default none). An nsqd without it, unlike one without TLS, is used all the same, with
        /// a warning.
        pub fn compression(mut self, compression: Compression) -> Self {
            self $($at)*.compression = compression;
            self
        }

        /// For an nsqd that wants AUTH; without one (default), such an nsqd is refused. It goes in clear unless TLS is
        /// set.
        pub fn auth_secret(mut self, secret: impl Into<AuthSecret>) -> Self {
            self $($at)*.auth_secret = Some(secret.into());
            self
        }

        /// What nsqd is told that the program is.
        pub fn get_user_agent(&self) -> &str {
            &self $($at)*.user_agent
        }

        /// How connections are encrypted; `None`: not at all.
        #[cfg(feature = "tls")]
        pub fn get_tls(&self) -> Option<&TlsConfig> {
            self $($at)*.tls.as_ref()
        }
    };
}
pub(crate) use connection_setters;

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

/// Whole milliseconds, rounded down, as IDENTIFY has them.
pub(crate) fn whole_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The error for a setting that is out of its range.
pub(crate) fn refuse<T>(what: String) -> Result<T, Error> {
    Err(Error::Config { what })
}

impl ConnectionConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    connection_setters!();

    /// The limit on a frame's size field.
    pub(crate) fn max_frame(&self) -> usize {
        (self.max_msg_size + MESSAGE_HEAD_LEN + 4).max(MIN_FRAME)
    }

    /// The same with limits that every clock and system takes, where one is longer.
    pub(crate) fn capped(mut self) -> Self {
        for limit in [
            &mut self.connect_timeout,
            &mut self.handshake_timeout,
            &mut self.write_timeout,
            &mut self.reconnect_min,
            &mut self.reconnect_max,
        ] {
            *limit = FOREVER.min(*limit);
        }
        self.read_timeout = self.read_timeout.map(|limit| FOREVER.min(limit));
        self.tcp_keepalive = MAX_KEEPALIVE.min(self.tcp_keepalive);
        self.tcp_user_timeout = MAX_USER_TIMEOUT.min(self.tcp_user_timeout);
        self
    }

    /// Longest silence of the peer before the connection is given up.
    pub(crate) fn silence_limit(&self) -> Duration {
        self.read_timeout.unwrap_or(2 * self.heartbeat_interval)
    }

    pub(crate) fn identify_request(&self) -> IdentifyRequest {
        let deflate_level = self.compression.deflate_level().map_or(0, i64::from);
        IdentifyRequest {
            tls_v1: self.tls.is_some(),
            snappy: self.compression.is_snappy(),
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

    /// Whether every setting is in its range.
    pub(crate) fn check(&self) -> Result<(), Error> {
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
        if let Some(level @ (0 | 10..)) = self.compression.deflate_level() {
            return refuse(format!("the deflate level is {level}: it must be 1 to 9"));
        }
        if self.auth_secret.as_ref().is_some_and(|secret| secret.as_bytes().is_empty()) {
            return refuse("the auth_secret is empty".to_owned());
        }
        self.tls.as_ref().map_or(Ok(()), TlsConfig::check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let auth_secret = Some("hunter2".into());
        let config = ConnectionConfig { auth_secret, ..ConnectionConfig::default() };
        let shown = format!("{config:?}");
        assert!(shown.contains("AuthSecret(..)") && !shown.contains("hunter2"), "{shown}");
    }
}
