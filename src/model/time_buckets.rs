//! Durations in buckets that are narrow enough to tell percentiles to 2 % (pure).
//!
//! As in an HDR histogram, each power of two has 32 buckets of one width: a duration is at most 1.6 % from the middle of
//! its bucket, whatever its size. The bounds are the same everywhere and for ever, so that what several processors tell,
//! second after second, is added up bucket by bucket, in any order.

/// Buckets of each power of two.
const PER_OCTAVE: u64 = 32;

/// How many bits of a number say which of them.
const BITS: u32 = PER_OCTAVE.ilog2();

/// The longest duration told apart, in µs: a day. Longer ones count as that.
pub const LONGEST_US: u64 = 24 * 3600 * 1_000_000;

/// How many buckets there are: 1,033.
pub const TIME_BUCKETS: u16 = bucket_of(LONGEST_US) + 1;

/// The bucket of a duration of so many µs; up to 63 µs each has one of its own.
pub const fn bucket_of(us: u64) -> u16 {
    let us = if us < LONGEST_US { us } else { LONGEST_US };
    // Of each power of two the first bits: 32 to 63.
    let shift = (us | PER_OCTAVE).ilog2() - BITS;
    (PER_OCTAVE * shift as u64 + (us >> shift)) as u16
}

/// The least duration of a bucket, in µs.
pub fn lowest_us(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    let shift = (bucket / PER_OCTAVE).saturating_sub(1);
    (bucket - PER_OCTAVE * shift) << shift
}

/// What is told of the durations of a bucket: the middle of it, in µs.
pub fn middle_us(bucket: u16) -> f64 {
    let (lowest, next) = (lowest_us(bucket), lowest_us(bucket + 1));
    lowest as f64 + (next - lowest - 1) as f64 / 2.0
}

/// How many durations each bucket has. Takes no memory before the first, then 8 KiB.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimeCounts {
    /// Of each bucket, or none at all.
    counts: Vec<u64>,
    total: u64,
}

impl TimeCounts {
    /// Adds so many durations to a bucket; one that is beyond the last is taken for it.
    pub fn add(&mut self, bucket: u16, more: u64) {
        if more == 0 {
            return;
        }
        self.counts.resize(usize::from(TIME_BUCKETS), 0);
        let count = &mut self.counts[usize::from(bucket.min(TIME_BUCKETS - 1))];
        // What strangers tell has no limit over time.
        let fits = more.min(u64::MAX - self.total);
        *count += fits;
        self.total += fits;
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: &Self) {
        (0..).zip(&other.counts).for_each(|(bucket, count)| self.add(bucket, *count));
    }

    /// How many durations there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Buckets that have any, ascending, and how many.
    pub fn filled(&self) -> impl Iterator<Item = (u16, u64)> {
        (0..).zip(self.counts.iter().copied()).filter(|(_, count)| *count > 0)
    }

    /// The duration in ms that the share `part` of them, 0 to 1, does not exceed: within 2 %. `None` without any.
    pub fn percentile_ms(&self, part: f64) -> Option<f64> {
        // At least one, whatever the share; rounded as people count: half of two is the first.
        let wanted = ((part * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut reached = 0;
        let mut buckets = self.filled();
        let found = buckets.find(|(_, count)| {
            reached += count;
            reached >= wanted
        });
        found.map(|(bucket, _)| middle_us(bucket) / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        assert_eq!((bucket_of(0), bucket_of(63), bucket_of(64), bucket_of(65)), (0, 63, 64, 64));
        assert_eq!((TIME_BUCKETS, bucket_of(u64::MAX)), (1_033, 1_032));
        for bucket in 1..TIME_BUCKETS {
            let lowest = lowest_us(bucket);
            assert_eq!((bucket_of(lowest - 1), bucket_of(lowest)), (bucket - 1, bucket));
        }
    }

    #[test]
    fn no_times_have_no_percentile_and_no_number_is_too_large() {
        let mut times = TimeCounts::default();
        assert_eq!((times.percentile_ms(0.5), times.total()), (None, 0));
        times.add(u16::MAX, u64::MAX);
        times.add(5, u64::MAX);
        assert_eq!((times.total(), times.filled().count()), (u64::MAX, 1));
        assert!(times.percentile_ms(1.0) > Some(85_000_000.0));
    }

    /// Of any size: as many of µs as of hours.
    fn any_time() -> impl Strategy<Value = u64> {
        (any::<u64>(), 27..64u32).prop_map(|(us, shift)| (us >> shift).min(LONGEST_US))
    }

    proptest! {
        /// Any times, of any processors, added up in any order: each percentile is right to 2 %.
        #[test]
        fn percentiles_are_right_to_two_per_cent(
            told in vec(vec(any_time(), 0..60), 1..8),
            order in any::<prop::sample::Index>(),
            part in 0.0..=1.0f64,
        ) {
            let mut parts: Vec<_> = told.iter().map(|times| {
                let mut counts = TimeCounts::default();
                times.iter().for_each(|us| counts.add(bucket_of(*us), 1));
                counts
            }).collect();
            let turn = order.index(parts.len());
            parts.rotate_left(turn);
            let mut merged = TimeCounts::default();
            parts.iter().for_each(|part| merged.merge(part));
            let mut exact = told.concat();
            exact.sort_unstable();
            prop_assert_eq!(merged.total(), exact.len() as u64);
            for part in [part, 0.5, 0.9, 0.99, 1.0] {
                let rank = ((part * exact.len() as f64).ceil() as usize).max(1) - 1;
                let Some(want) = exact.get(rank).map(|us| *us as f64 / 1000.0) else {
                    prop_assert_eq!(merged.percentile_ms(part), None);
                    continue;
                };
                let got = merged.percentile_ms(part).unwrap();
                prop_assert!((got - want).abs() <= want * 0.02, "{part}: {got} for {want}");
            }
        }
    }
}
