//! The binary as a child process, and the brokers that it talks to.

use std::fmt::Debug;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use uuid::Uuid;

use crate::nsqd::{self, Nsqd};

/// The longest that anything here may take; far beyond what it does take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// `playcounts ARGS`, in `dir`.
pub(crate) fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_playcounts"));
    command
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs `playcounts ARGS` to its end.
#[track_caller]
pub(crate) fn output(dir: &Path, args: &[&str]) -> Output {
    Running::start(dir, args).wait()
}

/// A `playcounts` process; dropping it kills it.
pub(crate) struct Running {
    child: Option<Child>,
    stderr: Receiver<String>,
    seen: Vec<String>,
    what: String,
}

impl Running {
    pub(crate) fn start(dir: &Path, args: &[&str]) -> Self {
        Self::spawn(command(dir, args), &args.join(" "))
    }

    /// Starts a command whose stdout and stderr are piped; `what` names it where it fails.
    pub(crate) fn spawn(mut command: Command, what: &str) -> Self {
        let mut child = command.spawn().expect("the binary starts");
        let pipe = BufReader::new(child.stderr.take().expect("piped"));
        let (lines, stderr) = channel();
        // Ends with the child, which `Drop` kills.
        std::thread::spawn(move || {
            pipe.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        Self { child: Some(child), stderr, seen: Vec::new(), what: what.to_owned() }
    }

    /// Waits for a line on stderr that holds `text`; what stands behind it, up to the next blank or semicolon.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.stderr.recv_timeout(rest) else {
                panic!("{}: no {text:?} in {:#?}", self.what, self.seen)
            };
            self.seen.push(line.clone());
            if let Some((_, behind)) = line.split_once(text) {
                return behind.trim_start().split([' ', ';']).next().unwrap_or_default().to_owned();
            }
        }
    }

    /// What stands behind `text` in the lines that were read already, up to the next blank or semicolon.
    #[track_caller]
    pub(crate) fn has_said(&self, text: &str) -> String {
        let behind = self.seen.iter().rev().find_map(|line| Some(line.split_once(text)?.1));
        let behind = behind.unwrap_or_else(|| panic!("no {text:?} in {:#?}", self.seen));
        behind.trim_start().split([' ', ';']).next().unwrap_or_default().to_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("runs until waited for").id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid() as i32).expect("a pid"), signal)
            .expect("the process is there");
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut().expect("runs until waited for");
        child.try_wait().expect("the child is ours").is_some()
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Output {
        let mut child = self.child.take().expect("waited for once");
        let mut pipe = child.stdout.take().expect("piped");
        let (done, stdout) = channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            let _ = done.send(bytes);
        });
        let Ok(stdout) = stdout.recv_timeout(DEADLINE) else {
            let _ = child.kill();
            panic!(
                "{} does not end; stderr so far: {:#?}",
                self.what,
                self.stderr.try_iter().collect::<Vec<_>>()
            );
        };
        let status: ExitStatus = child.wait().expect("the child is ours");
        self.seen.extend(self.stderr.iter());
        Output { status, stdout, stderr: self.seen.join("\n").into_bytes() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The last line of stdout, as JSON.
#[track_caller]
pub(crate) fn json(output: &Output) -> Value {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[track_caller]
pub(crate) fn assert_exit(output: &Output, status: i32) {
    assert_eq!(output.status.code(), Some(status), "{output:#?}");
}

/// `GET url` as JSON.
#[track_caller]
pub(crate) fn get(url: &str) -> Value {
    let text = ureq::get(url).call().and_then(|mut answer| answer.body_mut().read_to_string());
    serde_json::from_str(&text.unwrap_or_else(|error| panic!("{url}: {error}"))).expect("JSON")
}

/// `POST url`, which must succeed.
#[track_caller]
pub(crate) fn post(url: &str, body: &str) {
    ureq::post(url).send(body).unwrap_or_else(|error| panic!("{url}: {error}"));
}

/// Waits until `probe` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut probe: impl FnMut() -> bool) {
    wait_until_is(what, &true, &mut probe);
}

/// Waits until `look` finds what is wanted.
#[track_caller]
pub(crate) fn wait_until_is<T: PartialEq + Debug>(
    what: &str,
    wanted: &T,
    mut look: impl FnMut() -> T,
) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = look();
        if found == *wanted {
            return;
        }
        assert!(Instant::now() < deadline, "never: {what}: {found:?}, not {wanted:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A broker that the test may fill and empty; dropping it stops it.
pub(crate) enum Broker {
    Ours { _process: Running, tcp: String, http: String },
    Real(Nsqd),
}

impl Broker {
    /// `playcounts broker` on free ports.
    pub(crate) fn ours(dir: &Path) -> Self {
        Self::ours_with(dir, &[])
    }

    /// The same with more options.
    pub(crate) fn ours_with(dir: &Path, options: &[&str]) -> Self {
        let args = ["broker", "--tcp-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"];
        let mut process = Running::start(dir, &[&args, options].concat());
        let tcp = process.wait_for("TCP: listening on ");
        let http = process.has_said("HTTP: listening on ");
        Self::Ours { _process: process, tcp, http }
    }

    /// `host:port` for clients.
    pub(crate) fn tcp(&self) -> String {
        match self {
            Self::Ours { tcp, .. } => tcp.clone(),
            Self::Real(nsqd) => nsqd.tcp.to_string(),
        }
    }

    /// `host:port` of the HTTP API.
    pub(crate) fn http(&self) -> String {
        match self {
            Self::Ours { http, .. } => http.clone(),
            Self::Real(nsqd) => nsqd.http.to_string(),
        }
    }
}

/// Runs a test on our broker and, where there is one, on a real nsqd.
#[track_caller]
pub(crate) fn on_both_brokers(test: impl Fn(&Path, &Broker)) {
    on_both_brokers_with(&[], test);
}

/// The same with options that both have.
#[track_caller]
pub(crate) fn on_both_brokers_with(options: &[&str], test: impl Fn(&Path, &Broker)) {
    let dir = tempfile::tempdir().expect("a temp dir");
    test(dir.path(), &Broker::ours_with(dir.path(), options));
    if let Some(program) = nsqd::find() {
        let nsqd = Nsqd::start(&program, options);
        let dir = tempfile::tempdir().expect("a temp dir");
        test(dir.path(), &Broker::Real(nsqd));
    }
}

/// A dashboard process on a free port of `dir`'s data directory, and its URL.
pub(crate) fn dashboard(dir: &Path) -> (Running, String) {
    let mut process = Running::start(dir, &["dashboard", "--http-address", "127.0.0.1:0"]);
    let url = process.wait_for("live at ");
    (process, url)
}

/// Plays that the dashboard shows in all; 0 while there is none.
pub(crate) fn total(url: &str) -> u64 {
    get(&format!("{url}/api/counts?limit=1"))["total_plays"].as_u64().unwrap_or(0)
}

/// The status of the dashboard's health, and what it says.
pub(crate) fn health(url: &str) -> (u16, String) {
    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
    let mut answer =
        ureq::Agent::new_with_config(config).get(format!("{url}/healthz")).call().unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
}

/// Puts plays of a producer on the queue: their numbers, of so many videos by turns.
pub(crate) fn publish_of(videos: u64, broker: &Broker, producer: Uuid, seqs: Range<u64>) {
    let play = |seq: u64| {
        let video = Uuid::from_u128(u128::from(seq % videos));
        format!(r#"{{"video_id":"{video}","producer":"{producer}","seq":{seq}}}"#)
    };
    let plays: Vec<String> = seqs.map(play).collect();
    for lines in plays.chunks(500) {
        post(&format!("http://{}/mpub?topic=plays", broker.http()), &lines.join("\n"));
    }
}

/// The same of three videos.
pub(crate) fn publish(broker: &Broker, producer: Uuid, seqs: Range<u64>) {
    publish_of(3, broker, producer, seqs);
}

/// Copies all that is in a directory into another one, made if missing.
pub(crate) fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (file.path(), to.join(file.file_name()));
        if from.is_dir() {
            copy_all(&from, &to)
        } else {
            std::fs::copy(from, to).map(drop).unwrap()
        }
    }
}
