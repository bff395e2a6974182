//! The directory of a private Unix socket: made so that only this user may enter, removed when it is dropped, and
//! removed by a later start where its process was killed.

use std::collections::HashSet;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};

/// The longest path that `bind` takes for a Unix socket on Linux is 107 bytes; elsewhere 103.
const SOCKET_PATH_MAX: usize = 100;

/// What the directories' names start with.
const PREFIX: &str = "playcounts-http-";

/// The socket's name in its directory.
const SOCKET: &str = "sock";

/// How old a directory must be to be taken for one that was left behind: a start takes milliseconds.
const DEAD_AFTER: Duration = Duration::from_secs(60);

/// A directory for one socket. Dropped, it is removed with what is left of the socket.
pub(super) struct SocketDir(PathBuf);

impl SocketDir {
    /// A new directory that only this user may enter, so that nobody else reaches the socket: where temporary files go, else
    /// in `data`, the data directory, if there is one, else in the system's shared memory.
    ///
    /// # Errors
    /// One line that names the directories and the way out.
    pub(super) fn create(data: Option<&Path>) -> Result<Self> {
        Self::create_in(candidates(data))
    }

    fn create_in(bases: impl IntoIterator<Item = PathBuf>) -> Result<Self> {
        let name = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
        let mut refused = Vec::new();
        for base in bases {
            let path = base.join(&name);
            let made = match path.join(SOCKET).as_os_str().len() > SOCKET_PATH_MAX {
                true => Err(io::Error::other("its path is too long for a socket")),
                false => DirBuilder::new().mode(0o700).create(&path),
            };
            match made {
                Ok(()) => return Ok(Self(path)),
                Err(error) => refused.push(format!("{}: {error}", base.display())),
            }
        }
        bail!(
            "the HTTP server needs a directory for a private socket, and may make none; set TMPDIR to one that is writable \
             and has a short path ({})",
            refused.join("; ")
        )
    }

    /// Where to bind and to connect.
    pub(super) fn socket(&self) -> PathBuf {
        self.0.join(SOCKET)
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        // tiny_http has removed it, unless it never came so far.
        let _ = std::fs::remove_file(self.socket());
        if let Err(error) = std::fs::remove_dir(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Removes what processes that were killed have left: directories with a socket that nobody listens on.
pub(super) fn remove_dead(data: Option<&Path>) {
    candidates(data).iter().for_each(|base| remove_dead_in(base, SystemTime::now()));
}

/// Where a directory may be made, the first choice first, each once.
fn candidates(data: Option<&Path>) -> Vec<PathBuf> {
    let mut all = vec![std::env::temp_dir(), "/tmp".into()];
    all.extend(data.map(Path::to_owned));
    // A container whose root is read-only has one.
    all.push("/dev/shm".into());
    let mut seen = HashSet::new();
    all.retain(|base| seen.insert(base.clone()));
    all
}

/// Young ones are left alone: between its `bind` and its `listen` a server that starts looks dead.
fn remove_dead_in(temp: &Path, now: SystemTime) {
    let directories = std::fs::read_dir(temp).into_iter().flatten().flatten();
    for directory in directories {
        let is_ours = directory.file_name().to_string_lossy().starts_with(PREFIX);
        let changed = directory.metadata().and_then(|metadata| metadata.modified());
        let age = changed.ok().and_then(|changed| now.duration_since(changed).ok());
        if !is_ours || age.is_none_or(|age| age < DEAD_AFTER) {
            continue;
        }
        let mut dead = false;
        for socket in std::fs::read_dir(directory.path()).into_iter().flatten().flatten() {
            let refused = UnixStream::connect(socket.path())
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            dead |= refused && std::fs::remove_file(socket.path()).is_ok();
        }
        if dead {
            // Fails, as it should, if a live socket lies beside the dead one.
            let _ = std::fs::remove_dir(directory.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_takes_it_does() {
        let temp = tempfile::tempdir().unwrap();
        let (file, none, long) =
            (temp.path().join("file"), temp.path().join("none"), temp.path().join("y".repeat(90)));
        std::fs::write(&file, "").unwrap();
        std::fs::create_dir(&long).unwrap();
        let refused = vec![file, none, long];
        let text = SocketDir::create_in(refused.clone()).err().unwrap().to_string();
        assert!(text.contains("set TMPDIR") && text.contains("too long"), "{text}");
        let all = refused.into_iter().chain([temp.path().to_owned()]);
        let made = SocketDir::create_in(all).unwrap();
        assert!(made.socket().starts_with(temp.path()));
        let data = Path::new("/data");
        let of = |data| candidates(data);
        assert!(of(Some(data)).contains(&data.to_owned()) && !of(None).contains(&data.to_owned()));
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = temp.path().join(format!("{PREFIX}{name}"));
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (dead, live, starting) = (make("dead"), make("live"), make("starting"));
        drop(std::os::unix::net::UnixListener::bind(dead.join(SOCKET)).unwrap());
        let _listener = std::os::unix::net::UnixListener::bind(live.join(SOCKET)).unwrap();
        // One that has bound its socket and does not listen yet looks just like a dead one.
        remove_dead_in(temp.path(), SystemTime::now());
        assert!(dead.join(SOCKET).exists());
        remove_dead_in(temp.path(), SystemTime::now() + DEAD_AFTER + Duration::from_secs(1));
        assert!(!dead.exists() && live.join(SOCKET).exists() && starting.exists());
    }
}
