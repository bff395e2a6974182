//! The sharded mutex map: how often each video was played, and which of them await publication, to each dashboard.
//! Holds locks, for arithmetic only; no IO, no thread, no clock.
//!
//! A video costs 41 bytes and its share of a table, about 50 in all, and 4 more while it awaits publication. Each dashboard
//! besides the first costs 9 bytes of a video, and the 4.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::model::dashboard_index::DashboardIndex;
use crate::model::unix_time::UnixMs;
use crate::model::video::{VideoCount, VideoState};
use crate::model::video_id::VideoId;
use crate::model::video_ids::VideoIds;

/// Shards of the map: enough that two of a few dozen workers seldom want the same one.
const SHARDS: usize = 64;

/// Plays per video, shared by the workers that count and the threads that publish, one for each dashboard.
///
/// The rule of publication: as long as a dashboard has not seen all counts below
/// `realtime_below`, a change is due at once; from there on it waits for [`ShardedCounts::release_waiting`],
/// which the publisher calls once an interval. What one dashboard was told says nothing of another.
pub struct ShardedCounts {
    shards: Box<[Mutex<Shard>]>,
    /// Picks the shard; seeded at random, because video ids come from strangers.
    hasher: RandomState,
    realtime_below: u64,
    /// Of each dashboard: the shard that its next batch starts at, so that none waits for ever behind a busy one.
    cursors: Box<[AtomicUsize]>,
}

struct Shard {
    ids: VideoIds,
    /// By number.
    videos: Vec<Video>,
    /// Of each dashboard.
    told: Box<[ToldVideos]>,
    plays: u64,
}

#[derive(Clone, Copy, Default)]
struct Video {
    plays: u64,
    /// 0: no play said when it was enqueued.
    last_played_at: u64,
}

/// What one dashboard is told of a shard's videos.
#[derive(Default)]
struct ToldVideos {
    /// By number: the count that was last handed to the publisher.
    published: Vec<u64>,
    /// By number: whether a video stands in `due` or `waiting`, where it must stand once only.
    listed: Vec<bool>,
    /// To be published as soon as the publisher comes by, oldest first.
    due: VecDeque<u32>,
    /// To be published at the end of the interval.
    waiting: Vec<u32>,
}

impl Shard {
    fn new(dashboards: usize) -> Self {
        let told = (0..dashboards).map(|_| ToldVideos::default()).collect();
        Self { ids: VideoIds::default(), videos: Vec::new(), told, plays: 0 }
    }

    /// The video's number and row, made if missing.
    fn video(&mut self, id: VideoId) -> (u32, &mut Video) {
        let (number, is_new) = self.ids.number(id);
        if is_new {
            self.videos.push(Video::default());
            for told in &mut self.told {
                told.published.push(0);
                told.listed.push(false);
            }
        }
        (number, &mut self.videos[number as usize])
    }
}

