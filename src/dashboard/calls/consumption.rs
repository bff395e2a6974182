//! `/api/consumption`: how processors fare.

use std::time::Instant;

use super::written;
use crate::dashboard::answer::CallResult;
use crate::dashboard::app::App;
use crate::dashboard::body::parse;
use crate::dashboard::operation::{JSON, Operation, PLAIN, of};
use crate::dashboard::query::Call;
use crate::runtime::clock::unix_ms;
use crate::wire::{ConsumptionReport, Written};

pub(in super::super) const REPORT: Operation = Operation {
    id: "reportConsumption",
    summary: "Takes how a processor fares",
    description: "A histogram's buckets ascend, up to its count; else 400.",
    body: Some(of::<ConsumptionReport>),
    success: "taken",
    media: &[(JSON, of::<Written>)],
    ..PLAIN
};

pub(in super::super) fn report(app: &App, call: Call<'_>) -> CallResult {
    let report: ConsumptionReport = parse(&call.request.body)?;
    report.check()?;
    let ConsumptionReport { processor, instance, consumption, ending } = report;
    let (from, now) = (call.request.peer.map(|peer| peer.ip()), Instant::now());
    let mut live = app.live.lock();
    live.report(processor, None, Some(consumption), now);
    live.started(processor, instance, from, now);
    live.ended(processor, ending.map(|ending| (ending, unix_ms())));
    drop(live);
    written::answer(&Written { accepted: 1, dashboard: app.store.id() })
}
