//! What topics and channels take in memory besides the bodies (pure).

/// What a topic or channel takes besides the bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) bytes: usize,
    /// Runs in flight and deferred messages: what has a deadline.
    pub(super) live: usize,
}

/// Replaces a part of the broker's cost by what it is now.
pub(super) fn settle(total: &mut Cost, before: Cost, after: Cost) {
    total.bytes = total.bytes - before.bytes + after.bytes;
    total.live = total.live - before.live + after.live;
}
