//! One connection of a producer: a window of commands that wait for their answers, in the order of the wire.
//!
//! Callers put publishes in, the reader thread gives the answers out. Which connection is used, and what is tried
//! again, is [`crate::client::producer::dispatcher`]'s.
//!
//! Lock order: the window, then a group or the outbox.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::client::producer::command::Publish;
use crate::client::producer::config::ProducerConfig;
use crate::client::producer::group::{Awaited, Gathering, Group, Outcome, UNGROUPED};
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
    /// Those of them that make others gather: at most [`UNGROUPED`].
    grouping: usize,
    /// Publishes that are not sent yet; none without a pending command that makes them gather.
    gathering: VecDeque<Gathering>,
    /// Of all of these.
    bytes: usize,
    ended: Option<Error>,
}

impl Window {
    /// Whether publishes that may go together gather instead of going at once.
    fn gathers(&self, config: &ProducerConfig) -> bool {
        self.grouping >= UNGROUPED.min(config.max_pending_commands)
    }

    /// Adds the publish to those that gather, if it is to.
    fn gather(
        &mut self,
        publish: Publish<'_>,
        bytes: usize,
        groups: bool,
        config: &ProducerConfig,
    ) -> Option<Arc<Group>> {
        let Publish::One(topic, body) = publish else { return None };
        if !groups || !self.gathers(config) {
            return None;
        }
        let index = match self.gathering.iter().rposition(|of| of.takes(topic, body, config)) {
            Some(index) => index,
            None => {
                self.gathering.push_back(Gathering::new(topic));
                self.gathering.len() - 1
            }
        };
        let gathering = &mut self.gathering[index];
        gathering.add(body, bytes);
        self.bytes += bytes;
        Some(gathering.group.clone())
    }
}

/// A command that waits for its answer.
struct Pending {
    command: &'static str,
    bytes: usize,
    sent: Instant,
    answer: AnswerTo,
    /// It makes others gather.
    groups: bool,
}

/// Whom the answer is told.
enum AnswerTo {
    One(Sender<Outcome>),
    Group(Arc<Group>),
}

impl AnswerTo {
    fn tell(&self, outcome: Outcome) {
        match self {
            // Gone: its receipt was dropped.
            Self::One(answer) => drop(answer.try_send(outcome)),
            Self::Group(group) => group.end(outcome),
        }
    }
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

    /// Puts the publish into the window, when it has room. One that `groups` may go together with others.
    pub(super) fn submit(
        &self,
        publish: Publish<'_>,
        groups: bool,
        config: &ProducerConfig,
        deadline: Instant,
    ) -> Result<Awaited, Rejected> {
        let bytes = publish.bytes();
        let mut window = self.window_with_room(bytes, groups, config, deadline)?;
        if let Some(group) = window.gather(publish, bytes, groups, config) {
            return Ok(Awaited::Together(group));
        }
        let command = publish.command();
        // One slot for the one answer, so that the reader never waits for its receiver.
        let (answer, answers) = bounded(1);
        // Under the window's lock, so that answers are awaited in the order in which commands are written.
        if !self.connection.outbox.put(|out| command.encode(out)) {
            let addr = self.connection.addr.to_string();
            return Err(Rejected::Ended(Error::Closed { addr }));
        }
        let (command, sent) = (command.name(), Instant::now());
        window.grouping += usize::from(groups);
        let answer = AnswerTo::One(answer);
        window.pending.push_back(Pending { command, bytes, sent, answer, groups });
        window.bytes += bytes;
        drop(window);
        self.connection.outbox.push();
        Ok(Awaited::Alone(answers))
    }

    /// The window, once `bytes` more have room.
    fn window_with_room(
        &self,
        bytes: usize,
        groups: bool,
        config: &ProducerConfig,
        deadline: Instant,
    ) -> Result<MutexGuard<'_, Window>, Rejected> {
        let mut window = self.window.lock();
        loop {
            if let Some(error) = &window.ended {
                return Err(Rejected::Ended(error.clone()));
            }
            let fits = window.bytes + bytes <= config.max_pending_bytes;
            let has_place = window.pending.len() < config.max_pending_commands
                || groups && window.gathers(config);
            if window.pending.is_empty() || fits && has_place {
                return Ok(window);
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
    }

    /// Puts what has gathered the longest into the outbox; the read that brought the answer sends it.
    fn send_gathered(&self, window: &mut Window) {
        let Some(next) = window.gathering.pop_front() else { return };
        if !self.connection.outbox.put(|out| next.command().encode(out)) {
            // The connection is about to end, which tells those who wait.
            window.gathering.push_front(next);
            return;
        }
        let (command, sent) = (next.command().name(), Instant::now());
        next.group.sent(sent);
        window.grouping += 1;
        let (bytes, answer) = (next.bytes, AnswerTo::Group(next.group));
        window.pending.push_back(Pending { command, bytes, sent, answer, groups: true });
    }

    /// Answers the oldest command; the error is for a peer that answers what nobody asked.
    fn answer(&self, answer: impl FnOnce(&'static str) -> Outcome) -> Result<(), String> {
        let mut window = self.window.lock();
        let Some(pending) = window.pending.pop_front() else {
            return Err("an answer to no command".to_owned());
        };
        window.bytes -= pending.bytes;
        window.grouping -= usize::from(pending.groups);
        let answer = answer(pending.command);
        match &answer {
            Outcome::Accepted if pending.groups => self.send_gathered(&mut window),
            // The reader is about to end the connection. Whoever is told of it and tries again must not find this one.
            Outcome::Refused(error) => window.ended = Some(error.clone()),
            _ => {}
        }
        drop(window);
        self.room.notify_all();
        let counter = match &answer {
            Outcome::Accepted => {
                self.accepted.store(true, Ordering::Relaxed);
                &self.counts.accepted
            }
            Outcome::Refused(_) => &self.counts.refused,
            Outcome::Lost(_) | Outcome::NotSent(_) => &self.counts.unknown,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        pending.answer.tell(answer);
        Ok(())
    }

    /// Ends the connection: every pending command is lost for that reason.
    pub(crate) fn end(&self, error: Error) {
        let mut window = self.window.lock();
        if window.ended.is_none() {
            window.ended = Some(error.clone());
        }
        let pending = std::mem::take(&mut window.pending);
        let gathering = std::mem::take(&mut window.gathering);
        (window.bytes, window.grouping) = (0, 0);
        drop(window);
        self.room.notify_all();
        self.counts.unknown.fetch_add(pending.len() as u64, Ordering::Relaxed);
        for pending in pending {
            pending.answer.tell(Outcome::Lost(error.clone()));
        }
        for Gathering { group, .. } in gathering {
            group.end(Outcome::NotSent(error.clone()));
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

    /// Why it takes nothing any more.
    pub(crate) fn closed(&self) -> Error {
        let closed = || Error::Closed { addr: self.connection.addr.to_string() };
        self.ended().unwrap_or_else(closed)
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
        // What the answers of this read have made room for, in one write.
        self.pipeline.connection.outbox.push();
        Ok(())
    }
}
