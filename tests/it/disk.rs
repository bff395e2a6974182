//! A disk that takes no more: the dashboard says so, goes on reading, and loses nothing that it accepted. What becomes of
//! a processor is in `crash.rs`.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::dashboard_support::{Answer, ask, update, video};
use crate::streams::{ChildDashboard, read_until, subscribe};
use crate::support::wait_until;

/// Posts after which the disk must be full: each adds 500 bytes or more to a file of 512 KiB, or it is full already.
const POSTS_MAX: u64 = 2_000;

/// Large updates, of some 80 KB in the journal, after which the segments that were made ready must be full.
const LARGE_MAX: u64 = 1_000;

/// A small file system of its own on a directory; dropping it unmounts it.
pub(crate) struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts `size` of memory, such as "400k". `None`, said loudly, where nothing may be mounted.
    #[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
    pub(crate) fn mount(at: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        if !run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs"], at) {
            eprintln!("SKIPPED: no tmpfs may be mounted here; a full disk is not tried");
            return None;
        }
        Some(Self { at: at.to_owned() })
    }

    pub(crate) fn resize(&self, size: &str) {
        assert!(run("mount", &["-o", &format!("remount,size={size}")], &self.at));
    }

    /// A file that takes what is left.
    fn fill(&self) -> PathBuf {
        let path = self.at.join("filler");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Also while a process that a failed test has left still writes there.
        run("umount", &["-l"], &self.at);
    }
}

fn run(program: &str, args: &[&str], at: &Path) -> bool {
    Command::new(program).args(args).arg(at).output().is_ok_and(|done| done.status.success())
}

/// A line for bash, after which no file grows beyond so many KiB (EFBIG, as with a quota), and nobody dies of it.
pub(crate) fn limit_files(kib: u32) -> String {
    format!("trap '' XFSZ; ulimit -f {kib};")
}

/// The counts of 20 videos as of a version; each changes with it.
fn counts(version: u64) -> Value {
    let counts: Vec<_> = (1..=20).map(|n| (video(n), version * 100 + u64::from(n))).collect();
    update(version, &counts)
}

fn tell(address: SocketAddr, version: u64) -> Answer {
    ask(address, "POST", "/api/counts", "", counts(version).to_string().as_bytes())
}

/// Tells of 100 producers as much as a message may, each time more, until it is refused.
#[track_caller]
fn fill_journal(address: SocketAddr) {
    let is_full = (1..=LARGE_MAX).any(|round| {
        let watermark = round << 20;
        let above: Vec<_> = (1..=64).map(|run| watermark + (run << 46)).collect();
        let above: Vec<_> = above.iter().map(|start| json!([start, start + (1 << 45)])).collect();
        let told = |n| json!({ "producer": video(n), "watermark": watermark, "above": above });
        let producers: Vec<_> = (1..=100).map(told).collect();
        let update = json!({ "processor": video(1), "producers": producers });
        let answer = ask(address, "POST", "/api/confirmed", "", update.to_string().as_bytes());
        assert!(matches!(answer.status, 200 | 503), "{}", answer.error());
        answer.status == 503
    });
    assert!(is_full, "the journal is never full");
}

/// That every video stands as of `version`.
#[track_caller]
fn assert_counts(address: SocketAddr, version: u64) {
    let list = ask(address, "GET", "/api/counts?sort=video_id", "", b"").json();
    let sum: u64 = (1..=20).map(|n| version * 100 + n).sum();
    assert_eq!((&list["total_plays"], &list["total_videos"]), (&json!(sum), &json!(20)));
    let plays: Vec<_> =
        list["counts"].as_array().unwrap().iter().map(|one| &one["plays"]).collect();
    let wanted: Vec<_> = (1..=20).map(|n| json!(version * 100 + n)).collect();
    assert_eq!(plays, wanted.iter().collect::<Vec<_>>());
}

