//! The outbox of one connection: commands that wait to be written.
//!
//! Whoever appends commands also sends them, as far as the socket takes them at once: that costs less than waking
//! another thread, and they leave sooner. What is left, and all that gathers while somebody sends, is written by the
//! writer thread. Runs on the threads of those who append, and on the writer's.

use parking_lot::{Condvar, Mutex};

use crate::codec::command::Command;
use crate::error::Error;
use crate::io::transport::Direct;

/// What an emptied outbox keeps allocated: a window of answers, not the odd 5 MiB MPUB.
const OUTBOX_AT_REST: usize = 256 << 10;

/// More bytes than these are left to the writer: whoever appended them goes on while they are copied to the socket.
const DIRECT_MAX: usize = 64 << 10;

/// Touches that may wait to be written, bytes. Everything else is bounded by what is in flight or by the
/// producer's window; touches alone can be repeated at will. About 30,000 of them.
const TOUCHES_MAX: usize = 1 << 20;

/// Commands on their way out of one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<OutboxState>,
    /// Wakes the writer.
    work: Condvar,
    /// Where commands may be sent by who appends them.
    direct: Option<Direct>,
}

#[derive(Debug, Default)]
struct OutboxState {
    /// Bounded by what callers may have pending: see [`TOUCHES_MAX`].
    bytes: Vec<u8>,
    /// Kept apart so that nothing can stand in a heartbeat's way.
    nop: bool,
    /// TLS has something to say for itself.
    flush: bool,
    /// No more is taken; `true` from the start of an orderly end.
    ended: bool,
    /// What is left is not to be written any more.
    aborted: bool,
    /// Who appended commands is sending them.
    sending: bool,
    /// The writer is writing.
    writing: bool,
    failure: Option<Error>,
}

impl Outbox {
    /// An empty one; with `direct`, whoever appends sends.
    pub(super) fn new(direct: Option<Direct>) -> Self {
        Self { direct, ..Self::default() }
    }

    /// Lets `encode` append commands and sends them; false, without calling it, when the connection is gone.
    pub(crate) fn append(&self, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let is_open = self.put(encode);
        self.push();
        is_open
    }

    /// As [`Outbox::append`], under a lock: they are sent by the next [`Outbox::push`], which must follow.
    pub(crate) fn put(&self, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state.lock();
        if !state.ended {
            encode(&mut state.bytes);
        }
        !state.ended
    }

    /// Sends what was put here, or has it sent. Never waits for the socket.
    pub(crate) fn push(&self) {
        let mut state = self.state.lock();
        // Who sends or writes looks again when done. Nothing is there when somebody has sent ours with their own.
        if state.sending || state.writing || state.bytes.is_empty() {
            return;
        }
        let direct = match &self.direct {
            Some(direct) if !state.ended && state.bytes.len() <= DIRECT_MAX => direct,
            _ => {
                drop(state);
                self.work.notify_one();
                return;
            }
        };
        state.sending = true;
        let mut bytes = std::mem::take(&mut state.bytes);
        drop(state);
        let sent = direct.send(&bytes);
        bytes.drain(..sent);
        let mut state = self.state.lock();
        state.sending = false;
        if !state.aborted {
            // In front of what has gathered meanwhile; and the buffer is used again.
            bytes.append(&mut state.bytes);
            state.bytes = bytes;
        }
        let is_done = state.bytes.is_empty() && !state.nop && !state.flush && !state.ended;
        drop(state);
        if !is_done {
            self.work.notify_one();
        }
    }

    /// As [`Outbox::append`], but refuses while too much waits: for commands that the caller may repeat at will.
    pub(crate) fn append_optional(&self, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let full = self.state.lock().bytes.len() > TOUCHES_MAX;
        !full && self.append(encode)
    }

    /// What waits to be written.
    #[cfg(feature = "test-util")]
    pub(crate) fn unwritten(&self) -> Vec<u8> {
        self.state.lock().bytes.clone()
    }

    /// Answers a heartbeat.
    pub(super) fn nop(&self) {
        self.state.lock().nop = true;
        self.work.notify_one();
    }

    /// Makes the writer write, be it nothing but what TLS has to say for itself.
    pub(super) fn flush(&self) {
        self.state.lock().flush = true;
        self.work.notify_one();
    }

    /// Whether commands are still taken.
    pub(crate) fn is_open(&self) -> bool {
        !self.state.lock().ended
    }

    /// No more commands; those that wait are written, then the peer is told that it was all.
    pub(crate) fn finish(&self) {
        self.state.lock().ended = true;
        self.work.notify_one();
    }

    /// No more commands, and those that wait are dropped.
    pub(super) fn close(&self, failure: Option<Error>) {
        let mut state = self.state.lock();
        state.ended = true;
        state.aborted = true;
        state.bytes = Vec::new();
        if state.failure.is_none() {
            state.failure = failure;
        }
        drop(state);
        self.work.notify_one();
    }

    /// Why the writer failed, if it did.
    pub(super) fn failure(&self) -> Option<Error> {
        self.state.lock().failure.clone()
    }

    /// Waits for commands and swaps them into `bytes`, perhaps none for a flush; false when there will be none.
    pub(super) fn take(&self, bytes: &mut Vec<u8>) -> bool {
        bytes.clear();
        if bytes.capacity() > OUTBOX_AT_REST {
            *bytes = Vec::new();
        }
        let mut state = self.state.lock();
        state.writing = false;
        while !state.aborted
            && (state.sending
                || (state.bytes.is_empty() && !state.nop && !state.flush && !state.ended))
        {
            self.work.wait(&mut state);
        }
        if state.aborted {
            return false;
        }
        if std::mem::take(&mut state.nop) && state.bytes.is_empty() {
            // Otherwise what follows answers the heartbeat: for nsqd, any command does.
            Command::Nop.encode(&mut state.bytes);
        }
        std::mem::swap(&mut state.bytes, bytes);
        // Every write flushes.
        state.writing = std::mem::take(&mut state.flush) || !bytes.is_empty();
        state.writing
    }
}

#[cfg(test)]
mod tests;
