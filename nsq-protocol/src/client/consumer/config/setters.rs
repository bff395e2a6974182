//! The setters of a consumer's settings, each with its unit, range and default (pure).

use std::time::Duration;

use crate::client::consumer::config::ConsumerConfig;
use crate::client::consumer::give_up::{GiveUp, GiveUpHandler, GivenUp};
use crate::client::event::{Event, Events};
#[cfg(feature = "http")]
use crate::client::lookup::config::{LookupConfig, lookup_setters};
use crate::codec::auth::AuthSecret;
use crate::codec::compression::Compression;
use crate::codec::names::{ChannelName, TopicName};
use crate::flow::policy::{Oversized, RdyMode};
use crate::io::config::{ConnectionConfig, connection_setters};
#[cfg(feature = "tls")]
use crate::io::tls_config::TlsConfig;

/// Where messages come from.
impl ConsumerConfig {
    /// Another topic.
    pub fn topic(mut self, topic: TopicName) -> Self {
        self.topic = topic;
        self
    }

    /// Another channel.
    pub fn channel(mut self, channel: ChannelName) -> Self {
        self.channel = channel;
        self
    }

    /// Adds an nsqd to consume from, as `host:port` of its TCP port; one connection for each, for ever.
    ///
    /// Both this and [`ConsumerConfig::lookupd`] may be given, as in go-nsq: an nsqd that is in both is connected to
    /// once.
    pub fn nsqd(mut self, address: impl Into<String>) -> Self {
        self.nsqd_addresses.push(address.into());
        self
    }

    /// Adds several, as [`ConsumerConfig::nsqd`] does.
    pub fn nsqds(mut self, addresses: impl IntoIterator<Item: Into<String>>) -> Self {
        self.nsqd_addresses.extend(addresses.into_iter().map(Into::into));
        self
    }
}

/// nsqlookupds, which tell where more nsqds are.
#[cfg(feature = "http")]
impl ConsumerConfig {
    lookup_setters!();
}

/// How many messages come, and when none do.
impl ConsumerConfig {
    /// Messages that may be in flight over all connections, 1 to 1,000,000 (default 2500). Memory is bounded by
    /// twice that times the message size. With fewer than one for each nsqd, they take turns.
    pub fn max_in_flight(mut self, messages: u32) -> Self {
        self.max_in_flight = messages;
        self
    }

    /// How the RDY of each connection is chosen (default [`RdyMode::Adaptive`]).
    pub fn rdy(mut self, mode: RdyMode) -> Self {
        self.rdy = mode;
        self
    }

    /// Within this each nsqd has its turn, where there are more of them than [`ConsumerConfig::max_in_flight`]; 1 s or
    /// more (default 30 s). Time that handlers take comes on top.
    pub fn low_rdy_timeout(mut self, limit: Duration) -> Self {
        self.low_rdy_timeout = limit;
        self
    }

    /// A turn in which no message comes ends after this; 10 ms or more (default 1 s).
    pub fn low_rdy_idle_timeout(mut self, limit: Duration) -> Self {
        self.low_rdy_idle_timeout = limit;
        self
    }

    /// After a failed message ([`crate::Delivery::requeue`], a panic of the handler), no connection is asked for
    /// messages for this long (default 1 s), doubled, with jitter, for each failure in a row. Then one message is
    /// asked for, and if it is finished, everything flows again.
    pub fn backoff_min(mut self, wait: Duration) -> Self {
        self.backoff_min = wait;
        self
    }

    /// The longest such wait (default 2 min); zero: failures change nothing.
    pub fn backoff_max(mut self, wait: Duration) -> Self {
        self.backoff_max = wait;
        self
    }

    /// Per cent of messages to receive, 1 to 99; 0: all (default). nsqd 1.3.0 really delivers one per cent more.
    pub fn sample_rate(mut self, per_cent: u8) -> Self {
        self.sample_rate = per_cent;
        self
    }
}

