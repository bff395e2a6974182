//! nsqlookupd's HTTP API: which nsqds there are, and which have a topic.

pub(crate) mod config;
mod http;
pub(crate) mod nodes;
pub(crate) mod poll;
pub(crate) mod response;
