//! The tables as a whole: read into memory, emptied, and what of them a slice writes.

use anyhow::{Context, Result};
use rusqlite::{Connection, Transaction, params};

use super::catalog::Catalog;
use super::identity::{CountSums, TablesIdentity};
use super::index::{Index, ProcessorCount};
use super::list::VideoRow;
use super::memory::{Memory, ProcessorNumbers};
use super::pending::PendingSlice;
use super::row::{check_row, damaged};
use super::{catalog_tables, confirmed, history, ledgers};
use crate::model::unix_time::UnixMs;
use crate::model::video_id::VideoId;
use crate::model::words::{grouped, many};

/// A video, and what each processor has counted of it.
pub(super) type LoadedVideo = (VideoRow, Vec<ProcessorCount>);

/// Reads everything but history and what is confirmed of producers, in one snapshot of the caller's; and the sums of the
/// counts, which are not compared.
///
/// # Errors
/// A row does not fit its check; or SQLite's.
pub(super) fn load(connection: &Connection) -> Result<(Memory, CountSums)> {
    let processors = load_processors(connection)?;
    let (mut sums, mut failed) = (CountSums::default(), None);
    let mut statement = connection.prepare(
        "SELECT video_id, processor, plays, updated_at, last_played_at,
                row_check = row_check(video_id, processor, plays, updated_at, last_played_at) FROM counts",
    )?;
    let mut rows = statement.query([])?;
    let mut next = || -> Result<Option<(VideoId, ProcessorCount, UnixMs, UnixMs)>> {
        let Some(row) = rows.next()? else { return Ok(None) };
        check_row(connection, "counts", row.get(5)?)?;
        let told = ProcessorCount { processor: row.get(1)?, plays: row.get(2)? };
        if !processors.has(told.processor) {
            let what = format!("the table processors has no row {}", told.processor);
            return Err(damaged(connection, what).into());
        }
        sums.rows += 1;
        sums.plays = sums.plays.wrapping_add(told.plays);
        Ok(Some((row.get(0)?, told, UnixMs(row.get(3)?), UnixMs(row.get(4)?))))
    };
    let rows = std::iter::from_fn(|| {
        next().unwrap_or_else(|error| {
            failed = Some(error);
            None
        })
    });
    let mut index = Index::load(rows);
    if let Some(error) = failed {
        return Err(error).context("the counts cannot be read");
    }
    *index.catalog_mut() = catalog_tables::load(connection, &mut sums)?;
    index.number_processors(processors.all());
    index.catalog_mut().number_imports(|key| processors.get(key));
    confirmed::check_rows(connection)?;
    let ledgers = ledgers::load(connection)?;
    let mut memory = Memory { index, processors, ledgers, ..Memory::default() };
    memory.forget_what_is_left();
    Ok((memory, sums))
}

fn load_processors(connection: &Connection) -> Result<ProcessorNumbers> {
    let mut statement = connection.prepare(
        "SELECT number, processor, row_check = row_check(number, processor) FROM processors",
    )?;
    let mut rows = statement.query([])?;
    let mut known = Vec::new();
    while let Some(row) = rows.next()? {
        check_row(connection, "processors", row.get(2)?)?;
        known.push((row.get(0)?, row.get(1)?));
    }
    Ok(ProcessorNumbers::load(known.into_iter()))
}

/// Goes on if the tables hold as many counts, as many plays and as much of the catalog as their one row says.
///
/// # Errors
/// They do not: rows have vanished, or come from elsewhere.
pub(super) fn check_sums(
    connection: &Connection,
    identity: &TablesIdentity,
    found: CountSums,
) -> Result<()> {
    let CountSums { rows, plays, catalog } = identity.sums();
    if found.catalog != catalog {
        let what = format!(
            "the tables titles, changes and imports have {} rows, and were written with {catalog}",
            found.catalog
        );
        return Err(damaged(connection, what).into());
    }
    if found != identity.sums() {
        let what = format!(
            "the table counts has {} with {}, and was written with {} and {}",
            many(found.rows.unsigned_abs(), "row"),
            many(found.plays.unsigned_abs(), "play"),
            grouped(rows.unsigned_abs()),
            grouped(plays.unsigned_abs())
        );
        return Err(damaged(connection, what).into());
    }
    Ok(())
}

