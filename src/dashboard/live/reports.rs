//! Takes in what processors and producers tell, and makes a point of it each second (pure).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::minute::Minute;
use super::points::{LiveSeries, Measure, NewestPoints, Point};
use super::run_outcome::RunOutcome;
use super::starts::{ALIVE, Starts};
use super::times;
use super::undrawn::Undrawn;
use crate::dashboard::nsqds::Depth;
use crate::dashboard::store::MinutePoint;
use crate::model::time_buckets::TimeCounts;
use crate::model::unix_time::UnixMs;
use crate::wire::{
    ArrivalFigures, CONNECTION_TEXT_MAX, ConsumerFigures, Consumption, ConsumptionHistogram,
    LedgerStatus, OutboxFigures, PROGRAM_MAX, ProcessorEnding, ToldLetter,
};

/// The most processors shown; a new one takes the place of the one silent for longest.
pub(super) const PROCESSORS: usize = 64;

/// The most producers whose outboxes are shown; a new one takes the place of the one silent for longest.
const PRODUCERS: usize = 1_000;

/// A report older than this says nothing of the present: processors report once a second.
pub(super) const FRESH: Duration = Duration::from_secs(3);

/// How long the failure of a processor that is gone keeps the dashboard's health red.
const FAILURE_SHOWN: Duration = Duration::from_secs(3600);

/// The least time between two points that is believed.
const SECONDS_MIN: Duration = Duration::from_millis(1);

/// The longest `last_rejection` and `failure` kept, in characters, as `wire` promises.
pub(super) const REASON_MAX: usize = 200;

/// One processor and what it said last.
pub(super) struct KnownProcessor {
    pub(super) version: Option<u64>,
    pub(super) consumption: Option<Consumption>,
    /// Taken out of it, so that no event carries it.
    pub(super) consumer: Option<Box<ConsumerFigures>>,
    /// The same.
    pub(super) arrivals: Option<Box<ArrivalFigures>>,
    /// The same; of a shared ledger only.
    pub(super) ledger: Option<Box<LedgerStatus>>,
    /// Its newest dead letters, oldest first.
    pub(super) letters: Vec<ToldLetter>,
    /// The newest histogram of its consumption times. `consumption` has it without what is fine in it, so that no event
    /// carries that.
    pub(super) times: ConsumptionHistogram,
    /// The one that the newest point has seen.
    seen: ConsumptionHistogram,
    /// Plays that it has counted and no point shows.
    undrawn: Undrawn,
    /// Of the newest consumption; messages with counts alone say nothing of the rate.
    reported: Instant,
    /// Of the newest message of any kind.
    pub(super) heard: Instant,
    /// Its processes, as far as they tell themselves apart.
    pub(super) starts: Starts,
    /// How it has ended, and when, if its newest report says that it has.
    pub(super) ended: Option<(ProcessorEnding, UnixMs)>,
    /// How often it has said so.
    pub(super) endings: u64,
}

impl KnownProcessor {
    /// Whether it has reported within [`ALIVE`].
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) < ALIVE
    }

    /// Whether it has told itself how it fares within [`ALIVE`]: of a dead one, another may tell the counts.
    pub(super) fn reports(&self, now: Instant) -> bool {
        self.consumption.is_some() && self.reported_ago(now) < ALIVE
    }

    /// How long ago it told itself how it fares.
    pub(super) fn reported_ago(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.reported)
    }

    /// What its start waits for, if it does.
    fn waiting(&self) -> Option<&str> {
        self.consumer.as_deref()?.waiting.as_deref()
    }

    /// How long nothing was heard of it, in ms.
    pub(super) fn silent_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.heard).as_millis()).unwrap_or(u64::MAX)
    }
}

/// The newest report of each processor, the queue's depth and the points.
#[derive(Default)]
pub(in super::super) struct Live {
    pub(super) processors: BTreeMap<Uuid, KnownProcessor>,
    /// How the outbox is, and when it was told.
    pub(super) producers: BTreeMap<Uuid, (OutboxFigures, Instant)>,
    pub(super) points: NewestPoints,
    minute: Option<Minute>,
    /// When the newest point was taken.
    sampled: Option<Instant>,
    pub(super) queue: Depth,
    /// How the simulation has ended that the dashboard belongs to.
    pub(super) run: Option<RunOutcome>,
}

