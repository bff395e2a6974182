//! A batch taken apart: its messages are handed out one by one, to whichever worker is free, and each is answered once,
//! by who holds it or by the stop that could not wait for that. Any thread.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use crate::client::consumer::counts::add;
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

/// How far a message's answer is. Somebody holds it, or nobody has taken it:
const OPEN: u8 = 0;
/// Its handler has dropped it, and will answer it by what it returns.
const DROPPED: u8 = 1;
/// Its handler has returned, and somebody else holds it.
const LEFT: u8 = 2;
/// It has its answer.
const ANSWERED: u8 = 3;

/// The messages of one batch.
pub(super) struct Source {
    entries: Vec<Entry>,
    bodies: Vec<u8>,
    pub(super) origin: Arc<Origin>,
    stamp: Stamp,
    /// The first message that nobody has taken; the number of messages, or more, when all are.
    next: AtomicUsize,
    /// Of each message, how far its answer is.
    answers: Vec<AtomicU8>,
}

/// A message that its handler had not answered when a [`crate::RunningConsumer`] had to stop.
///
/// # Example
/// ```
/// fn report(of: &nsq_protocol::UnansweredMessage) {
///     let next = if of.requeued { "at once" } else { "after its msg-timeout" };
///     eprintln!("message {} of {} is delivered again {next}", of.id, of.nsqd);
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnansweredMessage {
    /// What nsqd calls it.
    pub id: MessageId,
    /// The nsqd that it came from, as configured or found.
    pub nsqd: String,
    /// Deliveries so far, the present one included.
    pub attempts: u16,
    /// Whether it was given back (REQ). If not, its connection was lost, and nsqd delivers it again after its
    /// msg-timeout.
    pub requeued: bool,
}

impl Source {
    pub(super) fn new(
        entries: Vec<Entry>,
        bodies: Vec<u8>,
        origin: Arc<Origin>,
        stamp: Stamp,
    ) -> Arc<Self> {
        let answers = entries.iter().map(|_| AtomicU8::new(OPEN)).collect();
        let next = AtomicUsize::new(0);
        Arc::new(Self { entries, bodies, origin, stamp, next, answers })
    }

    pub(super) fn entry(&self, index: usize) -> &Entry {
        &self.entries[index]
    }

    pub(super) fn message(&self, index: usize) -> MessageRef<'_> {
        self.entries[index].message(&self.bodies)
    }

    /// Messages that nobody has taken.
    pub(super) fn left(&self) -> usize {
        self.entries.len().saturating_sub(self.next.load(Ordering::SeqCst))
    }

    /// The next message that nobody has taken.
    pub(super) fn take(&self) -> Option<usize> {
        // Looked at first, so that the counter cannot wrap around.
        if self.left() == 0 {
            return None;
        }
        let index = self.next.fetch_add(1, Ordering::SeqCst);
        (index < self.entries.len()).then_some(index)
    }

    /// All messages that nobody has taken.
    pub(super) fn take_rest(&self) -> Range<usize> {
        let all = self.entries.len();
        self.next.swap(all, Ordering::SeqCst).min(all)..all
    }

    /// Gives back, at once, what nobody has taken.
    pub(super) fn give_back_rest(&self) {
        let rest = self.take_rest();
        if rest.is_empty() {
            return;
        }
        self.answers[rest.clone()].iter().for_each(|of| of.store(ANSWERED, Ordering::SeqCst));
        let ids = self.entries[rest].iter().map(|entry| entry.id);
        self.origin.answer(self.stamp, ids, Answer::given_back(Duration::ZERO));
    }

    /// Gives back what was taken and is not answered: which messages that were.
    pub(super) fn give_back_taken(&self) -> Vec<UnansweredMessage> {
        let mut unanswered = Vec::new();
        for (entry, answer) in self.entries.iter().zip(&self.answers) {
            if answer.swap(ANSWERED, Ordering::SeqCst) == ANSWERED {
                continue;
            }
            let requeue = Answer::given_back(Duration::ZERO);
            unanswered.push(UnansweredMessage {
                id: entry.id,
                nsqd: self.origin.session.addr().to_owned(),
                attempts: entry.attempts,
                requeued: self.origin.answer(self.stamp, std::iter::once(entry.id), requeue),
            });
        }
        unanswered
    }

    /// Answers a message, unless a stop has done so.
    pub(super) fn answer(&self, index: usize, answer: Answer) {
        if self.answers[index].swap(ANSWERED, Ordering::SeqCst) == ANSWERED {
            add(&self.origin.link.counts.lost_answers, 1);
        } else {
            self.origin.answer(self.stamp, std::iter::once(self.entries[index].id), answer);
        }
    }

    pub(super) fn is_answered(&self, index: usize) -> bool {
        self.answers[index].load(Ordering::SeqCst) == ANSWERED
    }

    /// Leaves a message that its handler drops to what that returns; false when it has returned, or a stop has answered.
    pub(super) fn leave_to_result(&self, index: usize) -> bool {
        self.change(index, OPEN, DROPPED)
    }

    /// The handler has returned: whether it dropped the message unanswered. If not, whoever holds it answers it.
    pub(super) fn take_back(&self, index: usize) -> bool {
        !self.change(index, OPEN, LEFT) && self.change(index, DROPPED, OPEN)
    }

    fn change(&self, index: usize, from: u8, to: u8) -> bool {
        let order = Ordering::SeqCst;
        self.answers[index].compare_exchange(from, to, order, order).is_ok()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.give_back_rest();
    }
}
