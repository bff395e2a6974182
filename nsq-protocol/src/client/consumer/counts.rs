//! What a consumer did with one nsqd, counted since its start over all connections. Any thread adds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Totals of one nsqd; each is explained at [`crate::ConnectionStats`].
pub(crate) struct LinkCounts {
    pub(crate) messages: AtomicU64,
    pub(crate) oversized: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) requeued: AtomicU64,
    pub(crate) touched: AtomicU64,
    pub(crate) failed_finishes: AtomicU64,
    pub(crate) failed_requeues: AtomicU64,
    pub(crate) failed_touches: AtomicU64,
    pub(crate) lost_answers: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// When counting began.
    began: Instant,
    /// In ms since then; 0: none yet.
    last_heartbeat_ms: AtomicU64,
}

impl LinkCounts {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            messages: AtomicU64::new(0),
            oversized: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            requeued: AtomicU64::new(0),
            touched: AtomicU64::new(0),
            failed_finishes: AtomicU64::new(0),
            failed_requeues: AtomicU64::new(0),
            failed_touches: AtomicU64::new(0),
            lost_answers: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            began: now,
            last_heartbeat_ms: AtomicU64::new(0),
        }
    }

    /// A heartbeat came.
    pub(crate) fn heartbeat(&self, now: Instant) {
        let ms = now.saturating_duration_since(self.began).as_millis() as u64;
        self.last_heartbeat_ms.store(ms.max(1), Ordering::Relaxed);
    }

    /// How long ago the last heartbeat came.
    pub(crate) fn heartbeat_age(&self, now: Instant) -> Option<Duration> {
        let ms = read(&self.last_heartbeat_ms);
        let age = now.saturating_duration_since(self.began);
        (ms > 0).then(|| age.saturating_sub(Duration::from_millis(ms)))
    }
}

/// Counts `count` more.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// What was counted so far.
pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
