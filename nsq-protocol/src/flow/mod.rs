//! How many messages may flow, and when they stop: what is decided, not what is done about it.

pub(crate) mod backoff;
pub(crate) mod budget;
pub(crate) mod pace;
pub(crate) mod policy;
pub(crate) mod rdy;
pub(crate) mod retry;
pub(crate) mod touch;
