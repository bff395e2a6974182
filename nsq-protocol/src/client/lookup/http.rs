//! Requests to nsqlookupds over HTTP. Runs on the thread that asks.

use std::io;
use std::sync::Arc;

use crate::client::lookup::config::{LookupConfig, base_url};
use crate::error::Error;
use crate::io::config::FOREVER;
use crate::io::http_agent::http_agent;
use crate::io::http_tls::tls_fault;

/// The largest answer that is read, bytes: about 80,000 nsqds. What is longer is no answer.
const MAX_ANSWER: u64 = 16 << 20;

pub(super) use ureq::Agent;

/// The HTTP client that the configuration asks for.
pub(super) fn agent(settings: &LookupConfig, user_agent: &str) -> Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(FOREVER.min(settings.request_timeout)))
        .timeout_connect(Some(FOREVER.min(settings.connect_timeout)))
        .http_status_as_error(false)
        // nsqlookupd is inside; a proxy of the environment is for what is outside.
        .proxy(None)
        .max_redirects(0)
        .user_agent(user_agent)
        .build();
    http_agent(config, settings.tls.clone())
}

fn failed(address: &str, source: io::Error) -> Error {
    Error::Lookup { lookupd: address.to_owned(), source: Arc::new(source) }
}

/// The error for a request that did not work.
fn broken(address: &str, error: ureq::Error) -> Error {
    let Some(fault) = tls_fault(&error) else { return failed(address, error.into_io()) };
    let source = Arc::new(error.into_io());
    Error::Tls { addr: address.to_owned(), hint: fault.hint(), source }
}

/// The error for an answer that is none.
pub(super) fn no_answer(address: &str, reason: &str) -> Error {
    let hint = "is it nsqlookupd's HTTP port, 4161 by default?";
    failed(address, io::Error::new(io::ErrorKind::InvalidData, format!("{reason}; {hint}")))
}

/// One request: the status, and at most [`MAX_ANSWER`] bytes of body.
pub(super) fn get(
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
pub(super) fn post(
    agent: &ureq::Agent,
    address: &str,
    path: &str,
    query: &[(&str, &str)],
) -> Result<(u16, Vec<u8>), Error> {
    let request = agent.post(url(address, path)?);
    read(address, request.query_pairs(query.iter().copied()).send_empty())
}

fn url(address: &str, path: &str) -> Result<String, Error> {
    let no_address = || io::Error::new(io::ErrorKind::InvalidInput, "it is not host:port");
    let base = base_url(address).ok_or_else(|| failed(address, no_address()))?;
    Ok(format!("{base}{path}"))
}

fn read(
    address: &str,
    sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<(u16, Vec<u8>), Error> {
    let mut response = sent.map_err(|error| broken(address, error))?;
    let status = response.status().as_u16();
    match response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec() {
        Ok(body) => Ok((status, body)),
        Err(ureq::Error::BodyExceedsLimit(limit)) => {
            let what = format!("an answer over the limit of {limit} bytes");
            Err(failed(address, io::Error::new(io::ErrorKind::InvalidData, what)))
        }
        Err(error) => Err(broken(address, error)),
    }
}
