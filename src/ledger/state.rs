//! The state in memory of a ledger that is in files: the videos' counts, beside them the plays that are counted, and what
//! of both the files still hold only as records (pure).
//!
//! A commit enters plays and yields a [`Record`]. From time to time a *checkpoint* writes what has changed to the tables,
//! a bounded slice at a time, so that no commit waits long; every row says as of which frame of the journal it stands.
//! When the last slice is written, the frames from before the checkpoint are not needed any more.

mod start;
#[cfg(test)]
mod tests;

use std::ops::Range;

use uuid::Uuid;

use super::checkpoint::{
    Changes, Checkpoint, CheckpointEnd, CheckpointSlice, PRODUCER_BYTES_PER_SLICE,
};
use super::commit::{Arrivals, ArrivedPlay};
use super::dedupe::{CrowdedProducer, Dedupe};
use super::message_parts::MessageVerdicts;
use super::message_window::MessageWindowSize;
use super::producers::Producers;
use super::record::{Record, encode_runs};
use super::retry::RetryBatch;
use super::unreported::AllUnreported;
use super::video_counts::VideoCounts;
use super::video_counts::counting::Counted;
use crate::model::dashboard_index::DashboardIndex;
use crate::model::seq_set::SeqSet;
use crate::wire::{CONFIRMED_RUNS_MAX, Confirmed};

#[derive(Debug, Default)]
pub(super) struct LedgerState {
    pub(super) counts: VideoCounts,
    dedupe: Dedupe,
    /// The newest frame of the journal that is in here.
    last: u64,
    changes: Changes,
    checkpoint: Option<Checkpoint>,
    /// Producers of the slice that is being written.
    writing: Vec<Uuid>,
    /// Producers whose newest state a dashboard has not been told.
    pub(super) unreported: AllUnreported,
    /// The newest frame that the tables hold all of.
    checkpointed: u64,
}

impl LedgerState {
    /// Counts the plays that were not counted before, and leaves only those, and new rejections, in `arrivals`.
    /// Returns what to write down, by how much each video's count has grown, and what else was seen. Once that is in a frame
    /// of the journal, [`LedgerState::written`] must be told.
    pub(super) fn count_arrivals(&mut self, arrivals: &mut [Arrivals]) -> Counted {
        // Each arrival is classified and counted in one pass: it is read once.
        let Self { counts, dedupe, .. } = self;
        let mut counting = counts.count();
        for Arrivals { plays, rejected } in arrivals {
            let mut verdicts = MessageVerdicts::default();
            plays.retain(|arrived| {
                let ArrivedPlay { play, message, part_of, .. } = arrived;
                let seen = dedupe.insert_part(play, *message, *part_of, &mut verdicts);
                let remembered = || dedupe.message_window().messages;
                counting.play(arrived, seen, |messages| messages > remembered())
            });
            rejected.retain(|letter| {
                let is_fresh =
                    verdicts.of(letter.part_of, || dedupe.insert_message(letter.message));
                counting.letter(is_fresh);
                is_fresh
            });
        }
        let mut counted = counting.end(dedupe.take_learned());
        // The state is ahead of the files until the record is written: nothing is committed after a failure.
        counts.apply(&mut counted);
        self.note_producers(&counted.record);
        counted
    }

    /// Counts the plays of dead letters that were not counted before; the letters go with what is written down. As
    /// [`LedgerState::count_arrivals`].
    pub(super) fn count_retried(&mut self, batch: &RetryBatch) -> Counted {
        let Self { counts, dedupe, .. } = self;
        let mut counting = counts.count();
        for retried in &batch.plays {
            let seen = dedupe.insert_retried(&retried.play, retried.message);
            counting.retried(retried, seen);
        }
        let mut counted = counting.end(dedupe.take_learned());
        counted.record.counters.rejected += batch.rest();
        counted.record.retried = batch.runs();
        counts.apply(&mut counted);
        self.note_producers(&counted.record);
        counted
    }

    /// What every record says of producers.
    fn note_producers(&mut self, record: &Record) {
        self.changes.add_producers(&record.learned);
        record.learned.producers.iter().for_each(|(id, _)| self.unreported.add(*id));
        while let Some(dashboard) = self.unreported.full() {
            self.tell_all_producers(dashboard);
        }
    }

    /// A dashboard is to be told of every producer.
    pub(super) fn tell_all_producers(&mut self, dashboard: DashboardIndex) {
        self.unreported.of(dashboard).forget(self.dedupe.producers.unsaved().copied());
    }

    /// So many dashboards are told: each besides the first of every producer.
    pub(super) fn publish_to(&mut self, dashboards: usize) {
        self.unreported.resize(dashboards);
        DashboardIndex::all(dashboards).skip(1).for_each(|other| self.tell_all_producers(other));
    }

    /// The messages of the newest record, as it has them: for the next checkpoint.
    pub(super) fn keep_messages(&mut self, keys: usize, runs: &[u8]) {
        self.changes.append_messages(keys, runs);
    }

    /// What was counted last is in this frame of the journal.
    pub(super) fn written(&mut self, number: u64) {
        self.last = self.last.max(number);
    }

    /// A frame of the journal that changes nothing here: no checkpoint has to take it.
    pub(super) fn passed(&mut self, number: u64) {
        if self.last == self.checkpointed {
            (self.last, self.checkpointed) = (number, number);
        }
    }

    /// Starts a checkpoint if anything has changed and none is on its way.
    pub(super) fn begin_checkpoint(&mut self) {
        if self.checkpoint.is_none() {
            self.checkpoint = self.changes.take(self.counts.changed_mut(), self.last);
        }
    }

