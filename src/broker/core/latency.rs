//! How long messages took from their publication to their FIN, over the last while (pure).
//!
//! Two histograms, each of half the window: the older one goes when its time is over, as in nsqd. A value is told to 3.2 %,
//! a histogram takes 2.6 KB at the most, 1.4 KB where no message took longer than 16 s.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::broker::stats::{Latency, Percentile};

/// Half the width of a bucket, of its value: 1/32.
const DIGITS: u8 = 1;

/// The longest time that is told apart, in microseconds: 30 days.
const MAX_US: u64 = 30 * 86_400 * 1_000_000;

/// The times of one channel's messages.
#[derive(Debug)]
pub(super) struct Latencies {
    halves: [Histogram<u32>; 2],
    current: usize,
    /// When the current half began, in nanoseconds since the Unix epoch.
    began: i64,
    /// Half of the window.
    half: i64,
}

fn empty() -> Histogram<u32> {
    // It grows with the values that it gets; 1 digit is in the range that it takes.
    Histogram::new(DIGITS).expect("1 digit")
}

impl Latencies {
    /// Over `window`, from `now` on.
    pub(super) fn new(window: Duration, now: i64) -> Self {
        let half = i64::try_from(window.as_nanos() / 2).unwrap_or(i64::MAX).max(1);
        Self { halves: [empty(), empty()], current: 0, began: now, half }
    }

    /// How many halves have passed since the current one began.
    fn passed(&self, now: i64) -> i64 {
        // Set back, the clock makes a half longer.
        now.saturating_sub(self.began).max(0) / self.half
    }

    /// A message that was published at `published` is done.
    pub(super) fn record(&mut self, published: i64, now: i64) {
        match self.passed(now) {
            0 => {}
            1 => {
                self.current ^= 1;
                self.halves[self.current].reset();
                self.began += self.half;
            }
            _ => {
                self.halves.iter_mut().for_each(Histogram::reset);
                self.began = now;
            }
        }
        let micros = u64::try_from(now.saturating_sub(published)).unwrap_or(0) / 1000;
        // It grows up to there.
        let _ = self.halves[self.current].record(micros.min(MAX_US));
    }

    /// Adds what is in the window.
    pub(super) fn add_to(&self, sum: &mut LatencySum, now: i64) {
        let passed = self.passed(now);
        if passed == 0 {
            sum.add(&self.halves[self.current ^ 1]);
        }
        if passed <= 1 {
            sum.add(&self.halves[self.current]);
        }
    }
}

/// The times of some channels together.
pub(super) struct LatencySum(Histogram<u32>);

impl LatencySum {
    pub(super) fn new() -> Self {
        Self(empty())
    }

    fn add(&mut self, half: &Histogram<u32>) {
        // It grows: there is nothing that it cannot hold.
        let _ = self.0.add(half);
    }

    /// As `/stats` tells them.
    pub(super) fn told(&self, percentiles: &[f64]) -> Latency {
        let value = |quantile: f64| {
            let highest = self.0.value_at_quantile(quantile);
            if self.0.is_empty() { 0 } else { self.0.median_equivalent(highest) * 1000 }
        };
        let told = |quantile: &f64| Percentile { quantile: *quantile, value: value(*quantile) };
        Latency {
            count: self.0.len(),
            percentiles: (!percentiles.is_empty()).then(|| percentiles.iter().map(told).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn told(latencies: &Latencies, now: i64) -> (u64, Vec<u64>) {
        let mut sum = LatencySum::new();
        latencies.add_to(&mut sum, now);
        let told = sum.told(&[0.5, 0.99, 1.0]);
        (told.count, told.percentiles.unwrap().iter().map(|one| one.value).collect())
    }

    #[track_caller]
    fn check_near(found: u64, want: i64) {
        let error = (found as f64 - want as f64).abs() / want as f64;
        assert!(error <= 1.0 / 31.0, "{found} is not {want}: {error}");
    }

    #[test]
    fn values_are_told_to_three_per_cent_whatever_their_size() {
        for scale in [1_000, SECOND / 1000, SECOND, 3600 * SECOND] {
            let mut latencies = Latencies::new(Duration::from_secs(600), 0);
            for n in 1..=100 {
                latencies.record(SECOND - n * scale, SECOND);
            }
            let (count, values) = told(&latencies, SECOND);
            assert_eq!(count, 100);
            for (found, n) in values.into_iter().zip([50, 99, 100]) {
                check_near(found, n * scale);
            }
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_gone() {
        let mut latencies = Latencies::new(Duration::from_secs(10), 0);
        latencies.record(0, SECOND);
        assert_eq!(told(&latencies, 4 * SECOND).0, 1);
        latencies.record(0, 6 * SECOND);
        assert_eq!(told(&latencies, 6 * SECOND).0, 2);
        // The first half is over.
        assert_eq!(told(&latencies, 11 * SECOND).0, 1);
        assert_eq!(told(&latencies, 16 * SECOND).0, 0);
        latencies.record(0, 11 * SECOND);
        assert_eq!(told(&latencies, 11 * SECOND).0, 2);
        // Long after, and with a clock that was set back, nothing is told twice.
        latencies.record(0, 1000 * SECOND);
        assert_eq!(told(&latencies, 1000 * SECOND).0, 1);
        latencies.record(0, SECOND);
        assert_eq!(told(&latencies, SECOND).0, 2);
    }

    #[test]
    fn a_histogram_is_small_and_nothing_is_too_long_for_it() {
        let mut latencies = Latencies::new(Duration::from_secs(600), 0);
        latencies.record(-16 * SECOND, 0);
        let size = |latencies: &Latencies| latencies.halves[0].distinct_values() * size_of::<u32>();
        assert!(size(&latencies) <= 1400, "{}", size(&latencies));
        for (published, now) in [(i64::MIN, 1), (i64::MIN, i64::MAX), (5, 1), (0, i64::MAX)] {
            latencies.record(published, now);
        }
        let most = latencies.halves.iter().map(|half| half.distinct_values()).max().unwrap();
        assert!(most * size_of::<u32>() <= 2600, "{}", most * size_of::<u32>());
    }
}
