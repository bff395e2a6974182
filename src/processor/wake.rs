//! How those who commit wake the publisher.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Wakes the publisher, which costs more than a small commit, where it has something to do.
pub(super) struct Wake {
    /// Room for one: what is said once is known.
    sender: Sender<()>,
    to_confirm: Arc<AtomicBool>,
}

/// The publisher's end of a [`Wake`].
pub(super) struct Woken {
    pub(super) receiver: Receiver<()>,
    /// The publisher knows that there are plays to confirm.
    pub(super) to_confirm: Arc<AtomicBool>,
}

/// A [`Wake`] and the publisher's end of it.
pub(super) fn wake_pair() -> (Wake, Woken) {
    let (sender, receiver) = bounded(1);
    let to_confirm = Arc::new(AtomicBool::new(false));
    (Wake { sender, to_confirm: to_confirm.clone() }, Woken { receiver, to_confirm })
}

impl Wake {
    /// Plays are committed.
    pub(super) fn plays_committed(&self) {
        if !self.to_confirm.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Plays are committed, and a video became due by them.
    pub(super) fn video_became_due(&self) {
        self.to_confirm.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        // A full channel says it already.
        let _ = self.sender.try_send(());
    }
}
