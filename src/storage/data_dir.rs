//! The data directory: made and tried out at start, and owned by one process for each role.
//!
//! What lies in it belongs to the parts (`dashboard.sqlite3`, the ledger, the outbox). Runs on the thread
//! that starts a part; holds no thread of its own.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nsq_protocol::thread::StopToken;

use super::private;

/// The role of a processor: one for each ledger.
pub const PROCESSOR: &str = "processor";

/// The role of a producer: one for each outbox.
pub const PRODUCER: &str = "producer";

/// The role of a dashboard.
pub const DASHBOARD: &str = "dashboard";

/// The role of a broker.
pub const BROKER: &str = "broker";

/// How often a standby looks whether the owner is gone.
const STANDBY_RETRY: Duration = Duration::from_millis(20);

/// The most of a lock file that is read to name its owner: a pid has at most 10 digits.
const PID_MAX: u64 = 20;

/// How long a new lock waits for an owner that is on its way out. A child that another thread has just
/// forked holds the descriptor, and so the lock, until its exec: a moment, but long enough to be refused.
const LOCK_GRACE: Duration = Duration::from_millis(300);

/// How long between two tries within [`LOCK_GRACE`].
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// A directory that exists and takes files.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The option that names it.
    option: &'static str,
}

impl DataDir {
    /// Makes the directory if it is missing, for its user alone; writes a file to see that it can be used; and takes from
    /// others what they may read of ours in it.
    ///
    /// # Errors
    /// One line that names the directory and the way out.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_by(path, "--data-dir")
    }

    /// As [`DataDir::open`]; `option` is what named the directory.
    ///
    /// # Errors
    /// As [`DataDir::open`].
    pub fn open_by(path: impl AsRef<Path>, option: &'static str) -> Result<Self> {
        let path = path.as_ref();
        let shown = path.display();
        if path.as_os_str().is_empty() {
            bail!("the data directory is empty; give {option} a directory");
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| {
            format!("cannot make the data directory {shown}; give {option} another")
        })?;
        // Permission bits lie for root and say nothing of a read-only or full disk: only a write tells.
        let probe = path.join(format!(".write-test-{}", uuid::Uuid::new_v4().simple()));
        let made = private::options().write(true).create_new(true).open(&probe);
        let written = made.and_then(|mut file| file.write_all(b"playcounts"));
        // Best effort: the write error is the one worth telling.
        let removed = fs::remove_file(&probe);
        written.and(removed).with_context(|| {
            format!("cannot write in the data directory {shown}; free space, fix its permissions, or give {option} another")
        })?;
        private::tighten(path);
        Ok(Self { path: path.to_owned(), option })
    }

    /// The directory, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the directory for one `role` ("processor", "dashboard"); a second holder is refused.
    ///
    /// The kernel holds the lock for the process, so that it is free again even after a kill -9.
    ///
    /// # Errors
    /// One line that names the owner's pid, or the operating system's reason.
    pub fn lock(&self, role: &str) -> Result<Lock> {
        let (_source, never) = nsq_protocol::thread::stop_pair();
        let deadline = Instant::now() + LOCK_GRACE;
        let mut file = self.open_lock(role)?;
        loop {
            if self.try_lock(&mut file, role)? {
                return Ok(Lock { _file: file });
            }
            if Instant::now() > deadline {
                return Err(self.taken(role, &file));
            }
            never.wait(LOCK_RETRY);
        }
    }

    /// As [`DataDir::lock`], but waits until the owner is gone; `None` after `stop`. `waiting` gets the reason once.
    ///
    /// # Errors
    /// The operating system's reason.
    pub fn lock_when_free(
        &self,
        role: &str,
        stop: &StopToken,
        waiting: impl FnOnce(String),
    ) -> Result<Option<Lock>> {
        let mut file = self.open_lock(role)?;
        let mut waiting = Some(waiting);
        // The kernel has a call that blocks until the lock is free, but none that a stop can end.
        while !self.try_lock(&mut file, role)? {
            if let Some(waiting) = waiting.take() {
                waiting(owner(&self.path, role, &file));
            }
            if stop.wait(STANDBY_RETRY) {
                return Ok(None);
            }
        }
        Ok(Some(Lock { _file: file }))
    }

    fn open_lock(&self, role: &str) -> Result<File> {
        let path = self.path.join(format!("{role}.lock"));
        private::options()
            .read(true)
            .write(true)
            .create(true)
            // Until the lock is held the pid inside is the owner's.
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
    }

    /// Takes the lock and writes our pid into the file; false if another holds it.
    fn try_lock(&self, file: &mut File, role: &str) -> Result<bool> {
        let shown = || self.path.join(format!("{role}.lock")).display().to_string();
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| {
                    format!(
                        "cannot lock {}; give {} a directory on a local disk",
                        shown(),
                        self.option
                    )
                });
            }
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()))
            .with_context(|| format!("cannot write {}", shown()))?;
        Ok(true)
    }

    fn taken(&self, role: &str, file: &File) -> anyhow::Error {
        let owner = owner(&self.path, role, file);
        anyhow!("{owner}; stop it or give {} another directory", self.option)
    }
}

