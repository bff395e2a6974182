//! Integration tests: everything with a socket, one binary, one link.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod broker_compat;
mod broker_hostile;
mod broker_support;
mod dashboard;
mod dashboard_support;
mod http;
#[path = "../../nsq-protocol/tests/it/nsqd.rs"]
mod nsqd;
mod page;
