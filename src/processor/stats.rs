//! What the processor has done since its start: counters and consumption times.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::letters::NewestLetters;
use super::notes::{BodyNotes, Notes};
use crate::ledger::{Committed, Counters, CrowdedProducer, DeadLetter, LedgerSize};
use crate::model::dashboard_index::DashboardIndex;
use crate::model::play::Rejection;
use crate::model::time_buckets::{LONGEST_US, TimeCounts, bucket_of};
use crate::runtime::clock::unix_ms;
use crate::runtime::links::{Links, PartLink};
use crate::wire::{
    CONSUMPTION_BOUNDS_MS, Consumption, ConsumptionHistogram, ConsumptionTimes, CrowdedPlays,
    LedgerFigures, MessageWindowFigures, ToldLetter,
};

/// Significant digits of the consumption times: 0.1 %.
const DIGITS: u8 = 3;

/// How far a processor has come since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// By outcome. Received in all: counted + duplicates + rejected.
    pub counters: Counters,
    /// From the first message to the last one counted.
    pub seconds: f64,
}

impl Progress {
    /// Messages received.
    pub fn received(&self) -> u64 {
        self.consumed() + self.counters.duplicates
    }

    /// Messages consumed, each once: counted + rejected.
    pub fn consumed(&self) -> u64 {
        self.counters.counted + self.counters.rejected
    }
}

/// Who finds the ledger away or there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LedgerUse {
    Commit,
    Upkeep,
}

impl Recent {
    fn add(&mut self, more: &Self) {
        self.sum_us = self.sum_us.saturating_add(more.sum_us);
        self.times += more.times;
        self.slowest = self.slowest.max(more.slowest);
    }

    /// The mean consumption time, in ms; `None` without one.
    fn mean_ms(&self) -> Option<f64> {
        (self.times > 0).then(|| self.sum_us as f64 / self.times as f64 / 1000.0)
    }
}

/// About 230 KB, nearly all of it the histogram.
pub(super) struct Stats {
    inner: Mutex<Inner>,
    /// Messages that workers have taken.
    received: AtomicU64,
    /// What the ledger held at the start.
    before: Counters,
    target: Option<u64>,
    reached: Sender<()>,
    /// Another processor has taken over what this one counted under.
    is_fenced: AtomicBool,
    /// Where it is told whether the ledger is there.
    links: Arc<Links>,
}

struct Inner {
    counters: Counters,
    last_rejection: Option<Rejection>,
    letters: NewestLetters,
    failure: Option<String>,
    /// Why the ledger is away, as commits and as the upkeep have found it last.
    away: [Option<String>; 2],
    notes: Notes,
    first: Option<Instant>,
    last: Option<Instant>,
    /// Consumption times since the start, in µs.
    times: Histogram<u64>,
    /// Of each dashboard: what has come since the last report to it.
    recent: Vec<Recent>,
    commits: u64,
}

/// What has come since a report.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    /// Sum of the consumption times, in µs.
    sum_us: u64,
    /// How many there were.
    times: u64,
    /// The longest commit.
    slowest: Duration,
}

impl Stats {
    /// To be reported to so many dashboards. Says so on `reached`, a channel with room for one, when the ledger holds `target`
    /// messages; it held `before`.
    pub(super) fn new(
        before: Counters,
        target: Option<u64>,
        reached: Sender<()>,
        dashboards: usize,
        links: Arc<Links>,
    ) -> Self {
        let times = Histogram::new_with_bounds(1, LONGEST_US, DIGITS)
            .expect("a range from 1 and three digits");
        let inner = Inner {
            counters: Counters::default(),
            last_rejection: None,
            letters: NewestLetters::default(),
            failure: None,
            away: [None, None],
            notes: Notes::default(),
            first: None,
            last: None,
            times,
            recent: vec![Recent::default(); dashboards],
            commits: 0,
        };
        let received = AtomicU64::new(0);
        let is_fenced = AtomicBool::new(false);
        let inner = Mutex::new(inner);
        let stats = Self { inner, received, before, target, reached, is_fenced, links };
        stats.check_target(&Counters::default());
        stats
    }