impl ToldVideos {
    /// Lists a video that has changed; true if it just became due.
    fn list(&mut self, number: u32, realtime_below: u64) -> bool {
        if std::mem::replace(&mut self.listed[number as usize], true) {
            return false;
        }
        // The next count that the dashboard has not seen is `published + 1`.
        let is_due = self.published[number as usize] + 1 < realtime_below;
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
    /// An empty map for one dashboard. `realtime_below` is the count from which on a video is published by interval only; 0:
    /// always.
    pub fn new(realtime_below: u64) -> Self {
        Self::for_dashboards(realtime_below, 1)
    }

    /// An empty map for so many dashboards.
    pub fn for_dashboards(realtime_below: u64, dashboards: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new(dashboards))).collect();
        let cursors = (0..dashboards).map(|_| AtomicUsize::new(0)).collect();
        Self { shards, hasher: RandomState::default(), realtime_below, cursors }
    }

    /// The count from which on a video is published by interval only.
    pub fn realtime_below(&self) -> u64 {
        self.realtime_below
    }

    /// How many dashboards it is for.
    pub fn dashboards(&self) -> usize {
        self.cursors.len()
    }

    /// Counts `plays` more of `video_id`, the newest enqueued at `last_played_at` (ms since the Unix epoch).
    ///
    /// True when the video just became due for any dashboard: tell the publishers.
    pub fn add(&self, video_id: VideoId, plays: u64, last_played_at: Option<u64>) -> bool {
        let shard = &mut *self.shards[self.shard_of(&video_id)].lock();
        shard.plays += plays;
        let (number, video) = shard.video(video_id);
        video.plays += plays;
        video.last_played_at = video.last_played_at.max(last_played_at.unwrap_or(0));
        let mut is_due = false;
        if plays > 0 {
            for told in &mut shard.told {
                is_due |= told.list(number, self.realtime_below);
            }
        }
        is_due
    }

    /// Takes over a video as the ledger has it; none of it is counted yet. What it says was published the first dashboard was
    /// told; the others were told nothing.
    pub fn restore(&self, state: VideoState) {
        let VideoState { video_id, plays, published, last_played_at } = state;
        let shard = &mut *self.shards[self.shard_of(&video_id)].lock();
        shard.plays += plays;
        let (number, video) = shard.video(video_id);
        *video = Video { plays, last_played_at };
        for (index, told) in shard.told.iter_mut().enumerate() {
            let published = if index == 0 { published } else { 0 };
            told.published[number as usize] = published;
            if plays > published {
                told.list(number, self.realtime_below);
            }
        }
    }

    /// Makes every video wait for publication to a dashboard, which knows of none.
    pub fn forget_published(&self, dashboard: DashboardIndex) {
        for shard in &self.shards {
            let shard = &mut *shard.lock();
            let told = &mut shard.told[dashboard.get()];
            told.due.clear();
            told.waiting.clear();
            told.published.fill(0);
            told.listed.fill(true);
            told.due.extend(0..shard.videos.len() as u32);
        }
    }

    /// Makes all of a dashboard's that waits for the end of the interval due.
    pub fn release_waiting(&self, dashboard: DashboardIndex) {
        for shard in &self.shards {
            let told = &mut shard.lock().told[dashboard.get()];
            let waiting = std::mem::take(&mut told.waiting);
            told.due.extend(waiting);
        }
    }

    /// Takes at most `limit` videos that are due for a dashboard, with their counts of now; empty when none is.
    pub fn take_due(&self, dashboard: DashboardIndex, limit: usize) -> Vec<VideoCount> {
        let mut batch = Vec::new();
        let cursor = &self.cursors[dashboard.get()];
        let start = cursor.load(Ordering::Relaxed);
        for index in (start..start + SHARDS).map(|index| index % SHARDS) {
            let mut shard = self.shards[index].lock();
            let Shard { ids, videos, told, .. } = &mut *shard;
            let told = &mut told[dashboard.get()];
            let count = told.due.len().min(limit - batch.len());
            for number in told.due.drain(..count) {
                told.listed[number as usize] = false;
                let Video { plays, last_played_at } = videos[number as usize];
                told.published[number as usize] = plays;
                let last_played_at = (last_played_at > 0).then_some(UnixMs(last_played_at as i64));
                batch.push(VideoCount { video_id: ids.id(number), plays, last_played_at });
            }
            if batch.len() == limit {
                // Relaxed: only a hint where to start.
                cursor.store(index, Ordering::Relaxed);
                break;
            }
        }
        batch
    }

    /// Makes the videos of a batch that did not reach a dashboard due again.
    pub fn put_back(&self, dashboard: DashboardIndex, batch: &[VideoCount]) {
        for VideoCount { video_id, .. } in batch {
            let shard = &mut *self.shards[self.shard_of(video_id)].lock();
            let Some(number) = shard.ids.get(video_id) else { continue };
            let told = &mut shard.told[dashboard.get()];
            if !std::mem::replace(&mut told.listed[number as usize], true) {
                told.due.push_back(number);
            }
        }
    }

    /// Videos that await publication to a dashboard, due or not.
    pub fn unpublished(&self, dashboard: DashboardIndex) -> usize {
        self.shards
            .iter()
            .map(|shard| {
                let told = &shard.lock().told[dashboard.get()];
                told.due.len() + told.waiting.len()
            })
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
    pub fn all(&self) -> Vec<(VideoId, u64)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let plays = shard.videos.iter().map(|video| video.plays);
            all.extend(shard.ids.ids().iter().copied().zip(plays));
        }
        all
    }

    fn shard_of(&self, video_id: &VideoId) -> usize {
        self.hasher.hash_one(video_id) as usize % SHARDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: DashboardIndex = DashboardIndex::FIRST;

    #[test]
    fn a_video_stands_in_one_list_once() {
        let counts = ShardedCounts::new(100);
        let video = VideoId::from_u128(7);
        assert!(counts.add(video, 1, Some(5)));
        assert!(!counts.add(video, 1, Some(4)));
        let batch = counts.take_due(FIRST, 20);
        assert_eq!(
            batch,
            [VideoCount { video_id: video, plays: 2, last_played_at: Some(UnixMs(5)) }]
        );
        counts.put_back(FIRST, &batch);
        counts.put_back(FIRST, &batch);
        assert!(!counts.add(video, 1, None));
        assert_eq!(counts.unpublished(FIRST), 1);
        assert_eq!(
            counts.take_due(FIRST, 20),
            [VideoCount { video_id: video, plays: 3, last_played_at: Some(UnixMs(5)) }]
        );
        assert_eq!(counts.unpublished(FIRST), 0);
        assert_eq!(counts.totals(), Totals { videos: 1, plays: 3 });
    }

    #[test]
    fn what_one_dashboard_was_told_says_nothing_of_another() {
        let counts = ShardedCounts::for_dashboards(100, 2);
        assert_eq!(counts.dashboards(), 2);
        let [first, second]: [DashboardIndex; 2] =
            DashboardIndex::all(2).collect::<Vec<_>>().try_into().unwrap();
        let video = VideoId::from_u128(7);
        let told = |plays| [VideoCount { video_id: video, plays, last_played_at: None }];
        let state = VideoState { video_id: video, plays: 5, published: 5, last_played_at: 0 };
        counts.restore(state);
        assert_eq!((counts.unpublished(first), counts.unpublished(second)), (0, 1));
        // The second one is away.
        assert!(counts.add(video, 1, None));
        assert_eq!(counts.take_due(first, 20), told(6));
        assert!(counts.add(video, 200, None));
        assert_eq!(counts.take_due(first, 20), told(206));
        // From a hundred on the first waits; the second has seen nothing yet.
        assert!(!counts.add(video, 1, None));
        assert!(counts.take_due(first, 20).is_empty());
        assert_eq!(counts.take_due(second, 20), told(207));
        counts.release_waiting(second);
        assert!(counts.take_due(first, 20).is_empty());
        counts.release_waiting(first);
        assert_eq!(counts.take_due(first, 20), told(207));
        assert_eq!((counts.unpublished(first), counts.unpublished(second)), (0, 0));
        // Another database.
        counts.forget_published(second);
        assert_eq!((counts.unpublished(first), counts.unpublished(second)), (0, 1));
        assert!(!counts.add(video, 1, None));
        let batch = counts.take_due(second, 20);
        assert_eq!(batch, told(208));
        counts.put_back(second, &batch);
        assert_eq!((counts.unpublished(first), counts.unpublished(second)), (1, 1));
        assert_eq!(counts.totals(), Totals { videos: 1, plays: 208 });
    }

    #[test]
    fn workers_at_the_same_time_lose_nothing() {
        let counts = ShardedCounts::new(100);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..10_000 {
                        counts.add(VideoId::from_u128(n % 97), 1, None);
                    }
                });
            }
        });
        assert_eq!(counts.totals(), Totals { videos: 97, plays: 40_000 });
        assert_eq!(counts.all().iter().map(|(_, plays)| plays).sum::<u64>(), 40_000);
    }
}
