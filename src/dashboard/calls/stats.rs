//! `/api/stats`, `/events` and `/metrics`: the present.

use std::sync::atomic::Ordering;
use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dashboard::alarms::Alarm;
use crate::dashboard::answer::{self, CallResult, Status, uncached};
use crate::dashboard::app::App;
use crate::dashboard::live::LiveStats;
use crate::dashboard::metrics::{self, DashboardCounters, TextFormat};
use crate::dashboard::operation::{JSON, Operation, PLAIN, of, text};
use crate::dashboard::query::Call;
use crate::http::Response;
use crate::model::unix_time::UnixMs;
use crate::model::video::MAX_PLAYS;
use crate::runtime::clock::unix_ms;

pub(in super::super) const ALL: Operation = Operation {
    id: "getStats",
    summary: "Totals, rates, consumption time, queue, processors",
    success: "the present",
    media: &[(JSON, of::<Stats>)],
    ..PLAIN
};

pub(in super::super) const EVENTS: Operation = Operation {
    id: "getEvents",
    summary: "Server-sent events: what changed, at most four a second",
    success: "a stream that does not end",
    media: &[("text/event-stream", text)],
    refusals: &[Status::Unavailable],
    ..PLAIN
};

pub(in super::super) const METRICS: Operation = Operation {
    id: "getMetrics",
    summary: "Prometheus text; OpenMetrics for those who ask",
    success: "the metrics",
    media: &[("text/plain", text), ("application/openmetrics-text", text)],
    refusals: &[],
    ..PLAIN
};

/// The present.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct Stats {
    /// Now.
    time: UnixMs,
    /// Grows when any count changes.
    revision: u64,
    /// Which database this is: another one after each reset.
    dashboard: Uuid,
    /// Videos with a count.
    total_videos: u64,
    /// The sum of their plays: what is published.
    total_plays: u64,
    /// `total_plays`, and the plays that processors have counted since: what their ledgers hold and is not published yet.
    counted_plays: u64,
    #[serde(flatten)]
    live: LiveStats,
    /// What is wrong, the worst first, as `/api/alarms` has it.
    alarms: Vec<Alarm>,
    /// How the run was configured: names and values.
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<Value>,
}

fn present(app: &App) -> Stats {
    let holdings = app.live.lock().holdings();
    let (totals, unpublished) = app.store.totals_and_unpublished(&holdings);
    Stats {
        time: unix_ms(),
        revision: app.store.revision(),
        dashboard: app.store.id(),
        total_videos: totals.videos,
        total_plays: totals.plays,
        // What strangers say to hold has no other limit.
        counted_plays: totals.plays.saturating_add(unpublished).min(MAX_PLAYS),
        live: app.live.lock().stats(Instant::now()),
        alarms: app.alarms.current(),
        configuration: None,
    }
}

pub(in super::super) fn all(app: &App, _call: Call<'_>) -> CallResult {
    answer::json(&Stats { configuration: Some(app.configuration.clone()), ..present(app) })
}

/// Sends the present to every page.
pub(in super::super) fn publish(app: &App) {
    let stats = present(app);
    let point = json!(app.live.lock().last_point());
    app.events.publish("stats", &json!({ "stats": stats, "point": point }).to_string());
}

pub(in super::super) fn metrics(app: &App, call: Call<'_>) -> CallResult {
    let counters = DashboardCounters {
        updates: app.updates.load(Ordering::Relaxed),
        refused: app.refused.load(Ordering::Relaxed),
        streams: app.events.clients(),
        cut_bytes: app.store.cut().map_or(0, |cut| cut.bytes),
        certificate: app.tls.as_ref().map(|tls| tls.valid_until()),
        catalog: app.store.catalog_sums(),
    };
    let format = TextFormat::of(call.request.header("accept").unwrap_or_default());
    let text =
        metrics::render(format, app.store.totals(), &app.live.lock(), &counters, Instant::now());
    Ok(uncached(Response::new(200, format.content_type(), text)))
}
