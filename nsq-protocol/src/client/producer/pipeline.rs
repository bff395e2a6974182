//! One connection of a producer: a window of commands that wait for their answers, in the order of the wire.
//!
//! Callers put publishes in, the reader thread gives the answers out. Which connection is used, and what is tried
//! again, is [`crate::client::producer::dispatcher`]'s.
//!
//! Lock order: the window, then the outbox.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};

use crate::client::producer::command::Publish;
use crate::client::producer::config::ProducerConfig;
use crate::codec::error_code::ErrorCode;
use crate::codec::frame::OK;
use crate::codec::message::MessageRef;
use crate::error::Error;
use crate::io::connection::{Connection, FrameSink};

/// Totals of one nsqd; each is explained at [`crate::ProducerConnectionStats`].
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) connections: AtomicU64,
}

/// One connection.
pub(crate) struct Pipeline {
    /// Of its endpoint.
    pub(crate) index: usize,
    pub(crate) connection: Arc<Connection>,
    window: Mutex<Window>,
    /// The window got room, or the pipeline ended.
    room: Condvar,
    accepted: AtomicBool,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Window {
    pending: VecDeque<Pending>,
    bytes: usize,
    ended: Option<Error>,
}

/// A command that waits for its answer.
struct Pending {
    command: &'static str,
    bytes: usize,
    sent: Instant,
    answer: Sender<Outcome>,
}

/// How a command ended.
pub(crate) enum Outcome {
    Accepted,
    Refused(Error),
    /// The connection ended first.
    Lost(Error),
}

/// Why a connection does not take a publish.
pub(crate) enum Rejected {
    /// No room before the deadline.
    Full,
    Ended(Error),
}

impl Pipeline {
    pub(crate) fn new(index: usize, connection: Arc<Connection>, counts: Arc<Counts>) -> Self {
        let (window, room, accepted) = Default::default();
        Self { index, connection, window, room, accepted, counts }
    }

    /// Whether nsqd answered something with OK.
    pub(crate) fn has_accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Commands that wait for an answer, and their bytes.
    pub(crate) fn pending(&self) -> (usize, usize) {
        let window = self.window.lock();
        (window.pending.len(), window.bytes)
    }

    /// Puts the publish into the window, when it has room.
    pub(crate) fn submit(
        &self,
        publish: Publish<'_>,
        config: &ProducerConfig,
        deadline: Instant,
    ) -> Result<Receiver<Outcome>, Rejected> {
        let bytes = publish.bytes();
        let command = publish.command();
        // One slot for the one answer, so that the reader never waits for its receiver.
        let (answer, answers) = bounded(1);
        let mut window = self.window.lock();
        loop {
            if let Some(error) = &window.ended {
                return Err(Rejected::Ended(error.clone()));
            }
            let fits = window.bytes + bytes <= config.max_pending_bytes;
            if window.pending.is_empty()
                || (fits && window.pending.len() < config.max_pending_commands)
            {
                break;
            }
            // The oldest answer may be overdue with nobody but us waiting.
            let limit = config.response_timeout;
            let oldest = window.pending.front().map_or(deadline, |pending| pending.sent + limit);
            if Instant::now() >= oldest {
                drop(window);
                let error = self.late(limit);
                self.end(error.clone());
                return Err(Rejected::Ended(error));
            }
            let timed_out = self.room.wait_until(&mut window, deadline.min(oldest)).timed_out();
            if timed_out && Instant::now() >= deadline {
                return Err(Rejected::Full);
            }
        }
        // Under the window's lock, so that answers are awaited in the order in which commands are written.
        if !self.connection.outbox.put(|out| command.encode(out)) {
            let addr = self.connection.addr.to_string();
            return Err(Rejected::Ended(Error::Closed { addr }));
        }
        let sent = Instant::now();
        window.pending.push_back(Pending { command: command.name(), bytes, sent, answer });
        window.bytes += bytes;
        drop(window);
        self.connection.outbox.push();
        Ok(answers)
    }

    /// Answers the oldest command; the error is for a peer that answers what nobody asked.
    fn answer(&self, answer: impl FnOnce(&'static str) -> Outcome) -> Result<(), String> {
        let mut window = self.window.lock();
        let Some(pending) = window.pending.pop_front() else {
            return Err("an answer to no command".to_owned());
        };
        window.bytes -= pending.bytes;
        drop(window);
        self.room.notify_all();
        let answer = answer(pending.command);
        let counter = match &answer {
            Outcome::Accepted => {
                self.accepted.store(true, Ordering::Relaxed);
                &self.counts.accepted
            }
            Outcome::Refused(_) => &self.counts.refused,
            Outcome::Lost(_) => &self.counts.unknown,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        // Gone: its receipt was dropped.
        let _ = pending.answer.try_send(answer);
        Ok(())
    }

    /// Ends the connection: every pending command is lost for that reason.
    pub(crate) fn end(&self, error: Error) {
        let mut window = self.window.lock();
        if window.ended.is_none() {
            window.ended = Some(error.clone());
        }
        let pending = std::mem::take(&mut window.pending);
        window.bytes = 0;
        drop(window);
        self.room.notify_all();
        self.counts.unknown.fetch_add(pending.len() as u64, Ordering::Relaxed);
        for pending in pending {
            let _ = pending.answer.try_send(Outcome::Lost(error.clone()));
        }
        self.connection.close();
    }

    /// An answer did not come in time.
    pub(crate) fn late(&self, limit: Duration) -> Error {
        let addr = self.connection.addr.to_string();
        Error::Timeout { addr, doing: "waiting for an answer from", limit }
    }

    pub(crate) fn ended(&self) -> Option<Error> {
        self.window.lock().ended.clone()
    }

    pub(crate) fn wait_answered(&self, deadline: Instant) -> bool {
        let mut window = self.window.lock();
        while !window.pending.is_empty() {
            if self.room.wait_until(&mut window, deadline).timed_out() {
                return window.pending.is_empty();
            }
        }
        true
    }

    pub(crate) fn wait_ended(&self, deadline: Instant) {
        let mut window = self.window.lock();
        while window.ended.is_none() {
            if self.room.wait_until(&mut window, deadline).timed_out() {
                return;
            }
        }
    }
}

/// Gives answers to the commands that wait for them.
pub(crate) struct AnswerSink<'a> {
    pub(crate) pipeline: &'a Pipeline,
}

impl AnswerSink<'_> {
    fn protocol(&self, what: String) -> Error {
        Error::Protocol { addr: self.pipeline.connection.addr.to_string(), what }
    }
}

impl FrameSink for AnswerSink<'_> {
    fn message(&mut self, _: MessageRef<'_>) -> Result<(), Error> {
        Err(self.protocol("a message on a connection without SUB".to_owned()))
    }

    fn response(&mut self, data: &[u8]) -> Result<(), Error> {
        if data != OK {
            let what = format!("the response {:.64}, where only OK is one", data.escape_ascii());
            return Err(self.protocol(what));
        }
        self.pipeline.answer(|_| Outcome::Accepted).map_err(|what| self.protocol(what))
    }

    fn error(&mut self, code: ErrorCode, detail: String) -> Result<(), Error> {
        let addr = self.pipeline.connection.addr.to_string();
        let refused = |command| Error::Refused {
            addr: addr.clone(),
            command,
            code: code.clone(),
            detail: detail.clone(),
        };
        // Nobody waits: it still says why nsqd is about to close.
        let _ = self.pipeline.answer(|command| Outcome::Refused(refused(command)));
        Err(refused("a command"))
    }

    fn heartbeat(&mut self) {}

    fn read_done(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
