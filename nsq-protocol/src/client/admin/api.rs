//! nsqd's HTTP API: statistics, and creating, deleting, emptying and pausing topics and channels.
//!
//! Runs on the caller's thread.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::client::admin::stats::{NodeInfo, NodeStats};
use crate::codec::names::{ChannelName, TopicName};
use crate::error::Error;
use crate::io::config::FOREVER;
use crate::io::http_agent::http_agent;
use crate::io::http_tls::tls_fault;
use crate::io::tls_config::TlsConfig;
use crate::io::tls_fault::TlsFault;

/// One whole call, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer that is read, bytes: statistics of about 20,000 clients.
const MAX_ANSWER: u64 = 16 << 20;

/// How much of an unexpected answer goes into an error, characters.
const EXCERPT: usize = 200;

/// One nsqd's HTTP API. Cheap to clone; keeps connections open between calls.
///
/// # Example
/// ```no_run
/// use nsq_protocol::{Admin, StatsFilter};
///
/// let admin = Admin::new("127.0.0.1:4151");
/// admin.ping()?;
/// for topic in admin.stats(&StatsFilter::default())?.topics {
///     println!("{}: {} waiting", topic.topic_name, topic.depth);
/// }
/// # Ok::<(), nsq_protocol::AdminError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Admin {
    base: String,
    agent: ureq::Agent,
}

/// Why a call of the HTTP API did not work.
///
/// # Example
/// ```
/// use nsq_protocol::{Admin, AdminError, TopicName};
///
/// fn delete(admin: &Admin, topic: &TopicName) -> Result<(), AdminError> {
///     match admin.delete_topic(topic) {
///         Err(error) if error.is_not_found() => Ok(()),
///         outcome => outcome,
///     }
/// }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// No answer came: not reachable, too slow, or not HTTP.
    #[error("cannot reach {url}")]
    Unreachable {
        /// The call.
        url: String,
        /// Why.
        source: Arc<io::Error>,
    },
    /// TLS failed: the handshake, a certificate, or a record behind it. No request went out.
    #[error("TLS with {url} failed{}", fault.hint())]
    Tls {
        /// The call.
        url: String,
        /// What to do about it.
        fault: TlsFault,
        /// What is wrong, in the TLS library's words.
        source: Arc<io::Error>,
    },
    /// nsqd answers over TLS alone, as with `--tls-required`, and this was its HTTP port, or plain HTTP on its HTTPS port.
    #[error("{url} wants TLS: {}", https_hint(https.as_deref()))]
    TlsRequired {
        /// The call.
        url: String,
        /// Where it answers, as [`Admin::with_tls`] takes it; `None` where it has no HTTPS port.
        https: Option<String>,
    },
    /// nsqd refused, for example with 404 and `TOPIC_NOT_FOUND`.
    #[error("{url} answers {status} {message}")]
    Refused {
        /// The call.
        url: String,
        /// The HTTP status.
        status: u16,
        /// nsqd's code, or the beginning of what came instead.
        message: String,
    },
    /// The answer is not what nsqd gives.
    #[error("{url} answers no {wanted}")]
    Unexpected {
        /// The call.
        url: String,
        /// What it should have been.
        wanted: &'static str,
        /// What is wrong with it.
        source: Arc<io::Error>,
    },
}

impl AdminError {
    /// Whether nsqd says that there is no such topic or channel.
    pub fn is_not_found(&self) -> bool {
        matches!(self, AdminError::Refused { status: 404, .. })
    }
}

impl From<AdminError> for Error {
    fn from(error: AdminError) -> Self {
        Error::Admin { source: Arc::new(error) }
    }
}

/// The body of an answer that refuses.
#[derive(Deserialize)]
struct Refusal {
    message: String,
    /// Beside [`TLS_REQUIRED`]; 0 where nsqd has no such port.
    #[serde(default)]
    https_port: u16,
}

/// What nsqd says on its HTTP port when it wants TLS.
const TLS_REQUIRED: &str = "TLS_REQUIRED";

/// What nsqd's HTTPS port says to plain HTTP, as every server in Go does.
const PLAIN_ON_HTTPS: &[u8] = b"Client sent an HTTP request to an HTTPS server.";

/// Which part of the statistics is wanted. The default is all of it.
///
/// # Example
/// ```
/// let filter = nsq_protocol::StatsFilter::new().topic("plays".parse()?).clients(false);
/// # Ok::<(), nsq_protocol::NameError>(())
/// ```
#[derive(Clone, Debug)]
pub struct StatsFilter {
    topic: Option<TopicName>,
    channel: Option<ChannelName>,
    clients: bool,
}

impl StatsFilter {
    /// All statistics.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only this topic (default: all).
    pub fn topic(mut self, topic: TopicName) -> Self {
        self.topic = Some(topic);
        self
    }

    /// Only channels of this name (default: all).
    pub fn channel(mut self, channel: ChannelName) -> Self {
        self.channel = Some(channel);
        self
    }

