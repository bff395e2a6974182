//! What every ledger does, wherever it keeps the counts. Threads share it behind a lock.

use std::time::Instant;

use anyhow::Result;
use uuid::Uuid;

use super::commit::{Arrivals, Committed};
use super::counters::Counters;
use super::dead::{DeadLedgers, ToldOfLedger};
use super::dedupe::CrowdedProducer;
use super::message_window::MessageWindowSize;
use super::upkeep::{LedgerUpkeep, LedgerUpkept};
use crate::model::dashboard_index::DashboardIndex;
use crate::model::video::{VideoCount, VideoState};
use crate::wire::{Confirmed, LedgerStatus, ProducerConfirmed};

/// Messages in one commit, at most, where the ledger says nothing else; and one batch more. A slow disk is worked off in large
/// commits, and none takes so long that the others wait for it to be felt.
const GROUP_MAX: usize = 10_000;

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
    /// [`LedgerAway`](super::LedgerAway): `arrivals` and the counts are as they were before. Whether the commit took place need not be known: the
    /// next call brings the same arrivals, or none follows. Any other error: it cannot be made durable, and nothing more can be
    /// committed: what is in memory is ahead of the disk.
    fn commit(&mut self, arrivals: &mut [Arrivals]) -> Result<Committed>;

    /// What is to be done now where no commit waits for it, if anything is: to be run without the lock. Asked for once a second,
    /// and sooner as [`Ledger::upkept`] says.
    fn upkeep(&mut self, now: Instant) -> Option<LedgerUpkeep>;

    /// Takes note of what was done. Not told of what failed.
    ///
    /// # Errors
    /// As [`Ledger::commit`]; [`LedgerAway`](super::LedgerAway): [`Ledger::upkeep`] is asked again in a second.
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

    /// Which ledger it is and who counts in it, as last known: nothing is asked of anybody. Of one that no other processor can
    /// count in, the default.
    fn status(&self) -> LedgerStatus {
        LedgerStatus::default()
    }

    /// How large the window of messages is, which protects plays without an identity.
    fn message_window(&self) -> MessageWindowSize;

    /// Writes down what is only of use to the next start. No commit may follow.
    ///
    /// # Errors
    /// As [`Ledger::commit`]; the counts are safe all the same.
    fn close(&mut self) -> Result<()>;
}
