//! The producers and segments that one commit touches: what it asks the tables for, which of its plays are new by what they
//! answer, and what it writes (pure).

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use uuid::Uuid;

use super::segments::{SEGMENT_PLAYS, SegmentBits, segment_of, stripe_of};
use crate::ledger::record::Damaged;
use crate::model::play::PlayIdentity;

/// One producer of a commit.
#[derive(Debug)]
struct TouchedProducer {
    id: Uuid,
    /// `None`: there is no row of it.
    watermark: Option<u64>,
    is_changed: bool,
}

/// One segment of a commit.
#[derive(Debug)]
struct TouchedSegment {
    /// Which producer's, by its place.
    producer: usize,
    number: u64,
    bits: SegmentBits,
    is_changed: bool,
}

/// What one commit touches. Entered first, then told what the tables have, then asked of each play.
#[derive(Debug, Default)]
pub(super) struct Touched {
    producers: Vec<TouchedProducer>,
    segments: Vec<TouchedSegment>,
    producer_table: HashTable<usize>,
    segment_table: HashTable<usize>,
    /// Seeded at random, because ids and numbers come from strangers.
    hasher: RandomState,
    /// Where the newest play belongs: the next one mostly does, too.
    newest: Option<usize>,
}

/// What a commit writes of producers, each list by its place.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ProducerWrites<'a> {
    /// Segments that have changed and stay.
    pub(super) segments: Vec<(Uuid, u64, &'a [u8])>,
    /// Producers that are new, or whose watermark has moved, with the new one.
    pub(super) watermarks: Vec<(Uuid, u64)>,
    /// Segments that are below a watermark now: from one to before another.
    pub(super) full: Vec<(Uuid, u64, u64)>,
}

impl Touched {
    /// A play of the commit.
    pub(super) fn enter(&mut self, identity: &PlayIdentity) {
        let number = segment_of(identity.seq);
        if self.find_newest(identity, number).is_some() {
            return;
        }
        let producer = self.producer(identity.producer);
        let at = self.find_segment(producer, number).unwrap_or_else(|| {
            let Self { segments, segment_table, hasher, .. } = self;
            let at = segments.len();
            let hash = |at: &usize| hasher.hash_one((segments[*at].producer, segments[*at].number));
            segment_table.insert_unique(hasher.hash_one((producer, number)), at, hash);
            let bits = SegmentBits::EMPTY;
            segments.push(TouchedSegment { producer, number, bits, is_changed: false });
            at
        });
        self.newest = Some(at);
    }

    fn find_segment(&self, producer: usize, number: u64) -> Option<usize> {
        let Self { segments, segment_table, hasher, .. } = self;
        let is_it =
            |at: &usize| segments[*at].number == number && segments[*at].producer == producer;
        segment_table.find(hasher.hash_one((producer, number)), is_it).copied()
    }

    fn find_producer(&self, id: &Uuid) -> Option<usize> {
        let Self { producers, producer_table, hasher, .. } = self;
        producer_table.find(hasher.hash_one(id), |at| producers[*at].id == *id).copied()
    }

    fn producer(&mut self, id: Uuid) -> usize {
        self.find_producer(&id).unwrap_or_else(|| {
            let Self { producers, producer_table, hasher, .. } = self;
            let at = producers.len();
            producer_table
                .insert_unique(hasher.hash_one(id), at, |at| hasher.hash_one(producers[*at].id));
            producers.push(TouchedProducer { id, watermark: None, is_changed: false });
            at
        })
    }

    fn find_newest(&self, identity: &PlayIdentity, number: u64) -> Option<usize> {
        self.newest.filter(|at| {
            let segment = &self.segments[*at];
            segment.number == number && self.producers[segment.producer].id == identity.producer
        })
    }

    /// Whether no play has an identity.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The stripes to lock, ascending.
    pub(super) fn stripes(&self) -> Vec<i64> {
        let mut stripes: Vec<_> =
            self.producers.iter().map(|producer| stripe_of(&producer.id)).collect();
        stripes.sort_unstable();
        stripes.dedup();
        stripes
    }

    /// The producers, by their places.
    pub(super) fn producers(&self) -> Vec<Uuid> {
        self.producers.iter().map(|producer| producer.id).collect()
    }

    /// The segments, by their places: each one's producer, and its number.
    pub(super) fn segments(&self) -> (Vec<Uuid>, Vec<i64>) {
        let id = |segment: &TouchedSegment| self.producers[segment.producer].id;
        self.segments.iter().map(|segment| (id(segment), segment.number as i64)).unzip()
    }

