//! Message bodies as the broker keeps them: one buffer for each PUB or MPUB, shared by all queues (pure).
//!
//! ```text
//! | size, u32 big-endian | body … | size | body … |      a batch: an MPUB as it came, without the count
//! ```
//!
//! A queue does not hold messages but runs of them: an MPUB of 200 is one [`MessageRun`] in each channel, whatever
//! its count. A buffer is freed when the last message in it is done, everywhere.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nsq_protocol::Bodies;

/// What a batch costs besides its bytes: its struct and what the allocator adds.
pub(super) const BATCH_OVERHEAD: usize = 112;

/// Bytes in front of each body.
const SIZE: usize = 4;

/// Bodies on their way in: copied, not yet numbered.
pub(crate) struct NewBatch {
    wire: Box<[u8]>,
    count: u32,
}

impl NewBatch {
    /// The one body of a PUB.
    pub(crate) fn one(body: &[u8]) -> Self {
        let size = u32::try_from(body.len()).expect("a body in memory, far below 4 GiB");
        let mut wire = Vec::with_capacity(SIZE + body.len());
        wire.extend_from_slice(&size.to_be_bytes());
        wire.extend_from_slice(body);
        Self { wire: wire.into(), count: 1 }
    }

    /// The bodies of an MPUB.
    pub(crate) fn many(bodies: Bodies<'_>) -> Self {
        let count = u32::try_from(bodies.len()).expect("counted in 32 bits on the wire");
        Self { wire: bodies.wire().into(), count }
    }

    /// Bodies as they lie in memory, each behind its size; there must be `count`, and nothing else.
    pub(crate) fn read(wire: &[u8], count: u32) -> Self {
        Self { wire: wire.into(), count }
    }

    /// The bodies as they lie in memory, each behind its size.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// How many messages.
    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }

    /// Bytes of the bodies alone.
    pub(crate) fn body_bytes(&self) -> usize {
        self.wire.len() - SIZE * self.len()
    }

    /// What keeping it will cost.
    pub(crate) fn cost(&self) -> usize {
        self.wire.len() + BATCH_OVERHEAD
    }

    /// Numbers the messages from `first_id` on and charges `used` until the last of them is gone.
    pub(crate) fn number(
        self,
        first_id: u64,
        timestamp_ns: i64,
        used: &Arc<AtomicUsize>,
    ) -> MessageRun {
        let charge = self.cost();
        used.fetch_add(charge, Ordering::Relaxed);
        let batch = MessageBatch { wire: self.wire, timestamp_ns, charge, used: Arc::clone(used) };
        MessageRun {
            batch: Arc::new(batch),
            next_id: first_id,
            at: 0,
            left: self.count,
            attempts: 0,
        }
    }
}

/// The bodies of one PUB or MPUB.
#[derive(Debug)]
pub(crate) struct MessageBatch {
    wire: Box<[u8]>,
    /// When it was published, for all of them.
    pub(crate) timestamp_ns: i64,
    charge: usize,
    /// Where the charge goes back to. Atomic because a connection may drop the last reference outside the
    /// core's lock.
    used: Arc<AtomicUsize>,
}

impl MessageBatch {
    /// Where the body lies whose size field is at `at`.
    fn body_at(&self, at: u32) -> Range<usize> {
        let at = at as usize;
        let size = self.wire[at..].first_chunk::<SIZE>().expect("a run stays within its batch");
        at + SIZE..at + SIZE + u32::from_be_bytes(*size) as usize
    }
}

impl Drop for MessageBatch {
    fn drop(&mut self) {
        self.used.fetch_sub(self.charge, Ordering::Relaxed);
    }
}

/// Messages that lie one behind the other in one batch and have been delivered equally often.
#[derive(Clone, Debug)]
pub(crate) struct MessageRun {
    pub(crate) batch: Arc<MessageBatch>,
    /// The first message's ID; the others count on from it.
    pub(crate) next_id: u64,
    /// Where the first one's size field lies.
    pub(crate) at: u32,
    /// How many messages.
    pub(crate) left: u32,
    /// Deliveries so far.
    pub(crate) attempts: u16,
}

impl MessageRun {
    /// Bytes of the first body. The run must not be empty.
    pub(crate) fn first_len(&self) -> usize {
        self.batch.body_at(self.at).len()
    }

    /// Goes past the first message. The run must not be empty.
    pub(crate) fn advance(&mut self) {
        self.at = u32::try_from(self.batch.body_at(self.at).end).expect("batches are below 4 GiB");
        self.next_id += 1;
        self.left -= 1;
    }

    /// `len` messages from the n-th on; it must have as many.
    pub(crate) fn slice(&self, n: u32, len: u32) -> MessageRun {
        let mut part = self.clone();
        (0..n).for_each(|_| part.advance());
        part.left = len;
        part
    }

    /// Takes the first `max` messages, or all if there are fewer, off the front.
    pub(crate) fn split_front(&mut self, max: u32) -> MessageRun {
        let front = MessageRun { left: self.left.min(max), ..self.clone() };
        (0..front.left).for_each(|_| self.advance());
        front
    }

    /// IDs and bodies in order.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut at = self.at;
        (0..u64::from(self.left)).map(move |index| {
            let range = self.batch.body_at(at);
            at = u32::try_from(range.end).expect("batches are below 4 GiB");
            (self.next_id + index, &self.batch.wire[range])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nsq_protocol::BodiesBuf;

    #[test]
    fn a_batch_is_charged_until_its_last_message_is_gone() {
        let used = Arc::new(AtomicUsize::new(0));
        let mut bodies = BodiesBuf::new();
        bodies.push(b"a");
        bodies.push(b"bcd");
        let batch = NewBatch::many(bodies.as_bodies());
        assert_eq!((batch.len(), batch.body_bytes()), (2, 4));
        let mut run = batch.number(7, 1, &used);
        let first = run.split_front(1);
        assert_eq!(first.messages().collect::<Vec<_>>(), [(7, &b"a"[..])]);
        assert_eq!(run.messages().collect::<Vec<_>>(), [(8, &b"bcd"[..])]);
        drop(run);
        assert_eq!(used.load(Ordering::Relaxed), 12 + BATCH_OVERHEAD);
        drop(first);
        assert_eq!(used.load(Ordering::Relaxed), 0);
    }
}
