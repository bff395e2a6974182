//! What all connections of a consumer share: who may have how many messages, and whether any may flow (pure).

use std::time::Instant;

use crate::flow::backoff::{FailureBackoff, Gate};
use crate::flow::policy::BackoffStats;
use crate::flow::rdy::{Hold, LinkLoad, Plan, Planner};

/// The planner of RDY and the backoff, which closes its gate.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) planner: Planner,
    pub(crate) backoff: FailureBackoff,
    /// Nothing is asked for, whatever the gate of the backoff.
    pub(crate) paused: bool,
    /// When the planner is to be asked again.
    next_plan: Option<Instant>,
}

impl Budget {
    pub(crate) fn new(planner: Planner, backoff: FailureBackoff) -> Self {
        Self { planner, backoff, paused: false, next_plan: None }
    }

    /// What to tell each link, as [`Planner::plan`].
    pub(crate) fn plan(&mut self, loads: &[LinkLoad], now: Instant) -> Plan {
        if !self.paused {
            return self.planner.plan(loads, self.backoff.gate(), now);
        }
        let mut plan = self.planner.plan(loads, Gate::Shut, now);
        for link in plan.links.iter_mut().filter(|link| link.hold == Some(Hold::Backoff)) {
            link.hold = Some(Hold::Paused);
        }
        plan
    }

    /// Takes over when a plan is to be made again. True if that is another moment than before, so that whoever keeps
    /// the time must be told.
    pub(crate) fn plan_again_at(&mut self, next: Option<Instant>) -> bool {
        let next = next.into_iter().chain(self.backoff.shut_until()).min();
        let changed = next.is_some() && next != self.next_plan;
        self.next_plan = next;
        changed
    }

    /// No further plan is made.
    pub(crate) fn stop(&mut self) {
        self.next_plan = None;
    }

    /// Time has passed. True if a new plan is due.
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        let opened = self.backoff.tick(now);
        opened || self.next_plan.is_some_and(|due| due <= now)
    }

    /// When [`Budget::tick`] has something to do.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        self.next_plan
    }

    pub(crate) fn stats(&self, now: Instant) -> BackoffStats {
        BackoffStats {
            level: self.backoff.level(now),
            ends_in: self.backoff.shut_until().map(|until| until.saturating_duration_since(now)),
            probing: self.backoff.gate() == Gate::Probe,
        }
    }
}
