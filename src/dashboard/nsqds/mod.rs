//! The nsqds in use: what they hold, why nothing may be moving, and the few things that can be done to them.
//!
//! `asker` has the threads that ask; calls are answered from what was heard last, which `watch` has and `state` keeps.
//! `figures` makes that fit to be shown, `show` shows it, `diagnosis` says why nothing moves, `actions` does what is
//! asked for, `peek` shows messages that pass by.

mod actions;
mod asker;
mod diagnosis;
mod figures;
mod peek;
mod rivals;
mod show;
mod state;
mod watch;

#[cfg(test)]
mod tests;

pub(super) use actions::{ActionError, ActionRequest};
pub(super) use diagnosis::{
    CountedTold, Finding, Heartbeat, LapsedProcessor, NOTHING_COUNTED, Severity, ledger_faults,
};
pub(super) use peek::PeekRequest;
pub(super) use rivals::{TWO_LEDGERS, TWO_LEDGERS_WAY_OUT};
pub use state::WatchedQueue;
pub(super) use state::{Alert, Depth};
pub(super) use watch::Watch;
