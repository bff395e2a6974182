//! A ledger that keeps nothing: for measurements of what durability costs.

use std::time::{Duration, Instant};

use anyhow::Result;
use uuid::Uuid;

use super::book::Book;
use super::{Arrivals, Committed, Counters, Ledger};
use crate::model::video::{VideoCount, VideoState};
use crate::wire::{Confirmed, ProducerConfirmed};

/// Counts in memory. All is lost with the process.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    book: Book,
    processor: Uuid,
}

impl MemoryLedger {
    /// An empty one.
    pub fn new() -> Self {
        Self { book: Book::default(), processor: Uuid::new_v4() }
    }
}

impl Ledger for MemoryLedger {
    fn processor(&self) -> Uuid {
        self.processor
    }

    fn first_version(&self) -> u64 {
        1
    }

    fn counters(&self) -> Counters {
        self.book.counters()
    }

    fn standings(&self) -> Vec<VideoState> {
        self.book.standings().collect()
    }

    fn commit(&mut self, arrivals: &mut [Arrivals]) -> Result<Committed> {
        let (record, grown) = self.book.enter(arrivals);
        Ok(Committed { counters: record.counters, grown })
    }

    fn tidy(&mut self, now: Instant, _idle: bool) -> Result<Instant> {
        self.book.begin_sweep();
        while self.book.next_slice(usize::MAX).is_some() {}
        Ok(now + Duration::from_secs(1))
    }

    fn published(&mut self, counts: &[VideoCount]) {
        self.book.published(counts);
    }

    fn publishes_to(&mut self, _dashboard: Uuid) -> Result<bool> {
        Ok(false)
    }

    fn confirmed(&self, producer: &Uuid) -> Confirmed {
        self.book.confirmed(producer)
    }

    fn take_untold(&mut self, limit: usize) -> Vec<ProducerConfirmed> {
        self.book.take_untold(limit)
    }

    fn put_untold(&mut self, producers: &[ProducerConfirmed]) {
        self.book.put_untold(producers.iter().map(|told| told.producer));
    }

    fn size(&self) -> Option<(u64, u64)> {
        None
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
