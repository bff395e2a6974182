//! A ledger that keeps nothing: for measurements of what durability costs.

use std::time::Instant;

use anyhow::Result;
use uuid::Uuid;

use super::commit::{Arrivals, Committed};
use super::counters::Counters;
use super::ledger_trait::{Ledger, LedgerSize, NextUpkeep};
use super::state::LedgerState;
use super::upkeep::{LedgerUpkeep, LedgerUpkept};
use crate::model::video::{VideoCount, VideoState};
use crate::wire::{Confirmed, ProducerConfirmed};

/// Counts in memory. All is lost with the process.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    state: LedgerState,
    processor: Uuid,
}

impl MemoryLedger {
    /// An empty one.
    pub fn new() -> Self {
        Self { state: LedgerState::default(), processor: Uuid::new_v4() }
    }
}

impl Ledger for MemoryLedger {
    fn processor(&self) -> Uuid {
        self.processor
    }

    fn life(&self) -> Uuid {
        // The counts of another start have another processor's id.
        self.processor
    }

    fn first_version(&self) -> u64 {
        1
    }

    fn counters(&self) -> Counters {
        self.state.counters()
    }

    fn videos(&self) -> Vec<VideoState> {
        self.state.videos().collect()
    }

    fn commit(&mut self, arrivals: &mut [Arrivals]) -> Result<Committed> {
        let (record, video_deltas) = self.state.count_arrivals(arrivals);
        Ok(Committed { counters: record.counters, video_deltas })
    }

    fn upkeep(&mut self, _now: Instant) -> Option<LedgerUpkeep> {
        // What has changed since the last checkpoint is of no use here.
        self.state.begin_checkpoint();
        while self.state.next_slice(usize::MAX).is_some() {}
        None
    }

    fn upkept(&mut self, _done: LedgerUpkept) -> Result<NextUpkeep> {
        Ok(NextUpkeep::Later)
    }

    fn published(&mut self, counts: &[VideoCount]) {
        self.state.published(counts);
    }

    fn publishes_to(&mut self, _dashboard: Uuid) -> Result<bool> {
        Ok(false)
    }

    fn confirmed(&self, producer: &Uuid) -> Confirmed {
        self.state.confirmed(producer)
    }

    fn take_unreported(&mut self, limit: usize) -> Vec<ProducerConfirmed> {
        self.state.take_unreported(limit)
    }

    fn put_back_unreported(&mut self, producers: &[ProducerConfirmed]) {
        self.state.put_back_unreported(producers.iter().map(|told| told.producer));
    }

    fn size(&self) -> Option<LedgerSize> {
        None
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