/// What becomes of messages.
impl ConsumerConfig {
    /// A message that was delivered more often is given up instead of handed over, as is one whose handler returned an
    /// error at the last attempt ([`crate::Consumer::run_fallible`]); 0: none is (default). With it,
    /// [`ConsumerConfig::on_give_up`] says what becomes of such a message; without that, it is finished, with a warning.
    pub fn max_attempts(mut self, deliveries: u16) -> Self {
        self.max_attempts = deliveries;
        self
    }

    /// What becomes of messages that are given up; see [`ConsumerConfig::max_attempts`].
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

    /// What becomes of a message that is larger than [`ConsumerConfig::max_msg_size`] (default: it is given back for
    /// a minute, see [`Oversized::Requeue`]).
    pub fn oversized(mut self, fate: Oversized) -> Self {
        self.oversized = fate;
        self
    }

    /// Whether messages that wait here, or in a handler, are touched at half of their msg-timeout, so that nsqd does
    /// not deliver them again; up to nsqd's `--max-msg-timeout`, 15 min (default no). A handler that hangs keeps
    /// its message for as long.
    pub fn auto_touch(mut self, yes: bool) -> Self {
        self.auto_touch = yes;
        self
    }

    /// In-flight limit that nsqd is asked to apply to a message, 1 s to 15 min; `None` (default): nsqd's own, 60 s.
    pub fn msg_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.msg_timeout = limit.into();
        self
    }

    /// Delay of a message that is given back because its handler panicked (default 1 s), so that a message that
    /// always panics does not spin. One that is dropped unanswered otherwise is given back without delay.
    pub fn panic_requeue_delay(mut self, delay: Duration) -> Self {
        self.panic_requeue_delay = delay;
        self
    }

    /// Delay of a message whose handler returned an error ([`crate::Consumer::run_fallible`]), times its attempts (default
    /// 90 s, as in go-nsq).
    pub fn default_requeue_delay(mut self, delay: Duration) -> Self {
        self.default_requeue_delay = delay;
        self
    }

    /// The longest that this makes (default 15 min, as in go-nsq). nsqd has a limit of its own, 1 h.
    pub fn max_requeue_delay(mut self, delay: Duration) -> Self {
        self.max_requeue_delay = delay;
        self
    }

    /// How long [`crate::Consumer::stop`] waits for held messages to be answered (default 30 s).
    pub fn stop_timeout(mut self, limit: Duration) -> Self {
        self.stop_timeout = limit;
        self
    }
}

/// How each connection is made and kept.
impl ConsumerConfig {
    /// Has `handler` told what happens to the connections, beside the log.
    ///
    /// It runs on the thread that it happens on: that connection waits for it, so that it should not take long. It may ask
    /// for statistics, but must not stop what it is told of. When it panics, that is logged.
    pub fn on_event(mut self, handler: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.events = Events::to(handler);
        self
    }

    /// In the place of what was set before.
    pub fn connection(mut self, connection: ConnectionConfig) -> Self {
        self.connection = connection;
        self
    }

    connection_setters!(.connection);
}

/// What was set.
impl ConsumerConfig {
    /// The topic.
    pub fn get_topic(&self) -> TopicName {
        self.topic
    }

    /// The channel.
    pub fn get_channel(&self) -> ChannelName {
        self.channel
    }

    /// How each connection is made and kept.
    pub fn get_connection(&self) -> &ConnectionConfig {
        &self.connection
    }

    /// The nsqds to consume from, but for those that nsqlookupds name.
    pub fn get_nsqds(&self) -> &[String] {
        &self.nsqd_addresses
    }

    /// Messages that may be in flight.
    pub fn get_max_in_flight(&self) -> u32 {
        self.max_in_flight
    }

    /// How the RDY of each connection is chosen.
    pub fn get_rdy(&self) -> RdyMode {
        self.rdy
    }

    /// What becomes of a message that is too large.
    pub fn get_oversized(&self) -> Oversized {
        self.oversized
    }

    /// How long a stop waits.
    pub fn get_stop_timeout(&self) -> Duration {
        self.stop_timeout
    }
}
