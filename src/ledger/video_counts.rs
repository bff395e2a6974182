//! The counts of videos: which number each has, how often it was played, and how much of that the dashboard has been
//! told (pure).
//!
//! Which plays were counted before is not known here: the ledger *classifies* what has come, each arrival as
//! [`Seen`](super::dedupe::Seen), and [`Counting`](counting::Counting) makes of the new ones a
//! [`Record`](super::record::Record), and the numbers by which videos grow. Nothing has grown until [`VideoCounts::apply`] is
//! told that the record is durable; [`VideoCounts::withdraw`] takes it back.
//!
//! A video costs 41 bytes and its share of a table, about 55 in all.

pub(super) mod counting;
mod start;
#[cfg(test)]
mod tests;

use super::checkpoint::{ChangedVideos, SavedVideo};
use super::counters::Counters;
use super::record::Delta;
use crate::model::video::{VideoCount, VideoState};
use crate::model::video_id::VideoId;
use crate::model::video_ids::VideoIds;

/// One video's count.
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

#[derive(Debug, Default)]
pub(super) struct VideoCounts {
    ids: VideoIds,
    /// By number.
    entries: Vec<VideoEntry>,
    counters: Counters,
    changed: ChangedVideos,
}

impl VideoCounts {
    /// The video's number; a new one stands in `new_videos` from now on.
    fn number(&mut self, video_id: VideoId, new_videos: &mut Vec<VideoId>) -> u32 {
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
        self.changed.resize(videos);
    }

    /// Adds a delta to its video, which all plays together leave room for.
    fn grow(&mut self, delta: &Delta) {
        let entry = &mut self.entries[delta.number as usize];
        let published = entry.published();
        entry.plays += delta.plays;
        entry.last_played_at = entry.last_played_at.max(delta.last_played_at);
        entry.set_published(published);
        self.changed.mark(delta.number);
    }

    /// Whether so many messages can be counted: no sum goes beyond what every part can say.
    pub(super) fn has_room(&self, messages: u64) -> bool {
        self.counters.has_room(messages)
    }

    /// The dashboard has taken these counts.
    pub(super) fn published(&mut self, counts: &[VideoCount]) {
        for count in counts {
            let Some(number) = self.ids.get(&count.video_id) else { continue };
            let entry = &mut self.entries[number as usize];
            if count.plays > entry.published() {
                entry.set_published(count.plays);
                self.changed.mark(number);
            }
        }
    }

    /// Another dashboard, or one that has forgotten: it has been told of nothing.
    pub(super) fn forget_published(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.behind = u32::MAX);
    }

    /// The dashboard has been told of all.
    #[cfg(feature = "postgres")]
    pub(super) fn all_published(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.behind = 0);
    }

    /// By outcome, since the ledger was made.
    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// How many videos there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
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

    /// A video as a table keeps it.
    pub(super) fn saved(&self, number: u32) -> SavedVideo {
        let entry = &self.entries[number as usize];
        SavedVideo {
            number,
            id: self.ids.id(number),
            plays: entry.plays,
            published: entry.published(),
            last_played_at: entry.last_played_at,
        }
    }

    /// Those that have changed since a table was last written.
    pub(super) fn changed(&self) -> &ChangedVideos {
        &self.changed
    }

    /// The same, to be taken by who writes the table.
    pub(super) fn changed_mut(&mut self) -> &mut ChangedVideos {
        &mut self.changed
    }
}
