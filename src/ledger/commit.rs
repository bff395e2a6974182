//! What a commit takes and what it gives (pure).

use std::collections::HashMap;

use uuid::Uuid;

use super::counters::Counters;
use super::message_key::MessageKey;
use super::message_parts::PartOf;
use crate::model::play::{Play, Rejection};
use crate::model::video_id::VideoId;

/// What one batch of messages brought, or some of it: what one message brought is together.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// The plays.
    pub plays: Vec<ArrivedPlay>,
    /// The bodies that are none.
    pub rejected: Vec<DeadLetter>,
}

impl Arrivals {
    /// How many of both.
    pub fn len(&self) -> usize {
        self.plays.len() + self.rejected.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The producers of its plays.
    pub(super) fn producers(&self) -> impl Iterator<Item = Uuid> {
        self.plays.iter().filter_map(|arrived| Some(arrived.play.identity?.producer))
    }
}

/// A play, and how it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrivedPlay {
    /// The play.
    pub play: Play,
    /// The message that it came in; or what stands for the play where its site has given it an id.
    pub message: MessageKey,
    /// Of which message it is a part.
    pub part_of: PartOf,
    /// How often nsqd has delivered that message, this time included.
    pub attempts: u16,
    /// When it was played, in ns since the Unix epoch; 0: nobody says so.
    pub played_at_ns: u64,
    /// From when on it waited to be counted, in ns since the Unix epoch; `None` where no time is to be believed.
    pub waited_from_ns: Option<u64>,
}

impl ArrivedPlay {
    /// A play that comes for the first time, and whose time is believed.
    pub fn new(play: Play, message: MessageKey) -> Self {
        let waited_from_ns = play.enqueued_at_ns;
        let played_at_ns = waited_from_ns.unwrap_or(0);
        let part_of = PartOf::Alone;
        Self { play, message, part_of, attempts: 1, played_at_ns, waited_from_ns }
    }
}

/// A body that is no play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The address of the nsqd it came from.
    pub nsqd: String,
    /// Its message.
    pub message: MessageKey,
    /// Of which message it is a part.
    pub part_of: PartOf,
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
    /// What else is worth telling.
    pub noticed: Noticed,
}

/// What a commit came across and no ledger keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noticed {
    /// Plays without an identity, counted although their messages had been delivered before and may have been forgotten:
    /// so many may be counted twice.
    pub redelivered_unknown: u64,
    /// By producer: plays dropped for their number, that are perhaps no copies.
    pub reused: HashMap<Uuid, ReusedNumbers>,
}

/// Plays whose number had been counted before, perhaps for another play.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReusedNumbers {
    /// Surely for another: of another video.
    pub other_video: u64,
    /// In a message of their own, delivered for the first time and not marked as resent, that cannot be told to be copies.
    pub unproven: u64,
}

impl ReusedNumbers {
    /// Both.
    pub fn sum(&self) -> u64 {
        self.other_video.saturating_add(self.unproven)
    }

    /// Adds more.
    pub fn add(&mut self, more: &Self) {
        self.other_video = self.other_video.saturating_add(more.other_video);
        self.unproven = self.unproven.saturating_add(more.unproven);
    }
}

/// By how much one video's count has grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoDelta {
    /// The video.
    pub video_id: VideoId,
    /// Plays more.
    pub plays: u64,
    /// When the newest of them was played, in ms since the Unix epoch; 0: none said so.
    pub last_played_at: u64,
}
