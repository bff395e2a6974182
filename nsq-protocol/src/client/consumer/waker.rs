//! Wakes the thread that keeps a consumer's time, before what it sleeps for. Used by any thread.

use crossbeam_channel::{Receiver, Sender, bounded};

/// Wakes the thread that has the receiver.
#[derive(Clone, Debug)]
pub(crate) struct Waker {
    wake: Sender<()>,
}

/// A waker, and what it wakes.
pub(crate) fn waker() -> (Waker, Receiver<()>) {
    // One slot: a second wake-up adds nothing to the first.
    let (wake, woken) = bounded(1);
    (Waker { wake }, woken)
}

impl Waker {
    /// Has the thread look at what is due. Never waits.
    pub(crate) fn wake(&self) {
        let _ = self.wake.try_send(());
    }
}
