//! A start whose threads the system refuses: it ends with an error that names a thread, soon, and hangs never.
//!
//! The system refuses threads under a limit on processes, which does not hold for root; so each start runs in a process
//! of its own, as a user that nobody else is. Only root can do that: for others, these tests are skipped.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nsq_protocol::{Consumer, ConsumerConfig, Producer, ProducerConfig};

use crate::fake_lookupd::{FakeLookupd, Reply};
use crate::nsqd::nsqd_or_skip;

/// What the process with the limit starts, and with which addresses, a blank between them.
const START: &str = "NSQ_PROTOCOL_TEST_START";

/// A start takes milliseconds; longer than this, in seconds, is for ever.
const TOO_LONG: &str = "60";

/// This program where everybody can run it; the directory goes with the value.
struct Program {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Program {
    /// `None` where the test is skipped, which it says.
    fn for_others() -> Option<Self> {
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        let has = |tool| Command::new(tool).arg("--version").output().is_ok();
        if !is_root || !["setpriv", "prlimit", "timeout"].into_iter().all(has) {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            let skipped =
                format!("\n*** SKIPPED {test}: needs root, setpriv, prlimit and timeout ***\n");
            let _ = std::io::stderr().write_all(skipped.as_bytes());
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let path = dir.path().join("it");
        std::fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
        Some(Self { _dir: dir, path })
    }

    /// What a start says where `user` may have `threads` threads.
    fn start(&self, user: u32, threads: usize, what: &str) -> String {
        let output = Command::new("timeout")
            .args([TOO_LONG, "setpriv", "--clear-groups"])
            .args([format!("--reuid={user}"), format!("--regid={user}")])
            .args(["prlimit".to_owned(), format!("--nproc={threads}:{threads}")])
            .arg(&self.path)
            .args(["--exact", "refused::start", "--nocapture", "--test-threads=1"])
            .env(START, what)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_ne!(output.status.code(), Some(124), "{what}: hangs with {threads} threads: {said}");
        let line = said.lines().find_map(|line| line.split_once("said: "));
        let Some((_, line)) = line else { panic!("{what}, {threads} threads: {output:?}") };
        line.to_owned()
    }

    /// Starts under every limit up to `most`, which is enough for all of its threads.
    fn check(&self, most: usize, what: &str) {
        // The system counts all threads of a user: this one is nobody else's.
        static CHECKS: AtomicU32 = AtomicU32::new(0);
        let check = CHECKS.fetch_add(1, Ordering::Relaxed);
        let user = 54_322 + 2 * (std::process::id() % 5_000) + check;
        let said: Vec<_> = (1..=most).map(|threads| self.start(user, threads, what)).collect();
        assert!(said[0].contains("cannot start the thread nsq-"), "{said:?}");
        assert_eq!(said[most - 1], "started", "{said:?}");
        let refused = said.iter().filter(|line| line.contains("cannot start the thread")).count();
        let started = said.iter().filter(|line| *line == "started").count();
        assert_eq!(refused + started, most, "{said:?}");
    }
}

/// The body of the process with the limit; nothing in any other.
#[test]
fn start() {
    let Ok(what) = std::env::var(START) else { return };
    let (kind, addresses) = what.split_once(' ').unwrap();
    let started = match kind {
        "producer" => {
            let addresses = addresses.split(' ');
            let config = addresses.fold(ProducerConfig::new(), ProducerConfig::nsqd);
            Producer::connect(config).map(drop)
        }
        _ => {
            let (nsqd, lookupd) = addresses.split_once(' ').unwrap();
            let config = ConsumerConfig::new("t".parse().unwrap(), "c".parse().unwrap());
            // The nsqd is connected to and, under another name, found.
            let config = config.nsqd(nsqd).lookupd(lookupd);
            Consumer::start(config).and_then(|consumer| {
                consumer.run(3.try_into().unwrap(), |message| message.finish()).map(drop)
            })
        }
    };
    let said = started.map_or_else(|error| error.to_string(), |()| "started".to_owned());
    let _ = writeln!(std::io::stdout(), "\nsaid: {said}");
}

#[test]
fn a_consumer_that_is_refused_a_thread_does_not_hang() {
    let (nsqd, Some(program)) = (nsqd_or_skip!(), Program::for_others()) else { return };
    let lookupd = FakeLookupd::start(Reply::nsqds(&[&format!("localhost:{}", nsqd.tcp.port())]));
    // Time, a reader and a writer for each of two connections, two of discovery, one that resolves, three workers,
    // the test's own and its harness's.
    program.check(13, &format!("consumer {} {}", nsqd.addr(), lookupd.addr()));
}

#[test]
fn a_producer_that_is_refused_a_thread_does_not_hang() {
    let (nsqd, Some(program)) = (nsqd_or_skip!(), Program::for_others()) else { return };
    // A reader and a writer, the test's own and its harness's.
    program.check(5, &format!("producer {}", nsqd.addr()));
}
