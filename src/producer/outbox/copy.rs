//! A copy of an outbox, made beside its producer or without one: one file, which is an outbox by itself. Runs on the thread of
//! the commands `backup` and `restore`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rusqlite::Connection;

use super::disk::{JOURNAL, READS, cannot_use};
use super::tables::{FILE, OutboxTablesReader, SCHEMA, StoredOutbox, make_own, stored};
use crate::journal::{self, FsDisk};
use crate::storage::sqlite_copy::copy_into;

/// Writes all that is kept in `directory` to the new file `to`, also while its producer runs; `None` where there is no
/// outbox. The copy has no journal and another life; new plays of it are of another producer, since its original may have
/// given out more numbers when it is put back.
///
/// # Errors
/// The file exists, or cannot be written; or the outbox is damaged.
pub fn copy(directory: &Path, to: &Path) -> Result<Option<()>> {
    let file = directory.join(FILE);
    let Some(reader) = SCHEMA.open_reader(&file)? else { return Ok(None) };
    let Some(tables) = OutboxTablesReader::open(directory)? else { return Ok(None) };
    for _ in 0..READS {
        let copied = copy_into(&reader, to)?;
        match complete(directory, &tables, copied) {
            Ok(true) => return Ok(Some(())),
            unfinished => {
                // It is ours, and no copy.
                std::fs::remove_file(to)
                    .with_context(|| format!("cannot remove {}", to.display()))?;
                unfinished?;
            }
        }
    }
    bail!("{}: it is written faster than it is read", cannot_use(&directory.join(JOURNAL)))
}

/// Writes into a copy of the tables what the journal has besides; false: the producer has given up a part of it meanwhile.
fn complete(directory: &Path, tables: &OutboxTablesReader, mut copy: Connection) -> Result<bool> {
    let file = directory.join(FILE);
    let StoredOutbox { mut contents, position, .. } = SCHEMA.usable(&file, stored(&copy))?;
    let mut changes = contents.unchanged();
    if let Some(position) = position {
        let path = directory.join(JOURNAL);
        let disk = FsDisk::open_reader(&path);
        let disk = disk.with_context(|| format!("{}: it is missing", cannot_use(&path)))?;
        let apply = |_, payload: &[u8]| changes.apply(payload);
        let read = journal::read(&*disk, position, apply);
        // Segments are given up only after the position has moved.
        if tables.position()? != Some(position) {
            return Ok(false);
        }
        read.with_context(|| cannot_use(&path))?;
    }
    SCHEMA.usable(&file, contents.take(changes.clone()))?;
    make_own(&mut copy, &changes)?;
    Ok(true)
}
