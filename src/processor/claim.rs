//! What a processor says of its ledger to a dashboard before it publishes: a dashboard that knows of more plays than the ledger
//! holds tells that the ledger is older, and then nothing is counted. Runs on the thread that starts the processor, then on the
//! publisher's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use uuid::Uuid;

use crate::model::counts::ShardedCounts;
use crate::wire::client::{ClaimAnswer, DashboardClient};
use crate::wire::{LedgerClaim, LedgerMark};

/// How long a start waits for the dashboard's answer: counting does not depend on it.
pub(super) const AT_START: Duration = Duration::from_secs(2);

/// How long it is waited for later: the dashboard sums up all that it has of the processor.
const LATER: Duration = Duration::from_secs(10);

/// What to do with a ledger that is older than what a dashboard knows of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// Count nothing, and say so.
    #[default]
    Refuse,
    /// The ledger is right: the dashboard forgets what it has of the processor.
    Accept,
}

/// The ledger is older than what a dashboard knows of it.
#[derive(Debug)]
pub(super) struct OlderLedger(String);

impl fmt::Display for OlderLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; put a newer backup of it back (`playcounts restore`), or `playcounts process --accept-loss` goes on with what it holds",
            self.0
        )
    }
}

impl std::error::Error for OlderLedger {}

/// How far it has come with the present dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClaimState {
    /// It must be claimed, for the first time in this start or again.
    Unclaimed,
    /// The dashboard has compared it.
    Claimed,
    /// The dashboard is of a version that does not compare.
    NotAsked,
}

/// A ledger, to be claimed.
pub(super) struct Claims {
    processor: Uuid,
    life: Uuid,
    held_at_start: u64,
    on_loss: OnLoss,
    /// Committed counts only.
    counts: Arc<ShardedCounts>,
    state: ClaimState,
    /// The dashboard's database, as its newest answer said.
    met: Option<Uuid>,
    /// In this start: what the dashboard knows under this life since then, it knows from here.
    was_claimed: bool,
}

impl Claims {
    /// Of a ledger of that life; `counts` holds all that is in it.
    pub(super) fn new(
        processor: Uuid,
        life: Uuid,
        on_loss: OnLoss,
        counts: Arc<ShardedCounts>,
    ) -> Self {
        let held_at_start = counts.totals().plays;
        let (state, was_claimed) = (ClaimState::Unclaimed, false);
        Self { processor, life, held_at_start, on_loss, counts, state, met: None, was_claimed }
    }

    /// Claims the ledger, if that is still to be done.
    ///
    /// # Errors
    /// [`OlderLedger`]; or the dashboard does not answer.
    pub(super) fn claim(&mut self, dashboard: &DashboardClient, timeout: Duration) -> Result<()> {
        if self.state != ClaimState::Unclaimed {
            return Ok(());
        }
        let holds = if self.was_claimed { self.counts.totals().plays } else { self.held_at_start };
        let claim = LedgerClaim {
            processor: self.processor,
            ledger: LedgerMark { life: self.life, holds },
            held_at_start: self.held_at_start,
            accept_loss: self.on_loss == OnLoss::Accept,
        };
        match dashboard.claim(&claim, timeout)? {
            ClaimAnswer::Taken(id) => {
                (self.state, self.met, self.was_claimed) = (ClaimState::Claimed, Some(id), true);
                Ok(())
            }
            ClaimAnswer::Older(reason) => Err(OlderLedger(reason).into()),
            ClaimAnswer::NotAsked => {
                log::warn!(
                    "the dashboard at {} is of an older version: it does not notice a ledger that is older than its counts",
                    dashboard.url()
                );
                self.state = ClaimState::NotAsked;
                Ok(())
            }
        }
    }

    /// As [`Claims::claim`], while the processor runs.
    ///
    /// # Errors
    /// As there.
    pub(super) fn claim_later(&mut self, dashboard: &DashboardClient) -> Result<()> {
        self.claim(dashboard, LATER)
    }

    /// The dashboard's database has this id: another one has to compare the ledger.
    pub(super) fn meet(&mut self, dashboard: Uuid) {
        if self.met.replace(dashboard).is_some_and(|met| met != dashboard) {
            self.state = ClaimState::Unclaimed;
        }
    }

    /// The dashboard knows of no claim any more, or of another one.
    pub(super) fn forget(&mut self) {
        self.state = ClaimState::Unclaimed;
    }

    /// What a message says of the ledger, which holds so many plays; nothing to a dashboard that does not know of that.
    pub(super) fn mark(&self, holds: u64) -> Option<LedgerMark> {
        (self.state == ClaimState::Claimed).then_some(LedgerMark { life: self.life, holds })
    }
}
