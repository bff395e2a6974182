//! The ledger's tables in SQLite: their schema, how a slice of a checkpoint is written, and how all is read.

use std::path::Path;

use anyhow::{Context, Result};
use rusqlite::{Connection, Row, Transaction, params};

use super::checkpoint::{CheckpointSlice, SavedVideo};
use super::counters::Counters;
use super::dedupe::MESSAGE_WINDOW;
use super::load::StateLoader;
use super::record::{Record, count_messages, decode_messages, decode_runs, encode_messages};
use super::state::LedgerState;
use crate::storage::sqlite::Schema;

/// The file in the data directory.
pub(super) const FILE: &str = "ledger.sqlite3";

pub(super) const SCHEMA: Schema = Schema {
    name: "the processor's ledger",
    // "play", and one more than the dashboard's.
    application: 0x706c_617a,
    version: 2,
    sql: include_str!("schema.sql"),
    migrations: &[
        // Both 0: what was published stays so.
        "ALTER TABLE ledger ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
         ALTER TABLE videos ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;",
    ],
    way_out: "bring back a backup, or `playcounts reset` throws the counts away",
};

/// `epoch` is that of the dashboard which the slice's videos were published to.
pub(super) fn write_slice(
    transaction: &Transaction<'_>,
    slice: &CheckpointSlice,
    epoch: u64,
) -> Result<()> {
    let (as_of, epoch) = (slice.as_of as i64, epoch as i64);
    let mut insert =
        transaction.prepare_cached("INSERT INTO videos VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    let mut update = transaction.prepare_cached(
        "UPDATE videos SET plays = ?2, published = ?3, last_played_at = ?4, as_of = ?5, epoch = ?6 WHERE number = ?1",
    )?;
    for SavedVideo { number, id, plays, published, last_played_at } in &slice.videos {
        let (plays, published, played) = (*plays as i64, *published as i64, *last_played_at as i64);
        match id {
            Some(id) => {
                insert.execute(params![number, id, plays, published, played, as_of, epoch])?
            }
            None => update.execute(params![number, plays, published, played, as_of, epoch])?,
        };
    }
    for (id, counted) in &slice.producers {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO producers VALUES (?1, ?2)")?
            .execute(params![id, counted])?;
    }
    let [counted, by_message, recovered, duplicates, conflicting, rejected] =
        slice.counters.fields().map(|field| field as i64);
    transaction
        .prepare_cached(
            "UPDATE ledger SET as_of = ?1, counted = ?2, by_message = ?3, recovered = ?4, duplicates = ?5,
             conflicting = ?6, rejected = ?7",
        )?
        .execute(params![as_of, counted, by_message, recovered, duplicates, conflicting, rejected])?;
    let Some((upto, messages)) = &slice.end else { return Ok(()) };
    if !messages.is_empty() {
        let mut keys = Vec::new();
        encode_messages(messages, &mut keys);
        transaction.execute("INSERT INTO messages (keys) VALUES (?1)", [keys])?;
        forget_messages(transaction)?;
    }
    transaction
        .prepare_cached("DELETE FROM records WHERE number <= ?1")?
        .execute([*upto as i64])?;
    Ok(())
}

/// Keeps as many messages as are remembered: the rows go that are older than those that fill the window twice.
fn forget_messages(transaction: &Transaction<'_>) -> Result<()> {
    let mut rows = transaction
        .prepare_cached("SELECT number, substr(keys, 1, 10) FROM messages ORDER BY number DESC")?;
    let mut rows = rows.query([])?;
    let mut newer = 0;
    while let Some(row) = rows.next()? {
        if newer >= 2 * MESSAGE_WINDOW as u64 {
            let oldest: i64 = row.get(0)?;
            transaction.execute("DELETE FROM messages WHERE number <= ?1", [oldest])?;
            break;
        }
        newer += count_messages(&row.get::<_, Vec<u8>>(1)?)?;
    }
    Ok(())
}

pub(super) fn read_state(connection: &Connection, file: &Path) -> Result<LedgerState> {
    read_tables(connection).with_context(|| {
        format!(
            "the ledger {} cannot be read; bring back a backup: nothing was changed",
            file.display()
        )
    })
}

fn read_tables(connection: &Connection) -> Result<LedgerState> {
    let records = all(connection, "SELECT number, record FROM records ORDER BY number", |row| {
        Ok((unsigned(row, 0)?, row.get::<_, Vec<u8>>(1)?))
    })?;
    let records = records
        .into_iter()
        .map(|(number, bytes)| Ok((number, Record::decode(&bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    let saved: u64 =
        connection.query_row("SELECT count(*) FROM videos", [], |row| unsigned(row, 0))?;
    let new: usize = records.iter().map(|(_, record)| record.new_videos.len()).sum();
    let (counters, as_of, epoch) = connection.query_row(
        "SELECT counted, by_message, recovered, duplicates, conflicting, rejected, as_of, epoch FROM ledger",
        [],
        |row| {
            let mut fields = [0; 6];
            for (index, field) in fields.iter_mut().enumerate() {
                *field = unsigned(row, index)?;
            }
            Ok((Counters::from_fields(fields), unsigned(row, 6)?, unsigned(row, 7)?))
        },
    )?;
    let mut loader = StateLoader::new(counters, as_of, saved as usize + new);
    let mut videos = connection.prepare(
        "SELECT number, video_id, plays, published, last_played_at, as_of, epoch FROM videos",
    )?;
    let mut rows = videos.query([])?;
    while let Some(row) = rows.next()? {
        let is_told = unsigned(row, 6)? == epoch;
        let video = SavedVideo {
            number: row.get(0)?,
            id: None,
            plays: unsigned(row, 2)?,
            published: if is_told { unsigned(row, 3)? } else { 0 },
            last_played_at: unsigned(row, 4)?,
        };
        loader.video(&video, row.get(1)?, unsigned(row, 5)?)?;
    }
    let producers = all(connection, "SELECT producer, counted FROM producers", |row| {
        Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?))
    })?;
    for (id, runs) in producers {
        loader.producer(id, decode_runs(&runs)?);
    }
    for keys in all(connection, "SELECT keys FROM messages ORDER BY number", |row| {
        row.get::<_, Vec<u8>>(0)
    })? {
        loader.messages(decode_messages(&keys)?);
    }
    for (number, record) in &records {
        loader.record(*number, record)?;
    }
    Ok(loader.finish()?)
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    Ok(connection.prepare(sql)?.query_map([], read)?.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.unsigned_abs())
}
