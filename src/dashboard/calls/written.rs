//! What a write is answered (pure).

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::dashboard::answer::CallResult;
use crate::http::Response;

/// A message was taken.
#[derive(Serialize, JsonSchema)]
pub(super) struct Written {
    /// How many of its parts.
    #[schemars(range(min = 1))]
    pub(super) accepted: usize,
    /// Which database took it: another one after each reset.
    pub(super) dashboard: Uuid,
}

/// The answer to a write.
pub(super) fn answer(written: &impl Serialize) -> CallResult {
    Ok(Response::json(200, written))
}
