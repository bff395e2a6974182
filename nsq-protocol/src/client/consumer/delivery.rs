//! A message in the hands of a worker, answered on its own. Runs on the workers' threads; answering never waits for
//! the network.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::client::consumer::give_up::{GiveUp, GiveUpCause, GiveUpHandler, GivenUp};
use crate::client::consumer::session::Answer;
use crate::client::consumer::source::{Entry, Source};
use crate::codec::message::{MessageId, MessageRef};

/// One message, consumed by its answer.
///
/// Dropped unanswered it is given back, as a [`crate::Batch`] is; in the handler of [`crate::Consumer::run_fallible`] the
/// result answers it. It keeps the bodies of its whole batch in memory.
/// A [`crate::RunningConsumer`] that must stop before it is answered gives it back; its answer then is thrown away and
/// counted ([`crate::ConnectionStats::lost_answers`]).
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
    /// Of the source's messages.
    index: usize,
    source: Arc<Source>,
    /// What its handler returns is its answer, unless it has one.
    by_result: bool,
}

/// A message whose handler answers it by what it returns.
pub(super) struct LeftToResult {
    index: usize,
    source: Arc<Source>,
}

impl LeftToResult {
    /// The handler has returned: the message, unless it has its answer or somebody holds it.
    pub(super) fn take_back(self) -> Option<Delivery> {
        let Self { index, source } = self;
        source.take_back(index).then(|| Delivery::of(source, index))
    }
}

impl Delivery {
    fn of(source: Arc<Source>, index: usize) -> Self {
        Self { index, source, by_result: false }
    }

    /// The next message of `source` that nobody has.
    pub(super) fn next_of(source: &Arc<Source>) -> Option<Self> {
        source.take().map(|index| Self::of(source.clone(), index))
    }

    /// All messages of `source` that nobody has.
    pub(super) fn rest_of(source: &Arc<Source>) -> Vec<Self> {
        source.take_rest().map(|index| Self::of(source.clone(), index)).collect()
    }

    fn entry(&self) -> &Entry {
        self.source.entry(self.index)
    }

    /// What was published; its beginning only, where [`Delivery::skipped`] is above 0.
    pub fn body(&self) -> &[u8] {
        self.message().body
    }

    /// Bytes that follow [`Delivery::body`] in what was published: above 0 only of a message that is oversized, with
    /// [`crate::Oversized::HandOver`].
    pub fn skipped(&self) -> usize {
        self.entry().skipped as usize
    }

    /// What nsqd calls it.
    pub fn id(&self) -> MessageId {
        self.entry().id
    }

    /// Deliveries so far, this one included: 1 on the first. Wraps after 65535.
    pub fn attempts(&self) -> u16 {
        self.entry().attempts
    }

    /// When it was published, in ns since the Unix epoch by nsqd's clock.
    pub fn timestamp_ns(&self) -> i64 {
        self.entry().timestamp_ns
    }

    /// All of that in one.
    pub fn message(&self) -> MessageRef<'_> {
        self.source.message(self.index)
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
    pub fn finish(self) {
        self.answer(Answer::Finish);
    }

    /// REQ, because it could not be handled: nsqd delivers it again after `delay`, and the consumer backs off; see
    /// [`crate::Batch::requeue`].
    pub fn requeue(self, delay: Duration) {
        self.answer(Answer::failed(delay));
    }

    /// REQ: nsqd delivers it again after `delay`, and the consumer goes on as it is.
    pub fn requeue_without_backoff(self, delay: Duration) {
        self.answer(Answer::given_back(delay));
    }

    /// TOUCH: its msg-timeout starts again; see [`crate::Batch::touch`].
    pub fn touch(&self) {
        self.source.origin.touch(std::iter::once(self.entry().id));
    }

    /// From now on, dropped unanswered, it waits for what its handler returns.
    pub(super) fn answered_by_result(&mut self) -> LeftToResult {
        self.by_result = true;
        LeftToResult { index: self.index, source: self.source.clone() }
    }

    /// Lets `handler` decide on it.
    pub(super) fn give_up(self, handler: &GiveUpHandler, cause: GiveUpCause<'_>) {
        let given_up = GivenUp { message: self.message(), nsqd: self.nsqd(), cause };
        match catch_unwind(AssertUnwindSafe(|| handler.call(given_up))) {
            Ok(GiveUp::Finish) => self.finish(),
            Ok(GiveUp::Requeue(delay)) => self.requeue_without_backoff(delay),
            Err(_) => {
                log::error!("the give-up handler panicked over message {}", self.id());
                let delay = self.source.origin.panic_requeue_delay;
                self.requeue(delay);
            }
        }
    }

    fn answer(&self, answer: Answer) {
        self.source.answer(self.index, answer);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let waits = self.by_result && !std::thread::panicking();
        if waits && self.source.leave_to_result(self.index) {
            return;
        }
        if !self.source.is_answered(self.index) {
            self.answer(self.source.origin.answer_to_dropped());
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("id", &self.entry().id)
            .field("attempts", &self.entry().attempts)
            .field("nsqd", &self.nsqd())
            .finish()
    }
}
