//! nsqlookupd's HTTP API: where the nsqds are that have a topic. What is asked, how an answer is read (pure), and
//! the thread `nsq-lookup`, which asks every nsqlookupd again and again.
//!
//! Whom to connect to is [`crate::client::consumer::directory`]'s to decide, connecting is [`crate::client::consumer::discovery`]'s.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, select};
use serde::Deserialize;
use serde_json::Value;

use crate::codec::names::TopicName;
use crate::error::Error;
use crate::flow::retry::{Backoff, random};
use crate::thread::StopToken;

/// The largest answer that is read, bytes: about 80,000 nsqds. What is longer is no answer.
const MAX_ANSWER: u64 = 16 << 20;

/// How much of an unexpected answer goes into an error, characters.
const EXCERPT: usize = 100;

/// Reasons kept of entries that were left out of one answer; the others are only counted.
const MAX_REASONS: usize = 3;

/// Of requests that no consumer makes.
const USER_AGENT: &str = concat!("nsq-protocol/", env!("CARGO_PKG_VERSION"));

/// The longest host name that DNS knows.
const MAX_HOST: usize = 253;

/// How soon the nsqlookupds are asked again once a connection was lost; it doubles up to the poll interval. A
/// restarted nsqd registers within milliseconds, and may have another port.
const HURRY: Duration = Duration::from_millis(250);

/// How nsqds are found through nsqlookupd.
///
/// # Example
/// ```
/// use nsq_protocol::{ChannelName, ConsumerConfig, TopicName};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = ConsumerConfig::new(TopicName::new("plays")?, ChannelName::new("count")?)
///     .lookupd("127.0.0.1:4161")
///     .lookupd("http://other-host:4161");
/// // Docker: nsqd tells its container's name, which means nothing out here.
/// config.lookup.broadcast_map.insert("nsqd-1".into(), "127.0.0.1:32768".into());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LookupConfig {
    /// Each nsqlookupd's HTTP address, `host:port` or `http://host:port`, 4161 by default (default: none). Their
    /// answers are united.
    pub addresses: Vec<String>,
    /// How often each is asked, 10 ms to 1 h (default 60 s): a new nsqd, or a topic that is new to one, is found
    /// within that time. The first time is at once, and once a connection was lost, they are asked sooner.
    pub poll_interval: Duration,
    /// By what part of itself an interval may be shortened at random, 0 to 1 (default 0.3), so that consumers that
    /// were started together do not ask together.
    pub poll_jitter: f64,
    /// Limit for the connection to one of them; over 0 (default 2 s).
    pub connect_timeout: Duration,
    /// Limit for a whole request; over 0 (default 5 s).
    pub request_timeout: Duration,
    /// Where to connect instead of where an nsqd says that it is: from `broadcast_address` or
    /// `broadcast_address:port` to `host:port`, or to a `host` with nsqd's own port (default: empty). The entry
    /// with the port is looked for first.
    pub broadcast_map: BTreeMap<String, String>,
}

impl Default for LookupConfig {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            poll_interval: Duration::from_secs(60),
            poll_jitter: 0.3,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            broadcast_map: BTreeMap::new(),
        }
    }
}

impl LookupConfig {
    /// Whether every setting is in its range; whoever uses them checks so first.
    ///
    /// # Errors
    /// [`Error::Config`] says which is not.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |what: String| Err(Error::Config { what });
        for address in &self.addresses {
            if base_url(address).is_none() {
                return refuse(format!(
                    "the nsqlookupd address {address:?} is no host:port of its HTTP port, such as 127.0.0.1:4161"
                ));
            }
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

    /// The wait before the next round; `random` is any number, evenly spread.
    fn wait(&self, random: u64) -> Duration {
        self.poll_interval.mul_f64(1.0 - self.poll_jitter * (random as f64 / u64::MAX as f64))
    }
}

/// `http://host:port` of what may be written with or without a scheme; none for anything else.
fn base_url(address: &str) -> Option<String> {
    let authority = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    let (host, port) = authority.rsplit_once(':')?;
    let is_host = |c: char| !c.is_whitespace() && !c.is_control() && !"/?#@\\".contains(c);
    let good = !host.is_empty()
        && host.chars().all(is_host)
        && (!host.contains(':') || host.starts_with('[') && host.ends_with(']'))
        && port.bytes().all(|digit| digit.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0);
    good.then(|| format!("http://{authority}"))
}

/// What one nsqlookupd says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Where to connect to, `host:port`, after the broadcast map.
    pub(crate) nsqds: Vec<String>,
    /// Their HTTP APIs, in the same order.
    pub(crate) http: Vec<String>,
    /// Entries left out, and why, of the first few.
    pub(crate) left_out: usize,
    pub(crate) reasons: Vec<String>,
}

