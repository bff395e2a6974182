//! What a dashboard answers to a message that it took (pure).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The answer to `POST /api/counts`, `/api/confirmed` and `/api/consumption`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Written {
    /// How many parts of the message were taken; 1 at least.
    #[schemars(range(min = 1))]
    pub accepted: usize,
    /// Which database took it: another one after each reset.
    pub dashboard: Uuid,
}
