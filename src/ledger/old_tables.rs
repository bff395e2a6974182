//! Takes over a ledger of schema 2, from before there was a journal: its records are rows of a table, its rows have no
//! check. All of it is read, and written to the tables of today, in the transaction of the migration.

use anyhow::{Result, bail};
use rusqlite::{Row, Transaction, params};
use uuid::Uuid;

use super::checkpoint::SavedVideo;
use super::counters::Counters;
use super::load::{StateLoader, TablesAsOf};
use super::message_window::MessageBudget;
use super::record::{Record, decode_messages_v1, decode_runs};
use super::rewrite::write_whole;
use super::table_rows::{RowCounts, unsigned};
use super::tables::{LedgerRow, count_letters};
use crate::storage::failpoint;

/// See [`Schema::migrate`](crate::storage::sqlite::Schema::migrate).
pub(super) fn migrate(transaction: &Transaction<'_>, _found: i64) -> Result<()> {
    let old = transaction.prepare("SELECT 1 FROM ledger_2")?.exists([])?;
    if old {
        take_over(transaction)?;
    }
    transaction.execute_batch(
        "DROP TABLE ledger_2; DROP TABLE records_2; DROP TABLE videos_2; DROP TABLE producers_2; DROP TABLE messages_2;
         DROP TABLE dead_letters_2;",
    )?;
    Ok(())
}

fn take_over(transaction: &Transaction<'_>) -> Result<()> {
    let mut row = read_row(transaction)?;
    let loaded = read_old(transaction, row.as_of)?.finish()?;
    row.rows.letters = copy_letters(transaction)?;
    write_whole(transaction, &mut row, loaded)?;
    failpoint::hit("ledger-in-migration");
    Ok(())
}

fn read_row(transaction: &Transaction<'_>) -> Result<LedgerRow> {
    Ok(transaction.query_row(
        "SELECT processor, machine, simulation, starts, dashboard, epoch, as_of, counted, by_message, recovered,
           duplicates, conflicting, rejected FROM ledger_2",
        [],
        |row| {
            let mut fields = [0; 6];
            for (field, column) in fields.iter_mut().zip(7..) {
                *field = unsigned(row, column)?;
            }
            Ok(LedgerRow {
                processor: row.get(0)?,
                machine: row.get(1)?,
                simulation: row.get(2)?,
                starts: unsigned(row, 3)?,
                life: Uuid::new_v4(),
                position: None,
                as_of: TablesAsOf {
                    counters: Counters::from_fields(fields),
                    as_of: unsigned(row, 6)?,
                    checkpointed: 0,
                    dashboard: row.get(4)?,
                    epoch: unsigned(row, 5)?,
                },
                rows: RowCounts::default(),
                generation: 0,
            })
        },
    )?)
}

fn read_old(transaction: &Transaction<'_>, as_of: TablesAsOf) -> Result<StateLoader> {
    let records =
        all(transaction, "SELECT number, record FROM records_2 ORDER BY number", |row| {
            Ok((unsigned(row, 0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
    let records = records
        .into_iter()
        .map(|(number, bytes)| Ok((number, Record::decode(&bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    let saved: u64 =
        transaction.query_row("SELECT count(*) FROM videos_2", [], |row| unsigned(row, 0))?;
    let new: usize = records.iter().map(|(_, record)| record.new_videos.len()).sum();
    let mut loader = StateLoader::new(as_of, MessageBudget::default());
    let mut videos = transaction.prepare(
        "SELECT number, video_id, plays, published, last_played_at, as_of, epoch FROM videos_2",
    )?;
    let mut rows = videos.query([])?;
    while let Some(row) = rows.next()? {
        let number: u32 = row.get(0)?;
        // Its row has no check: a number beyond all must not cost the memory for so many.
        if number as usize >= saved as usize + new {
            bail!("the row {number} of the table videos is damaged");
        }
        let is_told = unsigned(row, 6)? == as_of.epoch;
        let video = SavedVideo {
            number,
            id: row.get(1)?,
            plays: unsigned(row, 2)?,
            published: if is_told { unsigned(row, 3)? } else { 0 },
            last_played_at: unsigned(row, 4)?,
        };
        loader.video(&video, unsigned(row, 5)?)?;
    }
    for (id, runs) in all(transaction, "SELECT producer, counted FROM producers_2", |row| {
        Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?))
    })? {
        loader.producer(id, decode_runs(&runs)?);
    }
    for keys in all(transaction, "SELECT keys FROM messages_2 ORDER BY number", |row| {
        row.get::<_, Vec<u8>>(0)
    })? {
        let keys = decode_messages_v1(&keys)?;
        loader.old_messages(keys);
    }
    for (number, record) in &records {
        loader.record(*number, record)?;
    }
    Ok(loader)
}

/// Copies the dead letters; how many there are.
fn copy_letters(transaction: &Transaction<'_>) -> Result<u64> {
    transaction.execute(
        "INSERT INTO dead_letters SELECT number, at, nsqd, message_id, reason, size, body,
           row_check(number, at, nsqd, message_id, reason, size, body) FROM dead_letters_2",
        params![],
    )?;
    Ok(count_letters(transaction)?)
}

fn all<T>(
    transaction: &Transaction<'_>,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    Ok(transaction.prepare(sql)?.query_map([], read)?.collect::<rusqlite::Result<_>>()?)
}
