//! What a consumer is told: its settings and their ranges (pure). What each means stands at its setter.

use std::time::Duration;

use crate::client::consumer::give_up::GiveUpHandler;
use crate::client::event::Events;
use crate::client::lookup::config::LookupConfig;
use crate::codec::identify::IdentifyRequest;
use crate::codec::names::{ChannelName, TopicName};
use crate::error::Error;
use crate::flow::policy::{Oversized, RdyMode};
use crate::io::config::{ConnectionConfig, FOREVER, refuse, whole_ms};

mod setters;

/// The largest `max_in_flight`: what a process can be asked to hold, far over any useful window.
const MAX_IN_FLIGHT: u32 = 1_000_000;

/// What an adaptive consumer asks nsqd for unless configured otherwise: the least that nsqd takes by default. It
/// bounds how long the last messages of a burst wait at nsqd.
const ADAPTIVE_OUTPUT_BUFFER_TIMEOUT: Duration = Duration::from_millis(25);

/// What a consumer has nsqd gather before it writes: the most that nsqd allows by default. Under load a larger write is
/// fewer wake-ups at both ends; without, nsqd writes at once, however little it is (see `pace`).
const CONSUMER_OUTPUT_BUFFER_SIZE: i64 = 65_536;

/// What a [`crate::Consumer`] subscribes to, where, and how much it holds.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use nsq_protocol::ConsumerConfig;
///
/// let config = ConsumerConfig::new("plays".parse()?, "count".parse()?)
///     .nsqd("127.0.0.1:4150")
///     .max_in_flight(100)
///     .msg_timeout(Duration::from_secs(120));
/// # Ok::<(), nsq_protocol::NameError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    pub(crate) topic: TopicName,
    pub(crate) channel: ChannelName,
    pub(crate) nsqd_addresses: Vec<String>,
    pub(crate) lookup: LookupConfig,
    pub(crate) max_in_flight: u32,
    pub(crate) rdy: RdyMode,
    pub(crate) low_rdy_timeout: Duration,
    pub(crate) low_rdy_idle_timeout: Duration,
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) max_attempts: u16,
    pub(crate) oversized: Oversized,
    pub(crate) give_up: Option<GiveUpHandler>,
    pub(crate) events: Events,
    pub(crate) auto_touch: bool,
    pub(crate) msg_timeout: Option<Duration>,
    pub(crate) sample_rate: u8,
    pub(crate) stop_timeout: Duration,
    pub(crate) panic_requeue_delay: Duration,
    pub(crate) default_requeue_delay: Duration,
    pub(crate) max_requeue_delay: Duration,
    pub(crate) connection: ConnectionConfig,
}

impl ConsumerConfig {
    /// The defaults for that topic and channel, which SUB creates where they do not exist; [`ConsumerConfig::nsqd`] or
    /// [`ConsumerConfig::lookupd`] must follow at least once.
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
            oversized: Oversized::default(),
            give_up: None,
            events: Events::default(),
            auto_touch: false,
            msg_timeout: None,
            sample_rate: 0,
            stop_timeout: Duration::from_secs(30),
            panic_requeue_delay: Duration::from_secs(1),
            default_requeue_delay: Duration::from_secs(90),
            max_requeue_delay: Duration::from_secs(900),
            connection: ConnectionConfig::default(),
        }
    }

    /// The same with limits that every clock takes, where one is longer.
    pub(crate) fn capped(mut self) -> Self {
        for limit in [
            &mut self.low_rdy_timeout,
            &mut self.low_rdy_idle_timeout,
            &mut self.backoff_min,
            &mut self.backoff_max,
            &mut self.stop_timeout,
            &mut self.panic_requeue_delay,
        ] {
            *limit = FOREVER.min(*limit);
        }
        (self.lookup, self.connection) = (self.lookup.capped(), self.connection.capped());
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
        check_max_in_flight(self.max_in_flight)?;
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

pub(super) fn check_max_in_flight(given: u32) -> Result<(), Error> {
    match given {
        1..=MAX_IN_FLIGHT => Ok(()),
        _ => refuse(format!("max_in_flight is {given}: it must be 1 to {MAX_IN_FLIGHT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::compression::Compression;

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
