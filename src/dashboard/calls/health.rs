//! `/healthz` and `/api/diagnosis`: whether all is well, and if not, why.

use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;

use crate::dashboard::answer::{CallError, CallResult, Status, json};
use crate::dashboard::app::App;
use crate::dashboard::nsqds::{CountedTold, Finding, Heartbeat};
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
    /// What the last start has cut off the dashboard's journal: what a crash had left unfinished. Absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<String>,
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
    if let Some(reason) = app.store.refused() {
        return Err(CallError::unavailable(format!("counts were refused: {reason}")));
    }
    json(&Health { status: "ok", cut: app.store.cut().map(ToString::to_string) })
}

pub(in super::super) fn diagnosis(app: &App, _call: Call<'_>) -> CallResult {
    let heartbeats: Vec<Heartbeat> = app.live.lock().heartbeats(Instant::now());
    let counted = {
        let (live, now) = (app.live.lock(), Instant::now());
        let refused = app.store.refused();
        CountedTold { foreign: live.foreign(now), crowded: live.crowded(), refused }
    };
    let health = app.store.health();
    let reason = health.as_ref().err().map(|reason| &**reason);
    json(&Diagnosis { findings: app.watch.diagnose(&heartbeats, &counted, reason) })
}
