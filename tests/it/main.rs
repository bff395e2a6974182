//! Integration tests: everything with a socket, one binary, one link.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod dashboard;
mod dashboard_support;
mod http;
mod page;
