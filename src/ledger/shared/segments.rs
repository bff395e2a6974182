//! Plays of producers by their numbers, as the shared ledger keeps them: 1,024 to a segment, a bit each, and a watermark for
//! each producer below which all segments are full, and gone (pure).

use std::ops::Range;

use uuid::Uuid;

use crate::ledger::record::Damaged;

/// Plays in one segment. 16,384 of them cost 20 to 50 per cent more WAL, since a commit writes whole rows.
pub(super) const SEGMENT_PLAYS: u64 = 1024;

/// Bytes of a segment's bits.
pub(super) const SEGMENT_BYTES: usize = (SEGMENT_PLAYS / 8) as usize;

/// Stripes, each a row to be locked before the producers that belong to it are read: so few that a commit of many producers
/// locks them all at little cost, so many that small commits seldom meet.
pub(super) const STRIPES: u32 = 16;

/// The stripe that a producer belongs to: the same in every version, since all processors must lock alike.
pub(super) fn stripe_of(producer: &Uuid) -> i64 {
    i64::from(crc32fast::hash(producer.as_bytes()) % STRIPES)
}

/// The segment that a play is in.
pub(super) fn segment_of(seq: u64) -> u64 {
    seq / SEGMENT_PLAYS
}

/// Which plays of one segment are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentBits([u8; SEGMENT_BYTES]);

impl SegmentBits {
    /// None is.
    pub(super) const EMPTY: Self = Self([0; SEGMENT_BYTES]);

    /// As they lie in the table.
    ///
    /// # Errors
    /// There are more or fewer.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Damaged> {
        bytes.try_into().map(Self).map_err(|_| Damaged)
    }

    /// As they lie in the table.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Enters a play; false if it was in.
    pub(super) fn insert(&mut self, seq: u64) -> bool {
        let bit = (seq % SEGMENT_PLAYS) as usize;
        let byte = &mut self.0[bit / 8];
        let mask = 1 << (bit % 8);
        let is_new = *byte & mask == 0;
        *byte |= mask;
        is_new
    }

    /// Whether all plays are counted.
    pub(super) fn is_full(&self) -> bool {
        self.0.iter().all(|byte| *byte == u8::MAX)
    }

    /// The runs of plays that are counted, as numbers of the segment `segment`: ascending, not touching.
    pub(super) fn runs(&self, segment: u64) -> impl Iterator<Item = Range<u64>> {
        let first = segment * SEGMENT_PLAYS;
        let bits = |word: usize| {
            let bytes = self.0[word * 8..].first_chunk::<8>();
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        // Where a run begins or ends within the segment, from `at` on.
        let find = move |at: u64, counted: bool| {
            let mut at = at;
            while at < SEGMENT_PLAYS {
                let word = bits((at / 64) as usize);
                let word = if counted { word } else { !word };
                let rest = word >> (at % 64);
                if rest != 0 {
                    return Some(at + u64::from(rest.trailing_zeros()));
                }
                at = (at / 64 + 1) * 64;
            }
            None
        };
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = find(at, true)?;
            let end = find(start, false).unwrap_or(SEGMENT_PLAYS);
            at = end;
            Some(first + start..first + end)
        })
    }
}

/// Joins runs that are ascending and may touch, those below `from` left out.
pub(super) fn joined(
    from: u64,
    runs: impl Iterator<Item = Range<u64>>,
) -> impl Iterator<Item = Range<u64>> {
    let mut runs = runs.filter(move |run| run.end > from).peekable();
    std::iter::from_fn(move || {
        let mut run = runs.next()?;
        while let Some(next) = runs.next_if(|next| next.start <= run.end) {
            run.end = run.end.max(next.end);
        }
        Some(run)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_segment_is_one_run() {
        let mut bits = SegmentBits::EMPTY;
        assert!((0..SEGMENT_PLAYS).all(|seq| !bits.is_full() && bits.insert(5 * 1024 + seq)));
        assert!(bits.is_full() && !bits.insert(7));
        assert!(bits.runs(5).eq(std::iter::once(5 * 1024..6 * 1024)));
        assert_eq!(SegmentBits::EMPTY.runs(5).count(), 0);
        assert_eq!(SegmentBits::from_bytes(&[0; 127]), Err(Damaged));
        // Written in tables: the same for ever.
        assert_eq!(stripe_of(&Uuid::from_u128(1)), 3);
        let mut lowest = SegmentBits::EMPTY;
        lowest.insert(1024);
        assert_eq!(lowest.as_bytes()[0], 1);
    }

    proptest! {
        #[test]
        fn a_segment_is_the_set_that_a_tree_is(seqs in proptest::collection::vec(0..SEGMENT_PLAYS, 0..300), from in 0..SEGMENT_PLAYS) {
            let (mut bits, mut model) = (SegmentBits::EMPTY, BTreeSet::new());
            for seq in seqs {
                prop_assert_eq!(bits.insert(3 * SEGMENT_PLAYS + seq), model.insert(3 * SEGMENT_PLAYS + seq));
            }
            let back = SegmentBits::from_bytes(bits.as_bytes()).unwrap();
            let runs: Vec<_> = back.runs(3).collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert!(runs.iter().cloned().flatten().eq(model.iter().copied()));
            // Cut in two at any place and joined again.
            let halves = runs.iter().cloned().flat_map(|run| {
                let middle = (run.start + run.end) / 2;
                [run.start..middle, middle..run.end]
            });
            let from = 3 * SEGMENT_PLAYS + from;
            let want: Vec<_> = runs.iter().map(|run| run.end).filter(|end| *end > from).collect();
            let ends: Vec<_> = joined(from, halves).map(|run| run.end).collect();
            prop_assert_eq!(ends, want);
        }
    }
}
