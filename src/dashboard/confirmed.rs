//! Which plays of each producer are counted for good: what the producers' outboxes ask.

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use uuid::Uuid;

use crate::model::play::PlayIdentity;
use crate::wire::{
    CONFIRMED_PRODUCERS_MAX, CONFIRMED_RUNS_MAX, Confirmed, ConfirmedUpdate, ProducerConfirmed,
};

/// The most producers that are remembered; those longest unchanged go first.
const PRODUCERS_MAX: i64 = 100_000;

/// Whether an update has the shape that it must have; if not, why.
pub(super) fn check(update: &ConfirmedUpdate) -> Result<(), String> {
    let producers = &update.producers;
    if producers.is_empty() || producers.len() > CONFIRMED_PRODUCERS_MAX {
        let count = producers.len();
        return Err(format!("a message has 1 to {CONFIRMED_PRODUCERS_MAX} producers, not {count}"));
    }
    producers.iter().try_for_each(|told| {
        check_runs(&told.confirmed)
            .map_err(|reason| format!("producer {}: {reason}", told.producer))
    })
}

fn check_runs(Confirmed { watermark, above }: &Confirmed) -> Result<(), String> {
    if above.len() > CONFIRMED_RUNS_MAX {
        return Err(format!("{} runs are over the limit of {CONFIRMED_RUNS_MAX}", above.len()));
    }
    let mut end = *watermark;
    for run in above {
        if run[0] <= end || run[1] <= run[0] {
            return Err(format!(
                "the run {run:?} is empty, or not above {end}, where the one before ends"
            ));
        }
        end = run[1];
    }
    if end > PlayIdentity::MAX_SEQ + 1 {
        return Err(format!("{end} is beyond the largest number of a play"));
    }
    Ok(())
}

/// What either of them says.
fn union(one: &Confirmed, other: &Confirmed) -> Confirmed {
    let mut watermark = one.watermark.max(other.watermark);
    let mut runs: Vec<[u64; 2]> = one.above.iter().chain(&other.above).copied().collect();
    runs.sort_unstable();
    let mut above: Vec<[u64; 2]> = Vec::new();
    for [start, end] in runs {
        match above.last_mut() {
            _ if start <= watermark => watermark = watermark.max(end),
            Some(last) if start <= last[1] => last[1] = last[1].max(end),
            _ => above.push([start, end]),
        }
    }
    above.truncate(CONFIRMED_RUNS_MAX);
    Confirmed { watermark, above }
}

/// Adds what a processor has told.
pub(super) fn merge_all(
    transaction: &Transaction<'_>,
    told: &[ProducerConfirmed],
    now: i64,
) -> Result<()> {
    for ProducerConfirmed { producer, confirmed } in told {
        let known = read(transaction, producer)?;
        let merged = union(&known, confirmed);
        if merged == known {
            continue;
        }
        transaction
            .prepare_cached("INSERT OR REPLACE INTO confirmed VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
                producer,
                merged.watermark as i64,
                serde_json::to_string(&merged.above)?,
                now
            ])?;
        if known == Confirmed::default() {
            transaction
                .prepare_cached(
                    "DELETE FROM confirmed WHERE producer =
                       (SELECT producer FROM confirmed ORDER BY changed_at LIMIT 1)
                     AND (SELECT count(*) FROM confirmed) > ?1",
                )?
                .execute([PRODUCERS_MAX])?;
        }
    }
    Ok(())
}

/// What is known of a producer; nothing of an unknown one.
pub(super) fn read(connection: &Connection, producer: &Uuid) -> Result<Confirmed> {
    let row: Option<(i64, String)> = connection
        .prepare_cached("SELECT watermark, above FROM confirmed WHERE producer = ?1")?
        .query_row([producer], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((watermark, above)) = row else { return Ok(Confirmed::default()) };
    Ok(Confirmed { watermark: watermark.unsigned_abs(), above: serde_json::from_str(&above)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confirmed(watermark: u64, above: &[[u64; 2]]) -> Confirmed {
        Confirmed { watermark, above: above.to_vec() }
    }

    #[test]
    fn shapes_are_checked() {
        for (above, reason) in [
            (&[[5, 6]][..], ""),
            (&[[4, 5]], "not above 4"),
            (&[[6, 6]], "is empty"),
            (&[[6, 5]], "is empty"),
            (&[[6, 8], [8, 9]], "not above 8"),
            (&[[6, 8], [9, u64::MAX]], "beyond the largest number"),
            (&[[9, 10]; 65], "65 runs"),
        ] {
            let error = check_runs(&confirmed(4, above)).err().unwrap_or_default();
            assert_eq!(error.is_empty(), reason.is_empty(), "{above:?}: {error}");
            assert!(error.contains(reason), "{above:?}: {error}");
        }
    }

    #[test]
    fn a_union_holds_what_either_says() {
        for (one, other, both) in [
            (confirmed(4, &[]), confirmed(2, &[]), confirmed(4, &[])),
            (confirmed(4, &[[6, 8]]), confirmed(2, &[[3, 5]]), confirmed(5, &[[6, 8]])),
            (confirmed(4, &[[6, 8]]), confirmed(0, &[[4, 6], [9, 12]]), confirmed(8, &[[9, 12]])),
            (
                confirmed(0, &[[2, 4], [8, 9]]),
                confirmed(0, &[[3, 6]]),
                confirmed(0, &[[2, 6], [8, 9]]),
            ),
        ] {
            assert_eq!(union(&one, &other), both);
            assert_eq!(union(&other, &one), both);
            assert_eq!(union(&both, &one), both);
        }
    }
}
