//! Counted plays on their way into the chart of plays a second (pure).
//!
//! A processor reports about once a second how many plays it has counted, and a point is taken once a second; neither waits
//! for the other. Each counted play is drawn once, so that the area under the chart is the number of plays: a rate that is
//! shown for as long as its report is fresh would draw a short burst several times.

use std::time::{Duration, Instant};

use crate::wire::Consumption;

/// How long plays wait at most before they are drawn: as long as a late report may leave a point without any.
const WAIT: f64 = 2.0;

/// How long the first report of a processor is taken to tell of: they come once a second.
const FIRST: Duration = Duration::from_secs(1);

/// What one processor has told and no point shows yet.
#[derive(Debug, Default)]
pub(super) struct Undrawn {
    /// What it had counted when it reported last, and when that was.
    told: Option<(u64, Instant)>,
    plays: f64,
    /// In which they were counted.
    seconds: f64,
}

impl Undrawn {
    /// Takes a report.
    pub(super) fn add(&mut self, told: &Consumption, now: Instant) {
        let counted = told.counted;
        let (plays, time) = match self.told.replace((counted, now)) {
            Some((before, at)) => {
                // Fewer than before: it has started again, and counts from zero.
                let plays = counted.checked_sub(before).unwrap_or(counted);
                (plays as f64, now.saturating_duration_since(at))
            }
            // It may have counted for hours before this dashboard began.
            None => ((told.per_second * FIRST.as_secs_f64()).min(counted as f64), FIRST),
        };
        self.plays += plays;
        self.seconds += time.as_secs_f64();
    }

    /// The plays of the next so many seconds.
    pub(super) fn take(&mut self, seconds: f64) -> f64 {
        let taken = seconds.max(self.seconds - WAIT);
        if taken >= self.seconds {
            self.seconds = 0.0;
            return std::mem::take(&mut self.plays);
        }
        let plays = self.plays * taken / self.seconds;
        self.seconds -= taken;
        self.plays -= plays;
        plays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(counted: u64, per_second: f64) -> Consumption {
        Consumption { counted, per_second, ..Consumption::default() }
    }

    /// Rates of points one second apart, with reports at those ms: (ms, counted).
    fn rates(reports: &[(u64, u64)], points: u64) -> Vec<f64> {
        let start = Instant::now();
        let mut undrawn = Undrawn::default();
        undrawn.add(&told(0, 0.0), start);
        let mut reports = reports.iter().peekable();
        (1..=points)
            .map(|second| {
                while let Some((ms, counted)) = reports.next_if(|(ms, _)| *ms <= second * 1000) {
                    undrawn.add(&told(*counted, 0.0), start + Duration::from_millis(*ms));
                }
                undrawn.take(1.0)
            })
            .collect()
    }

    #[test]
    fn a_burst_is_drawn_once() {
        // The report before it waits for a point, too: then both are drawn in two.
        assert_eq!(rates(&[(1_000, 0), (2_000, 100_000)], 5), [0.0, 50_000.0, 50_000.0, 0.0, 0.0]);
        assert_eq!(rates(&[(2_000, 0), (3_000, 100_000)], 5), [0.0, 0.0, 50_000.0, 50_000.0, 0.0]);
    }

    #[test]
    fn every_play_is_drawn_whenever_reports_come() {
        for step in [250, 700, 999, 1_001, 1_300, 2_900, 7_000] {
            let reports: Vec<_> = (1..=40).map(|n| (n * step, n * step * 2)).collect();
            let rates = rates(&reports, 40 * step / 1000 + 4);
            let sum: f64 = rates.iter().sum();
            assert!((sum - (40 * step * 2) as f64).abs() < 1e-3, "{step}: {sum}");
            assert!(rates.iter().all(|rate| *rate >= 0.0), "{step}: {rates:?}");
            // Those that come about once a second make an even line, but for the beginning and the end.
            if (700..1_400).contains(&step) {
                let middle = &rates[4..rates.len() - 6];
                assert!(
                    middle.iter().all(|rate| (400.0..4_100.0).contains(rate)),
                    "{step}: {middle:?}"
                );
            }
        }
    }

    #[test]
    fn the_first_report_tells_of_a_second_and_a_restart_of_all() {
        let (mut undrawn, now) = (Undrawn::default(), Instant::now());
        undrawn.add(&told(1_000_000, 2_000.0), now);
        assert_eq!(undrawn.take(1.0), 2_000.0);
        // It has counted for 0.3 s, and all it has.
        undrawn = Undrawn::default();
        undrawn.add(&told(300, 1_000.0), now);
        assert_eq!(undrawn.take(1.0), 300.0);
        undrawn.add(&told(40, 40.0), now + Duration::from_secs(1));
        assert_eq!((undrawn.take(1.0), undrawn.take(1.0)), (40.0, 0.0));
    }
}
