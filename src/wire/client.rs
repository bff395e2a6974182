//! Calls to a running dashboard over HTTP. Blocks the calling thread, at most [`TIMEOUT`] a call.

use std::fmt;
use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nsq_protocol::{TlsConfig, TlsFault, tls_fault};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::http::{Response, StatusCode};
use ureq::typestate::{WithBody, WithoutBody};
use ureq::{Agent, Body, RequestBuilder};
use uuid::Uuid;

use super::confirmed::{ConfirmedAnswer, ConfirmedTaken, ConfirmedUpdate, OutboxFigures};
use super::ledger::LedgerClaim;
use super::written::Written;

/// The longest one call may take, from the connect to the end of the answer. It is a commit of 20 rows. So long a stop waits
/// for the call that is on its way.
pub const TIMEOUT: Duration = Duration::from_secs(8);

/// The longest a download may take: the titles of millions of videos, over a slow link.
const DOWNLOAD_MAX: Duration = Duration::from_secs(3600);

/// The largest answer that is read whole, in bytes: all videos that were hidden, deleted or corrected.
const ANSWER_MAX: u64 = 256 * 1024 * 1024;

/// How long a connection is kept for the next call.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// The most of the dashboard's error that is quoted, in characters.
const MAX_QUOTE: usize = 200;

/// The status of a claim that is refused: the dashboard knows of more; and of a message under a ledger that is not claimed.
const CONFLICT: StatusCode = StatusCode::CONFLICT;

/// The status of a call that a dashboard does not know.
const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;

/// The status of a message that does not fit: of one that holds what an older dashboard does not know, too.
const BAD_REQUEST: StatusCode = StatusCode::BAD_REQUEST;

/// The status of a write without the write token, or with another one.
const UNAUTHORIZED: StatusCode = StatusCode::UNAUTHORIZED;

/// What to do about it where none was sent.
const NO_TOKEN: &str =
    "it wants a write token, and none is given: --write-token-file names the file that holds it";

/// What to do about it where one was.
const WRONG_TOKEN: &str = "the write token is not the one that it was started with: compare both --write-token-file \
                           (or --write-token, PLAYCOUNTS_WRITE_TOKEN)";

/// What a dashboard says that is private.
const PRIVATE: &str = "this dashboard is private";

/// What to do about it where no token was sent.
const NO_READ_TOKEN: &str = "it is private, and no token is given: --read-token-file names the file that holds the one for reads";

/// What to do about it where one was.
const WRONG_READ_TOKEN: &str = "it is private, and the token is none of those that it was started with: compare both \
                                --read-token-file (or --read-token, PLAYCOUNTS_READ_TOKEN)";

/// What nginx, servers in Go, and a dashboard answer to plain HTTP on an HTTPS port; with [`BAD_REQUEST`].
const PLAIN_ON_HTTPS: [&str; 3] = [
    "plain HTTP request was sent to HTTPS port",
    "HTTP request to an HTTPS server",
    "this port speaks HTTPS",
];

/// What to do about it.
const WANTS_TLS: &str = ": it wants TLS there; give --dashboard-url as https://";

/// What a dashboard says of the ledger that a processor counts in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// It may publish to the database of this id.
    Taken(Uuid),
    /// The dashboard knows of plays that the ledger does not hold: why, in one line.
    Older(String),
    /// It is a dashboard of a version that does not compare.
    NotAsked,
}

/// A call that was answered, and not by a success.
#[derive(Debug)]
pub struct RefusedCall {
    call: String,
    status: StatusCode,
    reason: String,
}

impl RefusedCall {
    /// Whether a message is at odds with what the dashboard knows: it is of another ledger than the one that was claimed, or
    /// its counts are too many.
    pub fn is_conflict(&self) -> bool {
        self.status == CONFLICT
    }

    /// Whether the dashboard knows no such call, or nothing of what it is about.
    pub fn is_unknown(&self) -> bool {
        self.status == NOT_FOUND
    }

    /// Whether the dashboard could not read the message.
    pub fn is_unread(&self) -> bool {
        self.status == BAD_REQUEST
    }
}

impl fmt::Display for RefusedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, status, reason } = self;
        write!(f, "{call} answered {status}: {reason}")
    }
}

impl std::error::Error for RefusedCall {}

/// The body of a refusal.
#[derive(Deserialize)]
struct Reason {
    error: String,
}

/// A dashboard, by its URL.
#[derive(Clone, Debug)]
pub struct DashboardClient {
    agent: Agent,
    url: String,
    token: Option<String>,
    /// When each call has to be over.
    deadline: Option<Instant>,
}

impl DashboardClient {
    /// The dashboard at `http://host:port`, and its token for writes, or for reads. Nothing is asked of it yet.
    pub fn new(url: &str, token: Option<String>) -> Self {
        Self::with_tls(url, token, TlsConfig::new())
    }

