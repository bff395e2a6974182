//! How nsqlookupds are asked, with units, ranges and defaults (pure).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::Error;
use crate::io::config::{FOREVER, refuse};
use crate::io::tls_config::TlsConfig;

/// How nsqds are found through nsqlookupd.
///
/// [`crate::ConsumerConfig`] and [`crate::ProducerConfig`] have each of these settings as a method of their own, with `lookupd`
/// in its name; this type is
/// for settings that several share, and for what is asked without a consumer.
///
/// # Example
/// ```
/// use nsq_protocol::{ConsumerConfig, LookupConfig};
///
/// let lookup = LookupConfig::new()
///     .address("127.0.0.1:4161")
///     .address("http://other-host:4161")
///     // Docker: nsqd tells its container's name, which means nothing out here.
///     .broadcast_map("nsqd-1", "127.0.0.1:32768");
/// let config = ConsumerConfig::new("plays".parse()?, "count".parse()?).lookup(lookup);
/// # Ok::<(), nsq_protocol::NameError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LookupConfig {
    pub(crate) addresses: Vec<String>,
    pub(crate) poll_interval: Duration,
    pub(crate) poll_jitter: f64,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) broadcast_map: BTreeMap<String, String>,
    pub(crate) tls: TlsConfig,
}

/// The setters of a [`LookupConfig`], for a type that has one as its field `lookup`.
#[cfg(feature = "http")]
macro_rules! lookup_setters {
    () => {
        /// Adds an nsqlookupd's HTTP address, `host:port`, `http://host:port` or `https://host:port`.
        pub fn lookupd(mut self, address: impl Into<String>) -> Self {
            self.lookup = self.lookup.address(address);
            self
        }

        /// Adds several, as `lookupd` does.
        pub fn lookupds(mut self, addresses: impl IntoIterator<Item: Into<String>>) -> Self {
            self.lookup = self.lookup.addresses(addresses);
            self
        }

        /// [`LookupConfig::poll_interval`]
        pub fn lookupd_poll_interval(mut self, interval: Duration) -> Self {
            self.lookup = self.lookup.poll_interval(interval);
            self
        }

        /// [`LookupConfig::poll_jitter`]
        pub fn lookupd_poll_jitter(mut self, part: f64) -> Self {
            self.lookup = self.lookup.poll_jitter(part);
            self
        }

        /// [`LookupConfig::connect_timeout`]
        pub fn lookupd_connect_timeout(mut self, limit: Duration) -> Self {
            self.lookup = self.lookup.connect_timeout(limit);
            self
        }

        /// [`LookupConfig::request_timeout`]
        pub fn lookupd_request_timeout(mut self, limit: Duration) -> Self {
            self.lookup = self.lookup.request_timeout(limit);
            self
        }

        /// [`LookupConfig::broadcast_map`]
        pub fn lookupd_broadcast_map(
            mut self,
            from: impl Into<String>,
            to: impl Into<String>,
        ) -> Self {
            self.lookup = self.lookup.broadcast_map(from, to);
            self
        }

        /// [`LookupConfig::tls`]
        #[cfg(feature = "tls")]
        pub fn lookupd_tls(mut self, tls: TlsConfig) -> Self {
            self.lookup = self.lookup.tls(tls);
            self
        }

        /// The nsqlookupds and how they are asked; in the place of what was set before.
        pub fn lookup(mut self, lookup: LookupConfig) -> Self {
            self.lookup = lookup;
            self
        }

        /// The nsqlookupds, and how they are asked.
        pub fn get_lookup(&self) -> &LookupConfig {
            &self.lookup
        }
    };
}
#[cfg(feature = "http")]
pub(crate) use lookup_setters;

impl Default for LookupConfig {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            poll_interval: Duration::from_secs(60),
            poll_jitter: 0.3,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            broadcast_map: BTreeMap::new(),
            tls: TlsConfig::new(),
        }
    }
}

impl LookupConfig {
    /// The defaults, without an address.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an nsqlookupd's HTTP address, `host:port`, `http://host:port` or `https://host:port`, 4161 by default. The
    /// answers of all are united.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// Adds several, as [`LookupConfig::address`] does.
    pub fn addresses(mut self, addresses: impl IntoIterator<Item: Into<String>>) -> Self {
        self.addresses.extend(addresses.into_iter().map(Into::into));
        self
    }

    /// How often each is asked, 10 ms to 1 h (default 60 s): a new nsqd, or a topic that is new to one, is found
    /// within that time. The first time is at once, and once a connection was lost, they are asked sooner.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// By what part of itself an interval may be shortened at random, 0 to 1 (default 0.3), so that consumers that
    /// were started together do not ask together.
    pub fn poll_jitter(mut self, part: f64) -> Self {
        self.poll_jitter = part;
        self
    }

