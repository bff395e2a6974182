//! What users start and call: the consumer, the producer, nsqlookupd, nsqd's HTTP API, and their settings.
//!
//! Imports from `io`, `flow` and `codec`; the consumer and the producer do not know each other.

#[cfg(feature = "http")]
pub(crate) mod admin;
pub(crate) mod clock;
mod config_file;
pub(crate) mod consumer;
pub(crate) mod event;
#[cfg_attr(
    not(feature = "http"),
    allow(dead_code, unreachable_pub, reason = "no nsqlookupd can be given")
)]
pub(crate) mod lookup;
pub(crate) mod options;
pub(crate) mod producer;
#[cfg(feature = "tracing")]
pub(crate) mod span;
mod unwind;
