//! Whose a ledger is: of which processor, made on which machine, and whether for a simulation.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::tables::unsigned;

/// How a ledger is opened.
#[derive(Clone, Debug)]
pub struct LedgerConfig {
    /// Where `ledger.sqlite3` lies. The caller holds the directory's processor lock.
    pub directory: PathBuf,
    /// Made by `run`, which may throw it away.
    pub simulation: bool,
    /// Take a ledger that was made on another machine.
    pub adopt: bool,
}

/// On which machine the ledger was made, and whether for a simulation: here and now, if it is new.
pub(super) fn made(
    connection: &mut Connection,
    config: &LedgerConfig,
    machine: &str,
) -> rusqlite::Result<(String, bool)> {
    connection.execute(
        "INSERT INTO ledger VALUES (1, ?1, ?2, ?3, 0, NULL, 0, 0, 0, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING",
        params![Uuid::new_v4(), machine, config.simulation],
    )?;
    connection.query_row("SELECT machine, simulation FROM ledger", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// What a start finds in the ledger.
pub(super) struct Started {
    pub(super) processor: Uuid,
    /// How many there were, this one included.
    pub(super) starts: u64,
    pub(super) dashboard: Option<Uuid>,
    pub(super) epoch: u64,
}

/// Notes that a processor starts: whose counts these are, how many starts there were, and which dashboard was told.
pub(super) fn count_start(connection: &Connection, machine: &str) -> rusqlite::Result<Started> {
    connection.execute("UPDATE ledger SET starts = starts + 1, machine = ?1", [machine])?;
    connection.query_row("SELECT processor, starts, dashboard, epoch FROM ledger", [], |row| {
        Ok(Started {
            processor: row.get(0)?,
            starts: unsigned(row, 1)?,
            dashboard: row.get(2)?,
            epoch: unsigned(row, 3)?,
        })
    })
}

pub(super) fn check_owner(
    config: &LedgerConfig,
    made_on: &str,
    machine: &str,
    simulation: bool,
    file: &Path,
) -> Result<()> {
    let file = file.display();
    if simulation != config.simulation {
        let owner = if simulation { "a simulation's (`run`)" } else { "a processor's (`process`)" };
        bail!(
            "{file} holds {owner} counts; give --data-dir another directory, or `playcounts reset` throws them away"
        );
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
