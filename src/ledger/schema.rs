//! The schema of the ledger's tables, and how older ones are brought to it.

use anyhow::{Result, bail};
use rusqlite::Connection;

use super::old_tables;
use crate::storage::sqlite::Schema;

/// The file in the data directory.
pub(super) const FILE: &str = "ledger.sqlite3";

pub(super) const SCHEMA: Schema = Schema {
    name: "the processor's ledger",
    // "play", and one more than the dashboard's.
    application: 0x706c_617a,
    version: 3,
    sql: include_str!("schema.sql"),
    migrations: &[
        // Both 0: what was published stays so.
        "ALTER TABLE ledger ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
         ALTER TABLE videos ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;",
        concat!(include_str!("schema_3.sql"), include_str!("schema.sql")),
    ],
    migrate: old_tables::migrate,
    way_out: "bring back a backup, or `playcounts reset` throws the counts away",
};

/// Checks that the tables are declared as they were made: SQLite believes what it finds.
///
/// # Errors
/// They are not; or SQLite's.
pub(super) fn check_schema(connection: &Connection) -> Result<()> {
    let own = Connection::open_in_memory()?;
    own.execute_batch(SCHEMA.sql)?;
    if declarations(connection)? != declarations(&own)? {
        bail!("its tables are not declared as they were made");
    }
    Ok(())
}

fn declarations(connection: &Connection) -> rusqlite::Result<Vec<(String, Option<String>)>> {
    connection
        .prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}
