//! The numbers that clients and channels are known by within the broker, and maps of them (pure).

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// Names a connection; never used twice.
pub(crate) type ClientId = u64;

/// The ID of the next message, which `next_id` has gone past: the clock as a number, so that IDs differ from those of an earlier
/// run; and never one twice, also when the clock is set back.
pub(crate) fn first_id(timestamp_ns: i64, next_id: u64) -> u64 {
    u64::try_from(timestamp_ns).unwrap_or(0).max(next_id)
}

/// A map whose keys are the broker's own numbers, so that nobody can choose them to collide.
pub(crate) type NumberMap<V> = HashMap<u64, V, RandomState>;
