//! The sharded mutex map: how often each video was played, and which of them await publication.
//! Holds locks, for arithmetic only; no IO, no thread, no clock.
//!
//! A video costs 41 bytes and its share of a table, about 50 in all, and 4 more while it awaits publication.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::model::unix_time::UnixMs;
use crate::model::video::{VideoCount, VideoState};
use crate::model::video_ids::VideoIds;

/// Shards of the map: enough that two of a few dozen workers seldom want the same one.
const SHARDS: usize = 64;

/// Plays per video, shared by the workers that count and the thread that publishes.
///
/// The rule of publication: as long as the dashboard has not seen all counts below
/// `realtime_below`, a change is due at once; from there on it waits for [`ShardedCounts::release_waiting`],
/// which the publisher calls once an interval.
pub struct ShardedCounts {
    shards: Box<[Mutex<Shard>]>,
    /// Picks the shard; seeded at random, because video ids come from strangers.
    hasher: RandomState,
    realtime_below: u64,
    /// The shard that the next batch starts at, so that none waits for ever behind a busy one.
    cursor: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    ids: VideoIds,
    /// By number.
    videos: Vec<Video>,
    /// By number: whether a video stands in `due` or `waiting`, where it must stand once only.
    listed: Vec<bool>,
    /// To be published as soon as the publisher comes by, oldest first.
    due: VecDeque<u32>,
    /// To be published at the end of the interval.
    waiting: Vec<u32>,
    plays: u64,
}

#[derive(Clone, Copy, Default)]
struct Video {
    plays: u64,
    /// The count that was last handed to the publisher.
    published: u64,
    /// 0: no play said when it was enqueued.
    last_played_at: u64,
}

impl Shard {
    /// The video's number and row, made if missing.
    fn video(&mut self, id: Uuid) -> (u32, &mut Video) {
        let (number, is_new) = self.ids.number(id);
        if is_new {
            self.videos.push(Video::default());
            self.listed.push(false);
        }
        (number, &mut self.videos[number as usize])
    }

    /// Lists a video that has changed; true if it just became due.
    fn list(&mut self, number: u32, realtime_below: u64) -> bool {
        if std::mem::replace(&mut self.listed[number as usize], true) {
            return false;
        }
        // The next count that the dashboard has not seen is `published + 1`.
        let is_due = self.videos[number as usize].published + 1 < realtime_below;
        if is_due {
            self.due.push_back(number);
        } else {
            self.waiting.push(number);
        }
        is_due
    }
}

/// How much is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Videos with at least one play.
    pub videos: u64,
    /// Plays over all videos.
    pub plays: u64,
}

