//! The schema of the ledger's tables, and how older ones are brought to it.

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
