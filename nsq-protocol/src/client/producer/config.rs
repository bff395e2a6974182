//! What a producer can be told: every setting, with its unit, range and default (pure).

use std::time::Duration;

use crate::client::event::{Event, Events};
use crate::client::lookup::config::LookupConfig;
#[cfg(feature = "http")]
use crate::client::lookup::config::lookup_setters;
use crate::codec::auth::AuthSecret;
use crate::codec::compression::Compression;
use crate::error::Error;
use crate::io::config::{ConnectionConfig, FOREVER, connection_setters, refuse};
#[cfg(feature = "tls")]
use crate::io::tls_config::TlsConfig;

/// Where a [`crate::Producer`] publishes, and how much it sends ahead of the answers.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use nsq_protocol::ProducerConfig;
///
/// // The second nsqd is for when the first one fails.
/// let config = ProducerConfig::new()
///     .nsqds(["127.0.0.1:4150", "127.0.0.1:5150"])
///     .publish_timeout(Duration::from_secs(5))
///     .max_pending_commands(100);
/// ```
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    pub(crate) nsqd_addresses: Vec<String>,
    pub(crate) lookup: LookupConfig,
    pub(crate) max_pending_commands: usize,
    pub(crate) max_pending_bytes: usize,
    pub(crate) publish_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) max_body_size: usize,
    pub(crate) max_mpub_messages: usize,
    pub(crate) max_delay: Duration,
    pub(crate) events: Events,
    pub(crate) connection: ConnectionConfig,
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

/// nsqlookupds, which tell which nsqds there are, whatever their topics. Those that they name come behind those of
/// [`ProducerConfig::nsqd`], in an order of each producer's own, so that many producers share them.
#[cfg(feature = "http")]
impl ProducerConfig {
    lookup_setters!();
}

impl ProducerConfig {
    /// The defaults; [`ProducerConfig::nsqd`] or [`ProducerConfig::lookupd`] must follow at least once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an nsqd to publish to, as `host:port` of its TCP port. The first that works is used; the others are for when
    /// it fails.
    pub fn nsqd(mut self, address: impl Into<String>) -> Self {
        self.nsqd_addresses.push(address.into());
        self
    }

    /// Adds several, as [`ProducerConfig::nsqd`] does.
    pub fn nsqds(mut self, addresses: impl IntoIterator<Item: Into<String>>) -> Self {
        self.nsqd_addresses.extend(addresses.into_iter().map(Into::into));
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

    /// Commands sent and not yet answered, 1 or more (default 1024). A further one waits.
    pub fn max_pending_commands(mut self, commands: usize) -> Self {
        self.max_pending_commands = commands;
        self
    }

    /// Their bytes (default 16 MiB). A further one waits, unless none is pending.
    pub fn max_pending_bytes(mut self, bytes: usize) -> Self {
        self.max_pending_bytes = bytes;
        self
    }

    /// How long a publish is tried, over all retries (default 30 s).
    pub fn publish_timeout(mut self, limit: Duration) -> Self {
        self.publish_timeout = limit;
        self
    }

    /// How long one nsqd may take for one answer before the connection is given up (default 10 s).
    pub fn response_timeout(mut self, limit: Duration) -> Self {
        self.response_timeout = limit;
        self
    }

    /// The largest MPUB body, sizes and count included, bytes (default 5 MiB, as nsqd's `--max-body-size`).
    pub fn max_body_size(mut self, bytes: usize) -> Self {
        self.max_body_size = bytes;
        self
    }

    /// The most messages in one MPUB, 1 or more (default 100,000). nsqd takes a fifth of its `--max-body-size`, about
    /// a million.
    pub fn max_mpub_messages(mut self, messages: usize) -> Self {
        self.max_mpub_messages = messages;
        self
    }

    /// The longest delay of a deferred publish (default 1 h, as nsqd's `--max-req-timeout`).
    pub fn max_delay(mut self, limit: Duration) -> Self {
        self.max_delay = limit;
        self
    }

    /// How each connection is made and kept; in the place of what was set before.
    pub fn connection(mut self, connection: ConnectionConfig) -> Self {
        self.connection = connection;
        self
    }

    connection_setters!(.connection);

    /// How each connection is made and kept.
    pub fn get_connection(&self) -> &ConnectionConfig {
        &self.connection
    }

    /// The nsqds to publish to.
    pub fn get_nsqds(&self) -> &[String] {
        &self.nsqd_addresses
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
