//! What has changed since the last checkpoint, and a checkpoint on its way: which rows go into the tables, a bounded
//! slice at a time, so that no commit waits long (pure).

use std::collections::HashSet;

use uuid::Uuid;

use super::counters::Counters;
use super::dedupe::Learned;
use super::message_key::MessageKey;
use super::record::MessageRuns;
use crate::model::video_id::VideoId;

/// Producers in one slice of a checkpoint, at least. Where many wait it is an eighth of them: a transaction for each few
/// would fall behind those that come.
const PRODUCERS_PER_SLICE: usize = 64;

/// Bytes of producers at which a slice of a checkpoint takes no more: one is seldom more than some hundred, and at most
/// some MB.
pub(super) const PRODUCER_BYTES_PER_SLICE: usize = 1 << 20;

/// A video as the tables keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SavedVideo {
    pub(super) number: u32,
    pub(super) id: VideoId,
    pub(super) plays: u64,
    pub(super) published: u64,
    pub(super) last_played_at: u64,
}

/// A part of a checkpoint: rows to write in one transaction.
#[derive(Debug)]
pub(super) struct CheckpointSlice {
    /// The newest frame of the journal that the rows include.
    pub(super) as_of: u64,
    /// As of that frame.
    pub(super) counters: Counters,
    pub(super) videos: Vec<SavedVideo>,
    /// A producer's counted plays, as `encode_runs` writes them.
    pub(super) producers: Vec<(Uuid, Vec<u8>)>,
    /// There on the last slice.
    pub(super) end: Option<CheckpointEnd>,
}

/// What the last slice of a checkpoint says.
#[derive(Debug)]
pub(super) struct CheckpointEnd {
    /// The tables hold all frames up to this one now.
    pub(super) upto: u64,
    /// The IDs of messages in them, which are kept in a table.
    pub(super) messages: MessageRuns,
}

/// Videos that have changed since the tables were last written.
#[derive(Debug, Default)]
pub(super) struct ChangedVideos {
    numbers: Vec<u32>,
    /// By number: whether it stands in `numbers`.
    is_changed: Vec<bool>,
}

impl ChangedVideos {
    /// There are that many videos now.
    pub(super) fn resize(&mut self, videos: usize) {
        self.is_changed.resize(videos, false);
    }

    /// The videos from this number on are gone.
    #[cfg_attr(
        not(any(test, feature = "postgres")),
        allow(dead_code, reason = "as what takes counts back")
    )]
    pub(super) fn truncate(&mut self, videos: u32) {
        self.is_changed.truncate(videos as usize);
        self.numbers.retain(|number| *number < videos);
    }

    /// A video has changed.
    pub(super) fn mark(&mut self, number: u32) {
        if !std::mem::replace(&mut self.is_changed[number as usize], true) {
            self.numbers.push(number);
        }
    }

    /// Whether none has.
    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Those that have, in no order; none of them from now on.
    pub(super) fn take(&mut self) -> Vec<u32> {
        for number in &self.numbers {
            self.is_changed[*number as usize] = false;
        }
        std::mem::take(&mut self.numbers)
    }
}

/// What has changed since the last checkpoint began, beside the videos.
#[derive(Debug, Default)]
pub(super) struct Changes {
    producers: HashSet<Uuid>,
    messages: MessageRuns,
}

impl Changes {
    /// Plays of these producers are counted that were not before.
    pub(super) fn add_producers(&mut self, learned: &Learned) {
        self.producers.extend(learned.producers.iter().map(|(id, _)| *id));
    }

    /// Whether a producer has changed.
    pub(super) fn has_producer(&self, id: &Uuid) -> bool {
        self.producers.contains(id)
    }

    /// A producer has changed.
    pub(super) fn add_producer(&mut self, id: Uuid) {
        self.producers.insert(id);
    }

    /// These message IDs are to be kept.
    pub(super) fn add_messages(&mut self, messages: &[MessageKey]) {
        self.messages.extend(messages);
    }

    /// So many message IDs are to be kept, as a record has them.
    pub(super) fn append_messages(&mut self, keys: usize, runs: &[u8]) {
        self.messages.append(keys, runs);
    }

    /// How many message IDs there are to keep.
    pub(super) fn messages(&self) -> usize {
        self.messages.len()
    }

    /// Whether nothing has changed.
    pub(super) fn is_empty(&self) -> bool {
        self.producers.is_empty() && self.messages.is_empty()
    }

    /// A checkpoint of all changes, those of the frames up to `upto`; `None` if there is none.
    pub(super) fn take(&mut self, videos: &mut ChangedVideos, upto: u64) -> Option<Checkpoint> {
        if self.is_empty() && videos.is_empty() {
            return None;
        }
        // Rows that lie together are written together: a million of them in no order cost four times as long. The last
        // first, because slices are cut off the end.
        let mut videos = videos.take();
        videos.sort_unstable_by(|one, other| other.cmp(one));
        let mut producers: Vec<Uuid> = self.producers.drain().collect();
        producers.sort_unstable_by(|one, other| other.cmp(one));
        Some(Checkpoint { upto, videos, producers, messages: std::mem::take(&mut self.messages) })
    }
}

/// A checkpoint on its way.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// With the last slice the tables hold all frames up to this one.
    pub(super) upto: u64,
    /// Numbers of what is not written yet, the highest first.
    videos: Vec<u32>,
    /// As well.
    producers: Vec<Uuid>,
    pub(super) messages: MessageRuns,
}

impl Checkpoint {
    /// The numbers of the next videos to write, at most `limit`, lowest first.
    pub(super) fn next_videos(&mut self, limit: usize) -> impl Iterator<Item = u32> {
        let rest = self.videos.len().saturating_sub(limit);
        self.videos.drain(rest..).rev()
    }

    /// How many producers the next slice should have.
    pub(super) fn producers_per_slice(&self) -> usize {
        PRODUCERS_PER_SLICE.max(self.producers.len() / 8)
    }

    /// The next producer to write, the lowest id first.
    pub(super) fn next_producer(&mut self) -> Option<Uuid> {
        self.producers.pop()
    }

    /// Whether all is written.
    pub(super) fn is_done(&self) -> bool {
        self.videos.is_empty() && self.producers.is_empty()
    }
}
