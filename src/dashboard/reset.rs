//! What the command `reset` does to the files of a dashboard that does not run. Runs on the thread of the command.

use std::path::Path;

use anyhow::{Result, anyhow};

use super::store::{CatalogSums, Keep, Store, owner, remove};
use crate::journal::JournalOwner;

/// Forgets what a reset forgets. The files stay where there are titles or videos that are not shown; else they go, as do
/// those of a simulation and those that cannot be used. The caller holds the directory's dashboard lock.
///
/// # Errors
/// What cannot be removed, or written, and why.
pub(super) fn reset(directory: &Path) -> Result<()> {
    if !matches!(owner(directory), Ok(Some(JournalOwner::Part))) {
        return remove(directory);
    }
    // What is kept of history is forgotten, too, so that it does not matter for how long.
    let store = match Store::open(directory, JournalOwner::Part, 1, Keep::default()) {
        Ok(store) => store,
        Err(error) => {
            log::warn!("no title is kept: {error:#}");
            return remove(directory);
        }
    };
    let CatalogSums { titles, hidden, deleted, .. } = store.catalog_sums();
    let keeps = titles + hidden + deleted > 0;
    let cleared = if keeps { store.clear().map(drop) } else { Ok(()) };
    store.shutdown();
    if !keeps {
        return remove(directory);
    }
    cleared.map_err(|not_stored| anyhow!("{}", std::sync::Arc::<str>::from(not_stored)))
}
