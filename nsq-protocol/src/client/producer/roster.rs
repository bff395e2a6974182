//! The nsqds of a producer: those of its configuration, and those that nsqlookupds name. Any thread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::client::clock::random;
use crate::client::producer::endpoint::Endpoint;

/// The nsqds that are remembered: more is no cluster but a fault, or an attack. The first ones stay.
const MAX_NODES: usize = 20_000;

/// All of them at one moment.
pub(super) type Endpoints = Arc<[Arc<Endpoint>]>;

/// Which nsqds there are.
pub(super) struct Roster {
    state: Mutex<RosterState>,
    /// They are others now, or none is looked for any more.
    changed: Condvar,
}

struct RosterState {
    /// Replaced as a whole, so that whoever reads one state needs no lock meanwhile.
    endpoints: Endpoints,
    /// So many of them are of the configuration, the first ones.
    given: usize,
    /// What each nsqlookupd named last.
    named: BTreeMap<usize, BTreeSet<String>>,
    /// Those that failed when they were asked last.
    failing: BTreeSet<usize>,
    /// Of the next endpoint.
    next_index: usize,
    closed: bool,
}

impl Roster {
    /// Of the configuration.
    pub(super) fn new(given: Vec<Arc<Endpoint>>) -> Self {
        let state = RosterState {
            given: given.len(),
            next_index: given.len(),
            endpoints: given.into(),
            named: BTreeMap::new(),
            failing: BTreeSet::new(),
            closed: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Those that there are now.
    pub(super) fn endpoints(&self) -> Endpoints {
        self.state.lock().endpoints.clone()
    }

    /// An nsqlookupd named these. `make` makes an endpoint of an index and an address. An endpoint that none names, and
    /// that has no connection, is let go.
    pub(super) fn on_answer(
        &self,
        lookupd: usize,
        nsqds: Vec<String>,
        make: impl Fn(usize, &str) -> Endpoint,
    ) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        state.named.insert(lookupd, nsqds.into_iter().collect());
        let named: BTreeSet<String> = state.named.values().flatten().cloned().collect();
        let given = state.given;
        let mut endpoints: Vec<_> = state.endpoints.to_vec();
        let is_up = |endpoint: &Endpoint| endpoint.live().is_some_and(|of| of.ended().is_none());
        let is_kept = |endpoint: &Arc<Endpoint>| named.contains(&*endpoint.addr) || is_up(endpoint);
        let (mut found, gone): (Vec<_>, Vec<_>) =
            endpoints.split_off(given).into_iter().partition(is_kept);
        let before = found.len();
        let known = endpoints.iter().chain(&found).map(|endpoint| endpoint.addr.to_string());
        let known: BTreeSet<_> = known.collect();
        for addr in named.difference(&known).take(MAX_NODES.saturating_sub(before)) {
            // Anywhere, so that producers that find the same nsqds do not all publish to one of them.
            let at = random() as usize % (found.len() + 1);
            found.insert(at, Arc::new(make(state.next_index, addr)));
            state.next_index += 1;
        }
        if found.len() != before || !gone.is_empty() {
            endpoints.append(&mut found);
            state.endpoints = endpoints.into();
            self.changed.notify_all();
        }
        drop(state);
        gone.iter().for_each(|endpoint| endpoint.close(Instant::now()));
    }

    /// Whether an nsqlookupd failed or answered; true where that is another than last time, and not the first answer.
    pub(super) fn is_news(&self, lookupd: usize, failed: bool) -> bool {
        let failing = &mut self.state.lock().failing;
        if failed { failing.insert(lookupd) } else { failing.remove(&lookupd) }
    }

    /// Waits until there are others than `seen`, at most until `due`.
    pub(super) fn wait_changed(&self, seen: &Endpoints, due: Instant) {
        let mut state = self.state.lock();
        while !state.closed && Arc::ptr_eq(seen, &state.endpoints) {
            if self.changed.wait_until(&mut state, due).timed_out() {
                return;
            }
        }
    }

    /// No more come; those that there are.
    pub(super) fn close(&self) -> Endpoints {
        let mut state = self.state.lock();
        state.closed = true;
        self.changed.notify_all();
        state.endpoints.clone()
    }
}
