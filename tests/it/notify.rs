//! What a part tells the service manager: that it serves, that it lives, that it stops; and that it does not live when it
//! hangs. The test has the service manager's socket.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use uuid::Uuid;

use crate::support::{Broker, DEADLINE, Running, assert_exit, command, dashboard, post};

/// After how long without a sign of life a part would be ended.
const LIMIT: Duration = Duration::from_secs(2);

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(dir: &Path) -> Self {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { socket, path }
    }

    /// Starts a part as its service; `failing` sets a point of a test build.
    fn start(&self, dir: &Path, args: &[&str], failing: Option<(&str, &str)>) -> Running {
        let mut command = command(dir, args);
        let limit = LIMIT.as_micros().to_string();
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", limit).envs(failing);
        Running::spawn(command, &args.join(" "))
    }

    /// What is told next, within `wait`.
    fn told_within(&self, wait: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(wait)).unwrap();
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    /// Waits until it is told `text`; what stands behind it.
    #[track_caller]
    fn wait_for(&self, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            let told = self.told_within(DEADLINE).unwrap_or_default();
            if let Some((_, behind)) = told.split_once(text) {
                return behind.to_owned();
            }
        }
        panic!("never told: {text}")
    }

    /// Nothing is told for so long that the part would be ended.
    #[track_caller]
    fn waits_in_vain(&self) {
        let deadline = Instant::now() + DEADLINE;
        while self.told_within(LIMIT).is_some() {
            assert!(Instant::now() < deadline, "signs of life for ever");
        }
    }
}

/// It serves, lives, and stops in order.
#[track_caller]
fn serves_and_stops(dir: &Path, args: &[&str], status: &str) {
    let manager = Manager::new(dir);
    let part = manager.start(dir, args, None);
    let told = manager.wait_for("READY=1\nSTATUS=");
    assert!(told.contains(status), "{told}");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    part.signal(Signal::TERM);
    manager.wait_for("STOPPING=1");
    let ended = part.wait();
    assert_exit(&ended, 0);
}

#[test]
fn a_dashboard_tells_how_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["dashboard", "--http-address", "127.0.0.1:0"];
    serves_and_stops(dir.path(), &args, "http://127.0.0.1:");
}

#[test]
fn a_broker_tells_how_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["broker", "--tcp-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"];
    serves_and_stops(dir.path(), &args, "127.0.0.1:");
}

/// Neither an nsqd nor a dashboard that is away is a hang.
#[test]
fn a_processor_that_waits_for_an_nsqd_serves_and_lives() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::new(dir.path());
    let args =
        ["process", "--nsqd-tcp-address", "127.0.0.1:1", "--dashboard-url", "http://127.0.0.1:1"];
    let part = manager.start(dir.path(), &args, None);
    manager.wait_for("READY=1");
    let since = Instant::now();
    while since.elapsed() < LIMIT * 2 {
        manager.wait_for("WATCHDOG=1");
    }
    part.signal(Signal::TERM);
    manager.wait_for("STOPPING=1");
    assert_exit(&part.wait(), 1);
}

/// A standby serves by waiting.
#[test]
fn a_standby_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, manager) = (Broker::ours(dir.path()), Manager::new(dir.path()));
    let tcp = broker.tcp();
    let args = ["process", "--nsqd-tcp-address", &tcp, "--standby"];
    let first = manager.start(dir.path(), &args, None);
    manager.wait_for("READY=1");
    let _second = manager.start(dir.path(), &args, None);
    let told = manager.wait_for("STATUS=standing by: ");
    assert!(told.contains("another processor"), "{told}");
    drop(first);
    manager.wait_for("STATUS=the ledger is open");
}

#[test]
fn a_commit_that_hangs_is_no_sign_of_life() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, manager) = (Broker::ours(dir.path()), Manager::new(dir.path()));
    let tcp = broker.tcp();
    let args = ["process", "--nsqd-tcp-address", &tcp, "--beside-others"];
    let hang = ("PLAYCOUNTS_HANGPOINT", "ledger-before-commit");
    let mut part = manager.start(dir.path(), &args, Some(hang));
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");
    let play = format!(r#"{{"video_id":"{}"}}"#, Uuid::new_v4());
    post(&format!("http://{}/pub?topic=plays", broker.http()), &play);
    part.wait_for("This hangs: a commit to the ledger");
    manager.waits_in_vain();
}

#[test]
fn a_dashboard_that_cannot_commit_is_no_sign_of_life() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::new(dir.path());
    let args = ["dashboard", "--http-address", "127.0.0.1:0"];
    let hang = ("PLAYCOUNTS_HANGPOINT", "dashboard-before-commit");
    let mut part = manager.start(dir.path(), &args, Some(hang));
    let url = part.wait_for("live at ");
    manager.wait_for("WATCHDOG=1");
    let counts = format!(
        r#"{{"processor":"{}","version":1,"counts":[{{"video_id":"{}","plays":1}}]}}"#,
        Uuid::new_v4(),
        Uuid::new_v4()
    );
    // The answer says why there is none; it is not waited for.
    let told = std::thread::spawn(move || {
        let _ = ureq::post(format!("{url}/api/counts"))
            .header("Content-Type", "application/json")
            .send(counts);
    });
    part.wait_for("This hangs: a commit of the dashboard");
    manager.waits_in_vain();
    drop(part);
    told.join().unwrap();
}

/// Outside of a service nobody is told anything.
#[test]
fn without_a_service_manager_nothing_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (part, _url) = dashboard(dir.path());
    part.signal(Signal::TERM);
    let ended = part.wait();
    assert_exit(&ended, 0);
    assert!(!String::from_utf8_lossy(&ended.stderr).contains("service manager"));
}
