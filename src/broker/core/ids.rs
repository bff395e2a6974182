//! The numbers that clients and channels are known by within the broker, and maps of them (pure).

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// Names a connection; never used twice.
pub(crate) type ClientId = u64;

/// A map whose keys are the broker's own numbers, so that nobody can choose them to collide.
pub(crate) type NumberMap<V> = HashMap<u64, V, RandomState>;
