//! A processor, as the diagnosis sees it (pure).

use crate::model::unix_time::UnixMs;
use crate::wire::{ArrivalFigures, ConsumerFigures, LedgerStatus, ProcessorEnding};

/// A processor that has not been heard for so long does not count.
pub(super) const SILENT_MS: u64 = 10_000;

/// A processor, as the diagnosis sees it.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    /// Its UUID.
    pub(crate) id: String,
    /// How long ago it was heard.
    pub(crate) silent_ms: u64,
    /// How it has ended, and when, if it has said that it does.
    pub(crate) ended: Option<(ProcessorEnding, UnixMs)>,
    /// Why it has stopped counting, if it has.
    pub(crate) failure: Option<String>,
    /// Plays that it counts a second.
    pub(crate) per_second: f64,
    /// What it said of its connections.
    pub(crate) consumer: Option<ConsumerFigures>,
    /// What it said of the plays and messages that came.
    pub(crate) arrivals: Option<ArrivalFigures>,
    /// What it says of the ledger that it shares, if it does so now.
    pub(crate) ledger: Option<LedgerStatus>,
}
