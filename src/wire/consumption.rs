//! `POST /api/consumption`: a processor tells how it fares (pure).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::arrivals::ArrivalFigures;
use super::connections::ConsumerFigures;
use super::ledger_status::LedgerStatus;
use super::limits::{Invalid, check_numbers};
use crate::model::time_buckets::TIME_BUCKETS;
use crate::model::video::MAX_PLAYS;

/// The longest [`Consumption::program`], in characters.
pub const PROGRAM_MAX: usize = 32;

/// The upper bounds of a [`ConsumptionHistogram`]'s buckets, in ms: what a user feels, and what a queue may hold up.
pub const CONSUMPTION_BOUNDS_MS: [u64; 15] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000, 600_000];

/// The body of `POST /api/consumption`: sent once a second while the processor works, whether or not a
/// count is due, so that the charts move between two publications.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsumptionReport {
    /// Who counted.
    pub processor: Uuid,
    /// Which start of it: drawn anew by each, so that two that run at one time are told apart. Absent from an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Uuid>,
    /// How it fares.
    pub consumption: Consumption,
    /// That this is its last report, because it ends in order; absent while it goes on, and from one that fails or is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<ProcessorEnding>,
}

/// Why a processor ends in order: what it has counted is published to whoever hears this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProcessorEnding {
    /// Its ledger holds as many messages as it was to count.
    Finished,
    /// It was told to stop before that, or was to count for ever.
    Stopped,
}

/// How one processor fares since its start. Consumption time is from enqueued to counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consumption {
    /// Messages received: counted + duplicates + rejected, and those that are being decoded and committed.
    #[schemars(range(max = MAX_PLAYS))]
    pub received: u64,
    /// Plays counted.
    #[schemars(range(max = MAX_PLAYS))]
    pub counted: u64,
    /// Plays that had been counted before.
    #[serde(default)]
    #[schemars(range(max = MAX_PLAYS))]
    pub duplicates: u64,
    /// Bodies that were no play.
    #[schemars(range(max = MAX_PLAYS))]
    pub rejected: u64,
    /// Why the newest of them was rejected, cut to 200 characters. May quote what a stranger sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rejection: Option<String>,
    /// Why it has stopped counting, cut to 200 characters; absent while it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Plays counted a second, over the time since the report before.
    #[schemars(range(min = 0.0))]
    pub per_second: f64,
    /// Mean consumption time of the plays since the report before, in ms; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realtime_ms: Option<f64>,
    /// Consumption times since the start, in ms, of plays whose time is believed; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_start: Option<ConsumptionTimes>,
    /// The same times as a histogram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Box<ConsumptionHistogram>>,
    /// Of the counted plays, those that had been lost on their way and were published again.
    #[serde(default)]
    #[schemars(range(max = MAX_PLAYS))]
    pub recovered: u64,
    /// Of the duplicates, those that told another video than the play that was counted.
    #[serde(default)]
    #[schemars(range(max = MAX_PLAYS))]
    pub conflicting: u64,
    /// The version of its program, cut to 32 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Its ledger, where it is on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerFigures>,
    /// Which ledger that is, where several processors may count in it; absent from one that has files of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_status: Option<Box<LedgerStatus>>,
    /// Its connections to the queue, while it has not stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<Box<ConsumerFigures>>,
    /// What it publishes to the dashboard that gets this, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publication: Option<PublicationFigures>,
    /// What was odd about the plays and messages that came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrivals: Option<Box<ArrivalFigures>>,
}

/// The distribution of consumption times, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsumptionTimes {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// How consumption times are spread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsumptionHistogram {
    /// How many times were up to 1, 2, 5, 10, 20, 50, 100, 200, 500 ms, 1, 2, 5, 10, 60 and 600 s
    /// ([`CONSUMPTION_BOUNDS_MS`]): ascending, up to the count.
    #[schemars(inner(range(max = MAX_PLAYS)))]
    pub buckets: [u64; CONSUMPTION_BOUNDS_MS.len()],
    /// How many there are.
    #[schemars(range(max = MAX_PLAYS))]
    pub count: u64,
    /// Their sum, in ms.
    pub sum_ms: f64,
    /// The same times in narrow buckets, so that percentiles are right to 2 %: (bucket, how many), ascending, each bucket
    /// that has any, and as many in all as `count`. Bucket b below 64 has the times of b µs; above, it begins at
    /// (b mod 32 + 32) × 2^(b div 32 − 1) µs, so that each power of two has 32 of them. The last one, 1032, has a day and
    /// more. Empty from a processor of version 0.1.0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fine: Vec<(u16, u64)>,
}

/// What a processor publishes to one dashboard, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublicationFigures {
    /// Plays that its ledger holds, of all its starts: published or not.
    #[schemars(range(max = MAX_PLAYS))]
    pub holds: u64,
    /// From so many plays on a video is published once in an interval, with fewer as it changes; 0 and 1: always by interval.
    #[schemars(range(max = MAX_PLAYS))]
    pub from_plays: u64,
    /// The interval, in ms.
    #[schemars(range(max = MAX_PLAYS))]
    pub every_ms: u64,
    /// How long until the interval ends, in ms.
    #[schemars(range(max = MAX_PLAYS))]
    pub next_ms: u64,
}

