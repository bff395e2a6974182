//! Reads the dead letters of a data directory: the newest that were kept.

use std::ops::Range;
use std::path::Path;

use anyhow::{Result, bail};
use rusqlite::{Connection, params};

use super::letter::{DEAD_LETTERS_MAX, SavedDeadLetter};
use super::snapshot::read_with;
use crate::model::unix_time::UnixMs;

/// Calls `each` for every dead letter in a data directory, oldest first. False where there is no ledger.
///
/// # Errors
/// `each`'s; SQLite's; a row that is damaged; and as [`read`](super::snapshot::read).
pub fn dead_letters(
    directory: &Path,
    mut each: impl FnMut(SavedDeadLetter) -> Result<()>,
) -> Result<bool> {
    let Some(found) = read_with(directory, |connection, _, loaded| {
        let newest = loaded.letters.last().map_or(i64::MAX, |letter| letter.number);
        let numbers = newest.saturating_sub(DEAD_LETTERS_MAX)
            ..loaded.letters.first().map_or(i64::MAX, |letter| letter.number);
        Ok((rows(connection, numbers)?, loaded.letters))
    })?
    else {
        return Ok(false);
    };
    let (saved, newer) = found;
    saved.into_iter().chain(newer).try_for_each(&mut each)?;
    Ok(true)
}

/// The rows with those numbers, the first excluded.
fn rows(connection: &Connection, numbers: Range<i64>) -> Result<Vec<SavedDeadLetter>> {
    let mut statement = connection.prepare(
        "SELECT number, at, nsqd, message_id, reason, size, body,
           row_check = row_check(number, at, nsqd, message_id, reason, size, body)
         FROM dead_letters WHERE number > ?1 AND number < ?2 ORDER BY number",
    )?;
    let first = if numbers.end == i64::MAX { 0 } else { numbers.start };
    let rows = statement.query_map(params![first, numbers.end], |row| {
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
