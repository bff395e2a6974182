//! Why a ledger that is elsewhere takes nothing: it is away, or counts for another (pure).

/// The ledger is where it cannot be reached now, such as a database that is down: nothing was counted, and the same may be tried
/// again. In an [`anyhow::Error`] it is found by [`LedgerAway::of`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LedgerAway(String);

impl LedgerAway {
    /// For that reason, which is one line: what is away, and what to do.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// Why, in one line, if that is what the error says, whatever was said before it.
    pub fn of(error: &anyhow::Error) -> Option<String> {
        error.downcast_ref::<Self>().map(|_| format!("{error:#}"))
    }
}

/// Another processor has taken over what this one counted under: its commits are refused from now on, and what they would have
/// counted goes to others. It may start anew, and is another one then, or the same again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this processor was away for longer than its lease, and another one has taken over its part of the shared ledger"
)]
pub struct LedgerFenced;
