//! A machine that refuses threads: every part starts, or ends with a reason; none hangs.
//!
//! Each start runs as a user of its own, since the limit is one of a user and holds for nobody who is root. So this
//! needs root, `setpriv` and `prlimit` (util-linux).

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Signal, geteuid};

use crate::support::{Broker, Running};

/// A limit that is enough for every part; the largest, `run`, has some 40 threads.
const ENOUGH: u32 = 120;

/// How many starts at one time, each with a user of its own.
const AT_ONCE: u32 = 6;

/// The first user: nobody has it.
const FIRST_USER: u32 = 54_321;

/// How long a part that has started may go on before it is asked to end. What is slower is asked while it starts, and
/// must end as well.
const GOES_ON: Duration = Duration::from_millis(700);

/// The binary where every user may run it: a checkout may lie in root's home.
struct Program {
    dir: tempfile::TempDir,
}

impl Program {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = Self { dir };
        std::fs::set_permissions(program.dir.path(), Permissions::from_mode(0o755)).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_playcounts"), program.path()).unwrap();
        std::fs::set_permissions(program.path(), Permissions::from_mode(0o755)).unwrap();
        program
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("playcounts")
    }

    /// Starts it as `user` with at most `threads` threads; ends it by SIGTERM if it goes on.
    #[track_caller]
    fn run(&self, args: &[&str], user: u32, threads: u32) -> Output {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let mut command = Command::new("setpriv");
        command
            .args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"])
            .args(["prlimit", &format!("--nproc={threads}:{threads}")])
            .arg(self.path())
            .args(args)
            .current_dir(dir.path())
            .env("TMPDIR", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = Running::spawn(command, &format!("{threads} threads: {args:?}"));
        std::thread::sleep(GOES_ON);
        if !running.has_ended() {
            running.signal(Signal::TERM);
        }
        // Fails if it does not end.
        running.wait()
    }
}

/// Whether it ran as it should: to its end, or until it was told to stop, which some report as a failure.
fn has_run(output: &Output) -> bool {
    let stderr = String::from_utf8_lossy(&output.stderr);
    output.status.success() || stderr.contains("playcounts: stopped before the end: ")
}

/// Starts a part under every limit from 1 up, until it runs under four in a row.
#[track_caller]
fn check(program: &Program, args: &[&str]) {
    let next = AtomicU32::new(1);
    let in_a_row = AtomicU32::new(0);
    let refused = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let try_all = |user: u32| {
            loop {
                let threads = next.fetch_add(1, Ordering::Relaxed);
                if in_a_row.load(Ordering::Relaxed) >= 4 || threads > ENOUGH {
                    return;
                }
                let output = program.run(args, user, threads);
                if has_run(&output) {
                    in_a_row.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                in_a_row.store(0, Ordering::Relaxed);
                refused.fetch_add(1, Ordering::Relaxed);
                let stderr = String::from_utf8_lossy(&output.stderr);
                // One that was told to stop before it could say so ends by the signal itself.
                let is_early = output.status.code().is_none() && stderr.is_empty();
                let last = stderr.lines().last().unwrap_or_default();
                let has_reason =
                    output.status.code() == Some(1) && last.starts_with("playcounts: ");
                assert!(is_early || has_reason, "{threads} threads: {args:?}: {output:#?}");
            }
        };
        for user in 0..AT_ONCE {
            scope.spawn(move || try_all(FIRST_USER + user));
        }
    });
    assert!(in_a_row.into_inner() >= 4, "{args:?} never runs with {ENOUGH} threads or fewer");
    assert!(refused.into_inner() > 0, "{args:?} was never refused a thread");
}

#[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
fn may_limit_threads() -> bool {
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let may = geteuid().is_root() && has("setpriv") && has("prlimit");
    if !may {
        let text = "SKIPPED: refused threads need root, setpriv and prlimit";
        let _ = writeln!(std::io::stderr(), "{text}");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI must run this");
    }
    may
}

#[test]
fn a_part_that_is_refused_a_thread_ends_or_starts() {
    if !may_limit_threads() {
        return;
    }
    let program = Program::new();
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::ours(dir.path());
    let tcp = broker.tcp();
    let any = "127.0.0.1:0";
    let nobody = "http://127.0.0.1:1";
    let fill = ["produce", "--nsqd-tcp-address", &tcp, "--num-messages", "100"];
    crate::support::assert_exit(&crate::support::output(dir.path(), &fill), 0);

    check(&program, &["broker", "--tcp-address", any, "--http-address", any]);
    check(&program, &["dashboard", "--http-address", any, "--nsqd-http-address", &broker.http()]);
    let process = ["process", "--nsqd-tcp-address", &tcp, "--dashboard-url", nobody];
    check(&program, &[&process[..], &["--num-threads", "3"]].concat());
    let produce = ["produce", "--nsqd-tcp-address", &tcp, "--dashboard-url", nobody];
    check(&program, &[&produce[..], &["--num-messages", "9", "--data-dir", "data"]].concat());
    check(&program, &["run", "--http-address", any, "--num-messages", "1000", "--exit"]);
}
