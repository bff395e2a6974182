//! `/api/processors`: each processor, and the producers that have an outbox.

use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;

use crate::dashboard::answer::{CallResult, json};
use crate::dashboard::app::App;
use crate::dashboard::live::{ProcessorShown, ProducerShown, SharedLedgerShown};
use crate::dashboard::operation::{JSON, Operation, PLAIN, of};
use crate::dashboard::query::Call;

pub(in super::super) const LIST: Operation = Operation {
    id: "getProcessors",
    summary: "Each processor: received = counted + duplicates + rejected + in flight",
    success: "those heard since the start",
    media: &[(JSON, of::<Processors>)],
    ..PLAIN
};

/// Who counts, in which ledgers, and who publishes.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct Processors {
    /// Those heard since the start.
    processors: Vec<ProcessorShown>,
    /// The ledgers that several processors may count in, each once.
    ledgers: Vec<SharedLedgerShown>,
    /// Those that have an outbox and have asked in the last 10 minutes.
    producers: Vec<ProducerShown>,
}

pub(in super::super) fn list(app: &App, _call: Call<'_>) -> CallResult {
    let (live, now) = (app.live.lock(), Instant::now());
    let (processors, ledgers) = (live.processors(now), live.ledgers(now));
    json(&Processors { processors, ledgers, producers: live.producers(now) })
}
