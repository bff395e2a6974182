//! What needs a socket: the client against a scripted peer and against a real nsqd.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test helpers fail by panicking, and say why"
)]

mod admin;
mod api;
mod auth;
mod certs;
mod compression;
mod consumer;
mod control;
mod events;
mod examples;
mod fake_lookupd;
mod fallible;
mod faults;
mod features;
mod finding;
mod flow;
mod gathering;
mod https;
mod limits;
mod logged;
mod lookup;
mod lookup_real;
mod nsqd;
mod nsqlookupd;
mod oversized;
mod producer;
mod proxy;
mod readme;
mod refused;
mod round_trip;
mod script;
mod seeds;
mod spans;
mod stop;
mod testing;
mod threads;
mod timing;
mod tls_proxy;
mod together;
mod upgrade;
mod workers;
