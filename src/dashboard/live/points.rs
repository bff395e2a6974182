//! The points of the charts: one a second, those of the last 30 minutes (pure).

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::unix_time::UnixMs;

/// Points kept: 30 minutes of one a second.
pub(super) const POINTS: usize = 1_800;

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
pub(super) struct NewestPoints(VecDeque<Point>);

impl NewestPoints {
    /// Adds the newest; the oldest makes room.
    pub(super) fn push(&mut self, point: Point) {
        if self.0.len() == POINTS {
            self.0.pop_front();
        }
        self.0.push_back(point);
    }

    pub(super) fn last(&self) -> Option<&Point> {
        self.0.back()
    }

    /// The points after `since`, as columns of `measures`.
    pub(super) fn series(&self, measures: &[Measure], since: UnixMs) -> LiveSeries {
        fn column<T>(points: &[&Point], value: impl Fn(&Point) -> T) -> Option<Vec<T>> {
            Some(points.iter().map(|point| value(point)).collect())
        }
        let points: Vec<_> = self.0.iter().filter(|point| point.time > since).collect();
        let time = points.iter().map(|point| point.time).collect();
        let mut series = LiveSeries { time, ..LiveSeries::default() };
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
        self.0.len()
    }
}
