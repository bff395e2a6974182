//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends the process at once.

use anyhow::{Context, Result};
use nsq_protocol::thread::{OwnedThread, StopToken, stop_pair};
use signal_hook::consts::{SIGINT, SIGTERM};
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

impl Drop for SignalWatch {
    fn drop(&mut self) {
        self.handle.close();
    }
}
