//! nsqlookupd's HTTP API.

pub(crate) mod poll;
