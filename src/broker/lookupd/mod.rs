//! Registration with nsqlookupds, each on a thread of its own, and the question which channels a new topic has.
//!
//! `wire` is the protocol, pure; `peer` one connection; `register` the thread of one nsqlookupd, which has a `link` to the
//! others; `registry` all of them. What is created and deleted comes from the core's effects; a thread says what there is, not
//! what happened, so that nothing depends on the order.

mod link;
mod peer;
pub(super) mod register;
pub(super) mod registry;
pub(super) mod wire;
