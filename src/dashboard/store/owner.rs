//! Whose counts the files hold: those of a dashboard (`dashboard`), or of a simulation (`run`), which may throw its own away.
//! The heads of the journal's segments say it. Files without a journal, as a backup and those of older versions are, are a
//! dashboard's.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::database::{FILE, JOURNAL, SCHEMA, unusable_journal};
use super::identity;
use crate::journal::{self, FsDisk, JournalKind, JournalOwner};
use crate::storage::way_out::other_directory;

/// Whose counts are in `directory`; `None`: there are none.
///
/// # Errors
/// The files are damaged, somebody else's, or of a newer version.
pub(in crate::dashboard) fn owner(directory: &Path) -> Result<Option<JournalOwner>> {
    let (file, path) = (directory.join(FILE), directory.join(JOURNAL));
    let tables = SCHEMA.open_any(&file)?;
    let disk = FsDisk::open_reader(&path);
    let head = match disk {
        Some(disk) => journal::any_head(&*disk).with_context(|| unusable_journal(&path))?,
        None => None,
    };
    if let Some(head) = head.filter(|head| head.kind != JournalKind::Dashboard) {
        bail!("{}: it is {} of {}", unusable_journal(&path), head.kind, head.owner);
    }
    let Some(tables) = tables else { return Ok(head.map(|head| head.owner)) };
    let version: i64 = tables.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version < SCHEMA.version {
        return Ok(Some(JournalOwner::Part));
    }
    let Some(identity) = SCHEMA.usable(&file, identity::read(&tables))? else {
        return Ok(head.map(|head| head.owner));
    };
    match head {
        Some(head) if head.life == identity.life => Ok(Some(head.owner)),
        Some(_) => bail!("{}: it belongs to other files than {FILE}", unusable_journal(&path)),
        None if identity.position.is_some() => {
            bail!("{}: it is missing, or its segments' heads are damaged", unusable_journal(&path))
        }
        // Killed while it was made: nothing is lost with it.
        None if identity.count_rows + identity.catalog_rows == 0 => Ok(None),
        None => Ok(Some(JournalOwner::Part)),
    }
}

/// Whose the journal in `directory` says it is; `None` where none of its heads can be read, or there is none.
///
/// # Errors
/// The operating system's.
pub(super) fn owner_in_journal(directory: &Path) -> Result<Option<JournalOwner>> {
    let Some(disk) = FsDisk::open_reader(&directory.join(JOURNAL)) else { return Ok(None) };
    Ok(journal::any_head(&*disk)?.map(|head| head.owner))
}

/// Refuses counts of the other kind.
///
/// # Errors
/// They are, with the way out. Files that cannot be used are refused by whoever opens them.
pub(super) fn check_owner(directory: &Path, wanted: JournalOwner) -> Result<()> {
    let (whose, file) = match owner(directory) {
        Ok(Some(JournalOwner::Simulation)) if wanted == JournalOwner::Part => {
            ("a simulation's (`run`)", directory.join(FILE))
        }
        Ok(Some(JournalOwner::Part)) if wanted == JournalOwner::Simulation => {
            ("a dashboard's (`dashboard`)", directory.join(FILE))
        }
        _ => return Ok(()),
    };
    bail!("{} holds {whose} counts; {}", file.display(), other_directory(directory))
}

/// Refuses to throw away what is not a simulation's, or may not be.
///
/// # Errors
/// It is a dashboard's, or it cannot be told, with the way out.
pub(crate) fn check_disposable(directory: &Path) -> Result<()> {
    owner(directory).context(
        "`run` throws away what a `run` has left, and cannot tell whose this is: `playcounts check` looks at it; or give \
         --data-dir another directory",
    )?;
    check_owner(directory, JournalOwner::Simulation)
}
