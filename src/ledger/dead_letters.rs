//! The bodies that were no play: the newest are kept, with the reason, to be looked at and sent again.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use base64::prelude::{BASE64_STANDARD, Engine};
use rusqlite::{Connection, Transaction, params};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::commit::DeadLetter;
use super::tables::{FILE, SCHEMA};
use crate::model::unix_time::UnixMs;

/// Dead letters that are kept; older ones go first.
pub const DEAD_LETTERS_MAX: i64 = 10_000;

/// The most of one body that is kept, in bytes: with [`DEAD_LETTERS_MAX`] at most 160 MB on disk.
const BODY_MAX: usize = 16 * 1024;

/// The most of a body in one line, in characters.
const SHOWN_MAX: usize = 80;

/// A dead letter as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedDeadLetter {
    /// 1, 2, … in the order of the ledger.
    pub number: i64,
    /// When it was kept.
    pub at: UnixMs,
    /// The address of the nsqd it came from.
    pub nsqd: String,
    /// Its message's ID there.
    pub message_id: String,
    /// Why it is no play. May quote what a stranger sent.
    pub reason: String,
    /// Bytes of the whole body.
    pub size: i64,
    /// The body, cut to 16 KiB.
    pub body: Vec<u8>,
}

/// One line, whatever a stranger sent.
impl fmt::Display for SavedDeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, at, nsqd, message_id, reason, size, body } = self;
        let start: String = String::from_utf8_lossy(body).chars().take(SHOWN_MAX).collect();
        write!(f, "{number} {} {nsqd} {message_id} {size} bytes: {reason}: {start:?}", at.0)
    }
}

impl Serialize for SavedDeadLetter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("SavedDeadLetter", 7)?;
        object.serialize_field("number", &self.number)?;
        object.serialize_field("at", &self.at)?;
        object.serialize_field("nsqd", &self.nsqd)?;
        object.serialize_field("message_id", &self.message_id)?;
        object.serialize_field("reason", &self.reason)?;
        object.serialize_field("size", &self.size)?;
        match std::str::from_utf8(&self.body) {
            Ok(text) => object.serialize_field("body", text)?,
            Err(_) => object.serialize_field("body_base64", &BASE64_STANDARD.encode(&self.body))?,
        }
        object.end()
    }
}

/// Keeps dead letters in the commit that counts them.
pub(super) fn keep<'a>(
    transaction: &Transaction<'_>,
    letters: impl Iterator<Item = &'a DeadLetter>,
    now: UnixMs,
) -> Result<()> {
    for DeadLetter { nsqd, message, reason, body } in letters {
        transaction
            .prepare_cached(
                "INSERT INTO dead_letters (at, nsqd, message_id, reason, size, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                now.0,
                nsqd,
                message.id().to_string(),
                reason.as_str(),
                body.len() as i64,
                &body[..body.len().min(BODY_MAX)],
            ])?;
        let oldest = transaction.last_insert_rowid() - DEAD_LETTERS_MAX;
        transaction
            .prepare_cached("DELETE FROM dead_letters WHERE number <= ?1")?
            .execute([oldest])?;
    }
    Ok(())
}

/// Calls `each` for every dead letter in a data directory, oldest first. False where there is no ledger.
///
/// # Errors
/// `each`'s, and SQLite's.
pub fn dead_letters(
    directory: &Path,
    each: impl FnMut(SavedDeadLetter) -> Result<()>,
) -> Result<bool> {
    let Some(connection) = SCHEMA.open_reader(&directory.join(FILE))? else { return Ok(false) };
    read_letters(&connection, each)?;
    Ok(true)
}

fn read_letters(
    connection: &Connection,
    mut each: impl FnMut(SavedDeadLetter) -> Result<()>,
) -> Result<()> {
    let mut statement = connection.prepare(
        "SELECT number, at, nsqd, message_id, reason, size, body FROM dead_letters ORDER BY number",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        each(SavedDeadLetter {
            number: row.get(0)?,
            at: UnixMs(row.get(1)?),
            nsqd: row.get(2)?,
            message_id: row.get(3)?,
            reason: row.get(4)?,
            size: row.get(5)?,
            body: row.get(6)?,
        })?;
    }
    Ok(())
}
