//! The files of a repository: those that git knows or would add, or all of a directory that is none.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files below a root, by their paths from there.
pub(crate) struct Repository {
    root: PathBuf,
    /// Whether git answers for it.
    by_git: bool,
    files: BTreeSet<String>,
}

impl Repository {
    /// The tree at `root`, at this moment.
    pub(crate) fn open(root: &Path) -> Repository {
        // A directory in a repository that is none itself: git would tell of the repository around it.
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let listed = root.join(".git").exists().then(|| git(root, &list)).flatten();
        let mut repository =
            Repository { root: root.to_owned(), by_git: listed.is_some(), files: BTreeSet::new() };
        match listed {
            Some(list) => {
                let files = list.split('\0').filter(|path| root.join(path).is_file());
                repository.files.extend(files.map(String::from));
            }
            None => walk(root, "", &mut repository.files),
        }
        repository
    }

    /// All files, in the order of their paths.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// The text of a file; `None` where there is none, or no UTF-8.
    pub(crate) fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.root.join(file)).ok()
    }

    /// Whether it is a file here.
    pub(crate) fn has_file(&self, file: &str) -> bool {
        self.files.contains(file)
    }

    /// Whether it is a file here, or a directory that holds one.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let inside = format!("{path}/");
        path.is_empty()
            || self.has_file(path)
            || self
                .files
                .range(inside.clone()..)
                .next()
                .is_some_and(|file| file.starts_with(&inside))
    }

    /// Whether git is told to ignore such a path: it is made by a program.
    pub(crate) fn is_ignored(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.by_git && git(&self.root, &["check-ignore", path, &format!("{path}/")]).is_some()
    }

    /// Whether some file's path is `path` or ends with it.
    pub(crate) fn has_end(&self, path: &str) -> bool {
        let end = format!("/{path}");
        self.files().any(|file| file == path || file.ends_with(&end))
    }
}

/// What git prints; `None` where it fails.
fn git(root: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn walk(root: &Path, inside: &str, files: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(root.join(inside)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if inside.is_empty() { name.clone() } else { format!("{inside}/{name}") };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && name != "target" && name != ".git" => {
                walk(root, &path, files)
            }
            Ok(kind) if kind.is_file() => _ = files.insert(path),
            _ => {}
        }
    }
}
