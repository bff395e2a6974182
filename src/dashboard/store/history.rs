//! Plays by minute, hour and day, and the charts' points by minute, in SQLite.
//!
//! Tables are clustered by bucket and then video: writes of the present go to one place, what is too old is one
//! place, and a period over all videos is one scan. One video's series is a seek for each bucket.

use std::time::Duration;

use anyhow::Result;
use foldhash::{HashMap, HashMapExt};
use rusqlite::{Connection, Transaction, params};
use serde::Serialize;
use uuid::Uuid;

const MINUTE_MS: i64 = 60_000;

/// The most buckets that one series may span, of those that are kept: 50 ms of seeks.
pub(in super::super) const BUCKETS_MAX: i64 = 20_000;

/// The most points of one [`points`].
const POINTS_MAX: i64 = 720;

/// Rows that one [`prune`] removes: a few ms.
const PRUNE_MAX: i64 = 5_000;

/// How long history is kept; days are kept for ever.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Plays by minute.
    pub minutes: Duration,
    /// Plays by hour, and the charts' points.
    pub hours: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        Self { minutes: Duration::from_secs(2 * 86_400), hours: Duration::from_secs(90 * 86_400) }
    }
}

/// How long a bucket is. Buckets are counted from the Unix epoch, so days begin at 0:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in super::super) enum Scale {
    Minute,
    Hour,
    Day,
}

impl Scale {
    pub(in super::super) const ALL: [(&str, Self); 3] =
        [("minute", Self::Minute), ("hour", Self::Hour), ("day", Self::Day)];

    /// A bucket's length in ms.
    pub(in super::super) fn step_ms(self) -> i64 {
        self.minutes() * MINUTE_MS
    }

    fn minutes(self) -> i64 {
        match self {
            Self::Minute => 1,
            Self::Hour => 60,
            Self::Day => 24 * 60,
        }
    }

    fn table(self) -> &'static str {
        match self {
            Self::Minute => "history_minute",
            Self::Hour => "history_hour",
            Self::Day => "history_day",
        }
    }

    /// The first bucket that is still kept; `None`: all are.
    pub(super) fn oldest(self, keep: Keep, now: i64) -> Option<i64> {
        let kept = match self {
            Self::Minute => keep.minutes,
            Self::Hour => keep.hours,
            Self::Day => return None,
        };
        let kept = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        Some(now.saturating_sub(kept).div_euclid(self.step_ms()))
    }
}

/// A period in whole buckets, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct Period {
    pub(in super::super) first: i64,
    pub(in super::super) last: i64,
}

impl Period {
    /// The buckets that hold `from` to `to` in ms, `to` not included.
    pub(in super::super) fn of(scale: Scale, from: i64, to: i64) -> Self {
        let first = from.div_euclid(scale.step_ms());
        Self { first, last: (to - 1).div_euclid(scale.step_ms()).max(first) }
    }

    /// The part of it that is in `other`; `None` if they do not meet.
    pub(in super::super) fn within(self, other: Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Self { first, last })
    }

    pub(in super::super) fn buckets(self) -> i64 {
        self.last - self.first + 1
    }

    /// As long a one, just before.
    fn before(self) -> Self {
        Self { first: self.first - self.buckets(), last: self.first - 1 }
    }

    fn contains(self, bucket: i64) -> bool {
        (self.first..=self.last).contains(&bucket)
    }
}

/// The finest scale that is still kept for all of `from` to `to` and has at most `buckets_max` buckets.
pub(in super::super) fn scale_for(
    keep: Keep,
    now: i64,
    from: i64,
    to: i64,
    buckets_max: i64,
) -> Scale {
    let fits = |scale: &Scale| {
        let period = Period::of(*scale, from, to);
        period.buckets() <= buckets_max
            && scale.oldest(keep, now).is_none_or(|oldest| period.first >= oldest)
    };
    Scale::ALL.iter().map(|(_, scale)| *scale).find(fits).unwrap_or(Scale::Day)
}

/// Adds plays of one minute to all three tables.
pub(super) fn add(transaction: &Transaction<'_>, id: &Uuid, minute: i64, plays: i64) -> Result<()> {
    for (_, scale) in Scale::ALL {
        let sql = match scale {
            Scale::Minute => {
                "INSERT INTO history_minute VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET plays = plays + excluded.plays"
            }
            Scale::Hour => {
                "INSERT INTO history_hour VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET plays = plays + excluded.plays"
            }
            Scale::Day => {
                "INSERT INTO history_day VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET plays = plays + excluded.plays"
            }
        };
        transaction.prepare_cached(sql)?.execute(params![
            minute.div_euclid(scale.minutes()),
            id,
            plays
        ])?;
    }
    Ok(())
}

