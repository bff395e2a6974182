//! What the processors report and the points of the charts; in memory, the time is an argument (pure).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::QueueDepth;
use crate::api::Consumption;

/// Points kept: 30 minutes of one a second.
const POINTS: usize = 1_800;

/// The most processors shown; a new one takes the place of the one silent for longest.
const PROCESSORS: usize = 64;

/// A report older than this says nothing of the present: processors report once a second.
const FRESH: Duration = Duration::from_secs(3);

/// A processor that has not reported for so long may be gone.
const ALIVE: Duration = Duration::from_secs(10);

/// How long the failure of a processor that is gone keeps the dashboard's health red.
const FAILURE_SHOWN: Duration = Duration::from_secs(3600);

/// The longest `last_rejection` and `failure` kept, in characters, as src/api.rs promises.
const REASON_MAX: usize = 200;

/// The names of `GET /api/series`, in the order of the columns.
pub(super) const SERIES: [&str; 4] =
    ["messages_per_second", "realtime_ms", "average_ms", "queue_depth"];

/// One second of the charts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Point {
    /// Ms since the Unix epoch.
    pub(super) time: i64,
    pub(super) messages_per_second: f64,
    pub(super) realtime_ms: Option<f64>,
    pub(super) average_ms: Option<f64>,
    pub(super) queue_depth: Option<u64>,
}

impl Point {
    fn value(&self, name: &str) -> Value {
        match name {
            "messages_per_second" => json!(self.messages_per_second),
            "realtime_ms" => json!(self.realtime_ms),
            "average_ms" => json!(self.average_ms),
            "queue_depth" => json!(self.queue_depth),
            _ => Value::Null,
        }
    }
}

struct Processor {
    version: Option<u64>,
    consumption: Option<Consumption>,
    // Of the newest consumption; messages with counts alone say nothing of the rate.
    reported: Instant,
    heard: Instant,
}

/// The newest report of each processor, the queue's depth and the points.
#[derive(Default)]
pub(super) struct Live {
    processors: BTreeMap<Uuid, Processor>,
    points: VecDeque<Point>,
    queue: Option<QueueDepth>,
    queue_error: Option<String>,
}

impl Live {
    /// Takes what a processor said.
    pub(super) fn report(
        &mut self,
        id: Uuid,
        version: Option<u64>,
        consumption: Option<Consumption>,
        now: Instant,
    ) {
        if !self.processors.contains_key(&id) && self.processors.len() >= PROCESSORS {
            let silent =
                self.processors.iter().min_by_key(|(_, known)| known.heard).map(|(id, _)| *id);
            silent.and_then(|id| self.processors.remove(&id));
        }
        let known = self.processors.entry(id).or_insert(Processor {
            version: None,
            consumption: None,
            reported: now,
            heard: now,
        });
        known.heard = now;
        known.version = known.version.max(version);
        if let Some(mut consumption) = consumption {
            for text in
                [&mut consumption.last_rejection, &mut consumption.failure].into_iter().flatten()
            {
                *text = text.chars().take(REASON_MAX).collect();
            }
            known.consumption = Some(consumption);
            known.reported = now;
        }
    }

    /// Processors that have reported within [`ALIVE`].
    pub(super) fn alive(&self, now: Instant) -> usize {
        let is_alive = |known: &&Processor| now.duration_since(known.heard) < ALIVE;
        self.processors.values().filter(is_alive).count()
    }

    /// Why a processor has stopped counting, if its newest report, of the last hour, says so.
    pub(super) fn failure(&self, now: Instant) -> Option<&str> {
        let recent = |known: &&Processor| now.duration_since(known.reported) < FAILURE_SHOWN;
        let told =
            self.processors.values().filter(recent).filter_map(|known| known.consumption.as_ref());
        told.filter_map(|consumption| consumption.failure.as_deref()).next()
    }

    /// Takes what the queue's probe found.
    pub(super) fn set_queue(&mut self, found: Result<QueueDepth, String>) {
        match found {
            Ok(queue) => (self.queue, self.queue_error) = (Some(queue), None),
            Err(reason) => (self.queue, self.queue_error) = (None, Some(reason)),
        }
    }

