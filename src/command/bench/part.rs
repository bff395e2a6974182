//! One part of the system as a child process: this very binary with other arguments.
//!
//! Two threads for each, `bench-out` and `bench-err`, read its pipes and end with them.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use crossbeam_channel::{Receiver, Sender, after, bounded, select};
use nsq_protocol::thread::{OwnedThread, StopToken};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde::de::DeserializeOwned;

use super::proc::Usage;
use crate::command::options::catalogue::VARIABLE_PREFIX;

/// What a stop is answered with.
pub(super) const STOPPED: &str = "stopped: nothing is reported";

/// How long a part may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest line of a part that is looked at, in bytes.
const MAX_LINE: u64 = 64 << 10;

/// Lines that say where a part listens: a broker has two.
const ADDRESSES_MAX: usize = 4;

/// A running part; dropping it kills it, since nothing that it holds is of use.
pub(super) struct Part {
    child: Child,
    what: String,
    addresses: Receiver<String>,
    output: Receiver<String>,
    // They end with the child's pipes: `Drop` kills the child, and only then are these fields dropped and joined.
    stdout: Option<OwnedThread<()>>,
    stderr: Option<OwnedThread<String>>,
}

impl Part {
    /// Starts `playcounts ARGS`.
    ///
    /// # Errors
    /// The operating system's, when it refuses the process or one of the two threads; the process is killed then.
    pub(super) fn start(args: &[&str]) -> Result<Self> {
        let what = format!("playcounts {}", args.first().unwrap_or(&""));
        let program = std::env::current_exe().context("cannot tell where this binary is")?;
        let mut command = Command::new(&program);
        // What the environment says of options is for this command, and no part of what is measured.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(VARIABLE_PREFIX) {
                command.env_remove(name);
            }
        }
        let child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C on the terminal is ours to handle.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let (output_tx, output) = bounded(1);
        let (addresses_tx, addresses) = bounded(ADDRESSES_MAX);
        let mut part = Self { child, what, addresses, output, stdout: None, stderr: None };
        let pipes = part.child.stdout.take().zip(part.child.stderr.take());
        let (stdout, stderr) = pipes.context("a child without its pipes")?;
        let stdout = OwnedThread::spawn("bench-out", move || {
            // One slot, and one line: never full.
            let _ = output_tx.try_send(last_line(stdout, |_| {}));
        });
        part.stdout = Some(stdout.context("cannot start a thread for a part's output")?);
        let stderr = OwnedThread::spawn("bench-err", move || {
            last_line(stderr, |line| tell_address(line, &addresses_tx))
        });
        part.stderr = Some(stderr.context("cannot start a thread for a part's log")?);
        Ok(part)
    }

    /// What stands behind each of `markers` on its stderr, as soon as all do.
    ///
    /// # Errors
    /// `stop`, or a part that ends or takes longer than [`START_TIMEOUT`].
    pub(super) fn addresses<const N: usize>(
        &self,
        markers: [&str; N],
        stop: &StopToken,
    ) -> Result<[String; N]> {
        let timeout = after(START_TIMEOUT);
        let mut found = [const { String::new() }; N];
        while found.iter().any(String::is_empty) {
            select! {
                recv(self.addresses) -> line => {
                    let line = line.map_err(|_| anyhow!("{} ended before it listened", self.what))?;
                    for (marker, address) in markers.iter().zip(&mut found) {
                        if let Some((_, behind)) = line.split_once(marker) {
                            let end = behind.split([' ', ';', '\n']).next().unwrap_or_default();
                            end.clone_into(address);
                        }
                    }
                }
                recv(stop.channel()) -> _ => bail!(STOPPED),
                recv(timeout) -> _ => bail!("{} does not listen after {START_TIMEOUT:?}", self.what),
            }
        }
        Ok(found)
    }

    /// Waits for its end: the last line of its stdout, which is its report as JSON, and what it has used.
    ///
    /// # Errors
    /// `stop`, or a part that ended badly, with the last line of its stderr.
    pub(super) fn finish<T: DeserializeOwned>(mut self, stop: &StopToken) -> Result<(T, Usage)> {
        let line = select! {
            recv(self.output) -> line => line.unwrap_or_default(),
            recv(stop.channel()) -> _ => bail!(STOPPED),
        };
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("a child without a pid")?;
        // Ended and not yet reaped, it can still be asked what it has used.
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            .with_context(|| format!("cannot wait for {}", self.what))?;
        let usage = Usage::of(&pid.as_raw_nonzero().to_string());
        let status = self.child.wait().with_context(|| format!("cannot wait for {}", self.what))?;
        if !status.success() {
            // The child has ended, so this does, too.
            let last = self.stderr.take().map(OwnedThread::join).unwrap_or_default();
            bail!("{} ended with {status}: {last}", self.what);
        }
        let report = serde_json::from_str(&line)
            .with_context(|| format!("{} reports {line:?}", self.what))?;
        Ok((report, usage))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Either may fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end; the last line that holds anything.
fn last_line(pipe: impl Read, mut each: impl FnMut(&str)) -> String {
    let mut lines = BufReader::new(pipe);
    let (mut line, mut last) = (Vec::new(), String::new());
    loop {
        line.clear();
        match Read::take(&mut lines, MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return last,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        each(&text);
        if !text.trim().is_empty() {
            text.trim().clone_into(&mut last);
        }
    }
}

fn tell_address(line: &str, addresses: &Sender<String>) {
    if line.contains(" listening on ") || line.contains(" live at ") {
        // Full: nobody has asked for the first four.
        let _ = addresses.try_send(line.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_last_that_holds_anything() {
        let mut seen = Vec::new();
        assert_eq!(last_line(&b"one\ntwo\n\n"[..], |line| seen.push(line.to_owned())), "two");
        assert_eq!(seen, ["one\n", "two\n", "\n"]);
        assert_eq!(last_line(&b""[..], |_| {}), "");
        assert_eq!(last_line(&b"\xff"[..], |_| {}), "\u{fffd}");
    }
}