    /// A worker has taken messages.
    pub(super) fn received(&self, messages: usize) {
        self.received.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// Notes what bodies had.
    pub(super) fn note(&self, notes: BodyNotes) {
        self.inner.lock().notes.add_bodies(notes);
    }

    /// Notes a commit: how long it took, what it counted, how long each play took from enqueued to counted, and the bodies
    /// that were rejected, oldest first.
    pub(super) fn committed<'a>(
        &self,
        took: Duration,
        committed: &Committed,
        times_ns: impl Iterator<Item = u64>,
        rejected: impl DoubleEndedIterator<Item = &'a DeadLetter> + Clone,
        received_at: Instant,
    ) {
        let mut inner = self.inner.lock();
        self.is_there(&mut inner, LedgerUse::Commit);
        inner.counters.add(&committed.counters);
        inner.notes.add_commit(&committed.noticed);
        inner.commits += 1;
        if let Some(last) = rejected.clone().next_back() {
            inner.last_rejection = Some(last.reason.clone());
            inner.letters.add(rejected, unix_ms());
        }
        inner.first.get_or_insert(received_at);
        inner.last = Some(Instant::now());
        let mut recent = Recent { slowest: took, ..Recent::default() };
        for us in times_ns.map(|ns| ns / 1000) {
            inner.times.saturating_record(us);
            recent.sum_us = recent.sum_us.saturating_add(us);
            recent.times += 1;
        }
        inner.recent.iter_mut().for_each(|of| of.add(&recent));
        self.check_target(&inner.counters);
    }

    fn check_target(&self, counters: &Counters) {
        if self.is_target(counters) {
            // Full: it was said already.
            let _ = self.reached.try_send(());
        }
    }

    fn is_target(&self, counters: &Counters) -> bool {
        let consumed = |counters: &Counters| counters.counted + counters.rejected;
        let consumed = consumed(&self.before) + consumed(counters);
        self.target.is_some_and(|target| consumed >= target)
    }

    /// Whether the ledger holds as many messages as it was to.
    pub(super) fn has_reached_target(&self) -> bool {
        let counters = self.inner.lock().counters;
        self.is_target(&counters)
    }

    /// The ledger is away for that reason. Who finds it there again says so with [`Stats::ledger_is_there`]; a commit with
    /// [`Stats::committed`].
    pub(super) fn ledger_is_away(&self, found_by: LedgerUse, reason: &str) {
        self.inner.lock().away[found_by as usize] = Some(reason.to_owned());
        self.links.away(PartLink::Ledger, reason);
    }

    /// Whether the ledger was away when a commit or the upkeep last used it: a stop does not ask it again.
    pub(super) fn is_ledger_away(&self) -> bool {
        self.inner.lock().away.iter().any(Option::is_some)
    }

    /// The ledger is not away.
    pub(super) fn ledger_is_there(&self, found_by: LedgerUse) {
        self.is_there(&mut self.inner.lock(), found_by);
    }

    fn is_there(&self, inner: &mut Inner, found_by: LedgerUse) {
        let was_away = inner.away[found_by as usize].take().is_some();
        if was_away && inner.away.iter().all(Option::is_none) {
            self.links.there(PartLink::Ledger);
        }
    }

    /// Nothing is counted any more.
    pub(super) fn fail(&self, reason: &str) {
        self.inner.lock().failure = Some(reason.to_owned());
    }

    /// Nothing is counted any more because another processor has taken over.
    pub(super) fn fenced(&self) {
        self.is_fenced.store(true, Ordering::Relaxed);
    }

    /// Whether that is why.
    pub(super) fn is_fenced(&self) -> bool {
        self.is_fenced.load(Ordering::Relaxed)
    }

    /// Why nothing is counted any more.
    pub(super) fn failure(&self) -> Option<String> {
        self.inner.lock().failure.clone()
    }

    pub(super) fn progress(&self) -> Progress {
        let inner = self.inner.lock();
        let span = inner.first.zip(inner.last);
        let seconds = span.map_or(0.0, |(first, last)| last.duration_since(first).as_secs_f64());
        Progress { counters: inner.counters, seconds }
    }

