//! What calls show of the processors' reports, and what the diagnosis is told of them (pure).

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::reports::{KnownProcessor, Live};
use super::run_outcome::RunOutcome;
use super::shared_ledgers::LedgerGlance;
use crate::dashboard::nsqds::{Alert, Heartbeat};
use crate::model::unix_time::UnixMs;
use crate::nsqd::depth::QueueDepth;
use crate::runtime::links::{LinkState, PartLink};
use crate::wire::{
    ArrivalFigures, ConsumerFigures, Consumption, CrowdedPlays, LedgerFigures, ProcessorEnding,
};

/// How long a producer is shown after it was last heard.
const PRODUCER_SHOWN: Duration = Duration::from_secs(600);

/// The present, as far as processors and nsqds tell it.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct LiveStats {
    /// Plays counted a second, over all processors.
    messages_per_second: f64,
    /// Consumption times over all processors.
    consumption: PresentTimes,
    /// When videos of many plays are published; null while no processor tells.
    publication: Option<NextPublication>,
    /// Where the messages are; null while nobody knows.
    queue: Option<QueueDepth>,
    /// Why some of it is missing.
    queue_error: Option<String>,
    /// Where the topic or the channel is paused, as `topic at host:port`.
    queue_paused: Vec<String>,
    /// The limit of the depth, where one is set.
    depth_alert: Option<Alert>,
    /// Those heard since the start.
    processors: Vec<ProcessorStats>,
    /// How the simulation has ended that this dashboard belongs to; null while it goes on, and of every other dashboard.
    run: Option<RunOutcome>,
}

/// When the processors that report publish videos of many plays. Those of fewer are published as they change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub(in super::super) struct NextPublication {
    /// From so many plays on; 0 or 1: every video. Of several processors the least.
    from_plays: u64,
    /// The shortest interval of any processor, in ms.
    every_ms: u64,
    /// The longest, in ms.
    every_ms_most: u64,
    /// How long until the first of them publishes, in ms.
    next_ms: u64,
}

/// Consumption times over all processors, in ms; null while there are none.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct PresentTimes {
    /// The mean of the newest plays.
    realtime_ms: Option<f64>,
    /// The mean since the processors' starts.
    average_ms: Option<f64>,
    /// The 99th percentile since the processors' starts, to 2 %. Beside a processor of version 0.1.0: that of the processor
    /// where it is the highest.
    p99_ms: Option<f64>,
    /// The longest.
    max_ms: Option<f64>,
}

/// A processor, as the present shows it.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct ProcessorStats {
    processor: Uuid,
    /// Of its newest message with counts.
    version: Option<u64>,
    /// How long nothing was heard of it, in ms.
    heard_ms_ago: u64,
    /// How it has ended, if it has said that it does; null while it goes on, and where it was killed.
    ended: Option<EndedShown>,
    /// What it reported last, without its connections.
    consumption: Option<Consumption>,
    /// Which ledger it counts in; null while that is not known.
    ledger: Option<LedgerGlance>,
}

/// How a processor has ended in order.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub(in super::super) struct EndedShown {
    /// Why.
    how: ProcessorEnding,
    /// When it said so.
    at: UnixMs,
}

impl From<(ProcessorEnding, UnixMs)> for EndedShown {
    fn from((how, at): (ProcessorEnding, UnixMs)) -> Self {
        Self { how, at }
    }
}

/// A processor, and whether what it received adds up.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct ProcessorShown {
    processor: Uuid,
    /// How long nothing was heard of it, in ms.
    silent_ms: u64,
    /// How it has ended, if it has said that it does; null while it goes on, and where it was killed.
    ended: Option<EndedShown>,
    /// Of its newest message with counts.
    version: Option<u64>,
    /// Messages received since its start.
    received: Option<u64>,
    /// Plays counted.
    counted: Option<u64>,
    /// Plays that had been counted before.
    duplicates: Option<u64>,
    /// Bodies that were no play.
    rejected: Option<u64>,
    /// Plays counted that were lost on their way and sent again.
    recovered: Option<u64>,
    /// Received and not yet any of the others; what is delivered and not received is the queue's.
    in_flight: Option<u64>,
    /// Whether the others are no more than what was received.
    adds_up: Option<bool>,
    /// Plays counted a second.
    per_second: Option<f64>,
    /// 99th percentile of the consumption time since its start, in ms.
    p99_ms: Option<f64>,
    /// The version of its program.
    program: Option<String>,
    ledger: Option<LedgerFigures>,
    /// Which ledger it counts in; null while that is not known.
    counts_in: Option<LedgerGlance>,
    consumer: Option<ConsumerFigures>,
    arrivals: Option<ArrivalFigures>,
    /// Why it has stopped counting.
    failure: Option<String>,
    /// Why the newest body that was no play was rejected.
    last_rejection: Option<String>,
}