    /// The same, or one at `https://host:port`, behind a proxy, perhaps with a path: which must prove to be as `tls` says
    /// before it is told anything.
    pub fn with_tls(url: &str, token: Option<String>, tls: TlsConfig) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A dashboard on this machine is not behind the proxy that $HTTP_PROXY names.
            .proxy(None)
            // Another address must be trusted by whoever gives it, not by who answers.
            .max_redirects(0)
            // Sooner than the dashboard, which waits 15 s for the next request.
            .max_idle_age(IDLE_MAX)
            .build();
        let agent = nsq_protocol::http_agent(config, tls);
        Self { agent, url: url.trim_end_matches('/').to_owned(), token, deadline: None }
    }

    /// From now on each call must be over by then.
    pub fn hurry(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// How long a call may take that may take `longest`; never nothing, which would be no limit.
    fn within(&self, longest: Duration) -> Option<Duration> {
        let left = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        Some(left.map_or(longest, |left| left.min(longest)).max(Duration::from_millis(1)))
    }

    /// The dashboard's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Posts `body` as JSON. Returns the id of the dashboard's database, which is another one once it was reset.
    ///
    /// # Errors
    /// When the dashboard cannot be reached, or its status is no success; with its reason.
    pub fn post(&self, path: &str, body: &impl Serialize) -> Result<Option<Uuid>> {
        let answer = self.post_for_answer(path, body)?;
        Ok(serde_json::from_str(&answer).ok().map(|Written { dashboard, .. }| dashboard))
    }

    /// Tells which plays are counted. Returns the id of the dashboard's database, and of each producer, below which number all
    /// are, by whomever; nothing where the dashboard does not say so.
    ///
    /// # Errors
    /// As [`DashboardClient::post`].
    pub fn confirm(&self, update: &ConfirmedUpdate) -> Result<(Option<Uuid>, Vec<u64>)> {
        let answer = self.post_for_answer("/api/confirmed", update)?;
        let taken: Option<ConfirmedTaken> = serde_json::from_str(&answer).ok();
        let told = |taken: ConfirmedTaken| (Some(taken.written.dashboard), taken.watermarks);
        Ok(taken.map_or_else(Default::default, told))
    }

    /// Puts `body` as JSON.
    ///
    /// # Errors
    /// As [`DashboardClient::post`].
    pub fn put(&self, path: &str, body: &impl Serialize) -> Result<()> {
        let request = self.json_request(self.agent.put(format!("{}{path}", self.url)));
        self.check(path, request.send(serde_json::to_vec(body)?)).map(drop)
    }

    /// The answer to a call that changes nothing.
    ///
    /// # Errors
    /// As [`DashboardClient::post`]; and when the answer is not what was asked for.
    pub fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let request = self.get_request(path).config();
        let request = request.timeout_global(self.within(TIMEOUT)).build();
        let answer = self.check(path, request.call())?;
        let url = &self.url;
        serde_json::from_str(&answer)
            .with_context(|| format!("{url}{path} gave an answer that cannot be understood"))
    }

    /// What a call sends piece by piece. It may take an hour; a cut in it is an error of the reader.
    ///
    /// # Errors
    /// As [`DashboardClient::post`].
    pub fn download(&self, path: &str) -> Result<impl Read + use<>> {
        let request = self.get_request(path).config();
        let request = request.timeout_connect(Some(TIMEOUT)).timeout_recv_response(Some(TIMEOUT));
        match request.timeout_recv_body(Some(DOWNLOAD_MAX)).build().call() {
            Ok(response) if response.status().is_success() => {
                Ok(response.into_body().into_reader())
            }
            other => {
                self.check(path, other)?;
                bail!("{}{path} gave an answer that cannot be understood", self.url)
            }
        }
    }

    fn post_for_answer(&self, path: &str, body: &impl Serialize) -> Result<String> {
        self.check(path, self.post_request(path).send(serde_json::to_vec(body)?))
    }

    fn get_request(&self, path: &str) -> RequestBuilder<WithoutBody> {
        self.with_token(self.agent.get(format!("{}{path}", self.url)))
    }

    /// A request to post JSON.
    fn post_request(&self, path: &str) -> RequestBuilder<WithBody> {
        self.json_request(self.agent.post(format!("{}{path}", self.url)))
    }

    fn json_request(&self, request: RequestBuilder<WithBody>) -> RequestBuilder<WithBody> {
        let request = request
            .header("Content-Type", "application/json")
            .config()
            .timeout_global(self.within(TIMEOUT))
            .build();
        self.with_token(request)
    }

    fn with_token<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// Says which ledger a processor counts in; waits at most `timeout` for the answer.
    ///
    /// # Errors
    /// As [`DashboardClient::post`], but for what is in the answer.
    pub fn claim(&self, claim: &LedgerClaim, timeout: Duration) -> Result<ClaimAnswer> {
        let path = "/api/ledgers";
        let request = self.post_request(path).config().timeout_global(self.within(timeout)).build();
        let response = request.send(serde_json::to_vec(claim)?);
        match self.check(path, response) {
            Ok(answer) => {
                let Written { dashboard, .. } =
                    serde_json::from_str(&answer).with_context(|| {
                        format!("{}{path} gave an answer that cannot be understood", self.url)
                    })?;
                Ok(ClaimAnswer::Taken(dashboard))
            }
            Err(error) => match error.downcast::<RefusedCall>() {
                Ok(RefusedCall { status, reason, .. }) if status == CONFLICT => {
                    Ok(ClaimAnswer::Older(reason))
                }
                Ok(RefusedCall { status, .. }) if status == NOT_FOUND => Ok(ClaimAnswer::NotAsked),
                Ok(other) => Err(other.into()),
                Err(error) => Err(error),
            },
        }
    }

    /// Asks which plays of a producer are counted for good, and says how many are in its outbox.
    ///
    /// # Errors
    /// As [`DashboardClient::post`]; and when the answer is none.
    pub fn confirmed(&self, producer: &Uuid, figures: OutboxFigures) -> Result<ConfirmedAnswer> {
        let OutboxFigures { plays, foreign } = figures;
        let mut path = format!("/api/confirmed?producer={producer}&outbox={plays}");
        if foreign > 0 {
            path.push_str(&format!("&foreign={foreign}"));
        }
        self.read(&path)
    }

    /// Asks whether it is well; waits at most `timeout` for the answer.
    ///
    /// # Errors
    /// As [`DashboardClient::post`]: it is not, and why.
    pub fn health(&self, timeout: Duration) -> Result<()> {
        let path = "/healthz";
        let request = self.get_request(path).config();
        self.check(path, request.timeout_global(self.within(timeout)).build().call()).map(drop)
    }

    /// Throws away all counts.
    ///
    /// # Errors
    /// As [`DashboardClient::post`].
    pub fn clear(&self) -> Result<()> {
        self.delete("/api/counts")
    }

    /// Takes away what is at `path`.
    ///
    /// # Errors
    /// As [`DashboardClient::post`].
    pub fn delete(&self, path: &str) -> Result<()> {
        let request = self.agent.delete(format!("{}{path}", self.url)).config();
        let request: RequestBuilder<WithoutBody> =
            request.timeout_global(self.within(TIMEOUT)).build();
        self.check(path, self.with_token(request).call()).map(drop)
    }

    /// The body of an answer that is a success.
    fn check(&self, path: &str, response: Result<Response<Body>, ureq::Error>) -> Result<String> {
        let url = &self.url;
        let mut response = response.map_err(|error| unreachable(url, error))?;
        let status = response.status();
        let location = response.headers().get("Location").and_then(|to| to.to_str().ok());
        if let Some(to) = location.filter(|_| status.is_redirection()) {
            let to: String = to.trim_end_matches(path).chars().take(MAX_QUOTE).collect();
            bail!("no dashboard at {url}: it sends to {to}; give that as --dashboard-url");
        }
        let text = response.body_mut().with_config().limit(ANSWER_MAX).read_to_string();
        if status.is_success() {
            return text.with_context(|| format!("{url}{path} broke off its answer"));
        }
        let text = text.unwrap_or_default();
        if status == BAD_REQUEST
            && is_plain(url)
            && PLAIN_ON_HTTPS.iter().any(|of| text.contains(of))
        {
            bail!("no dashboard at {url}{WANTS_TLS}");
        }
        let reason = serde_json::from_str(&text).map_or(text, |Reason { error }| error);
        let reason: String = reason.chars().take(MAX_QUOTE).collect();
        // Of every write the same is said where the token is not right.
        let (call, reason) = match (status, &self.token) {
            (UNAUTHORIZED, None) if reason.contains(PRIVATE) => {
                (url.clone(), NO_READ_TOKEN.to_owned())
            }
            (UNAUTHORIZED, Some(_)) if reason.contains(PRIVATE) => {
                (url.clone(), WRONG_READ_TOKEN.to_owned())
            }
            (UNAUTHORIZED, None) => (url.clone(), NO_TOKEN.to_owned()),
            (UNAUTHORIZED, Some(_)) => (url.clone(), WRONG_TOKEN.to_owned()),
            _ => (format!("{url}{path}"), reason),
        };
        Err(RefusedCall { call, status, reason }.into())
    }
}

fn is_plain(url: &str) -> bool {
    url.starts_with("http://")
}

/// Why there was no answer, and what to do about it.
fn unreachable(url: &str, error: ureq::Error) -> anyhow::Error {
    let what = match tls_fault(&error) {
        Some(TlsFault::Untrusted) => format!(
            "the dashboard at {url} is not trusted: --dashboard-ca names the file of the authority that signed its certificate"
        ),
        Some(TlsFault::WrongName) => format!(
            "the certificate at {url} has another name: give --dashboard-url with the name that it has"
        ),
        Some(TlsFault::NotTls) => {
            format!(
                "no dashboard at {url}: it speaks no TLS there; give --dashboard-url as http://"
            )
        }
        Some(fault) => format!("TLS with the dashboard at {url} failed{}", fault.hint()),
        // An alert of TLS, which is no HTTP.
        None if is_plain(url) && matches!(error, ureq::Error::Protocol(_)) => {
            let what = format!("no dashboard at {url}{WANTS_TLS} if it is a port for that");
            return anyhow::Error::new(error).context(what);
        }
        None => return anyhow::Error::new(error).context(format!("no dashboard at {url}")),
    };
    anyhow::Error::new(error.into_io()).context(what)
}
