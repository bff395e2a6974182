//! How a call is answered: with what it asked for, or with a status and the reason (pure).

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::store::{DamagedTable, NotStored};
use crate::http::Response;
use crate::wire::Invalid;

/// The longest reason of a refusal that quotes what was sent, in characters.
const REASON_MAX: usize = 300;

/// The most of a stranger's text that is quoted, in characters.
const QUOTE_MAX: usize = 80;

/// What a call comes to.
pub(super) type CallResult = Result<Response, CallError>;

/// Every status of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    BadRequest = 400,
    Unauthorized = 401,
    Forbidden = 403,
    NotFound = 404,
    MethodNotAllowed = 405,
    Conflict = 409,
    TooLarge = 413,
    TooManyRequests = 429,
    Misdirected = 421,
    Damaged = 500,
    BadGateway = 502,
    Unavailable = 503,
}

/// Why a call is not answered with what it asked for. Its body is `{"error":…}`.
#[derive(Debug)]
pub(super) struct CallError {
    status: Status,
    reason: String,
    header: Option<(&'static str, String)>,
}

impl CallError {
    pub(super) fn new(status: Status, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), header: None }
    }

    /// What was sent does not fit. The reason is cut, as it may quote what was sent.
    pub(super) fn bad_request(reason: impl AsRef<str>) -> Self {
        let reason: String = reason.as_ref().chars().take(REASON_MAX).collect();
        Self::new(Status::BadRequest, reason)
    }

    /// It cannot be done now; a client may try again in a second.
    pub(super) fn unavailable(reason: impl Into<String>) -> Self {
        let header = Some(("Retry-After", "1".to_owned()));
        Self { header, ..Self::new(Status::Unavailable, reason) }
    }

    /// The store has not taken something.
    pub(super) fn not_stored(not_stored: NotStored) -> Self {
        match not_stored {
            NotStored::Refused(reason) => Self::new(Status::Conflict, &*reason),
            NotStored::Failed(reason) => Self::unavailable(&*reason),
        }
    }

    /// The store cannot be read, now or, where a file is damaged, at all; the operator's log tells, too.
    pub(super) fn unreadable(error: &anyhow::Error) -> Self {
        log::error!("a request could not be answered: {error:#}");
        let reason = format!("the counts cannot be read: {error:#}");
        if error.is::<DamagedTable>() {
            return Self::new(Status::Damaged, reason);
        }
        Self::unavailable(reason)
    }

    /// No video has that id.
    pub(super) fn no_video(id: impl std::fmt::Display) -> Self {
        Self::new(Status::NotFound, format!("video {id} has no plays"))
    }

    /// Nothing is at a path.
    pub(super) fn nothing_at(path: &str) -> Self {
        Self::new(Status::NotFound, format!("nothing is at {}", quote(path)))
    }

    /// The path takes other methods, which `allow` lists.
    pub(super) fn not_allowed(method: &str, allow: String) -> Self {
        let reason = format!("{} is not allowed here, but {allow}", quote(method));
        let header = Some(("Allow", allow));
        Self { header, ..Self::new(Status::MethodNotAllowed, reason) }
    }

    /// A write without the token.
    pub(super) fn no_token() -> Self {
        let reason = "this call needs `Authorization: Bearer` with the write token";
        let header = Some(("WWW-Authenticate", "Bearer".to_owned()));
        Self { header, ..Self::new(Status::Unauthorized, reason) }
    }

    /// A read of a private dashboard, by whom it does not know.
    pub(super) fn private() -> Self {
        let reason = "this dashboard is private: sign in on its page, or send `Authorization: Bearer` with the read token";
        let header = Some(("WWW-Authenticate", "Bearer".to_owned()));
        Self { header, ..Self::new(Status::Unauthorized, reason) }
    }

    /// Another try of a token, by whom too many were wrong.
    pub(super) fn too_many_guesses(wait: Duration) -> Self {
        let header = Some(("Retry-After", (wait.as_secs() + 1).to_string()));
        let reason = "too many wrong tokens came from your address; try again in a while";
        Self { header, ..Self::new(Status::TooManyRequests, reason) }
    }

    /// Why.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn status(&self) -> Status {
        self.status
    }
}

impl From<Invalid> for CallError {
    fn from(why: Invalid) -> Self {
        Self::bad_request(why.to_string())
    }
}

impl From<CallError> for Response {
    fn from(error: CallError) -> Self {
        let response = Self::error(error.status as u16, &error.reason);
        match error.header {
            Some((name, value)) => response.with_header(name, value),
            None => response,
        }
    }
}

/// The body of every refusal.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(super) struct ErrorBody {
    /// Why, in one line.
    pub(super) error: String,
}

/// The answer to a read: `value` as JSON, which no cache keeps.
pub(super) fn json(value: &impl Serialize) -> CallResult {
    Ok(uncached(Response::json(200, value)))
}

/// An answer that no cache keeps.
pub(super) fn uncached(response: Response) -> Response {
    response.with_header("Cache-Control", "no-store")
}

/// A stranger's text, for an error: quoted, escaped and cut.
pub(super) fn quote(text: &str) -> String {
    let cut: String = text.chars().take(QUOTE_MAX).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_bounded_and_hold_no_control_character() {
        assert_eq!(quote("a\"\n\u{1b}[31m"), r#""a\"\n\u{1b}[31m""#);
        assert_eq!(quote(&"é".repeat(200)).chars().count(), 83);
    }
}
