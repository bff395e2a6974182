//! Which producers the table surely does not have: a Bloom filter that grows with them (pure).
//!
//! 2 to 3 bytes a producer. Of a hundred new producers it takes about two for known ones, which costs a look-up each. Where
//! it has all the memory it may have, it takes ever more of them for known: that costs time, and no play.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use uuid::Uuid;

/// Words of 64 bits in one block: a producer's bits lie in one line of the processor's cache.
const BLOCK: usize = 8;

/// Bits that a producer sets.
const BITS: u32 = 6;

/// Producers for which a block has room: 12 bits for each.
const PRODUCERS_PER_BLOCK: usize = BLOCK * 64 / 12;

/// Blocks of the first layer: 64 KiB, for 43,000 producers. Each further layer is twice as large.
const FIRST_BLOCKS: usize = 1 << 10;

/// The most blocks of a layer: 64 MiB, and as much for all layers before it. Enough for 89 million producers.
const BLOCKS_MAX: usize = 1 << 20;

/// A set of ids that never misses one that is in it.
#[derive(Debug, Default)]
pub(super) struct ProducerFilter {
    /// The newest last: only that one grows.
    layers: Vec<Layer>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Layer {
    blocks: Vec<[u64; BLOCK]>,
    producers: usize,
}

impl ProducerFilter {
    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Whether the id may be in it; if not, it is not.
    pub(super) fn may_have(&self, id: &Uuid) -> bool {
        let hash = self.hasher.hash_one(id.as_u128());
        self.layers.iter().any(|layer| layer.may_have(hash))
    }

    /// Adds an id.
    pub(super) fn insert(&mut self, id: &Uuid) {
        let hash = self.hasher.hash_one(id.as_u128());
        if self.layers.iter().any(|layer| layer.may_have(hash)) {
            return;
        }
        let blocks = self.layers.last().map(|layer| layer.blocks.len());
        if self.layers.last().is_none_or(Layer::is_full) && blocks != Some(BLOCKS_MAX) {
            let blocks = blocks.map_or(FIRST_BLOCKS, |blocks| (blocks * 2).min(BLOCKS_MAX));
            self.layers.push(Layer { blocks: vec![[0; BLOCK]; blocks], producers: 0 });
        }
        if let Some(layer) = self.layers.last_mut() {
            layer.insert(hash);
        }
    }
}

impl Layer {
    fn is_full(&self) -> bool {
        self.producers >= self.blocks.len() * PRODUCERS_PER_BLOCK
    }

    /// There is a power of two of them.
    fn block(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.blocks.len() - 1)
    }

    fn may_have(&self, hash: u64) -> bool {
        let block = &self.blocks[self.block(hash)];
        bits(hash).all(|(word, bit)| block[word] & bit != 0)
    }

    fn insert(&mut self, hash: u64) {
        let at = self.block(hash);
        for (word, bit) in bits(hash) {
            self.blocks[at][word] |= bit;
        }
        self.producers += 1;
    }
}

/// The bits of an id in its block, from a part of the hash that does not choose the block.
fn bits(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    let mixed = u64::from(hash as u32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..BITS).map(move |bit| {
        let place = mixed >> (64 - 9 * (bit + 1)) & 511;
        ((place / 64) as usize, 1 << (place % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids as producers draw them.
    fn ids(from: u128, count: u128) -> impl Iterator<Item = Uuid> {
        (from..from + count)
            .map(|n| Uuid::from_u128(n.wrapping_mul(0x2545_f491_4f6c_dd1d_9e37_79b9)))
    }

    #[test]
    fn it_misses_none_and_is_seldom_wrong() {
        const PRODUCERS: u128 = 300_000;
        let mut filter = ProducerFilter::default();
        assert!(filter.is_empty() && ids(0, 100).all(|id| !filter.may_have(&id)));
        ids(0, PRODUCERS).for_each(|id| filter.insert(&id));
        assert!(ids(0, PRODUCERS).all(|id| filter.may_have(&id)));
        let wrong = ids(1 << 60, 100_000).filter(|id| filter.may_have(id)).count();
        assert!(wrong < 4_000, "{wrong} of 100,000");
        let bytes: usize = filter.layers.iter().map(|layer| layer.blocks.len() * BLOCK * 8).sum();
        assert!(bytes <= 3 * PRODUCERS as usize, "{bytes} bytes");
    }
}
