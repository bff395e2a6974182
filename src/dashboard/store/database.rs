//! The database as a file: how it is opened, which one it is, and how it is copied and removed.
//!
//! `synchronous=NORMAL`: what was accepted survives a kill -9. After a power loss the newest commits may be
//! missing; then the database takes another id, and every processor tells its whole counts again.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::log;
use crate::storage::sqlite::{self, Schema};

/// The file in the data directory.
pub(super) const FILE: &str = "dashboard.sqlite3";

/// Whose file it is, and what is in it.
pub(super) const SCHEMA: Schema = Schema {
    name: "the dashboard's database",
    // "play" in ASCII.
    application: 0x706c_6179,
    version: 3,
    sql: include_str!("schema.sql"),
    migrations: &[include_str!("schema_2.sql"), include_str!("schema_3.sql")],
    migrate: sqlite::nothing_more,
    way_out: "`playcounts reset` makes a new one",
};

/// The most processors a database knows: one for each ledger.
const PROCESSORS_MAX: i64 = 10_000;

/// Every (video, plays) in `directory`, ordered by id; `None` where no dashboard has run.
pub(crate) fn read_counts(directory: &Path) -> Result<Option<Vec<(Uuid, u64)>>> {
    let Some(reader) = SCHEMA.open_reader(&directory.join(FILE))? else { return Ok(None) };
    Ok(Some(log::load(&reader)?.index.counts()))
}

/// Writes a copy of the database in `directory` to the new file `to`, also while a dashboard runs on it; `None` where
/// none has run.
pub(crate) fn backup(directory: &Path, to: &Path) -> Result<Option<()>> {
    let Some(reader) = SCHEMA.open_reader(&directory.join(FILE))? else { return Ok(None) };
    let name = to.to_str().context("the path of a backup must be UTF-8")?;
    reader
        .execute("VACUUM INTO ?1", [name])
        .with_context(|| format!("cannot write {name}, which must not exist yet"))?;
    Ok(Some(()))
}

/// Removes the database. The caller holds the directory's dashboard lock.
pub(crate) fn remove(directory: &Path) -> Result<()> {
    sqlite::remove(&directory.join(FILE))
}

/// Opens the database to write, made if missing.
pub(super) fn open(file: &Path) -> Result<Connection> {
    // Where it cannot be read it is empty: see `open_in`.
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    open_in(file, boot.trim())
}

/// Opens the database in the start of the machine called `boot`. One whose name is empty is not known, and so never the
/// one of before: then the database takes another id, which costs some messages where the old id could cost counts.
pub(super) fn open_in(file: &Path, boot: &str) -> Result<Connection> {
    // SQLite removes it when the last connection closes in order.
    let was_closed = !file.with_extension("sqlite3-wal").exists();
    // The writer makes the checkpoints, where nobody waits for its locks.
    let connection = SCHEMA.open(
        file,
        "PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;
         PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 67108864;",
    )?;
    connection.execute(
        "INSERT INTO identity VALUES (1, ?1, ?2) ON CONFLICT DO UPDATE SET
           dashboard = iif(?3 OR (boot = excluded.boot AND boot <> ''), dashboard, excluded.dashboard),
           boot = excluded.boot",
        params![Uuid::new_v4(), boot, was_closed],
    )?;
    Ok(connection)
}

/// Which database this is.
pub(super) fn read_id(connection: &Connection) -> Result<Uuid> {
    Ok(connection
        .prepare_cached("SELECT dashboard FROM identity")?
        .query_row([], |row| row.get(0))?)
}

/// Begins a transaction that writes.
pub(super) fn begin(connection: &mut Connection) -> Result<Transaction<'_>> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

/// Gives a new processor its number.
///
/// # Errors
/// There are [`PROCESSORS_MAX`] already; or SQLite's.
pub(super) fn add_processor(transaction: &Transaction<'_>, processor: Uuid) -> Result<u32> {
    let count: i64 =
        transaction.query_row("SELECT count(*) FROM processors", [], |row| row.get(0))?;
    if count >= PROCESSORS_MAX {
        bail!("{PROCESSORS_MAX} processors are known already; reset the dashboard");
    }
    transaction.execute("INSERT INTO processors (processor) VALUES (?1)", [processor])?;
    Ok(u32::try_from(transaction.last_insert_rowid())?)
}

/// Empties the database and gives it another id. The action log and the charts tell of time, not of counts.
pub(super) fn clear(transaction: &Transaction<'_>, id: Uuid) -> Result<()> {
    transaction.execute_batch(
        "DELETE FROM log; DELETE FROM counts; DELETE FROM history_minute; DELETE FROM history_hour;
         DELETE FROM history_day; DELETE FROM processors; DELETE FROM confirmed;",
    )?;
    transaction.execute("UPDATE identity SET dashboard = ?1", [id])?;
    Ok(())
}
