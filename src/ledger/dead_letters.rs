//! Reads the dead letters of a data directory: the newest that were kept.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, params};

use super::letter::{DEAD_LETTERS_MAX, SavedDeadLetter};
use super::schema::{FILE, SCHEMA};
use super::snapshot::read_with;
use crate::model::unix_time::UnixMs;

/// Letters that are read at once, of up to 16 KiB each: so memory is bounded, and the processor may write in between.
pub(super) const PAGE: usize = 1_000;

/// Calls `each` for every dead letter in a data directory, oldest first. False where there is no ledger. Those that the
/// processor forgets meanwhile are left out.
///
/// # Errors
/// `each`'s; SQLite's; a row that is damaged; and as [`read`](super::snapshot::read).
pub fn dead_letters(
    directory: &Path,
    mut each: impl FnMut(SavedDeadLetter) -> Result<()>,
) -> Result<bool> {
    let found = read_with(directory, |connection, _, loaded| {
        let in_table = "SELECT coalesce(max(number), 0) FROM dead_letters";
        let in_table: i64 = connection.query_row(in_table, [], |row| row.get(0))?;
        let newest = loaded.letters.last().map_or(in_table, |letter| letter.number);
        let behind = loaded.letters.first().map_or(in_table + 1, |letter| letter.number);
        Ok((newest - DEAD_LETTERS_MAX + 1..behind, loaded.gone, loaded.letters))
    })?;
    let Some((mut numbers, gone, newer)) = found else { return Ok(false) };
    let connection = SCHEMA.open_reader(&directory.join(FILE))?.context("the ledger is gone")?;
    loop {
        let page = page(&connection, numbers.clone())?;
        let Some(last) = page.last() else { break };
        numbers.start = last.number + 1;
        page.into_iter().filter(|letter| !gone.has(letter)).try_for_each(&mut each)?;
    }
    newer.into_iter().try_for_each(&mut each)?;
    Ok(true)
}

/// The first rows with those numbers, as many as are read at once.
pub(super) fn page(connection: &Connection, numbers: Range<i64>) -> Result<Vec<SavedDeadLetter>> {
    let mut statement = connection.prepare_cached(
        "SELECT number, at, nsqd, message_id, reason, size, body,
           row_check = row_check(number, at, nsqd, message_id, reason, size, body)
         FROM dead_letters WHERE number >= ?1 AND number < ?2 ORDER BY number LIMIT ?3",
    )?;
    let rows = statement.query_map(params![numbers.start, numbers.end, PAGE as i64], |row| {
        let letter = SavedDeadLetter {
            number: row.get(0)?,
            at: UnixMs(row.get(1)?),
            nsqd: row.get(2)?,
            message_id: row.get(3)?,
            reason: row.get(4)?,
            size: row.get(5)?,
            body: row.get(6)?,
        };
        Ok((letter, row.get::<_, bool>(7)?))
    })?;
    rows.map(|row| match row? {
        (letter, true) => Ok(letter),
        (letter, false) => {
            bail!("the row {} of the table dead_letters does not fit its check", letter.number)
        }
    })
    .collect()
}