    /// The checkpoint's next part, with at most `limit` videos; `None` when no checkpoint is on its way.
    pub(super) fn next_slice(&mut self, limit: usize) -> Option<CheckpointSlice> {
        let checkpoint = self.checkpoint.as_mut()?;
        let videos = checkpoint.next_videos(limit);
        let videos = videos.map(|number| self.counts.saved(number)).collect();
        let (mut producers, mut bytes_taken) = (Vec::new(), 0);
        let most = limit.min(checkpoint.producers_per_slice());
        while producers.len() < most
            && bytes_taken < PRODUCER_BYTES_PER_SLICE
            && let Some(id) = checkpoint.next_producer()
        {
            // What is not written stays in memory.
            let Some(counted) = self.dedupe.counted(&id) else { continue };
            let mut bytes = Vec::new();
            encode_runs(&counted.runs().collect::<Vec<_>>(), &mut bytes);
            bytes_taken += bytes.len();
            producers.push((id, bytes));
        }
        self.writing.extend(producers.iter().map(|(id, _)| *id));
        let end = if checkpoint.is_done() { self.checkpoint.take() } else { None };
        self.checkpointed = end.as_ref().map_or(self.checkpointed, |checkpoint| checkpoint.upto);
        Some(CheckpointSlice {
            as_of: self.last,
            counters: self.counts.counters(),
            videos,
            producers,
            end: end.map(|checkpoint| CheckpointEnd {
                upto: checkpoint.upto,
                messages: checkpoint.messages,
            }),
        })
    }

    /// The slice that was taken last is in the tables: of its producers nothing has to stay in memory, but for what has
    /// changed since its checkpoint began.
    pub(super) fn slice_written(&mut self) {
        for id in self.writing.drain(..) {
            if !self.changes.has_producer(&id) {
                self.dedupe.producers.saved(&id);
            }
        }
    }

    /// The slice that was taken last goes nowhere.
    pub(super) fn slice_dropped(&mut self) {
        self.writing.clear();
    }

    /// Whether a checkpoint is on its way.
    pub(super) fn is_checkpointing(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// The first dashboard is another one, or has forgotten: it has been told of nothing.
    pub(super) fn forget_published(&mut self) {
        self.counts.forget_published();
        self.tell_all_producers(DashboardIndex::FIRST);
    }

    /// What a dashboard is told of the counted plays of a producer that is in memory, or in no table.
    pub(super) fn confirmed(&self, dashboard: DashboardIndex, producer: &Uuid) -> Confirmed {
        let Some(counted) = self.dedupe.counted(producer) else { return Confirmed::default() };
        confirmed_of(counted, self.unreported.known(dashboard, producer))
    }

    /// Whether a producer is in memory.
    pub(super) fn knows_producer(&self, producer: &Uuid) -> bool {
        self.dedupe.counted(producer).is_some()
    }

    /// A dashboard has been told of a producer in memory, and knows of all its plays below `watermark`. Whether more is to be
    /// told at once.
    pub(super) fn reported(
        &mut self,
        dashboard: DashboardIndex,
        producer: &Uuid,
        watermark: u64,
    ) -> bool {
        let Some(counted) = self.dedupe.counted(producer) else { return false };
        self.unreported.of(dashboard).reported(*producer, counted, watermark)
    }

    /// Whether a producer's plays may only be counted when the table was asked.
    pub(super) fn may_be_saved(&self, producer: &Uuid) -> bool {
        self.dedupe.producers.may_be_saved(producer)
    }

    /// Whether that may be so of any producer.
    pub(super) fn has_saved_producers(&self) -> bool {
        self.dedupe.producers.has_saved()
    }

    /// What the table has of a producer that was not in memory.
    pub(super) fn fetched_producer(&mut self, id: Uuid, runs: Vec<Range<u64>>) {
        self.dedupe.producers.fetched(id, runs);
    }

    /// The producers.
    pub(super) fn producers(&self) -> &Producers {
        &self.dedupe.producers
    }

    /// The producers, to say what may go from memory.
    pub(super) fn producers_mut(&mut self) -> &mut Producers {
        &mut self.dedupe.producers
    }

    /// Whether anything has changed that no checkpoint has taken.
    pub(super) fn has_changes(&self) -> bool {
        !self.counts.changed().is_empty() || !self.changes.is_empty()
    }

    /// Message IDs that no checkpoint has taken.
    pub(super) fn unsaved_messages(&self) -> usize {
        self.changes.messages()
    }

    /// Frames of the journal that no checkpoint has taken into the tables.
    pub(super) fn pending_records(&self) -> u64 {
        self.last - self.checkpointed
    }

    /// How large the window of messages is.
    pub(super) fn message_window(&self) -> MessageWindowSize {
        self.dedupe.message_window()
    }

    /// What came of producers whose numbers have too many holes.
    pub(super) fn crowded(&self) -> Option<CrowdedProducer> {
        self.dedupe.crowded()
    }
}

/// What is told of a producer's counted plays, of which the dashboard knows all below `known`: by this ledger, or by others
/// that have counted plays of the same producer.
pub(super) fn confirmed_of(counted: &SeqSet, known: u64) -> Confirmed {
    let watermark = counted.watermark();
    let runs = counted.runs().filter(|run| run.start > watermark && run.end > known);
    let above = runs.take(CONFIRMED_RUNS_MAX);
    Confirmed { watermark, above: above.map(|run| [run.start, run.end]).collect() }
}
