//! `/api/audit`: the action log, and how calls add to it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::dashboard::answer::{CallError, CallResult, json, quote};
use crate::dashboard::app::App;
use crate::dashboard::operation::{JSON, Operation, PLAIN, of};
use crate::dashboard::query::Call;
use crate::dashboard::store::LoggedAction;
use crate::http::Request;
use crate::runtime::clock::unix_ms;

/// The longest target that is kept, in characters: it quotes what was sent.
const TARGET_MAX: usize = 300;

pub(in super::super) const LIST: Operation = Operation {
    id: "getAudit",
    summary: "Who did what to the queue",
    success: "the newest 100 lines, newest first",
    media: &[(JSON, of::<ActionLog>)],
    ..PLAIN
};

/// The newest lines of the action log.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct ActionLog {
    /// Newest first.
    audit: Vec<LoggedAction>,
}

pub(in super::super) fn list(app: &App, _call: Call<'_>) -> CallResult {
    let audit = app.store.actions().map_err(|error| CallError::unreadable(&error))?;
    json(&ActionLog { audit })
}

/// A line of now.
pub(super) fn line(request: &Request, action: &str, target: &str, outcome: &str) -> LoggedAction {
    LoggedAction {
        at: unix_ms(),
        peer: request.peer.map_or_else(String::new, |peer| peer.to_string()),
        action: action.to_owned(),
        target: target.chars().take(TARGET_MAX).collect(),
        outcome: outcome.to_owned(),
    }
}

/// Keeps a line, and tells the operator's log.
pub(super) fn log(app: &App, line: LoggedAction) -> Result<(), CallError> {
    let LoggedAction { peer, action, target, outcome, .. } = &line;
    log::info!("{peer} asked to {action} {}: {}", quote(target), quote(outcome));
    keep(app, line)
}

/// Keeps a line.
pub(super) fn keep(app: &App, line: LoggedAction) -> Result<(), CallError> {
    app.store.log_action(line).map_err(|reason| CallError::unavailable(&*reason))
}
