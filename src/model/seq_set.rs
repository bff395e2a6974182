//! The set of one producer's plays that are counted, by their numbers (pure).
//!
//! A producer numbers its plays 0, 1, 2, … without a gap, so that the set is nearly always "all below n", and what
//! came out of order lies close above n:
//!
//! ```text
//!   runs: [0, base) and, where plays are missing, [a, b) …      window: a bitmap from base on
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// The most that the bitmap covers, in plays: 64 KiB of memory. What is further out of order costs a run.
const WINDOW: u64 = 1 << 19;

/// The most runs that [`SeqSet::can_take`] lets lie below the bitmap: 2.6 MB of memory, and some 600 KB where they are
/// written. The bitmap can add half of its numbers to them.
pub const RUNS_MAX: usize = 1 << 16;

/// Bytes of memory that a run costs, and its share of its node.
const RUN_BYTES: usize = 40;

/// Plays in one word of the bitmap.
const WORD: u64 = 64;

/// An exact set of numbers, made for dense ones.
///
/// Costs about 100 bytes while plays come nearly in order, 64 KiB more when they are half a million apart, and about
/// 40 bytes for each gap that stays. The worst case, every other play missing for ever, is 40 bytes for two plays; who
/// asks [`SeqSet::can_take`] first bounds it to 13 MB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeqSet {
    /// Runs of numbers below `base` that are in the set: start → end (exclusive). Disjoint, never touching.
    runs: BTreeMap<u64, u64>,
    /// Where the bitmap starts; a multiple of [`WORD`].
    base: u64,
    /// Bit i of word w is the number `base + 64 w + i`.
    window: VecDeque<u64>,
}

