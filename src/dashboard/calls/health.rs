//! `/healthz`, `/api/diagnosis` and `/api/alarms`: whether all is well, and if not, why.

use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;

use crate::dashboard::alarms::Alarm;
use crate::dashboard::answer::{CallError, CallResult, Status, json};
use crate::dashboard::app::App;
use crate::dashboard::findings;
use crate::dashboard::nsqds::Finding;
use crate::dashboard::operation::{JSON, Operation, PLAIN, of};
use crate::dashboard::query::Call;
use crate::model::unix_time::UnixMs;
use crate::runtime::clock::unix_ms;

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

pub(in super::super) const ALARMS: Operation = Operation {
    id: "getAlarms",
    summary: "What has been wrong for some seconds, each with its name and since when",
    description: "The findings of the diagnosis that have lasted. Events have them as `stats.alarms`.",
    success: "the worst first; none where all is well",
    media: &[(JSON, of::<CurrentAlarms>)],
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
    /// The names of the alarms that hold: something is wrong that keeps no count from being right. `/api/alarms` has more of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alarms: Vec<&'static str>,
    /// What is wrong with the certificate of HTTPS, such as that it has expired, or that new files could not be used. Absent:
    /// nothing, or plain HTTP is spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
}

/// What is wrong.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct CurrentAlarms {
    /// Now.
    time: UnixMs,
    /// The worst first, at most 8; `/api/diagnosis` has all findings.
    alarms: Vec<Alarm>,
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
    let fault = findings::rivals(app).into_iter().next().or_else(|| findings::ledger_fault(app));
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
    let alarms = app.alarms.current().iter().map(|alarm| alarm.name).collect();
    let certificate = certificate(app);
    json(&Health { status: "ok", cut: cut(app), waiting, run, alarms, certificate })
}

/// The same to whom nothing is told but whether it is well.
pub(in super::super) fn in_short(app: &App, call: Call<'_>) -> CallResult {
    match health(app, call) {
        Ok(_) => json(&Health {
            status: "ok",
            cut: None,
            waiting: None,
            run: None,
            alarms: Vec::new(),
            certificate: None,
        }),
        Err(_) => Err(CallError::unavailable("not well: who sends the read token is told why")),
    }
}

/// What is wrong with the certificate: whoever asks got through to here all the same.
fn certificate(app: &App) -> Option<String> {
    let troubles = app.tls.as_ref()?.troubles(unix_ms());
    (!troubles.is_empty()).then(|| troubles.join("; "))
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

pub(in super::super) fn diagnosis(app: &App, _call: Call<'_>) -> CallResult {
    json(&Diagnosis { findings: findings::all(app) })
}

pub(in super::super) fn alarms(app: &App, _call: Call<'_>) -> CallResult {
    json(&CurrentAlarms { time: unix_ms(), alarms: app.alarms.current() })
}
