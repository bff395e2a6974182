//! Counts video plays from an NSQ queue and shows them live. The rooms, from the door down; each imports from those
//! below it only.

pub mod command;

pub mod broker;
pub mod dashboard;
pub mod processor;
pub mod producer;

pub mod ledger;
pub mod nsqd;

pub mod http;
pub mod storage;
pub mod wire;

pub mod runtime;

pub mod model;
