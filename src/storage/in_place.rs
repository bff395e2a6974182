//! Whether open files still are where they were opened. What goes to a file that was removed, moved aside, or covered by a
//! mount is lost, and the operating system does not say so.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::sqlite;

/// Files, and what each was when it was opened: its device, and its number there.
#[derive(Debug)]
pub struct FilesInPlace {
    files: Vec<(PathBuf, (u64, u64))>,
}

impl FilesInPlace {
    /// The files of a SQLite database that is open: itself, its WAL, and what its connections share.
    ///
    /// # Errors
    /// The operating system's; also where one is gone already.
    pub fn of_database(file: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for path in sqlite::all_files(file) {
            match identity(&path) {
                Ok(found) => files.push((path, found)),
                // SQLite makes the others when it needs them.
                Err(error) if error.kind() == io::ErrorKind::NotFound && path != file => {}
                Err(error) => {
                    return Err(anyhow::Error::from(error).context(path.display().to_string()));
                }
            }
        }
        Ok(Self { files })
    }

    /// Looks whether each name still leads to its file: some microseconds.
    ///
    /// # Errors
    /// One does not; with the way out.
    pub fn check(&self) -> Result<()> {
        for (path, opened) in &self.files {
            if identity(path).ok() != Some(*opened) {
                bail!("{} {GONE}", path.display());
            }
        }
        Ok(())
    }
}

/// What is said of a file that is not where it was: the end of a sentence.
pub const GONE: &str = "is not in its directory any more: it was removed, moved, or covered by a mount; put the directory \
                        back, then start again";

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_that_goes_is_noticed() {
        for gone in ["x", "x-wal", "x-shm", ""] {
            let dir = tempfile::tempdir().unwrap();
            let (data, aside) = (dir.path().join("data"), dir.path().join("aside"));
            fs::create_dir(&data).unwrap();
            let file = data.join("x");
            let connection = rusqlite::Connection::open(&file).unwrap();
            connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a)").unwrap();
            let files = FilesInPlace::of_database(&file).unwrap();
            assert_eq!(files.files.len(), 3);
            files.check().unwrap();
            fs::rename(data.join(gone), &aside).unwrap();
            let text = files.check().unwrap_err().to_string();
            assert!(text.contains(if gone.is_empty() { "x" } else { gone }), "{text}");
            // Another one under the name is not it.
            if !gone.is_empty() {
                fs::copy(&aside, data.join(gone)).unwrap();
                files.check().unwrap_err();
                fs::remove_file(data.join(gone)).unwrap();
            }
            fs::rename(&aside, data.join(gone)).unwrap();
            files.check().unwrap();
        }
    }
}
