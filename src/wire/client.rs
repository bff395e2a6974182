//! Calls to a running dashboard over HTTP. Blocks the calling thread, at most 10 s a call.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use ureq::http::Response;
use ureq::{Agent, Body};
use uuid::Uuid;

use super::confirmed::{ConfirmedAnswer, ConfirmedTaken, ConfirmedUpdate, OutboxFigures};
use super::written::Written;

/// The longest one call may take, from the connect to the end of the answer. It is a commit of 20 rows.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection is kept for the next call.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// The most of the dashboard's error that is quoted, in characters.
const MAX_QUOTE: usize = 200;

/// A dashboard, by its URL.
#[derive(Debug)]
pub struct DashboardClient {
    agent: Agent,
    url: String,
    token: Option<String>,
}

impl DashboardClient {
    /// The dashboard at `http://host:port`, and its token for writes. Nothing is asked of it yet.
    pub fn new(url: &str, token: Option<String>) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // A dashboard on this machine is not behind the proxy that $HTTP_PROXY names.
            .proxy(None)
            // Sooner than the dashboard, which waits 15 s for the next request.
            .max_idle_age(IDLE_MAX)
            .build();
        let agent = nsq_protocol::http_agent(config);
        Self { agent, url: url.trim_end_matches('/').to_owned(), token }
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

    /// Tells which plays are counted. Returns, of each producer, below which number all are, by whomever; nothing where the
    /// dashboard does not say so.
    ///
    /// # Errors
    /// As [`DashboardClient::post`].
    pub fn confirm(&self, update: &ConfirmedUpdate) -> Result<Vec<u64>> {
        let answer = self.post_for_answer("/api/confirmed", update)?;
        let taken: Option<ConfirmedTaken> = serde_json::from_str(&answer).ok();
        Ok(taken.map(|taken| taken.watermarks).unwrap_or_default())
    }

    fn post_for_answer(&self, path: &str, body: &impl Serialize) -> Result<String> {
        let mut request = self
            .agent
            .post(format!("{}{path}", self.url))
            .header("Content-Type", "application/json")
            .header("Connection", "keep-alive");
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        self.check(path, request.send(serde_json::to_vec(body)?))
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
        let answer = self.check(&path, self.agent.get(format!("{}{path}", self.url)).call())?;
        serde_json::from_str(&answer)
            .with_context(|| format!("{}{path} answered what is no confirmation", self.url))
    }

    /// Throws away all counts.
    ///
    /// # Errors
    /// As [`DashboardClient::post`].
    pub fn clear(&self) -> Result<()> {
        let path = "/api/counts";
        let mut request = self.agent.delete(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        self.check(path, request.call()).map(drop)
    }

    /// The body of an answer that is a success.
    fn check(&self, path: &str, response: Result<Response<Body>, ureq::Error>) -> Result<String> {
        let mut response = response.with_context(|| format!("no dashboard at {}", self.url))?;
        let status = response.status();
        let text = response.body_mut().read_to_string().unwrap_or_default();
        if status.is_success() {
            return Ok(text);
        }
        let text: String = text.chars().take(MAX_QUOTE).collect();
        bail!("{}{path} answered {status}: {text}", self.url);
    }
}
