//! How those who commit wake the publishers, one for each dashboard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Wakes the publishers, which costs more than a small commit, where they have something to do.
#[derive(Clone)]
pub(super) struct Wake {
    publishers: Arc<[WakeOne]>,
}

struct WakeOne {
    /// Room for one: what is said once is known.
    sender: Sender<()>,
    to_confirm: Arc<AtomicBool>,
}

/// A publisher's end of a [`Wake`].
pub(super) struct Woken {
    pub(super) receiver: Receiver<()>,
    /// The publisher knows that there are plays to confirm.
    pub(super) to_confirm: Arc<AtomicBool>,
}

/// A [`Wake`] for so many publishers, and their ends of it.
pub(super) fn wake_publishers(publishers: usize) -> (Wake, Vec<Woken>) {
    let one = |_| {
        let (sender, receiver) = bounded(1);
        let to_confirm = Arc::new(AtomicBool::new(false));
        (WakeOne { sender, to_confirm: to_confirm.clone() }, Woken { receiver, to_confirm })
    };
    let (wakes, woken): (Vec<_>, Vec<_>) = (0..publishers).map(one).unzip();
    (Wake { publishers: wakes.into() }, woken)
}

impl Wake {
    /// Plays are committed.
    pub(super) fn plays_committed(&self) {
        for publisher in &*self.publishers {
            if !publisher.to_confirm.swap(true, Ordering::SeqCst) {
                publisher.wake();
            }
        }
    }

    /// Plays are committed, and a video became due by them.
    pub(super) fn video_became_due(&self) {
        for publisher in &*self.publishers {
            publisher.to_confirm.store(true, Ordering::SeqCst);
            publisher.wake();
        }
    }

    /// There are counts to publish that were not committed here.
    pub(super) fn counts_came(&self) {
        self.publishers.iter().for_each(WakeOne::wake);
    }
}

impl WakeOne {
    fn wake(&self) {
        // A full channel says it already.
        let _ = self.sender.try_send(());
    }
}
