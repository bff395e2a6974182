//! A message in the hands of a worker, answered on its own. Runs on the workers' threads; answering never waits for
//! the network.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::client::consumer::origin::{Origin, Stamp};
use crate::client::consumer::session::Answer;
use crate::codec::message::{MessageId, MessageRef};

/// Where one message of a batch lies.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) timestamp_ns: i64,
    pub(super) id: MessageId,
    pub(super) attempts: u16,
    pub(super) start: u32,
    pub(super) end: u32,
    /// Bytes of the body that were skipped: below 2 GiB.
    pub(super) skipped: u32,
}

impl Entry {
    fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The message, where the bodies of its batch are `bodies`.
    pub(super) fn message<'a>(&self, bodies: &'a [u8]) -> MessageRef<'a> {
        MessageRef {
            timestamp_ns: self.timestamp_ns,
            attempts: self.attempts,
            id: self.id,
            body: &bodies[self.range()],
            skipped: self.skipped as usize,
        }
    }
}

/// What the deliveries of one batch share.
pub(super) struct Source {
    pub(super) bodies: Vec<u8>,
    pub(super) origin: Arc<Origin>,
    pub(super) stamp: Stamp,
}

/// One message, consumed by its answer.
///
/// Dropped unanswered it is given back, as a [`crate::Batch`] is. It keeps the bodies of its whole batch in memory.
///
/// # Example
/// ```no_run
/// # fn slow_step() {}
/// # fn handle(message: nsq_protocol::Delivery) {
/// slow_step();
/// message.touch(); // the msg-timeout starts anew
/// slow_step();
/// message.finish();
/// # }
/// ```
pub struct Delivery {
    entry: Entry,
    source: Arc<Source>,
    answered: bool,
}

impl Delivery {
    pub(super) fn new(entry: Entry, source: Arc<Source>) -> Self {
        Self { entry, source, answered: false }
    }

    /// What was published; its beginning only, where [`Delivery::skipped`] is above 0.
    pub fn body(&self) -> &[u8] {
        &self.source.bodies[self.entry.range()]
    }

    /// Bytes that follow [`Delivery::body`] in what was published: above 0 only of a message that is oversized, with
    /// [`crate::Oversized::HandOver`].
    pub fn skipped(&self) -> usize {
        self.entry.skipped as usize
    }

    /// What nsqd calls it.
    pub fn id(&self) -> MessageId {
        self.entry.id
    }

    /// Deliveries so far, this one included: 1 on the first. Wraps after 65535.
    pub fn attempts(&self) -> u16 {
        self.entry.attempts
    }

    /// When it was published, in ns since the Unix epoch by nsqd's clock.
    pub fn timestamp_ns(&self) -> i64 {
        self.entry.timestamp_ns
    }

    /// All of that in one.
    pub fn message(&self) -> MessageRef<'_> {
        self.entry.message(&self.source.bodies)
    }

    /// The nsqd that it came from, as configured.
    pub fn nsqd(&self) -> &str {
        self.source.origin.session.addr()
    }

    /// Whether the connection still stands, so that an answer can reach nsqd.
    pub fn is_connected(&self) -> bool {
        self.source.origin.session.is_connected()
    }

    /// FIN: it is done.
    pub fn finish(mut self) {
        self.answer(Answer::Finish);
    }

    /// REQ, because it could not be handled: nsqd delivers it again after `delay`, and the consumer backs off; see
    /// [`crate::Batch::requeue`].
    pub fn requeue(mut self, delay: Duration) {
        self.answer(Answer::failed(delay));
    }

    /// REQ: nsqd delivers it again after `delay`, and the consumer goes on as it is.
    pub fn requeue_without_backoff(mut self, delay: Duration) {
        self.answer(Answer::given_back(delay));
    }

    /// TOUCH: its msg-timeout starts again; see [`crate::Batch::touch`].
    pub fn touch(&self) {
        self.source.origin.touch(std::iter::once(self.entry.id));
    }

    fn answer(&mut self, answer: Answer) {
        self.answered = true;
        let Source { origin, stamp, .. } = &*self.source;
        origin.answer(*stamp, std::iter::once(self.entry.id), answer);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.answered {
            self.answer(self.source.origin.answer_to_dropped());
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("id", &self.entry.id)
            .field("attempts", &self.entry.attempts)
            .field("nsqd", &self.nsqd())
            .finish()
    }
}
