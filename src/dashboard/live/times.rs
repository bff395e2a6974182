//! Consumption times of a while, from the histograms that processors tell (pure).

use std::collections::BTreeMap;

use crate::model::time_buckets::{TimeCounts, bucket_of, lowest_us};
use crate::wire::{CONSUMPTION_BOUNDS_MS, ConsumptionHistogram};

/// Adds the times that a processor has told `now` and had not told `before`.
pub(super) fn add_growth(
    times: &mut TimeCounts,
    now: &ConsumptionHistogram,
    before: &ConsumptionHistogram,
) {
    let none = ConsumptionHistogram::default();
    // Fewer than before, or told in another way: the processor has started again.
    let is_same = now.count >= before.count && (now.is_fine() == before.is_fine());
    let before = if is_same { before } else { &none };
    if now.is_fine() {
        let then: BTreeMap<_, _> = before.fine.iter().copied().collect();
        for (bucket, count) in &now.fine {
            let then = then.get(bucket).copied().unwrap_or_default();
            times.add(*bucket, count.saturating_sub(then));
        }
    } else {
        add_coarse(times, now, before);
    }
}

/// Those of an older processor: as if the times between two bounds were spread evenly; those beyond the last are taken for it.
fn add_coarse(times: &mut TimeCounts, now: &ConsumptionHistogram, before: &ConsumptionHistogram) {
    let (mut low_us, mut below) = (0, 0);
    let grown = now.buckets.iter().zip(before.buckets).map(|(now, then)| now.saturating_sub(then));
    for (bound_ms, grown) in CONSUMPTION_BOUNDS_MS.into_iter().zip(grown) {
        spread(times, low_us, bound_ms * 1000, grown.saturating_sub(below));
        (low_us, below) = (bound_ms * 1000, grown.max(below));
    }
    let beyond = now.count.saturating_sub(before.count).saturating_sub(below);
    times.add(bucket_of(low_us), beyond);
}

/// Spreads so many times over the buckets above `low_us`, up to `high_us`.
fn spread(times: &mut TimeCounts, low_us: u64, high_us: u64, count: u64) {
    let width = (high_us - low_us) as f64;
    let (first, last) = (bucket_of(low_us + 1), bucket_of(high_us));
    let mut before = 0;
    for bucket in first..=last {
        let end = if bucket == last { high_us } else { lowest_us(bucket + 1) - 1 };
        // Of all up to here, so that rounding loses none.
        let until = (count as f64 * ((end - low_us) as f64 / width)).round() as u64;
        let until = if bucket == last { count } else { until.clamp(before, count) };
        times.add(bucket, until - before);
        before = until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine(fine: &[(u16, u64)]) -> ConsumptionHistogram {
        let count = fine.iter().map(|(_, count)| count).sum();
        ConsumptionHistogram { fine: fine.to_vec(), count, ..ConsumptionHistogram::default() }
    }

    fn grown(now: &ConsumptionHistogram, before: &ConsumptionHistogram) -> TimeCounts {
        let mut times = TimeCounts::default();
        add_growth(&mut times, now, before);
        times
    }

    #[test]
    fn what_is_new_counts_and_after_a_start_all_of_it() {
        let (old, new) = (fine(&[(5, 2), (9, 1)]), fine(&[(5, 2), (7, 4), (9, 2)]));
        let filled = |now, before| grown(now, before).filled().collect::<Vec<_>>();
        let none = fine(&[]);
        assert_eq!(filled(&new, &none), [(5, 2), (7, 4), (9, 2)]);
        assert_eq!(filled(&new, &old), [(7, 4), (9, 1)]);
        assert_eq!(filled(&new, &new), []);
        // Fewer: it has started again.
        assert_eq!(filled(&old, &new), [(5, 2), (9, 1)]);
        // The older program was ended, the newer one has begun.
        let older = ConsumptionHistogram { buckets: [2; 15], count: 2, ..fine(&[]) };
        assert_eq!(filled(&old, &older), [(5, 2), (9, 1)]);
    }

    /// The form that processors of 0.1.0 tell.
    #[test]
    fn the_older_form_is_read_as_far_as_its_bounds_tell() {
        let mut buckets = [300; CONSUMPTION_BOUNDS_MS.len()];
        // 100 up to 5 ms, 100 more up to 20 ms, 100 in minutes.
        buckets[..13].fill(200);
        buckets[..4].fill(100);
        buckets[..2].fill(0);
        let older = ConsumptionHistogram { buckets, count: 310, ..fine(&[]) };
        let times = grown(&older, &ConsumptionHistogram::default());
        assert_eq!(times.total(), 310);
        let is_near = |part, ms: f64| {
            let got = times.percentile_ms(part).unwrap();
            assert!((got - ms).abs() < ms * 0.02, "{part}: {got} for {ms}");
        };
        is_near(50.0 / 310.0, 3.5);
        is_near(150.0 / 310.0, 15.0);
        is_near(250.0 / 310.0, 35_000.0);
        is_near(1.0, 600_000.0);
        let more = ConsumptionHistogram { buckets: [320; 15], count: 330, ..fine(&[]) };
        assert_eq!(grown(&more, &older).total(), 320);
    }
}
