//! A thread that calls what a user wrote, and may hang in it: it is waited for, and then left behind.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::error::Error;
use crate::thread::{Never, OwnedThread};

/// How long one that has nothing to do may take to end once all is over.
pub(super) const END: Duration = Duration::from_millis(50);

/// One such thread. Whoever drops it waits for it.
#[derive(Debug)]
pub(super) struct Worker {
    name: String,
    thread: OwnedThread<()>,
    /// Disconnected when the thread is about to end.
    ended: Receiver<Never>,
}

impl Worker {
    /// Starts `body` on a thread called `name`.
    ///
    /// # Errors
    /// [`Error::Thread`] when the operating system refuses it.
    pub(super) fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<Self, Error> {
        let (alive, ended) = bounded::<Never>(0);
        let thread = OwnedThread::spawn(&name, move || {
            body();
            drop(alive);
        });
        Ok(Self { thread: thread.map_err(Error::thread(&name))?, name, ended })
    }

    /// Joins the thread; one that has not ended by `deadline` is left to end when it can, and named.
    pub(super) fn end(self, deadline: Instant) -> Option<String> {
        let Self { name, thread, ended } = self;
        match ended.recv_deadline(deadline) {
            Ok(never) => match never {},
            Err(RecvTimeoutError::Disconnected) => {
                thread.join();
                None
            }
            Err(RecvTimeoutError::Timeout) => {
                log::warn!("{name} is left behind: its handler does not return");
                thread.leave_behind();
                Some(name)
            }
        }
    }
}
