//! `/api/confirmed`: which plays of each producer are counted for good.

use std::time::Instant;

use super::ledgers::{self, OF_A_LEDGER};
use super::written;
use crate::dashboard::answer::{CallError, CallResult, json};
use crate::dashboard::app::App;
use crate::dashboard::body::parse;
use crate::dashboard::operation::{JSON, Operation, PLAIN, of};
use crate::dashboard::query::{Call, IdParam, Location, NumberParam};
use crate::model::video::MAX_PLAYS;
use crate::wire::{ConfirmedAnswer, ConfirmedUpdate, ProducerConfirmed, Written};

static PRODUCER: IdParam = IdParam {
    name: "producer",
    about: "the producer",
    location: Location::Query,
    refusal: "producer must be a UUID, not {}",
};

static OUTBOX: NumberParam = NumberParam {
    name: "outbox",
    about: "how many plays the producer has in its outbox, to be shown in /api/processors",
    range: (0, MAX_PLAYS as i64),
    default: None,
};

pub(in super::super) const ASK: Operation = Operation {
    id: "getConfirmed",
    summary: "Which plays of a producer are counted for good",
    parameters: &[&PRODUCER, &OUTBOX],
    success: "what is known; nothing of an unknown producer",
    media: &[(JSON, of::<ConfirmedAnswer>)],
    ..PLAIN
};

pub(in super::super) const UPDATE: Operation = Operation {
    id: "confirm",
    summary: "Takes which plays of producers a processor has counted for good",
    description: "A producer's runs lie above its watermark, ascending, neither empty nor touching; else 400.",
    body: Some(of::<ConfirmedUpdate>),
    success: "committed",
    media: &[(JSON, of::<Written>)],
    refusals: OF_A_LEDGER,
    ..PLAIN
};

pub(in super::super) fn ask(app: &App, call: Call<'_>) -> CallResult {
    let producer = PRODUCER.read(call)?;
    let outbox = OUTBOX.read(call)?.map(i64::unsigned_abs);
    // A browser says whose page asks, and no page has an outbox.
    let is_page =
        ["sec-fetch-site", "origin"].iter().any(|name| call.request.header(name).is_some());
    if let Some(plays) = outbox.filter(|_| !is_page) {
        app.live.lock().outbox(producer, plays, Instant::now());
    }
    let confirmed = app.store.confirmed(&producer);
    let processors = app.live.lock().alive(Instant::now());
    json(&ConfirmedAnswer { told: ProducerConfirmed { producer, confirmed }, processors })
}

pub(in super::super) fn update(app: &App, call: Call<'_>) -> CallResult {
    let update: ConfirmedUpdate = parse(&call.request.body)?;
    update.check().map_err(|error| CallError::bad_request(error.to_string()))?;
    ledgers::check(app, &update.processor, update.ledger.as_ref())?;
    let accepted = update.producers.len();
    let stored = app.store.confirm(update).map_err(|reason| CallError::unavailable(&*reason))?;
    written::answer(&Written { accepted, dashboard: stored })
}
