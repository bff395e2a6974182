//! A short sorted run of message keys, 8 bytes each while their timestamps are what their IDs tell (pure).

use std::ops::RangeInclusive;

use crate::ledger::message_key::IdClock;

/// Keys in one leaf, at most: 1 KiB. More would make an insertion in the middle slow.
pub(super) const LEAF_MAX: usize = 128;

/// Bits of a narrow key for the distance of its timestamp: 67 ms, enough for an nsqd that was held up between the two.
const STAMP_BITS: u32 = 26;

/// Bits for the distance of its rank: 20 hours of one nsqd's node, 4.6 minutes of the embedded broker's.
const RANK_BITS: u32 = 64 - STAMP_BITS;

/// How far below its first key a leaf's keys may lie, ranks and ns: most that come later lie above.
const RANKS_BELOW: u64 = 1 << (RANK_BITS - 4);
const NS_BELOW: i64 = 1 << (STAMP_BITS - 4);

/// The key of a message in the order of its tree: by the rank of its ID, then by its timestamp, none first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RankedKey(u128);

impl RankedKey {
    /// No timestamp is the lowest, which no message has.
    pub(super) fn new(rank: u64, timestamp_ns: Option<i64>) -> Self {
        // The sign is turned, so that the order is that of unsigned numbers.
        let stamp = timestamp_ns.unwrap_or(i64::MIN) as u64 ^ 1 << 63;
        Self(u128::from(rank) << 64 | u128::from(stamp))
    }

    pub(super) fn rank(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// The rank's highest 10 bits: nsqd's node, and nearly always the same for the embedded broker.
    pub(super) fn node(self) -> u64 {
        self.rank() >> 54
    }

    /// All keys of that node.
    pub(super) fn node_keys(self) -> RangeInclusive<Self> {
        const REST: u128 = u128::MAX >> 10;
        Self(self.0 & !REST)..=Self(self.0 | REST)
    }

    fn timestamp_ns(self) -> Option<i64> {
        let stamp = (self.0 as u64 ^ 1 << 63) as i64;
        (stamp != i64::MIN).then_some(stamp)
    }

    /// The key just below; of the lowest itself.
    pub(super) fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// Distinct keys, sorted; at least one.
#[derive(Debug)]
pub(super) struct Leaf {
    frame: LeafBase,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    /// Distances from the frame.
    Narrow(Vec<u64>),
    /// There is one that lies too far from it.
    Wide(Vec<RankedKey>),
}

/// What has become of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    Added,
    /// It was there.
    Present,
    /// It was not, and has no room: it would come before the key at this place.
    Full(usize),
}

/// Whether another leaf of the key's node follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeafPosition {
    Inner,
    Last,
}

impl Leaf {
    /// Of one key, whose rank is of that clock.
    pub(super) fn new(key: RankedKey, clock: IdClock) -> Self {
        let frame = LeafBase::new(key, clock);
        Self { frame, keys: frame.keys(vec![key]) }
    }

    /// How many keys.
    pub(super) fn len(&self) -> usize {
        match &self.keys {
            Keys::Narrow(keys) => keys.len(),
            Keys::Wide(keys) => keys.len(),
        }
    }

    pub(super) fn contains(&self, key: RankedKey) -> bool {
        match &self.keys {
            Keys::Narrow(keys) => {
                self.frame.narrow(key).is_some_and(|narrow| find(keys, narrow).is_ok())
            }
            Keys::Wide(keys) => find(keys, key).is_ok(),
        }
    }

    /// The lowest key from `key` on.
    pub(super) fn first_from(&self, key: RankedKey) -> Option<RankedKey> {
        match &self.keys {
            Keys::Narrow(keys) => {
                keys.iter().map(|narrow| self.frame.key(*narrow)).find(|found| *found >= key)
            }
            Keys::Wide(keys) => keys.get(keys.partition_point(|found| *found < key)).copied(),
        }
    }

    /// Adds a key. The last leaf rather ends half full than becomes wide.
    pub(super) fn insert(&mut self, key: RankedKey, position: LeafPosition) -> Inserted {
        match &mut self.keys {
            Keys::Narrow(keys) => match self.frame.narrow(key) {
                Some(narrow) => insert(keys, narrow),
                None if position == LeafPosition::Last
                    && keys.len() >= LEAF_MAX / 2
                    && keys.last().is_some_and(|last| self.frame.key(*last) < key) =>
                {
                    Inserted::Full(keys.len())
                }
                None => {
                    let frame = self.frame;
                    self.keys = Keys::Wide(keys.iter().map(|key| frame.key(*key)).collect());
                    self.insert(key, position)
                }
            },
            Keys::Wide(keys) => insert(keys, key),
        }
    }