    /// Limit for the connection to one of them; over 0 (default 2 s).
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Limit for a whole request; over 0 (default 5 s).
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.request_timeout = limit;
        self
    }

    /// Adds where to connect instead of where an nsqd says that it is: from `broadcast_address` or
    /// `broadcast_address:port` to `host:port`, or to a `host` with nsqd's own port. The entry with the port is looked
    /// for first.
    pub fn broadcast_map(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.broadcast_map.insert(from.into(), to.into());
        self
    }

    /// Whom an address that begins with `https://` must prove to be (default: who has a certificate of an authority that
    /// browsers trust). [`crate::ConnectionConfig::tls`] is for nsqd alone.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.tls = tls;
        self
    }

    /// The limit for a whole request.
    pub fn get_request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// The nsqlookupds.
    pub fn get_addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Whether every setting is in its range, and the files of [`LookupConfig::tls`] hold what they should where an address
    /// needs them; whoever uses the settings checks so first.
    ///
    /// # Errors
    /// [`Error::Config`] says which is not.
    pub fn check(&self) -> Result<(), Error> {
        #[cfg(not(feature = "http"))]
        if let Some(address) = self.addresses.first() {
            return refuse(format!(
                "nsqlookupd {address} cannot be asked: nsq-protocol is built without its feature `http`"
            ));
        }
        for address in &self.addresses {
            if base_url(address).is_none() {
                return refuse(format!(
                    "the nsqlookupd address {address:?} is not host:port of its HTTP port, such as 127.0.0.1:4161"
                ));
            }
        }
        if self.addresses.iter().any(|address| address.starts_with(HTTPS)) {
            self.tls.check()?;
        }
        let (min, max) = (Duration::from_millis(10), Duration::from_secs(3600));
        if !(min..=max).contains(&self.poll_interval) {
            let given = self.poll_interval;
            return refuse(format!(
                "lookupd_poll_interval is {given:?}: it must be {min:?} to {max:?}"
            ));
        }
        if !(0.0..=1.0).contains(&self.poll_jitter) {
            let given = self.poll_jitter;
            return refuse(format!("lookupd_poll_jitter is {given}: it must be 0 to 1"));
        }
        for (name, value) in
            [("connect_timeout", self.connect_timeout), ("request_timeout", self.request_timeout)]
        {
            if value < Duration::from_millis(1) {
                return refuse(format!("lookup {name} is {value:?}: it must be at least 1 ms"));
            }
        }
        Ok(())
    }

    /// The same with limits that every clock takes, where one is longer.
    pub(crate) fn capped(mut self) -> Self {
        self.connect_timeout = FOREVER.min(self.connect_timeout);
        self.request_timeout = FOREVER.min(self.request_timeout);
        self
    }

    /// The wait before the next round; `random` is any number, evenly spread.
    pub(super) fn wait(&self, random: u64) -> Duration {
        self.poll_interval.mul_f64(1.0 - self.poll_jitter * (random as f64 / u64::MAX as f64))
    }
}

/// How an address of an API over TLS begins.
const HTTPS: &str = "https://";

/// `http://host:port` of what may be written with or without a scheme, or `https://host:port`; none for anything else.
pub(super) fn base_url(address: &str) -> Option<String> {
    let (scheme, authority) = match address.strip_prefix(HTTPS) {
        Some(authority) => (HTTPS, authority),
        None => ("http://", address.strip_prefix("http://").unwrap_or(address)),
    };
    let authority = authority.trim_end_matches('/');
    let (host, port) = authority.rsplit_once(':')?;
    let is_host = |c: char| !c.is_whitespace() && !c.is_control() && !"/?#@\\".contains(c);
    let good = !host.is_empty()
        && host.chars().all(is_host)
        && (!host.contains(':') || host.starts_with('[') && host.ends_with(']'))
        && port.bytes().all(|digit| digit.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0);
    good.then(|| format!("{scheme}{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_with_and_without_scheme() {
        for (address, want) in [
            ("127.0.0.1:4161", Some("http://127.0.0.1:4161")),
            ("http://host:4161/", Some("http://host:4161")),
            ("[::1]:4161", Some("http://[::1]:4161")),
            ("host", None),
            (":4161", None),
            ("host:0", None),
            ("host:70000", None),
            ("host:+1", None),
            ("https://host:4161", Some("https://host:4161")),
            ("https://host", None),
            ("ftp://host:4161", None),
            ("ho st:1", None),
            ("host:1/lookup", None),
            ("::1:4161", None),
        ] {
            assert_eq!(base_url(address).as_deref(), want, "{address}");
        }
    }

    #[test]
    fn an_interval_is_only_shortened() {
        let config = LookupConfig::default();
        assert_eq!(config.wait(0), Duration::from_secs(60));
        assert_eq!(config.wait(u64::MAX), Duration::from_secs(42));
    }
}
