//! What the processor tells the dashboard over HTTP: the JSON of `POST /api/counts` and
//! `POST /api/consumption`, shared by both ends. Types only (pure).

pub mod client;

use nsq_protocol::Pause;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use crate::model::video::{MAX_COUNTS, MAX_PLAYS, VideoCount};

/// The body of `POST /api/counts`: the processor's whole counts of 1 to [`MAX_COUNTS`] videos.
///
/// Counts are absolute, so a repeat or an old one arriving late changes nothing: the dashboard keeps the
/// highest for each (processor, video) and sums over processors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountsUpdate {
    /// Who counted: one id for each ledger.
    pub processor: Uuid,
    /// Grows with each message of that processor, over its restarts, too.
    pub version: u64,
    /// The changed videos, each at most once.
    pub counts: Vec<VideoCount>,
    /// How the processor fares, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumption: Option<Consumption>,
}

/// The body of `POST /api/consumption`: sent once a second while the processor works, whether or not a
/// count is due, so that the charts move between two publications.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumptionReport {
    /// Who counted.
    pub processor: Uuid,
    /// How it fares.
    pub consumption: Consumption,
}

/// How one processor fares since its start. Consumption time is from enqueued to counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consumption {
    /// Messages received: counted + duplicates + rejected, and those that are being decoded and committed.
    pub received: u64,
    /// Plays counted.
    pub counted: u64,
    /// Plays that had been counted before.
    #[serde(default)]
    pub duplicates: u64,
    /// Bodies that were no play.
    pub rejected: u64,
    /// Why the newest of them was rejected, cut to 200 characters. May quote what a stranger sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rejection: Option<String>,
    /// Why it has stopped counting, cut to 200 characters; absent while it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Plays counted a second, over the time since the report before.
    pub per_second: f64,
    /// Mean consumption time of the plays since the report before, in ms; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realtime_ms: Option<f64>,
    /// Consumption times since the start, in ms; absent before the first play with a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_start: Option<ConsumptionTimes>,
    /// The same times as a histogram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Box<ConsumptionHistogram>>,
    /// Of the counted plays, those that had been lost on their way and were published again.
    #[serde(default)]
    pub recovered: u64,
    /// Of the duplicates, those that told another video than the play that was counted.
    #[serde(default)]
    pub conflicting: u64,
    /// The version of its program, cut to [`PROGRAM_MAX`] characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Its ledger, where it is on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerFigures>,
    /// Its connections to the queue, while it has not stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<Box<ConsumerFigures>>,
}

/// The most connections, and the most nsqlookupds, that one report tells of.
pub const CONNECTIONS_MAX: usize = 50;

/// The longest text of a [`ConsumerFigures`], in characters.
pub const CONNECTION_TEXT_MAX: usize = 200;

/// How a processor's consumer fares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumerFigures {
    /// One for each nsqd, those that are not connected first; at most [`CONNECTIONS_MAX`].
    pub connections: Vec<ConnectionFigures>,
    /// One for each nsqlookupd, at most as many.
    #[serde(default)]
    pub lookupds: Vec<LookupdFigures>,
    /// Connections that are left out.
    #[serde(default)]
    pub left_out: u64,
    /// For how long no message is asked for, because messages failed, in ms; absent without a backoff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_ms: Option<u64>,
    /// Failures in a row that led to it.
    #[serde(default)]
    pub backoff_level: u32,
    /// Messages received and not answered, over all connections.
    pub in_flight: u64,
}

/// A processor and one nsqd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionFigures {
    /// Where it is connected to, `host:port`.
    pub nsqd: String,
    /// Whether it is.
    pub connected: bool,
    /// What nsqd was told last.
    pub rdy: u64,
    /// Why that is 0; absent while messages are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Messages received and not answered.
    pub in_flight: u64,
    /// Connections made after the first one.
    pub reconnects: u64,
    /// Why the last connection, or attempt, ended; kept when a later one works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// A processor and one nsqlookupd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupdFigures {
    /// As configured.
    pub lookupd: String,
    /// Whether it answered when it was asked last.
    pub answering: bool,
    /// nsqds that it named last.
    pub nsqds: u64,
    /// Why the last request that failed did; kept when a later one works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// The longest [`Consumption::program`], in characters.
pub const PROGRAM_MAX: usize = 32;

/// How a processor's ledger fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerFigures {
    /// Commits since the processor's start.
    pub commits: u64,
    /// The longest of them since the report before, in ms.
    pub slowest_ms: f64,
    /// Records that no checkpoint has moved into the tables: what a start would read again.
    pub unswept: u64,
    /// Bytes of its files.
    pub bytes: u64,
}

/// The upper bounds of a [`ConsumptionHistogram`]'s buckets, in ms: what a user feels, and what a queue may hold up.
pub const CONSUMPTION_BOUNDS_MS: [u64; 15] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000, 600_000];

/// How consumption times are spread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumptionHistogram {
    /// How many times were up to each of [`CONSUMPTION_BOUNDS_MS`].
    pub buckets: [u64; CONSUMPTION_BOUNDS_MS.len()],
    /// How many there are.
    pub count: u64,
    /// Their sum, in ms.
    pub sum_ms: f64,
}

/// The most runs above the watermark that one [`Confirmed`] tells.
pub const CONFIRMED_RUNS_MAX: usize = 64;

/// The most producers in one [`ConfirmedUpdate`].
pub const CONFIRMED_PRODUCERS_MAX: usize = 100;

/// Which plays of one producer are counted for good: what its outbox may forget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// Every play with a number below this one.
    pub watermark: u64,
    /// Runs `[start, end)` above it, lowest first, neither overlapping nor touching: at most
    /// [`CONFIRMED_RUNS_MAX`], the lowest ones.
    #[serde(default)]
    pub above: Vec<[u64; 2]>,
}

impl Confirmed {
    /// The number behind the highest play that it tells of.
    pub fn end(&self) -> u64 {
        self.above.last().map_or(self.watermark, |[_, end]| *end)
    }
}

/// [`Confirmed`], with the producer that it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerConfirmed {
    /// The producer.
    pub producer: Uuid,
    /// Which of its plays.
    #[serde(flatten)]
    pub confirmed: Confirmed,
}

/// The body of `POST /api/confirmed`: 1 to [`CONFIRMED_PRODUCERS_MAX`] producers with more plays counted than was told
/// before. What a processor tells only ever grows, so that repeats and old ones change nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfirmedUpdate {
    /// Who counted.
    pub processor: Uuid,
    /// Each producer at most once.
    pub producers: Vec<ProducerConfirmed>,
}

/// The answer of `GET /api/confirmed?producer=<uuid>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmedAnswer {
    /// What was asked; nothing is confirmed of a producer that no processor has told of.
    #[serde(flatten)]
    pub told: ProducerConfirmed,
    /// Processors that have reported in the last 10 s. While there is none, waiting longer means nothing.
    pub processors: usize,
}

/// The distribution of consumption times, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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
