//! [`Index`] beside a list that is sorted anew each time.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::lists::{GATHER_MAX, len};
use super::*;
use crate::dashboard::store::catalog::VisibilitySet;
use crate::dashboard::store::list::{Column, Cursor, ListQuery, Page};
use crate::dashboard::store::search::Search;
use crate::wire::{Correction, VideoTexts, Visibility};

/// An id of one of four kinds; the start of many is that of others.
fn id(number: u128) -> VideoId {
    match number % 4 {
        0 => VideoId::from_u128(number << 120 | number),
        1 => format!("{number:x}").parse().unwrap(),
        2 => format!("{:x} which is a longer text", number / 2).parse().unwrap(),
        _ => format!("{number:02x}-").parse().unwrap(),
    }
}

fn count(number: u128, plays: u64) -> VideoCount {
    let last_played_at = Some(UnixMs((plays * 3 % 7) as i64));
    VideoCount { video_id: id(number), plays, last_played_at }
}

/// One thing that happens to an index.
#[derive(Clone, Debug)]
enum Step {
    Count(u32, u128, u64),
    Title(u128, Option<String>),
    Show(u128, Visibility),
    Correct(u128, i64),
    Forget(u32),
    TakeBack(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let video = || 0u128..60;
    prop_oneof![
        8 => (0u32..6, video(), 0u64..30).prop_map(|(by, id, plays)| Step::Count(by, id, plays)),
        2 => (video(), prop::option::of("[abc0-9]{1,2}( [abc]{1,2}){0,2}"))
            .prop_map(|(id, title)| Step::Title(id, title)),
        1 => (video(), 0usize..3).prop_map(|(id, at)| {
            Step::Show(id, [Visibility::Shown, Visibility::Hidden, Visibility::Deleted][at])
        }),
        1 => (video(), -40i64..40).prop_map(|(id, plays)| Step::Correct(id, plays)),
        1 => (0u32..3).prop_map(Step::Forget),
        // Numbers of imports, of which no two have the same.
        1 => (3u32..6).prop_map(Step::TakeBack),
    ]
}

/// What is known of one video.
#[derive(Clone, Debug, Default)]
struct Known {
    told: BTreeMap<u32, u64>,
    updated_at: i64,
    last_played_at: i64,
    title: Option<String>,
    visibility: Visibility,
    correction: i64,
}

impl Known {
    fn plays(&self) -> i64 {
        (self.told.values().sum::<u64>() as i64 + self.correction).max(0)
    }

    fn value(&self, column: Column) -> i64 {
        match column {
            Column::Plays => self.plays(),
            Column::VideoId => 0,
            Column::UpdatedAt => self.updated_at,
            Column::LastPlayedAt => self.last_played_at,
        }
    }

    fn has_words(&self, search: &str) -> bool {
        let title = self.title.as_deref().unwrap_or_default();
        let (has, mut wanted): (Vec<_>, Vec<_>) =
            (title.split(' ').collect(), search.trim_end_matches('-').split(' ').collect());
        let start = wanted.pop().unwrap_or_default();
        wanted.iter().all(|word| has.contains(word))
            && !start.is_empty()
            && has.iter().any(|word| word.starts_with(start))
    }
}

/// The naive index: every list is made by sorting everything.
#[derive(Clone, Debug, Default)]
struct Naive(BTreeMap<VideoId, Known>, BTreeSet<u32>);

impl Naive {
    fn counted(&self) -> impl Iterator<Item = (&VideoId, &Known)> {
        let is_there =
            |known: &Known| known.told.iter().any(|(by, plays)| *plays > 0 || !self.1.contains(by));
        self.0.iter().filter(move |(_, known)| is_there(known))
    }

    fn of(&mut self, number: u128) -> &mut Known {
        self.0.entry(id(number)).or_default()
    }

    fn take(&mut self, step: &Step, at: i64) {
        match step {
            Step::Count(processor, ..) if self.1.contains(processor) => {}
            Step::Count(processor, number, plays) => {
                let known = self.of(*number);
                if known.told.get(processor).is_none_or(|before| before < plays) {
                    known.told.insert(*processor, *plays);
                    known.updated_at = at;
                    let played = count(*number, *plays).last_played_at.unwrap_or_default();
                    known.last_played_at = known.last_played_at.max(played.0.min(at));
                }
            }
            Step::Title(number, title) => self.of(*number).title = title.clone(),
            Step::Show(number, visibility) => self.of(*number).visibility = *visibility,
            Step::Correct(number, plays) => self.of(*number).correction = *plays,
            Step::Forget(processor) | Step::TakeBack(processor) => {
                if matches!(step, Step::TakeBack(_)) {
                    self.1.insert(*processor);
                }
                let all = self.0.values_mut();
                all.filter_map(|known| known.told.get_mut(processor)).for_each(|plays| *plays = 0);
            }
        }
    }

