//! What the workers have done: counters and consumption times, kept for each worker and merged when read.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_channel::Sender;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::api::{Consumption, ConsumptionTimes};
use crate::play::Rejection;

/// The longest consumption time told apart, in µs: a day. Longer ones count as that.
const MAX_TIME_US: u64 = 24 * 3600 * 1_000_000;

/// Significant digits of the consumption times: 0.1 %.
const DIGITS: u8 = 3;

/// How far a processor has come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Messages received: counted + duplicates + rejected.
    pub received: u64,
    /// Plays counted.
    pub counted: u64,
    /// Plays that had been counted before.
    pub duplicates: u64,
    /// Bodies that were no play.
    pub rejected: u64,
    /// From the first message to the last one counted.
    pub seconds: f64,
}

impl Progress {
    /// Messages consumed, each once: counted + rejected.
    pub fn consumed(&self) -> u64 {
        self.counted + self.rejected
    }
}

/// One worker's part. About 230 KB, nearly all of it the histogram.
pub(super) struct WorkerStats {
    pub(super) counted: u64,
    pub(super) duplicates: u64,
    pub(super) rejected: u64,
    pub(super) last_rejection: Option<(Instant, Rejection)>,
    pub(super) first: Option<Instant>,
    pub(super) last: Option<Instant>,
    /// Consumption times since the start, in µs.
    times: Histogram<u64>,
    /// Sum and number of the times since the last report.
    recent: (u64, u64),
}

impl WorkerStats {
    fn new() -> Self {
        let times = Histogram::new_with_bounds(1, MAX_TIME_US, DIGITS)
            .expect("a range from 1 and three digits");
        let (first, last, last_rejection) = (None, None, None);
        Self {
            counted: 0,
            duplicates: 0,
            rejected: 0,
            last_rejection,
            first,
            last,
            times,
            recent: (0, 0),
        }
    }

    pub(super) fn record_time(&mut self, us: u64) {
        self.times.saturating_record(us);
        self.recent.0 = self.recent.0.saturating_add(us);
        self.recent.1 += 1;
    }
}

/// All workers' parts.
pub(super) struct Stats {
    workers: Vec<Mutex<WorkerStats>>,
    consumed: AtomicU64,
    target: Option<u64>,
    reached: Sender<()>,
}

impl Stats {
    /// Says so on `reached`, a channel with room for one, when `target` messages were consumed.
    pub(super) fn new(threads: NonZeroUsize, target: Option<u64>, reached: Sender<()>) -> Self {
        let workers = (0..threads.get()).map(|_| Mutex::new(WorkerStats::new())).collect();
        Self { workers, consumed: AtomicU64::new(0), target, reached }
    }

    /// One worker's part, for that worker to write to.
    pub(super) fn worker(&self, index: usize) -> &Mutex<WorkerStats> {
        &self.workers[index]
    }

    /// Adds a batch's messages, without the duplicates, once it is counted.
    pub(super) fn consumed(&self, messages: u64) {
        let before = self.consumed.fetch_add(messages, Ordering::AcqRel);
        if self.target.is_some_and(|target| before < target && before + messages >= target) {
            // Room for one, and only one batch crosses the target.
            let _ = self.reached.try_send(());
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let mut progress = Progress::default();
        let (mut first, mut last) = (None, None);
        for worker in &self.workers {
            let worker = worker.lock();
            progress.counted += worker.counted;
            progress.duplicates += worker.duplicates;
            progress.rejected += worker.rejected;
            first = [first, worker.first].into_iter().flatten().min();
            last = [last, worker.last].into_iter().flatten().max();
        }
        progress.received = progress.counted + progress.duplicates + progress.rejected;
        progress.seconds =
            first.zip(last).map_or(0.0, |(first, last)| last.duration_since(first).as_secs_f64());
        progress
    }

    /// Consumption times since the start, in ms; `None` before the first.
    pub(super) fn consumption_times(&self) -> Option<ConsumptionTimes> {
        let mut all = WorkerStats::new().times;
        for worker in &self.workers {
            all.add(&worker.lock().times).expect("histograms of one range");
        }
        let ms = |us: u64| us as f64 / 1000.0;
        (!all.is_empty()).then(|| ConsumptionTimes {
            mean: all.mean() / 1000.0,
            p50: ms(all.value_at_quantile(0.5)),
            p99: ms(all.value_at_quantile(0.99)),
            max: ms(all.max()),
        })
    }

    /// How it fares, for the dashboard; starts the next report. `seconds` since the one before, in which
    /// `counted_before` was reported.
    pub(super) fn report(&self, counted_before: u64, seconds: f64) -> Consumption {
        let progress = self.progress();
        let (mut sum, mut times) = (0, 0);
        let mut last_rejection: Option<(Instant, Rejection)> = None;
        for worker in &self.workers {
            let mut worker = worker.lock();
            let recent = std::mem::take(&mut worker.recent);
            (sum, times) = (sum + recent.0, times + recent.1);
            if worker.last_rejection.as_ref().map(|(at, _)| *at)
                > last_rejection.as_ref().map(|(at, _)| *at)
            {
                last_rejection = worker.last_rejection.clone();
            }
        }
        Consumption {
            received: progress.received,
            counted: progress.counted,
            duplicates: progress.duplicates,
            rejected: progress.rejected,
            last_rejection: last_rejection.map(|(_, rejection)| rejection.to_string()),
            failure: None,
            per_second: progress.counted.saturating_sub(counted_before) as f64 / seconds.max(0.001),
            realtime_ms: (times > 0).then(|| sum as f64 / times as f64 / 1000.0),
            since_start: self.consumption_times(),
        }
    }
}
