//! The ledger's state in memory: each video's count, the plays that are counted, and what of it the files still hold
//! only as records (pure).
//!
//! A commit enters plays and yields a [`Record`]. From time to time a *checkpoint* writes what has changed to the tables,
//! a bounded slice at a time, so that no commit waits long; every row says as of which record it stands. When the last
//! slice is written, the records from before the checkpoint are not needed any more.
//!
//! A video costs 42 bytes and its share of a table, about 55 in all.

use std::collections::HashSet;

use uuid::Uuid;

use super::Arrivals;
use super::dedupe::{Dedupe, MessageKey};
use super::record::{Counters, Damaged, Delta, Record, encode_runs};
use crate::model::play::Play;
use crate::model::video::{VideoCount, VideoState};
use crate::model::video_ids::VideoIds;
use crate::wire::{CONFIRMED_RUNS_MAX, Confirmed, ProducerConfirmed};

/// Producers in one slice of a checkpoint: seldom more than some hundred bytes each.
const PRODUCERS_PER_SLICE: usize = 64;

/// One video's row.
#[derive(Clone, Copy, Debug, Default)]
struct VideoEntry {
    plays: u64,
    last_played_at: u64,
    /// Plays that the dashboard has not been told of; `u32::MAX`: none has been told.
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

/// A video as the tables keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VideoRow {
    pub(super) number: u32,
    /// `None`: the row is there and keeps its id.
    pub(super) id: Option<Uuid>,
    pub(super) plays: u64,
    pub(super) published: u64,
    pub(super) last_played_at: u64,
}

/// A part of a checkpoint: rows to write in one transaction.
#[derive(Debug)]
pub(super) struct CheckpointSlice {
    /// The newest record that the rows include.
    pub(super) as_of: u64,
    /// As of that record.
    pub(super) counters: Counters,
    pub(super) videos: Vec<VideoRow>,
    /// A producer's counted plays, as `encode_runs` writes them.
    pub(super) producers: Vec<(Uuid, Vec<u8>)>,
    /// There on the last slice: with it the records up to `.0` go, their message IDs `.1` are kept elsewhere.
    pub(super) end: Option<(u64, Vec<MessageKey>)>,
}

/// A checkpoint on its way.
#[derive(Debug)]
struct Checkpoint {
    upto: u64,
    videos: Vec<u32>,
    producers: Vec<Uuid>,
    messages: Vec<MessageKey>,
}

/// By how much one video has video_deltas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoDelta {
    /// The video.
    pub video_id: Uuid,
    /// Plays more.
    pub plays: u64,
    /// When the newest of them was enqueued, in ms since the Unix epoch; 0: none said so.
    pub last_played_at: u64,
}

#[derive(Debug, Default)]
pub(super) struct LedgerState {
    ids: VideoIds,
    /// By number.
    rows: Vec<VideoEntry>,
    /// By number: whether a video has a row in the tables.
    is_saved: Vec<bool>,
    dedupe: Dedupe,
    counters: Counters,
    /// The newest record.
    last: u64,
    // What has changed since the last checkpoint began.
    dirty: Vec<u32>,
    is_dirty: Vec<bool>,
    dirty_producers: HashSet<Uuid>,
    messages: Vec<MessageKey>,
    checkpoint: Option<Checkpoint>,
    /// Producers whose newest state the dashboard has not been told.
    unreported: HashSet<Uuid>,
    /// The newest record that the tables hold all of.
    checkpointed: u64,
}