    /// The tables have that watermark of the producer at a place.
    ///
    /// # Errors
    /// [`Damaged`]: it is none, or nobody asked.
    pub(super) fn set_watermark(&mut self, at: usize, watermark: i64) -> Result<(), Damaged> {
        let watermark = u64::try_from(watermark).map_err(|_| Damaged)?;
        if watermark % SEGMENT_PLAYS != 0 {
            return Err(Damaged);
        }
        self.producers.get_mut(at).ok_or(Damaged)?.watermark = Some(watermark);
        Ok(())
    }

    /// The tables have those bits of the segment at a place.
    ///
    /// # Errors
    /// [`Damaged`]: they are none, or nobody asked.
    pub(super) fn set_bits(&mut self, at: usize, bits: &[u8]) -> Result<(), Damaged> {
        self.segments.get_mut(at).ok_or(Damaged)?.bits = SegmentBits::from_bytes(bits)?;
        Ok(())
    }

    /// Whether a play that was entered is new; from then on it is not.
    pub(super) fn count(&mut self, identity: &PlayIdentity) -> bool {
        let number = segment_of(identity.seq);
        let at = self.find_newest(identity, number).or_else(|| {
            let producer = self.find_producer(&identity.producer)?;
            self.find_segment(producer, number)
        });
        let Some(at) = at else { return false };
        self.newest = Some(at);
        let segment = &mut self.segments[at];
        let watermark = self.producers[segment.producer].watermark;
        if watermark.is_some_and(|watermark| identity.seq < watermark) {
            return false;
        }
        let is_new = segment.bits.insert(identity.seq);
        segment.is_changed |= is_new;
        self.producers[segment.producer].is_changed |= is_new;
        is_new
    }

    /// The producers of which a play was new.
    pub(super) fn changed(&self) -> impl Iterator<Item = Uuid> {
        self.producers.iter().filter(|producer| producer.is_changed).map(|producer| producer.id)
    }

    /// What is to be written, once all plays were counted.
    pub(super) fn writes(&self) -> ProducerWrites<'_> {
        let mut writes = ProducerWrites::default();
        let mut watermarks: Vec<u64> =
            self.producers.iter().map(|producer| producer.watermark.unwrap_or(0)).collect();
        // By producer, lowest first: a watermark moves over those that are full.
        let mut order: Vec<&TouchedSegment> = self.segments.iter().collect();
        order.sort_unstable_by_key(|segment| (segment.producer, segment.number));
        for segment in order {
            let watermark = &mut watermarks[segment.producer];
            if segment.number * SEGMENT_PLAYS == *watermark && segment.bits.is_full() {
                *watermark += SEGMENT_PLAYS;
            } else if segment.is_changed {
                let id = self.producers[segment.producer].id;
                writes.segments.push((id, segment.number, segment.bits.as_bytes()));
            }
        }
        for (producer, watermark) in self.producers.iter().zip(watermarks) {
            let before = producer.watermark.unwrap_or(0);
            let has_moved = watermark > before;
            // Also by a segment that was full before, of which only repeats came: what is deleted must lie below the watermark.
            if has_moved || producer.is_changed && producer.watermark.is_none() {
                writes.watermarks.push((producer.id, watermark));
            }
            if has_moved {
                writes.full.push((producer.id, segment_of(before), segment_of(watermark)));
            }
        }
        writes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    /// The tables, as a commit reads and writes them.
    #[derive(Default)]
    struct Tables {
        watermarks: BTreeMap<Uuid, u64>,
        seen: BTreeMap<(Uuid, u64), Vec<u8>>,
    }

    impl Tables {
        /// Which of the plays were new.
        fn commit(&mut self, plays: &[PlayIdentity]) -> Vec<bool> {
            let mut touched = Touched::default();
            plays.iter().for_each(|play| touched.enter(play));
            for (at, id) in touched.producers().iter().enumerate() {
                if let Some(watermark) = self.watermarks.get(id) {
                    touched.set_watermark(at, *watermark as i64).unwrap();
                }
            }
            let (ids, numbers) = touched.segments();
            for (at, key) in ids.into_iter().zip(numbers).enumerate() {
                if let Some(bits) = self.seen.get(&(key.0, key.1 as u64)) {
                    touched.set_bits(at, bits).unwrap();
                }
            }
            let new = plays.iter().map(|play| touched.count(play)).collect();
            let writes = touched.writes();
            for (id, from, to) in &writes.full {
                self.seen.retain(|(of, number), _| of != id || !(*from..*to).contains(number));
            }
            for (id, number, bits) in &writes.segments {
                self.seen.insert((*id, *number), bits.to_vec());
            }
            self.watermarks.extend(writes.watermarks.iter().copied());
            new
        }
    }

