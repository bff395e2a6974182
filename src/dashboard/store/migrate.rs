//! What SQL cannot do of the way from an older schema to the present one: the rows of its `log` go into the tables.

use anyhow::Result;
use rusqlite::{OptionalExtension, Transaction};
use uuid::Uuid;

use super::identity::TablesIdentity;
use super::memory::{Memory, apply_counts};
use super::tables;
use crate::model::unix_time::UnixMs;
use crate::model::video::VideoCount;

/// A video in a row of the log: id, plays, last_played_at (0: none), little-endian.
const ENTRY: usize = 32;

/// Brings over the log and the identity of a database of schema 3.
///
/// # Errors
/// SQLite's.
pub(super) fn migrate(transaction: &Transaction<'_>, found: i64) -> Result<()> {
    if found > 3 {
        return Ok(());
    }
    let old: Option<(Uuid, String)> = transaction
        .query_row("SELECT dashboard, boot FROM old_identity", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let mut identity = TablesIdentity::new();
    if let Some((id, boot)) = old {
        (identity.id, identity.boot, identity.closed) = (id, boot, None);
    }
    let (mut memory, mut sums) = tables::load(transaction)?;
    replay_log(transaction, &mut memory)?;
    tables::write_all(transaction, &mut memory, &mut sums)?;
    identity.set_sums(sums);
    identity.write(transaction)?;
    transaction.execute_batch("DROP TABLE old_identity; DROP TABLE log;")?;
    Ok(())
}

fn replay_log(transaction: &Transaction<'_>, memory: &mut Memory) -> Result<()> {
    let mut statement = transaction.prepare(
        "SELECT at, p.processor, counts FROM log LEFT JOIN processors AS p ON p.number = log.processor
         ORDER BY log.number",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (at, processor, counts): (i64, Uuid, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let counts: Vec<_> = decode(&counts).collect();
        let Memory { index, pending, processors, .. } = memory;
        apply_counts(index, pending, processors, processor, &counts, UnixMs(at));
    }
    Ok(())
}

fn decode(bytes: &[u8]) -> impl Iterator<Item = VideoCount> {
    bytes.chunks_exact(ENTRY).map(|entry| {
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&entry[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let mut id = [0; 16];
        id.copy_from_slice(&entry[..16]);
        VideoCount {
            video_id: Uuid::from_bytes(id).into(),
            plays: number(16),
            last_played_at: Some(UnixMs(number(24) as i64)).filter(|time| time.0 > 0),
        }
    })
}
