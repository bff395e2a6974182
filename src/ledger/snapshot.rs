//! What the ledger in a data directory holds, read beside a processor or without one; and how it is thrown away.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rusqlite::Connection;
use uuid::Uuid;

use super::counters::Counters;
use super::load::{LoadedLedger, StateLoader};
use super::message_window::MessageBudget;
use super::producer_rows::each_producer_row;
use super::schema::{FILE, SCHEMA};
use super::tables::{LedgerRow, finish, read_tables, readable};
use crate::journal::{self, FsDisk, JournalError, JournalOwner};
use crate::model::seq_set::SeqSet;
use crate::model::video::VideoState;
#[cfg(feature = "postgres")]
use crate::storage::aside::put_aside;
use crate::storage::sqlite::LOST_CONTENT;
use crate::storage::way_out::other_directory;

/// How often a reader begins anew because the processor has just given up a part of the journal: each time it would have
/// to have made a checkpoint meanwhile.
pub(super) const TRIES: usize = 10;

/// The journal's directory in the data directory.
pub(super) const JOURNAL: &str = "ledger.journal";

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
/// As [`DurableLedger::open`](super::DurableLedger::open), and the operating system's.
pub fn read(directory: &Path) -> Result<Option<Snapshot>> {
    read_with(directory, |connection, row, LoadedLedger { state, .. }| {
        let known = state.producers();
        let mut producers: Vec<_> = known.iter().map(|(id, set)| (*id, set.clone())).collect();
        each_producer_row(connection, |(id, runs)| {
            // What is in memory has its row, and what the journal says besides.
            if known.get(&id).is_none() {
                let mut set = SeqSet::new();
                runs.into_iter().for_each(|run| set.insert_run(run));
                producers.push((id, set));
            }
            Ok(())
        })?;
        Ok(Snapshot {
            processor: row.processor,
            counters: state.counts.counters(),
            videos: state.counts.videos().collect(),
            producers,
        })
    })
}

/// Reads tables and journal of one moment, and calls `with` while the tables stand still.
pub(super) fn read_with<T>(
    directory: &Path,
    with: impl Fn(&Connection, LedgerRow, LoadedLedger) -> Result<T>,
) -> Result<Option<T>> {
    let file = directory.join(FILE);
    let Some(mut connection) = SCHEMA.open_reader(&file)? else { return Ok(None) };
    let mut older = Ok(());
    for _ in 0..TRIES {
        // One moment in time, although the processor goes on.
        let transaction = connection.transaction()?;
        let row = readable(&file, LedgerRow::read(&transaction))?;
        let row = readable(&file, row.context(LOST_CONTENT))?;
        match load(directory, &transaction, &row) {
            Ok(loaded) => {
                // The processor may have written them just now.
                older = check_generation(&loaded, &row);
                if older.is_ok() {
                    return readable(&file, with(&transaction, row, loaded).map(Some));
                }
            }
            Err(error) if is_released(&error) => {}
            Err(error) => return readable(&file, Err(error)),
        }
    }
    readable(&file, older)?;
    bail!("{} changes faster than it can be read; try again", file.display());
}

/// Checks that the tables are those that the journal goes on from.
///
/// # Errors
/// They are of before: SQLite takes a damaged WAL for a short one.
pub(super) fn check_generation(loaded: &LoadedLedger, row: &LedgerRow) -> Result<()> {
    let (found, wanted) = (row.generation, loaded.generation);
    if wanted > found {
        bail!(
            "{FILE} is older than {JOURNAL}: its generation is {found}, and was {wanted}; {FILE}-wal was damaged or removed, \
             or an old copy was put back"
        );
    }
    Ok(())
}

fn load(directory: &Path, connection: &Connection, row: &LedgerRow) -> Result<LoadedLedger> {
    let mut loader = read_tables(connection, row, MessageBudget::default())?;
    replay(directory, row, &mut loader)?;
    finish(connection, loader)
}

/// Plays what the journal has and the tables have not.
///
/// # Errors
/// It is damaged or missing; or the processor has given it up since the tables were read: see [`is_released`].
pub(super) fn replay(directory: &Path, row: &LedgerRow, loader: &mut StateLoader) -> Result<()> {
    let Some(position) = row.position else { return Ok(()) };
    let disk = FsDisk::open_reader(&directory.join(JOURNAL))
        .with_context(|| format!("the directory {JOURNAL} beside it is missing"))?;
    journal::read(&*disk, position, |number, payload| {
        loader.entry(number, payload).map_err(|damaged| damaged.to_string())
    })?;
    Ok(())
}

/// Whether the processor has given up a segment since the tables were read.
pub(super) fn is_released(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<JournalError>().and_then(|error| match error {
        JournalError::Io { source, .. } => Some(source.kind()),
        _ => None,
    });
    kind == Some(io::ErrorKind::NotFound)
}

/// Whether a data directory has a ledger.
pub fn exists(directory: &Path) -> bool {
    directory.join(FILE).exists()
}

/// Gives the files of a ledger that another one has taken over other names, so that nothing counts in them any more; what
/// they are now. The caller holds the directory's processor lock.
///
/// # Errors
/// The operating system's, with the file.
#[cfg(feature = "postgres")]
pub(super) fn put_imported_aside(directory: &Path) -> Result<Vec<String>> {
    // The tables first: without a journal they would be taken for damaged.
    let names = [FILE.to_owned(), format!("{FILE}-wal"), format!("{FILE}-shm"), JOURNAL.to_owned()];
    let mut aside = Vec::new();
    for name in names {
        let to = put_aside(directory, &name, &format!("{name}.imported"))?;
        aside.extend(to.map(|to| to.display().to_string()));
    }
    Ok(aside)
}

/// Throws the ledger of a data directory away. The caller holds the directory's processor lock.
///
/// # Errors
/// The file that cannot be removed, and why.
pub fn remove(directory: &Path) -> Result<()> {
    crate::storage::sqlite::remove(&directory.join(FILE))?;
    journal::remove(&directory.join(JOURNAL))
}

/// As [`remove`], but refuses a ledger that is not a simulation's.
///
/// # Errors
/// As [`remove`]; and when it holds a processor's counts.
pub fn remove_simulation(directory: &Path) -> Result<()> {
    let file = directory.join(FILE);
    let refused = |path: PathBuf| {
        bail!(
            "{} holds the counts of a processor (`process`), and `run` starts clean; {}",
            path.display(),
            other_directory(directory)
        );
    };
    if let Some(connection) = SCHEMA.open_any(&file)?
        && !readable(&file, is_simulation(&connection))?
    {
        return refused(file);
    }
    let journal = directory.join(JOURNAL);
    // Left without its tables, it is all that there is.
    if let Some(disk) = FsDisk::open_reader(&journal)
        && journal::any_head(&*disk)?.is_some_and(|head| head.owner == JournalOwner::Part)
    {
        return refused(journal);
    }
    remove(directory)
}

/// Whether tables are a simulation's, or hold nothing yet. Those of an older schema are not read but thrown away.
fn is_simulation(connection: &Connection) -> Result<bool> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == SCHEMA.version {
        // Its row must fit its check: a bit that was flipped must not make a simulation of a processor.
        return Ok(LedgerRow::read(connection)?.is_none_or(|row| row.simulation));
    }
    let others = "SELECT count(*) = 0 FROM ledger WHERE simulation = 0";
    Ok(connection.query_row(others, [], |row| row.get(0))?)
}
