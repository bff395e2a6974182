//! Where a user receives batches. Runs on the user's threads, which it makes wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::consumer::batch::Batch;
use crate::client::consumer::gathered::Gathered;
use crate::client::consumer::queue::{Bell, Nothing};
use crate::client::consumer::shared::Shared;
use crate::error::Error;
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

impl From<RecvTimeoutError> for Error {
    fn from(error: RecvTimeoutError) -> Self {
        match error {
            RecvTimeoutError::Timeout => Error::NoBatch,
            RecvTimeoutError::Stopped => Error::Stopped,
        }
    }
}

impl From<Nothing> for RecvTimeoutError {
    fn from(nothing: Nothing) -> Self {
        match nothing {
            Nothing::Ended => RecvTimeoutError::Stopped,
            Nothing::Late => RecvTimeoutError::Timeout,
        }
    }
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
        Ok(self.next_batch(Instant::now().checked_add(timeout))?)
    }

    /// Waits for the next messages, as [`Batches::recv`], and then gathers more, until `max` are together or `wait` has
    /// passed since the first of them: for a transaction of many, for example. `None` once the consumer is stopped and
    /// drained.
    ///
    /// What is beyond `max` stays for the next call, of whichever handle. With fewer than `max` in
    /// [`crate::ConsumerConfig::max_in_flight`] it returns as soon as nothing more can come. `max` of 0 is 1.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use nsq_protocol::{Batches, MessageRef};
    ///
    /// fn store(batches: &Batches, insert: impl Fn(&mut dyn Iterator<Item = MessageRef<'_>>) -> bool) {
    ///     while let Some(messages) = batches.recv_many(500, Duration::from_millis(200)) {
    ///         let is_stored = insert(&mut messages.iter());
    ///         match is_stored {
    ///             true => messages.finish(),
    ///             false => messages.requeue(Duration::from_secs(10)),
    ///         }
    ///     }
    /// }
    /// ```
    pub fn recv_many(&self, max: usize, wait: Duration) -> Option<Gathered> {
        let (max, flow) = (max.max(1), &self.shared.flow);
        flow.expect_gathered((max as u64).min(flow.max_in_flight()));
        let mut gathered = Gathered::default();
        let mut next = self.next_batch(None).ok();
        // A deadline past the end of time is none.
        let deadline = Instant::now().checked_add(wait);
        while let Some(mut batch) = next {
            if let Some(rest) = batch.split_off(max - gathered.len()) {
                self.shared.queue.put_back(rest);
            }
            gathered.push(batch);
            if gathered.len() >= max {
                break;
            }
            // What is queued already is taken in any case.
            let until = if flow.is_full() { Some(Instant::now()) } else { deadline };
            next = self.next_batch(until).ok();
        }
        (!gathered.is_empty()).then_some(gathered)
    }

    /// Has `bell` rung for each batch, or no more.
    pub(super) fn set_bell(&self, bell: &Arc<Bell>, is_set: bool) {
        match is_set {
            true => self.shared.queue.add_bell(bell),
            false => self.shared.queue.remove_bell(bell),
        }
    }

    /// Somebody begins or ends to wait for a batch beside those of others.
    pub(super) fn waits_elsewhere(&self, begins: bool) {
        self.shared.queue.waits_elsewhere(begins);
    }

    pub(super) fn next_batch(&self, deadline: Option<Instant>) -> Result<Batch, Nothing> {
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
