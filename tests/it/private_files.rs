//! Who may read what is kept: files are 0600 and directories 0700 whatever the umask, wider ones are tightened, and no file
//! is opened through a symbolic link.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Broker, Running, assert_exit, output, wait_until};

/// `playcounts ARGS` in `dir`, under an umask.
fn with_umask(umask: &str, dir: &Path, args: &[&str]) -> Running {
    let mut command = Command::new("bash");
    command.args(["-c", &format!(r#"umask {umask}; exec "$0" "$@""#)]);
    command.arg(env!("CARGO_BIN_EXE_playcounts")).args(args).current_dir(dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running::spawn(command, &args.join(" "))
}

/// Every part on one data directory, while they run.
struct Parts {
    _running: Vec<Running>,
    _broker: Broker,
}

impl Parts {
    fn start(umask: &str, dir: &Path) -> Self {
        let broker = Broker::ours(dir);
        let tcp = broker.tcp();
        let dashboard = ["dashboard", "--http-address", "127.0.0.1:0", "--data-dir", "deep/data"];
        let mut dashboard = with_umask(umask, dir, &dashboard);
        let url = dashboard.wait_for("live at ");
        let more = ["--nsqd-tcp-address", &tcp, "--dashboard-url", &url, "--data-dir", "deep/data"];
        let process = with_umask(umask, dir, &[&["process"][..], &more].concat());
        let produce = ["produce", "--num-messages", "1000000", "--rate", "2000"];
        let produce = with_umask(umask, dir, &[&produce[..], &more].concat());
        let counts = format!("{url}/api/counts?limit=1");
        wait_until("plays are shown", || {
            crate::support::get(&counts)["total_plays"].as_u64() > Some(0)
        });
        Self { _running: vec![dashboard, process, produce], _broker: broker }
    }
}

/// The modes of all that is in a directory, by path; of what is in it, not its own.
fn modes(directory: &Path) -> BTreeMap<PathBuf, u32> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        // One that a start has just renamed is found under its new name.
        let Ok(metadata) = entry.metadata() else { continue };
        found.insert(entry.path(), metadata.permissions().mode() & 0o7777);
        if metadata.is_dir() {
            found.extend(modes(&entry.path()));
        }
    }
    found
}

#[track_caller]
fn assert_private(directory: &Path) {
    for (path, mode) in modes(directory) {
        let wanted = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, wanted, "{}: {mode:o}", path.display());
    }
}

/// The directory and every file of every part, SQLite's and the lock files, too.
#[test]
fn files_are_their_users_alone_whatever_the_umask() {
    for umask in ["0", "022", "077"] {
        let dir = tempfile::tempdir().unwrap();
        let parts = Parts::start(umask, dir.path());
        assert_private(dir.path());
        let data = dir.path().join("deep/data");
        for part in ["ledger", "outbox", "dashboard"] {
            for suffix in [".sqlite3", ".sqlite3-wal", ".sqlite3-shm", ".journal"] {
                let name = format!("{part}{suffix}");
                assert!(data.join(&name).exists(), "{name}");
            }
        }
        drop(parts);
        let run =
            ["run", "--num-messages=100", "--http-address=127.0.0.1:0", "--exit", "--data-dir=run"];
        assert_exit(&with_umask(umask, dir.path(), &run).wait(), 0);
        assert!(dir.path().join("run/produced.csv").exists());
        let backup = ["backup", "--data-dir=run", "--output=copy.sqlite3"];
        assert_exit(&with_umask(umask, dir.path(), &backup).wait(), 0);
        assert_private(dir.path());
    }
}

/// What an older version has left open, or a copy; the data directory itself stays as its owner made it.
#[test]
fn wider_modes_are_tightened_by_a_start() {
    let dir = tempfile::tempdir().unwrap();
    drop(Parts::start("022", dir.path()));
    let data = dir.path().join("deep/data");
    for path in modes(&data).into_keys() {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    let notes = data.join("notes.txt");
    fs::write(&notes, "not ours").unwrap();
    fs::set_permissions(&notes, Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o777)).unwrap();
    let start = ["dashboard", "--http-address=127.0.0.1:0", "--data-dir=deep/data"];
    let mut dashboard = Running::start(dir.path(), &start);
    dashboard.wait_for("anyone on this machine may write in the data directory deep/data");
    dashboard.wait_for("live at ");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&data), mode(&notes)), (0o777, 0o644));
    fs::remove_file(notes).unwrap();
    assert_private(&data);
}

