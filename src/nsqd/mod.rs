//! A real nsqd: where it listens, as a child process, its topic over its HTTP API, how deep a queue is, who consumes it, whom
//! HTTP APIs must prove to be, and
//! waiting for one that is not there.

pub(crate) mod addresses;
pub(crate) mod child;
pub(crate) mod consumers;
pub mod depth;
pub mod http_tls;
pub mod neighbours;
pub mod tied;
pub(crate) mod topic;
pub mod waiting;
