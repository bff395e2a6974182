//! One video's count, as it is published and as it is kept (pure).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The most videos that are published in one message.
pub const MAX_COUNTS: usize = 20;

/// The largest count: the largest integer that a browser's JSON parser keeps exactly.
pub const MAX_PLAYS: u64 = (1 << 53) - 1;

/// One video's whole count at one processor; this is its JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VideoCount {
    /// The video.
    pub video_id: Uuid,
    /// All its plays that this processor counted, at most [`MAX_PLAYS`].
    pub plays: u64,
    /// When its newest play was enqueued, in ms since the Unix epoch; absent if no play said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_played_at: Option<u64>,
}

/// One video as the ledger has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoState {
    /// The video.
    pub video_id: Uuid,
    /// Its plays.
    pub plays: u64,
    /// How many of them were published to the dashboard.
    pub published: u64,
    /// When the newest was enqueued, in ms since the Unix epoch; 0: none said so.
    pub last_played_at: u64,
}