    fn plays(producer: u128, seqs: impl Iterator<Item = u64>) -> Vec<PlayIdentity> {
        let producer = Uuid::from_u128(producer);
        seqs.map(|seq| PlayIdentity { producer, seq }).collect()
    }

    #[test]
    fn full_segments_go_and_their_plays_stay_counted() {
        let mut tables = Tables::default();
        assert!(tables.commit(&plays(1, 0..2500)).iter().all(|new| *new));
        assert_eq!(tables.watermarks[&Uuid::from_u128(1)], 2048);
        assert_eq!(tables.seen.len(), 1);
        assert!(!tables.commit(&plays(1, 0..2500)).iter().any(|new| *new));
        // A full segment above a hole stays.
        tables.commit(&plays(2, 1024..2048));
        assert_eq!((tables.watermarks[&Uuid::from_u128(2)], tables.seen.len()), (0, 2));
        tables.commit(&plays(2, 0..1025));
        assert_eq!((tables.watermarks[&Uuid::from_u128(2)], tables.seen.len()), (2048, 1));
        // Its last number.
        assert_eq!(
            tables.commit(&plays(3, PlayIdentity::MAX_SEQ..PlayIdentity::MAX_SEQ + 1)),
            [true]
        );
    }

    #[test]
    fn repeats_of_a_full_segment_move_the_watermark_with_it() {
        let mut tables = Tables::default();
        tables.commit(&plays(1, 1024..2048));
        // The second segment is not of this commit, and stays.
        tables.commit(&plays(1, 0..1024));
        assert_eq!((tables.watermarks[&Uuid::from_u128(1)], tables.seen.len()), (1024, 1));
        assert!(!tables.commit(&plays(1, 1500..1600)).iter().any(|new| *new));
        assert_eq!((tables.watermarks[&Uuid::from_u128(1)], tables.seen.len()), (2048, 0));
        assert!(!tables.commit(&plays(1, 1024..2048)).iter().any(|new| *new));
    }

    #[test]
    fn what_nobody_asked_for_is_refused() {
        let mut touched = Touched::default();
        assert_eq!(touched.set_watermark(0, 0), Err(Damaged));
        assert_eq!(touched.set_bits(0, &[0; 128]), Err(Damaged));
        touched.enter(&PlayIdentity { producer: Uuid::nil(), seq: 7 });
        for damaged in [-1024, 1000] {
            assert_eq!(touched.set_watermark(0, damaged), Err(Damaged));
        }
        assert_eq!(touched.set_bits(0, &[0; 3]), Err(Damaged));
        assert_eq!(touched.set_watermark(0, 1024), Ok(()));
    }

    proptest! {
        #[test]
        fn each_play_is_new_once(
            commits in proptest::collection::vec(
                proptest::collection::vec(prop_oneof![
                    (0u128..3, 0u64..40, 1u64..300).prop_map(|(id, start, len)| (id, start * 100, len)),
                    // Whole segments, in any order and again.
                    (0u128..3, 0u64..4).prop_map(|(id, segment)| (id, segment * SEGMENT_PLAYS, SEGMENT_PLAYS)),
                ], 0..12), 1..30)
        ) {
            let (mut tables, mut model) = (Tables::default(), HashSet::new());
            for runs in commits {
                let plays: Vec<_> = runs
                    .into_iter()
                    .flat_map(|(id, start, len)| plays(id, start..start + len))
                    .collect();
                let want: Vec<_> = plays.iter().map(|play| model.insert(*play)).collect();
                prop_assert_eq!(tables.commit(&plays), want);
                for ((id, number), bits) in &tables.seen {
                    // None below its watermark; none that is full where the watermark could move over it in this commit.
                    prop_assert!(number * SEGMENT_PLAYS >= tables.watermarks[id]);
                    prop_assert!(bits.iter().any(|byte| *byte != 0));
                }
                for (id, watermark) in &tables.watermarks {
                    let all = (0..*watermark).all(|seq| model.contains(&PlayIdentity { producer: *id, seq }));
                    prop_assert!(all, "{} {}", id, watermark);
                }
            }
        }
    }
}