    /// Whether each consumer, too (default yes); without them, nsqd answers sooner.
    pub fn clients(mut self, yes: bool) -> Self {
        self.clients = yes;
        self
    }
}

impl Default for StatsFilter {
    fn default() -> Self {
        Self { topic: None, channel: None, clients: true }
    }
}

impl Admin {
    /// The API at `address`: `host:port` or `http://host:port` of nsqd's HTTP port, 4151 by default, or
    /// `https://host:port` of its HTTPS port, 4152 by default, which must have a certificate of an authority that browsers
    /// trust. Nothing is sent yet.
    pub fn new(address: &str) -> Self {
        Self::with_timeout(address, TIMEOUT)
    }

    /// The same, where one whole call, name resolution to the answer's last byte, takes at most `timeout`, 10 s
    /// otherwise.
    pub fn with_timeout(address: &str, timeout: Duration) -> Self {
        Self::open(address, timeout, TlsConfig::new())
    }

    /// The same, where an address that begins with `https://` is trusted as `tls` says. An nsqd that asks its clients for
    /// certificates asks for one here, too. The files are read for each connection: see [`TlsConfig::check`].
    ///
    /// # Example
    /// ```no_run
    /// use std::time::Duration;
    /// use nsq_protocol::{Admin, TlsConfig};
    ///
    /// let tls = TlsConfig::new().root_ca_file("/etc/nsq/ca.pem");
    /// Admin::with_tls("https://nsqd-1:4152", Duration::from_secs(10), tls).ping()?;
    /// # Ok::<(), nsq_protocol::AdminError>(())
    /// ```
    #[cfg(feature = "tls")]
    pub fn with_tls(address: &str, timeout: Duration, tls: TlsConfig) -> Self {
        Self::open(address, timeout, tls)
    }

    fn open(address: &str, timeout: Duration, tls: TlsConfig) -> Self {
        let address = address.trim_end_matches('/');
        let base = match address.contains("://") {
            true => address.to_owned(),
            false => format!("http://{address}"),
        };
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(FOREVER.min(timeout)))
            .http_status_as_error(false)
            // nsqd is inside; a proxy of the environment is for what is outside.
            .proxy(None)
            .max_redirects(0)
            .user_agent(concat!("nsq-protocol/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { base, agent: http_agent(config, tls) }
    }

    /// Whether nsqd lives and is well.
    ///
    /// # Errors
    /// [`AdminError::Refused`] with status 500 and the reason when its disk fails; [`AdminError::Unreachable`].
    pub fn ping(&self) -> Result<(), AdminError> {
        self.get("/ping", &[]).map(drop)
    }

    /// Version and ports.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn info(&self) -> Result<NodeInfo, AdminError> {
        self.get_json("/info", &[])
    }

