//! What the tables do not have yet: which videos have changed, with their plays by minute, and which processors are new
//! (pure).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use uuid::Uuid;

use super::period::MINUTE_MS;
use crate::model::unix_time::UnixMs;
use crate::model::video_id::VideoId;

/// Plays of one video by minute: (minute since the Unix epoch, plays), oldest first.
pub(super) type Minutes = Vec<(i64, i64)>;

/// A part of it that one transaction writes. It is pending until that is committed.
#[derive(Debug, Default)]
pub(super) struct PendingSlice {
    /// The changed videos, in the order of their ids.
    pub(super) videos: Vec<(VideoId, Minutes)>,
    /// The new processors: number and id.
    pub(super) processors: Vec<(u32, Uuid)>,
}

/// What a reset has left to do: the tables are to be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClearedTables {
    /// Which database it is from then on.
    pub(super) id: Uuid,
    /// The number of the first change behind the reset.
    pub(super) next: u64,
}

/// Every video whose count has changed, with its plays that are not in the history's tables yet.
#[derive(Debug, Default)]
pub(super) struct PendingHistory {
    videos: BTreeMap<VideoId, Minutes>,
    processors: Vec<(u32, Uuid)>,
    // What is being written: no video is in two of them.
    writing: Vec<Arc<PendingSlice>>,
    cleared: Option<ClearedTables>,
    resets: u64,
    // The oldest that had plays since the start, or the newest reset.
    first_minute: Option<i64>,
}

impl PendingHistory {
    /// How many videos have changed.
    pub(super) fn len(&self) -> usize {
        let writing: usize = self.writing.iter().map(|slice| slice.videos.len()).sum();
        self.videos.len() + writing
    }

    /// Adds a processor that has got this number.
    pub(super) fn add_processor(&mut self, number: u32, id: Uuid) {
        self.processors.push((number, id));
    }

    /// Adds plays of a video at that time; of a count that is new and 0, none.
    pub(super) fn add(&mut self, id: VideoId, plays: i64, at: UnixMs) {
        let minutes = self.videos.entry(id).or_default();
        let minute = at.0.div_euclid(MINUTE_MS);
        add_minute(minutes, minute, plays);
        if plays > 0 {
            self.first_minute = Some(self.first_minute.map_or(minute, |first| first.min(minute)));
        }
    }

    /// The first minute with plays since the start, or since a reset; the tables may have it, too.
    pub(super) fn first_minute(&self) -> Option<i64> {
        self.first_minute
    }

    /// One video's plays.
    pub(super) fn of(&self, id: &VideoId) -> Minutes {
        let written = self.writing.iter().find_map(|slice| {
            let at = slice.videos.binary_search_by_key(id, |(id, _)| *id).ok()?;
            Some(slice.videos[at].1.as_slice())
        });
        let written = written.unwrap_or_default();
        let since = self.videos.get(id).map_or(&[][..], Vec::as_slice);
        [written, since].concat()
    }

    /// Adds to `all` the plays of at most `most` videos behind `after`, in the order of their ids, as (video, minute,
    /// plays); with the first ones those that are being written, too. The last video; `None`: there are no more.
    pub(super) fn copy(
        &self,
        after: Option<VideoId>,
        most: usize,
        all: &mut Vec<(VideoId, i64, i64)>,
    ) -> Option<VideoId> {
        let mut push = |id: VideoId, minutes: &Minutes| {
            all.extend(minutes.iter().map(|(minute, plays)| (id, *minute, *plays)));
        };
        if after.is_none() {
            let writing = self.writing.iter().flat_map(|slice| &slice.videos);
            writing.for_each(|(id, minutes)| push(*id, minutes));
        }
        let next = self.behind(after).take(most);
        next.fold(None, |_, (id, minutes)| {
            push(*id, minutes);
            Some(*id)
        })
    }

