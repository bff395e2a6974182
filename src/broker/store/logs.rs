//! The logs of all topics, in the directory of `--data-path`.
//!
//! ```text
//! DIRECTORY/broker.lock      one broker at a time
//! DIRECTORY/topic-NAME/      the journal of a topic
//! DIRECTORY/deleted-ID/      one that is being deleted
//! ```

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use anyhow::{Context, Result, bail};
use nsq_protocol::TopicName;
use nsq_protocol::thread::Crew;
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use super::open::{LogConfig, open};
use super::topic_log::TopicLog;
use super::usage::DiskUsage;
use crate::broker::config::BrokerConfig;
use crate::broker::core::{LimitError, SavedTopic};
use crate::journal::{JournalError, SEGMENT_BYTES};
use crate::storage::boot::boot_id;
use crate::storage::data_dir::{BROKER, DataDir, Lock};
use crate::storage::{directory, failpoint};

/// What begins the name of a topic's directory.
const TOPIC: &str = "topic-";

/// What begins the name of one that is being deleted.
const DELETED: &str = "deleted-";

/// The largest segment, as a journal reads it.
const SEGMENT_MAX: usize = 1 << 30;

/// Logs that are opened at one time, each with a segment in memory: at most 16 MiB, mostly much less.
const OPENED_AT_ONCE: usize = 8;

/// See the module.
pub(in crate::broker) struct TopicLogs {
    path: PathBuf,
    config: LogConfig,
    logs: RwLock<HashMap<TopicName, Arc<TopicLog>>>,
    /// Held while a topic is made or deleted.
    making: Mutex<()>,
    body_bytes: Arc<AtomicUsize>,
    usage: Arc<DiskUsage>,
    _lock: Lock,
}

impl TopicLogs {
    /// Opens the directory, made if it is missing, and all logs in it; `each` gets what they tell of their topics.
    ///
    /// # Errors
    /// In one line, with the way out: it cannot be used, another broker uses it, or what is in it is damaged.
    pub(in crate::broker) fn open(
        path: &Path,
        config: &BrokerConfig,
        body_bytes: Arc<AtomicUsize>,
        mut each: impl FnMut(&SavedTopic),
    ) -> Result<Arc<Self>> {
        let dir = DataDir::open_by(path, "--data-path")?;
        let lock = dir.lock(BROKER)?;
        let largest = config.max_body_size.max(config.max_msg_size);
        let segment_bytes = failpoint::limit("PLAYCOUNTS_TOPIC_SEGMENT", SEGMENT_BYTES as usize);
        // Any MPUB fits in, with all that is said of it: one of lines of a byte takes two and a half times the body.
        let segment_bytes = segment_bytes.max(largest.saturating_mul(3));
        if segment_bytes > SEGMENT_MAX {
            bail!(
                "with --data-path a body can have at most {} bytes; give a lower --max-body-size and --max-msg-size",
                SEGMENT_MAX / 3
            );
        }
        let logs = Self {
            path: path.to_owned(),
            config: LogConfig {
                sync: config.durability.into(),
                segment_bytes: segment_bytes.next_multiple_of(4096) as u64,
                sync_every: config.sync_every,
                boot: boot_id(),
            },
            logs: RwLock::default(),
            making: Mutex::default(),
            body_bytes,
            usage: Arc::new(DiskUsage::new(config.max_disk)),
            _lock: lock,
        };
        let logs = Arc::new(logs);
        for saved in logs.open_all(logs.found()?)? {
            each(&saved);
        }
        Ok(logs)
    }

    /// Opens the logs of these topics, several at a time: each waits for the disk some times.
    fn open_all(self: &Arc<Self>, names: Vec<TopicName>) -> Result<Vec<SavedTopic>> {
        let threads = names.len().min(OPENED_AT_ONCE);
        let names = Arc::new(Mutex::new(names));
        let left = Arc::clone(&names);
        let mut crew: Crew<Result<Vec<SavedTopic>>> = Crew::new(move || left.lock().clear());
        for nth in 1..=threads {
            let (logs, names) = (Arc::clone(self), Arc::clone(&names));
            let open_some = move || {
                let next = || names.lock().pop();
                std::iter::from_fn(next).map(|name| logs.open_one(name)).collect()
            };
            crew.spawn(&format!("broker-open-{nth}"), open_some)
                .context("cannot start the broker")?;
        }
        let mut all: Vec<SavedTopic> = Vec::new();
        for opened in crew.join() {
            all.extend(opened?);
        }
        all.sort_unstable_by_key(|saved| saved.name);
        Ok(all)
    }