/// Removes some of what is too old; whether there may be more.
pub(super) fn prune(transaction: &Transaction<'_>, keep: Keep, now: i64) -> Result<bool> {
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
    let oldest = Scale::Hour.oldest(keep, now).unwrap_or(0) * 60;
    transaction.prepare_cached("DELETE FROM points WHERE minute < ?1")?.execute([oldest])?;
    Ok(removed as i64 == PRUNE_MAX)
}

/// The buckets from the oldest that is kept to the present one.
pub(super) fn kept(connection: &Connection, scale: Scale, now: i64) -> Result<Period> {
    // Asked for in one SELECT, they would cost a scan of the table; each of its own is a seek.
    let sql = format!(
        "SELECT (SELECT min(bucket) FROM {table}), (SELECT max(bucket) FROM {table})",
        table = scale.table()
    );
    let (first, last): (Option<i64>, Option<i64>) =
        connection.prepare_cached(&sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let now = now.div_euclid(scale.step_ms());
    // What is not folded yet may be of the minute before.
    let first = first.map_or(now - 1, |first| first.min(now - 1));
    Ok(Period { first, last: last.map_or(now, |last| last.max(now)) })
}

/// A video's plays in each bucket of a period that has any: (start in ms, plays), oldest first.
pub(super) fn series(
    connection: &Connection,
    pending: &[(i64, i64)],
    id: &Uuid,
    scale: Scale,
    period: Period,
) -> Result<Vec<(i64, i64)>> {
    // Only where there is anything: a period may be as long as time.
    let sql = format!(
        "WITH RECURSIVE
           known(first, last) AS (
             SELECT max(?2, (SELECT min(bucket) FROM {table})), min(?3, (SELECT max(bucket) FROM {table}))),
           b(n, last) AS (
             SELECT first, last FROM known WHERE first <= last UNION ALL SELECT n + 1, last FROM b WHERE n < last)
         SELECT n, plays FROM b CROSS JOIN {table} AS h ON h.bucket = n AND h.video_id = ?1",
        table = scale.table()
    );
    let mut plays: std::collections::BTreeMap<i64, i64> = connection
        .prepare_cached(&sql)?
        .query_map(params![id, period.first, period.last], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (minute, more) in pending {
        let bucket = minute.div_euclid(scale.minutes());
        if period.contains(bucket) {
            *plays.entry(bucket).or_default() += more;
        }
    }
    Ok(plays.into_iter().map(|(bucket, plays)| (bucket * scale.step_ms(), plays)).collect())
}

/// A video in [`Top`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in super::super) struct TopVideo {
    pub(in super::super) video_id: Uuid,
    pub(in super::super) plays: i64,
    /// Of all plays in the period, 0 to 1.
    pub(in super::super) share: f64,
    pub(in super::super) before: Option<i64>,
    /// The plays of 24 equal parts of the period.
    pub(in super::super) spark: Vec<i64>,
}

/// The most played videos of a period.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in super::super) struct Top {
    /// In ms; the period in whole buckets.
    pub(in super::super) from: i64,
    pub(in super::super) to: i64,
    pub(in super::super) scale: Scale,
    /// When it was found.
    pub(in super::super) as_of: i64,
    /// All plays in the period, and in the one before it.
    pub(in super::super) total: i64,
    pub(in super::super) total_before: Option<i64>,
    /// Videos that were played in the period.
    pub(in super::super) videos: usize,
    pub(in super::super) top: Vec<TopVideo>,
}

/// Parts of a [`TopVideo::spark`].
const SPARK: i64 = 24;

