//! A real nsqd for a test: its own temporary directory, ports of its choice, killed and reaped on drop.
//!
//! Needs the standard library only: the root package includes this file by `#[path]`.
#![allow(dead_code, reason = "each test binary that includes this file uses its own part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a fixture: its panics and prints are for a test"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long nsqd may take to start: it opens two ports and reads one small file.
const START: Duration = Duration::from_secs(10);

/// Lines of nsqd's log that are kept for a failing test.
const LOG_LINES: usize = 2000;

/// Where nsqd is: `$NSQD`, else `nsqd` in a directory of `$PATH`.
///
/// Without one, the test says so and passes; it fails where `REQUIRE_NSQD=1` or `CI=true`.
pub(crate) fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = match std::env::var_os("NSQD").filter(|nsqd| !nsqd.is_empty()) {
        Some(nsqd) => Some(PathBuf::from(nsqd)),
        None => {
            std::env::split_paths(&path).map(|dir| dir.join("nsqd")).find(|nsqd| nsqd.is_file())
        }
    };
    if found.is_none() {
        let set = |name, value| std::env::var(name).is_ok_and(|given| given == value);
        assert!(
            !set("REQUIRE_NSQD", "1") && !set("CI", "true"),
            "no nsqd: set NSQD or put nsqd on PATH (REQUIRE_NSQD=1 or CI=true forbids to skip)"
        );
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        // Past the test harness, which keeps what the print macros of a passing test say to itself.
        let skipped = format!("\n*** SKIPPED {test}: no nsqd in $NSQD or on PATH ***\n");
        let _ = std::io::stderr().write_all(skipped.as_bytes());
    }
    found
}

/// Starts an nsqd, or returns from the test when there is none.
#[allow(unused_macros)]
macro_rules! nsqd_or_skip {
    ($($arg:expr),* $(,)?) => {
        match $crate::nsqd::find() {
            Some(program) => $crate::nsqd::Nsqd::start(&program, &[$($arg),*]),
            None => return,
        }
    };
}
#[allow(unused_imports)]
pub(crate) use nsqd_or_skip;

/// A running nsqd.
pub(crate) struct Nsqd {
    child: Child,
    program: PathBuf,
    args: Vec<String>,
    data: Arc<DataDir>,
    /// Its TCP port.
    pub(crate) tcp: SocketAddr,
    /// Its HTTP port.
    pub(crate) http: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Nsqd {
    /// Starts `program` with `args` besides the addresses and the data path.
    pub(crate) fn start(program: &Path, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| arg.to_string()).collect();
        Self::launch(program.into(), args, Arc::new(DataDir::new()), "127.0.0.1:0", "127.0.0.1:0")
    }

    /// A new process on the data and the ports of this one, which must be killed.
    pub(crate) fn restart(&self) -> Self {
        let (tcp, http) = (self.tcp.to_string(), self.http.to_string());
        Self::launch(self.program.clone(), self.args.clone(), self.data.clone(), &tcp, &http)
    }

    /// A new process on the data of this one, which must be ended, and on ports of its choice.
    pub(crate) fn restart_elsewhere(&self) -> Self {
        let (program, args, data) = (self.program.clone(), self.args.clone(), self.data.clone());
        Self::launch(program, args, data, "127.0.0.1:0", "127.0.0.1:0")
    }

    fn launch(
        program: PathBuf,
        args: Vec<String>,
        data: Arc<DataDir>,
        tcp: &str,
        http: &str,
    ) -> Self {
        let mut child = Command::new(&program)
            .args(["--tcp-address", tcp, "--http-address", http])
            .args(["--broadcast-address", "127.0.0.1", "--data-path"])
            .arg(&data.0)
            .args(&args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let stderr = child.stderr.take().expect("piped above");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, started) = channel();
        let reader = {
            let log = log.clone();
            #[allow(clippy::disallowed_methods, reason = "self-contained; joined in drop")]
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let _ = lines.send(line.clone());
                    let mut log = log.lock().unwrap();
                    if log.len() < LOG_LINES {
                        log.push(line);
                    }
                }
            })
        };
        let unbound = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut nsqd = Self {
            child,
            program,
            args,
            data,
            tcp: unbound,
            http: unbound,
            log,
            reader: Some(reader),
        };
        nsqd.tcp = nsqd.bound("TCP: listening on ", &started);
        nsqd.http = nsqd.bound("HTTP: listening on ", &started);
        nsqd
    }

    fn bound(&self, text: &str, started: &Receiver<String>) -> SocketAddr {
        let address =
            |line: &str| line.split_once(text).and_then(|(_, addr)| addr.trim().parse().ok());
        // The two lines come in either order, so those that passed by are looked at first.
        loop {
            if let Some(found) = self.log.lock().unwrap().iter().find_map(|line| address(line)) {
                return found;
            }
            match started.recv_timeout(START) {
                Ok(line) => {
                    if let Some(found) = address(&line) {
                        return found;
                    }
                }
                Err(_) => panic!("nsqd says no {text:?}:\n{}", self.log()),
            }
        }
    }

    /// The TCP port as `host:port`.
    pub(crate) fn addr(&self) -> String {
        self.tcp.to_string()
    }

    /// The HTTP port as `host:port`.
    pub(crate) fn http_addr(&self) -> String {
        self.http.to_string()
    }

    /// Where it keeps its queues.
    pub(crate) fn data_path(&self) -> &Path {
        &self.data.0
    }

    /// Process ID, for a signal.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// `kill -9`, and waits for its end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, on which it writes its queues to disk, and waits for its end.
    pub(crate) fn terminate(&mut self) {
        self.signal("TERM");
        let _ = self.child.wait();
    }

    /// Sends a signal by its name, such as `STOP`, by the system's `kill`. After `STOP`, nothing of nsqd runs any more.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -s {name}");
        // A signal that is sent has not arrived yet, at each thread in its own time.
        let deadline = Instant::now() + START;
        while name == "STOP" && cfg!(target_os = "linux") && !self.is_stopped() {
            assert!(Instant::now() < deadline, "nsqd goes on after SIGSTOP");
            std::thread::yield_now();
        }
    }

    /// Whether each of its threads is stopped by a signal.
    fn is_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        tasks.flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat"));
            // Behind the name, which may hold anything, in brackets.
            stat.is_ok_and(|stat| {
                stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
            })
        })
    }
}

impl Drop for Nsqd {
    fn drop(&mut self) {
        self.kill();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            eprintln!("--- log of nsqd {}:\n{}", self.tcp, self.log());
        }
    }
}

/// A directory of its own below the system's temporary one, removed on drop.
struct DataDir(PathBuf);

impl DataDir {
    fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("nsqd-{}-{number}", std::process::id()));
        // Left behind by a process of the same ID that was killed.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the temporary directory takes a new one");
        Self(path)
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
