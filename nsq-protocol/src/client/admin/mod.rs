//! nsqd's HTTP API.

pub(crate) mod api;
pub(crate) mod stats;
