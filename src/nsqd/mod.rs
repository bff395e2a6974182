//! A real nsqd: as a child process, and its topic over its HTTP API.

pub mod child;
pub mod topic;
