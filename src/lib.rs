//! Counts video plays from an NSQ queue, each one once, and shows them live. What it is made of stands
//! here for its tests, benches and examples; the program itself is [`command`].
//!
//! # How it fits together
//! ```text
//!  producer ─▶ nsqd, or broker ─▶ processor ─▶ dashboard ─▶ browsers
//!  plays as    a queue            decodes,     keeps every
//!  JSON                           counts in    count, serves
//!    │                            a ledger     pages and JSON
//!    └── outbox: until a ledger holds them ◀── which plays are counted
//! ```
//! A play is counted in the commit that makes it durable in a [`ledger`], by the identity that it carries, and its message is
//! finished after that. Counts go to a [`dashboard`] as absolute numbers, so that repeats change nothing. [`journal`] is the
//! log of commits below ledger, outbox and dashboard.
//!
//! # The rooms
//! Floor by floor, from the door down: each imports from lower floors only, and `scripts/tidy` checks it. ARCHITECTURE.md
//! tells what each does and what it never does.

pub mod command;

pub mod broker;
pub mod dashboard;
pub mod processor;

pub mod http;
pub mod journal;
pub mod ledger;
pub mod producer;

pub mod runtime;
pub mod wire;

pub mod model;
pub mod nsqd;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod storage;
