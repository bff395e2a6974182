//! The counts in memory: what lists are answered from, and what decides whether an update is news (pure).
//!
//! A video costs some 230 bytes: its row, and its place in the order of each column.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use foldhash::{HashMap, HashMapExt};
use uuid::Uuid;

use super::order::{Order, Place};
use crate::model::video_count::VideoCount;

/// The most rows of one [`Index::list`].
pub(in super::super) const LIST_MAX: u32 = 500;

/// Up to how many matches of a search are gathered and sorted. More are a good part of all videos, so that
/// walking through all in order soon meets enough of them.
const GATHER_MAX: usize = 20_000;

/// In place of a processor's number: more than one has told of the video.
const SEVERAL: u32 = u32::MAX;

/// The sums over all videos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many videos have a count.
    pub videos: u64,
    /// The sum of their plays.
    pub plays: u64,
}

/// One video's row.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(in super::super) struct Video {
    pub(in super::super) video_id: Uuid,
    pub(in super::super) plays: i64,
    pub(in super::super) updated_at: i64,
    pub(in super::super) last_played_at: Option<i64>,
}

/// What a list is ordered by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) enum Column {
    Plays,
    VideoId,
    UpdatedAt,
    LastPlayedAt,
}

impl Column {
    pub(in super::super) const ALL: [(&str, Self); 4] = [
        ("plays", Self::Plays),
        ("video_id", Self::VideoId),
        ("updated_at", Self::UpdatedAt),
        ("last_played_at", Self::LastPlayedAt),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, column)| *column == self).map_or("plays", |(name, _)| name)
    }
}

/// A row's place in a list: what `next` of one page says and `after` asks the following one for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) struct Cursor {
    /// What the list is ordered by.
    pub(in super::super) column: Column,
    /// The row's value of it; 0 in a list by id.
    pub(in super::super) value: i64,
    pub(in super::super) video_id: Uuid,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.column.name(), self.value, self.video_id)
    }
}

impl FromStr for Cursor {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(());
        let (column, value, video_id) = (part()?, part()?, part()?);
        let (_, column) = Column::ALL.iter().find(|(name, _)| *name == column).ok_or(())?;
        let cursor = Self {
            column: *column,
            value: value.parse().map_err(drop)?,
            video_id: Uuid::try_parse(video_id).map_err(drop)?,
        };
        // `+5`, and a UUID in braces, are nothing that was ever given out.
        (cursor.to_string() == text).then_some(cursor).ok_or(())
    }
}

/// Which rows, in which order.
#[derive(Clone, Debug)]
pub(in super::super) struct ListQuery {
    pub(in super::super) column: Column,
    pub(in super::super) descending: bool,
    pub(in super::super) limit: u32,
    /// Rows left out first.
    pub(in super::super) offset: u32,
    /// Only rows behind this one.
    pub(in super::super) after: Option<Cursor>,
    /// The lowest and the highest id, both included; `None`: all.
    pub(in super::super) range: Option<(Uuid, Uuid)>,
}

/// What a list is answered with.
#[derive(Debug, PartialEq)]
pub(in super::super) struct Page {
    pub(in super::super) rows: Vec<Video>,
    /// How many videos are in the range.
    pub(in super::super) matching: u64,
    /// Where the next page begins; `None` behind the last row.
    pub(in super::super) next: Option<Cursor>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    plays: i64,
    updated_at: i64,
    last_played_at: i64,
    // Who told, or SEVERAL.
    processor: u32,
}

/// One processor's count of a video, as it lies on disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) processor: u32,
    pub(super) plays: i64,
}

