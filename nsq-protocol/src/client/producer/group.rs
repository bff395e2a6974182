//! Publishes of several threads that go to nsqd together. Those that come while [`UNGROUPED`] are under way gather, a
//! group for each topic, and go as one MPUB with the next answer: nsqd answers an MPUB at about the cost of a PUB, so
//! that many threads, each of which waits for its own answer, are not held up by the number of answers.
//!
//! Runs on the threads of the callers, which wait here, and on the reader's thread, which sends and tells them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::client::producer::config::ProducerConfig;
use crate::codec::bodies::BodiesBuf;
use crate::codec::command::Command;
use crate::codec::names::TopicName;
use crate::error::Error;

/// Publishes under way, each with a command of its own or in a group, before others gather. nsqd handles a connection's
/// commands one by one: with two it has work while an answer is on its way, and more would only make the groups smaller.
pub(super) const UNGROUPED: usize = 2;

/// How a command ended.
#[derive(Clone)]
pub(crate) enum Outcome {
    Accepted,
    Refused(Error),
    /// The connection ended first.
    Lost(Error),
    /// The connection ended before it was sent.
    NotSent(Error),
}

/// Publishes of one topic that share a command, and its answer.
///
/// With the standard library's lock and condition: it wakes all who wait in one call of the system, where parking_lot has
/// each wake the next. Measured with 50 threads, 180,000 publishes a second against 140,000.
pub(super) struct Group {
    topic: TopicName,
    state: Mutex<GroupState>,
    done: Condvar,
}

#[derive(Default)]
struct GroupState {
    sent: Option<Instant>,
    outcome: Option<Outcome>,
}

impl Group {
    /// It is on its way.
    pub(super) fn sent(&self, now: Instant) {
        self.state().sent = Some(now);
    }

    /// Tells all whose publishes they are.
    pub(super) fn end(&self, outcome: Outcome) {
        self.state().outcome = Some(outcome);
        self.done.notify_all();
    }

    /// Waits until `deadline`, and no longer than `limit` from when it was sent, or, not sent yet, `joined`.
    fn wait(&self, joined: Instant, limit: Duration, deadline: Instant) -> Option<Outcome> {
        let mut state = self.state();
        loop {
            if let Some(outcome) = &state.outcome {
                return Some(outcome.clone());
            }
            let late = deadline.min(state.sent.unwrap_or(joined) + limit);
            let left = late.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let woken = self.done.wait_timeout(state, left);
            (state, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing panics while it is locked.
    fn state(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A group that still takes publishes. What they take of the window is counted there.
pub(super) struct Gathering {
    pub(super) group: Arc<Group>,
    bodies: BodiesBuf,
    /// Of the window.
    pub(super) bytes: usize,
}

impl Gathering {
    pub(super) fn new(topic: TopicName) -> Self {
        let (state, done) = Default::default();
        let group = Arc::new(Group { topic, state, done });
        Self { group, bodies: BodiesBuf::new(), bytes: 0 }
    }

    /// Whether it takes that body.
    pub(super) fn takes(&self, topic: TopicName, body: &[u8], config: &ProducerConfig) -> bool {
        self.group.topic == topic
            && self.bodies.body_size() + 4 + body.len() <= config.max_body_size
            && self.bodies.len() < config.max_mpub_messages
    }

    /// Adds a body, which takes `bytes` of the window.
    pub(super) fn add(&mut self, body: &[u8], bytes: usize) {
        self.bodies.push(body);
        self.bytes += bytes;
    }

    /// One goes as PUB.
    pub(super) fn command(&self) -> Command<'_> {
        let (topic, bodies) = (self.group.topic, self.bodies.as_bodies());
        match (bodies.len(), bodies.iter().next()) {
            (1, Some(body)) => Command::Pub(topic, body),
            _ => Command::Mpub(topic, bodies),
        }
    }
}

/// Where the answer to a publish comes.
pub(super) enum Awaited {
    Alone(Receiver<Outcome>),
    Together(Arc<Group>),
}

impl Awaited {
    /// Waits until `deadline`, and no longer than `limit` from `sent`, or from when its group was sent.
    pub(super) fn wait(
        &self,
        sent: Instant,
        limit: Duration,
        deadline: Instant,
    ) -> Option<Outcome> {
        match self {
            Self::Alone(answer) => match answer.recv_deadline(deadline.min(sent + limit)) {
                Ok(outcome) => Some(outcome),
                Err(RecvTimeoutError::Disconnected) => Some(Outcome::Lost(Error::Stopped)),
                Err(RecvTimeoutError::Timeout) => None,
            },
            Self::Together(group) => group.wait(sent, limit, deadline),
        }
    }

    /// Whether the answer is there.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Alone(answer) => !answer.is_empty(),
            Self::Together(group) => group.state().outcome.is_some(),
        }
    }

    /// Whether others may share its answer.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Self::Together(_))
    }
}
