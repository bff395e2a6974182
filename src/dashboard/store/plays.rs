//! Plays between any moments: what bars by hour or day of a time zone show.
//!
//! The history has buckets of UTC. Where a moment lies inside of one, as the midnight of Kolkata lies inside of an hour, its
//! plays are parted as those of the charts' minutes are, which are kept as long as hours.

use std::collections::BTreeMap;

use anyhow::Result;
use foldhash::HashMap;
use rusqlite::Connection;
use schemars::JsonSchema;
use serde::Serialize;

use super::history::series;
use super::pending::Minutes;
use super::period::{Period, Scale};
use super::row::check_row;
use crate::model::unix_time::UnixMs;
use crate::model::video_id::VideoId;
use crate::wire::Visibility;

/// Plays between moments.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct PlaysBetween {
    /// The moments, in whole minutes.
    pub(crate) edges: Vec<UnixMs>,
    /// The plays from each moment to the next: one less than there are moments.
    pub(crate) plays: Vec<i64>,
    /// How long the buckets are that they are summed from. A moment inside of a bucket parts its plays as the charts' minutes
    /// are; where those are no longer kept, all of them go to where its middle is.
    pub(crate) scale: Scale,
    /// Since when all plays are known: they were recorded, and are still kept in buckets of that length.
    pub(crate) known_from: UnixMs,
    /// When they were summed.
    pub(crate) as_of: UnixMs,
}

/// Plays by bucket.
type PlaysByBucket = BTreeMap<i64, i64>;

/// The plays of all videos but those that are deleted, by bucket; `pending` are (video, minute, plays) that the tables do not
/// have. Scans the period.
pub(super) fn of_all(
    connection: &Connection,
    pending: &[(VideoId, i64, i64)],
    scale: Scale,
    period: Period,
    unshown: &HashMap<VideoId, Visibility>,
) -> Result<PlaysByBucket> {
    let is_deleted = |id: &VideoId| unshown.get(id) == Some(&Visibility::Deleted);
    let table = scale.table();
    let mut statement = connection.prepare_cached(&format!(
        "SELECT bucket, video_id, plays, row_check = row_check(bucket, video_id, plays)
         FROM {table} WHERE bucket BETWEEN ?1 AND ?2"
    ))?;
    let mut rows = statement.query([period.first, period.last])?;
    let mut buckets = PlaysByBucket::new();
    while let Some(row) = rows.next()? {
        check_row(connection, table, row.get(3)?)?;
        if !is_deleted(&row.get(1)?) {
            *buckets.entry(row.get(0)?).or_default() += row.get::<_, i64>(2)?;
        }
    }
    for (id, minute, more) in pending {
        let bucket = scale.of_minute(*minute);
        if period.contains(bucket) && !is_deleted(id) {
            *buckets.entry(bucket).or_default() += more;
        }
    }
    Ok(buckets)
}

/// The plays of one video, by bucket; `pending` is what the tables do not have.
pub(super) fn of_video(
    connection: &Connection,
    pending: &Minutes,
    scale: Scale,
    period: Period,
    id: &VideoId,
) -> Result<PlaysByBucket> {
    let series = series(connection, pending, id, scale, period)?;
    Ok(series.into_iter().map(|(at, plays)| (scale.bucket(at), plays)).collect())
}

/// Parts the buckets at the `edges`, which are minutes since the Unix epoch and rise: the plays from each to the next.
/// Nothing is later than the minute `now`.
pub(super) fn between(
    connection: &Connection,
    buckets: &PlaysByBucket,
    scale: Scale,
    edges: &[i64],
    now: i64,
) -> Result<Vec<i64>> {
    let mut plays = vec![0; edges.len().saturating_sub(1)];
    // Behind the last edge that is not later; none of what is outside of all.
    let mut add = |minute: i64, more: i64| {
        let behind = edges.partition_point(|edge| *edge <= minute);
        if let Some(bar) = behind.checked_sub(1).and_then(|bar| plays.get_mut(bar)) {
            *bar += more;
        }
    };
    for (bucket, all) in buckets {
        let (first, end) = scale.minutes_of(*bucket);
        let end = end.min(now + 1).max(first + 1);
        let inside = edges.iter().copied().filter(|edge| (first + 1..end).contains(edge));
        let inside: Vec<i64> = inside.collect();
        if inside.is_empty() {
            add(first, *all);
            continue;
        }
        let shares = minutes(connection, first, end)?;
        let whole: i64 = shares.iter().map(|(_, plays)| plays).sum();
        if whole <= 0 {
            add(first + (end - first) / 2, *all);
            continue;
        }
        let starts = std::iter::once(first).chain(inside.iter().copied());
        let mut given = 0;
        for (start, end) in starts.zip(inside.iter().copied().chain([end])) {
            let until: i64 =
                shares.iter().filter(|(minute, _)| *minute < end).map(|(_, plays)| plays).sum();
            // Rounded where a part ends, so that the parts are the whole.
            let upto = i128::from(*all) * i128::from(until) / i128::from(whole);
            let upto = i64::try_from(upto).unwrap_or(*all);
            add(start, upto - given);
            given = upto;
        }
    }
    Ok(plays)
}

