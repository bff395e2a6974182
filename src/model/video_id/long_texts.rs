//! The texts that are too long to stand in an id: each is kept once, with a number, until the process ends. All parts of a
//! process share them, so that an id means the same in each; no number leaves the process.

use std::hash::BuildHasher;
use std::sync::LazyLock;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::RwLock;

/// Texts lie in pieces of so many bytes, one behind the other.
const PIECE: usize = 64 << 10;

/// Every text, and where it is found.
#[derive(Default)]
struct LongTexts {
    /// By number.
    texts: Vec<&'static str>,
    numbers: HashTable<u32>,
    /// Seeded at random, because texts come from strangers.
    hasher: RandomState,
    /// The piece that is not full yet: what of it is free.
    free: &'static mut [u8],
}

static LONG_TEXTS: LazyLock<RwLock<LongTexts>> = LazyLock::new(RwLock::default);

impl LongTexts {
    fn find(&self, text: &str) -> Option<u32> {
        let is_it = |number: &u32| self.texts[*number as usize] == text;
        self.numbers.find(self.hasher.hash_one(text), is_it).copied()
    }

    fn add(&mut self, text: &str) -> u32 {
        let number = self.texts.len() as u32;
        let text = self.keep(text);
        self.texts.push(text);
        let Self { texts, numbers, hasher, .. } = self;
        let hash = |number: &u32| hasher.hash_one(texts[*number as usize]);
        numbers.insert_unique(hash(&number), number, hash);
        number
    }

    /// Copies a text to where it stays.
    fn keep(&mut self, text: &str) -> &'static str {
        if self.free.len() < text.len() {
            self.free = Box::leak(vec![0; PIECE.max(text.len())].into_boxed_slice());
        }
        let (kept, free) = std::mem::take(&mut self.free).split_at_mut(text.len());
        self.free = free;
        kept.copy_from_slice(text.as_bytes());
        str::from_utf8(kept).unwrap_or_default()
    }
}

/// The number of a text that is kept.
pub(super) fn find(text: &str) -> Option<u32> {
    LONG_TEXTS.read().find(text)
}

/// The number of a text, which is kept from now on.
pub(super) fn number(text: &str) -> u32 {
    if let Some(number) = find(text) {
        return number;
    }
    let mut texts = LONG_TEXTS.write();
    // Another thread may have added it meanwhile.
    match texts.find(text) {
        Some(number) => number,
        None => texts.add(text),
    }
}

/// The text that has this number.
pub(super) fn text(number: u32) -> &'static str {
    LONG_TEXTS.read().texts[number as usize]
}
