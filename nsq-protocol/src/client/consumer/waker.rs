//! Wakes the thread that keeps a consumer's time, before what it sleeps for. Used by any thread.

use crossbeam_channel::{Receiver, Sender, bounded};

/// Wakes the thread that has the receiver.
#[derive(Clone, Debug)]
pub(crate) struct Waker {
    wake: Sender<()>,
}

/// A waker, and what it wakes.
pub(crate) fn waker() -> (Waker, Receiver<()>) {
    // One slot: to be told twice is to be told.
    let (wake, woken) = bounded(1);
    (Waker { wake }, woken)
}

impl Waker {
    pub(crate) fn wake(&self) {
        let _ = self.wake.try_send(());
    }
}
