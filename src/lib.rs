//! Counts video plays from an NSQ queue and shows them live. The rooms, floor by floor, from the door down: each imports
//! from lower floors only, and `scripts/tidy` checks it.

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
