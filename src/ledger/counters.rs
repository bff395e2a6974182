//! What has come, counted by outcome (pure).

use super::dedupe::Seen;
use crate::model::play::Play;
use crate::model::video::MAX_PLAYS;

/// What has come in all, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Plays counted.
    pub counted: u64,
    /// Of those, plays that only the window of message IDs protects from being counted twice.
    pub by_message: u64,
    /// Of those, plays that their producer had sent before in vain.
    pub recovered: u64,
    /// Messages whose play had been counted before.
    pub duplicates: u64,
    /// Of those, messages that named another video than the play that was counted.
    pub conflicting: u64,
    /// Bodies that were no play.
    pub rejected: u64,
}

impl Counters {
    pub(super) fn fields(&self) -> [u64; 6] {
        let Self { counted, by_message, recovered, duplicates, conflicting, rejected } = *self;
        [counted, by_message, recovered, duplicates, conflicting, rejected]
    }

    pub(super) fn from_fields(fields: [u64; 6]) -> Self {
        let [counted, by_message, recovered, duplicates, conflicting, rejected] = fields;
        Self { counted, by_message, recovered, duplicates, conflicting, rejected }
    }

    /// Counts a play by how it was seen; true if it is new.
    pub(super) fn count(&mut self, seen: Seen, play: &Play) -> bool {
        let is_new = matches!(seen, Seen::New | Seen::NewByMessage);
        self.counted += u64::from(is_new);
        self.by_message += u64::from(seen == Seen::NewByMessage);
        self.recovered += u64::from(is_new && play.resent);
        self.duplicates += u64::from(!is_new);
        self.conflicting += u64::from(seen == Seen::Conflicting);
        is_new
    }

    /// Whether so many more messages can be counted: no field goes beyond what every part can say.
    pub(super) fn has_room(&self, messages: u64) -> bool {
        self.fields()
            .iter()
            .all(|field| field.checked_add(messages).is_some_and(|sum| sum <= MAX_PLAYS))
    }

    /// The sum, field by field. None goes near the end where `Counters::has_room` is asked.
    pub fn add(&mut self, more: &Self) {
        let (sum, more) = (self.fields(), more.fields());
        *self =
            Self::from_fields(std::array::from_fn(|field| sum[field].saturating_add(more[field])));
    }
}
