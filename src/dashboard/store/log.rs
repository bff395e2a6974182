//! The log: updates as they came, which the tables do not have yet. Read once, at the start.

use anyhow::{Context, Result};
use foldhash::HashMap;
use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

use super::index::{self, Index, ProcessorCount};
use super::pending::PendingHistory;
use crate::model::unix_time::UnixMs;
use crate::model::video::VideoCount;

/// A video in the log: id, plays, last_played_at (0: none), little-endian.
const ENTRY: usize = 32;

/// What is in the database.
pub(super) struct Loaded {
    /// Every count.
    pub(super) index: Index,
    /// What no checkpoint has written yet.
    pub(super) pending: PendingHistory,
    /// Each processor's number in the database.
    pub(super) numbers: HashMap<Uuid, u32>,
}

/// Reads everything; the log is played over the table of counts.
pub(super) fn load(connection: &Connection) -> Result<Loaded> {
    // One snapshot: between two, a checkpoint could move rows from the log to the table.
    let snapshot = connection.unchecked_transaction()?;
    let numbers = snapshot
        .prepare("SELECT processor, number FROM processors")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut failed = None;
    let mut statement = snapshot
        .prepare("SELECT video_id, processor, plays, updated_at, last_played_at FROM counts")?;
    let rows = statement
        .query_map([], |row| {
            let told = ProcessorCount { processor: row.get(1)?, plays: row.get(2)? };
            Ok((row.get(0)?, told, UnixMs(row.get(3)?), UnixMs(row.get(4)?)))
        })?
        .map_while(|row| row.map_err(|error| failed = Some(error)).ok());
    let mut index = Index::load(rows);
    if let Some(error) = failed {
        return Err(error).context("the counts cannot be read");
    }
    let mut pending = PendingHistory::default();
    let mut statement =
        snapshot.prepare("SELECT at, processor, counts FROM log ORDER BY number")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (at, processor, counts): (i64, u32, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        for count in decode(&counts) {
            index::apply(&mut index, &mut pending, processor, &count, UnixMs(at));
        }
    }
    drop(rows);
    drop(statement);
    Ok(Loaded { index, pending, numbers })
}

/// Adds an update.
pub(super) fn append(
    transaction: &Transaction<'_>,
    at: UnixMs,
    processor: u32,
    counts: &[VideoCount],
) -> Result<()> {
    transaction
        .prepare_cached("INSERT INTO log (at, processor, counts) VALUES (?1, ?2, ?3)")?
        .execute(params![at.0, processor, encode(counts)])?;
    Ok(())
}

/// The number of the newest update; 0 without any.
pub(super) fn newest(connection: &Connection) -> Result<i64> {
    let sql = "SELECT coalesce(max(number), 0) FROM log";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// Removes the updates up to that number.
pub(super) fn remove(transaction: &Transaction<'_>, up_to: i64) -> Result<()> {
    transaction.execute("DELETE FROM log WHERE number <= ?1", [up_to])?;
    Ok(())
}

fn encode(counts: &[VideoCount]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(counts.len() * ENTRY);
    for count in counts {
        bytes.extend(count.video_id.as_bytes());
        bytes.extend(count.plays.to_le_bytes());
        bytes.extend(count.last_played_at.unwrap_or_default().0.to_le_bytes());
    }
    bytes
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
            video_id: Uuid::from_bytes(id),
            plays: number(16),
            last_played_at: Some(UnixMs(number(24) as i64)).filter(|time| time.0 > 0),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_holds_what_was_told() {
        let count = |id, plays, last_played_at| VideoCount {
            video_id: Uuid::from_u128(id),
            plays,
            last_played_at,
        };
        let counts =
            [count(1, 0, None), count(u128::MAX, crate::model::video::MAX_PLAYS, Some(UnixMs(7)))];
        assert!(decode(&encode(&counts)).eq(counts));
    }
}