    fn row(&self, id: &VideoId) -> VideoRow {
        let known = &self.0[id];
        let played = Some(known.last_played_at).filter(|at| *at > 0);
        VideoRow {
            video_id: *id,
            plays: known.plays(),
            updated_at: UnixMs(known.updated_at),
            last_played_at: played.map(UnixMs),
            title: known.title.clone(),
            url: None,
        }
    }

    fn list(&self, query: &ListQuery) -> Page {
        let wants = |id: &VideoId, known: &Known| {
            query
                .search
                .as_ref()
                .is_none_or(|search| search.ids().wants(id) || known.has_words(search.words()))
        };
        let mut places: Vec<_> = self
            .counted()
            .filter(|(id, known)| known.visibility == Visibility::Shown && wants(id, known))
            .map(|(id, known)| (known.value(query.column), *id))
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
        Page { rows: shown.iter().map(|(_, id)| self.row(id)).collect(), matching, next }
    }

    fn totals(&self) -> Totals {
        let in_sums = self.counted().filter(|(_, known)| known.visibility != Visibility::Deleted);
        in_sums.fold(Totals::default(), |totals, (_, known)| Totals {
            videos: totals.videos + 1,
            plays: totals.plays + known.plays() as u64,
        })
    }

    fn counts(&self) -> Vec<(VideoId, u64)> {
        self.counted().map(|(id, known)| (*id, known.told.values().sum())).collect()
    }
}

fn take(index: &mut Index, step: &Step, at: i64) {
    match step {
        Step::Count(processor, ..) if index.taken_back.contains(processor) => {}
        Step::Count(processor, number, plays) => {
            let count = count(*number, *plays);
            let news = index.is_news(*processor, &count);
            assert_eq!(index.apply(*processor, &count, UnixMs(at)).is_some(), news);
        }
        Step::Title(number, title) => {
            index.set_by_hand(id(*number), &VideoTexts { title: title.clone(), url: None });
        }
        Step::Show(number, visibility) => {
            let set = VisibilitySet { visibility: *visibility, reason: None, at: UnixMs(at) };
            index.change(id(*number), |catalog| catalog.set_visibility(id(*number), set));
        }
        Step::Correct(number, plays) => {
            let one = Correction { plays: *plays, reason: "x".to_owned(), at: UnixMs(at) };
            index.change(id(*number), |catalog| catalog.correct(id(*number), one));
        }
        Step::Forget(processor) => drop(index.forget(*processor)),
        Step::TakeBack(import) => {
            index.take_back([*import]);
            index.forget(*import);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn lists_are_those_of_sorting_everything(
        steps in prop::collection::vec(step(), 1..250), column in 0usize..4, descending: bool,
        limit in 1u32..20, offset in 0u32..20,
        search in prop::option::of("[0-9a-f]{1,2}-?|[abc]{1,2} [abc]|[a-c]"),
        after in prop::option::of((0i64..30, 0u128..60)),
    ) {
        let (mut index, mut naive) = (Index::default(), Naive::default());
        // Applied while it is loaded it is the same.
        let mut loading = Index::load(std::iter::empty());
        for (at, step) in steps.iter().enumerate() {
            take(&mut index, step, at as i64);
            take(&mut loading, step, at as i64);
            naive.take(step, at as i64);
        }
        loading.loaded();
        let column = Column::ALL[column].1;
        let after = after.map(|(value, number)| Cursor {
            column,
            value: if column == Column::VideoId { 0 } else { value },
            video_id: id(number),
        });
        let search = search.map(|text| Search::new(&text));
        let query = ListQuery { column, descending, limit, offset, after, search };
        let want = naive.list(&query);
        prop_assert_eq!(index.list(&query), want.clone());
        prop_assert_eq!(loading.list(&query), want.clone());
        prop_assert_eq!((index.totals(), index.counts()), (naive.totals(), naive.counts()));
        prop_assert_eq!((loading.totals(), loading.counts()), (naive.totals(), naive.counts()));
        prop_assert!(index.most() >= index.totals().plays);
        for (id, known) in naive.counted() {
            let row = index.video(id).unwrap();
            prop_assert_eq!(&row, &naive.row(id));
            let above = naive.counted().filter(|(other, more)| {
                more.visibility == Visibility::Shown && (more.plays(), **other) > (known.plays(), *id)
            });
            prop_assert_eq!(index.rank(&row), above.count() as u64 + 1);
        }
        // Written down and read again, too.
        let rows: Vec<_> = index.videos.iter().flat_map(|(id, row)| {
            index.processor_counts(id).into_iter().map(|told| (*id, told, row.updated_at, row.last_played_at))
        }).collect();
        let mut again = Index::load(rows.into_iter());
        for (_, row) in index.catalog_mut().take_changed(None, usize::MAX) {
            again.catalog_mut().load(row);
        }
        again.take_back(index.taken_back.clone());
        again.loaded();
        prop_assert_eq!(again.list(&query), want);
        prop_assert_eq!((again.totals(), again.counts()), (naive.totals(), naive.counts()));
        prop_assert_eq!(again.most(), index.most());
        // A reset leaves titles, and what is not shown.
        let sums = index.sums_of(&[0, 1, 2, 3, 4, 5]);
        let summed: u64 = sums.iter().map(|sums| sums.plays).sum();
        prop_assert_eq!(summed, index.counts().iter().map(|(_, plays)| *plays).sum::<u64>());
        index.reset();
        naive.1.clear();
        naive.0.values_mut().for_each(|known| *known = Known {
            title: known.title.clone(), visibility: known.visibility, ..Known::default()
        });
        for (at, step) in steps.iter().filter(|step| matches!(step, Step::Count(..))).enumerate() {
            take(&mut index, step, at as i64);
            naive.take(step, at as i64);
        }
        prop_assert_eq!(index.list(&query), naive.list(&query));
        prop_assert_eq!(index.totals(), naive.totals());
    }
}

#[test]
fn a_search_that_finds_many_is_answered_like_one_that_finds_few() {
    let (mut index, mut naive) = (Index::default(), Naive::default());
    for number in 0..(2 * GATHER_MAX as u128) {
        let text = format!("{}{number}", if number % 20 < 11 { "1" } else { "2" });
        let plays = (number * 7919 % 1009) as u64;
        let video_id: VideoId = text.parse().unwrap();
        index.apply(1, &VideoCount { video_id, ..count(1, plays) }, UnixMs(1));
        let title = (number % 3 > 0).then(|| format!("1 {number}"));
        index.set_by_hand(video_id, &VideoTexts { title: title.clone(), url: None });
        let known = naive.0.entry(video_id).or_default();
        known.told.insert(1, plays);
        (known.updated_at, known.last_played_at, known.title) =
            (1, (plays * 3 % 7).min(1) as i64, title);
    }
    // By ids alone, by titles alone, by both.
    for search in ["1", "12", "2", "1 1", "1 12", "20"] {
        for (descending, after, offset) in
            [(true, None, 3), (false, Some((500, 77)), 0), (true, Some((500, 77)), 9)]
        {
            for column in [Column::Plays, Column::VideoId] {
                let query = ListQuery {
                    column,
                    descending,
                    limit: 10,
                    offset,
                    after: after.map(|(value, number)| Cursor {
                        column,
                        value: if column == Column::VideoId { 0 } else { value },
                        video_id: format!("1{number}").parse().unwrap(),
                    }),
                    search: Some(Search::new(search)),
                };
                let page = index.list(&query);
                assert_eq!(page, naive.list(&query), "{search}");
                let ids = len(&Search::new(search).ids().ranks(&index.by_id)) as u64;
                match search {
                    "1" => assert!(ids > GATHER_MAX as u64 && page.matching > ids),
                    "12" => assert!(page.matching > ids && page.matching < GATHER_MAX as u64),
                    "1 1" => assert!(ids == 0 && page.matching > GATHER_MAX as u64 / 2),
                    _ => {}
                }
            }
        }
    }
}

/// Whatever a clock says; also what was written down before anybody looked.
#[test]
fn no_video_was_played_later_than_it_was_told_of() {
    let (now, future) = (UnixMs(1_790_000_000_000), UnixMs(9_223_372_036_854));
    let mut index = Index::default();
    let told = |plays, at| VideoCount { last_played_at: Some(at), ..count(1, plays) };
    let played = |index: &Index| index.video(&id(1)).unwrap().last_played_at;
    index.apply(0, &told(1, future), now);
    assert_eq!(played(&index), Some(now));
    index.apply(0, &told(2, UnixMs(now.0 + 500)), UnixMs(now.0 + 1000));
    assert_eq!(played(&index), Some(UnixMs(now.0 + 500)));
    let row = (id(1), ProcessorCount { processor: 0, plays: 1 }, now, future);
    assert_eq!(played(&Index::load([row].into_iter())), Some(now));
}
