//! [`Index`] beside a list that is sorted anew each time.

use proptest::prelude::*;

use super::*;

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

/// What [`Index::list`] must answer, by sorting everything.
fn expected(index: &Index, query: &ListQuery) -> Page {
    let mut places: Vec<_> = index
        .videos
        .keys()
        .filter(|id| query.search.as_ref().is_none_or(|search| search.wants(id)))
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
        search in prop::option::of("[0-9a-fA-F]{1,2}-?"), after in prop::option::of((0i64..30, 0u128..60)),
    ) {
        let mut index = Index::default();
        for (time, (processor, id, plays)) in updates.iter().enumerate() {
            let news = index.is_news(*processor, &count(*id, *plays));
            prop_assert_eq!(index.apply(*processor, &count(*id, *plays), UnixMs(time as i64)).is_some(), news);
        }
        let column = Column::ALL[column].1;
        let after = after.map(|(value, number)| Cursor {
            column,
            value: if column == Column::VideoId { 0 } else { value },
            video_id: id(number),
        });
        let search = search.map(|text| IdSearch::new(&text));
        let query = ListQuery { column, descending, limit, offset, after, search };
        prop_assert_eq!(index.list(&query), expected(&index, &query));
        // Applied while it is loaded, or written down and read again, it is the same.
        let mut loading = Index::load(std::iter::empty());
        for (time, (processor, id, plays)) in updates.iter().enumerate() {
            loading.apply(*processor, &count(*id, *plays), UnixMs(time as i64));
        }
        loading.loaded();
        prop_assert_eq!(loading.list(&query), index.list(&query));
        prop_assert_eq!((loading.totals(), loading.counts()), (index.totals(), index.counts()));
        let rows: Vec<_> = index.videos.iter().flat_map(|(id, row)| {
            index.processor_counts(id).into_iter().map(|told| (*id, told, row.updated_at, row.last_played_at))
        }).collect();
        let mut again = Index::load(rows.into_iter());
        again.loaded();
        prop_assert_eq!(again.list(&query), index.list(&query));
        prop_assert_eq!((again.totals(), again.counts()), (index.totals(), index.counts()));
    }
}

#[test]
fn a_search_that_finds_many_is_answered_like_one_that_finds_few() {
    let mut index = Index::default();
    for number in 0..(2 * GATHER_MAX as u128) {
        let text = format!("{}{number}", if number % 20 < 11 { "1" } else { "2" });
        let plays = (number * 7919 % 1009) as u64;
        index.apply(
            1,
            &VideoCount { video_id: text.parse().unwrap(), ..count(1, plays) },
            UnixMs(1),
        );
    }
    assert!(len(&IdSearch::new("1").ranks(&index.by_id)) > GATHER_MAX);
    for (descending, after, offset) in
        [(true, None, 3), (false, Some((500, 77)), 0), (true, Some((500, 77)), 9)]
    {
        let query = ListQuery {
            column: Column::Plays,
            descending,
            limit: 10,
            offset,
            after: after.map(|(value, number)| Cursor {
                column: Column::Plays,
                value,
                video_id: format!("1{number}").parse().unwrap(),
            }),
            search: Some(IdSearch::new("1")),
        };
        assert_eq!(index.list(&query), expected(&index, &query));
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
