//! Opens a topic's log: finds where all of the topic was told last, and goes on from there.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use anyhow::{Context, Result, bail};
use nsq_protocol::TopicName;
use uuid::Uuid;

use super::record::TopicRecord;
use super::sizes::SegmentSizes;
use super::topic_log::{OpenedLog, TopicLog};
use super::usage::DiskUsage;
use crate::broker::core::SavedTopic;
use crate::journal::{
    Disk, FrameReader, FrameStep, FsDisk, Journal, JournalConfig, JournalError, JournalKind,
    JournalOwner, OnDamage, Position, SyncPolicy, any_head, segment_data, segments,
};

/// How logs are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogConfig {
    pub(super) sync: SyncPolicy,
    pub(super) segment_bytes: u64,
    /// After so many messages of a topic all is got to the disk, where no message waits for that.
    pub(super) sync_every: usize,
    /// The present start of the machine.
    pub(super) boot: Uuid,
}

/// What is known of a topic so far.
struct Replay {
    topic: SavedTopic,
    /// Segments, and the IDs of the first messages in them.
    index: Vec<(u64, u64)>,
}

/// Opens the log of `name` in `directory`, which is made if it is missing; and what it tells of the topic.
///
/// # Errors
/// The operating system's, or it is damaged; with the directory and the way out.
pub(super) fn open(
    directory: &Path,
    name: TopicName,
    config: LogConfig,
    body_bytes: Arc<AtomicUsize>,
    usage: Arc<DiskUsage>,
) -> Result<(TopicLog, SavedTopic)> {
    let shown = directory.display();
    let opened = FsDisk::open(directory).map_err(Into::into);
    let opened = opened.and_then(|disk| open_on(disk, name, config, body_bytes, usage));
    opened.with_context(|| {
        format!(
            "cannot use the messages of topic {name}, {shown}; mend what is wrong, or move the directory away to start without them"
        )
    })
}

/// The same on any disk.
pub(super) fn open_on(
    disk: Arc<dyn Disk>,
    name: TopicName,
    config: LogConfig,
    body_bytes: Arc<AtomicUsize>,
    usage: Arc<DiskUsage>,
) -> Result<(TopicLog, SavedTopic)> {
    let numbers = segments(&*disk)?;
    let life = any_head(&*disk)?.map_or_else(Uuid::new_v4, |head| head.life);
    let LogConfig { sync, segment_bytes, sync_every, boot } = config;
    let journal_config = JournalConfig {
        kind: JournalKind::Topic,
        owner: JournalOwner::Part,
        life,
        boot,
        sync,
        segment_bytes,
        on_damage: OnDamage::Refuse,
    };
    let told = find_told(&*disk, &numbers)?;
    let first = numbers.first().map(|first| Position { segment: *first, number: 1 });
    let from = told.or(first);
    let oldest = numbers.first().copied().unwrap_or(1);
    let (journal, cut) =
        Journal::open_keeping(Arc::clone(&disk), journal_config, from, oldest, |_, _| Ok(()))?;
    if let Some(cut) = cut {
        log::warn!("broker: topic {name}: {cut}");
    }
    let mut replay = Replay { topic: SavedTopic::new(name), index: Vec::new() };
    if let Some(from) = from {
        for segment in from.segment..=journal.place().0 {
            replay.read(&*disk, segment, from.number)?;
        }
    }
    let Replay { mut topic, mut index } = replay;
    if topic.name != name {
        bail!("it is the log of topic {}", topic.name);
    }
    index.retain(|(segment, _)| *segment >= oldest);
    let older = (oldest..journal.place().0).map(|segment| segment_data(&*disk, segment));
    let older = older.collect::<Result<_, _>>()?;
    // No consumer has come yet.
    let had_ephemeral = std::mem::take(&mut topic.has_ephemeral);
    let opened = OpenedLog {
        name,
        disk,
        journal,
        next_id: topic.tail,
        index,
        sizes: SegmentSizes::new(oldest, older),
        told: from.map_or(oldest, |from| from.segment),
        segment_bytes,
        sync_every,
    };
    let log = TopicLog::new(opened, body_bytes, usage);
    if had_ephemeral {
        log.tell_found(&topic);
    }
    Ok((log, topic))
}

/// Where all of the topic was told last.
fn find_told(disk: &dyn Disk, numbers: &[u64]) -> Result<Option<Position>, JournalError> {
    for segment in numbers.iter().rev() {
        let mut found = None;
        let mut reader = match FrameReader::open(disk, *segment, 0) {
            Ok(reader) => reader,
            // Whoever opens the journal says what it is.
            Err(JournalError::Damaged { .. }) => continue,
            Err(error) => return Err(error),
        };
        while let FrameStep::Frame(_, number, payload) = reader.step()? {
            if matches!(TopicRecord::decode(payload), Ok(TopicRecord::Topic(..))) {
                found = Some(Position { segment: *segment, number });
            }
        }
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

impl Replay {
    /// Takes over the frames of a segment, from the one numbered `from` on.
    fn read(&mut self, disk: &dyn Disk, segment: u64, from: u64) -> Result<()> {
        let mut reader = FrameReader::open(disk, segment, 0)?;
        while let FrameStep::Frame(offset, number, payload) = reader.step()? {
            if number < from {
                continue;
            }
            let record = TopicRecord::decode(payload).map_err(anyhow::Error::msg);
            let record =
                record.with_context(|| format!("at byte {offset} of segment {segment}"))?;
            match record {
                TopicRecord::Topic(topic, index) => (self.topic, self.index) = (topic, index),
                TopicRecord::Channel(name, channel) => self.topic.set_channel(&name, channel),
                TopicRecord::Messages(messages) => {
                    self.topic.publish(messages.first, messages.count.into());
                    if self.index.last().is_none_or(|(last, _)| *last < segment) {
                        self.index.push((segment, messages.first));
                    }
                }
            }
        }
        Ok(())
    }
}
