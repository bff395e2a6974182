//! The rows of the ledger's tables: how many there are, and whether each fits its check. Runs on the thread that starts a
//! part or looks at its files.

use anyhow::{Result, bail};
use rusqlite::{Connection, Row, Transaction};

use crate::model::words::{grouped, many};

/// How many rows the tables have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RowCounts {
    pub(super) videos: u64,
    pub(super) producers: u64,
    pub(super) messages: u64,
    pub(super) letters: u64,
}

/// A table whose rows have a check.
#[derive(Debug)]
pub(super) struct CheckedTable {
    pub(super) name: &'static str,
    /// What tells a row to people, in SQL.
    key: &'static str,
    /// What the check is of.
    columns: &'static str,
    /// Whether the counts can do without some of its rows.
    pub(super) is_spare: bool,
}

/// All but the one of a single row.
pub(super) const TABLES: [CheckedTable; 4] = [
    CheckedTable {
        name: "videos",
        key: "number",
        columns: "number, video_id, plays, published, last_played_at, as_of, epoch",
        is_spare: false,
    },
    CheckedTable {
        name: "producers",
        key: "hex(producer)",
        columns: "producer, counted",
        is_spare: false,
    },
    CheckedTable { name: "messages", key: "number", columns: "number, keys", is_spare: true },
    CheckedTable {
        name: "dead_letters",
        key: "number",
        columns: "number, at, nsqd, message_id, reason, size, body",
        is_spare: true,
    },
];

impl RowCounts {
    /// In the order of [`TABLES`].
    fn fields(&self) -> [u64; 4] {
        let Self { videos, producers, messages, letters } = *self;
        [videos, producers, messages, letters]
    }

    /// Tables of which another number of rows is there than is wanted: the table, what is found, what is wanted.
    pub(super) fn differences(
        &self,
        wanted: &Self,
    ) -> impl Iterator<Item = (&'static CheckedTable, u64, u64)> {
        let numbers = self.fields().into_iter().zip(wanted.fields());
        TABLES
            .iter()
            .zip(numbers)
            .map(|(table, (found, wanted))| (table, found, wanted))
            .filter(|(_, found, wanted)| found != wanted)
    }
}

/// How many rows there are.
pub(super) fn row_counts(connection: &Connection) -> rusqlite::Result<RowCounts> {
    let mut counts = [0; 4];
    for (count, table) in counts.iter_mut().zip(&TABLES) {
        let sql = format!("SELECT count(*) FROM {}", table.name);
        *count = connection.query_row(&sql, [], |row| unsigned(row, 0))?;
    }
    let [videos, producers, messages, letters] = counts;
    Ok(RowCounts { videos, producers, messages, letters })
}

/// The keys of the first rows that do not fit their check, at most so many, and how many there are.
pub(super) fn find_misfits(
    connection: &Connection,
    table: &CheckedTable,
    most: usize,
) -> rusqlite::Result<(Vec<String>, u64)> {
    let CheckedTable { name, key, columns, .. } = table;
    let from = format!("FROM {name} WHERE row_check IS NOT row_check({columns})");
    let keys = connection
        .prepare(&format!("SELECT CAST({key} AS TEXT) {from} LIMIT {most}"))?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let all =
        connection.query_row(&format!("SELECT count(*) {from}"), [], |row| unsigned(row, 0))?;
    Ok((keys, all))
}

/// Removes the rows that do not fit their check from the tables that can do without.
pub(super) fn drop_misfits(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    for CheckedTable { name, columns, .. } in TABLES.iter().filter(|table| table.is_spare) {
        let sql = format!("DELETE FROM {name} WHERE row_check IS NOT row_check({columns})");
        transaction.execute(&sql, [])?;
    }
    Ok(())
}

/// Checks that as many rows are there as were written: one that has vanished has no check.
pub(super) fn check_rows(connection: &Connection, wanted: &RowCounts) -> Result<()> {
    match row_counts(connection)?.differences(wanted).next() {
        Some((table, found, wanted)) => {
            let (found, wanted) = (many(found, "row"), grouped(wanted));
            bail!("the table {} has {found}, and must have {wanted}", table.name)
        }
        None => Ok(()),
    }
}

/// A column that is never negative.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.unsigned_abs())
}
