//! One subscribed connection of a consumer: how many messages nsqd may send on it, how many are held, and what is
//! said about them. Knows nothing of other connections: what they mean for each other is
//! [`crate::client::consumer::flow_control`]'s.
//!
//! ```text
//! SUB's OK --> Receiving --stop: CLS, RDY 0--> Closing --CLOSE_WAIT came--> Drained
//!               |  ^                             |                            |
//!               |  | RDY n, messages come;       | messages may still come;   | no message comes any more;
//!               +--+ FIN, REQ, TOUCH go out      | FIN, REQ, TOUCH go out     | FIN, REQ, TOUCH go out
//!               |                                |                            |
//!               +----------------+---------------+----------------------------+
//!                                | the connection is lost or closed
//!                                v
//!                              Over: what is answered is thrown away and counted
//! ```
//!
//! `Over` is no value of its own: it is that the connection's outbox takes nothing any more. Messages that are held
//! keep the session alive until then, so that late answers do no harm.
//!
//! The reader thread says what came, workers say what is answered, the flow thread says that time has passed, and
//! whoever plans says what RDY is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::client::consumer::counts::{LinkCounts, add};
use crate::client::consumer::pacing::Pacing;
use crate::client::consumer::waker::Waker;
use crate::codec::command::{Command, delay_ms};
use crate::codec::message::MessageId;
use crate::flow::pace::Arrival;
use crate::flow::policy::Pause;
use crate::flow::rdy::Hold;
use crate::flow::touch::Touches;
use crate::io::connection::Connection;

/// Part of RDY that is in flight when a connection counts as starved; as in go-nsq.
const STARVED: f64 = 0.85;

/// How a held message is answered.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Finish,
    Requeue {
        delay_ms: u64,
        /// It leads to backoff.
        failure: bool,
    },
}

impl Answer {
    /// To a message that could not be handled.
    pub(crate) fn failed(delay: Duration) -> Self {
        Self::Requeue { delay_ms: delay_ms(delay), failure: true }
    }

    /// To a message that nobody handled.
    pub(crate) fn given_back(delay: Duration) -> Self {
        Self::Requeue { delay_ms: delay_ms(delay), failure: false }
    }
}

/// Messages of one batch that are answered together.
pub(crate) struct Answered<I> {
    /// The number of their batch.
    pub(crate) batch: u64,
    pub(crate) count: u64,
    pub(crate) ids: I,
    pub(crate) answer: Answer,
}

/// What is known of a batch that came first in its read.
pub(crate) struct FirstOfRead {
    /// When its first message was published, by nsqd's clock; `None` if it was delivered before.
    pub(crate) published_ns: Option<i64>,
    /// Some worker waits for work.
    pub(crate) starving: bool,
}

/// How far the stop of the session is; see the diagram at the top.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Receiving,
    Closing,
    Drained,
}

/// One connection, from SUB's OK on.
pub(crate) struct Session {
    connection: Arc<Connection>,
    /// Of its nsqd.
    counts: Arc<LinkCounts>,
    /// The largest RDY that nsqd takes.
    pub(crate) max_rdy: u64,
    /// A [`Phase`].
    phase: AtomicU8,
    told: ToldRdy,
    /// Messages handed over from this connection and not answered.
    in_flight: AtomicU64,
    /// Those of them that no worker has taken yet.
    queued: AtomicU64,
    /// How many are wanted; none with a fixed RDY.
    pacing: Option<Pacing>,
    /// What is to be touched; none where nothing is.
    touches: Option<Mutex<Touches>>,
    /// Wakes the flow thread.
    waker: Waker,
}

/// What nsqd was told of RDY.
#[derive(Default)]
struct ToldRdy {
    last: AtomicU64,
    /// The highest: it bounds what an honest nsqd can send.
    peak: AtomicU64,
    /// Why the last is 0: a [`Hold`] as [`hold_code`] has it.
    hold: AtomicU8,
}

