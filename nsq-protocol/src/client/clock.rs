//! What the pure parts are given from outside: moments and random numbers.

use std::time::{Duration, Instant};

use crate::io::config::FOREVER;

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