/// A producer that has an outbox.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct ProducerShown {
    producer: Uuid,
    /// Plays that are not confirmed.
    outbox: u64,
    /// How long nothing was heard of it, in ms.
    silent_ms: u64,
}

impl Live {
    /// The present, for `GET /api/stats` and for each event.
    pub(in super::super) fn stats(&self, now: Instant) -> LiveStats {
        let times = || {
            let told = self.processors.values().filter_map(|known| known.consumption.as_ref());
            told.filter_map(|told| told.since_start)
        };
        let ledgers = self.shared_ledgers(now);
        let processor = |(id, known): (&Uuid, &KnownProcessor)| ProcessorStats {
            processor: *id,
            version: known.version,
            heard_ms_ago: known.silent_ms(now),
            ended: known.ended.map(EndedShown::from),
            consumption: known.consumption.clone(),
            ledger: known.glance(id, &ledgers, now),
        };
        LiveStats {
            messages_per_second: self.messages_per_second(now),
            consumption: PresentTimes {
                realtime_ms: self.realtime_ms(now),
                average_ms: self.average_ms(),
                p99_ms: self.p99_ms(),
                max_ms: times().map(|times| times.max).reduce(f64::max),
            },
            publication: self.publication(now),
            queue: self.queue.queue,
            queue_error: self.queue.error.clone(),
            queue_paused: self.queue.paused.clone(),
            depth_alert: self.queue.alert,
            processors: self.processors.iter().map(processor).collect(),
            run: self.run.clone(),
        }
    }

    /// When the processors that report publish videos of many plays.
    fn publication(&self, now: Instant) -> Option<NextPublication> {
        let alive =
            self.processors.values().filter(|known| known.reports(now) && known.ended.is_none());
        let each = alive.filter_map(|known| {
            let told = known.consumption.as_ref()?.publication?;
            let since = u64::try_from(known.reported_ago(now).as_millis()).unwrap_or(u64::MAX);
            Some(NextPublication {
                from_plays: told.from_plays,
                every_ms: told.every_ms,
                every_ms_most: told.every_ms,
                next_ms: told.next_ms.saturating_sub(since),
            })
        });
        each.reduce(|one, other| NextPublication {
            from_plays: one.from_plays.min(other.from_plays),
            every_ms: one.every_ms.min(other.every_ms),
            every_ms_most: one.every_ms_most.max(other.every_ms_most),
            next_ms: one.next_ms.min(other.next_ms),
        })
    }

    /// What each processor has said that its ledger holds; 0 of one that has not.
    pub(in super::super) fn holdings(&self) -> Vec<(Uuid, u64)> {
        let holds = |known: &KnownProcessor| Some(known.consumption.as_ref()?.publication?.holds);
        let all = self.processors.iter();
        all.map(|(id, known)| (*id, holds(known).unwrap_or_default())).collect()
    }

    /// Each processor: when it was heard, what it counted, and whether what it received adds up.
    pub(in super::super) fn processors(&self, now: Instant) -> Vec<ProcessorShown> {
        let ledgers = self.shared_ledgers(now);
        let show = |(id, known): (&Uuid, &KnownProcessor)| ProcessorShown {
            counts_in: known.glance(id, &ledgers, now),
            ..show(*id, known, now)
        };
        self.processors.iter().map(show).collect()
    }

