//! The one clock that tells the time of day. What measures durations takes `Instant::now` where it runs; what is pure
//! is given the time.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::unix_time::UnixMs;

/// Now, in nanoseconds since the Unix epoch; 0 on a clock set before it.
pub fn unix_ns() -> u64 {
    // A u64 of nanoseconds lasts until the year 2554.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Now, in milliseconds since the Unix epoch; 0 on a clock set before it.
pub fn unix_ms() -> UnixMs {
    UnixMs::from_ns(unix_ns())
}
