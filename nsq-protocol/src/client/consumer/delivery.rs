//! Messages in the hands of the workers: batches and single deliveries, and their answers.
//!
//! Runs on the workers' threads. Answering never waits for the network: it appends to the connection's outbox.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::client::consumer::session::{Answer, Origin, Session};
use crate::codec::command::Command;
use crate::codec::message::{MessageId, MessageRef};
use crate::flow::policy::{GiveUp, GiveUpHandler};

/// Where one message of a batch lies.
#[derive(Clone, Copy)]
struct Entry {
    timestamp_ns: i64,
    id: MessageId,
    attempts: u16,
    start: u32,
    end: u32,
}

impl Entry {
    fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Messages that one read of one connection brought, to be answered together or one by one.
///
/// Each message must be finished or given back; those of a batch that is dropped are given back at once, or after
/// [`crate::ConsumerConfig::panic_requeue_delay`] when the drop comes of a panic.
///
/// When the connection is lost meanwhile, answers are thrown away and counted
/// ([`crate::ConnectionStats::lost_answers`]): nsqd delivers the messages again once their msg-timeout has passed.
///
/// # Example
/// ```no_run
/// # fn work(batch: nsq_protocol::Batch) {
/// let good = batch.iter().all(|message| message.body.starts_with(b"{"));
/// if good {
///     batch.finish(); // one write for all of them
/// } else {
///     for message in batch.into_deliveries() {
///         match message.body().starts_with(b"{") {
///             true => message.finish(),
///             false => message.requeue(std::time::Duration::from_secs(10)),
///         }
///     }
/// }
/// # }
/// ```
pub struct Batch {
    /// Taken by the answer.
    entries: Vec<Entry>,
    bodies: Vec<u8>,
    session: Arc<Session>,
    origin: Origin,
}

/// Gathers the messages of one read.
pub(crate) struct BatchBuilder {
    entries: Vec<Entry>,
    bodies: Vec<u8>,
}

impl BatchBuilder {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), bodies: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn body_bytes(&self) -> usize {
        self.bodies.len()
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.bodies.clear();
    }

    pub(crate) fn first(&self) -> Option<MessageRef<'_>> {
        self.entries.first().map(|entry| message(entry, &self.bodies))
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = MessageId> {
        self.entries.iter().map(|entry| entry.id)
    }

    pub(crate) fn push(&mut self, message: MessageRef<'_>) {
        let start = self.bodies.len();
        self.bodies.extend_from_slice(message.body);
        let offset = |at: usize| u32::try_from(at).expect("batches are cut far below 4 GiB");
        self.entries.push(Entry {
            timestamp_ns: message.timestamp_ns,
            id: message.id,
            attempts: message.attempts,
            start: offset(start),
            end: offset(self.bodies.len()),
        });
    }

    /// The batch; the builder starts anew, with room for as much again.
    pub(crate) fn take(&mut self, session: Arc<Session>, origin: Origin) -> Batch {
        let (messages, bytes) = (self.entries.len(), self.bodies.len());
        Batch {
            entries: std::mem::replace(&mut self.entries, Vec::with_capacity(messages)),
            bodies: std::mem::replace(&mut self.bodies, Vec::with_capacity(bytes)),
            session,
            origin,
        }
    }
}

impl Batch {
    /// How many messages; at least one.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none; never so in a batch that was received.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The messages in the order in which they came.
    pub fn iter(&self) -> Messages<'_> {
        Messages { entries: self.entries.iter(), bodies: &self.bodies }
    }

    /// Bytes of all bodies.
    pub fn body_bytes(&self) -> usize {
        self.bodies.len()
    }

    /// The nsqd that the messages came from, as configured.
    pub fn nsqd(&self) -> &str {
        self.session.addr()
    }

    /// Whether the connection still stands, so that answers can reach nsqd.
    pub fn is_connected(&self) -> bool {
        self.session.is_connected()
    }

    /// FIN: all are done. One write takes them.
    pub fn finish(mut self) {
        let entries = std::mem::take(&mut self.entries);
        answer_all(&self.session, self.origin, &entries, Answer::Finish);
    }

    /// REQ, because they could not be handled: nsqd delivers all of them again after `delay`, in whole ms, rounded
    /// down; it clamps it to its `--max-req-timeout`, 1 h by default. The consumer backs off: see
    /// [`crate::ConsumerConfig::backoff_min`].
    pub fn requeue(mut self, delay: Duration) {
        let entries = std::mem::take(&mut self.entries);
        answer_all(&self.session, self.origin, &entries, failed(delay));
    }

    /// As [`Batch::requeue`], but the consumer goes on as it is.
    pub fn requeue_without_backoff(mut self, delay: Duration) {
        let entries = std::mem::take(&mut self.entries);
        answer_all(&self.session, self.origin, &entries, given_back(delay));
    }

    /// A worker has it now.
    pub(crate) fn taken(&self) {
        self.session.taken(self.entries.len() as u64);
    }

    /// Lets `handler` decide on the messages that were delivered more often than `max_attempts`, and finishes
    /// them without one. How many there were; the batch holds the others.
    pub(crate) fn give_up(&mut self, max_attempts: u16, handler: Option<&GiveUpHandler>) -> u64 {
        let (over, rest) =
            self.entries.iter().partition::<Vec<Entry>, _>(|entry| entry.attempts > max_attempts);
        if over.is_empty() {
            return 0;
        }
        self.entries = rest;
        for entry in &over {
            let entry_message = message(entry, &self.bodies);
            let decide = || handler.map_or(GiveUp::Finish, |handler| handler.call(entry_message));
            let answer = match catch_unwind(AssertUnwindSafe(decide)) {
                Ok(GiveUp::Finish) => Answer::Finish,
                Ok(GiveUp::Requeue(delay)) => given_back(delay),
                Err(_) => {
                    log::error!("the give-up handler panicked over message {}", entry.id);
                    failed(self.session.panic_requeue_delay())
                }
            };
            answer_all(&self.session, self.origin, std::slice::from_ref(entry), answer);
        }
        over.len() as u64
    }

    /// TOUCH: the msg-timeout of all of them starts again, up to nsqd's `--max-msg-timeout` in all.
    ///
    /// Left out, without a trace but in the statistics, while the connection has a MiB of touches unwritten.
    pub fn touch(&self) {
        touch(&self.session, &self.entries);
    }

    /// The messages one by one, to be answered each on its own. Those that the iterator still holds when it is
    /// dropped are given back.
    pub fn into_deliveries(mut self) -> impl ExactSizeIterator<Item = Delivery> {
        let entries = std::mem::take(&mut self.entries);
        let source = Arc::new(Source {
            bodies: std::mem::take(&mut self.bodies),
            session: self.session.clone(),
            origin: self.origin,
        });
        // Built at once, so that what is not iterated is requeued by its own drop.
        let deliveries: Vec<_> = entries
            .into_iter()
            .map(|entry| Delivery { entry, source: source.clone(), answered: false })
            .collect();
        deliveries.into_iter()
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = MessageRef<'a>;
    type IntoIter = Messages<'a>;

    fn into_iter(self) -> Messages<'a> {
        self.iter()
    }
}

