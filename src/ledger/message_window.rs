//! The newest messages whose plays have no identity, and the newest plays that are known by an id of their site's (pure).

mod leaf;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeSet;

use super::message_key::MessageKey;
use tree::KeyTree;

/// Bytes that a message of nsqd is taken to cost: it is 9 to 10, and 15 where three nsqds have one node's number.
const KEY_BYTES: u64 = 16;

/// Bytes of a key whose ID is no number, with its share of a tree.
const OTHER_KEY_BYTES: usize = 50;

/// Memory for the messages of plays without an identity: how far back a message that comes again is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageBudget {
    bytes: u64,
}

/// How large a window is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageWindowSize {
    /// Messages that are remembered.
    pub messages: u64,
    /// Bytes of memory.
    pub bytes: u64,
    /// When nsqd took the first of them, in ns since the Unix epoch; `None` while there is none or it does not say.
    pub oldest_ns: Option<i64>,
}

impl Default for MessageBudget {
    fn default() -> Self {
        Self::from_mb(Self::DEFAULT_MB)
    }
}

impl MessageBudget {
    /// The default, in MB of 2^20 bytes: at least a million messages.
    pub const DEFAULT_MB: u64 = 32;

    /// The largest, in MB of 2^20 bytes. A start reads up to 134 million messages then.
    pub const MAX_MB: u64 = 2048;

    /// So many MB of 2^20 bytes, at most [`MessageBudget::MAX_MB`].
    pub fn from_mb(mb: u64) -> Self {
        Self { bytes: mb.min(Self::MAX_MB) << 20 }
    }

    /// Messages that are remembered at least, where they are of nsqds: the window has twice as many before it forgets
    /// half of them.
    pub(super) fn messages(self) -> u64 {
        self.bytes / (2 * KEY_BYTES)
    }
}

/// An exact set of the newest messages: at least `window` of them, at most twice as many, unless their keys cost more than
/// those of nsqd do. Then it is as many as have room.
///
/// A message of nsqd costs 9 to 10 bytes, so that seldom more than two thirds of the budget are used. Where IDs are no
/// numbers, or numbers in an order that is meant to do harm, it is at most 50.
#[derive(Debug)]
pub(super) struct MessageWindow {
    window: usize,
    /// The most bytes of a generation; and one key more.
    generation_bytes: usize,
    newer: KeyGeneration,
    /// Those before them.
    older: KeyGeneration,
}

/// Keys that came after each other.
#[derive(Debug, Default)]
struct KeyGeneration {
    /// IDs that are numbers, as nsqd's are.
    numbers: KeyTree,
    others: BTreeSet<MessageKey>,
    /// How many have no timestamp, and so stand for all of their ID.
    undated: usize,
    /// The timestamp of the key that came first.
    first_ns: Option<i64>,
}

impl MessageWindow {
    /// Remembers as many as have room.
    pub(super) fn new(budget: MessageBudget) -> Self {
        Self::of(budget.messages() as usize, budget.bytes as usize / 2)
    }

    /// Remembers at least the newest `window`, if so many have room in a generation.
    pub(super) fn of(window: usize, generation_bytes: usize) -> Self {
        let (newer, older) = (KeyGeneration::default(), KeyGeneration::default());
        Self { window, generation_bytes, newer, older }
    }

    /// Remembers a message; false if it was remembered. One without a timestamp is one with any timestamp.
    pub(super) fn insert(&mut self, key: MessageKey) -> bool {
        let number = key.id().to_u64();
        if self.older.contains(key, number) || !self.newer.insert(key, number) {
            return false;
        }
        if self.newer.len() >= self.window || self.newer.bytes() >= self.generation_bytes {
            self.older = std::mem::take(&mut self.newer);
        }
        true
    }

    /// How large it is.
    pub(super) fn size(&self) -> MessageWindowSize {
        let Self { newer, older, .. } = self;
        let first = if older.len() > 0 { older } else { newer };
        MessageWindowSize {
            messages: (newer.len() + older.len()) as u64,
            bytes: (newer.bytes() + older.bytes()) as u64,
            oldest_ns: first.first_ns,
        }
    }
}

impl KeyGeneration {
    fn len(&self) -> usize {
        self.numbers.len() + self.others.len()
    }

    fn bytes(&self) -> usize {
        self.numbers.bytes() + self.others.len() * OTHER_KEY_BYTES
    }

    /// Whether the key is there, or what stands for it. `number` is its ID's.
    fn contains(&mut self, key: MessageKey, number: Option<u64>) -> bool {
        match (number, key.timestamp_ns()) {
            (Some(id), None) => self.numbers.contains_id(id),
            (Some(id), stamp) => {
                self.numbers.contains(id, stamp)
                    || self.undated > 0 && self.numbers.contains(id, None)
            }
            (None, None) => {
                self.others.range(key..).next().is_some_and(|found| found.id() == key.id())
            }
            (None, Some(_)) => {
                let undated = MessageKey::undated(key.id());
                self.others.contains(&key) || self.undated > 0 && self.others.contains(&undated)
            }
        }
    }

    /// False if it is there, or what stands for it.
    fn insert(&mut self, key: MessageKey, number: Option<u64>) -> bool {
        let is_undated = key.timestamp_ns().is_none();
        if (is_undated || self.undated > 0) && self.contains(key, number) {
            return false;
        }
        if self.len() == 0 {
            self.first_ns = key.timestamp_ns().filter(|_| !key.is_site_play());
        }
        self.undated += usize::from(is_undated);
        match number {
            Some(id) => self.numbers.insert(id, key.timestamp_ns()),
            None => self.others.insert(key),
        }
    }
}