/// The most played videos of a period; `pending` are (video, minute, plays) that the tables do not have. Scans the period and the one before: about 0.3 s for a million rows.
pub(super) fn top(
    connection: &Connection,
    pending: &[(Uuid, i64, i64)],
    keep: Keep,
    now: i64,
    scale: Scale,
    period: Period,
    limit: usize,
) -> Result<Top> {
    let before = period.before();
    let knows_before = scale.oldest(keep, now).is_none_or(|oldest| before.first >= oldest);
    let mut plays: HashMap<Uuid, (i64, i64)> = HashMap::new();
    let mut add = |bucket: i64, id: Uuid, more: i64| {
        if period.contains(bucket) {
            plays.entry(id).or_default().0 += more;
        } else if before.contains(bucket) {
            plays.entry(id).or_default().1 += more;
        }
    };
    let sql = format!(
        "SELECT bucket, video_id, plays FROM {} WHERE bucket BETWEEN ?1 AND ?2",
        scale.table()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([before.first, period.last])?;
    while let Some(row) = rows.next()? {
        add(row.get(0)?, row.get(1)?, row.get(2)?);
    }
    for (id, minute, more) in pending {
        add(minute.div_euclid(scale.minutes()), *id, *more);
    }
    let total: i64 = plays.values().map(|(now, _)| now).sum();
    let total_before: i64 = plays.values().map(|(_, before)| before).sum();
    let mut ranked: Vec<_> =
        plays.into_iter().filter(|(_, (now, _))| *now > 0).map(|(id, sums)| (sums, id)).collect();
    let videos = ranked.len();
    let most_first = |one: &((i64, i64), Uuid), other: &((i64, i64), Uuid)| {
        other.0.0.cmp(&one.0.0).then(other.1.cmp(&one.1))
    };
    if ranked.len() > limit {
        ranked.select_nth_unstable_by(limit, most_first);
        ranked.truncate(limit);
    }
    ranked.sort_unstable_by(most_first);
    let mut own: HashMap<Uuid, Vec<(i64, i64)>> =
        ranked.iter().map(|(_, id)| (*id, Vec::new())).collect();
    for (id, minute, plays) in pending {
        if let Some(own) = own.get_mut(id) {
            own.push((*minute, *plays));
        }
    }
    let top = ranked
        .into_iter()
        .map(|((plays, before), video_id)| {
            let own = own.get(&video_id).map_or(&[][..], Vec::as_slice);
            let mut spark = vec![0; SPARK as usize];
            for (time, plays) in series(connection, own, &video_id, scale, period)? {
                let at = (time / scale.step_ms() - period.first) * SPARK / period.buckets();
                spark[at as usize] += plays;
            }
            let share = plays as f64 / total.max(1) as f64;
            let before = knows_before.then_some(before);
            Ok(TopVideo { video_id, plays, share, before, spark })
        })
        .collect::<Result<_>>()?;
    Ok(Top {
        from: period.first * scale.step_ms(),
        to: period.last.saturating_add(1).saturating_mul(scale.step_ms()),
        scale,
        as_of: now,
        total,
        total_before: knows_before.then_some(total_before),
        videos,
        top,
    })
}

/// One minute of the charts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct MinutePoint {
    /// Since the Unix epoch.
    pub(in super::super) minute: i64,
    /// Published in it.
    pub(in super::super) plays: i64,
    pub(in super::super) messages_per_second: f64,
    pub(in super::super) realtime_ms: Option<f64>,
    pub(in super::super) average_ms: Option<f64>,
    pub(in super::super) p50_ms: Option<f64>,
    pub(in super::super) p99_ms: Option<f64>,
    pub(in super::super) queue_depth: Option<i64>,
}

/// Keeps a point; a second one of the same minute, after a restart, adds its plays.
pub(super) fn add_point(transaction: &Transaction<'_>, point: &MinutePoint) -> Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO points VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET
               plays = plays + excluded.plays, messages_per_second = excluded.messages_per_second,
               realtime_ms = excluded.realtime_ms, average_ms = excluded.average_ms, p50_ms = excluded.p50_ms,
               p99_ms = excluded.p99_ms, queue_depth = excluded.queue_depth",
        )?
        .execute(params![
            point.minute,
            point.plays,
            point.messages_per_second,
            point.realtime_ms,
            point.average_ms,
            point.p50_ms,
            point.p99_ms,
            point.queue_depth
        ])?;
    Ok(())
}

/// The charts over a period, as columns; the longer, the more minutes a point stands for.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(in super::super) struct Points {
    step_ms: i64,
    time: Vec<i64>,
    plays: Vec<i64>,
    messages_per_second: Vec<f64>,
    realtime_ms: Vec<Option<f64>>,
    average_ms: Vec<Option<f64>>,
    p50_ms: Vec<Option<f64>>,
    /// The worst minute's.
    p99_ms: Vec<Option<f64>>,
    /// The deepest minute's.
    queue_depth: Vec<Option<i64>>,
}

/// The charts from `from` to `to` in ms.
pub(super) fn points(connection: &Connection, from: i64, to: i64) -> Result<Points> {
    let period = Period::of(Scale::Minute, from, to);
    let minutes = (period.buckets() + POINTS_MAX - 1) / POINTS_MAX;
    let mut points = Points { step_ms: minutes * MINUTE_MS, ..Points::default() };
    let mut statement = connection.prepare_cached(
        "SELECT minute / ?3, sum(plays), avg(messages_per_second), avg(realtime_ms), avg(average_ms), avg(p50_ms),
                max(p99_ms), max(queue_depth)
         FROM points WHERE minute BETWEEN ?1 AND ?2 GROUP BY minute / ?3 ORDER BY 1",
    )?;
    let mut rows = statement.query([period.first, period.last, minutes])?;
    while let Some(row) = rows.next()? {
        points.time.push(row.get::<_, i64>(0)? * points.step_ms);
        points.plays.push(row.get(1)?);
        points.messages_per_second.push(row.get(2)?);
        points.realtime_ms.push(row.get(3)?);
        points.average_ms.push(row.get(4)?);
        points.p50_ms.push(row.get(5)?);
        points.p99_ms.push(row.get(6)?);
        points.queue_depth.push(row.get(7)?);
    }
    Ok(points)
}