/// Every video.
#[derive(Debug, Default)]
pub(super) struct Index {
    videos: HashMap<Uuid, Row>,
    // Of the videos that several processors have told of.
    several: HashMap<Uuid, Vec<Told>>,
    by_plays: Order,
    by_id: Order,
    by_updated_at: Order,
    by_last_played_at: Order,
    totals: Totals,
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Index {
    /// Makes it from rows of the disk: (video, who told what, updated_at, last_played_at), in any order.
    pub(super) fn load(rows: impl Iterator<Item = (Uuid, Told, i64, i64)>) -> Self {
        let mut index = Self { videos: HashMap::new(), ..Self::default() };
        for (id, told, updated_at, last_played_at) in rows {
            let row = index.videos.entry(id).or_insert(Row {
                plays: 0,
                updated_at,
                last_played_at,
                processor: told.processor,
            });
            if row.processor != told.processor {
                let several = index.several.entry(id).or_default();
                if row.processor != SEVERAL {
                    several.push(Told { processor: row.processor, plays: row.plays });
                    row.processor = SEVERAL;
                }
                several.push(told);
            }
            row.plays = row.plays.saturating_add(told.plays);
            row.updated_at = row.updated_at.max(updated_at);
            row.last_played_at = row.last_played_at.max(last_played_at);
            index.totals.plays = index.totals.plays.saturating_add(told.plays.unsigned_abs());
        }
        let order = |value: fn(&Row) -> i64| {
            Order::of(index.videos.iter().map(|(id, row)| (value(row), *id)).collect())
        };
        (index.by_plays, index.by_id) = (order(|row| row.plays), order(|_| 0));
        index.by_updated_at = order(|row| row.updated_at);
        index.by_last_played_at = order(|row| row.last_played_at);
        index.totals.videos = index.videos.len() as u64;
        index
    }

    /// The sums over all videos.
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// What each processor has told of a video.
    pub(super) fn told(&self, id: &Uuid) -> Vec<Told> {
        match self.videos.get(id) {
            None => Vec::new(),
            Some(row) if row.processor == SEVERAL => {
                self.several.get(id).cloned().unwrap_or_default()
            }
            Some(Row { processor, plays, .. }) => {
                vec![Told { processor: *processor, plays: *plays }]
            }
        }
    }

    fn known(&self, processor: u32, id: &Uuid) -> Option<i64> {
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

    /// Raises the processor's count of a video; returns by how much, and `None` if it was as high already.
    pub(super) fn apply(&mut self, processor: u32, count: &VideoCount, now: i64) -> Option<i64> {
        let (id, plays) = (count.video_id, signed(count.plays));
        let known = self.known(processor, &id);
        if known.is_some_and(|known| known >= plays) {
            return None;
        }
        let delta = plays - known.unwrap_or(0);
        let old = self.videos.get(&id).copied();
        let mut row = old.unwrap_or(Row { plays: 0, updated_at: 0, last_played_at: 0, processor });
        if row.processor != processor {
            let several = self.several.entry(id).or_default();
            if row.processor != SEVERAL {
                several.push(Told { processor: row.processor, plays: row.plays });
                row.processor = SEVERAL;
            }
            match several.iter_mut().find(|told| told.processor == processor) {
                Some(told) => told.plays = plays,
                None => several.push(Told { processor, plays }),
            }
        }
        row.plays = row.plays.saturating_add(delta);
        row.updated_at = row.updated_at.max(now);
        row.last_played_at = row.last_played_at.max(count.last_played_at.map_or(0, |at| at.0));
        self.videos.insert(id, row);
        let mut shift = |order: fn(&mut Self) -> &mut Order, value: fn(&Row) -> i64| {
            let from = old.as_ref().map(value);
            if from != Some(value(&row)) {
                from.into_iter().for_each(|from| order(self).remove(&(from, id)));
                order(self).insert((value(&row), id));
            }
        };
        shift(|index| &mut index.by_id, |_| 0);
        shift(|index| &mut index.by_plays, |row| row.plays);
        shift(|index| &mut index.by_updated_at, |row| row.updated_at);
        shift(|index| &mut index.by_last_played_at, |row| row.last_played_at);
        self.totals.videos = self.videos.len() as u64;
        self.totals.plays = self.totals.plays.saturating_add(delta.unsigned_abs());
        Some(delta)
    }

    /// One video.
    pub(super) fn video(&self, id: &Uuid) -> Option<Video> {
        let row = self.videos.get(id)?;
        Some(Video {
            video_id: *id,
            plays: row.plays,
            updated_at: row.updated_at,
            last_played_at: (row.last_played_at > 0).then_some(row.last_played_at),
        })
    }

    /// A video's place by plays: 1 for the most.
    pub(super) fn rank(&self, video: &Video) -> u64 {
        (self.by_plays.len() - self.by_plays.rank(&(video.plays, video.video_id))) as u64
    }

    /// Every (video, plays), ordered by id.
    pub(super) fn counts(&self) -> Vec<(Uuid, u64)> {
        let plays = |id| self.videos.get(id).map_or(0, |row| row.plays.unsigned_abs());
        self.by_id.upwards(0).map(|(_, id)| (*id, plays(id))).collect()
    }

    fn order(&self, column: Column) -> &Order {
        match column {
            Column::Plays => &self.by_plays,
            Column::VideoId => &self.by_id,
            Column::UpdatedAt => &self.by_updated_at,
            Column::LastPlayedAt => &self.by_last_played_at,
        }
    }

    fn value(&self, column: Column, id: &Uuid) -> i64 {
        self.videos.get(id).map_or(0, |row| match column {
            Column::Plays => row.plays,
            Column::VideoId => 0,
            Column::UpdatedAt => row.updated_at,
            Column::LastPlayedAt => row.last_played_at,
        })
    }

    /// A page of rows.
    pub(super) fn list(&self, query: &ListQuery) -> Page {
        // Ids between these two ranks match.
        let (low, high) = match query.range {
            None => (0, self.by_id.len()),
            Some((low, high)) => {
                let low = self.by_id.rank(&(0, low));
                // No id has the value 1, so this is behind `high` itself.
                let behind = self.by_id.rank(&(0, high));
                let is_there = self.by_id.upwards(behind).next() == Some(&(0, high));
                (low, behind + usize::from(is_there))
            }
        };
        let (skip, limit) = (query.offset as usize, query.limit.min(LIST_MAX) as usize);
        let after = query.after.map(|cursor| (cursor.value, cursor.video_id));
        // One more than asked for: is there a next page?
        let take = limit + 1;
        let mut places: Vec<Place> = if query.range.is_none() || query.column == Column::VideoId {
            let (low, high) =
                if query.range.is_none() { (0, self.by_id.len()) } else { (low, high) };
            self.window(query, after, low, high).skip(skip).take(take).collect()
        } else if high - low <= GATHER_MAX {
            let ids = self.by_id.upwards(low).take(high - low);
            let mut places: Vec<_> =
                ids.map(|(_, id)| (self.value(query.column, id), *id)).collect();
            places.sort_unstable();
            if query.descending {
                places.reverse();
            }
            let is_behind = |place: &Place| {
                after.is_none_or(
                    |after| if query.descending { *place < after } else { *place > after },
                )
            };
            places.into_iter().filter(is_behind).skip(skip).take(take).collect()
        } else {
            let (first, last) = query.range.unwrap_or((Uuid::nil(), Uuid::max()));
            self.window(query, after, 0, self.by_id.len())
                .filter(|(_, id)| (first..=last).contains(id))
                .skip(skip)
                .take(take)
                .collect()
        };
        let is_more = places.len() > limit;
        places.truncate(limit);
        let last = places.last().filter(|_| is_more);
        let next =
            last.map(|(value, id)| Cursor { column: query.column, value: *value, video_id: *id });
        let rows = places.iter().filter_map(|(_, id)| self.video(id)).collect();
        Page { rows, matching: (high - low) as u64, next }
    }

    /// The places of ranks `low` to `high` that are behind `after`, in the query's direction.
    fn window<'a>(
        &'a self,
        query: &ListQuery,
        after: Option<Place>,
        low: usize,
        high: usize,
    ) -> Box<dyn Iterator<Item = Place> + 'a> {
        let order = self.order(query.column);
        let cut = after.map(|after| {
            let below = order.rank(&after);
            let is_there = order.upwards(below).next() == Some(&after);
            if query.descending { below } else { below + usize::from(is_there) }
        });
        if query.descending {
            let high = cut.map_or(high, |cut| cut.min(high));
            Box::new(order.downwards(high).copied().take(high.saturating_sub(low)))
        } else {
            let low = cut.map_or(low, |cut| cut.max(low));
            Box::new(order.upwards(low).copied().take(high.saturating_sub(low)))
        }
    }
}