    /// The topics that have a directory; removes what was being deleted.
    fn found(&self) -> Result<Vec<TopicName>> {
        let shown = self.path.display();
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).with_context(|| format!("cannot read {shown}"))? {
            let entry = entry.with_context(|| format!("cannot read {shown}"))?;
            let file = entry.file_name();
            let Some(file) = file.to_str() else { continue };
            if file.starts_with(DELETED) {
                fs::remove_dir_all(entry.path())
                    .with_context(|| format!("cannot remove {}", entry.path().display()))?;
            } else if let Some(name) = file.strip_prefix(TOPIC) {
                names.extend(TopicName::new(name).ok());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open_one(&self, name: TopicName) -> Result<SavedTopic> {
        let directory = self.directory(&name);
        let (body_bytes, usage) = (Arc::clone(&self.body_bytes), Arc::clone(&self.usage));
        let (log, saved) = open(&directory, name, self.config, body_bytes, usage)?;
        self.logs.write().insert(name, Arc::new(log));
        Ok(saved)
    }

    fn directory(&self, name: &TopicName) -> PathBuf {
        self.path.join(format!("{TOPIC}{name}"))
    }

    /// The log of a topic, if there is one.
    pub(in crate::broker) fn get(&self, name: &TopicName) -> Option<Arc<TopicLog>> {
        self.logs.read().get(name).map(Arc::clone)
    }

    /// All logs.
    pub(super) fn all(&self) -> Vec<Arc<TopicLog>> {
        self.logs.read().values().map(Arc::clone).collect()
    }

    /// The log of a topic; where there is none it is made, after `create` has made the topic.
    ///
    /// # Errors
    /// That of `create`, or the operating system's.
    pub(in crate::broker) fn get_or_make(
        &self,
        name: &TopicName,
        create: impl FnOnce() -> Result<(), LimitError>,
    ) -> Result<Arc<TopicLog>, LimitError> {
        if let Some(log) = self.get(name) {
            return Ok(log);
        }
        let _making = self.making.lock();
        if let Some(log) = self.get(name) {
            return Ok(log);
        }
        create()?;
        self.open_one(*name).map_err(|error| LimitError::Disk(format!("{error:#}")))?;
        self.get(name).ok_or(LimitError::Gone)
    }

    /// Deletes a topic with its log, by `delete`.
    ///
    /// # Errors
    /// The topic is there as before: its directory cannot be renamed.
    pub(in crate::broker) fn delete<R>(
        &self,
        name: &TopicName,
        delete: impl FnOnce() -> R,
    ) -> Result<R, LimitError> {
        let _making = self.making.lock();
        let Some(log) = self.get(name) else { return Ok(delete()) };
        let deleted = self.path.join(format!("{DELETED}{}", Uuid::new_v4().simple()));
        let rename = || match fs::rename(self.directory(name), &deleted) {
            // Somebody has removed it: so is the topic.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        };
        let done = log.end(rename, delete).map_err(|error| {
            self.usage.fails(
                name,
                JournalError::Io { file: format!("{TOPIC}{name}"), act: "deleted", source: error },
            )
        })?;
        self.logs.write().remove(name);
        // It has another name, so nothing goes on in it. A power loss may bring it back.
        if let Err(error) = directory::sync(&self.path) {
            log::warn!("broker: topic {name}: its deletion is not on the disk: {error}");
        }
        if let Err(error) = fs::remove_dir_all(&deleted)
            && error.kind() != io::ErrorKind::NotFound
        {
            // The next start tries again.
            log::warn!("broker: cannot remove {}: {error}", deleted.display());
        }
        Ok(done)
    }

    /// Why the disk does not take messages; `None`: it does.
    pub(in crate::broker) fn failure(&self) -> Option<String> {
        self.usage.failure()
    }

    /// Closes all logs, with all that was committed on the disk.
    pub(in crate::broker) fn close(&self) {
        for (name, log) in self.logs.write().drain() {
            if let Err(error) = log.close() {
                log::error!("broker: topic {name}: {:#}", anyhow::Error::from(error));
            }
        }
    }
}
