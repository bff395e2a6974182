//! The schema of a shared ledger's tables: made where there is none, and refused where it is of a newer version. Blocks the
//! thread that asks.

use anyhow::{Result, bail};
use uuid::Uuid;

use super::link::connect;
use crate::postgres::{PgConfig, PgConnection, PgError};

/// The version that is made, and used.
const VERSION: i64 = 1;

/// All of it.
const SCHEMA: &str = include_str!("schema.sql");

/// Whether the database has tables of a ledger.
const IS_THERE: &str = "SELECT to_regclass('playcounts.schema') IS NOT NULL";

const READ: &str = "SELECT version, life FROM playcounts.schema";

/// Several processors may start at once on an empty database: the others find what the first has made, after so many tries.
const TRIES: u32 = 3;

/// What was found, or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedSchema {
    /// Which ledger it is: drawn when it was made.
    pub life: Uuid,
    /// It was not there.
    pub was_made: bool,
}

/// Makes the tables of a shared ledger in a database where they are missing.
///
/// # Errors
/// One line with the way out: the database is away or refuses, or the tables are of a newer version.
pub fn init_shared(config: &PgConfig) -> Result<SharedSchema> {
    ensure(&mut connect(config)?)
}

/// As [`init_shared`], on a connection.
pub(super) fn ensure(connection: &mut PgConnection) -> Result<SharedSchema> {
    let mut was_made = false;
    for left in (0..TRIES).rev() {
        if let Some(life) = read(connection)? {
            return Ok(SharedSchema { life, was_made });
        }
        match connection.script(SCHEMA) {
            Ok(()) => was_made = true,
            // Another one makes it.
            Err(error) if left > 0 && is_race(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("the shared ledger's tables cannot be made: another program makes and drops them")
}

/// Which ledger the database has; `None`: none yet.
///
/// # Errors
/// It is of a newer version, or the database's.
pub(super) fn read(connection: &mut PgConnection) -> Result<Option<Uuid>> {
    if !connection.query(IS_THERE, &[])?.first()?.bool(0)? {
        return Ok(None);
    }
    let rows = connection.query(READ, &[])?;
    let row = rows.first()?;
    match row.int(0)? {
        VERSION => Ok(Some(row.uuid(1)?)),
        version => bail!(
            "the shared ledger's tables have version {version}, of a newer playcounts; this one knows {VERSION}: update it"
        ),
    }
}

/// Duplicate schema, table or key: somebody else was there first. Or a lock that was waited for too long: somebody else is at it.
fn is_race(error: &PgError) -> bool {
    matches!(error.sqlstate(), Some("23505" | "42P06" | "42P07" | "42710" | "55P03"))
}