impl Live {
    /// Takes what a processor said.
    pub(in super::super) fn report(
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
        let known = self.processors.entry(id).or_insert(KnownProcessor {
            version: None,
            consumption: None,
            consumer: None,
            arrivals: None,
            ledger: None,
            letters: Vec::new(),
            times: ConsumptionHistogram::default(),
            seen: ConsumptionHistogram::default(),
            undrawn: Undrawn::default(),
            reported: now,
            heard: now,
            starts: Starts::default(),
            ended: None,
            endings: 0,
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
            known.arrivals = consumption.arrivals.take();
            known.arrivals.iter_mut().for_each(|arrivals| arrivals.cut());
            known.ledger = consumption.ledger_status.take().filter(|status| status.is_shared());
            known.ledger.iter_mut().for_each(|status| status.cut());
            known.undrawn.add(&consumption, now);
            if let Some(told) = consumption.histogram.as_deref_mut() {
                let fine = std::mem::take(&mut told.fine);
                known.times = ConsumptionHistogram { fine, ..told.clone() };
            }
            known.consumption = Some(consumption);
            known.reported = now;
        }
    }

    /// Takes the newest dead letters of a processor that has reported.
    pub(in super::super) fn letters(&mut self, id: Uuid, letters: Vec<ToldLetter>) {
        if let Some(known) = self.processors.get_mut(&id) {
            known.letters = letters.into_iter().map(ToldLetter::cut).collect();
        }
    }

    /// Takes which start of a processor has reported, and from where; behind its report.
    pub(in super::super) fn started(
        &mut self,
        id: Uuid,
        instance: Option<Uuid>,
        from: Option<IpAddr>,
        now: Instant,
    ) {
        if let Some(known) = self.processors.get_mut(&id) {
            known.starts.hear(instance, from, now);
        }
    }

    /// Takes how a processor ends, and when, if it does; behind its report.
    pub(in super::super) fn ended(&mut self, id: Uuid, ended: Option<(ProcessorEnding, UnixMs)>) {
        if let Some(known) = self.processors.get_mut(&id) {
            known.endings += u64::from(ended.is_some());
            known.ended = ended;
        }
    }

    /// A processor's ledger is older than what is known of it: it does not count until it says otherwise.
    pub(in super::super) fn refuse(&mut self, id: Uuid, reason: &str, now: Instant) {
        self.report(id, None, None, now);
        if let Some(known) = self.processors.get_mut(&id) {
            let reason = reason.chars().take(REASON_MAX).collect();
            known.consumption.get_or_insert_default().failure = Some(reason);
            known.reported = now;
        }
    }

    /// Takes what a producer with an outbox says.
    pub(in super::super) fn outbox(&mut self, producer: Uuid, told: OutboxFigures, now: Instant) {
        if !self.producers.contains_key(&producer) && self.producers.len() >= PRODUCERS {
            let silent = self.producers.iter().min_by_key(|(_, (_, heard))| *heard);
            let silent = silent.map(|(id, _)| *id);
            silent.and_then(|id| self.producers.remove(&id));
        }
        self.producers.insert(producer, (told, now));
    }

    /// Processors that have reported within [`ALIVE`], have not ended and can count.
    pub(in super::super) fn alive(&self, now: Instant) -> usize {
        let counts = |known: &&KnownProcessor| {
            known.is_alive(now) && known.ended.is_none() && known.waiting().is_none()
        };
        self.processors.values().filter(counts).count()
    }

    /// The first processor whose start waits, and for what.
    pub(in super::super) fn waiting(&self, now: Instant) -> Option<String> {
        let mut alive = self.processors.iter().filter(|(_, known)| known.is_alive(now));
        alive.find_map(|(id, known)| Some(format!("processor {id} waits: {}", known.waiting()?)))
    }

    /// Why a processor has stopped counting, if its newest report, of the last hour, says so. Where others of a shared ledger
    /// count on without it, the ledger tells what becomes of it.
    pub(in super::super) fn failure(&self, now: Instant) -> Option<&str> {
        let recent = |known: &KnownProcessor| now.duration_since(known.reported) < FAILURE_SHOWN;
        let replaced = self.replaced(now);
        let told =
            self.processors.iter().filter(|(id, known)| recent(known) && !replaced.contains(id));
        told.filter_map(|(_, known)| known.consumption.as_ref()?.failure.as_deref()).next()
    }

    /// Takes what is known of the queue.
    pub(in super::super) fn set_queue(&mut self, found: Depth) {
        self.queue = found;
    }

    /// Adds the point of this second; returns that of the minute that has ended, if one has. `plays` are all
    /// that are published.
    pub(in super::super) fn sample(
        &mut self,
        time: UnixMs,
        now: Instant,
        plays: u64,
    ) -> Option<MinutePoint> {
        let seconds = self.sampled.replace(now).map_or(Duration::from_secs(1), |before| {
            now.saturating_duration_since(before).max(SECONDS_MIN)
        });
        let (mut times, mut counted) = (TimeCounts::default(), 0.0_f64);
        for known in self.processors.values_mut() {
            counted += known.undrawn.take(seconds.as_secs_f64());
            times::add_growth(&mut times, &known.times, &known.seen);
            known.seen.clone_from(&known.times);
        }
        let realtime_ms = self.realtime_ms(now);
        let (p50_ms, p99_ms) = match self.points.last() {
            // Reports and points are both a second apart, so that a point may find no new report: then the one before holds,
            // as it does for the mean.
            Some(last) if times.total() == 0 && realtime_ms.is_some() => (last.p50_ms, last.p99_ms),
            _ => (times.percentile_ms(0.5), times.percentile_ms(0.99)),
        };
        let point = Point {
            time,
            // What a stranger may tell is no number of JSON without a limit.
            messages_per_second: (counted / seconds.as_secs_f64()).min(f64::MAX),
            realtime_ms,
            average_ms: self.average_ms(),
            p50_ms,
            p99_ms,
            queue_depth: self.queue.queue.map(|queue| queue.depth),
        };
        let number = time.0.div_euclid(60_000);
        let ended = self.minute.take_if(|minute| minute.number != number);
        let minute = self.minute.get_or_insert_with(|| Minute::new(number, plays));
        minute.add(&point, &times);
        self.points.push(point);
        ended.map(|minute| minute.finish(plays))
    }

    /// The minute that is not over yet, for the end.
    pub(in super::super) fn last_minute(&mut self, plays: u64) -> Option<MinutePoint> {
        self.minute.take().map(|minute| minute.finish(plays))
    }

    /// Takes the minutes before a restart, the oldest first; before the first [`Live::sample`].
    pub(in super::super) fn remember(&mut self, minutes: &[MinutePoint], now: UnixMs) {
        self.points.remember(minutes, now);
    }

    /// Takes how the simulation has ended.
    pub(in super::super) fn run_ended(&mut self, outcome: RunOutcome) {
        self.run = Some(outcome);
    }

    /// How it has, if it has.
    pub(in super::super) fn run(&self) -> Option<&RunOutcome> {
        self.run.as_ref()
    }

    /// Forgets the processors, as a reset asks, and how a run has ended. The points stay: they tell of time, not of counts.
    pub(in super::super) fn clear(&mut self) {
        self.processors.clear();
        self.run = None;
    }

    fn fresh(&self, now: Instant) -> impl Iterator<Item = &Consumption> {
        self.processors
            .values()
            .filter(move |known| now.saturating_duration_since(known.reported) < FRESH)
            .filter_map(|known| known.consumption.as_ref())
    }

    pub(super) fn messages_per_second(&self, now: Instant) -> f64 {
        // The sum of nothing is -0.0; that of what a stranger may tell is no number of JSON without a limit.
        self.fresh(now)
            .map(|told| told.per_second)
            .fold(0.0_f64, |sum, rate| sum + rate)
            .min(f64::MAX)
    }

    pub(super) fn realtime_ms(&self, now: Instant) -> Option<f64> {
        mean(
            self.fresh(now).filter_map(|told| {
                Some((told.realtime_ms?, told.per_second.max(f64::MIN_POSITIVE)))
            }),
        )
    }

    pub(super) fn average_ms(&self) -> Option<f64> {
        let told = self.processors.values().filter_map(|known| known.consumption.as_ref());
        mean(told.filter_map(|told| Some((told.since_start?.mean, told.counted.max(1) as f64))))
    }

    /// The 99th percentile since the processors' starts, in ms: of all times together, or, where a processor of an older
    /// version tells them too roughly, that of the processor where it is the highest.
    pub(super) fn p99_ms(&self) -> Option<f64> {
        let told = || {
            let all = self.processors.values();
            all.filter_map(|known| Some((known.consumption.as_ref()?.since_start?, &known.times)))
        };
        if told().any(|(_, times)| times.fine.is_empty()) {
            return told().map(|(since_start, _)| since_start.p99).reduce(f64::max);
        }
        let mut all = TimeCounts::default();
        told()
            .flat_map(|(_, times)| &times.fine)
            .for_each(|(bucket, count)| all.add(*bucket, *count));
        all.percentile_ms(0.99)
    }

    /// The newest point.
    pub(in super::super) fn last_point(&self) -> Option<&Point> {
        self.points.last()
    }

    /// The points after `since`, as columns of `measures`.
    pub(in super::super) fn series(&self, measures: &[Measure], since: UnixMs) -> LiveSeries {
        self.points.series(measures, since)
    }

    /// Whether more messages wait than the limit; `None` without one, or while nobody knows.
    pub(in super::super) fn depth_alert(&self) -> Option<bool> {
        self.queue.alert.and_then(|alert| alert.on)
    }

    /// What each processor said last, for the metrics.
    pub(in super::super) fn consumptions(&self) -> impl Iterator<Item = (&Uuid, &Consumption)> {
        self.processors.iter().filter_map(|(id, known)| Some((id, known.consumption.as_ref()?)))
    }

    /// The consumption times of each processor that tells any, for the metrics.
    pub(in super::super) fn times(&self) -> impl Iterator<Item = (&Uuid, &ConsumptionHistogram)> {
        let tells =
            |known: &KnownProcessor| known.consumption.as_ref()?.histogram.as_ref().map(drop);
        let all = self.processors.iter();
        all.filter_map(move |(id, known)| tells(known).map(|()| (id, &known.times)))
    }

    /// Whether each processor has said that it ends in order, for the metrics.
    pub(in super::super) fn endings(&self) -> impl Iterator<Item = (&Uuid, bool)> {
        self.processors.iter().map(|(id, known)| (id, known.ended.is_some()))
    }

    /// What each processor said last of the plays and messages that came, for the metrics.
    pub(in super::super) fn arrivals(&self) -> impl Iterator<Item = (&Uuid, &ArrivalFigures)> {
        self.processors.iter().filter_map(|(id, known)| Some((id, known.arrivals.as_deref()?)))
    }
}

/// What a stranger could send that a processor would not.
fn cut_consumer(mut consumer: Box<ConsumerFigures>) -> Box<ConsumerFigures> {
    let cut = |text: &mut String| *text = text.chars().take(CONNECTION_TEXT_MAX).collect();
    for connection in &mut consumer.connections {
        cut(&mut connection.nsqd);
        connection.last_error.iter_mut().for_each(cut);
    }
    let texts = [&mut consumer.topic, &mut consumer.channel, &mut consumer.waiting];
    texts.into_iter().flatten().for_each(cut);
    for lookupd in &mut consumer.lookupds {
        cut(&mut lookupd.lookupd);
        lookupd.last_error.iter_mut().for_each(cut);
    }
    consumer
}

/// The mean of (value, weight) pairs.
fn mean(pairs: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let (sum, weights) = pairs.fold((0.0, 0.0), |(sum, weights), (value, weight)| {
        (sum + value * weight, weights + weight)
    });
    let mean = sum / weights;
    mean.is_finite().then_some(mean)
}