    /// Takes the keys from `at` on away, at least one: the new leaf and its first key.
    pub(super) fn split_off(&mut self, at: usize) -> (RankedKey, Self) {
        match &mut self.keys {
            Keys::Narrow(keys) => {
                let upper = keys.split_off(at);
                keys.shrink_to_fit();
                (self.frame.key(upper[0]), Self { frame: self.frame, keys: Keys::Narrow(upper) })
            }
            Keys::Wide(keys) => {
                let clock = self.frame.clock;
                // Each by itself may be narrow again.
                let of = |keys: Vec<RankedKey>| {
                    let frame = LeafBase::new(keys[0], clock);
                    (keys[0], Self { frame, keys: frame.keys(keys) })
                };
                let upper = of(keys.split_off(at));
                (_, *self) = of(std::mem::take(keys));
                upper
            }
        }
    }

    /// The nodes of the keys.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> Vec<u64> {
        match &self.keys {
            Keys::Narrow(keys) => keys.iter().map(|key| self.frame.key(*key).node()).collect(),
            Keys::Wide(keys) => keys.iter().map(|key| key.node()).collect(),
        }
    }

    /// Bytes set aside for the keys.
    pub(super) fn bytes(&self) -> usize {
        match &self.keys {
            Keys::Narrow(keys) => keys.capacity() * size_of::<u64>(),
            Keys::Wide(keys) => keys.capacity() * size_of::<RankedKey>(),
        }
    }
}

/// Where a key stands, or where it would. Those that come in order are the highest.
fn find<T: Ord + Copy>(keys: &[T], key: T) -> Result<usize, usize> {
    match keys.last() {
        Some(last) if key <= *last => keys.binary_search(&key),
        _ => Err(keys.len()),
    }
}

fn insert<T: Ord + Copy>(keys: &mut Vec<T>, key: T) -> Inserted {
    match find(keys, key) {
        Ok(_) => Inserted::Present,
        Err(at) if keys.len() >= LEAF_MAX => Inserted::Full(at),
        Err(at) => {
            if keys.len() == keys.capacity() {
                // At once: a leaf that grows becomes full as a rule, and many sizes would leave gaps in the memory.
                keys.reserve_exact(LEAF_MAX - keys.len());
            }
            keys.insert(at, key);
            Inserted::Added
        }
    }
}

/// What the distances are from. A narrow key is the rank's above the timestamp's, where 0 is for no timestamp: so they sort
/// as the keys do.
#[derive(Clone, Copy, Debug)]
struct LeafBase {
    clock: IdClock,
    rank: u64,
    /// Of a timestamp from what its ID tells.
    offset_ns: i64,
}

impl LeafBase {
    /// With room around a key.
    fn new(key: RankedKey, clock: IdClock) -> Self {
        let frame = Self { clock, rank: key.rank().saturating_sub(RANKS_BELOW), offset_ns: 0 };
        let offset =
            key.timestamp_ns().map_or(0, |ns| ns.saturating_sub(frame.time_ns(key.rank())));
        Self { offset_ns: offset.saturating_sub(NS_BELOW), ..frame }
    }

    /// When an ID was made.
    fn time_ns(&self, rank: u64) -> i64 {
        self.clock.time_ns(self.clock.id(rank))
    }

    /// Narrow, if all fit.
    fn keys(&self, keys: Vec<RankedKey>) -> Keys {
        let narrow: Option<Vec<u64>> = keys.iter().map(|key| self.narrow(*key)).collect();
        narrow.map_or(Keys::Wide(keys), Keys::Narrow)
    }

    fn narrow(&self, key: RankedKey) -> Option<u64> {
        let rank = key.rank().checked_sub(self.rank).filter(|rank| *rank < 1 << RANK_BITS)?;
        let Some(timestamp_ns) = key.timestamp_ns() else { return Some(rank << STAMP_BITS) };
        let offset = timestamp_ns.checked_sub(self.time_ns(key.rank()))?;
        let stamp = offset.checked_sub(self.offset_ns)?;
        (1..1 << STAMP_BITS).contains(&stamp).then_some(rank << STAMP_BITS | stamp as u64)
    }

    /// The key that `narrow` gave this for.
    fn key(&self, narrow: u64) -> RankedKey {
        let rank = self.rank + (narrow >> STAMP_BITS);
        let stamp = (narrow & ((1 << STAMP_BITS) - 1)) as i64;
        // The sum is a timestamp; what is between may lie beyond.
        let offset = self.offset_ns.wrapping_add(stamp);
        RankedKey::new(rank, (stamp != 0).then(|| self.time_ns(rank).wrapping_add(offset)))
    }
}
