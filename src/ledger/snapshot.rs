//! What the ledger in a data directory holds, read beside a processor or without one; and how it is thrown away.

use std::path::Path;

use anyhow::{Result, bail};
use rusqlite::OptionalExtension;
use uuid::Uuid;

use super::counters::Counters;
use super::tables::{FILE, SCHEMA, read_state};
use crate::model::seq_set::SeqSet;
use crate::model::video::VideoState;

/// What a ledger holds.
#[derive(Debug)]
pub struct Snapshot {
    /// Whose counts these are.
    pub processor: Uuid,
    /// By outcome.
    pub counters: Counters,
    /// Every video, in no order.
    pub videos: Vec<VideoState>,
    /// The counted plays of each producer.
    pub producers: Vec<(Uuid, SeqSet)>,
}

/// What the ledger in a data directory holds, whether or not a processor uses it; `None` where there is none.
///
/// # Errors
/// As [`SqliteLedger::open`](super::SqliteLedger::open), and the operating system's.
pub fn read(directory: &Path) -> Result<Option<Snapshot>> {
    let file = directory.join(FILE);
    let Some(mut connection) = SCHEMA.open_reader(&file)? else { return Ok(None) };
    // One moment in time, although the processor goes on.
    let transaction = connection.transaction()?;
    let processor =
        transaction.query_row("SELECT processor FROM ledger", [], |row| row.get(0)).optional()?;
    let Some(processor) = processor else { return Ok(None) };
    let state = read_state(&transaction, &file)?;
    Ok(Some(Snapshot {
        processor,
        counters: state.counters(),
        videos: state.videos().collect(),
        producers: state.dedupe().producers().map(|(id, set)| (*id, set.clone())).collect(),
    }))
}

/// Whether a data directory has a ledger.
pub fn exists(directory: &Path) -> bool {
    directory.join(FILE).exists()
}

/// Throws the ledger of a data directory away. The caller holds the directory's processor lock.
///
/// # Errors
/// The file that cannot be removed, and why.
pub fn remove(directory: &Path) -> Result<()> {
    crate::storage::sqlite::remove(&directory.join(FILE))
}

/// As [`remove`], but refuses a ledger that is not a simulation's.
///
/// # Errors
/// As [`remove`]; and when it holds a processor's counts.
pub fn remove_simulation(directory: &Path) -> Result<()> {
    let file = directory.join(FILE);
    // One of an older schema as well: it is not read but thrown away.
    if let Some(connection) = SCHEMA.open_any(&file)? {
        let others: bool = connection.query_row(
            "SELECT count(*) > 0 FROM ledger WHERE simulation = 0",
            [],
            |row| row.get(0),
        )?;
        if others {
            bail!(
                "{} holds the counts of a processor (`process`), and `run` starts clean; give --data-dir another directory, or `playcounts reset` throws them away",
                file.display()
            );
        }
    }
    remove(directory)
}
