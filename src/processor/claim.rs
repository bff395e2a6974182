//! What a processor says of its ledger to a dashboard before it publishes: a dashboard that knows of more plays than the ledger
//! holds tells that the ledger is older, and then nothing is counted, nor published to any dashboard. Runs on the thread that
//! starts the processor and, where there are several dashboards, on one for each besides the first; then on the publishers'.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use nsq_protocol::thread::Crew;
use uuid::Uuid;

use crate::model::counts::ShardedCounts;
use crate::wire::client::{ClaimAnswer, DashboardClient, TIMEOUT};
use crate::wire::{LedgerClaim, LedgerMark};

/// How long a start waits for the dashboard's answer: counting does not depend on it.
const AT_START: Duration = Duration::from_secs(2);

/// How long it is waited for later: the dashboard sums up all that it has of the processor.
const LATER: Duration = TIMEOUT;

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
pub(super) struct OlderLedger {
    reason: String,
    url: String,
}

impl fmt::Display for OlderLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, says {}; put a newer backup of it back (`playcounts restore`), or `playcounts process --accept-loss` goes on with what it holds",
            self.reason, self.url
        )
    }
}

impl std::error::Error for OlderLedger {}

/// Whether any dashboard has said that the ledger is older: then it is, whatever the others know, and nobody is told more of it.
#[derive(Debug, Default)]
pub(super) struct LedgerRefusal(AtomicBool);

impl LedgerRefusal {
    /// Says so; whether this is the first time.
    pub(super) fn say(&self) -> bool {
        !self.0.swap(true, Ordering::SeqCst)
    }

    /// Whether it was said.
    pub(super) fn is_said(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

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

/// A ledger, to be claimed from one dashboard.
pub(super) struct Claims {
    pub(super) processor: Uuid,
    life: Uuid,
    held_at_start: u64,
    on_loss: OnLoss,
    /// Committed counts only.
    pub(super) counts: Arc<ShardedCounts>,
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
    fn claim(&mut self, dashboard: &DashboardClient, timeout: Duration) -> Result<()> {
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
            ClaimAnswer::Older(reason) => {
                let url = dashboard.url().to_owned();
                Err(OlderLedger { reason, url }.into())
            }
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

    /// Claims the ledger while the processor runs, if that is still to be done.
    ///
    /// # Errors
    /// As [`at_start`]; or the dashboard does not answer.
    pub(super) fn claim_later(&mut self, dashboard: &DashboardClient) -> Result<()> {
        self.claim(dashboard, LATER)
    }

    /// The dashboard's database, as its newest answer said.
    pub(super) fn met(&self) -> Option<Uuid> {
        self.met
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

/// Has every dashboard compare the ledger with what it knows of it, all at one time. One that is away is asked by its publisher.
///
/// # Errors
/// [`OlderLedger`], of any of them; or the operating system refuses a thread.
pub(super) fn at_start(
    claims: Vec<Claims>,
    dashboards: Vec<DashboardClient>,
) -> Result<Vec<(Claims, DashboardClient)>> {
    let ask = |mut claims: Claims, dashboard: DashboardClient| {
        let answer = claims.claim(&dashboard, AT_START);
        (claims, dashboard, answer)
    };
    let mut each = claims.into_iter().zip(dashboards);
    let first = each.next();
    // Each ends by itself, in time.
    let mut others = Crew::new(|| {});
    for (index, (claims, dashboard)) in each.enumerate() {
        others.spawn(&format!("claim-{}", index + 2), move || ask(claims, dashboard))?;
    }
    let first = first.map(|(claims, dashboard)| ask(claims, dashboard));
    let all: Vec<_> = first.into_iter().chain(others.join()).collect();
    let mut asked = Vec::with_capacity(all.len());
    for (claims, dashboard, answer) in all {
        match answer {
            Err(error) if error.is::<OlderLedger>() => return Err(error),
            _ => asked.push((claims, dashboard)),
        }
    }
    Ok(asked)
}
