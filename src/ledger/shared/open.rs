//! Opening a shared ledger: its tables are looked at or made, an id is taken, what was counted under it is loaded. Blocks the
//! thread that starts the processor.

use std::path::PathBuf;

use anyhow::{Result, bail};
use uuid::Uuid;

use super::holder::{Holder, HolderFile};
use super::link::connect;
use super::load::load;
use super::membership::{Membership, join, read_told};
use super::schema;
use super::trouble::{LedgerBehind, Trouble};
use super::upkeep::Upkeeper;
use crate::ledger::snapshot;
use crate::ledger::video_counts::VideoCounts;
use crate::postgres::{PgConfig, PgConnection};

/// What to do with a database that is older than what a data directory knows of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BehindPolicy {
    /// Count nothing, and say so.
    #[default]
    Refuse,
    /// The database is right.
    Accept,
}

/// How a shared ledger is opened.
#[derive(Clone, Debug)]
pub struct PostgresLedgerConfig {
    /// Where the database is.
    pub database: PgConfig,
    /// The data directory, which keeps the processor's id. The caller holds its processor lock.
    pub directory: PathBuf,
    /// For a database that has lost commits.
    pub on_behind: BehindPolicy,
}

/// A ledger that is open, with all that was counted before.
pub(super) struct Opened {
    pub(super) config: PgConfig,
    pub(super) connection: PgConnection,
    pub(super) member: Membership,
    pub(super) life: Uuid,
    pub(super) counts: VideoCounts,
    pub(super) upkeeper: Upkeeper,
    /// A dashboard that has been told of all that is counted.
    pub(super) dashboard: Option<Uuid>,
}

/// Opens it.
///
/// # Errors
/// One line with the way out: the database is away or refuses, its tables do not add up, are of a newer version, or older
/// than the data directory knows; the data directory has a ledger of its own, or is of another shared one.
pub(super) fn open(config: &PostgresLedgerConfig) -> Result<Opened> {
    let PostgresLedgerConfig { database, directory, on_behind } = config;
    if snapshot::exists(directory) {
        bail!(
            "the data directory {0} has a ledger of its own, whose plays the shared one does not know; `playcounts ledger \
             import --data-dir {0}` takes it over, or give --data-dir another directory",
            directory.display()
        );
    }
    let file = HolderFile::in_directory(directory);
    let remembered = file.read()?;
    let mut connection = connect(database)?;
    let schema = schema::ensure(&mut connection)?;
    let remembered = match remembered {
        Some(holder) if holder.ledger != schema.life && *on_behind == BehindPolicy::Refuse => {
            bail!(
                "the data directory {} belongs to another shared ledger ({}) than this one ({}): give the right --ledger or \
             another --data-dir, or --accept-loss counts in this one from now on",
                directory.display(),
                holder.ledger,
                schema.life
            )
        }
        remembered => remembered.filter(|holder| holder.ledger == schema.life),
    };
    let opened = enter(&mut connection, &schema.life, remembered, *on_behind);
    let (member, holder, counts, dashboard) = opened.map_err(Trouble::at_start)?;
    file.write(&holder)?;
    let upkeeper = Upkeeper::new(database.clone(), file, holder);
    let (config, life) = (database.clone(), schema.life);
    Ok(Opened { config, connection, member, life, counts, upkeeper, dashboard })
}

fn enter(
    connection: &mut PgConnection,
    life: &Uuid,
    remembered: Option<Holder>,
    on_behind: BehindPolicy,
) -> Result<(Membership, Holder, VideoCounts, Option<Uuid>), Trouble> {
    let holder = remembered.map_or_else(Uuid::new_v4, |known| known.holder);
    let member = join(connection, holder, remembered.map(|known| known.processor))?;
    if let Some(known) = remembered
        && known.processor == member.own.id
        && known.record > member.last_record
        && on_behind == BehindPolicy::Refuse
    {
        return Err(LedgerBehind { found: member.last_record, known: known.record }.into());
    }
    let counts = load(connection, &member)?;
    let told = read_told(connection, member.own.id, member.last_record)?;
    let holder =
        Holder { holder, processor: member.own.id, ledger: *life, record: member.last_record };
    Ok((member, holder, counts, told.first().copied()))
}
