//! Rows that do not fit their check: the file was changed behind our back.

use rusqlite::Connection;

/// A row, or a sum of rows, that is not what was written.
#[derive(Debug, thiserror::Error)]
#[error("{file} is damaged: {what}; {WAY_OUT}")]
pub(in crate::dashboard) struct DamagedTable {
    file: String,
    what: String,
}

/// What to do then.
const WAY_OUT: &str =
    "bring a copy of the file and its journal back, or start from zero with `playcounts reset`";

/// Says that the tables of a connection are not what was written.
pub(super) fn damaged(connection: &Connection, what: impl Into<String>) -> DamagedTable {
    let file = connection.path().unwrap_or("the dashboard's database").to_owned();
    DamagedTable { file, what: what.into() }
}

/// Goes on if a row of that table fits its check.
///
/// # Errors
/// It does not.
pub(super) fn check_row(
    connection: &Connection,
    table: &str,
    fits: bool,
) -> Result<(), DamagedTable> {
    if fits {
        return Ok(());
    }
    Err(damaged(connection, format!("a row of the table {table} does not fit its check")))
}

/// Writes a row whose SQL makes its `row_check` NULL where the row of before does not fit: a column that takes none, so
/// that damage is not covered by a check that is made anew.
///
/// # Errors
/// The row of before does not fit; or SQLite's.
pub(super) fn write_checked(
    connection: &Connection,
    table: &str,
    sql: &str,
    values: impl rusqlite::Params,
) -> anyhow::Result<()> {
    match connection.prepare_cached(sql)?.execute(values) {
        Ok(_) => Ok(()),
        Err(rusqlite::Error::SqliteFailure(error, _))
            if error.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_NOTNULL =>
        {
            Ok(check_row(connection, table, false)?)
        }
        Err(error) => Err(error.into()),
    }
}