impl ShardedCounts {
    /// An empty map. `realtime_below` is the count from which on a video is published by interval only; 0: always.
    pub fn new(realtime_below: u64) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect();
        Self { shards, hasher: RandomState::default(), realtime_below, cursor: AtomicUsize::new(0) }
    }

    /// Counts `plays` more of `video_id`, the newest enqueued at `last_played_at` (ms since the Unix epoch).
    ///
    /// True when the video just became due: tell the publisher.
    pub fn add(&self, video_id: Uuid, plays: u64, last_played_at: Option<u64>) -> bool {
        let shard = &mut *self.shards[self.shard_of(&video_id)].lock();
        shard.plays += plays;
        let (number, video) = shard.video(video_id);
        video.plays += plays;
        video.last_played_at = video.last_played_at.max(last_played_at.unwrap_or(0));
        plays > 0 && shard.list(number, self.realtime_below)
    }

    /// Takes over a video as the ledger has it; none of it is counted yet.
    pub fn restore(&self, state: VideoState) {
        let VideoState { video_id, plays, published, last_played_at } = state;
        let shard = &mut *self.shards[self.shard_of(&video_id)].lock();
        shard.plays += plays;
        let (number, video) = shard.video(video_id);
        *video = Video { plays, published, last_played_at };
        if plays > published {
            shard.list(number, self.realtime_below);
        }
    }

    /// Makes every video wait for publication: the dashboard knows of none.
    pub fn forget_published(&self) {
        for shard in &self.shards {
            let shard = &mut *shard.lock();
            shard.due.clear();
            shard.waiting.clear();
            shard.videos.iter_mut().for_each(|video| video.published = 0);
            shard.listed.fill(true);
            shard.due.extend(0..shard.videos.len() as u32);
        }
    }

    /// Makes all that waits for the end of the interval due.
    pub fn release_waiting(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let waiting = std::mem::take(&mut shard.waiting);
            shard.due.extend(waiting);
        }
    }

    /// Takes at most `limit` due videos with their counts of now; empty when none is due.
    pub fn take_due(&self, limit: usize) -> Vec<VideoCount> {
        let mut batch = Vec::new();
        let start = self.cursor.load(Ordering::Relaxed);
        for index in (start..start + SHARDS).map(|index| index % SHARDS) {
            let mut shard = self.shards[index].lock();
            let shard = &mut *shard;
            let count = shard.due.len().min(limit - batch.len());
            for number in shard.due.drain(..count) {
                shard.listed[number as usize] = false;
                let video = &mut shard.videos[number as usize];
                video.published = video.plays;
                let last_played_at =
                    (video.last_played_at > 0).then_some(UnixMs(video.last_played_at as i64));
                let video_id = shard.ids.id(number);
                batch.push(VideoCount { video_id, plays: video.plays, last_played_at });
            }
            if batch.len() == limit {
                // Relaxed: only a hint where to start.
                self.cursor.store(index, Ordering::Relaxed);
                break;
            }
        }
        batch
    }

    /// Makes the videos of a batch that did not reach the dashboard due again.
    pub fn put_back(&self, batch: &[VideoCount]) {
        for VideoCount { video_id, .. } in batch {
            let shard = &mut *self.shards[self.shard_of(video_id)].lock();
            let Some(number) = shard.ids.get(video_id) else { continue };
            if !std::mem::replace(&mut shard.listed[number as usize], true) {
                shard.due.push_back(number);
            }
        }
    }

    /// Videos that await publication, due or not.
    pub fn unpublished(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock())
            .map(|shard| shard.due.len() + shard.waiting.len())
            .sum()
    }

    /// How much is counted.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in &self.shards {
            let shard = shard.lock();
            totals.videos += shard.videos.len() as u64;
            totals.plays += shard.plays;
        }
        totals
    }

    /// Every video with its plays, in no order.
    pub fn all(&self) -> Vec<(Uuid, u64)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let plays = shard.videos.iter().map(|video| video.plays);
            all.extend(shard.ids.ids().iter().copied().zip(plays));
        }
        all
    }

    fn shard_of(&self, video_id: &Uuid) -> usize {
        self.hasher.hash_one(video_id) as usize % SHARDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_video_stands_in_one_list_once() {
        let counts = ShardedCounts::new(100);
        let video = Uuid::from_u128(7);
        assert!(counts.add(video, 1, Some(5)));
        assert!(!counts.add(video, 1, Some(4)));
        let batch = counts.take_due(20);
        assert_eq!(
            batch,
            [VideoCount { video_id: video, plays: 2, last_played_at: Some(UnixMs(5)) }]
        );
        counts.put_back(&batch);
        counts.put_back(&batch);
        assert!(!counts.add(video, 1, None));
        assert_eq!(counts.unpublished(), 1);
        assert_eq!(
            counts.take_due(20),
            [VideoCount { video_id: video, plays: 3, last_played_at: Some(UnixMs(5)) }]
        );
        assert_eq!(counts.unpublished(), 0);
        assert_eq!(counts.totals(), Totals { videos: 1, plays: 3 });
    }

    #[test]
    fn workers_at_the_same_time_lose_nothing() {
        let counts = ShardedCounts::new(100);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..10_000 {
                        counts.add(Uuid::from_u128(n % 97), 1, None);
                    }
                });
            }
        });
        assert_eq!(counts.totals(), Totals { videos: 97, plays: 40_000 });
        assert_eq!(counts.all().iter().map(|(_, plays)| plays).sum::<u64>(), 40_000);
    }
}
