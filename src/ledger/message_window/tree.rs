//! A set of message keys whose IDs are numbers, made for such as grow with time (pure).
//!
//! A B-tree of two levels that remembers where it was last: a key that comes nearly in order is appended to a leaf that is
//! in the cache, and none that comes in any order costs more than a search.

use std::collections::BTreeMap;

use super::leaf::{Inserted, LEAF_MAX, Leaf, LeafPosition, RankedKey};
use crate::ledger::message_key::IdClock;

/// Bytes that a leaf takes beside its keys: itself, and its place in the index.
const LEAF_BYTES: usize = 160;

/// Leaves that are remembered, for as many nsqds.
const HINTS: usize = 16;

/// An exact set of keys, each an ID and a timestamp in ns since the Unix epoch, or none.
///
/// Costs 9 to 10 bytes a key where they come in order, and at most 36: each node has leaves of its own, and they are at
/// least half full but for its last.
#[derive(Debug, Default)]
pub(super) struct KeyTree {
    /// The first key's: in its order, keys of nsqds or of the broker are the highest of theirs when they come.
    clock: IdClock,
    leaves: Vec<BoundedLeaf>,
    /// By the lowest key that it may hold: each leaf's place in `leaves`.
    index: BTreeMap<RankedKey, u32>,
    /// Places in `leaves`, by node and time.
    hints: [u32; HINTS],
    len: usize,
    /// Of the leaves' keys.
    key_bytes: usize,
}

/// A leaf, and which keys it may hold.
#[derive(Debug)]
struct BoundedLeaf {
    first: RankedKey,
    last: RankedKey,
    leaf: Leaf,
}

impl KeyTree {
    /// How many keys.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        self.key_bytes + self.leaves.len() * LEAF_BYTES
    }

    /// Whether the key is there, its timestamp or none.
    pub(super) fn contains(&mut self, id: u64, timestamp_ns: Option<i64>) -> bool {
        let key = RankedKey::new(self.clock.rank(id), timestamp_ns);
        self.place(key).is_some_and(|place| self.leaves[place].leaf.contains(key))
    }

    /// Whether there is a key of this ID, with whatever timestamp or none.
    pub(super) fn contains_id(&self, id: u64) -> bool {
        let lowest = RankedKey::new(self.clock.rank(id), None);
        let before = self.index.range(..=lowest).next_back();
        let from = before.map_or(lowest, |(first, _)| *first);
        // No leaf is empty: it is in this one, or the first of the next.
        let mut leaves = self.index.range(from..).map(|(_, place)| &self.leaves[*place as usize]);
        let found = leaves.find_map(|bounded| bounded.leaf.first_from(lowest));
        found.is_some_and(|found| found.rank() == lowest.rank())
    }

    /// Adds a key; false if it is there.
    pub(super) fn insert(&mut self, id: u64, timestamp_ns: Option<i64>) -> bool {
        if self.len == 0 {
            self.clock = IdClock::of(id, timestamp_ns);
        }
        let key = RankedKey::new(self.clock.rank(id), timestamp_ns);
        let of_node = key.node_keys();
        let Some(place) = self.place(key) else {
            self.add_leaf(*of_node.start(), *of_node.end(), Leaf::new(key, self.clock));
            self.len += 1;
            return true;
        };
        let BoundedLeaf { last, leaf, .. } = &mut self.leaves[place];
        let position = if last == of_node.end() { LeafPosition::Last } else { LeafPosition::Inner };
        let bytes = leaf.bytes();
        let inserted = leaf.insert(key, position);
        // One that is full may have become wide all the same.
        self.key_bytes = self.key_bytes + leaf.bytes() - bytes;
        match inserted {
            Inserted::Present => return false,
            Inserted::Added => {}
            Inserted::Full(at) => self.insert_into_full(place, at, key, position),
        }
        self.len += 1;
        true
    }

    /// Splits a full leaf and adds the key, which would stand at `at` of it.
    fn insert_into_full(
        &mut self,
        place: usize,
        at: usize,
        key: RankedKey,
        position: LeafPosition,
    ) {
        let BoundedLeaf { last, leaf, .. } = &mut self.leaves[place];
        let bytes = leaf.bytes();
        // A node's last leaf is split where keys come: it stays full behind them. Any other in halves, so that nobody
        // who chooses the keys makes many small ones.
        let is_at_end = position == LeafPosition::Last && at >= LEAF_MAX / 2;
        let (first, upper) = match is_at_end {
            true if at == leaf.len() => (key, Leaf::new(key, self.clock)),
            true => leaf.split_off(at),
            false => leaf.split_off(LEAF_MAX / 2),
        };
        let upper_last = std::mem::replace(last, first.before());
        self.key_bytes = self.key_bytes + leaf.bytes() - bytes;
        self.add_leaf(first, upper_last, upper);
        if first != key {
            let to = if key < first { place } else { self.leaves.len() - 1 };
            let leaf = &mut self.leaves[to].leaf;
            let bytes = leaf.bytes();
            let inserted = leaf.insert(key, LeafPosition::Inner);
            debug_assert_eq!(inserted, Inserted::Added);
            self.key_bytes = self.key_bytes + leaf.bytes() - bytes;
        }
    }

    fn add_leaf(&mut self, first: RankedKey, last: RankedKey, leaf: Leaf) {
        self.key_bytes += leaf.bytes();
        self.index.insert(first, self.leaves.len() as u32);
        self.leaves.push(BoundedLeaf { first, last, leaf });
    }

    /// The place of the leaf that may hold a key; `None` while its node has none.
    fn place(&mut self, key: RankedKey) -> Option<usize> {
        // 16 ms: nsqds that share a node do not often write at the same time.
        let time = match self.clock {
            IdClock::Nsqd => key.rank() >> 16,
            IdClock::Broker => key.rank() >> 24,
        };
        let hint = &mut self.hints[key.node().wrapping_add(time) as usize % HINTS];
        let known = self.leaves.get(*hint as usize)?;
        if known.first <= key && key <= known.last {
            return Some(*hint as usize);
        }
        let (_, place) = self.index.range(..=key).next_back()?;
        let is_its = key <= self.leaves[*place as usize].last;
        is_its.then(|| {
            *hint = *place;
            *place as usize
        })
    }

    /// The leaves in order.
    #[cfg(test)]
    pub(super) fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.index.values().map(|place| &self.leaves[*place as usize].leaf)
    }
}
