//! Plays by minute, hour and day, in SQLite.
//!
//! Tables are clustered by bucket and then video: writes of the present go to one place, what is too old is one
//! place, and a period over all videos is one scan. One video's series is a seek for each bucket.

use std::collections::BTreeMap;

use anyhow::Result;
use rusqlite::{Connection, Transaction, params};

use super::period::{Keep, Period, Scale};
use super::row::{check_row, write_checked};
use crate::model::unix_time::UnixMs;
use crate::model::video_id::VideoId;

/// The most buckets that one series may span, of those that are kept: 50 ms of seeks.
pub(crate) const BUCKETS_MAX: i64 = 20_000;

/// Rows that one [`prune`] removes: a few ms.
const PRUNE_MAX: i64 = 5_000;

/// Adds plays to a bucket; see [`write_checked`].
const ADD_MINUTE: &str =
    "INSERT INTO history_minute AS h VALUES (?1, ?2, ?3, row_check(?1, ?2, ?3))
    ON CONFLICT DO UPDATE SET plays = plays + ?3,
      row_check = iif(h.row_check = row_check(?1, ?2, plays), row_check(?1, ?2, plays + ?3), NULL)";
const ADD_HOUR: &str = "INSERT INTO history_hour AS h VALUES (?1, ?2, ?3, row_check(?1, ?2, ?3))
    ON CONFLICT DO UPDATE SET plays = plays + ?3,
      row_check = iif(h.row_check = row_check(?1, ?2, plays), row_check(?1, ?2, plays + ?3), NULL)";
const ADD_DAY: &str = "INSERT INTO history_day AS h VALUES (?1, ?2, ?3, row_check(?1, ?2, ?3))
    ON CONFLICT DO UPDATE SET plays = plays + ?3,
      row_check = iif(h.row_check = row_check(?1, ?2, plays), row_check(?1, ?2, plays + ?3), NULL)";

/// Adds plays of one minute to all three tables.
pub(super) fn add(
    transaction: &Transaction<'_>,
    id: &VideoId,
    minute: i64,
    plays: i64,
) -> Result<()> {
    for (_, scale) in Scale::ALL {
        let sql = match scale {
            Scale::Minute => ADD_MINUTE,
            Scale::Hour => ADD_HOUR,
            Scale::Day => ADD_DAY,
        };
        let values = params![scale.of_minute(minute), id, plays];
        write_checked(transaction, scale.table(), sql, values)?;
    }
    Ok(())
}

/// Removes some of what is too old; whether there may be more.
pub(super) fn prune(transaction: &Transaction<'_>, keep: Keep, now: UnixMs) -> Result<bool> {
    let mut removed = 0;
    for (_, scale) in Scale::ALL {
        let Some(oldest) = scale.oldest(keep, now) else { continue };
        let table = scale.table();
        let sql = format!(
            "DELETE FROM {table} WHERE (bucket, video_id) IN
               (SELECT bucket, video_id FROM {table} WHERE bucket < ?1 ORDER BY bucket LIMIT ?2)"
        );
        removed = removed.max(transaction.prepare_cached(&sql)?.execute([oldest, PRUNE_MAX])?);
    }
    Ok(removed as i64 == PRUNE_MAX)
}

/// When the oldest minute, hour or day begins that has plays, by the finest scale that has it; `pending` is the first minute that
/// the tables may not have. `None`: there are no plays.
pub(super) fn recorded_from(
    connection: &Connection,
    pending: Option<i64>,
) -> Result<Option<UnixMs>> {
    let mut oldest: Option<(Scale, i64)> = None;
    for (_, scale) in Scale::ALL.iter().rev() {
        let sql = format!("SELECT min(bucket) FROM {}", scale.table());
        let first: Option<i64> =
            connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
        // Hours begin later than days where they were kept for a shorter time; then the day is what is known.
        let is_of =
            |(coarse, bucket): (Scale, i64), first| coarse.bucket(scale.start(first)) == bucket;
        if let Some(first) = first.filter(|first| oldest.is_none_or(|coarse| is_of(coarse, *first)))
        {
            oldest = Some((*scale, first));
        }
    }
    let oldest = oldest.map(|(scale, bucket)| scale.start(bucket));
    let pending = pending.map(|minute| Scale::Minute.start(minute));
    Ok([oldest, pending].into_iter().flatten().min())
}

/// The buckets from the oldest that is kept to the present one.
pub(super) fn kept(connection: &Connection, scale: Scale, now: UnixMs) -> Result<Period> {
    // Asked for in one SELECT, they would cost a scan of the table; each of its own is a seek.
    let sql = format!(
        "SELECT (SELECT min(bucket) FROM {table}), (SELECT max(bucket) FROM {table})",
        table = scale.table()
    );
    let (first, last): (Option<i64>, Option<i64>) =
        connection.prepare_cached(&sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let now = scale.bucket(now);
    // What no checkpoint has written yet may be of the minute before.
    let first = first.map_or(now - 1, |first| first.min(now - 1));
    Ok(Period { first, last: last.map_or(now, |last| last.max(now)) })
}

/// A video's plays in each bucket of a period that has any: (its start, plays), oldest first. `pending` is
/// what the tables do not have.
pub(super) fn series(
    connection: &Connection,
    pending: &[(i64, i64)],
    id: &VideoId,
    scale: Scale,
    period: Period,
) -> Result<Vec<(UnixMs, i64)>> {
    // Only where there is anything: a period may be as long as time.
    let sql = format!(
        "WITH RECURSIVE
           known(first, last) AS (
             SELECT max(?2, (SELECT min(bucket) FROM {table})), min(?3, (SELECT max(bucket) FROM {table}))),
           b(n, last) AS (
             SELECT first, last FROM known WHERE first <= last UNION ALL SELECT n + 1, last FROM b WHERE n < last)
         SELECT n, plays, row_check = row_check(bucket, video_id, plays) FROM b CROSS JOIN {table} AS h ON h.bucket = n AND h.video_id = ?1",
        table = scale.table()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![id, period.first, period.last])?;
    let mut plays = BTreeMap::<i64, i64>::new();
    while let Some(row) = rows.next()? {
        check_row(connection, scale.table(), row.get(2)?)?;
        plays.insert(row.get(0)?, row.get(1)?);
    }
    for (minute, more) in pending {
        let bucket = scale.of_minute(*minute);
        if period.contains(bucket) {
            *plays.entry(bucket).or_default() += more;
        }
    }
    Ok(plays.into_iter().map(|(bucket, plays)| (scale.start(bucket), plays)).collect())
}
