//! A real nsqd as a child process, for `run --start-nsq`. The thread `nsqd-log` copies its log to a file.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use nsq_protocol::thread::{Crew, stop_pair};
use rustix::process::{Pid, Signal, kill_process};

use crate::nsqd::addresses::NsqdAddresses;
use crate::nsqd::tied;

/// How long a new nsqd may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take to write its queues to disk and end.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// How often to look whether it has ended: a wait with a deadline is not to be had.
const STOP_POLL: Duration = Duration::from_millis(10);

/// Messages that nsqd keeps in memory for each topic and channel; more go to its disk.
const MEM_QUEUE_SIZE: &str = "1000000";

/// The longest line of nsqd's log that is looked at, in bytes.
const MAX_LINE: u64 = 64 << 10;

/// A running nsqd; dropping it stops it, with SIGTERM first. It ends with the thread that has started it, too.
#[derive(Debug)]
pub(crate) struct ChildNsqd {
    /// Where it listens.
    pub(crate) addresses: NsqdAddresses,
    // Owns the child, and stops it when dropped: also when the system refuses the thread.
    _log: Crew<()>,
}

impl ChildNsqd {
    /// Starts `$NSQD`, or `nsqd` from PATH, on free ports of 127.0.0.1, with its data and log in `data_path`, which
    /// is emptied before. The thread `nsqd-log` copies its log and ends with it.
    ///
    /// # Errors
    /// When there is no nsqd, or it does not start; with the path of its log.
    pub(crate) fn start(data_path: &Path) -> Result<Self> {
        let program = find()?;
        if data_path.exists() {
            fs::remove_dir_all(data_path)
                .with_context(|| format!("cannot empty {}", data_path.display()))?;
        }
        fs::create_dir_all(data_path)
            .with_context(|| format!("cannot make {}", data_path.display()))?;
        let log_path = data_path.join("nsqd.log");
        let log_file = File::create_new(&log_path)
            .with_context(|| format!("cannot write {}", log_path.display()))?;
        let mut child = spawn(&program, data_path)?;
        let stderr = child.stderr.take();
        let mut log = Crew::new(move || stop(child));
        let stderr = stderr.context("nsqd's stderr is not there")?;
        let (listening_tx, listening) = bounded(2);
        log.spawn("nsqd-log", move || copy_log(stderr, log_file, &listening_tx))
            .context("cannot start a thread for nsqd's log")?;
        let addresses = wait_for(&listening).with_context(|| {
            format!("{} did not start; see {}", program.display(), log_path.display())
        })?;
        Ok(Self { addresses, _log: log })
    }
}

fn spawn(program: &Path, data_path: &Path) -> Result<Child> {
    tied::command(program)
        .args([
            "--tcp-address=127.0.0.1:0",
            "--http-address=127.0.0.1:0",
            "--broadcast-address=127.0.0.1",
        ])
        .arg(format!("--mem-queue-size={MEM_QUEUE_SIZE}"))
        .arg("--data-path")
        .arg(data_path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A Ctrl-C on the terminal is ours to handle: nsqd is the last to stop.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

fn wait_for(listening: &Receiver<Listening>) -> Result<NsqdAddresses> {
    let deadline = Instant::now() + START_TIMEOUT;
    let mut addresses = NsqdAddresses::default();
    while addresses.tcp.is_empty() || addresses.http.is_empty() {
        match listening.recv_deadline(deadline) {
            Ok(Listening::Tcp(address)) => addresses.tcp = address,
            Ok(Listening::Http(address)) => addresses.http = address,
            Err(RecvTimeoutError::Timeout) => bail!("not listening after {START_TIMEOUT:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("it ended at once"),
        }
    }
    Ok(addresses)
}

/// Ends nsqd and reaps it: with SIGTERM, so that it writes its queues to disk, and with SIGKILL when that takes longer
/// than [`STOP_TIMEOUT`].
fn stop(mut child: Child) {
    let terminated = Pid::from_raw(child.id().cast_signed())
        .is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
    let deadline = Instant::now() + STOP_TIMEOUT;
    let (_never_stops, timer) = stop_pair();
    while terminated && Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => timer.wait(STOP_POLL),
            Ok(Some(_)) | Err(_) => return,
        };
    }
    log::warn!("nsqd did not end by itself: killing it");
    // Either may fail only when it is gone already.
    let _ = child.kill();
    let _ = child.wait();
}

/// `$NSQD`, or the first `nsqd` on PATH.
fn find() -> Result<PathBuf> {
    if let Some(path) = env::var_os("NSQD") {
        return Ok(path.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|dir| dir.join("nsqd")).find(|file| file.is_file());
    found.context(
        "no nsqd in $NSQD or on PATH; scripts/with-nsqd builds one, or leave --start-nsq out",
    )
}

enum Listening {
    Tcp(String),
    Http(String),
}

/// Writes nsqd's log to its file, and says where it listens as soon as the log does.
fn copy_log(stderr: ChildStderr, mut file: File, addresses: &Sender<Listening>) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match std::io::Read::take(&mut lines, MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            // A full disk must not stop nsqd's log, and with it nsqd.
            Ok(_) => drop(file.write_all(&line)),
        }
        let text = String::from_utf8_lossy(&line);
        let listening = |kind| text.split_once(kind).map(|(_, address)| address.trim().to_owned());
        let found = listening("INFO: TCP: listening on ")
            .map(Listening::Tcp)
            .or_else(|| listening("INFO: HTTP: listening on ").map(Listening::Http));
        if let Some(found) = found {
            // Nobody waits any more behind the first two.
            let _ = addresses.try_send(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::test_kill_process;

    use super::*;

    /// As when the system refuses the thread that was to read its log.
    #[test]
    fn a_child_whose_start_fails_is_ended_and_reaped() {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let log: Crew<()> = Crew::new(move || stop(child));
        assert!(test_kill_process(pid).is_ok());
        drop(log);
        assert!(test_kill_process(pid).is_err(), "it is gone, and no zombie");
    }
}
