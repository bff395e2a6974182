//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends the process at once. SIGHUP: files are read again.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use nsq_protocol::thread::{OwnedThread, StopToken, stop_pair};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::notify;

/// The thread that waits for signals; dropping it ends it.
#[derive(Debug)]
pub struct SignalWatch {
    handle: Handle,
    // Behind the handle: `Drop` closes it before this joins.
    _thread: OwnedThread<()>,
}

impl SignalWatch {
    /// Starts to watch; the token stops with the first signal.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start() -> Result<(Self, StopToken)> {
        let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot handle signals")?;
        let handle = signals.handle();
        let (source, token) = stop_pair();
        let thread = OwnedThread::spawn("signals", move || {
            let mut source = Some(source);
            for signal in &mut signals {
                if source.take().is_none() {
                    // What a shell reports of a process that the signal ended.
                    std::process::exit(128 + signal);
                }
                log::info!("signal {signal}: stopping; a second one ends at once");
                notify::stopping();
            }
        })?;
        Ok((Self { handle, _thread: thread }, token))
    }
}

/// The thread that waits for SIGHUP; dropping it ends it.
#[derive(Debug)]
pub struct ReloadWatch {
    handle: Handle,
    // As in `SignalWatch`.
    _thread: OwnedThread<()>,
}

impl ReloadWatch {
    /// Starts to watch; each SIGHUP calls `again`, on the thread `reload`. One that came because the terminal is gone, to which
    /// stderr goes, is passed on as a SIGTERM: nobody is left there to stop the process.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(again: impl Fn() + Send + 'static) -> Result<Self> {
        let mut signals = Signals::new([SIGHUP]).context("cannot handle signals")?;
        let handle = signals.handle();
        let had_terminal = std::io::stderr().is_terminal();
        let thread = OwnedThread::spawn("reload", move || {
            for _ in &mut signals {
                if had_terminal && !std::io::stderr().is_terminal() {
                    log::info!("the terminal is gone: stopping");
                    // Cannot fail: it is a signal that there is.
                    let _ = signal_hook::low_level::raise(SIGTERM);
                } else {
                    again();
                }
            }
        })?;
        Ok(Self { handle, _thread: thread })
    }
}

impl Drop for ReloadWatch {
    fn drop(&mut self) {
        self.handle.close();
    }
}

impl Drop for SignalWatch {
    fn drop(&mut self) {
        self.handle.close();
    }
}
