//! What the threads that write share with those who read.
//!
//! Locks are held for work in memory only, but `tables`, which no update waits for. They are taken in this order: `tables`,
//! `index`, `pending`, `confirmed`, `ledgers`, `journal` and then `id`, the others alone.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use anyhow::{Error, Result};
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use super::confirmed::ConfirmedProducers;
use super::index::Index;
use super::ledgers::Ledgers;
use super::pending::PendingHistory;
use crate::journal::Journal;
use crate::storage::in_place::FilesInPlace;

/// The counts in memory, the journal, and how the store is.
pub(super) struct StoreState {
    /// Which database this is: another one after each reset.
    pub(super) id: Mutex<Uuid>,
    /// Every count.
    pub(super) index: RwLock<Index>,
    /// What the tables do not have.
    pub(super) pending: RwLock<PendingHistory>,
    /// Which plays of producers are counted for good.
    pub(super) confirmed: RwLock<ConfirmedProducers>,
    /// Which ledger each processor counts in.
    pub(super) ledgers: RwLock<Ledgers>,
    /// Held by a checkpoint while it commits what it then takes out of `pending`, and by a reader while its snapshot begins
    /// and it copies what is pending: so that no play is in both, or in neither.
    pub(super) tables: RwLock<()>,
    /// Held while changes are written to it, and for a moment by its upkeep.
    pub(super) journal: Mutex<Journal>,
    /// The tables' files: nothing is accepted while one is not where it was.
    pub(super) files: FilesInPlace,
    /// The number of the first change of the journal that is not in memory.
    pub(super) applied: AtomicU64,
    /// Grows with each commit that changed something.
    pub(super) revision: AtomicU64,
    /// Why the newest commit failed, until one succeeds.
    pub(super) commit_failure: Mutex<Option<Arc<str>>>,
    /// Why counts were last refused, and when.
    pub(super) refused: Mutex<Option<(Arc<str>, Instant)>>,
    /// Why the newest write to the tables failed, until one succeeds.
    pub(super) checkpoint_failure: Mutex<Option<Arc<str>>>,
    /// The first damage that a reader met.
    pub(super) damage: Mutex<Option<Arc<str>>>,
}

impl StoreState {
    /// Looks whether all files are where they were opened.
    ///
    /// # Errors
    /// One is not.
    pub(super) fn check_in_place(&self) -> Result<()> {
        self.files.check()?;
        Ok(self.journal.lock().check_in_place()?)
    }

    /// The reason to tell of a failure: files that are gone are the cause, whatever has come upon it.
    pub(super) fn cause(&self, error: Error) -> Error {
        self.check_in_place().err().unwrap_or(error)
    }
}
