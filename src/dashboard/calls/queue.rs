//! `/api/queue`: what the nsqds hold, and the few things that can be done to them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::json;

use super::{actions, written};
use crate::dashboard::answer::{self, CallError, CallResult, Status};
use crate::dashboard::app::App;
use crate::dashboard::body::parse;
use crate::dashboard::nsqds::{ActionError, ActionRequest, PeekRequest};
use crate::dashboard::operation::{JSON, Operation, PLAIN, of};
use crate::dashboard::query::Call;
use crate::runtime::clock::unix_ms;

pub(in super::super) const SHOW: Operation = Operation {
    id: "getQueue",
    summary: "The nsqds in use: topics, channels and consumers, with nsqd's own fields, and rates; the nsqlookupds",
    success: "as heard in the last seconds",
    media: &[(JSON, queue_schema)],
    ..PLAIN
};

pub(in super::super) const ACT: Operation = Operation {
    id: "touchQueue",
    summary: "Does something to a topic or channel; needs a write token",
    description: "Tombstone, of a topic only: the nsqlookupds name this nsqd to nobody who asks for it, for a while.",
    body: Some(of::<ActionRequest>),
    success: "done",
    media: &[(JSON, of::<ActionDone>)],
    refusals: &[Status::BadRequest, Status::NotFound, Status::BadGateway, Status::Unavailable],
    ..PLAIN
};

pub(in super::super) const PEEK: Operation = Operation {
    id: "peekQueue",
    summary: "Shows messages of a topic that are published from now on, taking none from its channels",
    description: "Waits for up to 3 s. At most two at a time.",
    body: Some(of::<PeekRequest>),
    success: "those that came",
    media: &[(JSON, peek_schema)],
    refusals: &[
        Status::BadRequest,
        Status::NotFound,
        Status::Conflict,
        Status::BadGateway,
        Status::Unavailable,
    ],
    ..PLAIN
};

/// An action was taken.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct ActionDone {
    /// Always true.
    #[schemars(extend("const" = true))]
    done: bool,
}

/// Written by hand: most of it are nsqd's own fields, whose types belong to a crate that knows nothing of schemas.
fn queue_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["topic", "channel", "nsqds", "left_out", "lookupds", "totals"],
        "properties": {
            "topic": { "type": ["string", "null"], "description": "the topic of the plays; null where no queue is watched" },
            "channel": { "type": ["string", "null"], "description": "the processor's channel" },
            "nsqds": {
                "type": "array",
                "description": "each with its HTTP address, once it told them its tcp_port, hostname and broadcast_address, the error of its last answer, who names it (found_by), and its topics",
                "items": { "type": "object" }
            },
            "left_out": { "type": "integer", "description": "nsqds that are named and not watched: there are too many" },
            "lookupds": {
                "type": "array",
                "description": "each with its address, whether it answers, its last error, how many nsqds it names",
                "items": { "type": "object" }
            },
            "totals": {
                "type": "array",
                "description": "each topic, and each channel of it, summed over the nsqds that answer",
                "items": { "type": "object" }
            }
        }
    })
}

fn peek_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["messages", "waited_ms"],
        "properties": {
            "messages": {
                "type": "array",
                "maxItems": 20,
                "items": {
                    "type": "object",
                    "required": ["id", "published_at", "attempts", "body", "bytes"],
                    "properties": {
                        "id": { "type": "string" },
                        "published_at": { "type": "integer", "description": "ms since the Unix epoch" },
                        "attempts": { "type": "integer", "minimum": 0 },
                        "body": { "type": "string", "description": "its first 4096 bytes; what is not UTF-8 is replaced" },
                        "bytes": { "type": "integer", "minimum": 0, "description": "of the whole body" }
                    }
                }
            },
            "waited_ms": { "type": "integer", "minimum": 0 }
        }
    })
}

impl From<ActionError> for CallError {
    fn from(error: ActionError) -> Self {
        match error {
            ActionError::Invalid(reason) => Self::bad_request(reason),
            ActionError::NotFound(reason) => Self::new(Status::NotFound, reason),
            ActionError::Conflict(reason) => Self::new(Status::Conflict, reason),
            ActionError::Upstream(reason) => Self::new(Status::BadGateway, reason),
            ActionError::Busy(reason) => Self::unavailable(reason),
        }
    }
}

pub(in super::super) fn show(app: &App, _call: Call<'_>) -> CallResult {
    answer::json(&app.watch.show())
}

/// Does something to a topic or channel. With a line before, so that nothing is done that could not be written down,
/// and one behind it.
pub(in super::super) fn act(app: &App, call: Call<'_>) -> CallResult {
    app.guard.check_token_is_set()?;
    let wanted: ActionRequest = parse(&call.request.body)?;
    let action = json!(wanted.action);
    let action = action.as_str().unwrap_or_default();
    let mut line = actions::line(call.request, action, &wanted.target(), "asked");
    actions::keep(app, line.clone())?;
    let done = app.watch.execute(&wanted);
    line.at = unix_ms();
    line.outcome = outcome(&done);
    actions::log(app, line)?;
    done?;
    written::answer(&ActionDone { done: true })
}

/// Shows messages that pass by. One line behind it: it changes nothing, and what could not be written down is not
/// shown.
pub(in super::super) fn peek(app: &App, call: Call<'_>) -> CallResult {
    let wanted: PeekRequest = parse(&call.request.body)?;
    let found = app.watch.peek(&wanted);
    let line = actions::line(call.request, "peek", &wanted.target(), &outcome(&found));
    actions::log(app, line)?;
    answer::json(&found?)
}

/// What the action log says of it.
fn outcome<T>(result: &Result<T, ActionError>) -> String {
    result.as_ref().map_or_else(ActionError::to_string, |_| "done".to_owned())
}
