//! A real nsqd: where it listens, as a child process, and its topic over its HTTP API.

pub(crate) mod addresses;
pub(crate) mod child;
pub(crate) mod topic;
