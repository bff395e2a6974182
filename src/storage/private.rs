//! Who may read what is kept: the user that keeps it. And no file is opened through a symbolic link, by which somebody
//! else could have another one read or overwritten.
//!
//! The data directory itself may be one, and so may those above it: their owner made them. Nothing in it may be.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// What the names of everything that is kept in a data directory begin with.
const OURS: [&str; 8] = [
    "ledger.",
    "outbox.",
    "dashboard.",
    "processor.",
    "producer.",
    "produced.",
    "counted.",
    "processed.",
];

/// How far [`tighten`] goes down: the data directory, and the journals in it.
const DEPTH: u32 = 2;

/// From now on what this process makes is for its user alone: files 0600, directories 0700, SQLite's and a child's, too.
/// To be called before there is another thread.
pub fn keep_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Options that follow no symbolic link at the end of the path, and make a file for its user alone.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Refuses what is a symbolic link; what is not there is none.
///
/// # Errors
/// It is one; or the operating system's.
pub fn refuse_link(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => {
            let what = format!(
                "{} is a symbolic link, and none is followed: put the file itself there, or give --data-dir the directory \
                 that it is in",
                path.display()
            );
            Err(io::Error::other(what))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Takes from others what older versions, or a copy, have let them: files of ours in a data directory become 0600, the
/// directories of journals 0700. The data directory itself stays as its owner made it. What cannot be changed is said in
/// the log.
pub fn tighten(directory: &Path) {
    warn_of_writers(directory);
    tighten_in(directory, DEPTH, &|name| OURS.iter().any(|ours| name.starts_with(ours)));
}

fn tighten_in(directory: &Path, depth: u32, is_ours: &dyn Fn(&str) -> bool) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(found) = entry.metadata() else { continue };
        if !is_ours(&entry.file_name().to_string_lossy()) || found.is_symlink() {
            continue;
        }
        let path = entry.path();
        let mode = found.permissions().mode() & 0o7777;
        let wanted = if found.is_dir() { mode & 0o700 } else { mode & 0o600 };
        if mode != wanted
            && let Err(error) = fs::set_permissions(&path, Permissions::from_mode(wanted))
        {
            log::warn!("{} is open to others, and stays so: {error}", path.display());
        }
        if found.is_dir() && depth > 1 {
            tighten_in(&path, depth - 1, &|_| true);
        }
    }
}

/// Who may write in a directory may put a file of theirs in the place of one of ours.
fn warn_of_writers(directory: &Path) {
    let mode = fs::metadata(directory).map_or(0, |found| found.permissions().mode());
    if mode & 0o002 != 0 {
        log::warn!(
            "anyone on this machine may write in the data directory {}; `chmod o-w` it",
            directory.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_ours_is_tightened_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("ledger.journal");
        fs::create_dir(&journal).unwrap();
        let ours = [dir.path().join("ledger.sqlite3"), journal.join("0000000001.segment")];
        let other = dir.path().join("notes.txt");
        for file in ours.iter().chain([&other]) {
            fs::write(file, "x").unwrap();
            fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
        }
        fs::set_permissions(&journal, Permissions::from_mode(0o755)).unwrap();
        symlink(&other, dir.path().join("outbox.sqlite3")).unwrap();
        tighten(dir.path());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(ours.each_ref().map(|file| mode(file)), [0o600; 2]);
        assert_eq!((mode(&journal), mode(&other)), (0o700, 0o644));
    }

    #[test]
    fn no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        refuse_link(&file).unwrap();
        fs::write(&file, "x").unwrap();
        symlink(&file, &link).unwrap();
        refuse_link(&file).unwrap();
        let text = refuse_link(&link).unwrap_err().to_string();
        assert!(text.contains("link is a symbolic link"), "{text}");
        assert!(options().read(true).open(&link).is_err());
        options().read(true).open(&file).unwrap();
    }
}
