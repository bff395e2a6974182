//! What a consumer can be told: every setting, with its unit, range and default (pure).

use std::time::Duration;

use crate::client::consumer::give_up::{GiveUp, GiveUpHandler, GivenUp};
use crate::client::event::{Event, Events};
use crate::client::lookup::config::LookupConfig;
use crate::codec::identify::IdentifyRequest;
use crate::codec::names::{ChannelName, TopicName};
use crate::error::Error;
use crate::flow::policy::{Oversized, RdyMode};
use crate::io::config::{ConnectionConfig, FOREVER, refuse, whole_ms};

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
    /// A message that was delivered more often is given up instead of handed over, as is one whose handler returned an
    /// error at the last attempt ([`crate::Consumer::run_fallible`]); 0: none is (default). With it,
    /// [`ConsumerConfig::on_give_up`] says what becomes of such a message; without that, it is finished, with a warning.
    pub max_attempts: u16,
    /// What becomes of a message that is larger than [`ConnectionConfig::max_msg_size`] (default: it is given back for
    /// a minute, see [`Oversized::Requeue`]).
    pub oversized: Oversized,
    /// Set by [`ConsumerConfig::on_give_up`].
    pub(crate) give_up: Option<GiveUpHandler>,
    /// Set by [`ConsumerConfig::on_event`].
    pub(crate) events: Events,
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
    /// Delay of a message whose handler returned an error ([`crate::Consumer::run_fallible`]), times its attempts (default
    /// 90 s, as in go-nsq).
    pub default_requeue_delay: Duration,
    /// The longest that this makes (default 15 min, as in go-nsq). nsqd has a limit of its own, 1 h.
    pub max_requeue_delay: Duration,
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

    /// Adds an nsqd's TCP address, `host:port`.
    pub fn nsqd(mut self, address: impl Into<String>) -> Self {
        self.nsqd_addresses.push(address.into());
        self
    }

    /// Adds an nsqlookupd's HTTP address, `host:port`, `http://host:port` or `https://host:port`.
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
    /// `handler` is told the message and why, and may publish it to another topic first, for example. It runs on a thread
    /// of its own, `nsq-give-up`, one message at a time: however long it takes, other messages go on. When it panics, the
    /// message is given back as from any handler.
    pub fn on_give_up(
        mut self,
        handler: impl Fn(GivenUp<'_>) -> GiveUp + Send + Sync + 'static,
    ) -> Self {
        self.give_up = Some(GiveUpHandler::new(handler));
        self
    }

    /// Has `handler` told what happens to the connections, beside the log.
    ///
    /// It runs on the thread that it happens on: that connection waits for it, so that it should not take long. It may ask
    /// for statistics, but must not stop what it is told of. When it panics, that is logged.
    pub fn on_event(mut self, handler: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.events = Events::to(handler);
        self
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
