//! The period that a call is about (pure).

use crate::dashboard::answer::CallError;
use crate::dashboard::query::{Call, ChoiceParam, MomentParam};
use crate::dashboard::store::Scale;
use crate::model::unix_time::UnixMs;

/// The period's beginning.
pub(super) static FROM: MomentParam = MomentParam { name: "from", about: "begin of the period" };

/// The period's end.
pub(super) static TO: MomentParam =
    MomentParam { name: "to", about: "its end, not included; now by default" };

/// How long a point of a series is.
pub(super) static SCALE: ChoiceParam<Scale> = ChoiceParam {
    name: "scale",
    about: "how long a point is; days are UTC",
    values: &[("hour", Scale::Hour), ("minute", Scale::Minute), ("day", Scale::Day)],
    allowed: "minute, hour or day",
};

/// `from` and `to`; without them the time up to `now`, `length_ms` long.
pub(super) fn read(
    call: Call<'_>,
    now: UnixMs,
    length_ms: i64,
) -> Result<(UnixMs, UnixMs), CallError> {
    let to = TO.read(call)?.unwrap_or(now);
    let default = || UnixMs(to.0.saturating_sub(length_ms).max(0));
    let from = FROM.read(call)?.unwrap_or_else(default);
    if from >= to {
        let reason = format!("from must be before to: {} is not before {}", from.0, to.0);
        return Err(CallError::bad_request(reason));
    }
    Ok((from, to))
}
