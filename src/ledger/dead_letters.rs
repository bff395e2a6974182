//! Reads the dead letters of a data directory: the newest that were kept.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, params};

use super::letter::{DEAD_LETTERS_MAX, GoneLetters, SavedDeadLetter};
use super::schema::{FILE, SCHEMA};
use super::snapshot::read_with;
use crate::model::unix_time::UnixMs;

/// Letters that are read at once, of up to 16 KiB each: so memory is bounded, and the processor may write in between.
pub(super) const PAGE: usize = 1_000;

/// The dead letters of a data directory, as of one moment: what the processor forgets meanwhile is left out.
pub(super) struct KeptLetters {
    connection: Connection,
    /// Of those that are in the table and were not read yet.
    numbers: Range<i64>,
    gone: GoneLetters,
    /// Those that are in the journal only.
    newer: Vec<SavedDeadLetter>,
}

impl KeptLetters {
    /// `None` where there is no ledger.
    ///
    /// # Errors
    /// SQLite's; and as [`read`](super::snapshot::read).
    pub(super) fn open(directory: &Path) -> Result<Option<Self>> {
        let found = read_with(directory, |connection, _, loaded| {
            let in_table = "SELECT coalesce(max(number), 0) FROM dead_letters";
            let in_table: i64 = connection.query_row(in_table, [], |row| row.get(0))?;
            let newest = loaded.letters.last().map_or(in_table, |letter| letter.number);
            let behind = loaded.letters.first().map_or(in_table + 1, |letter| letter.number);
            Ok((newest - DEAD_LETTERS_MAX + 1..behind, loaded.gone, loaded.letters))
        })?;
        let Some((numbers, gone, newer)) = found else { return Ok(None) };
        let reader = SCHEMA.open_reader(&directory.join(FILE))?;
        let connection = reader.context("the ledger's file is gone")?;
        Ok(Some(Self { connection, numbers, gone, newer }))
    }

    /// The next of them, oldest first; none: those were all.
    ///
    /// # Errors
    /// SQLite's; or a row is damaged.
    pub(super) fn next_page(&mut self) -> Result<Vec<SavedDeadLetter>> {
        let page = next_page(&self.connection, &mut self.numbers, &self.gone)?;
        Ok(if page.is_empty() { std::mem::take(&mut self.newer) } else { page })
    }
}

/// Calls `each` for every dead letter in a data directory, oldest first. False where there is no ledger. Those that the
/// processor forgets meanwhile are left out.
///
/// # Errors
/// `each`'s; SQLite's; a row that is damaged; and as [`read`](super::snapshot::read).
pub fn dead_letters(
    directory: &Path,
    mut each: impl FnMut(SavedDeadLetter) -> Result<()>,
) -> Result<bool> {
    let Some(mut kept) = KeptLetters::open(directory)? else { return Ok(false) };
    loop {
        let page = kept.next_page()?;
        if page.is_empty() {
            return Ok(true);
        }
        page.into_iter().try_for_each(&mut each)?;
    }
}

/// The first letters in the table with those numbers that are not gone, as many as are read at once; none: there are no more.
/// `numbers` goes on behind them.
pub(super) fn next_page(
    connection: &Connection,
    numbers: &mut Range<i64>,
    gone: &GoneLetters,
) -> Result<Vec<SavedDeadLetter>> {
    loop {
        let mut page = page(connection, numbers)?;
        let Some(last) = page.last() else { return Ok(page) };
        numbers.start = last.number + 1;
        page.retain(|letter| !gone.has(letter));
        if !page.is_empty() {
            return Ok(page);
        }
    }
}

/// The first rows with those numbers.
fn page(connection: &Connection, numbers: &Range<i64>) -> Result<Vec<SavedDeadLetter>> {
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
