//! What stands in the place of requests to nsqlookupds where the feature `http` is off: each is refused.

use std::io;
use std::sync::Arc;

use crate::client::lookup::config::LookupConfig;
use crate::error::Error;

/// In the place of the HTTP client.
#[derive(Clone)]
pub(super) struct Agent;

impl Agent {
    /// There is no request to end.
    pub(super) fn shutdown(&self) {}
}

pub(super) fn agent(_: &LookupConfig, _: &str) -> Agent {
    Agent
}

pub(super) fn no_answer(address: &str, reason: &str) -> Error {
    let source = io::Error::new(io::ErrorKind::InvalidData, reason);
    Error::Lookup { lookupd: address.to_owned(), source: Arc::new(source) }
}

pub(super) fn get(
    _: &Agent,
    address: &str,
    _: &str,
    _: &[(&str, &str)],
) -> Result<(u16, Vec<u8>), Error> {
    Err(no_answer(address, "nsq-protocol is built without its feature `http`"))
}
