//! The ledger's state in memory: each video's count, the plays that are counted, and what of it the files still hold
//! only as records (pure).
//!
//! A commit enters plays and yields a [`Record`]. From time to time a *checkpoint* writes what has changed to the tables,
//! a bounded slice at a time, so that no commit waits long; every row says as of which frame of the journal it stands.
//! When the last slice is written, the frames from before the checkpoint are not needed any more.
//!
//! A video costs 41 bytes and its share of a table, about 55 in all.

mod start;
#[cfg(test)]
mod tests;

use std::ops::Range;

use uuid::Uuid;

use super::checkpoint::{
    Changes, Checkpoint, CheckpointEnd, CheckpointSlice, PRODUCER_BYTES_PER_SLICE, SavedVideo,
};
use super::commit::{Arrivals, ArrivedPlay, Noticed, VideoDelta};
use super::counters::Counters;
use super::dedupe::{CrowdedProducer, Dedupe, Seen};
use super::message_window::MessageWindowSize;
use super::producers::Producers;
use super::record::{Delta, Record, encode_runs};
use super::unreported::AllUnreported;
use crate::model::dashboard_index::DashboardIndex;
use crate::model::seq_set::SeqSet;
use crate::model::video::{VideoCount, VideoState};
use crate::model::video_ids::VideoIds;
use crate::wire::{CONFIRMED_RUNS_MAX, Confirmed};

/// One video's count.
#[derive(Clone, Copy, Debug, Default)]
struct VideoEntry {
    plays: u64,
    last_played_at: u64,
    /// Plays that the first dashboard has not been told of; `u32::MAX`: none has been told.
    behind: u32,
    /// Where in the current commit's deltas this video stands, if it does.
    slot: u32,
}

impl VideoEntry {
    fn published(&self) -> u64 {
        if self.behind == u32::MAX { 0 } else { self.plays.saturating_sub(self.behind.into()) }
    }

    fn set_published(&mut self, published: u64) {
        let behind = self.plays.saturating_sub(published);
        self.behind = u32::try_from(behind).unwrap_or(u32::MAX);
    }
}

#[derive(Debug, Default)]
pub(super) struct LedgerState {
    ids: VideoIds,
    /// By number.
    entries: Vec<VideoEntry>,
    dedupe: Dedupe,
    counters: Counters,
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
    pub(super) fn count_arrivals(
        &mut self,
        arrivals: &mut [Arrivals],
    ) -> (Record, Vec<VideoDelta>, Noticed) {
        let mut record = Record { first_video: self.entries.len() as u32, ..Record::default() };
        let (mut video_deltas, mut noticed) = (Vec::new(), Noticed::default());
        for Arrivals { plays, rejected } in arrivals {
            plays.retain(|arrived| {
                let seen = self.dedupe.insert(&arrived.play, arrived.message);
                let is_new = record.counters.count(seen, &arrived.play);
                if is_new {
                    self.count_play(arrived, &mut record, &mut video_deltas);
                }
                self.notice(seen, arrived, &record.counters, &mut noticed);
                is_new
            });
            rejected.retain(|letter| {
                let fresh = self.dedupe.insert_message(letter.message);
                record.counters.rejected += u64::from(fresh);
                record.counters.duplicates += u64::from(!fresh);
                fresh
            });
        }
        record.learned = self.dedupe.take_learned();
        for (delta, video) in record.deltas.iter().zip(&mut video_deltas) {
            self.grow(delta);
            (video.plays, video.last_played_at) = (delta.plays, delta.last_played_at);
        }
        self.apply(&record);
        (record, video_deltas, noticed)
    }

    /// Notes what else a play tells; `counters` are those of its commit so far.
    fn notice(
        &self,
        seen: Seen,
        arrived: &ArrivedPlay,
        counters: &Counters,
        noticed: &mut Noticed,
    ) {
        let is_first = arrived.attempts <= 1;
        let (other_video, unproven) = match seen {
            Seen::New | Seen::Duplicate => return,
            Seen::NewByMessage => {
                let is_unknown = !is_first && self.has_forgotten_messages(counters);
                noticed.redelivered_unknown += u64::from(is_unknown);
                return;
            }
            Seen::Conflicting => (1, 0),
            // A message that comes again, and what its producer says it has sent before, is a copy.
            Seen::UnprovenDuplicate if is_first && !arrived.play.resent => (0, 1),
            Seen::UnprovenDuplicate => return,
        };
        if let Some(identity) = arrived.play.identity {
            let reused = noticed.reused.entry(identity.producer).or_default();
            reused.other_video += other_video;
            reused.unproven += unproven;
        }
    }

