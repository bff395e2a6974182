//! A real nsqlookupd for a test: ports of its choice, killed and reaped on drop.
//!
//! Needs the standard library only: the root package includes this file by `#[path]`, beside `nsqd`.
#![allow(dead_code, reason = "each test binary that includes this file uses its own part of it")]
#![allow(clippy::unwrap_used, reason = "a fixture: its panics are for a test")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long it may take to open its two ports.
const START: Duration = Duration::from_secs(10);

/// `$NSQLOOKUPD`, else the one beside nsqd.
pub(crate) fn find() -> Option<PathBuf> {
    let nsqd = crate::nsqd::find()?;
    let found = match std::env::var_os("NSQLOOKUPD").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => nsqd.with_file_name("nsqlookupd"),
    };
    assert!(found.is_file(), "there is an nsqd but no nsqlookupd at {}", found.display());
    Some(found)
}

/// A running nsqlookupd.
pub(crate) struct Nsqlookupd {
    child: Child,
    /// Where nsqd registers.
    pub(crate) tcp: SocketAddr,
    /// Where clients ask.
    pub(crate) http: SocketAddr,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Nsqlookupd {
    /// Starts it; `None` where there is none.
    pub(crate) fn start() -> Option<Self> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_at(any, any)
    }

    /// Starts it at those addresses.
    pub(crate) fn start_at(tcp: SocketAddr, http: SocketAddr) -> Option<Self> {
        let mut child = Command::new(find()?)
            .args(["--tcp-address", &tcp.to_string(), "--http-address", &http.to_string()])
            .args(["--broadcast-address", "127.0.0.1"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsqlookupd starts");
        let stderr = child.stderr.take().expect("piped above");
        let (lines, started) = channel();
        #[allow(clippy::disallowed_methods, reason = "self-contained; joined in drop")]
        let reader = std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| {
                let _ = lines.send(line);
            });
        });
        let (tcp, http) = bound(&started);
        Some(Self { child, tcp, http, reader: Some(reader) })
    }

    /// Its process, for signals.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits for its end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bound(started: &Receiver<String>) -> (SocketAddr, SocketAddr) {
    let (mut tcp, mut http) = (None, None);
    loop {
        let line = started.recv_timeout(START).expect("nsqlookupd says where it listens");
        let address = |text| line.split_once(text).and_then(|(_, addr)| addr.trim().parse().ok());
        tcp = tcp.or_else(|| address("TCP: listening on "));
        http = http.or_else(|| address("HTTP: listening on "));
        if let (Some(tcp), Some(http)) = (tcp, http) {
            return (tcp, http);
        }
    }
}

impl Drop for Nsqlookupd {
    fn drop(&mut self) {
        self.kill();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
