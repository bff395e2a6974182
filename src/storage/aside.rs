//! Files that are given up on, and kept all the same: somebody may know better. Runs on the thread of the command `check`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::directory;

/// A name in `directory` that nothing has: `name`, a hyphen and the lowest number from 1 on.
///
/// # Errors
/// None is free.
pub fn free_name(directory: &Path, name: &str) -> Result<PathBuf> {
    let mut names = (1u32..).map(|number| directory.join(format!("{name}-{number}")));
    names.find(|name| fs::symlink_metadata(name).is_err()).context("no name is free")
}

/// Gives what has that name in `directory` another one, as [`free_name`] of `dropped`; what it is now, or `None`: there was
/// nothing.
///
/// # Errors
/// The operating system's, with the name.
pub fn put_aside(directory: &Path, name: &str, dropped: &str) -> Result<Option<PathBuf>> {
    let from = directory.join(name);
    if fs::symlink_metadata(&from).is_err() {
        return Ok(None);
    }
    let to = free_name(directory, dropped)?;
    fs::rename(&from, &to)
        .and_then(|()| directory::sync(directory))
        .with_context(|| format!("cannot put {} aside", from.display()))?;
    Ok(Some(to))
}
