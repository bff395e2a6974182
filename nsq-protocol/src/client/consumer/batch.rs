//! Messages in the hands of a worker, answered together or taken apart. Runs on the workers' threads; answering never
//! waits for the network.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::client::consumer::delivery::Delivery;
use crate::client::consumer::origin::{Origin, Stamp};
use crate::client::consumer::session::Answer;
use crate::client::consumer::source::{Entry, Source};
use crate::codec::message::{MessageId, MessageRef};

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
    /// A message of it came without all of its body.
    has_oversized: bool,
    origin: Arc<Origin>,
    stamp: Stamp,
}

/// Gathers the messages of one read.
pub(crate) struct BatchBuilder {
    entries: Vec<Entry>,
    bodies: Vec<u8>,
    has_oversized: bool,
}

impl BatchBuilder {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), bodies: Vec::new(), has_oversized: false }
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
        self.has_oversized = false;
    }

    pub(crate) fn first(&self) -> Option<MessageRef<'_>> {
        self.entries.first().map(|entry| entry.message(&self.bodies))
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = MessageId> {
        self.entries.iter().map(|entry| entry.id)
    }

    pub(crate) fn push(&mut self, message: MessageRef<'_>) {
        let start = self.bodies.len();
        self.bodies.extend_from_slice(message.body);
        self.has_oversized |= !message.is_whole();
        let offset = |at: usize| u32::try_from(at).expect("batches are cut far below 4 GiB");
        self.entries.push(Entry {
            timestamp_ns: message.timestamp_ns,
            id: message.id,
            attempts: message.attempts,
            start: offset(start),
            end: offset(self.bodies.len()),
            skipped: offset(message.skipped),
        });
    }

    /// The batch; the builder starts anew, with room for as much again and some more: reads differ.
    pub(crate) fn take(&mut self, origin: Arc<Origin>, stamp: Stamp) -> Batch {
        let (messages, bytes) = (self.entries.len(), self.bodies.len());
        Batch {
            entries: std::mem::replace(&mut self.entries, room_for(messages)),
            bodies: std::mem::replace(&mut self.bodies, room_for(bytes)),
            has_oversized: std::mem::take(&mut self.has_oversized),
            origin,
            stamp,
        }
    }
}

/// Room for so many, and at most for twice as many.
fn room_for<T>(count: usize) -> Vec<T> {
    Vec::with_capacity(count.next_power_of_two())
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
        self.origin.session.addr()
    }

    /// Whether the connection still stands, so that answers can reach nsqd.
    pub fn is_connected(&self) -> bool {
        self.origin.session.is_connected()
    }

    /// FIN: all are done. One write takes them.
    pub fn finish(mut self) {
        self.answer(Answer::Finish);
    }

    /// REQ, because they could not be handled: nsqd delivers all of them again after `delay`, in whole ms, rounded
    /// down; it clamps it to its `--max-req-timeout`, 1 h by default. The consumer backs off: see
    /// [`crate::ConsumerConfig::backoff_min`].
    pub fn requeue(mut self, delay: Duration) {
        self.answer(Answer::failed(delay));
    }

    /// As [`Batch::requeue`], but the consumer goes on as it is.
    pub fn requeue_without_backoff(mut self, delay: Duration) {
        self.answer(Answer::given_back(delay));
    }

    /// Answers what is held of it; nothing is then.
    fn answer(&mut self, answer: Answer) {
        let entries = std::mem::take(&mut self.entries);
        self.origin.answer(self.stamp, entries.iter().map(|entry| entry.id), answer);
    }

    /// A worker has it now.
    pub(crate) fn taken(&self) {
        self.origin.session.taken(self.entries.len() as u64);
    }

    /// Takes out the messages that were delivered more often than `max_attempts`; the batch holds the others.
    pub(super) fn take_over_limit(&mut self, max_attempts: u16) -> Option<Arc<Source>> {
        let over = self.take_out(|entry| entry.attempts > max_attempts);
        if over.is_empty() {
            return None;
        }
        Some(Source::new(over, self.bodies.clone(), self.origin.clone(), self.stamp))
    }

    /// Gives back, for `delay`, the messages that came without all of their body; the batch holds the others.
    pub(crate) fn requeue_oversized(&mut self, delay: Duration) {
        if !self.has_oversized {
            return;
        }
        for entry in self.take_out(|entry| entry.skipped > 0) {
            let len = entry.message(&self.bodies).full_len();
            log::warn!(
                "message {} of nsqd {} has {len} bytes, more than max_msg_size: given back for {delay:?}",
                entry.id,
                self.nsqd(),
            );
            self.origin.answer(self.stamp, std::iter::once(entry.id), Answer::given_back(delay));
        }
    }

    /// Leaves the first `count` messages, and returns the others, if there are any.
    pub(super) fn split_off(&mut self, count: usize) -> Option<Self> {
        if count >= self.entries.len() {
            return None;
        }
        let mut entries = self.entries.split_off(count);
        let start = entries.first().map_or(0, |entry| entry.start);
        let bodies = self.bodies.split_off(start as usize);
        for entry in &mut entries {
            (entry.start, entry.end) = (entry.start - start, entry.end - start);
        }
        let (origin, stamp) = (self.origin.clone(), self.stamp);
        // No worker has them any more.
        origin.session.put_back(entries.len() as u64);
        Some(Self { entries, bodies, has_oversized: self.has_oversized, origin, stamp })
    }

    /// Takes out the messages for which `is_meant` holds.
    fn take_out(&mut self, is_meant: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        if !self.entries.iter().any(&is_meant) {
            return Vec::new();
        }
        let entries = std::mem::take(&mut self.entries);
        let (meant, rest) = entries.into_iter().partition(is_meant);
        self.entries = rest;
        meant
    }

    /// TOUCH: the msg-timeout of all of them starts again, up to nsqd's `--max-msg-timeout` in all.
    ///
    /// Left out, without a trace but in the statistics, while the connection has a MiB of touches unwritten.
    pub fn touch(&self) {
        self.origin.touch(self.entries.iter().map(|entry| entry.id));
    }

    /// The messages one by one, to be answered each on its own. Those that the iterator still holds when it is
    /// dropped are given back.
    pub fn into_deliveries(self) -> impl ExactSizeIterator<Item = Delivery> {
        // Built at once, so that what is not iterated is requeued by its own drop.
        Delivery::rest_of(&self.take_apart()).into_iter()
    }

    /// Its messages, to be handed out one by one.
    pub(super) fn take_apart(mut self) -> Arc<Source> {
        let (entries, bodies) =
            (std::mem::take(&mut self.entries), std::mem::take(&mut self.bodies));
        Source::new(entries, bodies, self.origin.clone(), self.stamp)
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
///
/// # Example
/// ```
/// /// Bytes of those that were delivered before.
/// fn repeated(batch: &nsq_protocol::Batch) -> usize {
///     let repeats = batch.iter().filter(|message| message.attempts > 1);
///     repeats.map(|message| message.body.len()).sum()
/// }
/// ```
#[derive(Clone)]
pub struct Messages<'a> {
    entries: std::slice::Iter<'a, Entry>,
    bodies: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = MessageRef<'a>;

    fn next(&mut self) -> Option<MessageRef<'a>> {
        self.entries.next().map(|entry| entry.message(self.bodies))
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
            self.answer(self.origin.answer_to_dropped());
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).field("nsqd", &self.nsqd()).finish()
    }
}
