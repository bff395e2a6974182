//! The minute of the charts that is gathered (pure).

use super::points::Point;
use crate::dashboard::store::MinutePoint;
use crate::model::time_buckets::TimeCounts;

/// The minute that is gathered.
#[derive(Debug, Default)]
pub(super) struct Minute {
    /// Since the Unix epoch.
    pub(super) number: i64,
    /// All plays when it began.
    plays: u64,
    points: u32,
    rates: f64,
    realtimes: (f64, u32),
    average_ms: Option<f64>,
    times: TimeCounts,
    deepest: Option<u64>,
}

impl Minute {
    /// One that begins with so many plays in all.
    pub(super) fn new(number: i64, plays: u64) -> Self {
        Self { number, plays, ..Self::default() }
    }

    /// Adds a second of it.
    pub(super) fn add(&mut self, point: &Point, times: &TimeCounts) {
        self.points += 1;
        self.rates += point.messages_per_second;
        if let Some(realtime) = point.realtime_ms {
            self.realtimes = (self.realtimes.0 + realtime, self.realtimes.1 + 1);
        }
        self.average_ms = point.average_ms;
        self.times.merge(times);
        self.deepest = self.deepest.max(point.queue_depth);
    }

    /// Its point, now that all plays are `plays`.
    pub(super) fn finish(&self, plays: u64) -> MinutePoint {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (sum, count) = self.realtimes;
        MinutePoint {
            minute: self.number,
            // Less than at its beginning: there was a reset.
            plays: signed(plays.checked_sub(self.plays).unwrap_or(plays)),
            messages_per_second: self.rates.min(f64::MAX) / f64::from(self.points.max(1)),
            realtime_ms: (count > 0).then(|| sum / f64::from(count)),
            average_ms: self.average_ms,
            p50_ms: self.times.percentile_ms(0.5),
            p99_ms: self.times.percentile_ms(0.99),
            queue_depth: self.deepest.map(signed),
        }
    }
}
