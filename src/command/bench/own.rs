//! What one measurement has for itself, and what is gone when it ends: a broker, a topic, a directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nsq_protocol::thread::StopToken;
use nsq_protocol::{Admin, ChannelName, TlsConfig, TopicName};
use uuid::Uuid;

use super::part::Part;
use crate::command::shared::{nsq, values};
use crate::nsqd::addresses::NsqdAddresses;
use crate::nsqd::topic::{Backlog, RemoteTopic};
use crate::storage::data_dir::DataDir;

/// The broker of one measurement.
pub(super) struct BenchBroker {
    /// Where it listens.
    pub(super) addresses: NsqdAddresses,
    // Ends with it; `None` where the user named an nsqd.
    _part: Option<Part>,
}

impl BenchBroker {
    /// The nsqd that the user named, or an embedded broker in a process of its own.
    ///
    /// # Errors
    /// What kept it from listening, or `stop`.
    pub(super) fn start(named: Option<&NsqdAddresses>, stop: &StopToken) -> Result<Self> {
        if let Some(addresses) = named {
            return Ok(Self { addresses: addresses.clone(), _part: None });
        }
        let part =
            Part::start(&["broker", "--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"])?;
        let markers = ["TCP: listening on ", "HTTP: listening on "];
        let [tcp, http] = part.addresses(markers, stop)?;
        Ok(Self { addresses: NsqdAddresses { tcp, http }, _part: Some(part) })
    }
}

/// A topic that nobody else uses; gone with its messages when dropped.
pub(super) struct BenchTopic {
    pub(super) name: TopicName,
    pub(super) channel: ChannelName,
    admin: Admin,
}

impl BenchTopic {
    /// Makes it at one nsqd.
    ///
    /// # Errors
    /// The nsqd's.
    pub(super) fn make(nsqd: &NsqdAddresses) -> Result<Self> {
        let name = nsq::topic(&format!("playcounts-bench-{}", Uuid::new_v4().simple()))?;
        let channel = nsq::channel(values::CHANNEL)?;
        let topic = Self { name, channel, admin: Admin::new(&nsqd.http) };
        // With its channel: else what is published waits in the topic, and moves while the processor is measured.
        RemoteTopic::new(std::slice::from_ref(&nsqd.http), &TlsConfig::new(), name, channel)
            .prepare(Backlog::Refuse)?;
        Ok(topic)
    }
}

impl Drop for BenchTopic {
    fn drop(&mut self) {
        match self.admin.delete_topic(&self.name) {
            Err(error) if !error.is_not_found() => {
                log::warn!("the topic {} is left behind: {error}", self.name);
            }
            _ => {}
        }
    }
}

/// A directory that is removed at the end, whatever the end.
pub(super) struct Scratch {
    path: PathBuf,
    /// Made for this, so that it goes, too.
    parent: Option<PathBuf>,
}

impl Scratch {
    /// Makes it in the data directory, and that, too, if it is missing.
    ///
    /// # Errors
    /// One line that names the directory.
    pub(super) fn make(data_dir: &Path) -> Result<Self> {
        let parent = (!data_dir.exists()).then(|| data_dir.to_owned());
        DataDir::open(data_dir)?;
        let path = data_dir.join(format!("bench-{}", Uuid::new_v4().simple()));
        let scratch = Self { path, parent };
        fs::create_dir(&scratch.path)
            .with_context(|| format!("cannot make {}", scratch.path.display()))?;
        Ok(scratch)
    }

    /// A directory in it for one measurement; those of before are removed, so that the disk need not hold all.
    ///
    /// # Errors
    /// One line that names the directory.
    pub(super) fn fresh(&self) -> Result<PathBuf> {
        let shown = || format!("cannot empty {}", self.path.display());
        for entry in fs::read_dir(&self.path).with_context(shown)? {
            fs::remove_dir_all(entry.with_context(shown)?.path()).with_context(shown)?;
        }
        let path = self.path.join(Uuid::new_v4().simple().to_string());
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            log::warn!("{} is left behind: {error}", self.path.display());
        }
        if let Some(parent) = &self.parent {
            // Not empty: someone else has use for it by now.
            let _ = fs::remove_dir(parent);
        }
    }
}
