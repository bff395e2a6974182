//! What the processors report and the points of the charts; in memory, the time is an argument (pure).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::nsqds::{Depth, Heartbeat};
use super::store::MinutePoint;
use crate::wire::{
    CONNECTION_TEXT_MAX, CONSUMPTION_BOUNDS_MS, ConsumerFigures, Consumption, ConsumptionHistogram,
    PROGRAM_MAX,
};

/// Points kept: 30 minutes of one a second.
const POINTS: usize = 1_800;

/// The most processors shown; a new one takes the place of the one silent for longest.
const PROCESSORS: usize = 64;

/// The most producers whose outboxes are shown; a new one takes the place of the one silent for longest.
const PRODUCERS: usize = 1_000;

/// How long a producer is shown after it was last heard.
const PRODUCER_SHOWN: Duration = Duration::from_secs(600);

/// A report older than this says nothing of the present: processors report once a second.
const FRESH: Duration = Duration::from_secs(3);

/// A processor that has not reported for so long may be gone.
const ALIVE: Duration = Duration::from_secs(10);

/// How long the failure of a processor that is gone keeps the dashboard's health red.
const FAILURE_SHOWN: Duration = Duration::from_secs(3600);

/// The longest `last_rejection` and `failure` kept, in characters, as `wire` promises.
const REASON_MAX: usize = 200;

/// The names of `GET /api/series`, in the order of the columns.
pub(super) const SERIES: [&str; 6] =
    ["messages_per_second", "realtime_ms", "average_ms", "p50_ms", "p99_ms", "queue_depth"];

/// One second of the charts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Point {
    /// Ms since the Unix epoch.
    pub(super) time: i64,
    pub(super) messages_per_second: f64,
    pub(super) realtime_ms: Option<f64>,
    pub(super) average_ms: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) queue_depth: Option<u64>,
}

impl Point {
    fn value(&self, name: &str) -> Value {
        match name {
            "messages_per_second" => json!(self.messages_per_second),
            "realtime_ms" => json!(self.realtime_ms),
            "average_ms" => json!(self.average_ms),
            "p50_ms" => json!(self.p50_ms),
            "p99_ms" => json!(self.p99_ms),
            "queue_depth" => json!(self.queue_depth),
            _ => Value::Null,
        }
    }
}

/// Consumption times of a while, by the bounds of the histograms that processors tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Times {
    // Up to each bound, as in the histogram.
    buckets: [u64; CONSUMPTION_BOUNDS_MS.len()],
    count: u64,
}

impl Times {
    /// Adds what a histogram holds that it did not hold `before`.
    fn add_growth(&mut self, histogram: &ConsumptionHistogram, before: &Times) {
        // Fewer than before: the processor has started again.
        let before = if histogram.count < before.count { &Times::default() } else { before };
        for (bucket, (now, then)) in
            self.buckets.iter_mut().zip(histogram.buckets.iter().zip(before.buckets))
        {
            *bucket += now.saturating_sub(then);
        }
        self.count += histogram.count - before.count;
    }

    fn add(&mut self, other: &Times) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, more)| *sum += more);
        self.count += other.count;
    }

    /// Which time the share `part` of them does not exceed, as far as the bounds tell; `None` without any.
    fn percentile(&self, part: f64) -> Option<f64> {
        let wanted = part * self.count as f64;
        let at = self.buckets.iter().position(|bucket| *bucket as f64 >= wanted);
        (self.count > 0).then(|| {
            let Some(at) = at else { return CONSUMPTION_BOUNDS_MS[self.buckets.len() - 1] as f64 };
            let (low, below) = match at {
                0 => (0, 0),
                at => (CONSUMPTION_BOUNDS_MS[at - 1], self.buckets[at - 1]),
            };
            let inside = (self.buckets[at] - below).max(1) as f64;
            let width = (CONSUMPTION_BOUNDS_MS[at] - low) as f64;
            low as f64 + width * (wanted - below as f64) / inside
        })
    }
}

/// The minute that is gathered.
#[derive(Debug, Default)]
struct Minute {
    number: i64,
    // All plays when it began.
    plays: u64,
    points: u32,
    rates: f64,
    realtimes: (f64, u32),
    average_ms: Option<f64>,
    times: Times,
    deepest: Option<u64>,
}

impl Minute {
    fn add(&mut self, point: &Point, times: &Times) {
        self.points += 1;
        self.rates += point.messages_per_second;
        if let Some(realtime) = point.realtime_ms {
            self.realtimes = (self.realtimes.0 + realtime, self.realtimes.1 + 1);
        }
        self.average_ms = point.average_ms;
        self.times.add(times);
        self.deepest = self.deepest.max(point.queue_depth);
    }

    fn finish(&self, plays: u64) -> MinutePoint {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (sum, count) = self.realtimes;
        MinutePoint {
            minute: self.number,
            // Less than at its beginning: there was a reset.
            plays: signed(plays.checked_sub(self.plays).unwrap_or(plays)),
            messages_per_second: self.rates / f64::from(self.points.max(1)),
            realtime_ms: (count > 0).then(|| sum / f64::from(count)),
            average_ms: self.average_ms,
            p50_ms: self.times.percentile(0.5),
            p99_ms: self.times.percentile(0.99),
            queue_depth: self.deepest.map(signed),
        }
    }
}

