//! How a write that was done is answered (pure).

use serde::Serialize;

use crate::dashboard::answer::CallResult;
use crate::http::Response;

/// The answer to a write.
pub(super) fn answer(written: &impl Serialize) -> CallResult {
    Ok(Response::json(200, written))
}
