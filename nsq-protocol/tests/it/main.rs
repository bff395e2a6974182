//! What needs a socket: the client against a scripted peer and against a real nsqd.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test helpers fail by panicking, and say why"
)]

mod admin;
mod consumer;
mod examples;
mod faults;
mod nsqd;
mod producer;
mod proxy;
mod round_trip;
mod script;
mod seeds;
mod threads;