    /// Consumption times since the start, in ms; `None` before the first.
    pub(super) fn consumption_times(&self) -> Option<ConsumptionTimes> {
        let all = self.inner.lock().times.clone();
        consumption_times(&all)
    }

    /// The newest dead letters, where there are others than at `number`; and the number now.
    pub(super) fn letters_since(&self, number: u64) -> Option<(u64, Vec<ToldLetter>)> {
        self.inner.lock().letters.since(number)
    }

    /// How it fares, for a dashboard; starts its next report. `seconds` since the one before, in which
    /// `counted_before` was reported; `ledger_size` and `window` as the ledger tells them.
    pub(super) fn report(
        &self,
        dashboard: DashboardIndex,
        counted_before: u64,
        seconds: f64,
        ledger_size: Option<LedgerSize>,
        window: MessageWindowFigures,
    ) -> Consumption {
        let LedgerSize { unswept, bytes, cut_bytes, crowded } = ledger_size.unwrap_or_default();
        let (counters, last_rejection, failure, recent, all, ledger, arrivals) = {
            let mut inner = self.inner.lock();
            // A copy, so that no commit waits for the sums over 30,000 buckets.
            let all = inner.times.clone();
            let recent = std::mem::take(&mut inner.recent[dashboard.get()]);
            let slowest_ms = recent.slowest.as_secs_f64() * 1000.0;
            let commits = inner.commits;
            let crowded =
                crowded.map(|CrowdedProducer { producer, plays }| CrowdedPlays { producer, plays });
            let ledger = LedgerFigures { commits, slowest_ms, unswept, bytes, cut_bytes, crowded };
            let (last_rejection, failure) = (inner.last_rejection.clone(), inner.not_counting());
            let arrivals = inner.notes.figures(window);
            (inner.counters, last_rejection, failure, recent, all, ledger, arrivals)
        };
        let Counters { counted, duplicates, rejected, recovered, conflicting, .. } = counters;
        Consumption {
            // Read behind the counters, so that it is never less than their sum.
            received: self.received.load(Ordering::Relaxed).max(counted + duplicates + rejected),
            counted,
            duplicates,
            rejected,
            last_rejection: last_rejection.map(|reason| reason.to_string()),
            failure: failure.map(|reason| reason.chars().take(Rejection::MAX_LEN).collect()),
            per_second: counted.saturating_sub(counted_before) as f64 / seconds.max(0.001),
            realtime_ms: recent.mean_ms(),
            since_start: consumption_times(&all),
            histogram: Some(Box::new(consumption_histogram(&all))),
            recovered,
            conflicting,
            program: Some(env!("CARGO_PKG_VERSION").to_owned()),
            ledger: ledger_size.map(|_| ledger),
            ledger_status: None,
            consumer: None,
            publication: None,
            arrivals: Some(Box::new(arrivals)),
        }
    }
}

impl Inner {
    /// Why nothing is counted: for good, or as long as the ledger is away.
    fn not_counting(&self) -> Option<String> {
        let away = || self.away.iter().flatten().next();
        let away =
            || away().map(|reason| format!("its ledger is away, and is tried again: {reason}"));
        self.failure.clone().or_else(away)
    }
}

fn consumption_histogram(times: &Histogram<u64>) -> ConsumptionHistogram {
    let count = times.len();
    let mut fine = TimeCounts::default();
    // Each of its buckets lies in one of these.
    for step in times.iter_recorded() {
        fine.add(bucket_of(step.value_iterated_to()), step.count_at_value());
    }
    ConsumptionHistogram {
        buckets: CONSUMPTION_BOUNDS_MS.map(|bound| times.count_between(0, bound * 1000).min(count)),
        count,
        sum_ms: times.mean() / 1000.0 * count as f64,
        fine: fine.filled().collect(),
    }
}

fn consumption_times(times: &Histogram<u64>) -> Option<ConsumptionTimes> {
    let ms = |us: u64| us as f64 / 1000.0;
    (!times.is_empty()).then(|| ConsumptionTimes {
        mean: times.mean() / 1000.0,
        p50: ms(times.value_at_quantile(0.5)),
        p99: ms(times.value_at_quantile(0.99)),
        max: ms(times.max()),
    })
}