impl LedgerState {
    /// Counts the plays that were not counted before, and leaves only those, and new rejections, in `arrivals`.
    /// Returns what to write down, and by how much each video has video_deltas.
    pub(super) fn count_arrivals(
        &mut self,
        arrivals: &mut [Arrivals],
    ) -> (Record, Vec<VideoDelta>) {
        let mut record = Record { first_video: self.rows.len() as u32, ..Record::default() };
        let mut video_deltas = Vec::new();
        for Arrivals { nsqd, plays, rejected } in arrivals {
            plays.retain(|(play, id)| {
                let seen = self.dedupe.insert(play, MessageKey { nsqd: *nsqd, id: *id });
                let is_new = record.counters.count(seen, play);
                if is_new {
                    self.count_play(play, &mut record, &mut video_deltas);
                }
                is_new
            });
            rejected.retain(|letter| {
                let key = MessageKey { nsqd: *nsqd, id: letter.message };
                let fresh = self.dedupe.insert_message(key);
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
        self.apply(self.last + 1, &record);
        (record, video_deltas)
    }

    /// Adds one play to the commit's deltas.
    fn count_play(&mut self, play: &Play, record: &mut Record, video_deltas: &mut Vec<VideoDelta>) {
        let number = self.number(play.video_id, &mut record.new_videos);
        let last_played_at = play.enqueued_at_ns.unwrap_or(0) / 1_000_000;
        let row = &mut self.rows[number as usize];
        let slot = row.slot as usize;
        match record.deltas.get_mut(slot).filter(|delta| delta.number == number) {
            Some(delta) => {
                delta.plays += 1;
                delta.last_played_at = delta.last_played_at.max(last_played_at);
            }
            None => {
                row.slot = record.deltas.len() as u32;
                record.deltas.push(Delta { number, plays: 1, last_played_at });
                video_deltas.push(VideoDelta {
                    video_id: play.video_id,
                    plays: 0,
                    last_played_at: 0,
                });
            }
        }
    }

    /// The video's number; a new one stands in `new_videos` from now on.
    fn number(&mut self, video_id: Uuid, new_videos: &mut Vec<Uuid>) -> u32 {
        let (number, is_new) = self.ids.number(video_id);
        if is_new {
            new_videos.push(video_id);
            self.rows.push(VideoEntry::default());
            self.is_dirty.push(false);
            self.is_saved.push(false);
        }
        number
    }

    fn grow(&mut self, delta: &Delta) {
        let row = &mut self.rows[delta.number as usize];
        let published = row.published();
        row.plays = row.plays.saturating_add(delta.plays);
        row.last_played_at = row.last_played_at.max(delta.last_played_at);
        row.set_published(published);
        self.mark(delta.number);
    }

    fn mark(&mut self, number: u32) {
        if !std::mem::replace(&mut self.is_dirty[number as usize], true) {
            self.dirty.push(number);
        }
    }

    /// What every record changes besides the counts.
    fn apply(&mut self, number: u64, record: &Record) {
        self.last = number;
        self.counters.add(&record.counters);
        let producers = || record.learned.producers.iter().map(|(id, _)| *id);
        self.dirty_producers.extend(producers());
        self.unreported.extend(producers());
        self.messages.extend(&record.learned.messages);
    }

    /// Starts a checkpoint if anything has changed and none is on its way.
    pub(super) fn begin_checkpoint(&mut self) {
        let changed =
            !self.dirty.is_empty() || !self.dirty_producers.is_empty() || !self.messages.is_empty();
        if self.checkpoint.is_some() || !changed {
            return;
        }
        for number in &self.dirty {
            self.is_dirty[*number as usize] = false;
        }
        // Rows that lie together are written together: a million of them in no order cost four times as long. The last
        // first, because slices are cut off the end.
        let mut videos = std::mem::take(&mut self.dirty);
        videos.sort_unstable_by(|one, other| other.cmp(one));
        self.checkpoint = Some(Checkpoint {
            upto: self.last,
            videos,
            producers: self.dirty_producers.drain().collect(),
            messages: std::mem::take(&mut self.messages),
        });
    }

    /// The checkpoint's next part, with at most `limit` videos; `None` when no checkpoint is on its way.
    pub(super) fn next_slice(&mut self, limit: usize) -> Option<CheckpointSlice> {
        let checkpoint = self.checkpoint.as_mut()?;
        let rest = checkpoint.videos.len().saturating_sub(limit);
        let saved = |number: u32| {
            let row = &self.rows[number as usize];
            let was_saved = std::mem::replace(&mut self.is_saved[number as usize], true);
            VideoRow {
                number,
                id: (!was_saved).then(|| self.ids.id(number)),
                plays: row.plays,
                published: row.published(),
                last_played_at: row.last_played_at,
            }
        };
        let videos = checkpoint.videos.drain(rest..).rev().map(saved).collect();
        let rest = checkpoint.producers.len().saturating_sub(PRODUCERS_PER_SLICE);
        let encoded = |id: Uuid| {
            let mut bytes = Vec::new();
            let counted = self.dedupe.counted(&id)?;
            encode_runs(&counted.runs().collect::<Vec<_>>(), &mut bytes);
            Some((id, bytes))
        };
        let producers = checkpoint.producers.drain(rest..).filter_map(encoded).collect();
        let done = checkpoint.videos.is_empty() && checkpoint.producers.is_empty();
        let end = if done { self.checkpoint.take() } else { None };
        self.checkpointed = end.as_ref().map_or(self.checkpointed, |checkpoint| checkpoint.upto);
        Some(CheckpointSlice {
            as_of: self.last,
            counters: self.counters,
            videos,
            producers,
            end: end.map(|checkpoint| (checkpoint.upto, checkpoint.messages)),
        })
    }

    /// Whether a checkpoint is on its way.
    pub(super) fn is_checkpointing(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// The dashboard has taken these counts.
    pub(super) fn published(&mut self, counts: &[VideoCount]) {
        for count in counts {
            let Some(number) = self.ids.get(&count.video_id) else { continue };
            let row = &mut self.rows[number as usize];
            if count.plays > row.published() {
                row.set_published(count.plays);
                self.mark(number);
            }
        }
    }

    /// Another dashboard, or one that has forgotten: it has been told of nothing.
    pub(super) fn forget_published(&mut self) {
        self.rows.iter_mut().for_each(|row| row.behind = u32::MAX);
        self.unreported.extend(self.dedupe.producers().map(|(id, _)| *id));
    }

    /// What of a producer is counted.
    pub(super) fn confirmed(&self, producer: &Uuid) -> Confirmed {
        let Some(counted) = self.dedupe.counted(producer) else { return Confirmed::default() };
        let watermark = counted.watermark();
        let above = counted.runs().filter(|run| run.start > watermark).take(CONFIRMED_RUNS_MAX);
        Confirmed { watermark, above: above.map(|run| [run.start, run.end]).collect() }
    }

    /// At most `limit` producers of whose plays more are counted than was told.
    pub(super) fn take_unreported(&mut self, limit: usize) -> Vec<ProducerConfirmed> {
        let ids: Vec<Uuid> = self.unreported.iter().take(limit).copied().collect();
        ids.into_iter()
            .map(|producer| {
                self.unreported.remove(&producer);
                ProducerConfirmed { producer, confirmed: self.confirmed(&producer) }
            })
            .collect()
    }

    /// These were not told after all.
    pub(super) fn put_back_unreported(&mut self, producers: impl IntoIterator<Item = Uuid>) {
        self.unreported.extend(producers);
    }

    /// By outcome, since the ledger was made.
    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// Records that no checkpoint has taken into the tables.
    pub(super) fn pending_records(&self) -> u64 {
        self.last - self.checkpointed
    }

    /// The number of the newest record.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Every video.
    pub(super) fn videos(&self) -> impl Iterator<Item = VideoState> {
        self.ids.ids().iter().zip(&self.rows).map(|(video_id, row)| VideoState {
            video_id: *video_id,
            plays: row.plays,
            published: row.published(),
            last_played_at: row.last_played_at,
        })
    }

    /// The plays that are counted.
    pub(super) fn dedupe(&self) -> &Dedupe {
        &self.dedupe
    }
}

/// A [`LedgerState`] while it is loaded: first the tables' rows, then the records that are newer.
#[derive(Debug)]
pub(super) struct StateLoader {
    state: LedgerState,
    /// How many videos there are in all: no number is larger.
    videos: usize,
    /// As of which record the counters stand, and each video's row: 0 where there is none.
    as_of: u64,
    rows_as_of: Vec<u64>,
}

impl StateLoader {
    /// Starts from the counters as of a record. `videos` is how many videos there are at most.
    pub(super) fn new(counters: Counters, as_of: u64, videos: usize) -> Self {
        let state =
            LedgerState { counters, last: as_of, checkpointed: as_of, ..LedgerState::default() };
        Self { state, videos, as_of, rows_as_of: Vec::new() }
    }

    /// A video's row, which includes all records up to `as_of`.
    pub(super) fn video(&mut self, video: &VideoRow, id: Uuid, as_of: u64) -> Result<(), Damaged> {
        let row = self.place(video.number, id)?;
        (row.plays, row.last_played_at) = (video.plays, video.last_played_at);
        row.set_published(video.published);
        self.rows_as_of[video.number as usize] = as_of;
        self.state.is_saved[video.number as usize] = true;
        Ok(())
    }

    /// A producer's counted plays.
    pub(super) fn producer(&mut self, id: Uuid, runs: Vec<std::ops::Range<u64>>) {
        self.state.dedupe.learn(id, runs);
        self.state.unreported.insert(id);
    }

    /// Message IDs of records that are gone, oldest first.
    pub(super) fn messages(&mut self, messages: Vec<MessageKey>) {
        messages.into_iter().for_each(|message| self.state.dedupe.learn_message(message));
    }

    /// A record; in order.
    pub(super) fn record(&mut self, number: u64, record: &Record) -> Result<(), Damaged> {
        for (number, id) in (record.first_video..).zip(&record.new_videos) {
            self.place(number, *id)?;
        }
        for delta in &record.deltas {
            let at = delta.number as usize;
            if number > *self.rows_as_of.get(at).ok_or(Damaged)? {
                self.state.grow(delta);
            }
        }
        for (id, runs) in &record.learned.producers {
            self.state.dedupe.learn(*id, runs.iter().cloned());
        }
        for message in &record.learned.messages {
            self.state.dedupe.learn_message(*message);
        }
        let counters = self.state.counters;
        let last = self.state.last.max(number);
        self.state.apply(last, record);
        if number <= self.as_of {
            self.state.counters = counters;
        }
        Ok(())
    }

    /// The state, if it adds up.
    ///
    /// # Errors
    /// [`Damaged`] when videos, producers and counters tell different numbers of plays.
    pub(super) fn finish(self) -> Result<LedgerState, Damaged> {
        let Counters { counted, by_message, .. } = self.state.counters;
        let plays = self.state.rows.iter().try_fold(0u64, |sum, row| sum.checked_add(row.plays));
        let of_producers = self
            .state
            .dedupe
            .producers()
            .flat_map(|(_, set)| set.runs())
            .try_fold(0u64, |sum, run| sum.checked_add(run.end - run.start));
        let all_known = self.state.ids.len() == self.state.rows.len();
        let adds_up = plays == Some(counted)
            && of_producers.and_then(|plays| plays.checked_add(by_message)) == Some(counted);
        if all_known && adds_up { Ok(self.state) } else { Err(Damaged) }
    }

    /// The row of a number, made if missing; its id must not change.
    fn place(&mut self, number: u32, id: Uuid) -> Result<&mut VideoEntry, Damaged> {
        if number as usize >= self.videos || !self.state.ids.place(number, id) {
            return Err(Damaged);
        }
        let rows = self.state.rows.len().max(number as usize + 1);
        self.state.rows.resize_with(rows, VideoEntry::default);
        self.state.is_dirty.resize(rows, false);
        self.state.is_saved.resize(rows, false);
        self.rows_as_of.resize(rows, 0);
        Ok(&mut self.state.rows[number as usize])
    }
}
