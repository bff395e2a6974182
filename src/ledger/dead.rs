//! What processors of a shared ledger have left that are gone, and how far it was told (pure).

use uuid::Uuid;

use crate::model::video::VideoState;

/// What a processor of a shared ledger has left that is gone: another one publishes it under its id.
#[derive(Clone, Debug)]
pub struct DeadLedger {
    /// Whose counts they are.
    pub processor: Uuid,
    /// The versions of the messages begin above this one.
    pub first_version: u64,
    /// Every video that it has counted.
    pub videos: Vec<VideoState>,
}

/// What dashboards were told of what a dead processor has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldOfLedger {
    /// Whose counts they are.
    pub processor: Uuid,
    /// The databases that have all.
    pub databases: Vec<Uuid>,
    /// No dashboard is to be told more.
    pub is_done: bool,
}

/// Whose counts are to be published besides the own ones.
#[derive(Debug, Default)]
pub struct DeadLedgers {
    /// From now on.
    pub begun: Vec<DeadLedger>,
    /// No more: by their ids.
    pub ended: Vec<Uuid>,
}