/// Tells counts until they are refused, and that then all else goes on; the last version that was accepted.
#[track_caller]
fn assert_says_that_it_is_full(dashboard: &mut ChildDashboard, first: u64, reason: &str) -> u64 {
    let address = dashboard.address;
    let mut events = subscribe(address, "");
    let is_wanted =
        |error: &str| error.starts_with("the counts cannot be stored: ") && error.contains(reason);
    let mut accepted = first - 1;
    let is_full = (0..POSTS_MAX).any(|_| {
        let answer = tell(address, accepted + 1);
        if answer.status == 200 {
            accepted += 1;
            return false;
        }
        assert_eq!(answer.status, 503, "{}", answer.error());
        assert!(answer.head.contains("\r\nRetry-After: 1\r\n"), "{}", answer.head);
        assert!(is_wanted(&answer.error()), "{}", answer.error());
        ask(address, "GET", "/healthz", "", b"").status == 503
    });
    assert!(is_full, "it is never full");
    let health = ask(address, "GET", "/healthz", "", b"");
    assert!(is_wanted(&health.error()), "{}", health.error());
    // Who only reads sees the counts of before, and that they are the newest.
    assert_counts(address, accepted);
    let sum: u64 = (1..=20).map(|n| accepted * 100 + n).sum();
    read_until(&mut events, &mut String::new(), &format!("\"total_plays\":{sum},"));
    let one = format!("/api/counts/{}", video(7));
    let series = format!("{one}/series?scale=minute");
    for path in ["/", "/api/top", "/api/stats", "/api/diagnosis", "/metrics", &one, &series] {
        assert_eq!(ask(address, "GET", path, "", b"").status, 200, "{path}");
    }
    // Asked again it refuses again, and is there.
    assert_eq!(tell(address, accepted + 1).status, 503);
    assert!(!dashboard.has_ended());
    accepted
}

/// A full disk, where a small one may be mounted.
#[test]
fn a_full_disk_refuses_counts_and_loses_none() {
    let data = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(data.path(), "130m") else { return };
    let mut dashboard = ChildDashboard::start(data.path(), "");
    assert_eq!(tell(dashboard.address, 1).status, 200);
    let filler = disk.fill();
    fill_journal(dashboard.address);
    let accepted = assert_says_that_it_is_full(&mut dashboard, 2, "No space left on device");
    // Room is made: nobody has to start anything.
    std::fs::remove_file(filler).unwrap();
    let address = dashboard.address;
    assert_eq!(ask(address, "GET", "/healthz", "", b"").status, 200);
    assert_counts(address, accepted);
    assert_eq!(tell(address, accepted + 1).status, 200);
    assert_counts(address, accepted + 1);
    // Killed, since an end in good order has more time to put things right.
    drop(dashboard);
    let again = ChildDashboard::start(data.path(), "");
    assert_counts(again.address, accepted + 1);
    assert_eq!(tell(again.address, accepted + 2).status, 200);
    assert_counts(again.address, accepted + 2);
}

/// The same where nobody may mount anything: its files may not grow.
#[test]
fn a_failing_disk_refuses_counts_and_loses_none() {
    let data = tempfile::tempdir().unwrap();
    // The files are made without the limit, so that it is hit by a commit.
    let mut limited = ChildDashboard::start(data.path(), "trap '' XFSZ;");
    assert_eq!(tell(limited.address, 1).status, 200);
    let next = data.path().join("dashboard.journal/0000000002.segment");
    wait_until("the next segment is made ready", || next.exists());
    let pid = limited.pid().to_string();
    let limit = ["--fsize=524288:524288", "--pid", &pid];
    let done = Command::new("prlimit").args(limit).status();
    assert!(done.unwrap().success());
    assert_counts(limited.address, 1);
    let accepted = assert_says_that_it_is_full(&mut limited, 2, "File too large");
    drop(limited);
    let again = ChildDashboard::start(data.path(), "");
    assert_counts(again.address, accepted);
    assert_eq!(tell(again.address, accepted + 1).status, 200);
    assert_counts(again.address, accepted + 1);
    assert_eq!(ask(again.address, "GET", "/healthz", "", b"").status, 200);
}
