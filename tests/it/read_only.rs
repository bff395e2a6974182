//! A host without a place for temporary files, as a container with a read-only root: the data directory serves.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Running, assert_exit, get};

/// `playcounts ARGS` in `dir` where those directories are read-only, and TMPDIR is not set. `None`, said loudly, where
/// nothing may be mounted.
#[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
fn start(dir: &Path, read_only: &[&str], args: &str) -> Option<Running> {
    let mounts: Vec<_> =
        read_only.iter().map(|at| format!("mount -t tmpfs -o ro none {at} && ")).collect();
    let script = format!(r#"{}exec "$0" "$@""#, mounts.concat());
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-m", "bash", "-c", script]);
        command
    };
    let may = unshared(&format!("{}true", mounts.concat())).output();
    if !may.is_ok_and(|done| done.status.success()) {
        eprintln!(
            "SKIPPED: nothing may be mounted here; a host without a writable /tmp is not tried"
        );
        return None;
    }
    let mut command = unshared(&script);
    command.arg(env!("CARGO_BIN_EXE_playcounts")).args(args.split(' ')).current_dir(dir);
    command.env_remove("TMPDIR").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(Running::spawn(command, args))
}

#[test]
fn a_dashboard_needs_no_place_for_temporary_files() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let args = "dashboard --http-address 127.0.0.1:0 --data-dir data";
    let Some(mut dashboard) = start(dir.path(), &["/tmp", "/dev/shm"], args) else { return };
    let url = dashboard.wait_for("live at ");
    assert_eq!(get(&format!("{url}/healthz"))["status"], "ok");
    let in_data = std::fs::read_dir(dir.path().join("data")).unwrap();
    let names: Vec<_> = in_data.map(|entry| entry.unwrap().file_name()).collect();
    let sockets =
        names.iter().filter(|name| name.to_string_lossy().starts_with("playcounts-http-"));
    assert_eq!(sockets.count(), 1, "{names:?}");
}

#[test]
fn a_broker_without_a_place_says_what_it_needs() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let args = "broker --tcp-address 127.0.0.1:0 --http-address 127.0.0.1:0";
    let Some(mut broker) = start(dir.path(), &["/tmp"], args) else { return };
    broker.wait_for("HTTP: listening on ");
    drop(broker);
    let Some(broker) = start(dir.path(), &["/tmp", "/dev/shm"], args) else { return };
    let ended = broker.wait();
    assert_exit(&ended, 1);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("set TMPDIR to one that is writable"), "{said}");
}