/// (minute, plays) of the charts from `first` to `end`, which is not included; of those that have plays.
fn minutes(connection: &Connection, first: i64, end: i64) -> Result<Vec<(i64, i64)>> {
    let mut statement = connection.prepare_cached(
        "SELECT minute, plays,
                row_check = row_check(minute, plays, messages_per_second, realtime_ms, average_ms, p50_ms, p99_ms, queue_depth)
         FROM points WHERE minute >= ?1 AND minute < ?2 AND plays > 0",
    )?;
    let mut rows = statement.query([first, end])?;
    let mut minutes = Vec::new();
    while let Some(row) = rows.next()? {
        check_row(connection, "points", row.get(2)?)?;
        minutes.push((row.get(0)?, row.get(1)?));
    }
    Ok(minutes)
}

#[cfg(test)]
mod tests {
    use super::super::database;
    use super::*;

    const NOW: i64 = 1_000_000;

    /// Tables whose charts have those (minute, plays).
    fn tables(points: &[(i64, i64)]) -> Connection {
        let connection = database::empty().unwrap();
        for (minute, plays) in points {
            connection
                .execute(
                    "INSERT INTO points VALUES (?1, ?2, 0.0, NULL, NULL, NULL, NULL, NULL,
                       row_check(?1, ?2, 0.0, NULL, NULL, NULL, NULL, NULL))",
                    [minute, plays],
                )
                .unwrap();
        }
        connection
    }

    fn parted(
        points: &[(i64, i64)],
        scale: Scale,
        buckets: &[(i64, i64)],
        edges: &[i64],
    ) -> Vec<i64> {
        let buckets = buckets.iter().copied().collect();
        between(&tables(points), &buckets, scale, edges, NOW).unwrap()
    }

    #[test]
    fn whole_buckets_go_to_where_they_are() {
        let minutes = [(9, 1), (10, 2), (14, 4), (15, 8), (20, 16)];
        assert_eq!(parted(&[], Scale::Minute, &minutes, &[10, 15, 20]), [6, 8]);
        // A day of 23 hours.
        let hours: Vec<_> = (0..48).map(|hour| (hour, 1)).collect();
        assert_eq!(parted(&[], Scale::Hour, &hours, &[0, 60 * 24, 60 * 47]), [24, 23]);
    }

    #[test]
    fn an_edge_inside_of_a_bucket_parts_it_as_the_minutes_are() {
        // Half past the second hour: a quarter of the plays came before.
        let points = [(60, 10), (89, 15), (90, 25), (119, 50), (120, 999)];
        assert_eq!(parted(&points, Scale::Hour, &[(1, 200), (2, 3)], &[0, 90, 180]), [50, 153]);
        // Parts are the whole, however they are rounded; what is before the first edge and behind the last is in none.
        assert_eq!(parted(&points, Scale::Hour, &[(1, 7)], &[60, 70, 90, 100, 120]), [0, 1, 2, 4]);
        assert_eq!(parted(&points, Scale::Hour, &[(1, 7)], &[70, 90]), [1]);
    }

    #[test]
    fn without_minutes_a_bucket_goes_to_where_its_middle_is() {
        assert_eq!(parted(&[], Scale::Hour, &[(1, 8)], &[0, 75, 180]), [0, 8]);
        // Days of New York are those of UTC then.
        assert_eq!(parted(&[], Scale::Day, &[(1, 8)], &[300, 1_440 + 300, 2_880 + 300]), [0, 8]);
        // The middle of what has passed of the present hour.
        let buckets = [(NOW / 60, 8)].into_iter().collect();
        let edges = [NOW - 120, NOW / 60 * 60 + 30, NOW + 60];
        let plays =
            between(&tables(&[]), &buckets, Scale::Hour, &edges, NOW / 60 * 60 + 40).unwrap();
        assert_eq!(plays, [8, 0]);
    }

    proptest::proptest! {
        #[test]
        fn no_play_is_lost_or_made(
            points in proptest::collection::btree_map(0i64..600, 0i64..50, 0..60),
            buckets in proptest::collection::btree_map(0i64..10, 0i64..1_000, 0..10),
            inside in proptest::collection::btree_set(1i64..600, 0..20),
        ) {
            let points: Vec<_> = points.into_iter().collect();
            let edges: Vec<i64> = [0].into_iter().chain(inside).chain([600]).collect();
            let plays = between(&tables(&points), &buckets, Scale::Hour, &edges, NOW).unwrap();
            proptest::prop_assert!(plays.iter().all(|plays| *plays >= 0));
            proptest::prop_assert_eq!(plays.iter().sum::<i64>(), buckets.values().sum::<i64>());
        }
    }
}
