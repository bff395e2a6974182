//! The counts in memory: what lists are answered from, and what decides whether an update is news (pure). What is shown of
//! them is in `shown`, how lists are found in `lists`.
//!
//! A video costs some 230 bytes: its row, and its place in the order of each column.

mod lists;
mod shown;

use foldhash::{HashMap, HashMapExt, HashSet};
use uuid::Uuid;

use super::catalog::Catalog;
use super::list::VideoRow;
use super::pending::PendingSlice;
use super::rank::Ranking;
use crate::model::counts::Totals;
use crate::model::unix_time::UnixMs;
use crate::model::video::VideoCount;
use crate::model::video_id::VideoId;

/// In place of a processor's number: more than one has told of the video.
const SEVERAL: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    plays: i64,
    updated_at: UnixMs,
    // 0: no play said so.
    last_played_at: UnixMs,
    // Who told, or SEVERAL.
    processor: u32,
    // The catalog changes what is shown of it.
    is_changed: bool,
}

/// One processor's count of a video, as it lies on disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ProcessorCount {
    /// The processor's number in the database.
    pub(super) processor: u32,
    /// What it has counted of the video.
    pub(super) plays: i64,
}

/// Every video.
#[derive(Debug, Default)]
pub(super) struct Index {
    videos: HashMap<VideoId, Entry>,
    // Of the videos that several processors have told of.
    several: HashMap<VideoId, Vec<ProcessorCount>>,
    by_plays: Ranking,
    by_id: Ranking,
    by_updated_at: Ranking,
    by_last_played_at: Ranking,
    // Of what is shown.
    totals: Totals,
    // All plays of all rows, whatever is shown of them.
    counted: u64,
    // Plays that processors have told, and those of imports that it was loaded with: what rates are made of.
    told: u64,
    // The sum of each processor's counts, by its number, and the numbers by what the counts are kept under.
    sums: HashMap<u32, u64>,
    numbers: HashMap<Uuid, u32>,
    // Numbers of imports that were taken back: a video that nobody else has told of is as if it had never been.
    taken_back: HashSet<u32>,
    /// What is kept of videos besides their counts.
    catalog: Catalog,
    // Its orders are made at once, when all is in it.
    is_loading: bool,
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Index {
    /// Makes it from rows of the disk: (video, who told what, updated_at, last_played_at), in any order. More may be applied
    /// at once then; nothing is found in any order before [`Index::loaded`].
    pub(super) fn load(
        rows: impl Iterator<Item = (VideoId, ProcessorCount, UnixMs, UnixMs)>,
    ) -> Self {
        let mut index = Self { videos: HashMap::new(), is_loading: true, ..Self::default() };
        for (id, told, updated_at, last_played_at) in rows {
            let last_played_at = last_played_at.min(updated_at);
            let row = index.videos.entry(id).or_insert(Entry {
                plays: 0,
                updated_at,
                last_played_at,
                processor: told.processor,
                is_changed: false,
            });
            if row.processor != told.processor {
                let several = index.several.entry(id).or_default();
                if row.processor != SEVERAL {
                    several.push(ProcessorCount { processor: row.processor, plays: row.plays });
                    row.processor = SEVERAL;
                }
                several.push(told);
            }
            row.plays = row.plays.saturating_add(told.plays);
            row.updated_at = row.updated_at.max(updated_at);
            row.last_played_at = row.last_played_at.max(last_played_at);
            index.counted = index.counted.saturating_add(told.plays.unsigned_abs());
            let sum = index.sums.entry(told.processor).or_default();
            *sum = sum.saturating_add(told.plays.unsigned_abs());
        }
        index
    }

    /// What is kept of videos besides their counts.
    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The same, for whoever reads or writes the tables.
    pub(super) fn catalog_mut(&mut self) -> &mut Catalog {
        &mut self.catalog
    }

    /// Forgets every count; titles stay, and which videos are not shown. What was forgotten, to be dropped where nobody waits.
    pub(super) fn reset(&mut self) -> Self {
        let catalog = std::mem::take(&mut self.catalog).after_reset();
        std::mem::replace(self, Self { catalog, ..Self::default() })
    }

    /// Puts the videos in order, after which each keeps its place as it changes.
    pub(super) fn loaded(&mut self) {
        if !self.is_loading {
            return;
        }
        self.is_loading = false;
        self.told = self.counted;
        let changed: Vec<_> = self.catalog.all_changes().map(|(id, _)| *id).collect();
        for id in changed {
            if let Some(row) = self.videos.get_mut(&id) {
                row.is_changed = true;
            }
        }
        self.show_all();
    }

    /// The sums over all videos but those that are deleted.
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// All plays of all videos, whatever is shown of them, with what corrections add: no sum that is shown is more.
    pub(super) fn most(&self) -> u64 {
        self.counted.saturating_add(self.catalog.added())
    }

    /// Plays that processors have told: only its growth means anything.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// What each processor has counted of a video.
    pub(super) fn processor_counts(&self, id: &VideoId) -> Vec<ProcessorCount> {
        match self.videos.get(id) {
            None => Vec::new(),
            Some(row) if row.processor == SEVERAL => {
                self.several.get(id).cloned().unwrap_or_default()
            }
            Some(Entry { processor, plays, .. }) => {
                vec![ProcessorCount { processor: *processor, plays: *plays }]
            }
        }
    }

    /// The videos of a slice, in its order, as they are now.
    pub(super) fn of_slice(&self, slice: &PendingSlice) -> Vec<(VideoRow, Vec<ProcessorCount>)> {
        let ids = slice.videos.iter().map(|(id, _)| id);
        ids.filter_map(|id| Some((self.untitled(id)?, self.processor_counts(id)))).collect()
    }

    fn known(&self, processor: u32, id: &VideoId) -> Option<i64> {
        let row = self.videos.get(id)?;
        if row.processor == SEVERAL {
            let told = self.several.get(id)?.iter().find(|told| told.processor == processor)?;
            return Some(told.plays);
        }
        (row.processor == processor).then_some(row.plays)
    }

    /// Whether [`Index::apply`] would change anything.
    pub(super) fn is_news(&self, processor: u32, count: &VideoCount) -> bool {
        self.known(processor, &count.video_id).is_none_or(|known| known < signed(count.plays))
    }

    /// By how much [`Index::apply`] would raise all counts together.
    pub(super) fn growth(&self, processor: Option<u32>, counts: &[VideoCount]) -> u64 {
        let known = |id: &VideoId| processor.and_then(|processor| self.known(processor, id));
        let more = counts.iter().map(|count| {
            signed(count.plays).saturating_sub(known(&count.video_id).unwrap_or(0)).max(0)
        });
        more.map(i64::unsigned_abs).fold(0, u64::saturating_add)
    }

    /// Raises the processor's count of a video; returns by how much, and `None` if it was as high already.
    pub(super) fn apply(&mut self, processor: u32, count: &VideoCount, now: UnixMs) -> Option<i64> {
        let (id, plays) = (count.video_id, signed(count.plays));
        let known = self.known(processor, &id);
        if known.is_some_and(|known| known >= plays) {
            return None;
        }
        let delta = plays - known.unwrap_or(0);
        let old = self.videos.get(&id).copied();
        let before = self.shown_now(&id, old.as_ref());
        let mut row = old.unwrap_or(Entry {
            plays: 0,
            updated_at: UnixMs(0),
            last_played_at: UnixMs(0),
            processor,
            is_changed: self.catalog.changes(&id).is_some(),
        });
        if row.processor != processor {
            let several = self.several.entry(id).or_default();
            if row.processor != SEVERAL {
                several.push(ProcessorCount { processor: row.processor, plays: row.plays });
                row.processor = SEVERAL;
            }
            match several.iter_mut().find(|told| told.processor == processor) {
                Some(told) => told.plays = plays,
                None => several.push(ProcessorCount { processor, plays }),
            }
        }
        row.plays = row.plays.saturating_add(delta);
        row.updated_at = row.updated_at.max(now);
        // Nobody has played it later than now, whatever a clock said.
        let last_played_at = count.last_played_at.unwrap_or_default().min(now);
        row.last_played_at = row.last_played_at.max(last_played_at);
        self.videos.insert(id, row);
        self.show(id, before, &row);
        self.counted = self.counted.saturating_add(delta.unsigned_abs());
        let sum = self.sums.entry(processor).or_default();
        *sum = sum.saturating_add(delta.unsigned_abs());
        Some(delta)
    }

    /// Notes that so many plays that processors have told are told again from the beginning.
    pub(super) fn lose_told(&mut self, plays: u64) {
        self.told = self.told.saturating_sub(plays);
    }

    /// Notes that processors have told so many plays more.
    pub(super) fn add_told(&mut self, plays: i64) {
        self.told = self.told.saturating_add(plays.unsigned_abs());
    }

    /// What a processor has told: each video, with its plays.
    fn counts_of(&self, processor: u32) -> impl Iterator<Item = (&VideoId, i64)> {
        self.videos.iter().filter_map(move |(id, row)| {
            let plays = match row.processor {
                SEVERAL => self.known(processor, id),
                one => (one == processor).then_some(row.plays),
            };
            Some((id, plays?))
        })
    }

    /// The sum of a processor's counts.
    pub(super) fn plays_of(&self, processor: u32) -> u64 {
        self.sums.get(&processor).copied().unwrap_or_default()
    }

    /// The sum of the counts that are kept under `key`.
    pub(super) fn plays_under(&self, key: &Uuid) -> u64 {
        self.numbers.get(key).map_or(0, |number| self.plays_of(*number))
    }

    /// Notes which numbers stand for what counts are kept under.
    pub(super) fn number_processors(&mut self, numbers: impl IntoIterator<Item = (Uuid, u32)>) {
        self.numbers.extend(numbers);
    }

    /// Imports of those numbers are taken back, and their counts are forgotten next.
    pub(super) fn take_back(&mut self, imports: impl IntoIterator<Item = u32>) {
        if self.is_loading {
            // Nothing is shown yet.
            self.taken_back.extend(imports);
            return;
        }
        for import in imports {
            let of_no_plays = self.counts_of(import).filter(|(_, plays)| *plays == 0);
            let before: Vec<_> =
                of_no_plays.map(|(id, _)| (*id, self.shown_now(id, self.videos.get(id)))).collect();
            self.taken_back.insert(import);
            for (id, before) in before {
                if let Some(row) = self.videos.get(&id).copied() {
                    self.show(id, before, &row);
                }
            }
        }
    }

    /// Sets a processor's counts to 0; the videos whose counts have changed.
    pub(super) fn forget(&mut self, processor: u32) -> Vec<VideoId> {
        let of_plays = self.counts_of(processor).filter(|(_, plays)| *plays != 0);
        let ids: Vec<VideoId> = of_plays.map(|(id, _)| *id).collect();
        ids.iter().for_each(|id| self.forget_count(processor, id));
        ids
    }

    /// Sets a processor's count of a video to 0.
    fn forget_count(&mut self, processor: u32, id: &VideoId) {
        let known = self.known(processor, id);
        let Some((plays, old)) = known.zip(self.videos.get(id).copied()) else { return };
        let before = self.shown_now(id, Some(&old));
        let told = self.several.get_mut(id).into_iter().flatten();
        told.filter(|told| told.processor == processor).for_each(|told| told.plays = 0);
        let row = Entry { plays: old.plays.saturating_sub(plays), ..old };
        self.videos.insert(*id, row);
        self.show(*id, before, &row);
        self.counted = self.counted.saturating_sub(plays.unsigned_abs());
        let sum = self.sums.entry(processor).or_default();
        *sum = sum.saturating_sub(plays.unsigned_abs());
    }

    /// How many videos each of some processors has told of, and the sum of their counts; in the order of `processors`.
    pub(super) fn sums_of(&self, processors: &[u32]) -> Vec<Totals> {
        let at: HashMap<u32, usize> =
            processors.iter().enumerate().map(|(at, processor)| (*processor, at)).collect();
        let mut sums = vec![Totals::default(); processors.len()];
        let mut add = |processor: u32, plays: i64| {
            if let Some(sums) = at.get(&processor).and_then(|at| sums.get_mut(*at)) {
                sums.videos += 1;
                sums.plays = sums.plays.saturating_add(plays.unsigned_abs());
            }
        };
        for (id, row) in &self.videos {
            match self.several.get(id).filter(|_| row.processor == SEVERAL) {
                Some(several) => several.iter().for_each(|told| add(told.processor, told.plays)),
                None => add(row.processor, row.plays),
            }
        }
        sums
    }

    /// Every (video, plays) as it was counted, whatever is shown of it, ordered by id.
    pub(super) fn counts(&self) -> Vec<(VideoId, u64)> {
        let is_there = |(id, row): &(&VideoId, &Entry)| !self.is_taken_back(id, row);
        let rows = self.videos.iter().filter(is_there);
        let mut counts: Vec<_> = rows.map(|(id, row)| (*id, row.plays.unsigned_abs())).collect();
        counts.sort_unstable_by_key(|(id, _)| *id);
        counts
    }
}

#[cfg(test)]
mod tests;
