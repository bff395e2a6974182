//! What waits for a consumer's writer: answers from its reader, and word that the core has messages.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Answers that wait for a consumer's writer, in bytes; with more, its commands are not read.
const OUTBOX_MAX: usize = 64 << 10;

/// What waits for a consumer's writer.
#[derive(Default)]
pub(super) struct ConsumerOutbox {
    pub(super) state: Mutex<ConsumerOutboxState>,
    /// There is something for the writer.
    pub(super) work: Condvar,
    /// There is room, or the writer has ended.
    pub(super) room: Condvar,
}

#[derive(Default)]
pub(super) struct ConsumerOutboxState {
    pub(super) frames: Vec<u8>,
    /// The core has messages for this consumer.
    pub(super) wake: bool,
    /// Write what is here, then end.
    pub(super) closing: bool,
    /// The writer has ended; nothing more goes out.
    pub(super) ended: bool,
}

impl ConsumerOutbox {
    pub(super) fn wake(&self) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.wake, true) {
            self.work.notify_one();
        }
    }

    /// Adds answers; waits while too many wait already. False: the writer has ended.
    pub(super) fn push(&self, frames: &[u8]) -> bool {
        let mut state = self.state.lock();
        while state.frames.len() >= OUTBOX_MAX && !state.ended {
            self.room.wait(&mut state);
        }
        state.frames.extend_from_slice(frames);
        self.work.notify_one();
        !state.ended
    }

    /// Asks the writer to end and gives it `wait`; false if it still writes then.
    pub(super) fn close(&self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        let mut state = self.state.lock();
        state.closing = true;
        self.work.notify_one();
        while !state.ended {
            if self.room.wait_until(&mut state, deadline).timed_out() {
                return state.ended;
            }
        }
        true
    }
}