/// How a processor's ledger fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerFigures {
    /// Commits since the processor's start.
    #[schemars(range(max = MAX_PLAYS))]
    pub commits: u64,
    /// The longest of them since the report before, in ms.
    #[schemars(range(min = 0.0))]
    pub slowest_ms: f64,
    /// Frames of its journal that no checkpoint has taken into the tables: what a start would read again.
    #[schemars(range(max = MAX_PLAYS))]
    pub unswept: u64,
    /// Bytes of its files.
    #[schemars(range(max = MAX_PLAYS))]
    pub bytes: u64,
    /// Bytes that a crash had left unfinished at the end of its journal, and that its start has cut off.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(max = MAX_PLAYS))]
    pub cut_bytes: u64,
    /// Plays since the start that are known by their messages only, although they have an identity; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowded: Option<CrowdedPlays>,
}

/// Plays of producers whose numbers have more than 65,536 holes: one that is published again counts again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CrowdedPlays {
    /// Whose the newest of them is.
    pub producer: Uuid,
    /// How many, over all such producers.
    #[schemars(range(max = MAX_PLAYS))]
    pub plays: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl ConsumptionReport {
    /// Refuses what a processor would not send.
    ///
    /// # Errors
    /// As [`Consumption::check`].
    pub fn check(&self) -> Result<(), Invalid> {
        self.consumption.check()
    }
}

impl Consumption {
    /// Refuses what a processor would not send.
    ///
    /// # Errors
    /// A number that is none or out of range, a histogram whose buckets do not grow, too many connections.
    pub fn check(&self) -> Result<(), Invalid> {
        let times = self.since_start.map(|times| [times.mean, times.p50, times.p99, times.max]);
        let mut numbers = [Some(self.per_second), self.realtime_ms]
            .into_iter()
            .flatten()
            .chain(times.into_iter().flatten());
        // A consumption time below zero is another program's affair: a clock may run ahead. A rate below zero is none.
        if self.per_second < 0.0 || !numbers.all(f64::is_finite) {
            return Err(Invalid::new("the consumption holds a number that is none"));
        }
        let Self { received, counted, duplicates, rejected, recovered, conflicting, .. } = self;
        let counters = [*received, *counted, *duplicates, *rejected, *recovered, *conflicting];
        check_numbers(counters, "messages are")?;
        self.ledger.as_ref().map_or(Ok(()), LedgerFigures::check)?;
        if let Some(PublicationFigures { holds, from_plays, every_ms, next_ms }) = self.publication
        {
            check_numbers([holds, from_plays, every_ms, next_ms], "of a publication is")?;
        }
        self.ledger_status.as_deref().map_or(Ok(()), LedgerStatus::check)?;
        self.consumer.as_deref().map_or(Ok(()), ConsumerFigures::check)?;
        self.arrivals.as_deref().map_or(Ok(()), ArrivalFigures::check)?;
        self.histogram.as_deref().map_or(Ok(()), ConsumptionHistogram::check)
    }
}

impl LedgerFigures {
    fn check(&self) -> Result<(), Invalid> {
        if !self.slowest_ms.is_finite() || self.slowest_ms < 0.0 {
            return Err(Invalid::new("the slowest commit took less than no time"));
        }
        let crowded = self.crowded.map_or(0, |crowded| crowded.plays);
        let numbers = [self.commits, self.unswept, self.bytes, self.cut_bytes, crowded];
        check_numbers(numbers, "of a ledger is")
    }
}

impl ConsumptionHistogram {
    /// Whether it has narrow buckets; one without times has no need of them.
    pub fn is_fine(&self) -> bool {
        self.count == 0 || !self.fine.is_empty()
    }

    fn check(&self) -> Result<(), Invalid> {
        let Self { buckets, count, sum_ms, fine } = self;
        check_numbers([*count], "messages are")?;
        // A consumption time below zero is taken, and so is such a sum.
        if !buckets.is_sorted()
            || buckets.iter().any(|bucket| bucket > count)
            || !sum_ms.is_finite()
        {
            return Err(Invalid::new("a histogram's buckets grow, up to its count"));
        }
        let is_ascending = fine.is_sorted_by(|(one, _), (next, _)| one < next);
        let is_known = fine.iter().all(|(bucket, times)| *bucket < TIME_BUCKETS && *times > 0);
        let sum = fine.iter().fold(0u64, |sum, (_, times)| sum.saturating_add(*times));
        if !is_ascending || !is_known || !(fine.is_empty() || sum == *count) {
            return Err(Invalid::new(format!(
                "a histogram's fine buckets are numbers below {TIME_BUCKETS}, ascending, with at least 1 each and its count in all"
            )));
        }
        Ok(())
    }
}
