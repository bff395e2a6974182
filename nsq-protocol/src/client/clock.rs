//! What the pure parts are given from outside: moments and random numbers.

use std::time::{Duration, Instant};

/// As good as for ever, for a limit that is past the end of the clock: `Duration::MAX` is a way to say "no limit".
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// That long from now.
pub(crate) fn deadline_in(limit: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(limit).unwrap_or(now + FOREVER)
}

/// A number to jitter with. The standard library's hash keys are random enough for that.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
