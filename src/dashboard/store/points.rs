//! The charts, a point a minute, in SQLite.

use anyhow::Result;
use rusqlite::{Connection, Transaction, params};
use schemars::JsonSchema;
use serde::Serialize;

use super::period::{Keep, MINUTE_MS, Period, Scale};
use super::row::{check_row, write_checked};
use crate::model::unix_time::UnixMs;

/// The most points of one [`points`].
const POINTS_MAX: i64 = 720;

/// One minute of the charts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MinutePoint {
    /// Which minute since the Unix epoch.
    pub(crate) minute: i64,
    /// Published in it.
    pub(crate) plays: i64,
    /// Messages counted a second.
    pub(crate) messages_per_second: f64,
    /// The newest consumption times, in ms; `None`, here and below: nothing was counted.
    pub(crate) realtime_ms: Option<f64>,
    /// The mean since the processors started, in ms.
    pub(crate) average_ms: Option<f64>,
    /// The consumption time that half of the minute's plays did not exceed, in ms.
    pub(crate) p50_ms: Option<f64>,
    /// The one that 99 % of them did not exceed.
    pub(crate) p99_ms: Option<f64>,
    /// The deepest that the queue was; `None`: nobody knows.
    pub(crate) queue_depth: Option<i64>,
}

/// Writes a point; see [`write_checked`].
const ADD: &str = "INSERT INTO points AS p
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, row_check(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8))
    ON CONFLICT DO UPDATE SET
      row_check = iif(
        p.row_check = row_check(minute, plays, messages_per_second, realtime_ms, average_ms, p50_ms, p99_ms, queue_depth),
        row_check(?1, plays + ?2, ?3, ?4, ?5, ?6, ?7, ?8), NULL),
      plays = plays + ?2, messages_per_second = ?3, realtime_ms = ?4, average_ms = ?5, p50_ms = ?6, p99_ms = ?7,
      queue_depth = ?8";

/// Keeps a point; a second one of the same minute, after a restart, adds its plays.
pub(super) fn add(transaction: &Transaction<'_>, point: &MinutePoint) -> Result<()> {
    let values = params![
        point.minute,
        point.plays,
        point.messages_per_second,
        point.realtime_ms,
        point.average_ms,
        point.p50_ms,
        point.p99_ms,
        point.queue_depth
    ];
    write_checked(transaction, "points", ADD, values)
}

/// Removes the points that are too old.
pub(super) fn prune(transaction: &Transaction<'_>, keep: Keep, now: UnixMs) -> Result<()> {
    let oldest = Scale::Hour.oldest(keep, now).unwrap_or(0) * 60;
    transaction.prepare_cached("DELETE FROM points WHERE minute < ?1")?.execute([oldest])?;
    Ok(())
}

/// The minutes from `from` on, the oldest first.
pub(super) fn minutes(connection: &Connection, from: UnixMs) -> Result<Vec<MinutePoint>> {
    let mut statement = connection.prepare_cached(
        "SELECT minute, plays, messages_per_second, realtime_ms, average_ms, p50_ms, p99_ms, queue_depth,
                row_check = row_check(minute, plays, messages_per_second, realtime_ms, average_ms, p50_ms, p99_ms, queue_depth)
         FROM points WHERE minute >= ?1 ORDER BY minute",
    )?;
    let mut rows = statement.query([Scale::Minute.bucket(from)])?;
    let mut minutes = Vec::new();
    while let Some(row) = rows.next()? {
        check_row(connection, "points", row.get(8)?)?;
        minutes.push(MinutePoint {
            minute: row.get(0)?,
            plays: row.get(1)?,
            messages_per_second: row.get(2)?,
            realtime_ms: row.get(3)?,
            average_ms: row.get(4)?,
            p50_ms: row.get(5)?,
            p99_ms: row.get(6)?,
            queue_depth: row.get(7)?,
        });
    }
    Ok(minutes)
}

/// The charts over a period, as columns; the longer, the more minutes a point stands for.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Points {
    /// How long a point is: whole minutes. The first and the last are whole ones, too, and may reach over the period.
    step_ms: i64,
    /// When the first minute of all begins that is kept: what a step has before it is not known. Null: there is none.
    recorded_from: Option<UnixMs>,
    /// When each point begins.
    time: Vec<UnixMs>,
    /// Published in it.
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

/// The charts from `from` to `to`, which is not included.
pub(super) fn points(connection: &Connection, from: UnixMs, to: UnixMs) -> Result<Points> {
    let period = Period::of(Scale::Minute, from, to);
    let minutes = (period.buckets() + POINTS_MAX - 1) / POINTS_MAX;
    // A step of which only a part is asked for would look like a time of fewer plays.
    let first = period.first.div_euclid(minutes).saturating_mul(minutes);
    let last = period.last.div_euclid(minutes).saturating_add(1).saturating_mul(minutes) - 1;
    let recorded_from = connection
        .prepare_cached("SELECT min(minute) FROM points")?
        .query_row([], |row| row.get::<_, Option<i64>>(0))?
        .map(|minute| Scale::Minute.start(minute));
    let mut points = Points { step_ms: minutes * MINUTE_MS, recorded_from, ..Points::default() };
    let mut statement = connection.prepare_cached(
        "SELECT minute / ?3, sum(plays), round(avg(messages_per_second), 3), round(avg(realtime_ms), 3),
                round(avg(average_ms), 3), round(avg(p50_ms), 3), round(max(p99_ms), 3), max(queue_depth),
                min(row_check = row_check(minute, plays, messages_per_second, realtime_ms, average_ms, p50_ms, p99_ms, queue_depth))
         FROM points WHERE minute BETWEEN ?1 AND ?2 GROUP BY minute / ?3 ORDER BY 1",
    )?;
    let mut rows = statement.query([first, last, minutes])?;
    while let Some(row) = rows.next()? {
        check_row(connection, "points", row.get(8)?)?;
        points.time.push(UnixMs(row.get::<_, i64>(0)? * points.step_ms));
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
