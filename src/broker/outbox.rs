//! What waits for a consumer's writer: answers from its reader, and word that the core has messages.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Answers that wait for a consumer's writer, in bytes; with more, its commands are not read.
const OUTBOX_MAX: usize = 64 << 10;

/// What waits for a consumer's writer.
#[derive(Default)]
pub(super) struct ConsumerOutbox {
    state: Mutex<ConsumerOutboxState>,
    /// There is something for the writer.
    work: Condvar,
    /// There is room, or the writer has ended.
    room: Condvar,
}

#[derive(Default)]
struct ConsumerOutboxState {
    frames: Vec<u8>,
    /// The core has messages for this consumer.
    wake: bool,
    /// Write what is here, then end.
    closing: bool,
    /// The writer has ended; nothing more goes out.
    ended: bool,
}

impl ConsumerOutbox {
    /// Says that the core has messages.
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

    /// For the writer: waits for something to do, at most until `until`, or with `None` not at all. Appends the answers
    /// to `out`. Returns whether they are the last.
    pub(super) fn take(&self, until: Option<Instant>, out: &mut Vec<u8>) -> bool {
        let mut state = self.state.lock();
        while let Some(until) = until
            && !(state.wake || state.closing || !state.frames.is_empty())
        {
            if self.work.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.wake = false;
        out.append(&mut state.frames);
        self.room.notify_one();
        state.closing
    }

    /// Says that there is no writer any more.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.room.notify_all();
    }
}
