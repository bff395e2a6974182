//! Consumption times of a while, from the histograms that processors tell (pure).

use crate::wire::{CONSUMPTION_BOUNDS_MS, ConsumptionHistogram};

/// Consumption times of a while, by the bounds of the histograms that processors tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Times {
    // Up to each bound, as in the histogram.
    pub(super) buckets: [u64; CONSUMPTION_BOUNDS_MS.len()],
    pub(super) count: u64,
}

impl Times {
    /// Adds what a histogram holds that it did not hold `before`.
    pub(super) fn add_growth(&mut self, histogram: &ConsumptionHistogram, before: &Times) {
        // Fewer than before: the processor has started again.
        let before = if histogram.count < before.count { &Times::default() } else { before };
        for (bucket, (now, then)) in
            self.buckets.iter_mut().zip(histogram.buckets.iter().zip(before.buckets))
        {
            *bucket += now.saturating_sub(then);
        }
        self.count += histogram.count - before.count;
    }

    pub(super) fn add(&mut self, other: &Times) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, more)| *sum += more);
        self.count += other.count;
    }

    /// Which time the share `part` of them does not exceed, as far as the bounds tell; `None` without any.
    pub(super) fn percentile(&self, part: f64) -> Option<f64> {
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
