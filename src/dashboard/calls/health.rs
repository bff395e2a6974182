//! `/healthz` and `/api/diagnosis`: whether all is well, and if not, why.

use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;

use crate::dashboard::answer::{CallError, CallResult, Status, json};
use crate::dashboard::app::App;
use crate::dashboard::live::RunOutcome;
use crate::dashboard::nsqds::{CountedTold, Finding, Heartbeat, Severity, ledger_faults};
use crate::dashboard::operation::{JSON, Operation, PLAIN, of};
use crate::dashboard::query::Call;

pub(in super::super) const HEALTH: Operation = Operation {
    id: "getHealth",
    summary: "Whether counts can be stored and are",
    success: "well",
    media: &[(JSON, of::<Health>)],
    refusals: &[Status::Unavailable],
    ..PLAIN
};

pub(in super::super) const DIAGNOSIS: Operation = Operation {
    id: "getDiagnosis",
    summary: "Why nothing is moving",
    success: "the worst first",
    media: &[(JSON, of::<Diagnosis>)],
    ..PLAIN
};

/// All is well.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct Health {
    /// Always `ok`: what is not well is a 503.
    #[schemars(extend("const" = "ok"))]
    status: &'static str,
    /// What the last start of the dashboard, or of a processor, has cut off its journal: what a crash had left unfinished.
    /// Absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<String>,
    /// Which processor's start waits, and for what; nothing is lost meanwhile. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<String>,
    /// How the simulation has ended that this dashboard belongs to: verified, for what is not is a 503. Absent while it goes
    /// on, and of every other dashboard.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
}

/// Why nothing is moving.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct Diagnosis {
    /// The worst first; one at least.
    findings: Vec<Finding>,
}

pub(in super::super) fn health(app: &App, _call: Call<'_>) -> CallResult {
    app.store.health().map_err(|reason| CallError::unavailable(&*reason))?;
    if let Some(reason) = app.live.lock().failure(Instant::now()) {
        let reason = format!("a processor has stopped counting: {reason}");
        return Err(CallError::unavailable(reason));
    }
    let fault = rivals(app).into_iter().next().or_else(|| ledger_fault(app));
    if let Some(Finding { text, way_out, .. }) = fault {
        // A text that ends with a reason has no full stop.
        let stop = if text.ends_with('.') { "" } else { "." };
        return Err(CallError::unavailable(format!("{text}{stop} {way_out}")));
    }
    if let Some(reason) = app.store.refused() {
        return Err(CallError::unavailable(format!("counts were refused: {reason}")));
    }
    let run = app.live.lock().run().cloned();
    if let Some(run) = run.as_ref().filter(|run| run.fault.is_some()) {
        return Err(CallError::unavailable(run.text()));
    }
    let waiting = app.live.lock().waiting(Instant::now());
    let run = run.map(|run| run.text());
    json(&Health { status: "ok", cut: cut(app), waiting, run })
}

/// What starts have cut off, of all parts that are known, one behind the other.
fn cut(app: &App) -> Option<String> {
    let own = app.store.cut().map(ToString::to_string);
    let live = app.live.lock();
    let cut =
        live.consumptions().filter_map(|(id, told)| Some((id, told.ledger.as_ref()?.cut_bytes)));
    let ledgers = cut.filter(|(_, bytes)| *bytes > 0).map(|(id, bytes)| {
        format!("the ledger of processor {id}: a crash had left its end unfinished, and {bytes} bytes were cut off")
    });
    let all: Vec<String> = own.into_iter().chain(ledgers).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// Processors that must not run at one time: what they count is wrong until somebody stops one.
fn rivals(app: &App) -> Vec<Finding> {
    let now = Instant::now();
    let live = app.live.lock();
    let of_nsqds = app.watch.two_ledgers(|one, other| live.share_ledger(one, other));
    let two_ledgers = of_nsqds.or_else(|| live.two_ledgers(now));
    two_ledgers.into_iter().chain(live.clones(now)).collect()
}

/// What keeps a shared ledger's counts from being right, or from going on.
fn ledger_fault(app: &App) -> Option<Finding> {
    let (live, now) = (app.live.lock(), Instant::now());
    ledger_faults(&live.heartbeats(now), &live.dead(now)).into_iter().next()
}

pub(in super::super) fn diagnosis(app: &App, _call: Call<'_>) -> CallResult {
    let heartbeats: Vec<Heartbeat> = app.live.lock().heartbeats(Instant::now());
    let counted = {
        let (live, now) = (app.live.lock(), Instant::now());
        let refused = app.store.refused();
        let (foreign, crowded) = (live.foreign(now), live.crowded());
        let run = live.run().map(RunOutcome::finding);
        CountedTold { foreign, crowded, refused, dead: live.dead(now), run }
    };
    let health = app.store.health();
    let reason = health.as_ref().err().map(|reason| &**reason);
    let mut findings = rivals(app);
    let others = app.watch.diagnose(&heartbeats, &counted, reason);
    let is_bad = !findings.is_empty();
    findings.extend(others.into_iter().filter(|other| !is_bad || other.severity < Severity::Info));
    json(&Diagnosis { findings })
}