impl Session {
    /// A session on `connection`, with nothing asked for yet. Without `pacing`, as many messages are wanted as there
    /// may be; without `touches`, none is touched unless its holder says so.
    pub(crate) fn new(
        connection: Arc<Connection>,
        counts: Arc<LinkCounts>,
        max_rdy: u64,
        pacing: Option<Pacing>,
        touches: Option<Touches>,
        waker: Waker,
    ) -> Self {
        Self {
            connection,
            counts,
            max_rdy,
            phase: AtomicU8::new(Phase::Receiving as u8),
            told: ToldRdy::default(),
            in_flight: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            pacing,
            touches: touches.map(Mutex::new),
            waker,
        }
    }

    /// The nsqd, as configured or found.
    pub(crate) fn addr(&self) -> &str {
        &self.connection.addr
    }

    /// The connection itself, to be closed.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether the connection still takes answers.
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.outbox.is_open()
    }

    /// What nsqd was told last.
    pub(crate) fn rdy(&self) -> u64 {
        self.told.last.load(Ordering::Relaxed)
    }

    /// The highest RDY that nsqd was ever told.
    pub(crate) fn peak_rdy(&self) -> u64 {
        self.told.peak.load(Ordering::Relaxed)
    }

    /// Messages handed over from this connection and not answered.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Whether nsqd can send little or nothing more before something is answered.
    pub(crate) fn is_starved(&self) -> bool {
        let (in_flight, rdy) = (self.in_flight(), self.rdy());
        in_flight > 0 && !self.is_closing() && in_flight as f64 >= STARVED * rdy as f64
    }

    /// So many messages can be worked on at one time.
    pub(crate) fn expect_workers(&self, workers: u64) {
        if let Some(pacing) = &self.pacing {
            pacing.expect_workers(workers);
        }
    }

    /// How many messages the connection should have in flight.
    pub(crate) fn want(&self) -> u64 {
        self.pacing.as_ref().map_or(u64::MAX, Pacing::want)
    }

    /// Why no message is asked for, if none is.
    pub(crate) fn pause(&self) -> Option<Pause> {
        if self.is_closing() {
            return Some(Pause::Stopping);
        }
        hold_of(self.told.hold.load(Ordering::Relaxed)).map(Pause::from)
    }

    /// Messages came; true if another RDY is wanted for them. They are counted as held from here on.
    pub(crate) fn arrived(&self, count: u64, first_of_read: Option<FirstOfRead>) -> bool {
        let before = self.in_flight.fetch_add(count, Ordering::SeqCst);
        let queued = self.queued.fetch_add(count, Ordering::Relaxed);
        let timed_out = before + count > self.rdy();
        let Some(pacing) = &self.pacing else { return timed_out };
        let changed = match first_of_read {
            Some(FirstOfRead { published_ns, starving }) => pacing.arrived(
                Arrival { in_flight: before, messages: count, published_ns, queued, starving },
                || self.rdy(),
            ),
            None => {
                pacing.more(before, count, || self.rdy());
                false
            }
        };
        changed || timed_out
    }

    /// The messages `ids` of batch `batch` are held, and touched in time where that is asked for.
    pub(crate) fn keep_touched(&self, batch: u64, ids: impl Iterator<Item = MessageId>) {
        let Some(touches) = &self.touches else { return };
        let ids = ids.collect();
        let mut touches = touches.lock();
        let had_none = touches.is_empty();
        touches.add(batch, ids, Instant::now());
        drop(touches);
        if had_none {
            self.waker.wake();
        }
    }

    /// A worker took messages out of the queue.
    pub(crate) fn taken(&self, count: u64) {
        self.queued.fetch_sub(count, Ordering::Relaxed);
    }

    /// A worker put messages back into it.
    pub(crate) fn put_back(&self, count: u64) {
        self.queued.fetch_add(count, Ordering::Relaxed);
    }

    /// Answers messages with what `encode` appends; false when the connection is gone.
    pub(crate) fn answer(
        &self,
        answered: Answered<impl Iterator<Item = MessageId>>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let Answered { batch, count, ids, answer } = answered;
        if let Some(touches) = &self.touches {
            touches.lock().remove(batch, ids);
        }
        // Before the answer goes out, or the message that it makes room for could be counted first.
        let in_flight = self.in_flight.fetch_sub(count, Ordering::SeqCst) - count;
        let is_sent = self.connection.outbox.append(encode);
        let counter = match (is_sent, answer) {
            (false, _) => &self.counts.lost_answers,
            (true, Answer::Finish) => &self.counts.finished,
            (true, Answer::Requeue { .. }) => &self.counts.requeued,
        };
        add(counter, count);
        if let Some(pacing) = &self.pacing {
            pacing.answered(in_flight, self.rdy());
        }
        is_sent
    }

    /// Gives `count` messages back that were never handed over.
    pub(crate) fn give_back(&self, count: u64, ids: impl Iterator<Item = MessageId>) {
        add(&self.counts.requeued, count);
        self.connection.outbox.append(|out| ids.for_each(|id| Command::Req(id, 0).encode(out)));
    }

    /// Touches `count` messages with what `encode` appends.
    pub(crate) fn touch(&self, count: u64, encode: impl FnOnce(&mut Vec<u8>)) {
        let sent = self.connection.outbox.append_optional(encode);
        add(if sent { &self.counts.touched } else { &self.counts.lost_answers }, count);
    }

    /// Touches what is due, and says when to ask again.
    pub(crate) fn touch_due(&self, now: Instant) -> Option<Instant> {
        let touches = self.touches.as_ref()?;
        // The lock is held while the commands are appended, so that no TOUCH goes out behind its message's FIN.
        touches.lock().due(now, |ids| {
            self.touch(ids.len() as u64, |out| {
                ids.iter().for_each(|id| Command::Touch(*id).encode(out));
            });
        })
    }

    /// Time has passed: whether another RDY is wanted now, and when to ask again.
    pub(crate) fn tick(&self, now: Instant) -> (bool, Option<Instant>) {
        let Some(pacing) = &self.pacing else { return (false, None) };
        pacing.tick(self.in_flight(), now)
    }

    /// Tells nsqd how many messages may be in flight, unless it was told the same last. Where that is 0, `hold` says
    /// why.
    pub(crate) fn set_rdy(&self, rdy: u64, hold: Option<Hold>) {
        self.told.hold.store(hold_code(hold), Ordering::Relaxed);
        if self.told.last.swap(rdy, Ordering::SeqCst) == rdy {
            return;
        }
        self.told.peak.fetch_max(rdy, Ordering::Relaxed);
        self.connection.outbox.append(|out| Command::Rdy(rdy).encode(out));
        if let Some(pacing) = &self.pacing {
            pacing.told(rdy, || self.in_flight());
        }
    }

    /// Asks nsqd to send no more messages, once.
    pub(crate) fn start_close(&self) {
        let (from, to) = (Phase::Receiving as u8, Phase::Closing as u8);
        if self.phase.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.told.last.store(0, Ordering::Relaxed);
            self.connection.outbox.append(|out| Command::Cls.encode(out));
        }
    }

    /// nsqd answered CLS.
    pub(crate) fn close_wait_came(&self) {
        self.phase.store(Phase::Drained as u8, Ordering::SeqCst);
    }

    /// Whether nsqd was asked to send no more messages.
    pub(crate) fn is_closing(&self) -> bool {
        self.phase.load(Ordering::SeqCst) != Phase::Receiving as u8
    }

    /// Whether nsqd has agreed to that.
    pub(crate) fn is_drained(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == Phase::Drained as u8
    }
}

const HOLDS: [Hold; 5] = [Hold::Backoff, Hold::Turn, Hold::Room, Hold::TimedOut, Hold::Paused];

/// A hold as a number: 0 is none.
fn hold_code(hold: Option<Hold>) -> u8 {
    hold.and_then(|hold| HOLDS.iter().position(|other| *other == hold)).map_or(0, |at| at as u8 + 1)
}

fn hold_of(code: u8) -> Option<Hold> {
    HOLDS.get(usize::from(code).checked_sub(1)?).copied()
}
