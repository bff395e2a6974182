//! Where a user receives batches. Runs on the user's threads, which it makes wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::consumer::batch::Batch;
use crate::client::consumer::queue::Nothing;
use crate::client::consumer::shared::Shared;
use crate::flow::policy::Oversized;

/// Where batches are received. Cheap to clone; each batch goes to one of the handles.
///
/// As an iterator it waits for the next batch, and ends once the consumer is stopped and drained.
///
/// # Example
/// ```no_run
/// # fn work(consumer: &nsq_protocol::Consumer) {
/// std::thread::scope(|scope| {
///     for _ in 0..4 {
///         let batches = consumer.batches();
///         scope.spawn(|| batches.for_each(|batch| batch.finish()));
///     }
/// });
/// # }
/// ```
pub struct Batches {
    shared: Arc<Shared>,
}

/// Why [`Batches::recv_timeout`] has no batch.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use nsq_protocol::{Batches, RecvTimeoutError};
///
/// fn work(batches: &Batches) {
///     loop {
///         match batches.recv_timeout(Duration::from_secs(1)) {
///             Ok(batch) => batch.finish(),
///             Err(RecvTimeoutError::Timeout) => println!("nothing to do"),
///             Err(RecvTimeoutError::Stopped) => return,
///         }
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvTimeoutError {
    /// None came in time.
    #[error("no batch came in time")]
    Timeout,
    /// The consumer is stopped and drained: none will come.
    #[error("the consumer is stopped")]
    Stopped,
}

impl Batches {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.queue.add_receiver();
        Self { shared }
    }

    /// Waits for the next batch; `None` once the consumer is stopped and drained.
    pub fn recv(&self) -> Option<Batch> {
        self.next_batch(None).ok()
    }

    /// Waits for the next batch, at most `timeout`.
    ///
    /// # Errors
    /// [`RecvTimeoutError`] says which of the two it was.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Batch, RecvTimeoutError> {
        // A deadline past the end of time is none.
        self.next_batch(Instant::now().checked_add(timeout)).map_err(|nothing| match nothing {
            Nothing::Ended => RecvTimeoutError::Stopped,
            Nothing::Late => RecvTimeoutError::Timeout,
        })
    }

    fn next_batch(&self, deadline: Option<Instant>) -> Result<Batch, Nothing> {
        let config = &self.shared.config;
        loop {
            let mut batch = self.shared.queue.recv(deadline)?;
            batch.taken();
            if config.max_attempts > 0 {
                let over = batch.take_over_limit(config.max_attempts);
                over.into_iter().for_each(|over| self.shared.give_up_all(&over));
            }
            if let Oversized::Requeue(delay) = config.oversized {
                batch.requeue_oversized(delay);
            }
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
    }

    /// A batch that is there already.
    pub fn try_recv(&self) -> Option<Batch> {
        self.recv_timeout(Duration::ZERO).ok()
    }
}

impl Iterator for Batches {
    type Item = Batch;
    fn next(&mut self) -> Option<Batch> {
        self.recv()
    }
}

impl Clone for Batches {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        if self.shared.queue.remove_receiver() {
            self.shared.requeue_queued();
        }
    }
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batches({} queued)", self.shared.queue.len())
    }
}
