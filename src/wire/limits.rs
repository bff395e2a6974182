//! What every message's check shares: why one is refused, and the limit of its numbers (pure).

use std::fmt;

use crate::model::unix_time::UnixMs;
use crate::model::video::MAX_PLAYS;

/// Why a message is not what it must be; one line, which may quote what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(String);

impl Invalid {
    /// For that reason.
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

/// Refuses the first of `numbers` that is over [`MAX_PLAYS`]; `of` says of what they are, as in `5 messages`.
pub(super) fn check_numbers(
    numbers: impl IntoIterator<Item = u64>,
    of: &str,
) -> Result<(), Invalid> {
    match numbers.into_iter().find(|number| *number > MAX_PLAYS) {
        Some(most) => Err(Invalid(format!("{most} {of} over the limit of {MAX_PLAYS}"))),
        None => Ok(()),
    }
}

/// Whether a moment is one that the parts tell each other: not before the epoch, and exact in a browser.
pub(super) fn is_moment(moment: UnixMs) -> bool {
    u64::try_from(moment.0).is_ok_and(|ms| ms <= MAX_PLAYS)
}
