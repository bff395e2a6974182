//! `/api/confirmed`: which plays of each producer are counted for good.

use std::time::Instant;

use anyhow::Error;

use super::ledgers::{self, OF_A_LEDGER};
use super::written;
use crate::dashboard::answer::{CallError, CallResult, json};
use crate::dashboard::app::App;
use crate::dashboard::body::parse;
use crate::dashboard::operation::{JSON, Operation, PLAIN, of};
use crate::dashboard::query::{Call, IdParam, Location, NumberParam};
use crate::model::video::MAX_PLAYS;
use crate::wire::{
    CONFIRMED_RUNS_MAX, ConfirmedAnswer, ConfirmedTaken, ConfirmedUpdate, OutboxFigures,
    ProducerConfirmed, Written,
};

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

static FOREIGN: NumberParam = NumberParam {
    name: "foreign",
    about: "how many plays are counted as the producer's own that it never made, for /api/diagnosis",
    range: (0, MAX_PLAYS as i64),
    default: None,
};

pub(in super::super) const ASK: Operation = Operation {
    id: "getConfirmed",
    summary: "Which plays of a producer are counted for good",
    parameters: &[&PRODUCER, &OUTBOX, &FOREIGN],
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
    media: &[(JSON, of::<ConfirmedTaken>)],
    refusals: OF_A_LEDGER,
    ..PLAIN
};

pub(in super::super) fn ask(app: &App, call: Call<'_>) -> CallResult {
    let producer = PRODUCER.read(call)?;
    let outbox = OUTBOX.read(call)?.map(i64::unsigned_abs);
    let foreign = FOREIGN.read(call)?.map_or(0, i64::unsigned_abs);
    // A browser says whose page asks, and no page has an outbox.
    let is_page =
        ["sec-fetch-site", "origin"].iter().any(|name| call.request.header(name).is_some());
    if let Some(plays) = outbox.filter(|_| !is_page) {
        let figures = OutboxFigures { plays, foreign };
        app.live.lock().outbox(producer, figures, Instant::now());
    }
    let confirmed =
        app.store.confirmed(&producer).map_err(|error| CallError::unreadable(&error))?;
    let processors = app.live.lock().alive(Instant::now());
    json(&ConfirmedAnswer { told: ProducerConfirmed { producer, confirmed }, processors })
}

pub(in super::super) fn update(app: &App, call: Call<'_>) -> CallResult {
    let update: ConfirmedUpdate = parse(&call.request.body)?;
    update.check()?;
    ledgers::check(app, &update.processor, update.ledger.as_ref())?;
    let told: Vec<_> = update.producers.iter().map(|told| (told.producer, is_all(told))).collect();
    let stored = app.store.confirm(update).map_err(CallError::not_stored)?;
    let watermark = |(producer, is_all)| match is_all {
        true => Ok(app.store.confirmed_at_least(&producer)),
        false => app.store.confirmed(&producer).map(|confirmed| confirmed.watermark),
    };
    let written = Written { accepted: told.len(), dashboard: stored };
    let watermarks = told.into_iter().map(watermark).collect::<Result<_, _>>();
    let watermarks = watermarks.map_err(|error: Error| CallError::unreadable(&error))?;
    written::answer(&ConfirmedTaken { written, watermarks })
}

/// Whether one message tells of all that a processor has of a producer: then nothing has to be looked up for the answer.
fn is_all(told: &ProducerConfirmed) -> bool {
    told.confirmed.above.len() < CONFIRMED_RUNS_MAX
}
