//! How a list's rows are found (pure).

use std::borrow::Cow;
use std::ops::Range;

use super::Index;
use crate::dashboard::store::list::{Column, Cursor, LIST_MAX, ListQuery, Page};
use crate::dashboard::store::rank::{Place, Ranking};
use crate::dashboard::store::search::Search;
use crate::dashboard::store::titles::TitleNumbers;
use crate::model::video_id::VideoId;

/// Up to how many matches of a search are gathered and sorted at most. Where so many are wanted that walking through all in
/// order meets enough of them sooner, that is done.
pub(super) const GATHER_MAX: usize = 20_000;

/// The videos that are wanted.
struct Matches<'a> {
    search: Option<&'a Search>,
    // By their ids: ranks in the order of ids, ascending, disjoint.
    ranks: Vec<Range<usize>>,
    // By their titles, and not by their ids.
    titles: Cow<'a, TitleNumbers>,
}

impl Matches<'_> {
    fn len(&self) -> usize {
        len(&self.ranks) + self.titles.len() as usize
    }
}

impl Index {
    fn order(&self, column: Column) -> &Ranking {
        match column {
            Column::Plays => &self.by_plays,
            Column::VideoId => &self.by_id,
            Column::UpdatedAt => &self.by_updated_at,
            Column::LastPlayedAt => &self.by_last_played_at,
        }
    }

    pub(super) fn value(&self, column: Column, id: &VideoId) -> i64 {
        self.place_of(id).map_or(0, |(plays, updated_at, last_played_at)| match column {
            Column::Plays => plays,
            Column::VideoId => 0,
            Column::UpdatedAt => updated_at.0,
            Column::LastPlayedAt => last_played_at.0,
        })
    }

    /// A page of rows.
    pub(in crate::dashboard::store) fn list(&self, query: &ListQuery) -> Page {
        let matches = self.matches(query.search.as_ref());
        let limit = query.limit.min(LIST_MAX) as usize;
        // One more than asked for: is there a next page?
        let mut places = self.places(query, &matches, limit + 1);
        let is_more = places.len() > limit;
        places.truncate(limit);
        let last = places.last().filter(|_| is_more);
        let next =
            last.map(|(value, id)| Cursor { column: query.column, value: *value, video_id: *id });
        let rows = places.iter().filter_map(|(_, id)| self.video(id)).collect();
        Page { rows, matching: matches.len() as u64, next }
    }

    fn matches<'a>(&'a self, search: Option<&'a Search>) -> Matches<'a> {
        let Some(wanted) = search else {
            let all = std::iter::once(0..self.by_id.len()).collect();
            return Matches { search, ranks: all, titles: Cow::default() };
        };
        let ranks = wanted.ids().ranks(&self.by_id);
        let mut found = self.catalog().titles().find(wanted.words());
        if found.is_empty() || len(&ranks) == 0 {
            return Matches { search, ranks, titles: found };
        }
        let titles = self.catalog().titles();
        // Those that are found in both ways: the fewer are looked at.
        if found.len() as usize <= len(&ranks) {
            let is_of_id = |number: &u32| wanted.ids().wants(titles.video(*number));
            let both: Vec<u32> = found.iter().filter(is_of_id).collect();
            *found.to_mut() -= TitleNumbers::from_iter(both);
        } else {
            for (_, id) in self.of_ranks(&ranks) {
                if let Some(number) = titles.number(id) {
                    found.to_mut().remove(number);
                }
            }
        }
        Matches { search, ranks, titles: found }
    }

    fn of_ranks<'a>(&'a self, ranks: &'a [Range<usize>]) -> impl Iterator<Item = &'a Place> {
        ranks.iter().flat_map(|ranks| self.by_id.upwards(ranks.start).take(ranks.len()))
    }

    /// The first `take` places of a list of these videos.
    fn places(&self, query: &ListQuery, matches: &Matches<'_>, take: usize) -> Vec<Place> {
        let skip = query.offset as usize;
        let after = query.after.map(|cursor| (cursor.value, cursor.video_id));
        let Matches { search, ranks, titles } = matches;
        let is_by_rank = query.column == Column::VideoId && titles.is_empty();
        let Some(search) = search.filter(|_| !is_by_rank) else {
            return self.window(query, after, ranks).skip(skip).take(take).collect();
        };
        let known = self.catalog().titles();
        // How many are met in the list's order until the page is full, if the wanted ones lie evenly in it.
        let met = (skip + take).saturating_mul(self.by_id.len()) / matches.len().max(1);
        if matches.len() > GATHER_MAX || met < matches.len() {
            let all = 0..self.by_id.len();
            return self
                .window(query, after, &[all])
                .filter(|(_, id)| search.ids().wants(id) || known.is_in(titles, id))
                .skip(skip)
                .take(take)
                .collect();
        }
        let place = |id: VideoId| (self.value(query.column, &id), id);
        let of_ids = self.of_ranks(ranks).map(|(_, id)| place(*id));
        let of_titles = known.places(titles).into_iter();
        let is_behind = |place: &Place| {
            after.is_none_or(|after| if query.descending { *place < after } else { *place > after })
        };
        // By plays they lie beside the titles; else each is looked up.
        let places: Vec<_> = if query.column == Column::Plays {
            of_ids.chain(of_titles).filter(is_behind).collect()
        } else {
            of_ids.chain(of_titles.map(|(_, id)| place(id))).filter(is_behind).collect()
        };
        first(places, skip + take, query.descending).into_iter().skip(skip).collect()
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

/// The first `most` of these places in their order.
fn first(mut places: Vec<Place>, most: usize, is_descending: bool) -> Vec<Place> {
    let compare = |one: &Place, other: &Place| {
        let order = one.cmp(other);
        if is_descending { order.reverse() } else { order }
    };
    if most < places.len() {
        // Of thousands a page is wanted: the others need no order.
        places.select_nth_unstable_by(most, compare);
        places.truncate(most);
    }
    places.sort_unstable_by(compare);
    places
}

/// How many ranks there are.
pub(super) fn len(ranks: &[Range<usize>]) -> usize {
    ranks.iter().map(Range::len).sum()
}
