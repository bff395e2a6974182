//! Video ids, numbered 0, 1, 2, … in the order in which they come, so that what belongs to a video stands in plain
//! vectors (pure).
//!
//! An id costs 16 bytes, and 6 to 12 in the table that finds it: a map of ids with their values inside would leave up to
//! half of all that room unused.

use std::hash::BuildHasher;

use crate::model::video_id::VideoId;
use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Video ids with their numbers.
#[derive(Debug, Default)]
pub struct VideoIds {
    ids: Vec<VideoId>,
    table: HashTable<u32>,
    /// Seeded at random, because video ids come from strangers.
    hasher: RandomState,
}

impl VideoIds {
    /// How many ids have a number.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The number of an id.
    pub fn get(&self, id: &VideoId) -> Option<u32> {
        let is_it = |number: &u32| self.ids[*number as usize] == *id;
        self.table.find(self.hasher.hash_one(id), is_it).copied()
    }

    /// The number of an id, which gets the next one if it has none; whether it got it now.
    pub fn number(&mut self, id: VideoId) -> (u32, bool) {
        match self.get(&id) {
            Some(number) => (number, false),
            None => {
                let number = self.ids.len() as u32;
                self.ids.push(id);
                self.enter(number);
                (number, true)
            }
        }
    }

    /// Gives an id a number that was given before, in any order; false if the id has another, or the number belongs to
    /// another.
    pub fn place(&mut self, number: u32, id: VideoId) -> bool {
        let at = number as usize;
        if let Some(known) = self.get(&id) {
            return known == number;
        }
        if self.ids.len() <= at {
            self.ids.resize(at + 1, VideoId::NIL);
        } else if self.get(&self.ids[at]) == Some(number) {
            return false;
        }
        self.ids[at] = id;
        self.enter(number);
        true
    }

    /// Takes back the numbers from this one on, which were given last: their ids have none.
    pub fn forget_from(&mut self, number: u32) {
        let Self { ids, table, hasher } = self;
        for at in number..ids.len() as u32 {
            let hash = hasher.hash_one(ids[at as usize]);
            if let Ok(found) = table.find_entry(hash, |known| *known == at) {
                found.remove();
            }
        }
        ids.truncate(number as usize);
    }

    /// The id that has this number.
    pub fn id(&self, number: u32) -> VideoId {
        self.ids[number as usize]
    }

    /// Every id, by number.
    pub fn ids(&self) -> &[VideoId] {
        &self.ids
    }

    fn enter(&mut self, number: u32) {
        let Self { ids, table, hasher } = self;
        let hash = |number: &u32| hasher.hash_one(ids[*number as usize]);
        table.insert_unique(hash(&number), number, hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_stay() {
        let mut numbers = VideoIds::default();
        for n in 0..1_000 {
            assert_eq!(numbers.number(VideoId::from_u128(n * 7)), (n as u32, true));
            assert_eq!(numbers.number(VideoId::from_u128(n / 2 * 7)), (n as u32 / 2, false));
        }
        assert_eq!((numbers.len(), numbers.get(&VideoId::from_u128(3))), (1_000, None));
        assert!(numbers.ids().iter().enumerate().all(|(n, id)| numbers.get(id) == Some(n as u32)));
    }

    #[test]
    fn what_is_taken_back_was_never_given() {
        let mut numbers = VideoIds::default();
        for n in 0..1_000 {
            numbers.number(VideoId::from_u128(n));
        }
        numbers.forget_from(600);
        assert_eq!((numbers.len(), numbers.ids().len()), (600, 600));
        for n in 0..1_000 {
            assert_eq!(numbers.get(&VideoId::from_u128(n)), (n < 600).then_some(n as u32));
        }
        // In another order.
        assert_eq!(numbers.number(VideoId::from_u128(999)), (600, true));
        assert_eq!(numbers.number(VideoId::from_u128(600)), (601, true));
        numbers.forget_from(602);
        assert_eq!(numbers.len(), 602);
    }

    #[test]
    fn old_numbers_are_placed_in_any_order_and_without_contradiction() {
        let (nil, one, two) = (VideoId::NIL, VideoId::from_u128(1), VideoId::from_u128(2));
        let mut numbers = VideoIds::default();
        assert!(numbers.place(2, one));
        assert_eq!(numbers.len(), 1);
        // What nobody has yet is not taken for the nil id's.
        assert_eq!(numbers.get(&nil), None);
        assert!(numbers.place(0, nil) && numbers.place(0, nil) && numbers.place(2, one));
        assert!(!numbers.place(0, two) && !numbers.place(1, one) && !numbers.place(2, two));
        assert!(numbers.place(1, two));
        assert_eq!((numbers.ids(), numbers.len()), (&[nil, two, one][..], 3));
    }
}
