//! The counts in memory: what lists are answered from, and what decides whether an update is news (pure).
//!
//! A video costs some 230 bytes: its row, and its place in the order of each column.

use std::ops::Range;

use foldhash::{HashMap, HashMapExt};

use super::list::{Column, Cursor, LIST_MAX, ListQuery, Page, VideoRow};
use super::pending::PendingSlice;
use super::rank::{Place, Ranking};
use super::search::IdSearch;
use crate::model::counts::Totals;
use crate::model::unix_time::UnixMs;
use crate::model::video::VideoCount;
use crate::model::video_id::VideoId;

/// Up to how many matches of a search are gathered and sorted. More are a good part of all videos, so that
/// walking through all in order soon meets enough of them.
const GATHER_MAX: usize = 20_000;

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
    totals: Totals,
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
            index.totals.plays = index.totals.plays.saturating_add(told.plays.unsigned_abs());
        }
        index.totals.videos = index.videos.len() as u64;
        index
    }

    /// Puts the videos in order, after which each keeps its place as it changes.
    pub(super) fn loaded(&mut self) {
        if !self.is_loading {
            return;
        }
        let order = |value: fn(&Entry) -> i64| {
            Ranking::of(self.videos.iter().map(|(id, row)| (value(row), *id)).collect())
        };
        let (by_plays, by_id) = (order(|row| row.plays), order(|_| 0));
        let (by_updated_at, by_last_played_at) =
            (order(|row| row.updated_at.0), order(|row| row.last_played_at.0));
        *self = Self {
            videos: std::mem::take(&mut self.videos),
            several: std::mem::take(&mut self.several),
            by_plays,
            by_id,
            by_updated_at,
            by_last_played_at,
            totals: self.totals,
            is_loading: false,
        };
    }

    /// The sums over all videos.
    pub(super) fn totals(&self) -> Totals {
        self.totals
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
        ids.filter_map(|id| Some((self.video(id)?, self.processor_counts(id)))).collect()
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
        let mut row = old.unwrap_or(Entry {
            plays: 0,
            updated_at: UnixMs(0),
            last_played_at: UnixMs(0),
            processor,
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
        if !self.is_loading {
            self.move_places(id, old.as_ref(), &row);
        }
        self.totals.videos = self.videos.len() as u64;
        self.totals.plays = self.totals.plays.saturating_add(delta.unsigned_abs());
        Some(delta)
    }

    /// The sum of a processor's counts.
    pub(super) fn plays_of(&self, processor: u32) -> u64 {
        let of_row = |(id, row): (&VideoId, &Entry)| match row.processor {
            SEVERAL => self.known(processor, id),
            one => (one == processor).then_some(row.plays),
        };
        self.videos
            .iter()
            .filter_map(of_row)
            .fold(0, |sum, plays| sum.saturating_add(plays.unsigned_abs()))
    }

    /// Sets a processor's counts to 0; the videos whose counts have changed.
    pub(super) fn forget(&mut self, processor: u32) -> Vec<VideoId> {
        let ids: Vec<VideoId> = self.videos.keys().copied().collect();
        ids.into_iter().filter(|id| self.forget_count(processor, id)).collect()
    }

    /// Sets a processor's count of a video to 0; whether it was more.
    fn forget_count(&mut self, processor: u32, id: &VideoId) -> bool {
        let known = self.known(processor, id).filter(|plays| *plays != 0);
        let Some((plays, old)) = known.zip(self.videos.get(id).copied()) else { return false };
        let told = self.several.get_mut(id).into_iter().flatten();
        told.filter(|told| told.processor == processor).for_each(|told| told.plays = 0);
        let row = Entry { plays: old.plays.saturating_sub(plays), ..old };
        self.videos.insert(*id, row);
        if !self.is_loading {
            self.move_places(*id, Some(&old), &row);
        }
        self.totals.plays = self.totals.plays.saturating_sub(plays.unsigned_abs());
        true
    }

    /// Moves a video to its places.
    fn move_places(&mut self, id: VideoId, old: Option<&Entry>, row: &Entry) {
        let mut shift = |order: fn(&mut Self) -> &mut Ranking, value: fn(&Entry) -> i64| {
            let from = old.map(value);
            if from != Some(value(row)) {
                from.into_iter().for_each(|from| order(self).remove(&(from, id)));
                order(self).insert((value(row), id));
            }
        };
        shift(|index| &mut index.by_id, |_| 0);
        shift(|index| &mut index.by_plays, |row| row.plays);
        shift(|index| &mut index.by_updated_at, |row| row.updated_at.0);
        shift(|index| &mut index.by_last_played_at, |row| row.last_played_at.0);
    }

    /// One video.
    pub(super) fn video(&self, id: &VideoId) -> Option<VideoRow> {
        let row = self.videos.get(id)?;
        Some(VideoRow {
            video_id: *id,
            plays: row.plays,
            updated_at: row.updated_at,
            last_played_at: (row.last_played_at.0 > 0).then_some(row.last_played_at),
        })
    }

    /// A video's place by plays: 1 for the most.
    pub(super) fn rank(&self, video: &VideoRow) -> u64 {
        (self.by_plays.len() - self.by_plays.rank(&(video.plays, video.video_id))) as u64
    }

    /// Every (video, plays), ordered by id.
    pub(super) fn counts(&self) -> Vec<(VideoId, u64)> {
        let plays = |id| self.videos.get(id).map_or(0, |row| row.plays.unsigned_abs());
        self.by_id.upwards(0).map(|(_, id)| (*id, plays(id))).collect()
    }

    fn order(&self, column: Column) -> &Ranking {
        match column {
            Column::Plays => &self.by_plays,
            Column::VideoId => &self.by_id,
            Column::UpdatedAt => &self.by_updated_at,
            Column::LastPlayedAt => &self.by_last_played_at,
        }
    }

    fn value(&self, column: Column, id: &VideoId) -> i64 {
        self.videos.get(id).map_or(0, |row| match column {
            Column::Plays => row.plays,
            Column::VideoId => 0,
            Column::UpdatedAt => row.updated_at.0,
            Column::LastPlayedAt => row.last_played_at.0,
        })
    }

    /// A page of rows.
    pub(super) fn list(&self, query: &ListQuery) -> Page {
        let ranks = self.matching(query.search.as_ref());
        let limit = query.limit.min(LIST_MAX) as usize;
        // One more than asked for: is there a next page?
        let mut places = self.places(query, &ranks, limit + 1);
        let is_more = places.len() > limit;
        places.truncate(limit);
        let last = places.last().filter(|_| is_more);
        let next =
            last.map(|(value, id)| Cursor { column: query.column, value: *value, video_id: *id });
        let rows = places.iter().filter_map(|(_, id)| self.video(id)).collect();
        Page { rows, matching: len(&ranks) as u64, next }
    }

    /// The ranks by id of the videos that are wanted: ascending, disjoint.
    fn matching(&self, search: Option<&IdSearch>) -> Vec<Range<usize>> {
        match search {
            None => std::iter::once(0..self.by_id.len()).collect(),
            Some(search) => search.ranks(&self.by_id),
        }
    }

    /// The first `take` places of a list, whose videos have these ranks by id.
    fn places(&self, query: &ListQuery, ranks: &[Range<usize>], take: usize) -> Vec<Place> {
        let skip = query.offset as usize;
        let after = query.after.map(|cursor| (cursor.value, cursor.video_id));
        let Some(search) = query.search.as_ref().filter(|_| query.column != Column::VideoId) else {
            return self.window(query, after, ranks).skip(skip).take(take).collect();
        };
        if len(ranks) > GATHER_MAX {
            let all = 0..self.by_id.len();
            return self
                .window(query, after, &[all])
                .filter(|(_, id)| search.wants(id))
                .skip(skip)
                .take(take)
                .collect();
        }
        let ids = ranks.iter().flat_map(|ranks| self.by_id.upwards(ranks.start).take(ranks.len()));
        let mut places: Vec<_> = ids.map(|(_, id)| (self.value(query.column, id), *id)).collect();
        places.sort_unstable();
        if query.descending {
            places.reverse();
        }
        let is_behind = |place: &Place| {
            after.is_none_or(|after| if query.descending { *place < after } else { *place > after })
        };
        places.into_iter().filter(is_behind).skip(skip).take(take).collect()
    }

    /// The places of these ranks that are behind `after`, in the query's direction.
    fn window<'a>(
        &'a self,
        query: &ListQuery,
        after: Option<Place>,
        ranks: &[Range<usize>],
    ) -> Box<dyn Iterator<Item = Place> + 'a> {
        let order = self.order(query.column);
        let (first, behind) = after.map_or((0, usize::MAX), |after| {
            let below = order.rank(&after);
            let is_there = order.upwards(below).next() == Some(&after);
            let first = below + usize::from(is_there);
            if query.descending { (0, below) } else { (first, usize::MAX) }
        });
        let within = |ranks: &Range<usize>| ranks.start.max(first)..ranks.end.min(behind);
        let ranks: Vec<_> = ranks.iter().map(within).collect();
        if query.descending {
            let of = |ranks: Range<usize>| order.downwards(ranks.end).copied().take(ranks.len());
            Box::new(ranks.into_iter().rev().flat_map(of))
        } else {
            let of = |ranks: Range<usize>| order.upwards(ranks.start).copied().take(ranks.len());
            Box::new(ranks.into_iter().flat_map(of))
        }
    }
}

/// How many ranks there are.
fn len(ranks: &[Range<usize>]) -> usize {
    ranks.iter().map(Range::len).sum()
}

#[cfg(test)]
mod tests;
