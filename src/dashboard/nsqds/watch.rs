//! The nsqds and nsqlookupds that are watched, and what they said.

use std::time::Instant;

use parking_lot::Mutex;

use super::state::{Depth, WatchState, WatchedLookupd, WatchedNsqd, WatchedQueue};
use crate::runtime::links::{LinkState, PartLink};

/// Peeks at one time: each holds one of the server's workers.
pub(super) const PEEKS: usize = 2;

/// The nsqds and nsqlookupds, and what they said.
pub(crate) struct Watch {
    /// What they said.
    pub(super) state: Mutex<WatchState>,
    /// How many may peek.
    pub(super) peeks: Permits,
    /// What is watched; `None`: nothing.
    pub(super) queue: Option<WatchedQueue>,
}

impl Watch {
    /// Nothing is asked until [`Watch::start`].
    pub(crate) fn new(queue: Option<WatchedQueue>) -> Self {
        let now = Instant::now();
        let state = queue.as_ref().map_or_else(WatchState::default, |queue| WatchState {
            nsqds: queue
                .nsqds
                .iter()
                .map(|address| WatchedNsqd::named(address, &queue.tls.nsqd, now))
                .collect(),
            lookupds: queue
                .lookupds
                .iter()
                .map(|address| WatchedLookupd::new(address, &queue.tls.lookupd, now))
                .collect(),
        });
        Self { state: Mutex::new(state), peeks: Permits(Mutex::new(PEEKS)), queue }
    }

    /// Which nsqds and nsqlookupds answer.
    pub(crate) fn links(&self) -> Vec<(PartLink, LinkState)> {
        let state = self.state.lock();
        // Until it was asked nothing is known.
        let was_asked = |nsqd: &&WatchedNsqd| nsqd.heard.is_some() || nsqd.peer.error.is_some();
        let nsqds = state.nsqds.iter().filter(was_asked).map(|nsqd| {
            let link = PartLink::Nsqd(nsqd.peer.address.clone());
            let (away, is_news) = (nsqd.peer.error.clone(), !nsqd.is_named);
            (link, LinkState { away, losses: 0, is_news })
        });
        let lookupds = state.lookupds.iter().map(|lookupd| {
            let away = lookupd.peer.error.clone();
            (
                PartLink::Lookupd(lookupd.peer.address.clone()),
                LinkState { away, ..LinkState::default() },
            )
        });
        nsqds.chain(lookupds).collect()
    }

    /// The queue's depth, summed over the nsqds; `None` where no queue is watched.
    pub(crate) fn depth(&self) -> Option<Depth> {
        let queue = self.queue.as_ref()?;
        let state = self.state.lock();
        (!state.nsqds.is_empty() || !state.lookupds.is_empty()).then(|| state.depth(queue))
    }
}

/// How many more may do something at one time.
pub(super) struct Permits(Mutex<usize>);

/// Leave to do it, given back when dropped.
pub(super) struct Permit<'a>(&'a Permits);

impl Permits {
    /// Takes one, if there is one left.
    pub(super) fn try_acquire(&self) -> Option<Permit<'_>> {
        let mut free = self.0.lock();
        *free = free.checked_sub(1)?;
        Some(Permit(self))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.0.lock() += 1;
    }
}