/// Who uses a data directory in that role, in words; `None`: nobody. Changes nothing.
pub fn user(directory: &Path, role: &str) -> Option<String> {
    let file = private::options().read(true).open(directory.join(format!("{role}.lock"))).ok()?;
    // Held for a moment: whoever starts now waits longer than that.
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(owner(directory, role, &file)),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

/// Who holds the lock.
fn owner(directory: &Path, role: &str, mut file: &File) -> String {
    let mut pid = String::new();
    // The owner is only named for convenience: without its pid it is one all the same.
    let read = file.rewind().and_then(|()| file.take(PID_MAX).read_to_string(&mut pid));
    let owner = match pid.trim().parse::<u32>() {
        Ok(pid) if read.is_ok() => format!(" (pid {pid})"),
        _ => String::new(),
    };
    format!("another {role}{owner} uses the data directory {}", directory.display())
}

/// The right to use the directory for one role; dropping it gives it back.
#[derive(Debug)]
pub struct Lock {
    // Closing the descriptor releases the lock. The file stays: removing it would let two processes lock
    // two files of the same name.
    _file: File,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_with_its_parents_and_left_empty() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path().join("a/b")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below"), PathBuf::from("/proc/playcounts")] {
            let text = format!("{:#}", DataDir::open(&path).unwrap_err());
            assert!(text.contains(path.to_str().unwrap()), "{text}");
            assert!(text.contains("--data-dir") && !text.contains('\n'), "{text}");
        }
        assert!(DataDir::open("").is_err());
    }

    #[test]
    fn a_second_holder_is_refused_until_the_first_is_gone() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).unwrap();
        let lock = dir.lock("processor").unwrap();
        let text = dir.lock("processor").unwrap_err().to_string();
        let want = format!(
            "another processor (pid {}) uses the data directory {}; stop it or give --data-dir another directory",
            std::process::id(),
            temp.path().display()
        );
        assert_eq!(text, want);
        dir.lock("dashboard").unwrap();
        let using = user(dir.path(), "processor").unwrap();
        assert!(want.starts_with(&using), "{using}");
        drop(lock);
        assert_eq!(user(dir.path(), "processor"), None);
        assert_eq!(user(dir.path(), "producer"), None);
        dir.lock("processor").unwrap();
    }

    #[test]
    fn an_owner_without_a_readable_pid_is_still_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).unwrap();
        let _lock = dir.lock("processor").unwrap();
        fs::write(temp.path().join("processor.lock"), "\u{1b}[31m no pid").unwrap();
        let text = dir.lock("processor").unwrap_err().to_string();
        assert!(text.starts_with("another processor uses the data directory"), "{text}");
    }
}
