//! A ledger that keeps nothing: for measurements of what durability costs.

use std::time::Instant;

use anyhow::Result;
use uuid::Uuid;

use super::commit::{Arrivals, Committed};
use super::counters::Counters;
use super::ledger_trait::{Ledger, LedgerSize, NextUpkeep};
use super::message_window::{MessageBudget, MessageWindowSize};
use super::state::LedgerState;
use super::upkeep::{LedgerUpkeep, LedgerUpkept};
use crate::model::dashboard_index::DashboardIndex;
use crate::model::video::{VideoCount, VideoState};
use crate::wire::{Confirmed, ProducerConfirmed};

/// Counts in memory. All is lost with the process.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    state: LedgerState,
    processor: Uuid,
}

impl MemoryLedger {
    /// An empty one, with the default memory for messages.
    pub fn new() -> Self {
        Self::with_budget(MessageBudget::default())
    }

    /// An empty one, with so much memory for messages.
    pub fn with_budget(messages: MessageBudget) -> Self {
        Self { state: LedgerState::with_budget(messages), processor: Uuid::new_v4() }
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
        self.state.counts.counters()
    }

    fn videos(&self) -> Vec<VideoState> {
        self.state.counts.videos().collect()
    }

    fn commit(&mut self, arrivals: &mut [Arrivals]) -> Result<Committed> {
        Ok(self.state.count_arrivals(arrivals).into())
    }

    fn upkeep(&mut self, _now: Instant) -> Option<LedgerUpkeep> {
        // What has changed since the last checkpoint is of no use here.
        self.state.begin_checkpoint();
        while self.state.next_slice(usize::MAX).is_some() {
            // There is no table that could have them.
            self.state.slice_dropped();
        }
        None
    }

    fn upkept(&mut self, _done: LedgerUpkept) -> Result<NextUpkeep> {
        Ok(NextUpkeep::Later)
    }

    fn publish_to(&mut self, dashboards: usize) {
        self.state.publish_to(dashboards);
    }

    fn published(&mut self, _dashboard: DashboardIndex, _counts: &[VideoCount]) {
        // Of use to another start only, and there is none.
    }

    fn publishes_to(&mut self, dashboard: DashboardIndex, database: Uuid) -> Result<bool> {
        let is_other = self.state.unreported.of(dashboard).meet(database);
        if is_other {
            self.state.tell_all_producers(dashboard);
        }
        Ok(is_other)
    }

    fn confirmed(&mut self, producer: &Uuid) -> Result<Confirmed> {
        Ok(self.state.confirmed(DashboardIndex::FIRST, producer))
    }

    fn take_unreported(
        &mut self,
        dashboard: DashboardIndex,
        limit: usize,
    ) -> Result<Vec<ProducerConfirmed>> {
        let ids = self.state.unreported.of(dashboard).take(limit);
        let tell = |producer| {
            let confirmed = self.state.confirmed(dashboard, &producer);
            ProducerConfirmed { producer, confirmed }
        };
        Ok(ids.into_iter().map(tell).collect())
    }

    fn reported(
        &mut self,
        dashboard: DashboardIndex,
        told: &ProducerConfirmed,
        watermark: u64,
    ) -> bool {
        self.state.reported(dashboard, &told.producer, watermark)
    }

    fn retell(&mut self, dashboard: DashboardIndex, limit: usize) -> bool {
        self.state.unreported.of(dashboard).retell(limit)
    }

    fn put_back_unreported(&mut self, dashboard: DashboardIndex, producers: &[ProducerConfirmed]) {
        let unreported = self.state.unreported.of(dashboard);
        producers.iter().for_each(|told| unreported.add(told.producer));
    }

    fn size(&self) -> Option<LedgerSize> {
        None
    }

    fn message_window(&self) -> MessageWindowSize {
        self.state.message_window()
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