    /// Depths and counts of topics, channels and connections. No topic matches: no topics, no error.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn stats(&self, filter: &StatsFilter) -> Result<NodeStats, AdminError> {
        let mut query = vec![("format", "json"), ("include_mem", "false")];
        query.extend(filter.topic.as_ref().map(|topic| ("topic", topic.as_str())));
        query.extend(filter.channel.as_ref().map(|channel| ("channel", channel.as_str())));
        query.push(("include_clients", if filter.clients { "true" } else { "false" }));
        self.get_json("/stats", &query)
    }

    /// Creates a topic; one that exists is left as it is.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn create_topic(&self, topic: &TopicName) -> Result<(), AdminError> {
        self.topic("create", topic)
    }

    /// Deletes a topic with its channels and messages, and closes its consumers' connections.
    ///
    /// # Errors
    /// [`AdminError`]; [`AdminError::is_not_found`] when there is none.
    pub fn delete_topic(&self, topic: &TopicName) -> Result<(), AdminError> {
        self.topic("delete", topic)
    }

    /// Drops the messages that no channel has yet. The channels keep theirs: see [`Admin::empty_channel`].
    ///
    /// # Errors
    /// As [`Admin::delete_topic`].
    pub fn empty_topic(&self, topic: &TopicName) -> Result<(), AdminError> {
        self.topic("empty", topic)
    }

    /// Keeps new messages from the channels.
    ///
    /// # Errors
    /// As [`Admin::delete_topic`].
    pub fn pause_topic(&self, topic: &TopicName) -> Result<(), AdminError> {
        self.topic("pause", topic)
    }

    /// Ends [`Admin::pause_topic`].
    ///
    /// # Errors
    /// As [`Admin::delete_topic`].
    pub fn unpause_topic(&self, topic: &TopicName) -> Result<(), AdminError> {
        self.topic("unpause", topic)
    }

    /// Creates a channel of a topic that exists; one that exists is left as it is.
    ///
    /// # Errors
    /// As [`Admin::delete_topic`].
    pub fn create_channel(
        &self,
        topic: &TopicName,
        channel: &ChannelName,
    ) -> Result<(), AdminError> {
        self.channel("create", topic, channel)
    }

    /// Deletes a channel with its messages, and closes its consumers' connections.
    ///
    /// # Errors
    /// As [`Admin::delete_topic`].
    pub fn delete_channel(
        &self,
        topic: &TopicName,
        channel: &ChannelName,
    ) -> Result<(), AdminError> {
        self.channel("delete", topic, channel)
    }

    /// Drops a channel's messages, those in flight and deferred too: answers to them fail then.
    ///
    /// # Errors
    /// As [`Admin::delete_topic`].
    pub fn empty_channel(
        &self,
        topic: &TopicName,
        channel: &ChannelName,
    ) -> Result<(), AdminError> {
        self.channel("empty", topic, channel)
    }

    /// Keeps messages from a channel's consumers.
    ///
    /// # Errors
    /// As [`Admin::delete_topic`].
    pub fn pause_channel(
        &self,
        topic: &TopicName,
        channel: &ChannelName,
    ) -> Result<(), AdminError> {
        self.channel("pause", topic, channel)
    }

    /// Ends [`Admin::pause_channel`].
    ///
    /// # Errors
    /// As [`Admin::delete_topic`].
    pub fn unpause_channel(
        &self,
        topic: &TopicName,
        channel: &ChannelName,
    ) -> Result<(), AdminError> {
        self.channel("unpause", topic, channel)
    }

    fn topic(&self, verb: &str, topic: &TopicName) -> Result<(), AdminError> {
        self.post(&format!("/topic/{verb}"), &[("topic", topic.as_str())])
    }

    fn channel(
        &self,
        verb: &str,
        topic: &TopicName,
        channel: &ChannelName,
    ) -> Result<(), AdminError> {
        let query = [("topic", topic.as_str()), ("channel", channel.as_str())];
        self.post(&format!("/channel/{verb}"), &query)
    }

    fn get_json<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, AdminError> {
        let (url, body) = self.get(path, query)?;
        serde_json::from_slice(&body).map_err(|error| AdminError::Unexpected {
            url,
            wanted: "such JSON",
            source: Arc::new(error.into()),
        })
    }

    fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<(String, Vec<u8>), AdminError> {
        let request = self.agent.get(format!("{}{path}", self.base));
        answer(path_url(&self.base, path), request.query_pairs(query.iter().copied()).call())
    }

    fn post(&self, path: &str, query: &[(&str, &str)]) -> Result<(), AdminError> {
        let request = self.agent.post(format!("{}{path}", self.base));
        let sent = request.query_pairs(query.iter().copied()).send_empty();
        let named: BTreeMap<_, _> = query.iter().copied().collect();
        answer(format!("{} {named:?}", path_url(&self.base, path)), sent).map(drop)
    }
}

fn path_url(base: &str, path: &str) -> String {
    format!("{base}{path}")
}

fn answer(
    url: String,
    sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<(String, Vec<u8>), AdminError> {
    let unreachable = |url: &String, error: ureq::Error| {
        let (url, fault) = (url.clone(), tls_fault(&error));
        let source = Arc::new(error.into_io());
        match fault {
            Some(fault) => AdminError::Tls { url, fault, source },
            None => AdminError::Unreachable { url, source },
        }
    };
    let mut response = sent.map_err(|error| unreachable(&url, error))?;
    let read = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
    let body = read.map_err(|error| unreachable(&url, error))?;
    let status = response.status();
    if status.is_success() {
        return Ok((url, body));
    }
    let status = status.as_u16();
    match serde_json::from_slice(&body) {
        Ok(Refusal { message, https_port }) if status == 403 && message == TLS_REQUIRED => {
            let https = (https_port > 0).then(|| https(&url, Some(https_port)));
            Err(AdminError::TlsRequired { url, https })
        }
        Ok(Refusal { message, .. }) => Err(AdminError::Refused { url, status, message }),
        Err(_) if status == 400 && body.starts_with(PLAIN_ON_HTTPS) => {
            let https = Some(https(&url, None));
            Err(AdminError::TlsRequired { url, https })
        }
        Err(_) => {
            let message = String::from_utf8_lossy(&body).chars().take(EXCERPT).collect();
            Err(AdminError::Refused { url, status, message })
        }
    }
}

/// The address of an API over TLS: on the host of a call, and its port or that one.
fn https(url: &str, port: Option<u16>) -> String {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    match (port, authority.rsplit_once(':')) {
        (Some(port), Some((host, _))) => format!("https://{host}:{port}"),
        (Some(port), None) => format!("https://{authority}:{port}"),
        (None, _) => format!("https://{authority}"),
    }
}

/// What is to be done where nsqd wants TLS.
fn https_hint(https: Option<&str>) -> String {
    match https {
        Some(address) => format!("its address is {address}"),
        None => "start nsqd with --https-address, too".to_owned(),
    }
}
