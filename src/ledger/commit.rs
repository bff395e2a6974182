//! What a commit takes and what it gives (pure).

use uuid::Uuid;

use super::counters::Counters;
use super::message_key::MessageKey;
use crate::model::play::{Play, Rejection};

/// What one batch of messages brought.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// The plays, each with its message.
    pub plays: Vec<(Play, MessageKey)>,
    /// The bodies that are none.
    pub rejected: Vec<DeadLetter>,
}

/// A body that is no play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The address of the nsqd it came from.
    pub nsqd: String,
    /// Its message.
    pub message: MessageKey,
    /// Why it is none.
    pub reason: Rejection,
    /// Bytes of the body as it was published.
    pub size: usize,
    /// The body, whole or its beginning.
    pub body: Vec<u8>,
}

/// What a commit has counted.
#[derive(Debug)]
pub struct Committed {
    /// By outcome, in this commit.
    pub counters: Counters,
    /// By how much each video's count has grown.
    pub video_deltas: Vec<VideoDelta>,
}

/// By how much one video's count has grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoDelta {
    /// The video.
    pub video_id: Uuid,
    /// Plays more.
    pub plays: u64,
    /// When the newest of them was enqueued, in ms since the Unix epoch; 0: none said so.
    pub last_played_at: u64,
}
