//! The newest messages whose plays have no identity (pure).

mod leaf;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeSet;

use super::message_key::MessageKey;
use tree::KeyTree;

/// An exact set of the newest messages: at least `window` of them, at most twice as many.
///
/// A message of nsqd costs 9 to 10 bytes: about 20 MB at the most for a window of 2^20. Where IDs are no numbers, or
/// numbers in an order that is meant to do harm, it is at most 50, and 100 MB.
#[derive(Debug)]
pub(super) struct MessageWindow {
    window: usize,
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
}

impl MessageWindow {
    /// Remembers at least the newest `window`.
    pub(super) fn new(window: usize) -> Self {
        Self { window, newer: KeyGeneration::default(), older: KeyGeneration::default() }
    }

    /// Remembers a message; false if it was remembered. One without a timestamp is one with any timestamp.
    pub(super) fn insert(&mut self, key: MessageKey) -> bool {
        let number = key.id().to_u64();
        if self.older.contains(key, number) || !self.newer.insert(key, number) {
            return false;
        }
        if self.newer.len() >= self.window {
            self.older = std::mem::take(&mut self.newer);
        }
        true
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.newer.len() + self.older.len()
    }
}

impl KeyGeneration {
    fn len(&self) -> usize {
        self.numbers.len() + self.others.len()
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
        self.undated += usize::from(is_undated);
        match number {
            Some(id) => self.numbers.insert(id, key.timestamp_ns()),
            None => self.others.insert(key),
        }
    }
}
