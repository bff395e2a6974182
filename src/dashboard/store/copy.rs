//! The counts in a directory, read beside their owner or without one: tables and journal together.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rusqlite::Connection;

use super::database::{FILE, JOURNAL, SCHEMA, config, unusable_journal};
use super::identity::{self, TablesIdentity};
use super::memory::Memory;
use super::owner::owner;
use super::tables;
use crate::journal::{self, Cut, FsDisk, JournalOwner};
use crate::model::video_id::VideoId;
use crate::storage::boot::boot_id;
use crate::storage::sqlite::LOST_CONTENT;
use crate::storage::sqlite_copy::copy_into;

/// So often both are read again, where the owner has moved frames from the journal to the tables meanwhile. It does so every
/// few minutes.
const TRIES: u32 = 10;

/// What to say when that was in vain.
const IN_VAIN: &str = "the dashboard's files change faster than they can be read; try again";

/// Whether what was read is of one moment.
#[derive(Debug, PartialEq, Eq)]
enum ReadOutcome {
    Whole,
    /// The owner has given up a part of the journal since the tables were read.
    Again,
}

/// Every (video, plays) in `directory`, ordered by id; `None` where no dashboard has run.
///
/// # Errors
/// The files are damaged, or of another version.
pub(crate) fn read_counts(directory: &Path) -> Result<Option<Vec<(VideoId, u64)>>> {
    for _ in 0..TRIES {
        let Some(reader) = SCHEMA.open_reader(&directory.join(FILE))? else { return Ok(None) };
        let snapshot = reader.unchecked_transaction()?;
        let (identity, mut memory) = load(&snapshot)?;
        drop(snapshot);
        if replay(directory, &reader, &identity, &mut memory)? == ReadOutcome::Whole {
            memory.index.loaded();
            return Ok(Some(memory.index.counts()));
        }
    }
    bail!(IN_VAIN)
}

/// Every (video, plays), and what a start would cut off.
pub type ExaminedCounts = (Vec<(VideoId, u64)>, Option<Cut>);

/// Looks at the files in `directory` as a start would, and changes nothing: every (video, plays), and what would be cut off.
///
/// # Errors
/// The files are damaged, or of another version.
pub(crate) fn examine(directory: &Path) -> Result<Option<ExaminedCounts>> {
    let Some(reader) = SCHEMA.open_reader(&directory.join(FILE))? else { return Ok(None) };
    SCHEMA.usable(&directory.join(FILE), SCHEMA.check_structure(&reader))?;
    let (identity, mut memory) = load(&reader)?;
    let path = directory.join(JOURNAL);
    let mut cut = None;
    if let Some(disk) = FsDisk::open_reader(&path) {
        let owner = owner(directory)?.unwrap_or(JournalOwner::Part);
        let config = config(owner, identity.life, boot_id());
        let each = |number, payload: &[u8]| memory.replay(number, payload);
        let found = journal::examine(&*disk, &config, identity.position, each);
        (_, cut) = found.with_context(|| unusable_journal(&path))?;
    } else if identity.position.is_some() {
        bail!("{} is missing; bring it back from where it went", path.display());
    }
    memory.index.loaded();
    Ok(Some((memory.index.counts(), cut)))
}

/// Writes a copy of all that is committed in `directory` to the new file `to`, also while a dashboard runs on it; `None`
/// where none has run. The copy has no journal: it is a dashboard by itself, and another one, so that processors tell it
/// what it does not have.
///
/// # Errors
/// The file exists, or cannot be written; or as [`read_counts`].
pub(crate) fn backup(directory: &Path, to: &Path) -> Result<Option<()>> {
    for _ in 0..TRIES {
        let Some(reader) = SCHEMA.open_reader(&directory.join(FILE))? else { return Ok(None) };
        let copy = copy_into(&reader, to)?;
        match complete(directory, &reader, copy) {
            Ok(ReadOutcome::Whole) => return Ok(Some(())),
            unfinished => {
                let name = to.display();
                // It is ours, and no backup.
                std::fs::remove_file(to).with_context(|| format!("cannot remove {name}"))?;
                unfinished.with_context(|| format!("cannot complete {name}"))?;
            }
        }
    }
    bail!(IN_VAIN)
}

/// Writes into a copy of the tables what the journal has besides.
fn complete(directory: &Path, reader: &Connection, mut copy: Connection) -> Result<ReadOutcome> {
    let transaction = copy.transaction()?;
    let (identity, mut memory) = load(&transaction)?;
    if replay(directory, reader, &identity, &mut memory)? == ReadOutcome::Again {
        return Ok(ReadOutcome::Again);
    }
    let mut sums = identity.sums();
    tables::write_all(&transaction, &mut memory, &mut sums)?;
    let mut whole = TablesIdentity::new();
    whole.set_sums(sums);
    whole.write(&transaction)?;
    transaction.commit()?;
    Ok(ReadOutcome::Whole)
}

/// Reads and checks the tables, in a snapshot of the caller's.
fn load(snapshot: &Connection) -> Result<(TablesIdentity, Memory)> {
    let identity = identity::read(snapshot)?.context(LOST_CONTENT)?;
    let (memory, sums) = tables::load(snapshot)?;
    tables::check_sums(snapshot, &identity, sums)?;
    Ok((identity, memory))
}

/// Plays what the journal has and the tables have not.
fn replay(
    directory: &Path,
    reader: &Connection,
    identity: &TablesIdentity,
    memory: &mut Memory,
) -> Result<ReadOutcome> {
    let Some(position) = identity.position else { return Ok(ReadOutcome::Whole) };
    let path = directory.join(JOURNAL);
    let missing = || format!("{} is missing; bring it back from where it went", path.display());
    let disk = FsDisk::open_reader(&path).with_context(missing)?;
    let read = journal::read(&*disk, position, |number, payload| memory.replay(number, payload));
    // What the owner has given up it uses again: what was read of that is nothing. It notes where the journal begins before.
    let now = identity::read(reader)?.and_then(|identity| identity.position);
    if now.map(|now| now.segment) != Some(position.segment) {
        return Ok(ReadOutcome::Again);
    }
    read.with_context(|| unusable_journal(&path))?;
    Ok(ReadOutcome::Whole)
}
