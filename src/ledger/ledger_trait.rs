//! What every ledger does, wherever it keeps the counts. Threads share it behind a lock.

use std::time::Instant;

use anyhow::Result;
use uuid::Uuid;

use super::commit::{Arrivals, Committed};
use super::counters::Counters;
use super::dedupe::CrowdedProducer;
use super::message_window::MessageWindowSize;
use super::upkeep::{LedgerUpkeep, LedgerUpkept};
use crate::model::dashboard_index::DashboardIndex;
use crate::model::video::{VideoCount, VideoState};
use crate::wire::{Confirmed, ProducerConfirmed};

/// Messages in one commit, at most, where the ledger says nothing else; and one batch more. A slow disk is worked off in large
/// commits, and none takes so long that the others wait for it to be felt.
const GROUP_MAX: usize = 10_000;

/// The ledger is where it cannot be reached now, such as a database that is down: nothing was counted, and the same may be tried
/// again. In an [`anyhow::Error`] it is found by [`LedgerAway::of`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LedgerAway(String);

impl LedgerAway {
    /// For that reason, which is one line: what is away, and what to do.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// Why, in one line, if that is what the error says, whatever was said before it.
    pub fn of(error: &anyhow::Error) -> Option<String> {
        error.downcast_ref::<Self>().map(|_| format!("{error:#}"))
    }
}

/// Another processor has taken over what this one counted under: its commits are refused from now on, and what they would have
/// counted goes to others. It may start anew, and is another one then, or the same again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this processor was away for longer than its lease, and another one has taken over its part of the shared ledger"
)]
pub struct LedgerFenced;

/// When to ask for the next upkeep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextUpkeep {
    /// At once: commits wait for it.
    Now,
    /// Soon: a checkpoint goes on.
    Soon,
    /// In about a second.
    Later,
}

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

/// How large a ledger is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerSize {
    /// Frames of the journal that no checkpoint has taken into the tables.
    pub unswept: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes that a crash had left unfinished, and that this start has cut off.
    pub cut_bytes: u64,
    /// What came since the start of producers whose numbers have too many holes.
    pub crowded: Option<CrowdedProducer>,
}

/// The counts, durable. One thread commits; the publishers, one for each dashboard, ask in between.
pub trait Ledger: Send {
    /// Whose counts these are: the processor's id at the dashboard, the same for the ledger's whole life.
    fn processor(&self) -> Uuid;

    /// Drawn when its files were made: a copy that was put back has another.
    fn life(&self) -> Uuid;

    /// By what processors on one channel tell whether they count in one ledger: two that differ must not be on it together.
    fn on_channel(&self) -> Uuid {
        self.processor()
    }

    /// The version of the first message to the dashboard: higher than any of an earlier start.
    fn first_version(&self) -> u64;

    /// By outcome, since the ledger was made.
    fn counters(&self) -> Counters;

    /// Every video as it stands.
    fn videos(&self) -> Vec<VideoState>;

    /// Messages in one commit, at most; and one batch more. Asked once, when the ledger is taken over.
    fn group_max(&self) -> usize {
        GROUP_MAX
    }

    /// Counts what was not counted before, and returns when it is durable. Leaves the counted plays and the new dead
    /// letters in `arrivals`.
    ///
    /// # Errors
    /// [`LedgerAway`]: `arrivals` and the counts are as they were before. Whether the commit took place need not be known: the
    /// next call brings the same arrivals, or none follows. Any other error: it cannot be made durable, and nothing more can be
    /// committed: what is in memory is ahead of the disk.
    fn commit(&mut self, arrivals: &mut [Arrivals]) -> Result<Committed>;

    /// What is to be done now where no commit waits for it, if anything is: to be run without the lock. Asked for once a second,
    /// and sooner as [`Ledger::upkept`] says.
    fn upkeep(&mut self, now: Instant) -> Option<LedgerUpkeep>;

    /// Takes note of what was done. Not told of what failed.
    ///
    /// # Errors
    /// As [`Ledger::commit`]; [`LedgerAway`]: [`Ledger::upkeep`] is asked again in a second.
    fn upkept(&mut self, done: LedgerUpkept) -> Result<NextUpkeep>;

    /// So many dashboards are told, at least one. Said once, before anything is told.
    fn publish_to(&mut self, dashboards: usize);

    /// A dashboard has taken these counts.
    fn published(&mut self, dashboard: DashboardIndex, counts: &[VideoCount]);

    /// A dashboard's database has this id. True if it is another one than before, which has been told of nothing.
    ///
    /// # Errors
    /// As [`Ledger::commit`].
    fn publishes_to(&mut self, dashboard: DashboardIndex, database: Uuid) -> Result<bool>;

    /// Which plays of a producer are counted for good: nothing takes that back.
    ///
    /// # Errors
    /// It cannot be looked up.
    fn confirmed(&mut self, producer: &Uuid) -> Result<Confirmed>;

    /// At most `limit` producers with more plays counted than a dashboard was told; after a start, and for another database,
    /// every producer comes once more.
    ///
    /// # Errors
    /// They cannot be looked up. They come again.
    fn take_unreported(
        &mut self,
        dashboard: DashboardIndex,
        limit: usize,
    ) -> Result<Vec<ProducerConfirmed>>;

    /// Whether so much waits for a checkpoint that no commit should follow before some of it is written.
    fn is_behind(&self) -> bool {
        false
    }

    /// A dashboard has been told that of a producer, and knows all plays below `watermark` to be in one ledger or another: from
    /// now on what lies above is told, where it is more than one message holds. True if more of it is to be told at once;
    /// what waits for other ledgers to tell theirs comes with [`Ledger::retell`].
    fn reported(
        &mut self,
        dashboard: DashboardIndex,
        told: &ProducerConfirmed,
        watermark: u64,
    ) -> bool;

    /// At most `limit` producers come again of which not all could be told to a dashboard; whether there are any.
    fn retell(&mut self, dashboard: DashboardIndex, limit: usize) -> bool;

    /// These could not be told to a dashboard: they come again.
    fn put_back_unreported(&mut self, dashboard: DashboardIndex, producers: &[ProducerConfirmed]);

    /// Processors that are gone, and whose counts this one is to publish; `told` is what has come of that so far. Asked
    /// behind each upkeep, and never waits.
    fn look_at_dead(&mut self, _told: Vec<ToldOfLedger>) -> DeadLedgers {
        DeadLedgers::default()
    }

    /// A dashboard has been told all that is counted. Said at the end, before [`Ledger::close`].
    fn told_all(&mut self, _dashboard: DashboardIndex) {}

    /// How large it is; `None` for one that has no file.
    fn size(&self) -> Option<LedgerSize>;

    /// How large the window of messages is, which protects plays without an identity.
    fn message_window(&self) -> MessageWindowSize;

    /// Writes down what is only of use to the next start. No commit may follow.
    ///
    /// # Errors
    /// As [`Ledger::commit`]; the counts are safe all the same.
    fn close(&mut self) -> Result<()>;
}
