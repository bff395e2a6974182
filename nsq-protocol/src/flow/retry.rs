//! How long to wait before the next attempt: exponential, with jitter (pure).

use std::time::Duration;

/// A connection that held this long was a good one: the next failure is a first one.
pub(crate) const GOOD_CONNECTION: Duration = Duration::from_secs(5);

/// Delays that double from `min` to `max`; each one is drawn from its upper half, so that clients that
/// lost the same nsqd do not come back in step.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    step: u32,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, step: 0 }
    }

    /// The next delay; `random` is any number, evenly spread.
    pub(crate) fn next_delay(&mut self, random: u64) -> Duration {
        // 2^20 times any useful minimum is over any useful maximum.
        let full = self.min.saturating_mul(1 << self.step.min(20)).min(self.max);
        self.step = self.step.saturating_add(1);
        let half = full / 2;
        half + half.mul_f64(random as f64 / u64::MAX as f64)
    }

    /// The next failure is a first one again.
    pub(crate) fn reset(&mut self) {
        self.step = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_start_again() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(1000));
        let full: Vec<_> = (0..6).map(|_| backoff.next_delay(u64::MAX)).collect();
        assert_eq!(full, [ms(100), ms(200), ms(400), ms(800), ms(1000), ms(1000)]);
        backoff.reset();
        assert_eq!(backoff.next_delay(0), ms(50));
        for random in (0..100).map(|step| step * (u64::MAX / 100)) {
            assert!(backoff.next_delay(random) <= ms(1000));
        }
    }
}