    /// The producers of the last 10 minutes that have an outbox.
    pub(in super::super) fn producers(&self, now: Instant) -> Vec<ProducerShown> {
        let silent = |heard: &Instant| now.saturating_duration_since(*heard);
        let told = self.producers.iter().filter(|(_, (_, heard))| silent(heard) < PRODUCER_SHOWN);
        told.map(|(id, (outbox, heard))| ProducerShown {
            producer: *id,
            outbox: outbox.plays,
            silent_ms: silent(heard).as_millis() as u64,
        })
        .collect()
    }

    /// Producers of the last 10 minutes as which plays are counted that they never made, and how many.
    pub(in super::super) fn foreign(&self, now: Instant) -> Vec<(Uuid, u64)> {
        let heard = self.producers.iter().filter(|(_, (told, heard))| {
            told.foreign > 0 && now.saturating_duration_since(*heard) < PRODUCER_SHOWN
        });
        heard.map(|(id, (told, _))| (*id, told.foreign)).collect()
    }

    /// Processors that tell of plays which are known by their messages only, and of which.
    pub(in super::super) fn crowded(&self) -> Vec<(Uuid, CrowdedPlays)> {
        let told = |(id, known): (&Uuid, &KnownProcessor)| {
            Some((*id, known.consumption.as_ref()?.ledger?.crowded?))
        };
        self.processors.iter().filter_map(told).collect()
    }

    /// Which processors report.
    pub(in super::super) fn links(&self, now: Instant) -> Vec<(PartLink, LinkState)> {
        let link = |(id, known): (&Uuid, &KnownProcessor)| {
            let away = match known.ended {
                Some((ProcessorEnding::Finished, _)) => Some("has finished"),
                Some((ProcessorEnding::Stopped, _)) => Some("was stopped in order"),
                None if known.is_alive(now) => None,
                None => Some("is silent: it may have been killed, or cannot reach this dashboard"),
            };
            let away = away.map(str::to_owned);
            (PartLink::Processor(*id), LinkState { away, losses: known.endings, is_news: true })
        };
        self.processors.iter().map(link).collect()
    }

    /// Each processor, as the diagnosis wants it.
    pub(in super::super) fn heartbeats(&self, now: Instant) -> Vec<Heartbeat> {
        let replaced = self.replaced(now);
        let failure = |told: &Consumption| told.failure.clone();
        let heartbeat = |(id, known): (&Uuid, &KnownProcessor)| Heartbeat {
            id: id.to_string(),
            silent_ms: known.silent_ms(now),
            ended: known.ended,
            failure: known
                .consumption
                .as_ref()
                .filter(|_| !replaced.contains(id))
                .and_then(failure),
            per_second: known.consumption.as_ref().map_or(0.0, |told| told.per_second),
            consumer: known.consumer.as_deref().cloned(),
            arrivals: known.arrivals.as_deref().cloned(),
            ledger: known.ledger.as_deref().filter(|_| known.reports(now)).cloned(),
        };
        self.processors.iter().map(heartbeat).collect()
    }
}

fn show(id: Uuid, known: &KnownProcessor, now: Instant) -> ProcessorShown {
    let told = known.consumption.as_ref();
    let answered = told.map(|told| told.counted + told.duplicates + told.rejected);
    let both = told.zip(answered);
    ProcessorShown {
        processor: id,
        silent_ms: known.silent_ms(now),
        ended: known.ended.map(EndedShown::from),
        version: known.version,
        received: told.map(|told| told.received),
        counted: told.map(|told| told.counted),
        duplicates: told.map(|told| told.duplicates),
        rejected: told.map(|told| told.rejected),
        recovered: told.map(|told| told.recovered),
        in_flight: both.map(|(told, answered)| told.received.saturating_sub(answered)),
        adds_up: both.map(|(told, answered)| answered <= told.received),
        per_second: told.map(|told| told.per_second),
        p99_ms: told.and_then(|told| told.since_start).map(|times| times.p99),
        program: told.and_then(|told| told.program.clone()),
        ledger: told.and_then(|told| told.ledger),
        counts_in: None,
        consumer: known.consumer.as_deref().cloned(),
        arrivals: known.arrivals.as_deref().cloned(),
        failure: told.and_then(|told| told.failure.clone()),
        last_rejection: told.and_then(|told| told.last_rejection.clone()),
    }
}
