//! How long to wait behind failures, of whoever tries again (pure but for its dice).

use std::time::Duration;

/// The pause behind a failure doubles with each further one, up to a limit.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    /// In a row.
    failures: u32,
}

impl Backoff {
    /// `min` behind the first failure, `max` at most.
    pub(crate) const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    /// Counts a failure; how long to wait before the next try.
    pub(crate) fn failed(&mut self) -> Duration {
        let pause = self.pause();
        self.failures = self.failures.saturating_add(1);
        // Many must not come back in step.
        pause.mul_f64(rand::random_range(0.75..1.0))
    }

    /// The longest that the next failure takes.
    fn pause(&self) -> Duration {
        self.min.saturating_mul(2_u32.saturating_pow(self.failures)).min(self.max)
    }

    /// Whether the last try has failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// A try has not failed.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_become_rarer_and_go_on() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        for longest in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            assert_eq!(backoff.pause().as_secs(), longest);
            let pause = backoff.failed().as_secs_f64() / longest as f64;
            assert!((0.75..1.0).contains(&pause), "{pause}");
        }
        backoff.failures = u32::MAX;
        assert_eq!(backoff.pause().as_secs(), 60);
        backoff.failed();
        assert!(backoff.is_failing());
        backoff.succeeded();
        assert_eq!((backoff.is_failing(), backoff.pause().as_secs()), (false, 1));
    }
}
