//! What a producer can be told: every setting, with its unit, range and default (pure).

use std::time::Duration;

use crate::client::event::{Event, Events};
use crate::client::lookup::config::LookupConfig;
use crate::error::Error;
use crate::io::config::{ConnectionConfig, FOREVER, refuse};

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
    /// The nsqd to publish to, as `host:port` of the TCP port; at least one, unless there is an nsqlookupd. The first that
    /// works is used; the others are for when it fails.
    pub nsqd_addresses: Vec<String>,
    /// The nsqlookupds that tell which nsqds there are, whatever their topics, and how they are asked. Those that they name
    /// come behind those of `nsqd_addresses`, in an order of each producer's own, so that many producers share them.
    pub lookup: LookupConfig,
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
    /// Set by [`ProducerConfig::on_event`].
    pub(crate) events: Events,
    /// How each connection is made and kept.
    pub connection: ConnectionConfig,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            nsqd_addresses: Vec::new(),
            lookup: LookupConfig::default(),
            max_pending_commands: 1024,
            max_pending_bytes: 16 << 20,
            publish_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_secs(10),
            max_body_size: 5 << 20,
            max_mpub_messages: 100_000,
            max_delay: Duration::from_secs(3600),
            events: Events::default(),
            connection: ConnectionConfig::default(),
        }
    }
}

impl ProducerConfig {
    /// The defaults; [`ProducerConfig::nsqd`] or [`ProducerConfig::lookupd`] must follow at least once.
    pub fn new() -> Self {
        Self::default()
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
        self.publish_timeout = FOREVER.min(self.publish_timeout);
        self.response_timeout = FOREVER.min(self.response_timeout);
        (self.lookup, self.connection) = (self.lookup.capped(), self.connection.capped());
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.nsqd_addresses.is_empty() && self.lookup.addresses.is_empty() {
            return refuse("no nsqd address and no nsqlookupd address is given".to_owned());
        }
        self.lookup.check()?;
        if self.max_mpub_messages == 0 {
            return refuse("max_mpub_messages is 0: it must be at least 1".to_owned());
        }
        if self.max_pending_commands == 0 {
            return refuse("max_pending_commands is 0: it must be at least 1".to_owned());
        }
        self.connection.check()
    }
}