/// Plays of videos by minute that are not in the history's tables yet: (minute, plays), oldest first.
pub(super) type Unfolded = BTreeMap<Uuid, Vec<(i64, i64)>>;

#[cfg(test)]
mod tests {
    use crate::model::unix_time::UnixMs;
    use proptest::prelude::*;

    use super::*;

    fn count(id: u128, plays: u64) -> VideoCount {
        let last_played_at = Some(UnixMs((plays * 3 % 7) as i64));
        VideoCount { video_id: Uuid::from_u128(id), plays, last_played_at }
    }

    /// What [`Index::list`] must answer, by sorting everything.
    fn expected(index: &Index, query: &ListQuery) -> Page {
        let mut places: Vec<_> = index
            .videos
            .keys()
            .filter(|id| query.range.is_none_or(|(low, high)| (&low..=&high).contains(id)))
            .map(|id| (index.value(query.column, id), *id))
            .collect();
        places.sort_unstable();
        if query.descending {
            places.reverse();
        }
        let matching = places.len() as u64;
        if let Some(after) = query.after.map(|cursor| (cursor.value, cursor.video_id)) {
            places.retain(|place| if query.descending { *place < after } else { *place > after });
        }
        let rest = &places[places.len().min(query.offset as usize)..];
        let shown = &rest[..rest.len().min(query.limit as usize)];
        let next = shown.last().filter(|_| rest.len() > shown.len()).map(|(value, id)| Cursor {
            column: query.column,
            value: *value,
            video_id: *id,
        });
        Page { rows: shown.iter().filter_map(|(_, id)| index.video(id)).collect(), matching, next }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn lists_are_those_of_sorting_everything(
            updates in prop::collection::vec((0u32..3, 0u128..60, 0u64..30), 1..200),
            column in 0usize..4, descending: bool, limit in 1u32..20, offset in 0u32..20,
            range in prop::option::of((0u128..60, 0u128..60)), after in prop::option::of((0i64..30, 0u128..60)),
        ) {
            let mut index = Index::default();
            for (time, (processor, id, plays)) in updates.iter().enumerate() {
                let news = index.is_news(*processor, &count(*id, *plays));
                prop_assert_eq!(index.apply(*processor, &count(*id, *plays), time as i64).is_some(), news);
            }
            let column = Column::ALL[column].1;
            let after = after.map(|(value, id)| Cursor {
                column,
                value: if column == Column::VideoId { 0 } else { value },
                video_id: Uuid::from_u128(id),
            });
            let range = range.map(|(a, b)| (Uuid::from_u128(a.min(b)), Uuid::from_u128(a.max(b))));
            let query = ListQuery { column, descending, limit, offset, after, range };
            prop_assert_eq!(index.list(&query), expected(&index, &query));
            // Written down and read again it is the same.
            let rows: Vec<_> = index.videos.iter().flat_map(|(id, row)| {
                index.told(id).into_iter().map(|told| (*id, told, row.updated_at, row.last_played_at))
            }).collect();
            let again = Index::load(rows.into_iter());
            prop_assert_eq!(again.list(&query), index.list(&query));
            prop_assert_eq!((again.totals(), again.counts()), (index.totals(), index.counts()));
        }
    }