/// An answer, also in the wrapper that nsqlookupd had before 1.0.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    producers: Option<Vec<Value>>,
    data: Option<Payload>,
    status_code: Option<i64>,
    status_txt: Option<String>,
    message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Payload {
    producers: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct Producer {
    broadcast_address: String,
    tcp_port: i64,
    /// A caller that needs it finds out that 0 is no port.
    #[serde(default)]
    http_port: i64,
}

/// Reads the answer to `/lookup`, with its HTTP status.
///
/// An unknown topic is no error: before the first publish nobody knows it.
pub(crate) fn read_answer(
    status: u16,
    body: &[u8],
    map: &BTreeMap<String, String>,
) -> Result<Answer, String> {
    let excerpt = || {
        let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT)]);
        text.escape_debug().take(EXCERPT).collect::<String>()
    };
    // An array, too, would read as a struct: one with every field at its default.
    let object = if body.trim_ascii_start().starts_with(b"{") { body } else { b"" };
    let wire: Wire = match serde_json::from_slice(object) {
        Ok(wire) => wire,
        Err(error) if status == 200 => {
            return Err(format!("no such JSON object ({error}): {}", excerpt()));
        }
        Err(_) => return Err(format!("status {status}: {}", excerpt())),
    };
    let said = wire.message.or(wire.status_txt).unwrap_or_default();
    if said == "TOPIC_NOT_FOUND" {
        return Ok(Answer::default());
    }
    let status = wire.status_code.unwrap_or(i64::from(status));
    if status != 200 {
        return Err(format!("status {status}: {:.100}", said.escape_debug().to_string()));
    }
    // `data` may be null, as Go writes it, but then there must be a list beside it.
    let listed = wire.producers.or(wire.data.map(|data| data.producers.unwrap_or_default()));
    let Some(producers) = listed else {
        // Go writes an empty list as null, too; without the key it is somebody else's JSON.
        let has_key = serde_json::from_slice::<BTreeMap<String, Value>>(body)
            .is_ok_and(|keys| keys.contains_key("producers"));
        return match has_key {
            true => Ok(Answer::default()),
            false => Err(format!("JSON without \"producers\": {}", excerpt())),
        };
    };
    let mut answer = Answer::default();
    for producer in producers {
        match dial_address(producer, map) {
            Ok((tcp, http)) => {
                answer.nsqds.push(tcp);
                answer.http.push(http);
            }
            Err(reason) => {
                answer.left_out += 1;
                if answer.reasons.len() < MAX_REASONS {
                    answer.reasons.push(reason);
                }
            }
        }
    }
    Ok(answer)
}

/// For the fuzz targets: reads an answer, and gives the addresses or the error's text.
#[doc(hidden)]
pub fn fuzz_lookup(status: u16, body: &[u8]) -> Result<Vec<String>, String> {
    let map = BTreeMap::from([
        ("nsqd-1".to_owned(), "127.0.0.1:32768".to_owned()),
        ("nsqd-2:4150".to_owned(), "other".to_owned()),
    ]);
    read_answer(status, body, &map).map(|answer| answer.nsqds)
}

