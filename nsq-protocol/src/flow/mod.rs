//! How many messages may flow, and when they stop: what is decided, not what is done about it (pure).
//!
//! | file | what it decides |
//! |---|---|
//! | `rdy` | how `max_in_flight` is shared by the connections |
//! | `pace` | how many messages one connection can use |
//! | `backoff` | when failures of the handlers stop the flow, and how it comes back |
//! | `budget` | `rdy` and `backoff` together, for one consumer |
//! | `touch` | which held messages are touched, and when |
//! | `retry` | how long to wait before the next attempt of anything |
//! | `policy` | what a user chooses of it, and is told of it |
//!
//! Moments and random numbers are arguments. Imports from `codec` only.

pub(crate) mod backoff;
pub(crate) mod budget;
pub(crate) mod pace;
pub(crate) mod policy;
pub(crate) mod rdy;
pub(crate) mod retry;
pub(crate) mod touch;
