//! The batches that the workers of [`crate::Consumer::run`] share: each worker takes one message at a time, of the
//! oldest batch that has any, so that none is idle while a message waits. Any thread.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::client::consumer::delivery::Delivery;
use crate::client::consumer::source::{Source, UnansweredMessage};

/// Entries of [`State::begun`] that are no reason to look which are over.
const FEW: usize = 64;

/// The batches of one consumer that were begun.
#[derive(Default)]
pub(crate) struct OpenBatches {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those with messages that nobody has taken, the oldest first; some may be used up.
    open: Vec<Arc<Source>>,
    /// All of which something is held, and some that are over: at most twice as many, and [`FEW`].
    begun: Vec<Weak<Source>>,
    /// Where `begun` is cleared of those that are over.
    clear_at: usize,
    stopped: bool,
}

impl OpenBatches {
    /// Lets every worker take messages of `source`; once stopped, they are given back.
    pub(super) fn begin(&self, source: &Arc<Source>) {
        let mut state = self.state.lock();
        if state.stopped {
            drop(state);
            return source.give_back_rest();
        }
        if source.left() > 1 {
            state.open.push(source.clone());
        }
        if state.begun.len() >= state.clear_at.max(FEW) {
            state.begun.retain(|source| source.strong_count() > 0);
            state.clear_at = 2 * state.begun.len();
        }
        state.begun.push(Arc::downgrade(source));
    }

    /// The oldest batch that has messages which nobody has taken.
    pub(super) fn oldest(&self) -> Option<Arc<Source>> {
        let mut state = self.state.lock();
        let used_up = state.open.iter().take_while(|source| source.left() == 0).count();
        // Dropped behind the lock: the last owner of a batch frees its bodies.
        let over: Vec<_> = state.open.drain(..used_up).collect();
        let oldest = state.open.first().cloned();
        drop(state);
        drop(over);
        oldest
    }

    /// No message is handed out any more. Those that nobody has taken are given back by their drop.
    pub(super) fn stop(&self) -> Vec<Delivery> {
        let mut state = self.state.lock();
        state.stopped = true;
        let open = std::mem::take(&mut state.open);
        let begun = state.begun.clone();
        drop(state);
        drop(open);
        let begun = begun.iter().filter_map(Weak::upgrade);
        begun.flat_map(|source| Delivery::rest_of(&source)).collect()
    }

    /// Gives back what workers hold: which messages that were.
    pub(super) fn give_back_taken(&self) -> Vec<UnansweredMessage> {
        let begun = std::mem::take(&mut self.state.lock().begun);
        begun.iter().filter_map(Weak::upgrade).flat_map(|source| source.give_back_taken()).collect()
    }
}