    /// Whether there were more messages than are remembered; `more` are those of a commit that is not applied yet.
    fn has_forgotten_messages(&self, more: &Counters) -> bool {
        let all = |counters: &Counters| counters.by_message.saturating_add(counters.rejected);
        all(&self.counters).saturating_add(all(more)) > self.dedupe.message_window().messages
    }

    /// Adds one play to the commit's deltas.
    fn count_play(
        &mut self,
        arrived: &ArrivedPlay,
        record: &mut Record,
        video_deltas: &mut Vec<VideoDelta>,
    ) {
        let video_id = arrived.play.video_id;
        let number = self.number(video_id, &mut record.new_videos);
        let last_played_at = arrived.played_at_ns / 1_000_000;
        let entry = &mut self.entries[number as usize];
        let slot = entry.slot as usize;
        match record.deltas.get_mut(slot).filter(|delta| delta.number == number) {
            Some(delta) => {
                delta.plays += 1;
                delta.last_played_at = delta.last_played_at.max(last_played_at);
            }
            None => {
                entry.slot = record.deltas.len() as u32;
                record.deltas.push(Delta { number, plays: 1, last_played_at });
                video_deltas.push(VideoDelta { video_id, plays: 0, last_played_at: 0 });
            }
        }
    }

    /// The video's number; a new one stands in `new_videos` from now on.
    fn number(&mut self, video_id: Uuid, new_videos: &mut Vec<Uuid>) -> u32 {
        let (number, is_new) = self.ids.number(video_id);
        if is_new {
            new_videos.push(video_id);
            self.resize(number as usize + 1);
        }
        number
    }

    /// There are that many videos now.
    fn resize(&mut self, videos: usize) {
        self.entries.resize_with(videos, VideoEntry::default);
        self.changes.resize(videos);
    }

    /// Whether so many messages can be counted: no sum goes beyond what every part can say.
    pub(super) fn has_room(&self, messages: u64) -> bool {
        self.counters.has_room(messages)
    }

    /// Adds a delta to its video, which all plays together leave room for.
    pub(super) fn grow(&mut self, delta: &Delta) {
        let entry = &mut self.entries[delta.number as usize];
        let published = entry.published();
        entry.plays += delta.plays;
        entry.last_played_at = entry.last_played_at.max(delta.last_played_at);
        entry.set_published(published);
        self.changes.mark(delta.number);
    }

    /// What every record changes besides the counts.
    fn apply(&mut self, record: &Record) {
        self.counters.add(&record.counters);
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
            self.checkpoint = self.changes.take(self.last);
        }
    }

    /// The checkpoint's next part, with at most `limit` videos; `None` when no checkpoint is on its way.
    pub(super) fn next_slice(&mut self, limit: usize) -> Option<CheckpointSlice> {
        let checkpoint = self.checkpoint.as_mut()?;
        let row = |number: u32| {
            let entry = &self.entries[number as usize];
            SavedVideo {
                number,
                id: self.ids.id(number),
                plays: entry.plays,
                published: entry.published(),
                last_played_at: entry.last_played_at,
            }
        };
        let videos = checkpoint.next_videos(limit).map(row).collect();
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
            counters: self.counters,
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

    /// The first dashboard has taken these counts.
    pub(super) fn published(&mut self, counts: &[VideoCount]) {
        for count in counts {
            let Some(number) = self.ids.get(&count.video_id) else { continue };
            let entry = &mut self.entries[number as usize];
            if count.plays > entry.published() {
                entry.set_published(count.plays);
                self.changes.mark(number);
            }
        }
    }

    /// The first dashboard is another one, or has forgotten: it has been told of nothing.
    pub(super) fn forget_published(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.behind = u32::MAX);
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

    /// By outcome, since the ledger was made.
    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether anything has changed that no checkpoint has taken.
    pub(super) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Message IDs that no checkpoint has taken.
    pub(super) fn unsaved_messages(&self) -> usize {
        self.changes.messages()
    }

    /// Frames of the journal that no checkpoint has taken into the tables.
    pub(super) fn pending_records(&self) -> u64 {
        self.last - self.checkpointed
    }

    /// Every video.
    pub(super) fn videos(&self) -> impl Iterator<Item = VideoState> {
        self.ids.ids().iter().zip(&self.entries).map(|(video_id, entry)| VideoState {
            video_id: *video_id,
            plays: entry.plays,
            published: entry.published(),
            last_played_at: entry.last_played_at,
        })
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