    /// Adds the point of this second.
    pub(super) fn sample(&mut self, time: i64, now: Instant) {
        let point = Point {
            time,
            messages_per_second: self.messages_per_second(now),
            realtime_ms: self.realtime_ms(now),
            average_ms: self.average_ms(),
            queue_depth: self.queue.map(|queue| queue.depth),
        };
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    /// Forgets the processors, as a reset asks. The points stay: they tell of time, not of counts.
    pub(super) fn clear(&mut self) {
        self.processors.clear();
    }

    fn fresh(&self, now: Instant) -> impl Iterator<Item = &Consumption> {
        self.processors
            .values()
            .filter(move |known| now.saturating_duration_since(known.reported) < FRESH)
            .filter_map(|known| known.consumption.as_ref())
    }

    fn messages_per_second(&self, now: Instant) -> f64 {
        // The sum of nothing is -0.0.
        self.fresh(now).map(|told| told.per_second).fold(0.0, |sum, rate| sum + rate)
    }

    fn realtime_ms(&self, now: Instant) -> Option<f64> {
        mean(
            self.fresh(now).filter_map(|told| {
                Some((told.realtime_ms?, told.per_second.max(f64::MIN_POSITIVE)))
            }),
        )
    }

    fn average_ms(&self) -> Option<f64> {
        let told = self.processors.values().filter_map(|known| known.consumption.as_ref());
        mean(told.filter_map(|told| Some((told.since_start?.mean, told.counted.max(1) as f64))))
    }

    /// The present, for `GET /api/stats` and for each event.
    pub(super) fn stats(&self, now: Instant) -> Map<String, Value> {
        let times = || {
            self.processors
                .values()
                .filter_map(|known| known.consumption.as_ref().and_then(|told| told.since_start))
        };
        let processors: Vec<_> = self
            .processors
            .iter()
            .map(|(id, known)| {
                json!({
                    "processor": id,
                    "version": known.version,
                    "heard_ms_ago": u64::try_from(now.saturating_duration_since(known.heard).as_millis()).unwrap_or(u64::MAX),
                    "consumption": known.consumption,
                })
            })
            .collect();
        let stats = json!({
            "messages_per_second": self.messages_per_second(now),
            "consumption": {
                "realtime_ms": self.realtime_ms(now),
                "average_ms": self.average_ms(),
                // Percentiles do not add up over processors: the worst is told.
                "p99_ms": times().map(|times| times.p99).reduce(f64::max),
                "max_ms": times().map(|times| times.max).reduce(f64::max),
            },
            "queue": self.queue,
            "queue_error": self.queue_error,
            "processors": processors,
        });
        match stats {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    /// The newest point.
    pub(super) fn last_point(&self) -> Option<&Point> {
        self.points.back()
    }

    /// The points after `since`, as columns: `time` and those of `names`.
    pub(super) fn series(&self, names: &[&str], since: i64) -> Value {
        let points: Vec<_> = self.points.iter().filter(|point| point.time > since).collect();
        let mut columns = Map::new();
        columns.insert("time".to_owned(), points.iter().map(|point| point.time).collect());
        for name in names {
            columns
                .insert((*name).to_owned(), points.iter().map(|point| point.value(name)).collect());
        }
        Value::Object(columns)
    }

    /// What each processor said last, for the metrics.
    pub(super) fn consumptions(&self) -> impl Iterator<Item = (&Uuid, &Consumption)> {
        self.processors.iter().filter_map(|(id, known)| Some((id, known.consumption.as_ref()?)))
    }
}

/// The mean of (value, weight) pairs.
fn mean(pairs: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let (sum, weights) = pairs.fold((0.0, 0.0), |(sum, weights), (value, weight)| {
        (sum + value * weight, weights + weight)
    });
    let mean = sum / weights;
    mean.is_finite().then_some(mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ConsumptionTimes;

    fn told(per_second: f64, realtime_ms: f64, counted: u64, mean: f64) -> Option<Consumption> {
        Some(Consumption {
            counted,
            per_second,
            realtime_ms: Some(realtime_ms),
            since_start: Some(ConsumptionTimes { mean, ..ConsumptionTimes::default() }),
            ..Consumption::default()
        })
    }

    #[test]
    fn a_point_weighs_the_fresh_reports_and_leaves_out_the_stale() {
        let mut live = Live::default();
        let start = Instant::now();
        live.report(Uuid::from_u128(1), Some(1), told(30.0, 10.0, 100, 4.0), start);
        live.report(Uuid::from_u128(2), None, told(10.0, 50.0, 300, 8.0), start);
        live.set_queue(Ok(QueueDepth { depth: 7, in_flight: 1, deferred: 0 }));
        live.sample(1_000, start);
        // Counts alone do not make a rate fresh.
        live.report(Uuid::from_u128(2), Some(9), None, start + FRESH);
        live.set_queue(Err("nsqd is gone".to_owned()));
        live.sample(2_000, start + FRESH);
        assert_eq!(
            live.series(&SERIES, 0),
            json!({
                "time": [1_000, 2_000],
                "messages_per_second": [40.0, 0.0],
                "realtime_ms": [20.0, null],
                "average_ms": [7.0, 7.0],
                "queue_depth": [7, null],
            })
        );
        assert_eq!(
            live.series(&["queue_depth"], 1_000),
            json!({"time": [2_000], "queue_depth": [null]})
        );
        assert_eq!(live.stats(start + FRESH)["queue_error"], "nsqd is gone");
    }

    #[test]
    fn processors_points_and_texts_are_bounded() {
        let mut live = Live::default();
        let start = Instant::now();
        for id in 0..200u64 {
            let told =
                Consumption { last_rejection: Some("é".repeat(1_000)), ..Consumption::default() };
            live.report(
                Uuid::from_u128(u128::from(id)),
                None,
                Some(told),
                start + Duration::from_secs(id),
            );
        }
        assert_eq!(live.processors.len(), PROCESSORS);
        let newest = &live.processors[&Uuid::from_u128(199)];
        let text = newest.consumption.as_ref().unwrap().last_rejection.as_ref().unwrap();
        assert_eq!(text.chars().count(), REASON_MAX);
        for time in 0..3_000 {
            live.sample(time, start);
        }
        assert_eq!(live.points.len(), POINTS);
        assert_eq!(live.last_point().unwrap().time, 2_999);
    }
}
