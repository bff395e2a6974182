//! Helpers for the tests of those who use this crate; with the feature `test-util`.
//!
//! - [`TestDelivery`]: a message for a handler, without an nsqd, and the answer that it got.
//! - [`ScriptedNsqd`]: an nsqd on a port of its own that a test drives step by step, for what a real one does not do at
//!   will: refusals, broken frames, connections that end.
//!
//! What they are told and tell is what goes over the wire: nothing of the client is replaced. They panic where an
//! expectation fails, which is what a test wants.
//!
//! ```toml
//! [dev-dependencies]
//! nsq-protocol = { version = "0", features = ["test-util"] }
//! ```

// What a test calls fails by panicking, and says why.
#![allow(clippy::unwrap_used, reason = "for tests, which fail by panicking")]

mod delivery;
mod nsqd;

pub use delivery::{DeliveryWatch, TestAnswer, TestDelivery};
pub use nsqd::{ScriptedConnection, ScriptedNsqd};
