//! Copies of SQLite files, made while their owners go on. Runs on the thread that makes one.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rusqlite::Connection;

use super::{directory, row_check};

/// Who may read and write a copy: its owner.
const MODE: u32 = 0o600;

/// Copies the tables as they are at this moment to the new file `to`, which only its owner may read, and opens it: what is
/// committed there is on the disk, and in that one file.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn copy_into(reader: &Connection, to: &Path) -> Result<Connection> {
    let name = to.to_str().context("the path of a copy must be UTF-8")?;
    let made = OpenOptions::new().write(true).create_new(true).mode(MODE).open(to);
    made.with_context(|| format!("cannot make {name}, which must not exist yet"))?;
    let copy = (|| {
        // SQLite takes an empty file for none.
        reader.execute("VACUUM INTO ?1", [name])?;
        fs::set_permissions(to, Permissions::from_mode(MODE))?;
        let copy = Connection::open(to)?;
        row_check::add_function(&copy)?;
        copy.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;")?;
        anyhow::Ok(copy)
    })();
    copy.map_err(|error| {
        // It is ours, and no copy.
        let _ = fs::remove_file(to);
        error.context(format!("cannot write {name}"))
    })
}

/// Gives a copy its name, which must not be taken. When this returns, that is on the disk. The caller holds the lock of those
/// who make that file.
///
/// # Errors
/// The name is taken; or the operating system's.
pub fn put_in_place(copy: &Path, to: &Path) -> Result<()> {
    let shown = to.display();
    if to.symlink_metadata().is_ok() {
        bail!("{shown} is there already");
    }
    fs::rename(copy, to)
        .and_then(|()| directory::sync(directory::of(to)))
        .with_context(|| format!("cannot put the copy at {shown}"))
}
