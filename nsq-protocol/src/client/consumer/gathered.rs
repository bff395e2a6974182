//! Messages of several batches, gathered to be answered together. Runs on the workers' threads.

use std::fmt;
use std::time::Duration;

use crate::client::consumer::batch::Batch;
use crate::client::consumer::delivery::Delivery;
use crate::codec::message::MessageRef;

/// Messages from [`crate::Batches::recv_many`], of one or several nsqds, to be answered together or one by one.
///
/// Those of one that is dropped are given back, as of a [`Batch`].
///
/// # Example
/// ```
/// fn answer(messages: nsq_protocol::Gathered) {
///     println!("{} messages, {} bytes", messages.len(), messages.body_bytes());
///     messages.finish();
/// }
/// ```
#[derive(Default)]
pub struct Gathered {
    /// None of them empty.
    batches: Vec<Batch>,
}

impl Gathered {
    pub(super) fn push(&mut self, batch: Batch) {
        self.batches.push(batch);
    }

    /// How many messages; at least one, where it was received.
    pub fn len(&self) -> usize {
        self.batches.iter().map(Batch::len).sum()
    }

    /// Whether there is none; never so where it was received.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Bytes of all bodies.
    pub fn body_bytes(&self) -> usize {
        self.batches.iter().map(Batch::body_bytes).sum()
    }

    /// The messages in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = MessageRef<'_>> {
        self.batches.iter().flatten()
    }

    /// FIN: all are done.
    pub fn finish(self) {
        self.batches.into_iter().for_each(Batch::finish);
    }

    /// REQ for all, because they could not be handled; see [`Batch::requeue`].
    pub fn requeue(self, delay: Duration) {
        self.batches.into_iter().for_each(|batch| batch.requeue(delay));
    }

    /// As [`Gathered::requeue`], but the consumer goes on as it is.
    pub fn requeue_without_backoff(self, delay: Duration) {
        self.batches.into_iter().for_each(|batch| batch.requeue_without_backoff(delay));
    }

    /// TOUCH for all; see [`Batch::touch`].
    pub fn touch(&self) {
        self.batches.iter().for_each(Batch::touch);
    }

    /// The messages one by one, to be answered each on its own. Those that the iterator still holds when it is dropped are
    /// given back.
    pub fn into_deliveries(self) -> impl Iterator<Item = Delivery> {
        self.batches.into_iter().flat_map(Batch::into_deliveries)
    }
}

impl fmt::Debug for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gathered({} messages in {} batches)", self.len(), self.batches.len())
    }
}
