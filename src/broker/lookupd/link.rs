//! What the thread of one nsqlookupd shares with the others: what has changed, and where it can be asked.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::{Condvar, Mutex};

use crate::broker::core::RegistrationChange;

/// Changes that wait for one nsqlookupd. With more it is told everything from the start.
const MAX_CHANGES: usize = 1024;

/// What the thread of an nsqlookupd and the others share.
pub(super) struct LookupdLink {
    /// `host:port`, as it was given.
    pub(super) address: String,
    /// Holds one token at most: "something has changed".
    wake: Sender<()>,
    state: Mutex<LookupdLinkState>,
    tried: Condvar,
}

#[derive(Default)]
struct LookupdLinkState {
    changes: Vec<RegistrationChange>,
    /// There were more changes than are kept.
    is_behind: bool,
    /// The first attempt has come to an end.
    has_tried: bool,
    /// Its HTTP API, while it can be reached.
    http_address: Option<String>,
}

impl LookupdLink {
    /// A link to that nsqlookupd, and what wakes its thread.
    pub(super) fn new(address: String) -> (Arc<Self>, Receiver<()>) {
        let (wake, woken) = bounded(1);
        let (state, tried) = (Mutex::default(), Condvar::new());
        (Arc::new(Self { address, wake, state, tried }), woken)
    }

    /// Says what has changed.
    pub(super) fn tell(&self, changes: &[RegistrationChange]) {
        let mut state = self.state.lock();
        match state.changes.len() + changes.len() > MAX_CHANGES {
            true => (state.is_behind, state.changes) = (true, Vec::new()),
            false => state.changes.extend_from_slice(changes),
        }
        drop(state);
        // Full: it has yet to look, and will find these, too.
        if let Err(TrySendError::Disconnected(())) = self.wake.try_send(()) {
            log::debug!("broker: nsqlookupd {} is left", self.address);
        }
    }

    /// Where to ask it, if it can be reached. Waits until `deadline` at most for the end of the first attempt.
    pub(super) fn http_address(&self, deadline: Instant) -> Option<String> {
        let mut state = self.state.lock();
        while !state.has_tried && !self.tried.wait_until(&mut state, deadline).timed_out() {}
        state.http_address.clone()
    }

    pub(super) fn set_reached(&self, http_address: Option<String>) {
        let mut state = self.state.lock();
        (state.has_tried, state.http_address) = (true, http_address);
        self.tried.notify_all();
    }

    /// Takes what has changed; `None`: more than was kept.
    pub(super) fn take_changes(&self) -> Option<Vec<RegistrationChange>> {
        let mut state = self.state.lock();
        let changes = std::mem::take(&mut state.changes);
        (!std::mem::take(&mut state.is_behind)).then_some(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn changes_are_kept_up_to_a_limit_and_then_everything_is_told_anew() {
        let (link, woken) = LookupdLink::new("l:4160".into());
        for _ in 0..MAX_CHANGES {
            link.tell(&[RegistrationChange::of("a", false)]);
        }
        assert_eq!((woken.len(), link.take_changes().map(|all| all.len())), (1, Some(MAX_CHANGES)));
        for _ in 0..MAX_CHANGES + 1 {
            link.tell(&[RegistrationChange::of("a", false)]);
        }
        assert_eq!(link.take_changes(), None);
        assert_eq!(link.take_changes(), Some(vec![]));
    }

    #[test]
    fn who_asks_waits_for_the_first_attempt_and_no_longer_than_told() {
        let (link, _woken) = LookupdLink::new("l:4160".into());
        assert_eq!(link.http_address(Instant::now() + Duration::from_millis(10)), None);
        let long = Instant::now() + Duration::from_secs(60);
        link.set_reached(Some("l:4161".into()));
        assert_eq!(link.http_address(long), Some("l:4161".into()));
        link.set_reached(None);
        assert_eq!(link.http_address(long), None);
    }
}
