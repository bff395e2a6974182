//! What a ledger needs and no commit should wait for: its journal's upkeep, and the next slice of a checkpoint. Taken from
//! the ledger while it is held, done while it is not, by the thread `ledger`.

use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior};

use super::tables::{LedgerRow, TablesUpdate};
use crate::journal::{Position, Upkeep, UpkeepDone};
use crate::storage::failpoint;

/// The tables, as the one who writes them has them.
pub(super) struct Tables {
    pub(super) connection: Connection,
    pub(super) row: LedgerRow,
}

impl Tables {
    /// Writes a slice, in one transaction that is on the disk when this returns.
    pub(super) fn write(&mut self, update: &TablesUpdate) -> Result<()> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut row = self.row.clone();
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
pub struct LedgerUpkeep {
    pub(super) journal: Option<Upkeep>,
    pub(super) slice: Option<(Arc<Mutex<Tables>>, TablesUpdate)>,
}

/// What was done.
#[must_use = "the ledger must be told"]
pub struct LedgerUpkept {
    pub(super) journal: Option<UpkeepDone>,
    /// From where on the journal is needed, if that has changed.
    pub(super) needed_from: Option<Position>,
}

impl LedgerUpkeep {
    /// Does it.
    ///
    /// # Errors
    /// The operating system's, and SQLite's. The counts are safe all the same.
    pub fn run(self) -> Result<LedgerUpkept> {
        // The journal first: what the tables say must never be ahead of what is on the disk.
        let journal =
            self.journal.map(Upkeep::run).transpose().context("the ledger cannot be written")?;
        let mut needed_from = None;
        if let Some((tables, update)) = self.slice {
            tables.lock().write(&update).context("the ledger cannot be written")?;
            needed_from = update.position;
        }
        Ok(LedgerUpkept { journal, needed_from })
    }
}
