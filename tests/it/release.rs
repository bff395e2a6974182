//! `scripts/release` and what it refuses before it builds anything.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::assert_exit;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/release");

/// A repository of one commit with the script, version 1.2.3 and that change log.
fn repository(changes: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("scripts")).unwrap();
    fs::copy(SCRIPT, dir.path().join("scripts/release")).unwrap();
    let manifest = "[workspace]\nmembers = []\n\n[workspace.package]\nversion = \"1.2.3\"\n";
    fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
    fs::write(dir.path().join("CHANGELOG.md"), changes).unwrap();
    git(dir.path(), &["init", "--quiet"]);
    commit(dir.path());
    dir
}

fn git(dir: &Path, args: &[&str]) {
    let who = ["-c", "user.name=test", "-c", "user.email=test@example.org"];
    let output = Command::new("git").arg("-C").arg(dir).args(who).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
}

fn commit(dir: &Path) {
    git(dir, &["add", "--all"]);
    git(dir, &["commit", "--quiet", "--message", "all", "--allow-empty"]);
}

fn release(dir: &Path, args: &[&str]) -> Output {
    Command::new(dir.join("scripts/release")).args(args).output().unwrap()
}

#[track_caller]
fn refused(dir: &Path, want: &str) {
    let output = release(dir, &[]);
    assert_exit(&output, 1);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("release: ") && stderr.contains(want), "{output:#?}");
    assert!(!dir.join("target").exists(), "nothing is built");
}

#[test]
fn what_is_not_committed_or_has_no_dated_version_is_not_released() {
    let dir = repository("# Changelog\n\n## 1.2.3 - 2026-01-02\n");
    fs::write(dir.path().join("new"), "").unwrap();
    refused(dir.path(), "these changes are not committed:\n?? new");
    commit(dir.path());
    // With the tree clean it goes on, to a tag of another commit.
    git(dir.path(), &["tag", "v1.2.3", "HEAD~1"]);
    refused(dir.path(), "v1.2.3 is the tag of another commit");
    for changes in [
        "## Unreleased\n",
        "## 1.2.3\n",
        "## 11.2.3 - 2026-01-02\n",
        "## 1.2.33 - 2026-01-02\n",
        "## 1x2.3 - 2026-01-02\n",
        "Not ## 1.2.3 - 2026-01-02\n",
    ] {
        let dir = repository(changes);
        refused(dir.path(), "CHANGELOG.md has no heading with 1.2.3 and a date");
    }
}

#[test]
fn its_help_says_what_it_does() {
    let dir = repository("");
    let help = release(dir.path(), &["--help"]);
    assert_exit(&help, 0);
    assert!(String::from_utf8_lossy(&help.stdout).contains("--without-try"), "{help:?}");
    assert_exit(&release(dir.path(), &["--publish"]), 2);
}