    #[test]
    fn a_search_that_finds_many_is_answered_like_one_that_finds_few() {
        let mut index = Index::default();
        for id in 0..(GATHER_MAX as u128 + 500) {
            index.apply(1, &count(id, (id * 7919 % 1009) as u64), 1);
        }
        for (descending, after, offset) in
            [(true, None, 3), (false, Some((500, 77)), 0), (true, Some((500, 77)), 9)]
        {
            let query = ListQuery {
                column: Column::Plays,
                descending,
                limit: 10,
                offset,
                after: after.map(|(value, id)| Cursor {
                    column: Column::Plays,
                    value,
                    video_id: Uuid::from_u128(id),
                }),
                range: Some((Uuid::from_u128(3), Uuid::from_u128(GATHER_MAX as u128 + 400))),
            };
            assert_eq!(index.list(&query), expected(&index, &query));
        }
    }

    #[test]
    fn a_cursor_is_what_was_given_out_and_nothing_else() {
        let cursor = Cursor { column: Column::Plays, value: -5, video_id: Uuid::from_u128(7) };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in [
            "",
            "plays",
            "plays.5",
            "plays.+5.00000000-0000-0000-0000-000000000007",
            "plays.5.{00000000-0000-0000-0000-000000000007}",
            "plays.5.00000000000000000000000000000007",
            "likes.5.00000000-0000-0000-0000-000000000007",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(()), "{text}");
        }
    }
}
