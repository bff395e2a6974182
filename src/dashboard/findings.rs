//! The whole diagnosis: what processors, nsqds, ledgers and the store tell, and what the past tells.

use std::time::Instant;

use super::app::App;
use super::live::RunOutcome;
use super::nsqds::{CountedTold, Finding, Heartbeat, Severity, ledger_faults};

/// Why nothing is moving, or may soon not; the worst first, one at least.
pub(super) fn all(app: &App) -> Vec<Finding> {
    let now = Instant::now();
    let refused = app.store.refused();
    let (heartbeats, counted) = {
        let live = app.live.lock();
        let heartbeats: Vec<Heartbeat> = live.heartbeats(now);
        let (foreign, crowded) = (live.foreign(now), live.crowded());
        let run = live.run().map(RunOutcome::finding);
        let fills = app.is_simulation && heartbeats.is_empty();
        let past = app.alarms.past(now);
        let dead = live.dead(now);
        (heartbeats, CountedTold { foreign, crowded, refused, dead, run, fills, past })
    };
    let health = app.store.health();
    let reason = health.as_ref().err().map(|reason| &**reason);
    let mut findings = rivals(app);
    let others = app.watch.diagnose(&heartbeats, &counted, reason);
    let is_bad = !findings.is_empty();
    findings.extend(others.into_iter().filter(|other| !is_bad || other.severity < Severity::Info));
    findings
}

/// Processors that must not run at one time: what they count is wrong until somebody stops one.
pub(super) fn rivals(app: &App) -> Vec<Finding> {
    let now = Instant::now();
    let live = app.live.lock();
    let of_nsqds = app.watch.two_ledgers(|one, other| live.share_ledger(one, other));
    let two_ledgers = of_nsqds.or_else(|| live.two_ledgers(now));
    two_ledgers.into_iter().chain(live.clones(now)).collect()
}

/// What keeps a shared ledger's counts from being right, or from going on.
pub(super) fn ledger_fault(app: &App) -> Option<Finding> {
    let (live, now) = (app.live.lock(), Instant::now());
    ledger_faults(&live.heartbeats(now), &live.dead(now)).into_iter().next()
}
