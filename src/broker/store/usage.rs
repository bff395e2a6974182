//! How much of the disk the logs take, and whether it works.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use nsq_protocol::TopicName;
use parking_lot::Mutex;

use crate::broker::core::LimitError;
use crate::journal::JournalError;

/// See the module.
pub(in crate::broker) struct DiskUsage {
    used: AtomicU64,
    max: u64,
    /// Why the last write for a topic has failed, where it has.
    failed: Mutex<BTreeMap<TopicName, String>>,
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

    /// Whether three quarters are used: what is finished is to be looked for then, also where nothing happens.
    pub(super) fn is_tight(&self) -> bool {
        self.used.load(Ordering::Relaxed) / 3 >= self.max / 4
    }

    /// A log that took `before` bytes takes `after`.
    pub(super) fn replace(&self, before: u64, after: u64) {
        self.used.fetch_add(after, Ordering::Relaxed);
        self.used.fetch_sub(before, Ordering::Relaxed);
    }

    /// A topic and its log are gone, with so many bytes.
    pub(super) fn give_back(&self, topic: &TopicName, bytes: u64) {
        self.replace(bytes, 0);
        self.failed.lock().remove(topic);
    }

    /// Something was written for the topic.
    pub(super) fn works(&self, topic: &TopicName) {
        let mut failed = self.failed.lock();
        if failed.remove(topic).is_some() {
            log::info!("broker: topic {topic}: the disk takes messages again");
        }
    }

    /// Something could not be written: what to tell of it.
    pub(super) fn fails(&self, topic: &TopicName, error: JournalError) -> LimitError {
        let text = format!("topic {topic}: {:#}", anyhow::Error::from(error));
        let mut failed = self.failed.lock();
        // A full disk is full for all.
        if failed.is_empty() {
            log::error!("broker: {text}");
        }
        failed.insert(*topic, text.clone());
        LimitError::Disk(text)
    }

    /// Why the last write for a topic has failed; `None`: none has.
    pub(in crate::broker) fn failure(&self) -> Option<String> {
        self.failed.lock().values().next().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_topic_says_nothing_of_another() {
        let usage = DiskUsage::new(100);
        let [a, b] = ["a", "b"].map(|name| TopicName::new(name).unwrap());
        let error = || JournalError::Io {
            file: "1".into(),
            act: "written",
            source: std::io::ErrorKind::StorageFull.into(),
        };
        usage.fails(&a, error());
        usage.works(&b);
        assert!(usage.failure().unwrap().starts_with("topic a: "));
        usage.fails(&b, error());
        usage.works(&a);
        assert!(usage.failure().unwrap().starts_with("topic b: "));
        usage.give_back(&b, 0);
        assert_eq!(usage.failure(), None);
    }

    #[test]
    fn three_quarters_are_tight() {
        for (used, max, want) in
            [(74, 100, false), (75, 100, true), (u64::MAX / 2, u64::MAX, false)]
        {
            let usage = DiskUsage::new(max);
            usage.replace(0, used);
            assert_eq!(usage.is_tight(), want, "{used} of {max}");
        }
    }
}
