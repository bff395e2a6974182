//! What a ledger needs and no commit should wait for: its journal's upkeep, and the next slice of a checkpoint. Taken from
//! the ledger while it is held, done while it is not, by the thread `ledger`.

use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior};

#[cfg(feature = "postgres")]
use super::shared::{SharedUpkeep, SharedUpkept};
use super::tables::{LedgerRow, TablesUpdate};
use crate::journal::{JournalError, Position, Upkeep, UpkeepDone};
use crate::storage::failpoint;
use crate::storage::in_place::FilesInPlace;

/// The tables, as the one who writes them has them.
pub(super) struct Tables {
    pub(super) connection: Connection,
    pub(super) row: LedgerRow,
}

/// What is said before an error of a write.
pub(super) const CANNOT_WRITE: &str = "the ledger cannot be written";

impl Tables {
    /// Writes a slice, in one transaction. The last one of a checkpoint is on the disk when this returns, and with it those
    /// before. An fsync for each would hold up the commits: the file system stops their writes meanwhile.
    pub(super) fn write(&mut self, update: &TablesUpdate) -> Result<()> {
        let synchronous = if update.position.is_some() { "FULL" } else { "NORMAL" };
        self.connection.pragma_update(None, "synchronous", synchronous)?;
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut row = self.row.clone();
        row.generation += 1;
        row.update(&transaction, update)?;
        failpoint::hit("ledger-in-checkpoint");
        transaction.commit()?;
        self.row = row;
        failpoint::hit("ledger-after-checkpoint");
        Ok(())
    }
}

/// What is to be done: see [`Ledger::upkeep`](super::Ledger::upkeep).
#[must_use = "it does nothing until it is run"]
#[allow(clippy::large_enum_variant, reason = "there is one at a time, once a second")]
pub enum LedgerUpkeep {
    /// Of a ledger that is in files.
    Files(FilesUpkeep),
    /// Of one that is shared.
    #[cfg(feature = "postgres")]
    Shared(SharedUpkeep),
}

/// What was done.
#[must_use = "the ledger must be told"]
#[allow(clippy::large_enum_variant, reason = "there is one at a time, once a second")]
pub enum LedgerUpkept {
    /// Of a ledger that is in files.
    Files(FilesUpkept),
    /// Of one that is shared.
    #[cfg(feature = "postgres")]
    Shared(SharedUpkept),
}

impl LedgerUpkeep {
    /// Does it.
    ///
    /// # Errors
    /// [`LedgerAway`](super::LedgerAway): it is asked for again; the operating system's, and SQLite's. The counts are safe all
    /// the same.
    pub fn run(self) -> Result<LedgerUpkept> {
        match self {
            Self::Files(upkeep) => Ok(LedgerUpkept::Files(upkeep.run()?)),
            #[cfg(feature = "postgres")]
            Self::Shared(upkeep) => Ok(LedgerUpkept::Shared(upkeep.run()?)),
        }
    }
}

impl LedgerUpkept {
    /// What was done of a ledger in files.
    ///
    /// # Errors
    /// It is of another one, which is a mistake of who calls.
    pub(super) fn of_files(self) -> Result<FilesUpkept> {
        match self {
            Self::Files(done) => Ok(done),
            #[cfg(feature = "postgres")]
            Self::Shared(_) => anyhow::bail!("this is what another ledger did"),
        }
    }
}

/// What a journal and its tables need.
pub struct FilesUpkeep {
    /// What may be gone.
    pub(super) files: Arc<FilesInPlace>,
    /// Whether the journal's are.
    pub(super) in_place: Result<(), JournalError>,
    pub(super) journal: Option<Upkeep>,
    pub(super) slice: Option<(Arc<Mutex<Tables>>, TablesUpdate)>,
}

/// What was done of it.
pub struct FilesUpkept {
    pub(super) journal: Option<UpkeepDone>,
    /// A slice is in the tables.
    pub(super) has_written: bool,
    /// From where on the journal is needed, if that has changed.
    pub(super) needed_from: Option<Position>,
    /// How often the tables were written, if that is on the disk.
    pub(super) generation: Option<u64>,
}

impl FilesUpkeep {
    fn run(self) -> Result<FilesUpkept> {
        self.in_place.context(CANNOT_WRITE)?;
        self.files.check().context(CANNOT_WRITE)?;
        // The journal first: what the tables say must never be ahead of what is on the disk.
        let journal = self.journal.map(Upkeep::run).transpose().context(CANNOT_WRITE)?;
        let (mut needed_from, mut generation) = (None, None);
        let has_written = self.slice.is_some();
        if let Some((tables, update)) = self.slice {
            let mut tables = tables.lock();
            tables.write(&update).context(CANNOT_WRITE)?;
            needed_from = update.position;
            // A power loss may take what is not on the disk yet: the journal must not ask for it.
            generation = needed_from.map(|_| tables.row.generation);
        }
        Ok(FilesUpkept { journal, has_written, needed_from, generation })
    }
}
