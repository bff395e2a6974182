//! Group commit: whoever comes when nobody writes does so for all who come meanwhile.

use std::collections::HashMap;

use parking_lot::{Condvar, Mutex};

/// Things that wait to be written, and what became of them.
pub(super) struct Group<T, E> {
    state: Mutex<GroupState<T, E>>,
    /// Something was written, or whoever writes is done.
    written: Condvar,
}

struct GroupState<T, E> {
    waiting: Vec<(u64, Vec<T>)>,
    next_ticket: u64,
    /// Somebody writes.
    is_written: bool,
    /// By their tickets.
    results: HashMap<u64, Result<(), E>>,
}

impl<T, E> Default for Group<T, E> {
    fn default() -> Self {
        let state = GroupState {
            waiting: Vec::new(),
            next_ticket: 0,
            is_written: false,
            results: HashMap::new(),
        };
        Self { state: Mutex::new(state), written: Condvar::new() }
    }
}

impl<T, E: Clone> Group<T, E> {
    /// Returns what became of these: by a call of `write` here, or of somebody else's.
    ///
    /// # Errors
    /// That of the call.
    pub(super) fn join(
        &self,
        these: Vec<T>,
        mut write: impl FnMut(Vec<T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = self.state.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push((ticket, these));
        loop {
            if let Some(result) = state.results.remove(&ticket) {
                return result;
            }
            if state.is_written {
                self.written.wait(&mut state);
                continue;
            }
            state.is_written = true;
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            let (tickets, all): (Vec<u64>, Vec<Vec<T>>) = waiting.into_iter().unzip();
            let result = write(all.into_iter().flatten().collect());
            state = self.state.lock();
            state.is_written = false;
            state.results.extend(tickets.into_iter().map(|ticket| (ticket, result.clone())));
            self.written.notify_all();
        }
    }
}