/// The command of the part that a file belongs to.
fn owner(name: &str) -> Vec<&'static str> {
    // Where nobody is: whoever comes so far has opened its files.
    let nowhere = ["--nsqd-tcp-address=127.0.0.1:1", "--dashboard-url=http://127.0.0.1:1"];
    let part = match name.split_once('.').expect("a suffix").0 {
        "dashboard" => return vec!["dashboard", "--http-address=127.0.0.1:0"],
        "ledger" | "processor" => &["process"][..],
        "outbox" | "producer" => &["produce", "--num-messages=1000000", "--rate=2000"],
        other => panic!("{other} is whose?"),
    };
    [part, &nowhere].concat()
}

/// A link in place of any file leads nobody to what is behind it.
#[test]
fn no_file_is_opened_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    drop(Parts::start("022", dir.path()));
    fs::rename(dir.path().join("deep/data"), dir.path().join("whole")).unwrap();
    let data = dir.path().join("data");
    let names: Vec<PathBuf> = modes(&dir.path().join("whole"))
        .into_keys()
        .map(|path| path.strip_prefix(dir.path().join("whole")).unwrap().to_owned())
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let _ = fs::remove_dir_all(&data);
        let copied = Command::new("cp").arg("-a").arg(dir.path().join("whole")).arg(&data).status();
        assert!(copied.unwrap().success());
        let aside = dir.path().join("aside");
        let _ = fs::remove_dir_all(&aside);
        fs::create_dir(&aside).unwrap();
        let target = aside.join("target");
        fs::rename(data.join(&name), &target).unwrap();
        symlink(&target, data.join(&name)).unwrap();
        let before = bytes(&target);
        let part = name.to_string_lossy().into_owned();
        let args = [owner(&part), vec!["--data-dir=data"]].concat();
        let ran = output(dir.path(), &args);
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(1), "{part}: {said}");
        assert!(
            said.contains("symbolic link") && !said.contains("playcounts reset"),
            "{part}: {said}"
        );
        assert!(bytes(&target) == before, "{part}: what is behind the link was changed");
    }
}

/// What a run leaves takes the place of a link, and what is behind the link stays.
#[test]
fn the_files_of_a_run_are_not_written_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let mine = dir.path().join("mine");
    fs::create_dir(dir.path().join("data")).unwrap();
    for name in ["produced.csv", "counted.csv", "processed.json"] {
        fs::write(&mine, "mine").unwrap();
        symlink(&mine, dir.path().join("data").join(name)).unwrap();
    }
    let run =
        ["run", "--num-messages=100", "--http-address=127.0.0.1:0", "--exit", "--data-dir=data"];
    assert_exit(&output(dir.path(), &run), 0);
    assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
    assert!(fs::symlink_metadata(dir.path().join("data/produced.csv")).unwrap().is_file());
}

/// The data directory itself is its owner's to put elsewhere.
#[test]
fn the_data_directory_may_be_a_link() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("disk")).unwrap();
    symlink("disk", dir.path().join("data")).unwrap();
    let parts =
        ["run", "--num-messages=100", "--http-address=127.0.0.1:0", "--exit", "--data-dir=data"];
    assert_exit(&output(dir.path(), &parts), 0);
    let check = output(dir.path(), &["check", "--data-dir=data"]);
    assert_exit(&check, 0);
    assert!(dir.path().join("disk/dashboard.sqlite3").exists());
}

/// All bytes of a file, or of the files in a directory.
fn bytes(path: &Path) -> Vec<u8> {
    if !path.is_dir() {
        return fs::read(path).unwrap();
    }
    modes(path).into_keys().flat_map(|file| fs::read(file).unwrap()).collect()
}
