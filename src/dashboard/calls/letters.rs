//! `/api/dead-letters`: the newest messages that were no play, as processors tell them.

use super::written;
use crate::dashboard::answer::{CallResult, json};
use crate::dashboard::app::App;
use crate::dashboard::body::parse;
use crate::dashboard::live::LettersShown;
use crate::dashboard::operation::{JSON, Operation, PLAIN, of};
use crate::dashboard::query::{Call, NumberParam};
use crate::wire::{LettersUpdate, Written};

static LIMIT: NumberParam =
    NumberParam { name: "limit", about: "letters", range: (1, 100), default: Some(20) };

static OFFSET: NumberParam = NumberParam {
    name: "offset",
    about: "newer letters to skip",
    range: (0, 100_000),
    default: Some(0),
};

pub(in super::super) const LIST: Operation = Operation {
    id: "getDeadLetters",
    summary: "The newest messages that were no play: at most 20 of each processor since its start",
    description: "Newest first. A processor's ledger keeps more: `playcounts dead-letters` lists them.",
    parameters: &[&LIMIT, &OFFSET],
    success: "a page of them",
    media: &[(JSON, of::<LettersShown>)],
    ..PLAIN
};

pub(in super::super) const TELL: Operation = Operation {
    id: "tellDeadLetters",
    summary: "Takes the newest dead letters of a processor, in place of those it told before",
    description: "Those of one that has not reported are not kept.",
    body: Some(of::<LettersUpdate>),
    success: "taken",
    media: &[(JSON, of::<Written>)],
    ..PLAIN
};

pub(in super::super) fn list(app: &App, call: Call<'_>) -> CallResult {
    let (limit, offset) = (LIMIT.read_u32(call)?, OFFSET.read_u32(call)?);
    json(&app.live.lock().letters_page(offset as usize, limit as usize))
}

pub(in super::super) fn tell(app: &App, call: Call<'_>) -> CallResult {
    let update: LettersUpdate = parse(&call.request.body)?;
    update.check()?;
    let LettersUpdate { processor, letters } = update;
    app.live.lock().letters(processor, letters);
    written::answer(&Written { accepted: 1, dashboard: app.store.id() })
}