/// The messages of a [`Batch`], in the order in which they came.
#[derive(Clone)]
pub struct Messages<'a> {
    entries: std::slice::Iter<'a, Entry>,
    bodies: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = MessageRef<'a>;

    fn next(&mut self) -> Option<MessageRef<'a>> {
        self.entries.next().map(|entry| message(entry, self.bodies))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl ExactSizeIterator for Messages<'_> {}

impl fmt::Debug for Messages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Messages({} left)", self.len())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if !self.entries.is_empty() {
            let entries = std::mem::take(&mut self.entries);
            answer_all(&self.session, self.origin, &entries, dropped(&self.session));
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).field("nsqd", &self.nsqd()).finish()
    }
}

/// What the deliveries of one batch share.
struct Source {
    bodies: Vec<u8>,
    session: Arc<Session>,
    origin: Origin,
}

/// One message, consumed by its answer.
///
/// Dropped unanswered it is given back, as a [`Batch`] is. It keeps the bodies of its whole batch in memory.
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
    /// What was published.
    pub fn body(&self) -> &[u8] {
        &self.source.bodies[self.entry.range()]
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
        message(&self.entry, &self.source.bodies)
    }

    /// The nsqd that it came from, as configured.
    pub fn nsqd(&self) -> &str {
        self.source.session.addr()
    }

    /// Whether the connection still stands, so that an answer can reach nsqd.
    pub fn is_connected(&self) -> bool {
        self.source.session.is_connected()
    }

    /// FIN: it is done.
    pub fn finish(mut self) {
        self.answer(Answer::Finish);
    }

    /// REQ, because it could not be handled: nsqd delivers it again after `delay`, and the consumer backs off; see
    /// [`Batch::requeue`].
    pub fn requeue(mut self, delay: Duration) {
        self.answer(failed(delay));
    }

    /// REQ: nsqd delivers it again after `delay`, and the consumer goes on as it is.
    pub fn requeue_without_backoff(mut self, delay: Duration) {
        self.answer(given_back(delay));
    }

    /// TOUCH: its msg-timeout starts again; see [`Batch::touch`].
    pub fn touch(&self) {
        touch(&self.source.session, std::slice::from_ref(&self.entry));
    }

    fn answer(&mut self, answer: Answer) {
        self.answered = true;
        let Source { session, origin, .. } = &*self.source;
        answer_all(session, *origin, std::slice::from_ref(&self.entry), answer);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.answered {
            self.answer(dropped(&self.source.session));
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

fn message<'a>(entry: &Entry, bodies: &'a [u8]) -> MessageRef<'a> {
    MessageRef {
        timestamp_ns: entry.timestamp_ns,
        attempts: entry.attempts,
        id: entry.id,
        body: &bodies[entry.range()],
    }
}

fn delay_ms(delay: Duration) -> u64 {
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
}

fn failed(delay: Duration) -> Answer {
    Answer::Requeue { delay_ms: delay_ms(delay), failure: true }
}

fn given_back(delay: Duration) -> Answer {
    Answer::Requeue { delay_ms: delay_ms(delay), failure: false }
}

/// What becomes of an unanswered message: only one whose handler panics has failed.
fn dropped(session: &Session) -> Answer {
    if std::thread::panicking() {
        failed(session.panic_requeue_delay())
    } else {
        given_back(Duration::ZERO)
    }
}

fn answer_all(session: &Session, origin: Origin, entries: &[Entry], answer: Answer) {
    let ids = entries.iter().map(|entry| entry.id);
    session.answer((entries.len() as u64, ids), origin, answer, |out| {
        for Entry { id, .. } in entries {
            match answer {
                Answer::Finish => Command::Fin(*id).encode(out),
                Answer::Requeue { delay_ms, .. } => Command::Req(*id, delay_ms).encode(out),
            }
        }
    });
}

fn touch(session: &Session, entries: &[Entry]) {
    session.touch(entries.len() as u64, |out| {
        entries.iter().for_each(|entry| Command::Touch(entry.id).encode(out));
    });
}