struct Processor {
    version: Option<u64>,
    consumption: Option<Consumption>,
    // Taken out of it, so that no event carries it.
    consumer: Option<Box<ConsumerFigures>>,
    // What its histogram held at the point before.
    times: Times,
    // Of the newest consumption; messages with counts alone say nothing of the rate.
    reported: Instant,
    heard: Instant,
}

/// The newest report of each processor, the queue's depth and the points.
#[derive(Default)]
pub(super) struct Live {
    processors: BTreeMap<Uuid, Processor>,
    // Plays in the outbox, and when it was told.
    producers: BTreeMap<Uuid, (u64, Instant)>,
    points: VecDeque<Point>,
    minute: Option<Minute>,
    queue: Depth,
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
            consumer: None,
            times: Times::default(),
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
            if let Some(program) = &mut consumption.program {
                *program = program.chars().take(PROGRAM_MAX).collect();
            }
            known.consumer = consumption.consumer.take().map(cut_consumer);
            known.consumption = Some(consumption);
            known.reported = now;
        }
    }

    /// Takes how many plays a producer has in its outbox.
    pub(super) fn outbox(&mut self, producer: Uuid, plays: u64, now: Instant) {
        if !self.producers.contains_key(&producer) && self.producers.len() >= PRODUCERS {
            let silent = self.producers.iter().min_by_key(|(_, (_, heard))| *heard);
            let silent = silent.map(|(id, _)| *id);
            silent.and_then(|id| self.producers.remove(&id));
        }
        self.producers.insert(producer, (plays, now));
    }

    /// The producers of the last 10 minutes that have an outbox.
    pub(super) fn producers(&self, now: Instant) -> Vec<Value> {
        let silent = |heard: &Instant| now.saturating_duration_since(*heard);
        let told = self.producers.iter().filter(|(_, (_, heard))| silent(heard) < PRODUCER_SHOWN);
        told.map(|(id, (plays, heard))| {
            json!({ "producer": id, "outbox": plays, "silent_ms": silent(heard).as_millis() as u64 })
        })
        .collect()
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

    /// Each processor: when it was heard, what it counted, and whether what it received adds up.
    pub(super) fn processors(&self, now: Instant) -> Vec<Value> {
        let show = |(id, known): (&Uuid, &Processor)| {
            let told = known.consumption.as_ref();
            let answered = told.map(|told| told.counted + told.duplicates + told.rejected);
            json!({
                "processor": id,
                "silent_ms": silent_ms(known, now),
                "version": known.version,
                "received": told.map(|told| told.received),
                "counted": told.map(|told| told.counted),
                "duplicates": told.map(|told| told.duplicates),
                "rejected": told.map(|told| told.rejected),
                "recovered": told.map(|told| told.recovered),
                // Received and not yet any of the others; what is delivered and not received is the queue's.
                "in_flight": told.zip(answered).map(|(told, answered)| told.received.saturating_sub(answered)),
                "adds_up": told.zip(answered).map(|(told, answered)| answered <= told.received),
                "per_second": told.map(|told| told.per_second),
                "p99_ms": told.and_then(|told| told.since_start).map(|times| times.p99),
                "program": told.and_then(|told| told.program.as_deref()),
                "ledger": told.and_then(|told| told.ledger),
                "consumer": known.consumer,
                "failure": told.and_then(|told| told.failure.as_deref()),
                "last_rejection": told.and_then(|told| told.last_rejection.as_deref()),
            })
        };
        self.processors.iter().map(show).collect()
    }

    /// The same, as the diagnosis wants it.
    pub(super) fn heartbeats(&self, now: Instant) -> Vec<Heartbeat> {
        let heartbeat = |(id, known): (&Uuid, &Processor)| Heartbeat {
            id: id.to_string(),
            silent_ms: silent_ms(known, now),
            failure: known.consumption.as_ref().and_then(|told| told.failure.clone()),
            per_second: known.consumption.as_ref().map_or(0.0, |told| told.per_second),
            consumer: known.consumer.as_deref().cloned(),
        };
        self.processors.iter().map(heartbeat).collect()
    }

    /// Takes what is known of the queue.
    pub(super) fn set_queue(&mut self, found: Depth) {
        self.queue = found;
    }

    /// Adds the point of this second; returns that of the minute that has ended, if one has. `plays` are all
    /// that are published.
    pub(super) fn sample(&mut self, time: i64, now: Instant, plays: u64) -> Option<MinutePoint> {
        let mut times = Times::default();
        for known in self.processors.values_mut() {
            let told = known.consumption.as_ref().and_then(|told| told.histogram.as_deref());
            let Some(histogram) = told else { continue };
            times.add_growth(histogram, &known.times);
            known.times = Times { buckets: histogram.buckets, count: histogram.count };
        }
        let point = Point {
            time,
            messages_per_second: self.messages_per_second(now),
            realtime_ms: self.realtime_ms(now),
            average_ms: self.average_ms(),
            p50_ms: times.percentile(0.5),
            p99_ms: times.percentile(0.99),
            queue_depth: self.queue.queue.map(|queue| queue.depth),
        };
        let number = time.div_euclid(60_000);
        let ended = self.minute.take_if(|minute| minute.number != number);
        let minute =
            self.minute.get_or_insert_with(|| Minute { number, plays, ..Minute::default() });
        minute.add(&point, &times);
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back(point);
        ended.map(|minute| minute.finish(plays))
    }

    /// The minute that is not over yet, for the end.
    pub(super) fn last_minute(&mut self, plays: u64) -> Option<MinutePoint> {
        self.minute.take().map(|minute| minute.finish(plays))
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
                    "heard_ms_ago": silent_ms(known, now),
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
            "queue": self.queue.queue,
            "queue_error": self.queue.error,
            "queue_paused": self.queue.paused,
            "depth_alert": self.queue.alert,
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

    /// Whether more messages wait than the limit; `None` without one, or while nobody knows.
    pub(super) fn depth_alert(&self) -> Option<bool> {
        self.queue.alert.and_then(|alert| alert.on)
    }

    /// What each processor said last, for the metrics.
    pub(super) fn consumptions(&self) -> impl Iterator<Item = (&Uuid, &Consumption)> {
        self.processors.iter().filter_map(|(id, known)| Some((id, known.consumption.as_ref()?)))
    }
}

/// What a stranger could send that a processor would not.
fn cut_consumer(mut consumer: Box<ConsumerFigures>) -> Box<ConsumerFigures> {
    let cut = |text: &mut String| *text = text.chars().take(CONNECTION_TEXT_MAX).collect();
    for connection in &mut consumer.connections {
        cut(&mut connection.nsqd);
        connection.last_error.iter_mut().for_each(cut);
    }
    for lookupd in &mut consumer.lookupds {
        cut(&mut lookupd.lookupd);
        lookupd.last_error.iter_mut().for_each(cut);
    }
    consumer
}

fn silent_ms(known: &Processor, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(known.heard).as_millis()).unwrap_or(u64::MAX)
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
    use crate::nsqd::depth::QueueDepth;
    use crate::wire::ConsumptionTimes;

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
        let queue = Some(QueueDepth { depth: 7, in_flight: 1, deferred: 0 });
        live.set_queue(Depth { queue, ..Depth::default() });
        live.sample(1_000, start, 0);
        // Counts alone do not make a rate fresh.
        live.report(Uuid::from_u128(2), Some(9), None, start + FRESH);
        live.set_queue(Depth { error: Some("nsqd is gone".to_owned()), ..Depth::default() });
        live.sample(2_000, start + FRESH, 0);
        assert_eq!(
            live.series(&SERIES, 0),
            json!({
                "time": [1_000, 2_000],
                "messages_per_second": [40.0, 0.0],
                "realtime_ms": [20.0, null],
                "average_ms": [7.0, 7.0],
                "p50_ms": [null, null],
                "p99_ms": [null, null],
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
            live.sample(time, start, 0);
        }
        assert_eq!(live.points.len(), POINTS);
        assert_eq!(live.last_point().unwrap().time, 2_999);
    }

    #[test]
    fn percentiles_are_those_of_the_second_and_of_the_minute() {
        let mut live = Live::default();
        let start = Instant::now();
        let tell = |live: &mut Live, fast: u64, slow: u64| {
            let mut buckets = [fast + slow; CONSUMPTION_BOUNDS_MS.len()];
            // Up to 5 ms the fast ones alone; up to 20 ms all.
            buckets[..4].fill(fast);
            buckets[..2].fill(0);
            let histogram = ConsumptionHistogram { buckets, count: fast + slow, sum_ms: 0.0 };
            let told =
                Consumption { histogram: Some(Box::new(histogram)), ..Consumption::default() };
            live.report(Uuid::from_u128(1), None, Some(told), start);
        };
        tell(&mut live, 100, 0);
        assert_eq!(live.sample(0, start, 10), None);
        let round = |ms: Option<f64>| ms.map(|ms| (ms * 1000.0).round() / 1000.0);
        let point = |live: &Live| {
            live.last_point().map(|point| (round(point.p50_ms), round(point.p99_ms))).unwrap()
        };
        assert_eq!(point(&live), (Some(3.5), Some(4.97)));
        tell(&mut live, 100, 100);
        live.sample(1_000, start, 20);
        assert_eq!(point(&live), (Some(15.0), Some(19.9)));
        live.sample(2_000, start, 25);
        assert_eq!(point(&live), (None, None));
        // It started again.
        tell(&mut live, 4, 0);
        live.sample(3_000, start, 30);
        assert_eq!(point(&live).0, Some(3.5));
        let minute = live.sample(60_000, start, 110).unwrap();
        assert_eq!((minute.minute, minute.plays, round(minute.p50_ms)), (0, 100, Some(4.942)));
        assert_eq!(live.last_minute(115).unwrap().plays, 5);
        assert_eq!(live.last_minute(115), None);
    }
}
