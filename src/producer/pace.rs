//! When the next play is due at a given rate (pure: `now` is an argument).

use std::time::{Duration, Instant};

/// How long plays may gather before they are sent together: at 100,000 a second one MPUB of 200.
const GATHER: Duration = Duration::from_millis(2);

/// A steady rate from a start on, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Plays a second.
    rate: Option<f64>,
    start: Instant,
}

impl Pace {
    /// The n-th play is due `n / rate` seconds behind `start`; without a rate at once.
    pub(super) fn new(rate: Option<f64>, start: Instant) -> Self {
        Self { rate, start }
    }

    /// How long to wait before the next send, with `sent` plays sent.
    pub(super) fn wait(&self, now: Instant, sent: u64) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        // Single plays at low rates; as many as gather in a moment at high ones.
        let next = sent + ((rate * GATHER.as_secs_f64()) as u64).max(1) - 1;
        (self.start + Duration::from_secs_f64(next as f64 / rate)).saturating_duration_since(now)
    }

    /// How many plays are due and not sent; without a rate, no end of them.
    pub(super) fn due(&self, now: Instant, sent: u64) -> u64 {
        let Some(rate) = self.rate else { return u64::MAX };
        let due = (now.saturating_duration_since(self.start).as_secs_f64() * rate) as u64 + 1;
        due.saturating_sub(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends by the clock for ten seconds; how many plays in how many batches.
    #[track_caller]
    fn check(
        rate: f64,
        plays: std::ops::RangeInclusive<u64>,
        batches: std::ops::RangeInclusive<u64>,
    ) {
        let start = Instant::now();
        let end = start + Duration::from_secs(10);
        let pace = Pace::new(Some(rate), start);
        let (mut now, mut sent, mut sends) = (start, 0, 0);
        loop {
            now += pace.wait(now, sent);
            if now >= end {
                break;
            }
            sent += pace.due(now, sent).max(1);
            sends += 1;
        }
        assert!(plays.contains(&sent), "{sent} plays at {rate}/s");
        assert!(batches.contains(&sends), "{sends} batches at {rate}/s");
    }

    #[test]
    fn the_rate_is_kept() {
        check(0.5, 5..=5, 5..=5);
        check(100.0, 999..=1_001, 999..=1_001);
        check(1_000.0, 9_990..=10_010, 4_900..=10_010);
        check(100_000.0, 999_000..=1_000_200, 4_900..=5_100);
    }

    #[test]
    fn without_a_rate_all_is_due() {
        let pace = Pace::new(None, Instant::now());
        assert_eq!(pace.wait(Instant::now(), 7), Duration::ZERO);
        assert_eq!(pace.due(Instant::now(), 7), u64::MAX);
    }
}
