//! Waits for the batches of several consumers. Runs on the user's threads, which it makes wait.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::consumer::batch::Batch;
use crate::client::consumer::batches::{Batches, RecvTimeoutError};
use crate::client::consumer::queue::{Bell, Nothing};

/// Receives from several consumers on one thread, in turns: none waits because another has always something.
///
/// # Example
/// ```
/// use nsq_protocol::{Consumer, Select};
///
/// fn work(plays: &Consumer, likes: &Consumer) {
///     let mut select = Select::new([plays.batches(), likes.batches()]);
///     while let Some((index, batch)) = select.recv() {
///         println!("{} {}", batch.len(), ["plays", "likes"][index]);
///         batch.finish();
///     }
///     // Both are stopped and drained.
/// }
/// ```
pub struct Select {
    /// None once it is stopped and drained.
    consumers: Vec<Option<Batches>>,
    bell: Arc<Bell>,
    /// Whose turn it is.
    next: usize,
}

impl Select {
    /// From all of these.
    pub fn new(batches: impl IntoIterator<Item = Batches>) -> Self {
        let bell = Arc::default();
        let consumers: Vec<_> = batches.into_iter().map(Some).collect();
        consumers.iter().flatten().for_each(|of| of.set_bell(&bell, true));
        Self { consumers, bell, next: 0 }
    }

    /// Waits for a batch of any of them: whose, as an index of what [`Select::new`] was given, and the batch. `None` once
    /// all are stopped and drained.
    pub fn recv(&mut self) -> Option<(usize, Batch)> {
        self.next_batch(None).ok()
    }

    /// As [`Select::recv`], at most `timeout`.
    ///
    /// # Errors
    /// [`RecvTimeoutError`]: none came in time, or all are stopped and drained.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<(usize, Batch), RecvTimeoutError> {
        // A deadline past the end of time is none.
        self.next_batch(Instant::now().checked_add(timeout))
    }

    fn next_batch(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<(usize, Batch), RecvTimeoutError> {
        loop {
            for step in 0..self.consumers.len() {
                let index = (self.next + step) % self.consumers.len();
                let Some(batches) = &self.consumers[index] else { continue };
                match batches.next_batch(Some(Instant::now())) {
                    Ok(batch) => {
                        self.next = index + 1;
                        return Ok((index, batch));
                    }
                    Err(Nothing::Late) => {}
                    Err(Nothing::Ended) => {
                        batches.set_bell(&self.bell, false);
                        self.consumers[index] = None;
                    }
                }
            }
            if self.consumers.iter().all(Option::is_none) {
                return Err(RecvTimeoutError::Stopped);
            }
            if !self.wait(deadline) {
                return Err(RecvTimeoutError::Timeout);
            }
        }
    }

    /// Waits for the bell, which has rung since if anything came behind the look at it.
    fn wait(&self, deadline: Option<Instant>) -> bool {
        let consumers = || self.consumers.iter().flatten();
        consumers().for_each(|of| of.waits_elsewhere(true));
        let rung = self.bell.wait(deadline);
        consumers().for_each(|of| of.waits_elsewhere(false));
        rung
    }
}

impl Drop for Select {
    fn drop(&mut self) {
        self.consumers.iter().flatten().for_each(|of| of.set_bell(&self.bell, false));
    }
}

impl fmt::Debug for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Select").field(&self.consumers).finish()
    }
}
