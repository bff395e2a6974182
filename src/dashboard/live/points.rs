//! The points of the charts: one a second, those of the last 30 minutes (pure).

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::Serialize;

use crate::dashboard::store::MinutePoint;
use crate::model::unix_time::UnixMs;

/// Points kept: 30 minutes of one a second.
pub(super) const POINTS: usize = 1_800;

/// And how far back they are told, in ms.
pub(in super::super) const POINTS_MS: i64 = 30 * 60_000;

/// One second of the charts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in super::super) struct Point {
    /// When it was taken.
    pub(in super::super) time: UnixMs,
    /// Plays counted a second, over all processors.
    pub(in super::super) messages_per_second: f64,
    /// Mean consumption time of the newest plays, in ms.
    pub(in super::super) realtime_ms: Option<f64>,
    /// Mean consumption time since the processors' starts, in ms.
    pub(in super::super) average_ms: Option<f64>,
    /// Median consumption time of this second, in ms.
    pub(in super::super) p50_ms: Option<f64>,
    /// 99th percentile of this second, in ms.
    pub(in super::super) p99_ms: Option<f64>,
    /// Messages that wait.
    pub(in super::super) queue_depth: Option<u64>,
}

impl Point {
    /// To four digits behind the point: nobody reads more, and half of an answer with charts would be such digits.
    fn rounded(self) -> Self {
        Self {
            messages_per_second: four_digits(self.messages_per_second),
            realtime_ms: self.realtime_ms.map(four_digits),
            average_ms: self.average_ms.map(four_digits),
            p50_ms: self.p50_ms.map(four_digits),
            p99_ms: self.p99_ms.map(four_digits),
            ..self
        }
    }
}

/// A number with four digits behind the point; one that is too large for that stays.
fn four_digits(number: f64) -> f64 {
    let rounded = (number * 1e4).round() / 1e4;
    if rounded.is_finite() { rounded } else { number }
}

/// What a chart shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Measure {
    MessagesPerSecond,
    RealtimeMs,
    AverageMs,
    P50Ms,
    P99Ms,
    QueueDepth,
}

impl Measure {
    /// Every one with its name in the API.
    pub(in super::super) const ALL: [(&str, Self); 6] = [
        ("messages_per_second", Self::MessagesPerSecond),
        ("realtime_ms", Self::RealtimeMs),
        ("average_ms", Self::AverageMs),
        ("p50_ms", Self::P50Ms),
        ("p99_ms", Self::P99Ms),
        ("queue_depth", Self::QueueDepth),
    ];
}

/// Points as columns; those that were not asked for are absent.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
pub(in super::super) struct LiveSeries {
    /// Since when there is a point a second. Before, each stands for a minute that the database has, at its middle; null: no
    /// point a second has been taken.
    pub(in super::super) seconds_from: Option<UnixMs>,
    /// When each point was taken.
    pub(in super::super) time: Vec<UnixMs>,
    /// Plays counted a second, over all processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) messages_per_second: Option<Vec<f64>>,
    /// Mean consumption time of the newest plays, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) realtime_ms: Option<Vec<Option<f64>>>,
    /// Mean consumption time since the processors' starts, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) average_ms: Option<Vec<Option<f64>>>,
    /// Median consumption time of each second, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) p50_ms: Option<Vec<Option<f64>>>,
    /// 99th percentile of each second, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) p99_ms: Option<Vec<Option<f64>>>,
    /// Messages that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) queue_depth: Option<Vec<Option<u64>>>,
}

/// The newest points.
#[derive(Debug, Default)]
pub(super) struct NewestPoints {
    points: VecDeque<Point>,
    /// When the first one of a second was taken.
    seconds_from: Option<UnixMs>,
}

impl NewestPoints {
    /// Adds the newest; the oldest makes room.
    pub(super) fn push(&mut self, point: Point) {
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.seconds_from.get_or_insert(point.time);
        self.points.push_back(point.rounded());
    }

    /// Takes the minutes before the first point of a second, the oldest first. What is not over yet is told as of `now`: the
    /// points that follow come behind it.
    pub(super) fn remember(&mut self, minutes: &[MinutePoint], now: UnixMs) {
        let point = |minute: &MinutePoint| Point {
            time: UnixMs(minute.minute.saturating_mul(60_000).saturating_add(30_000)).min(now),
            messages_per_second: minute.messages_per_second,
            realtime_ms: minute.realtime_ms,
            average_ms: minute.average_ms,
            p50_ms: minute.p50_ms,
            p99_ms: minute.p99_ms,
            queue_depth: minute.queue_depth.and_then(|depth| u64::try_from(depth).ok()),
        };
        let of_past = |minute: &&MinutePoint| minute.minute <= now.0.div_euclid(60_000);
        let points = minutes.iter().filter(of_past).map(|minute| point(minute).rounded());
        self.points.extend(points.take(POINTS));
    }

    pub(super) fn last(&self) -> Option<&Point> {
        self.points.back()
    }

    /// The points after `since`, as columns of `measures`.
    pub(super) fn series(&self, measures: &[Measure], since: UnixMs) -> LiveSeries {
        fn column<T>(points: &[&Point], value: impl Fn(&Point) -> T) -> Option<Vec<T>> {
            Some(points.iter().map(|point| value(point)).collect())
        }
        let oldest = self.last().map_or(0, |point| point.time.0.saturating_sub(POINTS_MS));
        let since = since.max(UnixMs(oldest));
        let points: Vec<_> = self.points.iter().filter(|point| point.time > since).collect();
        let time = points.iter().map(|point| point.time).collect();
        let mut series =
            LiveSeries { seconds_from: self.seconds_from, time, ..LiveSeries::default() };
        for measure in measures {
            match measure {
                Measure::MessagesPerSecond => {
                    series.messages_per_second = column(&points, |point| point.messages_per_second);
                }
                Measure::RealtimeMs => {
                    series.realtime_ms = column(&points, |point| point.realtime_ms)
                }
                Measure::AverageMs => series.average_ms = column(&points, |point| point.average_ms),
                Measure::P50Ms => series.p50_ms = column(&points, |point| point.p50_ms),
                Measure::P99Ms => series.p99_ms = column(&points, |point| point.p99_ms),
                Measure::QueueDepth => {
                    series.queue_depth = column(&points, |point| point.queue_depth)
                }
            }
        }
        series
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.points.len()
    }
}
