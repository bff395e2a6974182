//! Which plays of each producer are counted for good, in SQLite.

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use uuid::Uuid;

use crate::wire::{Confirmed, ProducerConfirmed};

/// The most producers that are remembered; those longest unchanged go first.
const PRODUCERS_MAX: i64 = 100_000;

/// Adds what a processor has told.
pub(super) fn merge_all(
    transaction: &Transaction<'_>,
    told: &[ProducerConfirmed],
    now: i64,
) -> Result<()> {
    for ProducerConfirmed { producer, confirmed } in told {
        let known = read(transaction, producer)?;
        let merged = known.union(confirmed);
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