/// Writes all that a slice has: new processors, and of each video its counts and its newest history; keeps `sums`.
///
/// # Errors
/// A row of before does not fit its check; or SQLite's.
pub(super) fn write_slice(
    transaction: &Transaction<'_>,
    slice: &PendingSlice,
    videos: &[LoadedVideo],
    sums: &mut CountSums,
) -> Result<()> {
    for (number, id) in &slice.processors {
        transaction
            .prepare_cached("INSERT INTO processors VALUES (?1, ?2, row_check(?1, ?2))")?
            .execute(params![number, id])?;
    }
    for ((row, counts), (id, minutes)) in videos.iter().zip(&slice.videos) {
        debug_assert_eq!(row.video_id, *id);
        write_counts(transaction, row, counts, sums)?;
        for (minute, plays) in minutes {
            history::add(transaction, id, *minute, *plays)?;
        }
    }
    Ok(())
}

/// Writes a video's counts, and adds what is new in them to the sums.
fn write_counts(
    transaction: &Transaction<'_>,
    row: &VideoRow,
    counts: &[ProcessorCount],
    sums: &mut CountSums,
) -> Result<()> {
    let (id, updated_at) = (row.video_id, row.updated_at.0);
    let last_played_at = row.last_played_at.map_or(0, |at| at.0);
    for ProcessorCount { processor, plays } in counts {
        let mut before = transaction.prepare_cached(
            "SELECT plays, row_check = row_check(video_id, processor, plays, updated_at, last_played_at)
             FROM counts WHERE video_id = ?1 AND processor = ?2",
        )?;
        let mut before = before.query(params![id, processor])?;
        match before.next()? {
            None => sums.rows += 1,
            Some(row) => {
                check_row(transaction, "counts", row.get(1)?)?;
                sums.plays = sums.plays.wrapping_sub(row.get(0)?);
            }
        }
        sums.plays = sums.plays.wrapping_add(*plays);
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO counts VALUES (?1, ?2, ?3, ?4, ?5, row_check(?1, ?2, ?3, ?4, ?5))",
            )?
            .execute(params![id, processor, plays, updated_at, last_played_at])?;
    }
    Ok(())
}

/// Writes all that waits in memory, at once; keeps `sums`.
///
/// # Errors
/// As [`write_slice`].
pub(super) fn write_all(
    transaction: &Transaction<'_>,
    memory: &mut Memory,
    sums: &mut CountSums,
) -> Result<()> {
    if memory.pending.cleared().is_some() {
        clear(transaction)?;
        *sums = CountSums { catalog: sums.catalog, ..CountSums::default() };
    }
    let slice = memory.pending.begin_slice(None, usize::MAX);
    write_slice(transaction, &slice, &memory.index.of_slice(&slice), sums)?;
    memory.pending.end_slices();
    if let Some(changed) = memory.ledgers.take_changed() {
        ledgers::write(transaction, &changed)?;
    }
    write_catalog(transaction, memory.index.catalog_mut(), sums)?;
    if memory.confirmed.take_forgotten() {
        confirmed::empty(transaction)?;
    }
    let taken = memory.confirmed.take_changed(None, usize::MAX);
    confirmed::write(transaction, &taken)?;
    memory.confirmed.written();
    Ok(())
}

/// Writes all of the catalog that the tables do not have; keeps `sums`.
///
/// # Errors
/// SQLite's.
pub(super) fn write_catalog(
    transaction: &Transaction<'_>,
    catalog: &mut Catalog,
    sums: &mut CountSums,
) -> Result<()> {
    let taken = catalog.take_changed(None, usize::MAX);
    catalog_tables::write(transaction, &taken, sums)?;
    catalog.written();
    Ok(())
}

/// Empties the tables. The action log and the charts tell of time, not of counts; what a reset takes of the catalog is
/// changed there, row by row.
pub(super) fn clear(transaction: &Transaction<'_>) -> Result<()> {
    transaction.execute_batch(
        "DELETE FROM counts; DELETE FROM history_minute; DELETE FROM history_hour; DELETE FROM history_day;
         DELETE FROM processors; DELETE FROM confirmed; DELETE FROM ledgers;",
    )?;
    Ok(())
}
