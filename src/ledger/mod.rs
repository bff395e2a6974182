//! What makes counts exact: the counts and the set of plays that are in them, made durable together.
//!
//! A [`Ledger`] takes what arrived, counts what is new, and returns when that is durable; only then are the messages
//! finished, the counts shown and the producers told. [`SqliteLedger`] keeps it in the data directory; [`MemoryLedger`]
//! nowhere, to measure what durability costs. `dedupe`, `seq_set`, `record` and `state` are pure.

mod dead_letters;
mod dedupe;
mod integrity;
mod memory;
#[cfg(test)]
mod model;
mod record;
mod sqlite;
mod state;

use std::time::Instant;

use anyhow::Result;
use nsq_protocol::MessageId;
use uuid::Uuid;

use crate::model::config::Durability;
use crate::model::play::{Play, Rejection};
use crate::model::video::{VideoCount, VideoState};
use crate::wire::{Confirmed, ProducerConfirmed};

pub use dead_letters::{DEAD_LETTERS_MAX, SavedDeadLetter, dead_letters};
pub use dedupe::{Dedupe, Learned, MessageKey, Seen};
pub use integrity::IntegrityCheck;
pub use memory::MemoryLedger;
pub use record::{Counters, Damaged, Delta, Record};
pub use sqlite::{LedgerConfig, Snapshot, SqliteLedger, exists, read, remove};
pub use state::VideoDelta;

/// What one batch of messages brought.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// The nsqd it came from: [`fnv1a`](crate::model::hash::fnv1a) of its address.
    pub nsqd: u64,
    /// The plays, each with its message's ID.
    pub plays: Vec<(Play, MessageId)>,
    /// The bodies that are none.
    pub rejected: Vec<DeadLetter>,
}

/// A body that is no play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The address of the nsqd it came from.
    pub nsqd: String,
    /// Its message's ID there.
    pub message: MessageId,
    /// Why it is none.
    pub reason: Rejection,
    /// The body, whole.
    pub body: Vec<u8>,
}

/// What a commit has counted.
#[derive(Debug)]
pub struct Committed {
    /// By outcome, in this commit.
    pub counters: Counters,
    /// By how much each video has video_deltas.
    pub video_deltas: Vec<VideoDelta>,
}

/// Opens the ledger of a data directory with the durability that is wanted.
///
/// # Errors
/// As [`SqliteLedger::open`].
pub fn open(config: &LedgerConfig, durability: Durability) -> Result<Box<dyn Ledger>> {
    Ok(match durability {
        Durability::None => Box::new(MemoryLedger::new()),
        Durability::Process | Durability::Power => {
            Box::new(SqliteLedger::open(config, durability.synchronous())?)
        }
    })
}

/// The counts, durable. One thread commits; the publisher asks in between.
pub trait Ledger: Send {
    /// Whose counts these are: the processor's id at the dashboard, the same for the ledger's whole life.
    fn processor(&self) -> Uuid;

    /// The version of the first message to the dashboard: higher than any of an earlier start.
    fn first_version(&self) -> u64;

    /// By outcome, since the ledger was made.
    fn counters(&self) -> Counters;

    /// Every video as it stands.
    fn videos(&self) -> Vec<VideoState>;

    /// Counts what was not counted before, and returns when it is durable. Leaves the counted plays and the new dead
    /// letters in `arrivals`.
    ///
    /// # Errors
    /// When it cannot be made durable. Then nothing more can be committed: what is in memory is ahead of the disk.
    fn commit(&mut self, arrivals: &mut [Arrivals]) -> Result<Committed>;

    /// Does a bounded part of the upkeep that is due; when to come again. What can wait for the next commit waits
    /// unless `idle`.
    ///
    /// # Errors
    /// As [`Ledger::commit`].
    fn checkpoint(&mut self, now: Instant, idle: bool) -> Result<Instant>;

    /// The dashboard has taken these counts.
    fn published(&mut self, counts: &[VideoCount]);

    /// The dashboard's database has this id. True if it is another one than before, which has been told of nothing.
    ///
    /// # Errors
    /// As [`Ledger::commit`].
    fn publishes_to(&mut self, dashboard: Uuid) -> Result<bool>;

    /// Which plays of a producer are counted.
    fn confirmed(&self, producer: &Uuid) -> Confirmed;

    /// At most `limit` producers with more plays counted than was told.
    fn take_unreported(&mut self, limit: usize) -> Vec<ProducerConfirmed>;

    /// These could not be told: they come again.
    fn put_back_unreported(&mut self, producers: &[ProducerConfirmed]);

    /// Records that no checkpoint has taken into the tables, and bytes of its files; `None` for one that has no file.
    fn size(&self) -> Option<(u64, u64)>;

    /// Writes down what is only of use to the next start. No commit may follow.
    ///
    /// # Errors
    /// As [`Ledger::commit`]; the counts are safe all the same.
    fn close(&mut self) -> Result<()>;
}
