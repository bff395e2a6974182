//! What runs, in a file: for who asks while it runs, and for who must clean up after a program that was killed.
//!
//! A line for each: `part NAME PID STARTED`, where STARTED is when the kernel says that the process began (a pid is used
//! again), and `directory PATH` for what lies elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};

/// The file's name in the cluster's directory.
const NAME: &str = "state";

/// The file.
pub(crate) struct State {
    path: PathBuf,
    directories: Vec<PathBuf>,
}

impl State {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { path: dir.join(NAME), directories: Vec::new() }
    }

    /// Something outside the cluster's directory is the cluster's, too.
    pub(crate) fn note_directory(&mut self, path: &Path) {
        self.directories.push(path.to_owned());
    }

    /// Writes down what runs now.
    pub(crate) fn write(&self, running: &[(String, u32)]) -> Result<()> {
        let mut text = String::new();
        for (name, pid) in running {
            let Some(started) = started(*pid) else { continue };
            text += &format!("part {name} {pid} {started}\n");
        }
        for directory in &self.directories {
            text += &format!("directory {}\n", directory.display());
        }
        let new = self.path.with_extension("new");
        fs::write(&new, text)?;
        Ok(fs::rename(new, &self.path)?)
    }

    /// Nothing runs any more. The file stays: it says whose the directory is.
    pub(crate) fn clear(&self) {
        let _ = fs::write(&self.path, "");
    }
}

/// Whether a cluster was in the directory.
pub(crate) fn is_there(dir: &Path) -> bool {
    dir.join(NAME).exists()
}

/// Kills what a program that was killed has left, and removes what it had elsewhere; the names of what still ran.
pub(crate) fn clean(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join(NAME)).unwrap_or_default();
    let mut killed = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["part", name, pid, began] => {
                let Ok(pid) = pid.parse::<u32>() else { continue };
                if started(pid).as_deref() != Some(began) {
                    continue;
                }
                if let Some(pid) = Pid::from_raw(pid as i32) {
                    let _ = kill_process(pid, Signal::KILL);
                    killed.push(name.to_owned());
                }
            }
            ["directory", path] if path.contains("playcounts-cluster-") => {
                let _ = fs::remove_dir_all(path);
            }
            _ => {}
        }
    }
    let _ = fs::write(dir.join(NAME), "");
    killed
}

/// When a process began, in the kernel's ticks; `None` when it is gone.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The 22nd field; the name, the second, may hold anything.
    Some(stat.rsplit_once(") ")?.1.split(' ').nth(19)?.to_owned())
}
