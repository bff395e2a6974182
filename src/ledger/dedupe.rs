//! Which plays are counted already (pure).

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use nsq_protocol::MessageId;
use uuid::Uuid;

use super::seq_set::SeqSet;
use crate::play::PlayIdentity;

/// Producers whose plays are told apart by their identity. Each start of a producer is one; a stranger who draws a new
/// id for every play must not fill the memory.
const MAX_PRODUCERS: usize = 100_000;

/// Message IDs that are remembered for plays without an identity; at least that many, at most twice as many. About
/// 80 MB at the most.
const MESSAGE_WINDOW: usize = 1 << 20;

/// A message as one nsqd knows it: two nsqds may use the same ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageKey {
    /// Which nsqd, as a hash of its address.
    pub nsqd: u64,
    /// Its ID there.
    pub id: MessageId,
}

/// What is known of a play that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was not counted before.
    New,
    /// It was: the same producer and number, or the same message.
    Duplicate,
}

/// The plays that are counted, by identity: exact, without a time window. For plays without one, the newest messages.
#[derive(Debug)]
pub struct Dedupe {
    max_producers: usize,
    message_window: usize,
    producers: HashMap<Uuid, SeqSet, RandomState>,
    /// The newest message IDs, and those before them.
    messages: HashSet<MessageKey, RandomState>,
    older_messages: HashSet<MessageKey, RandomState>,
    /// Plays that only the window of messages protects from being counted twice.
    by_message_only: u64,
}

impl Default for Dedupe {
    fn default() -> Self {
        Self::with_limits(MAX_PRODUCERS, MESSAGE_WINDOW)
    }
}

impl Dedupe {
    /// Nothing is counted.
    pub fn new() -> Self {
        Self::default()
    }

    fn with_limits(max_producers: usize, message_window: usize) -> Self {
        Self {
            max_producers,
            message_window,
            producers: HashMap::default(),
            messages: HashSet::default(),
            older_messages: HashSet::default(),
            by_message_only: 0,
        }
    }

    /// Remembers a play, which came with that message.
    pub fn insert(&mut self, identity: Option<PlayIdentity>, message: MessageKey) -> Seen {
        let fresh = match identity {
            Some(PlayIdentity { producer, seq }) if self.knows(&producer) => {
                self.producers.entry(producer).or_default().insert(seq)
            }
            _ => self.insert_message(message),
        };
        if fresh { Seen::New } else { Seen::Duplicate }
    }

    /// Plays that only the window of messages protects from being counted twice.
    pub fn by_message_only(&self) -> u64 {
        self.by_message_only
    }

    /// The number below which every play of that producer is counted.
    pub fn watermark(&self, producer: &Uuid) -> u64 {
        self.producers.get(producer).map_or(0, SeqSet::watermark)
    }

    fn knows(&self, producer: &Uuid) -> bool {
        self.producers.len() < self.max_producers || self.producers.contains_key(producer)
    }

    fn insert_message(&mut self, message: MessageKey) -> bool {
        self.by_message_only += 1;
        if self.older_messages.contains(&message) || !self.messages.insert(message) {
            return false;
        }
        if self.messages.len() >= self.message_window {
            self.older_messages = std::mem::take(&mut self.messages);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u64) -> MessageKey {
        MessageKey { nsqd: 1, id: MessageId::from_u64(id) }
    }

    #[test]
    fn an_identity_counts_once_whatever_message_brings_it() {
        let mut dedupe = Dedupe::new();
        let identity =
            |producer, seq| Some(PlayIdentity { producer: Uuid::from_u128(producer), seq });
        assert_eq!(dedupe.insert(identity(1, 0), message(1)), Seen::New);
        assert_eq!(dedupe.insert(identity(1, 0), message(2)), Seen::Duplicate);
        assert_eq!(dedupe.insert(identity(1, 1), message(1)), Seen::New);
        assert_eq!(dedupe.insert(identity(2, 0), message(1)), Seen::New);
        assert_eq!((dedupe.watermark(&Uuid::from_u128(1)), dedupe.by_message_only()), (2, 0));
    }

    #[test]
    fn without_an_identity_the_newest_messages_count_once() {
        let window = 1000;
        let mut dedupe = Dedupe::with_limits(10, window as usize);
        assert!((0..window).all(|id| dedupe.insert(None, message(id)) == Seen::New));
        assert_eq!(dedupe.insert(None, message(0)), Seen::Duplicate);
        assert!((window..2 * window).all(|id| dedupe.insert(None, message(id)) == Seen::New));
        assert_eq!(dedupe.insert(None, message(window)), Seen::Duplicate);
        assert_eq!(dedupe.by_message_only(), 2 * window + 2);
        assert!(dedupe.messages.len() + dedupe.older_messages.len() <= 2 * window as usize);
    }

    #[test]
    fn strangers_with_ever_new_ids_do_not_fill_the_memory() {
        let mut dedupe = Dedupe::with_limits(100, 1000);
        for producer in 0..200 {
            let identity = PlayIdentity { producer: Uuid::from_u128(producer.into()), seq: 0 };
            assert_eq!(dedupe.insert(Some(identity), message(producer)), Seen::New);
            assert_eq!(dedupe.insert(Some(identity), message(producer)), Seen::Duplicate);
        }
        assert_eq!(dedupe.producers.len(), 100);
    }
}