    fn behind(&self, after: Option<VideoId>) -> impl Iterator<Item = (&VideoId, &Minutes)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.videos.range((from, Bound::Unbounded))
    }

    /// Begins to write, or goes on with it: all new processors, and the first `most` videos behind `after`, in the order of their ids.
    pub(super) fn begin_slice(&mut self, after: Option<VideoId>, most: usize) -> Arc<PendingSlice> {
        let ids: Vec<VideoId> = self.behind(after).take(most).map(|(id, _)| *id).collect();
        let videos = ids.into_iter().filter_map(|id| self.videos.remove_entry(&id)).collect();
        let processors = std::mem::take(&mut self.processors);
        let slice = Arc::new(PendingSlice { videos, processors });
        self.writing.push(Arc::clone(&slice));
        slice
    }

    /// The tables have what was being written. It is returned, to be dropped where nobody waits.
    pub(super) fn end_slices(&mut self) -> Vec<Arc<PendingSlice>> {
        std::mem::take(&mut self.writing)
    }

    /// What was being written is not in the tables: it waits again.
    pub(super) fn undo_slices(&mut self) {
        for slice in std::mem::take(&mut self.writing).into_iter().rev() {
            for (id, before) in &slice.videos {
                let since = self.videos.insert(*id, before.clone()).unwrap_or_default();
                let minutes = self.videos.entry(*id).or_default();
                since.into_iter().for_each(|(minute, plays)| add_minute(minutes, minute, plays));
            }
            self.processors.splice(0..0, slice.processors.iter().copied());
        }
    }

    /// How often all was forgotten.
    pub(super) fn resets(&self) -> u64 {
        self.resets
    }

    /// Forgets all; what the tables have is of before. What was forgotten, to be dropped where nobody waits.
    pub(super) fn clear(&mut self, tables: ClearedTables) -> Self {
        let new = Self { cleared: Some(tables), resets: self.resets + 1, ..Self::default() };
        std::mem::replace(self, new)
    }

    /// What a reset has left to do; until then the tables do not count.
    pub(super) fn cleared(&self) -> Option<ClearedTables> {
        self.cleared
    }

    /// The tables are empty as of that reset.
    pub(super) fn tables_cleared(&mut self, tables: ClearedTables) {
        self.cleared = self.cleared.filter(|cleared| *cleared != tables);
    }
}

/// Adds plays of a minute that is not before the last.
fn add_minute(minutes: &mut Minutes, minute: i64, plays: i64) {
    match minutes.last_mut() {
        _ if plays == 0 => {}
        Some((last, sum)) if *last == minute => *sum = sum.saturating_add(plays),
        // Most have one: room for four, as `push` makes, would be most of what a changed video costs.
        _ => {
            minutes.reserve_exact(1);
            minutes.push((minute, plays));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pending: &PendingHistory) -> Vec<(u128, i64, i64)> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            after = pending.copy(after, 2, &mut all);
            if after.is_none() {
                break;
            }
        }
        all.into_iter()
            .map(|(id, minute, plays)| (id.guid().unwrap().as_u128(), minute, plays))
            .collect()
    }

    #[test]
    fn what_is_being_written_is_pending_until_it_is_committed() {
        let mut pending = PendingHistory::default();
        let at = |minute: i64| UnixMs(minute * MINUTE_MS);
        for id in 1..=5 {
            pending.add(VideoId::from_u128(id), 10, at(1));
        }
        pending.add_processor(1, Uuid::nil());
        let slice = pending.begin_slice(None, 2);
        assert_eq!((slice.videos.len(), slice.processors.len(), pending.len()), (2, 1, 5));
        pending.add(VideoId::from_u128(2), 1, at(1));
        pending.add(VideoId::from_u128(2), 1, at(2));
        assert_eq!(pending.of(&VideoId::from_u128(2)), [(1, 10), (1, 1), (2, 1)]);
        let plays = |pending: &PendingHistory| -> i64 {
            all(pending).iter().map(|(_, _, plays)| plays).sum()
        };
        assert_eq!(plays(&pending), 52);
        pending.undo_slices();
        assert_eq!(pending.of(&VideoId::from_u128(2)), [(1, 11), (2, 1)]);
        assert_eq!((plays(&pending), pending.len()), (52, 5));
        let slice = pending.begin_slice(None, 2);
        assert_eq!((slice.videos.len(), slice.processors.len()), (2, 1));
        pending.end_slices();
        assert_eq!((all(&pending), pending.len()), (vec![(3, 1, 10), (4, 1, 10), (5, 1, 10)], 3));
        assert_eq!(pending.begin_slice(Some(VideoId::from_u128(4)), 9).videos.len(), 1);
        let tables = ClearedTables { id: Uuid::nil(), next: 7 };
        pending.clear(tables);
        // The slice of before the reset ends, whichever way: it changes nothing.
        pending.undo_slices();
        assert_eq!((pending.len(), pending.cleared()), (0, Some(tables)));
        pending.tables_cleared(ClearedTables { id: Uuid::nil(), next: 6 });
        assert_eq!(pending.cleared(), Some(tables));
        pending.tables_cleared(tables);
        assert_eq!(pending.cleared(), None);
    }
}
