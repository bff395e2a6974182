//! A real nsqd: where it listens, as a child process, its topic over its HTTP API, and how deep a queue is.

pub(crate) mod addresses;
pub(crate) mod child;
pub mod depth;
pub(crate) mod topic;
