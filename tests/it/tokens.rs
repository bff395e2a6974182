//! Where the write token comes from: a file or the environment, which nobody else sees, or an option.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Running, assert_exit, command, output};

/// A file with that text and those permissions.
fn file(dir: &Path, text: &str, mode: u32) -> String {
    let path = dir.join("token");
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// `playcounts ARGS` with that variable, to its end: status and stderr.
fn ended(dir: &Path, args: &[&str], variable: Option<&str>) -> (Option<i32>, String) {
    let mut command = command(dir, args);
    command.env_remove("PLAYCOUNTS_WRITE_TOKEN");
    if let Some(token) = variable {
        command.env("PLAYCOUNTS_WRITE_TOKEN", token);
    }
    let output = Running::spawn(command, &args.join(" ")).wait();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_token_comes_from_a_file_or_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let dashboard = ["dashboard", "--http-address", "127.0.0.1:0"];
    for newline in ["", "\n", "\r\n"] {
        let path = file(dir.path(), &format!("s3cret{newline}"), 0o600);
        let args = [&dashboard[..], &["--write-token-file", &path]].concat();
        let mut dashboard = Running::start(dir.path(), &args);
        let url = dashboard.wait_for("live at ");
        let reset = ["reset", "--yes", "--dashboard-url", &url];
        let refused = ended(dir.path(), &reset, None);
        assert_eq!(refused.0, Some(1), "{refused:?}");
        assert_eq!(ended(dir.path(), &reset, Some("another")).0, Some(1));
        assert_eq!(ended(dir.path(), &reset, Some("s3cret")), (Some(0), String::new()));
        let by_file = [&reset[..], &["--write-token-file", &path]].concat();
        assert_eq!(ended(dir.path(), &by_file, None), (Some(0), String::new()));
        // What is typed comes before what is in the environment.
        assert_eq!(ended(dir.path(), &by_file, Some("another")).0, Some(0));
        let typed = [&reset[..], &["--write-token", "s3cret"]].concat();
        assert_eq!(ended(dir.path(), &typed, Some("another")).0, Some(0));
    }
}

/// `run` has a dashboard and a processor, and both get it.
#[test]
fn a_simulation_and_a_processor_take_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "s3cret\n", 0o600);
    let run = ["run", "--num-messages=100", "--http-address=127.0.0.1:0", "--exit"];
    let (status, stderr) =
        ended(dir.path(), &[&run[..], &["--write-token-file", &path]].concat(), None);
    assert_eq!(status, Some(0), "{stderr}");
    assert_eq!(ended(dir.path(), &run, Some("s3cret")).0, Some(0));
}

#[test]
fn a_file_that_others_may_read_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there: it fails behind the reading of the file.
    let ended = |mode| {
        let path = file(dir.path(), "s3cret", mode);
        let args =
            ["reset", "--yes", "--dashboard-url=http://127.0.0.1:1", "--write-token-file", &path];
        String::from_utf8(output(dir.path(), &args).stderr).unwrap()
    };
    for mode in [0o644, 0o640, 0o604, 0o620] {
        assert!(ended(mode).contains("chmod 600"), "{mode:o}");
    }
    for mode in [0o600, 0o400] {
        assert!(!ended(mode).contains("chmod"), "{mode:o}");
    }
}

#[test]
fn what_is_no_token_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let reset = ["reset", "--yes", "--dashboard-url", "http://127.0.0.1:1"];
    let check = |options: &[&str], variable, want: &str| {
        for command in [&reset[..], &["dashboard", "--http-address=127.0.0.1:0"], &["process"]] {
            let (status, stderr) = ended(dir.path(), &[command, options].concat(), variable);
            assert_eq!(status, Some(1), "{stderr}");
            assert!(stderr.contains(want), "{stderr}\ndoes not say {want:?}");
        }
    };
    let missing = dir.path().join("none").to_str().unwrap().to_owned();
    check(&["--write-token-file", &missing], None, "cannot read --write-token-file");
    for empty in ["", "\n", "\r\n\n"] {
        let path = file(dir.path(), empty, 0o600);
        check(&["--write-token-file", &path], None, "holds no write token: it is empty");
    }
    for bad in ["two words", "two\nlines", "caf\u{e9}", "\u{1b}[2J"] {
        let path = file(dir.path(), bad, 0o600);
        check(&["--write-token-file", &path], None, "printable ASCII without spaces");
    }
    let path = file(dir.path(), &"x".repeat(5000), 0o600);
    check(&["--write-token-file", &path], None, "over 4096 bytes");
    check(&["--write-token-file", &path, "--write-token", "x"], None, "cannot be used together");
    check(&[], Some(""), "PLAYCOUNTS_WRITE_TOKEN holds no write token");
    check(&["--write-token", ""], None, "--write-token holds no write token");
    let plain = output(dir.path(), &["dashboard", "--http-address=0.0.0.0:0"]);
    assert_exit(&plain, 1);
}

/// Whom it refuses is said by the dashboard, too, once, whoever tries how often, and not what was tried.
#[test]
fn a_dashboard_says_once_that_it_refuses_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "s3cret", 0o600);
    let args = ["dashboard", "--http-address", "127.0.0.1:0", "--write-token-file", &path];
    let mut dashboard = Running::start(dir.path(), &args);
    let url = dashboard.wait_for("live at ").split(';').next().unwrap().to_owned();
    let reset = ["reset", "--yes", "--dashboard-url", &url];
    for _ in 0..3 {
        assert_eq!(ended(dir.path(), &reset, Some("an0ther")).0, Some(1));
    }
    dashboard.wait_for(
        "dashboard: refuses writes: DELETE /api/counts from 127.0.0.1: this call needs \
         `Authorization: Bearer` with the write token",
    );
    assert_eq!(ended(dir.path(), &reset, None).0, Some(1));
    std::thread::sleep(Duration::from_secs(1));
    dashboard.signal(Signal::TERM);
    let stderr = String::from_utf8(dashboard.wait().stderr).unwrap();
    assert_eq!(stderr.matches("refuses writes").count(), 1, "{stderr}");
    assert!(!stderr.contains("an0ther"), "{stderr}");
}
