//! A real nsqd: as a child process, and its queue over its HTTP API.

pub mod child;
pub mod depth;
pub mod queue;