impl SeqSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `seq`; false if it was in the set.
    pub fn insert(&mut self, seq: u64) -> bool {
        if seq < self.base {
            return self.insert_below(seq);
        }
        self.set_bits(seq, 1) != 0
    }

    /// Adds the numbers from `seq` on that `bits` says, all in one word and not below the bitmap. Which are new.
    fn set_bits(&mut self, seq: u64, bits: u64) -> u64 {
        if seq - self.base >= WINDOW {
            self.slide_to(seq);
        }
        let (word, bit) = self.place(seq);
        if word >= self.window.len() {
            self.window.resize(word + 1, 0);
        }
        let bits = bits * bit;
        let fresh = bits & !self.window[word];
        self.window[word] |= bits;
        while self.window.front() == Some(&u64::MAX) {
            self.pop_word();
        }
        fresh
    }

    /// Whether `seq` is in the set, or can be added without making more runs than [`RUNS_MAX`], and those of the bitmap.
    pub fn can_take(&self, seq: u64) -> bool {
        if self.runs.len() < RUNS_MAX {
            return true;
        }
        if seq >= self.base {
            return seq - self.base < WINDOW;
        }
        let below = self.runs.range(..=seq).next_back();
        below.is_some_and(|(_, end)| seq <= *end) || self.runs.contains_key(&(seq + 1))
    }

    /// Bytes of memory beside the set's own, about.
    pub fn heap_bytes(&self) -> usize {
        self.runs.len() * RUN_BYTES + self.window.len() * size_of::<u64>()
    }

    /// How many numbers are in it; `None`: more than a `u64` counts.
    pub fn count(&self) -> Option<u64> {
        self.runs().try_fold(0u64, |sum, run| sum.checked_add(run.end - run.start))
    }

    /// The first run that ends behind `from`.
    pub fn run_behind(&self, from: u64) -> Option<Range<u64>> {
        self.runs().find(|run| run.end > from)
    }

    /// Whether `seq` is in the set.
    pub fn contains(&self, seq: u64) -> bool {
        if seq < self.base {
            return self.runs.range(..=seq).next_back().is_some_and(|(_, end)| seq < *end);
        }
        // Further than the bitmap reaches: nothing is there, and the index may not fit.
        if seq - self.base >= WINDOW {
            return false;
        }
        let (word, bit) = self.place(seq);
        self.window.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// The first number that is not in the set: all below are.
    pub fn watermark(&self) -> u64 {
        let low = self.runs.get(&0).copied().unwrap_or(0);
        if low < self.base {
            return low;
        }
        // Full words have left the bitmap.
        low + self.window.front().map_or(0, |bits| u64::from(bits.trailing_ones()))
    }

    fn place(&self, seq: u64) -> (usize, u64) {
        let offset = seq - self.base;
        ((offset / WORD) as usize, 1 << (offset % WORD))
    }

    /// Moves the bitmap on until it reaches `seq`, which lies beyond it.
    fn slide_to(&mut self, seq: u64) {
        // Half of it stays behind the newest number, for what is late.
        let base = (seq / WORD * WORD).saturating_sub(WINDOW / 2);
        while self.base < base && !self.window.is_empty() {
            self.pop_word();
        }
        self.base = self.base.max(base);
    }

    /// Moves the first word of the bitmap into the runs.
    fn pop_word(&mut self) {
        let Some(mut bits) = self.window.pop_front() else { return };
        let mut at = self.base;
        self.base += WORD;
        while bits != 0 {
            let gap = bits.trailing_zeros();
            at += u64::from(gap);
            bits >>= gap;
            let ones = bits.trailing_ones();
            self.append_run(at, at + u64::from(ones));
            at += u64::from(ones);
            bits = bits.checked_shr(ones).unwrap_or(0);
        }
    }

    /// Adds a run above all others.
    fn append_run(&mut self, start: u64, end: u64) {
        match self.runs.last_entry() {
            Some(mut last) if *last.get() == start => *last.get_mut() = end,
            _ => drop(self.runs.insert(start, end)),
        }
    }

    /// Adds one number below the bitmap; false if it was in the set.
    fn insert_below(&mut self, seq: u64) -> bool {
        if self.contains(seq) {
            return false;
        }
        self.merge_run(seq, seq + 1);
        true
    }

    /// Adds `start..end`, which ends at the bitmap or before, to the runs.
    fn merge_run(&mut self, mut start: u64, mut end: u64) {
        if let Some((&before, &before_end)) = self.runs.range(..=start).next_back()
            && before_end >= start
        {
            start = before;
            end = end.max(before_end);
        }
        while let Some((&behind, &behind_end)) = self.runs.range(start..=end).next() {
            self.runs.remove(&behind);
            end = end.max(behind_end);
        }
        self.runs.insert(start, end);
    }

    /// Adds all of `run`.
    pub fn insert_run(&mut self, run: Range<u64>) {
        let Range { mut start, end } = run;
        if end.saturating_sub(start) > WINDOW {
            // Too long for the bitmap: it joins the runs, and the bitmap starts behind it.
            while !self.window.is_empty() {
                self.pop_word();
            }
            self.base = self.base.max(end / WORD * WORD);
        }
        if start < self.base.min(end) {
            self.merge_run(start, self.base.min(end));
            start = self.base;
        }
        while start < end {
            // Within one word, which a slide of the bitmap does not cut.
            let count = (end - start).min(WORD - start % WORD);
            self.set_bits(start, u64::MAX >> (WORD - count));
            // Words that are full have left the bitmap.
            start = self.base.max(start + count);
        }
    }

    /// The runs of numbers in the set: disjoint, not touching, lowest first.
    pub fn runs(&self) -> impl Iterator<Item = Range<u64>> {
        let mut runs = self.runs.iter().map(|(start, end)| *start..*end).chain(self.window_runs());
        let mut next = runs.next();
        std::iter::from_fn(move || {
            let mut run = next.take()?;
            for following in runs.by_ref() {
                if following.start != run.end {
                    next = Some(following);
                    break;
                }
                run.end = following.end;
            }
            Some(run)
        })
    }

    /// The bitmap's runs, each within one word.
    fn window_runs(&self) -> impl Iterator<Item = Range<u64>> {
        self.window.iter().zip((self.base..).step_by(WORD as usize)).flat_map(|(bits, base)| {
            let mut bits = *bits;
            std::iter::from_fn(move || {
                let start = u64::from(bits.trailing_zeros());
                // Arithmetic: what is shifted in must not end the run of a full word.
                let ones = u64::from((bits.checked_shr(start as u32)?).trailing_ones());
                let mask = u64::MAX.checked_shr((WORD - ones) as u32).unwrap_or(0);
                bits &= !(mask << start);
                Some(base + start..base + start + ones)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn dense_plays_cost_one_run() {
        let mut set = SeqSet::new();
        assert!((0..1_000_000).all(|seq| set.insert(seq)));
        assert_eq!((set.runs.len(), set.window.len()), (1, 0));
        assert_eq!(set.watermark(), 1_000_000);
        assert!((0..1_000_000).step_by(997).all(|seq| !set.insert(seq)));
    }

    #[test]
    fn a_hole_stays_a_hole_until_it_is_filled() {
        let mut set = SeqSet::new();
        assert!((0..3 * WINDOW).filter(|seq| *seq != 5).all(|seq| set.insert(seq)));
        assert_eq!(set.watermark(), 5);
        assert!(!set.contains(5));
        assert!(set.window.len() as u64 <= WINDOW / WORD);
        assert!(set.insert(5) && !set.insert(5));
        // All the way to what the bitmap still holds.
        assert_eq!(
            set.watermark(),
            set.base + u64::from(set.window.front().map_or(0, |bits| bits.trailing_ones()))
        );
    }

    #[test]
    fn the_largest_numbers_fit() {
        let mut set = SeqSet::new();
        assert!(set.insert(u64::MAX - 1) && set.insert(0) && set.insert(u64::MAX / 2));
        assert!(!set.insert(u64::MAX - 1) && !set.insert(0));
        assert!(set.contains(u64::MAX / 2) && !set.contains(1));
        assert_eq!(set.watermark(), 1);
    }

    /// Whoever numbers plays at random, or leaves out every other one, costs bounded memory.
    #[test]
    fn holes_are_bounded_where_one_asks_first() {
        let most = RUNS_MAX + (WINDOW / 2) as usize;
        let take = |set: &mut SeqSet, seq| set.can_take(seq).then(|| set.insert(seq));
        let mut sparse = SeqSet::new();
        assert!((0..4 * most as u64).any(|n| take(&mut sparse, n * 2).is_none()));
        let mut random = SeqSet::new();
        let at = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2;
        assert!((0..RUNS_MAX as u64 + 2).any(|n| take(&mut random, at(n)).is_none()));
        for set in [&mut sparse, &mut random] {
            assert!(set.runs.len() <= most && set.heap_bytes() <= most * RUN_BYTES + (64 << 10));
            let before = set.runs.len();
            // What is in it, or joins a run, is still taken: exactly.
            let run = set.runs().nth(7).unwrap();
            assert_eq!(take(set, run.start), Some(false));
            assert_eq!(take(set, run.end), Some(true));
            assert_eq!(take(set, run.end), Some(false));
            assert!(set.runs.len() <= before);
        }
    }

    /// Numbers as they come: mostly the next ones, some late, some repeated, some far ahead.
    fn any_seqs() -> impl Strategy<Value = Vec<u64>> {
        let step = prop_oneof![
            20 => (0u64..3).prop_map(|ahead| (false, ahead)),
            3 => (0u64..200).prop_map(|back| (true, back)),
            1 => (0u64..2 * WINDOW).prop_map(|ahead| (false, ahead)),
            1 => (0u64..2 * WINDOW).prop_map(|back| (true, back)),
        ];
        proptest::collection::vec(step, 1..400).prop_map(|steps| {
            let mut at = 0u64;
            let next = |(back, by): (bool, u64)| {
                if back {
                    return at.saturating_sub(by);
                }
                at += by;
                at
            };
            steps.into_iter().map(next).collect()
        })
    }

    /// The set as it comes back from its runs, as the ledger keeps it.
    fn copied(set: &SeqSet) -> SeqSet {
        let mut copy = SeqSet::new();
        set.runs().for_each(|run| copy.insert_run(run));
        copy
    }

    #[test]
    fn long_runs_cost_no_bitmap() {
        let mut set = SeqSet::new();
        set.insert_run(5..100_000_000);
        assert!(set.window.len() as u64 <= 1);
        assert!(set.runs().eq(std::iter::once(5..100_000_000)));
        assert!(!set.contains(4) && set.contains(5) && !set.contains(100_000_000));
        set.insert_run(0..7);
        set.insert_run(99_999_990..100_000_010);
        set.insert_run(3..3);
        assert_eq!((set.watermark(), set.runs().count()), (100_000_010, 1));
        assert_eq!(copied(&set).watermark(), 100_000_010);
    }

    proptest! {
        #[test]
        fn runs_say_all_of_it(seqs in any_seqs(), extra in proptest::collection::vec((0u64..3 * WINDOW, 0u64..2 * WINDOW), 0..4)) {
            let mut set = SeqSet::new();
            for seq in &seqs {
                set.insert(*seq);
            }
            for (start, len) in extra {
                let before: Vec<_> = set.runs().collect();
                set.insert_run(start..start + len);
                let after: Vec<_> = set.runs().collect();
                let joined = before.iter().cloned().chain(std::iter::once(start..start + len)).filter(|run| !run.is_empty());
                prop_assert!(joined.clone().all(|run| after.iter().any(|all| all.start <= run.start && run.end <= all.end)));
                let bounds: std::collections::HashSet<u64> = joined.flat_map(|run| [run.start, run.end]).collect();
                prop_assert!(after.iter().all(|run| bounds.contains(&run.start) && bounds.contains(&run.end)));
            }
            let runs: Vec<_> = set.runs().collect();
            prop_assert!(runs.iter().all(|run| run.start < run.end));
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert_eq!(runs.first().filter(|run| run.start == 0).map_or(0, |run| run.end), set.watermark());
            prop_assert_eq!(copied(&set).runs().collect::<Vec<_>>(), runs);
            prop_assert!(seqs.iter().all(|seq| set.contains(*seq)));
        }

        #[test]
        fn it_is_the_set_that_a_tree_is(seqs in any_seqs()) {
            let (mut set, mut model) = (SeqSet::new(), BTreeSet::new());
            for seq in seqs {
                prop_assert_eq!(set.contains(seq), model.contains(&seq), "contains {}", seq);
                prop_assert_eq!(set.insert(seq), model.insert(seq), "insert {}", seq);
            }
            let missing = (0..).find(|seq| !model.contains(seq)).expect("the model is finite");
            prop_assert_eq!(set.watermark(), missing);
            prop_assert!(set.runs.iter().zip(set.runs.iter().skip(1)).all(|((_, end), (start, _))| end < start));
        }
    }
}
