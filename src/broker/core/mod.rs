//! The broker's state: topics, channels, clients, what is in flight, and how much memory it takes (pure).
//!
//! Monotonic time and wall-clock time are arguments. What must happen outside, such as waking a connection,
//! collects in [`Effects`]; the owner takes them with [`Core::take_effects`] and carries them out once it has
//! let go of its lock on the core.
//!
//! Delivery is pull: [`Core::pull`] gives a consumer what it may have, and what it gave is in flight. A
//! consumer that was told to pull is `awake` until a pull finds nothing for it; one that was ready in vain is
//! in_idle in its channel's `idle`. So a publish wakes as many idle consumers as it has messages and nobody
//! twice.

mod admin;
mod backlog;
mod batch;
mod bench;
mod channel;
mod client;
mod connections;
mod cost;
mod deadlines;
mod deliver;
mod effects;
mod ephemeral;
mod finish;
mod ids;
mod in_flight;
mod kept;
mod kept_channel;
mod latency;
mod limits;
mod load;
mod publish;
mod queue;
mod registration;
mod saved;
mod state;
mod stats;
mod stragglers;
mod timeouts;
mod topic;
mod wake;

#[cfg(test)]
mod kept_tests;
#[cfg(test)]
mod tests;

pub(super) use admin::Missing;
pub(super) use backlog::{LoadedRun, Moment};
pub(super) use batch::NewBatch;
pub(super) use bench::bench;
pub(super) use client::{Identity, TlsFacts, Upgraded};
pub(super) use effects::{Effects, Registration, RegistrationChange};
pub(super) use ids::{ClientId, NumberMap, first_id};
pub(super) use in_flight::InFlightError;
pub(super) use kept::{KeptRun, TopicChanges};
pub(super) use limits::LimitError;
pub(super) use load::{LoadPlan, Loaded};
pub(super) use saved::{Exception, SavedChannel, SavedStraggler, SavedTopic};
pub(super) use state::Core;
