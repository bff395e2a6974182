//! Who touched what: a line for each queue action and each reset.

use anyhow::Result;
use rusqlite::{Connection, Transaction, params};
use serde::Serialize;

/// Lines that are kept, and that one answer shows.
const KEPT: i64 = 10_000;
const SHOWN: i64 = 100;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in super::super) struct LoggedAction {
    /// Ms since the Unix epoch.
    pub(in super::super) at: i64,
    /// `host:port` of who asked.
    pub(in super::super) peer: String,
    pub(in super::super) action: String,
    pub(in super::super) target: String,
    /// `asked`, then `done` or why not.
    pub(in super::super) outcome: String,
}

pub(super) fn add(transaction: &Transaction<'_>, line: &LoggedAction) -> Result<()> {
    transaction.execute(
        "INSERT INTO audit (at, peer, action, target, outcome) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![line.at, line.peer, line.action, line.target, line.outcome],
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
        "SELECT at, peer, action, target, outcome FROM audit ORDER BY number DESC LIMIT ?1",
    )?;
    let lines = statement.query_map([SHOWN], |row| {
        Ok(LoggedAction {
            at: row.get(0)?,
            peer: row.get(1)?,
            action: row.get(2)?,
            target: row.get(3)?,
            outcome: row.get(4)?,
        })
    })?;
    Ok(lines.collect::<Result<_, _>>()?)
}
