//! What a data directory knows of the shared ledger that it counts in: the file `processor-id`. Runs on the thread that
//! starts the processor, and on that of its upkeep.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ledger::owner::PROCESSOR_ID;
use crate::storage::{directory, private};

/// The most that is read of it: it has some 200 bytes.
const BYTES_MAX: u64 = 4096;

/// Under which id a data directory counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    /// The data directory, by an id drawn when it was first used.
    pub(super) holder: Uuid,
    /// The processor's id in the ledger.
    pub(super) processor: Uuid,
    /// Which shared ledger, by its life.
    pub(super) ledger: Uuid,
    /// A record of that processor that is durable; newer ones may be, too.
    pub(super) record: u64,
}

/// The file of a data directory.
#[derive(Clone, Debug)]
pub(super) struct HolderFile(PathBuf);

impl HolderFile {
    /// In that data directory.
    pub(super) fn in_directory(data_dir: &Path) -> Self {
        Self(data_dir.join(PROCESSOR_ID))
    }

    /// What it says; `None`: there is none.
    ///
    /// # Errors
    /// One line with the way out: it cannot be read, or is no such file.
    pub(super) fn read(&self) -> Result<Option<Holder>> {
        let shown = self.0.display();
        let opened = private::options().read(true).open(&self.0);
        let file = match opened {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.with_context(|| format!("cannot read {shown}"))?,
        };
        let holder = serde_json::from_reader(std::io::Read::take(file, BYTES_MAX));
        holder.map(Some).with_context(|| {
            format!(
                "{shown} is damaged; move it away, and the processor goes on under another id of the shared ledger"
            )
        })
    }

    /// Removes it.
    ///
    /// # Errors
    /// The operating system's, with the file.
    pub(super) fn remove(&self) -> Result<()> {
        let removed = fs::remove_file(&self.0);
        removed
            .and_then(|()| directory::sync(directory::of(&self.0)))
            .with_context(|| format!("cannot remove {}", self.0.display()))
    }

    /// Writes it; it is on the disk when this returns.
    ///
    /// # Errors
    /// The operating system's, with the file.
    pub(super) fn write(&self, holder: &Holder) -> Result<()> {
        let next = self.0.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut file: File =
                private::options().write(true).create(true).truncate(true).open(&next)?;
            file.write_all(&serde_json::to_vec(holder)?)?;
            file.sync_all()?;
            fs::rename(&next, &self.0)?;
            directory::sync(directory::of(&self.0))
        };
        write().with_context(|| format!("cannot write {}", self.0.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_damage_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let file = HolderFile::in_directory(temp.path());
        assert_eq!(file.read().unwrap(), None);
        let mut holder = Holder {
            holder: Uuid::from_u128(1),
            processor: Uuid::from_u128(2),
            ledger: Uuid::from_u128(3),
            record: 7,
        };
        for record in [7, u64::MAX] {
            holder.record = record;
            file.write(&holder).unwrap();
            assert_eq!(file.read().unwrap(), Some(holder));
        }
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
        fs::write(temp.path().join(PROCESSOR_ID), "{}").unwrap();
        let text = format!("{:#}", file.read().unwrap_err());
        assert!(text.contains(PROCESSOR_ID) && text.contains("move it away"), "{text}");
    }
}
