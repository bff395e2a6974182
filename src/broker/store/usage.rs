//! How much of the disk the logs take, and whether it works.

use std::sync::atomic::{AtomicU64, Ordering};

use nsq_protocol::TopicName;
use parking_lot::Mutex;

use crate::broker::core::LimitError;
use crate::journal::JournalError;

/// See the module.
pub(in crate::broker) struct DiskUsage {
    used: AtomicU64,
    max: u64,
    /// Why the last write has failed.
    failed: Mutex<Option<String>>,
}

impl DiskUsage {
    pub(super) fn new(max: u64) -> Self {
        Self { used: AtomicU64::new(0), max, failed: Mutex::default() }
    }

    /// Makes sure that there is room for `bytes` more.
    pub(super) fn check(&self, bytes: u64) -> Result<(), LimitError> {
        match self.used.load(Ordering::Relaxed) {
            used if used.saturating_add(bytes) > self.max => {
                Err(LimitError::DiskLimit { used, max: self.max })
            }
            _ => Ok(()),
        }
    }

    /// A log that took `before` bytes takes `after`.
    pub(super) fn replace(&self, before: u64, after: u64) {
        self.used.fetch_add(after, Ordering::Relaxed);
        self.used.fetch_sub(before, Ordering::Relaxed);
    }

    /// A log is gone.
    pub(super) fn give_back(&self, bytes: u64) {
        self.replace(bytes, 0);
    }

    /// Something was written.
    pub(super) fn works(&self) {
        let mut failed = self.failed.lock();
        if failed.take().is_some() {
            log::info!("broker: the disk takes messages again");
        }
    }

    /// Something could not be written: what to tell of it.
    pub(super) fn fails(&self, topic: &TopicName, error: JournalError) -> LimitError {
        let text = format!("topic {topic}: {:#}", anyhow::Error::from(error));
        let mut failed = self.failed.lock();
        if failed.replace(text.clone()).is_none() {
            log::error!("broker: {text}");
        }
        LimitError::Disk(text)
    }

    /// Why the last write has failed; `None`: it has not.
    pub(in crate::broker) fn failure(&self) -> Option<String> {
        self.failed.lock().clone()
    }
}
