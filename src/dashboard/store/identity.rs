//! The one row of the table `identity`: which database it is, which journal belongs to it, and what its tables hold.

use anyhow::Result;
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::row::check_row;
use crate::journal::Position;

/// The number and the sum of the rows of `counts`, and the number of those of the catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CountSums {
    pub(super) rows: i64,
    /// Modulo 2^64.
    pub(super) plays: i64,
    /// Rows of `titles`, `changes` and `imports`.
    pub(super) catalog: i64,
}

/// What the row says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TablesIdentity {
    /// Which database it is: another one after each reset.
    pub(super) id: Uuid,
    /// The start of the machine that it was last opened in; empty: not known.
    pub(super) boot: String,
    /// Whether it was closed in order since; `None`: an older version did it, or did not.
    pub(super) closed: Option<bool>,
    /// What the heads of the journal's segments hold.
    pub(super) life: Uuid,
    /// Where the changes begin that the tables do not have; `None`: there is no journal yet.
    pub(super) position: Option<Position>,
    /// Rows of `counts`.
    pub(super) count_rows: i64,
    /// The sum of their plays, modulo 2^64.
    pub(super) count_plays: i64,
    /// Rows of `titles`, `changes` and `imports`.
    pub(super) catalog_rows: i64,
}

impl TablesIdentity {
    /// Of new files.
    pub(super) fn new() -> Self {
        Self {
            id: Uuid::new_v4(),
            boot: String::new(),
            closed: Some(true),
            life: Uuid::new_v4(),
            position: None,
            count_rows: 0,
            count_plays: 0,
            catalog_rows: 0,
        }
    }

    /// What the counts add up to.
    pub(super) fn sums(&self) -> CountSums {
        CountSums { rows: self.count_rows, plays: self.count_plays, catalog: self.catalog_rows }
    }

    /// Notes what the counts add up to.
    pub(super) fn set_sums(&mut self, sums: CountSums) {
        (self.count_rows, self.count_plays, self.catalog_rows) =
            (sums.rows, sums.plays, sums.catalog);
    }

    /// Writes the row.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn write(&self, connection: &Connection) -> Result<()> {
        let Self { id, boot, closed, life, position, count_rows, count_plays, catalog_rows } = self;
        let (segment, number) = position
            .map(|Position { segment, number }| (segment.cast_signed(), number.cast_signed()))
            .unzip();
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO identity
                 VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, row_check(1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9))",
            )?
            .execute(params![id, boot, closed, life, segment, number, count_rows, count_plays, catalog_rows])?;
        Ok(())
    }
}

/// Reads the row; `None`: the file is new.
///
/// # Errors
/// It does not fit its check; or SQLite's.
pub(super) fn read(connection: &Connection) -> Result<Option<TablesIdentity>> {
    let mut statement = connection.prepare_cached(
        "SELECT dashboard, boot, closed, life, segment, number, count_rows, count_plays, catalog_rows,
                row_check = row_check(only, dashboard, boot, closed, life, segment, number, count_rows, count_plays,
                                      catalog_rows)
         FROM identity",
    )?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    check_row(connection, "identity", row.get(9)?)?;
    let (segment, number): (Option<i64>, Option<i64>) = (row.get(4)?, row.get(5)?);
    let position = segment.zip(number).map(|(segment, number)| Position {
        segment: segment.cast_unsigned(),
        number: number.cast_unsigned(),
    });
    Ok(Some(TablesIdentity {
        id: row.get(0)?,
        boot: row.get(1)?,
        closed: row.get(2)?,
        life: row.get(3)?,
        position,
        count_rows: row.get(6)?,
        count_plays: row.get(7)?,
        catalog_rows: row.get(8)?,
    }))
}
