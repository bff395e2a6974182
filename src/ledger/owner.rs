//! Whose a ledger is: of which processor, made on which machine, and whether for a simulation.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use uuid::Uuid;

use super::load::TablesAsOf;
use super::message_window::MessageBudget;
use super::table_rows::RowCounts;
use super::tables::LedgerRow;
use crate::storage::way_out::other_directory;

/// How a ledger is opened.
#[derive(Clone, Debug)]
pub struct LedgerConfig {
    /// Where `ledger.sqlite3` lies. The caller holds the directory's processor lock.
    pub directory: PathBuf,
    /// Made by `run`, which may throw it away.
    pub simulation: bool,
    /// Take a ledger that was made on another machine.
    pub adopt: bool,
    /// Memory for the messages of plays without an identity.
    pub message_budget: MessageBudget,
}

/// The file of a data directory that counts in a shared ledger.
pub(super) const PROCESSOR_ID: &str = "processor-id";

/// Checks that nobody counts elsewhere under what is in the data directory.
///
/// # Errors
/// It counts in a shared ledger: counted in files as well, plays would be counted twice.
pub(super) fn check_not_shared(directory: &Path) -> Result<()> {
    if directory.join(PROCESSOR_ID).exists() {
        bail!(
            "the data directory {0} counts in a shared ledger: `process` needs its --ledger; give another --data-dir to count in files",
            directory.display()
        );
    }
    Ok(())
}

/// A ledger that is made here and now.
pub(super) fn new_row(config: &LedgerConfig, machine: &str) -> LedgerRow {
    LedgerRow {
        processor: Uuid::new_v4(),
        machine: machine.to_owned(),
        simulation: config.simulation,
        starts: 0,
        life: Uuid::new_v4(),
        position: None,
        as_of: TablesAsOf::default(),
        rows: RowCounts::default(),
        generation: 0,
    }
}

/// Checks that the ledger may be used here.
///
/// # Errors
/// It is of the other kind, or of another machine.
pub(super) fn check_owner(
    config: &LedgerConfig,
    row: &LedgerRow,
    machine: &str,
    file: &Path,
) -> Result<()> {
    let LedgerRow { machine: made_on, simulation, .. } = row;
    let (simulation, file) = (*simulation, file.display());
    if simulation != config.simulation {
        let owner = if simulation { "a simulation's (`run`)" } else { "a processor's (`process`)" };
        bail!("{file} holds {owner} counts; {}", other_directory(&config.directory));
    }
    if made_on != machine && !made_on.is_empty() && !config.adopt {
        bail!(
            "{file} was made on another machine, whose processor counts under the same id; if that one will never run again say --adopt-ledger, else give --data-dir another directory"
        );
    }
    Ok(())
}

/// What tells this machine from others; empty where nothing does, as in many containers.
pub(super) fn machine_id() -> String {
    std::fs::read_to_string("/etc/machine-id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
