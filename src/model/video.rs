//! One video's count, as it is published and as it is kept (pure).

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::model::unix_time::UnixMs;
use crate::model::video_id::VideoId;

/// The most videos that one message to the dashboard may carry.
pub const MAX_COUNTS: usize = 20;

/// The largest count: the largest integer that a browser's JSON parser keeps exactly.
pub const MAX_PLAYS: u64 = (1 << 53) - 1;

/// One video's whole count at one processor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VideoCount {
    /// The video.
    pub video_id: VideoId,
    /// All its plays that this processor counted.
    #[schemars(range(max = MAX_PLAYS))]
    pub plays: u64,
    /// When its newest play was enqueued, in ms since the Unix epoch; absent if no play said so.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_moment")]
    #[schemars(range(max = MAX_PLAYS))]
    pub last_played_at: Option<UnixMs>,
}

/// A moment that is too large for any calendar is left to the check of the message, which names the field.
fn read_moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UnixMs>, D::Error> {
    let ms = Option::<u64>::deserialize(deserializer)?;
    Ok(ms.map(|ms| UnixMs(i64::try_from(ms).unwrap_or(i64::MAX))))
}

/// One video as the ledger has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoState {
    /// The video.
    pub video_id: VideoId,
    /// Its plays.
    pub plays: u64,
    /// How many of them were published to the first dashboard, as far as that is kept.
    pub published: u64,
    /// When the newest was enqueued, in ms since the Unix epoch; 0: none said so.
    pub last_played_at: u64,
}
