//! A copy of a ledger, made beside its processor or without one: one file, which is a ledger by itself. Runs on the thread of
//! the commands `backup` and `restore`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, TransactionBehavior};
use uuid::Uuid;

use super::rewrite::write_whole;
use super::schema::{FILE, SCHEMA};
use super::snapshot::{TRIES, check_generation, is_released, replay};
use super::table_rows::{TABLES, check_rows, find_misfits, row_counts};
use super::tables::{LedgerRow, finish, read_left, readable};
use crate::storage::sqlite::LOST_CONTENT;
use crate::storage::sqlite_copy::copy_into;

/// Why a copy is made again.
#[derive(Debug)]
enum CopyOutcome {
    /// It is of one moment.
    Whole,
    /// The processor has given up a part of the journal, or has written the tables, since they were copied.
    Again(anyhow::Error),
}

/// Writes all that is committed in `directory` to the new file `to`, also while a processor counts; `None` where there is no
/// ledger. The copy has no journal, and another life than its original.
///
/// # Errors
/// The file exists, or cannot be written; or the ledger is damaged.
pub fn copy(directory: &Path, to: &Path) -> Result<Option<()>> {
    let file = directory.join(FILE);
    let Some(reader) = SCHEMA.open_reader(&file)? else { return Ok(None) };
    let mut last = None;
    for _ in 0..TRIES {
        let copy = copy_into(&reader, to)?;
        match complete(directory, &reader, copy) {
            Ok(CopyOutcome::Whole) => return Ok(Some(())),
            unfinished => {
                // It is ours, and no copy.
                std::fs::remove_file(to)
                    .with_context(|| format!("cannot remove {}", to.display()))?;
                match readable(&file, unfinished)? {
                    CopyOutcome::Again(why) => last = Some(why),
                    CopyOutcome::Whole => {}
                }
            }
        }
    }
    let last = last.unwrap_or_else(|| anyhow::anyhow!("try again"));
    Err(last).with_context(|| format!("{} changes faster than it can be read", file.display()))
}

/// Writes into a copy of the tables what the journal has besides.
fn complete(directory: &Path, reader: &Connection, mut copy: Connection) -> Result<CopyOutcome> {
    let mut row = LedgerRow::read(&copy)?.context(LOST_CONTENT)?;
    check_rows(&copy, &row.rows)?;
    for table in &TABLES {
        let (misfits, _) = find_misfits(&copy, table, 1)?;
        if let Some(key) = misfits.first() {
            bail!("the row {key} of the table {} does not fit its check", table.name);
        }
    }
    let mut loader = read_left(&copy, &row)?;
    match replay(directory, &row, &mut loader) {
        Err(error) if is_released(&error) => {
            // A part is given up only after the tables' position has moved; else it is missing.
            let now = LedgerRow::read(reader)?.and_then(|row| row.position);
            return if now == row.position { Err(error) } else { Ok(CopyOutcome::Again(error)) };
        }
        replayed => replayed?,
    }
    let loaded = finish(&copy, loader)?;
    if let Err(older) = check_generation(&loaded, &row) {
        return Ok(CopyOutcome::Again(older));
    }
    row.life = Uuid::new_v4();
    // The versions of its messages to the dashboard go on above those of the original's present start.
    row.starts += 1;
    row.generation += 1;
    let transaction = copy.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // The producers' rows stay: those that the journal tells of are written over.
    transaction.execute_batch("DELETE FROM videos; DELETE FROM messages;")?;
    row.rows = row_counts(&transaction)?;
    write_whole(&transaction, &mut row, loaded)?;
    transaction.commit()?;
    Ok(CopyOutcome::Whole)
}
