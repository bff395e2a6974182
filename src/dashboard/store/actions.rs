//! The action log: who touched what. A line for each queue action, each peek and each reset, in SQLite.

use anyhow::Result;
use rusqlite::{Connection, Transaction, params};
use schemars::JsonSchema;
use serde::Serialize;

use super::row::check_row;
use crate::model::unix_time::UnixMs;

/// Lines that are kept, and that one answer shows.
const KEPT: i64 = 10_000;
const SHOWN: i64 = 100;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct LoggedAction {
    /// When.
    pub(crate) at: UnixMs,
    /// `host:port` of who asked.
    pub(crate) peer: String,
    /// `pause`, `reset`.
    pub(crate) action: String,
    /// What it was done to: `host:port topic/channel`.
    pub(crate) target: String,
    /// `asked`, then `done` or why not.
    pub(crate) outcome: String,
}

/// Adds a line; the oldest one goes when there are too many.
pub(super) fn add(transaction: &Transaction<'_>, line: &LoggedAction) -> Result<()> {
    transaction.execute(
        "INSERT INTO audit SELECT n, ?1, ?2, ?3, ?4, ?5, row_check(n, ?1, ?2, ?3, ?4, ?5)
         FROM (SELECT coalesce(max(number), 0) + 1 AS n FROM audit)",
        params![line.at.0, line.peer, line.action, line.target, line.outcome],
    )?;
    transaction.execute(
        "DELETE FROM audit WHERE number <= (SELECT max(number) FROM audit) - ?1",
        [KEPT],
    )?;
    Ok(())
}

/// The newest lines, newest first.
pub(super) fn newest(connection: &Connection) -> Result<Vec<LoggedAction>> {
    let mut statement = connection.prepare_cached(
        "SELECT at, peer, action, target, outcome, row_check = row_check(number, at, peer, action, target, outcome)
         FROM audit ORDER BY number DESC LIMIT ?1",
    )?;
    let mut rows = statement.query([SHOWN])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        check_row(connection, "audit", row.get(5)?)?;
        lines.push(LoggedAction {
            at: UnixMs(row.get(0)?),
            peer: row.get(1)?,
            action: row.get(2)?,
            target: row.get(3)?,
            outcome: row.get(4)?,
        });
    }
    Ok(lines)
}
