//! Plays that are published together (pure).

use std::time::Instant;

/// What nsqd said of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::producer) enum PublishOutcome {
    /// It has the batch.
    Acknowledged,
    /// It has not, or nobody knows.
    NotTaken,
}

impl PublishOutcome {
    /// When the batch was sent for good, as far as is known at `now`.
    pub(super) fn sent_at(self, now: Instant) -> Option<Instant> {
        (self == Self::Acknowledged).then_some(now)
    }
}

/// Plays with consecutive numbers, published together.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::producer) struct PlayBatch {
    /// The number of the first.
    pub(in crate::producer) first: u64,
    /// When they were put on the queue, in ns since the Unix epoch.
    pub(in crate::producer) enqueued_at_ns: u64,
    /// The video of each, by its place among the run's videos.
    pub(in crate::producer) videos: Box<[u32]>,
    /// When it was last published; `None`: it must be, at once.
    pub(in crate::producer) sent_at: Option<Instant>,
    /// nsqd has acknowledged a copy of it.
    pub(in crate::producer) acknowledged: bool,
    /// Since when later plays are known to be counted, and some of these not.
    pub(in crate::producer) overtaken_at: Option<Instant>,
    /// How often it was published.
    pub(in crate::producer) published: u32,
}

impl PlayBatch {
    pub(in crate::producer) fn new(first: u64, enqueued_at_ns: u64, videos: Box<[u32]>) -> Self {
        Self {
            first,
            enqueued_at_ns,
            videos,
            sent_at: None,
            acknowledged: false,
            overtaken_at: None,
            published: 0,
        }
    }

    /// Whether nsqd has acknowledged a copy of it.
    pub(in crate::producer) fn is_acknowledged(&self) -> bool {
        self.acknowledged
    }

    /// The number behind the last.
    pub(in crate::producer) fn end(&self) -> u64 {
        self.first + self.videos.len() as u64
    }
}