/// Where to connect to for one entry, and its HTTP API.
fn dial_address(entry: Value, map: &BTreeMap<String, String>) -> Result<(String, String), String> {
    let Producer { broadcast_address: host, tcp_port, http_port } =
        serde_json::from_value(entry)
            .map_err(|error| format!("an entry that is no such object: {error}"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let named = |host: &str, port: &str| match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    if let Some(to) = map.get(&named(host, &tcp_port.to_string())).or_else(|| map.get(host)) {
        let has_port = to.rsplit_once(':').is_some_and(|(host, port)| {
            port.parse::<u16>().is_ok() && (!host.contains(':') || host.starts_with('['))
        });
        let host = if has_port { to.rsplit_once(':').map_or(&**to, |(host, _)| host) } else { to };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tcp = if has_port { to.clone() } else { named(host, &tcp_port.to_string()) };
        return Ok((tcp, named(host, &http_port.to_string())));
    }
    let shown = || host.escape_debug().take(MAX_HOST).collect::<String>();
    let bad = |c: char| c.is_whitespace() || c.is_control() || "/?#@\\\"[]".contains(c);
    if host.is_empty() || host.len() > MAX_HOST || host.contains(bad) {
        return Err(format!("the broadcast address \"{}\" is no host name", shown()));
    }
    if !(1..=i64::from(u16::MAX)).contains(&tcp_port) {
        return Err(format!("{} with the TCP port {tcp_port}", shown()));
    }
    Ok((named(host, &tcp_port.to_string()), named(host, &http_port.to_string())))
}

/// What the asking thread tells: which nsqlookupd, and what came of it.
pub(crate) type Polled = (usize, Result<Answer, Error>);

/// Asks nsqlookupds.
pub(crate) struct Lookup {
    config: LookupConfig,
    topic: TopicName,
    agent: ureq::Agent,
}

impl Lookup {
    pub(crate) fn new(config: LookupConfig, topic: TopicName, user_agent: &str) -> Self {
        let agent = config.agent(user_agent);
        Self { config, topic, agent }
    }

    /// Ends a request under way, but for a connection that is being made: that has its own limit.
    pub(crate) fn interrupter(&self) -> impl FnOnce() + Send + use<> {
        let agent = self.agent.clone();
        move || agent.shutdown()
    }

    /// The body of the thread: asks all of them, at once and then in intervals, until stopped. `hurry` is told when
    /// a connection was lost.
    pub(crate) fn run<E: From<Polled>>(
        self,
        stop: &StopToken,
        hurry: &Receiver<()>,
        events: &Sender<E>,
    ) {
        let mut soon: Option<Backoff> = None;
        loop {
            for index in 0..self.config.addresses.len() {
                let answer = self.ask(&self.config.addresses[index]);
                if stop.is_stopped() || events.send(E::from((index, answer))).is_err() {
                    return;
                }
            }
            let regular = self.config.wait(random());
            let mut wait = regular;
            if let Some(backoff) = &mut soon {
                wait = backoff.next_delay(random());
                if wait >= regular {
                    (wait, soon) = (regular, None);
                }
            }
            select! {
                recv(stop.channel()) -> _ => return,
                recv(hurry) -> lost => {
                    if lost.is_err() {
                        return;
                    }
                    let mut backoff = Backoff::new(HURRY, self.config.poll_interval);
                    // Not in step with everybody else who lost it.
                    if stop.wait(backoff.next_delay(random()).min(wait)) {
                        return;
                    }
                    soon = Some(backoff);
                }
                recv(after(wait)) -> _ => {}
            }
        }
    }

    fn ask(&self, address: &str) -> Result<Answer, Error> {
        let query = [("topic", self.topic.as_str())];
        let (status, body) = get(&self.agent, address, "/lookup", &query)?;
        let answer = read_answer(status, &body, &self.config.broadcast_map)
            .map_err(|reason| no_answer(address, &reason))?;
        if answer.left_out > 0 {
            let (count, reasons) = (answer.left_out, answer.reasons.join("; "));
            log::warn!("nsqlookupd {address}: {count} entries are left out: {reasons}");
        }
        Ok(answer)
    }
}

fn failed(address: &str, source: io::Error) -> Error {
    Error::Lookup { lookupd: address.to_owned(), source: Arc::new(source) }
}

fn no_answer(address: &str, reason: &str) -> Error {
    let hint = "is it nsqlookupd's HTTP port, 4161 by default?";
    failed(address, io::Error::new(io::ErrorKind::InvalidData, format!("{reason}; {hint}")))
}

/// One request: the status, and at most [`MAX_ANSWER`] bytes of body.
fn get(
    agent: &ureq::Agent,
    address: &str,
    path: &str,
    query: &[(&str, &str)],
) -> Result<(u16, Vec<u8>), Error> {
    let request =
        agent.get(url(address, path)?).header("Accept", "application/vnd.nsq; version=1.0");
    read(address, request.query_pairs(query.iter().copied()).call())
}

/// The same, for what changes something.
fn post(
    agent: &ureq::Agent,
    address: &str,
    path: &str,
    query: &[(&str, &str)],
) -> Result<(u16, Vec<u8>), Error> {
    let request = agent.post(url(address, path)?);
    read(address, request.query_pairs(query.iter().copied()).send_empty())
}

fn url(address: &str, path: &str) -> Result<String, Error> {
    let no_address = || io::Error::new(io::ErrorKind::InvalidInput, "it is no host:port");
    let base = base_url(address).ok_or_else(|| failed(address, no_address()))?;
    Ok(format!("{base}{path}"))
}

fn read(
    address: &str,
    sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<(u16, Vec<u8>), Error> {
    let mut response = sent.map_err(|error| failed(address, error.into_io()))?;
    let status = response.status().as_u16();
    match response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec() {
        Ok(body) => Ok((status, body)),
        Err(ureq::Error::BodyExceedsLimit(limit)) => {
            let what = format!("an answer over the limit of {limit} bytes");
            Err(failed(address, io::Error::new(io::ErrorKind::InvalidData, what)))
        }
        Err(error) => Err(failed(address, error.into_io())),
    }
}

/// An nsqd as nsqlookupds name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct NsqdNode {
    /// Where to connect to, `host:port`, after the broadcast map.
    pub tcp_address: String,
    /// Its HTTP API, `host:port`: the same host, nsqd's own port.
    pub http_address: String,
}

impl LookupConfig {
    /// Asks each nsqlookupd once for all nsqds, whatever their topics: where a producer can publish to. Sorted,
    /// each one once; runs on the caller's thread, up to `request_timeout` for each nsqlookupd.
    ///
    /// # Errors
    /// [`Error::Config`] for a setting out of range; [`Error::Lookup`], the first one's, when none answers.
    pub fn nodes(&self) -> Result<Vec<NsqdNode>, Error> {
        self.check()?;
        let agent = self.agent(USER_AGENT);
        let mut nodes = std::collections::BTreeSet::new();
        let (mut answered, mut errors) = (false, Vec::new());
        for address in &self.addresses {
            let found = get(&agent, address, "/nodes", &[]).and_then(|(status, body)| {
                let read = read_answer(status, &body, &self.broadcast_map);
                read.map_err(|reason| no_answer(address, &reason))
            });
            match found {
                Ok(answer) => {
                    answered = true;
                    let pairs = answer.nsqds.into_iter().zip(answer.http);
                    nodes.extend(
                        pairs.map(|(tcp_address, http_address)| NsqdNode {
                            tcp_address,
                            http_address,
                        }),
                    );
                }
                Err(error) => errors.push(error),
            }
        }
        if !answered && let Some(first) = errors.drain(..).next() {
            return Err(first);
        }
        errors.iter().for_each(|error| log::warn!("{}", error.to_line()));
        Ok(nodes.into_iter().collect())
    }

    /// Has every nsqlookupd keep silent about one nsqd when it is asked for a topic, for its
    /// `--tombstone-lifetime`, 45 s: whoever looks for the topic finds the others meanwhile. `node` is the nsqd as
    /// nsqlookupd knows it: its broadcast address and HTTP port. One that none knows is no error. Runs on the
    /// caller's thread, up to `request_timeout` for each nsqlookupd; all are asked, whether or not one fails.
    ///
    /// # Errors
    /// [`Error::Config`] for a setting out of range; [`Error::Lookup`], the first one's that refuses or is away.
    pub fn tombstone(&self, topic: &TopicName, node: &str) -> Result<(), Error> {
        self.check()?;
        let agent = self.agent(USER_AGENT);
        let query = [("topic", topic.as_str()), ("node", node)];
        let mut outcome = Ok(());
        for address in &self.addresses {
            let done = match post(&agent, address, "/topic/tombstone", &query) {
                Ok((200, _)) => Ok(()),
                Ok((status, _)) => Err(no_answer(address, &format!("status {status}"))),
                Err(error) => Err(error),
            };
            outcome = outcome.and(done);
        }
        outcome
    }

    fn agent(&self, user_agent: &str) -> ureq::Agent {
        ureq::Agent::config_builder()
            .timeout_global(Some(self.request_timeout))
            .timeout_connect(Some(self.connect_timeout))
            .http_status_as_error(false)
            // nsqlookupd is inside; a proxy of the environment is for what is outside.
            .proxy(None)
            .max_redirects(0)
            .user_agent(user_agent)
            .build()
            .new_agent()
    }
}

#[cfg(test)]
mod tests;
