//! What every ledger does, wherever it keeps the counts. Threads share it behind a lock.

use std::time::Instant;

use anyhow::Result;
use uuid::Uuid;

use super::commit::{Arrivals, Committed};
use super::counters::Counters;
use crate::model::video::{VideoCount, VideoState};
use crate::wire::{Confirmed, ProducerConfirmed};

/// Whether commits come by, which take a checkpoint's next slice with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitTraffic {
    /// One is being made, or waits.
    Busy,
    /// None does.
    Idle,
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

    /// Does a bounded part of the checkpoint that is due; when to come again. While commits come by, what can wait for
    /// the next of them waits.
    ///
    /// # Errors
    /// As [`Ledger::commit`].
    fn checkpoint(&mut self, now: Instant, traffic: CommitTraffic) -> Result<Instant>;

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
