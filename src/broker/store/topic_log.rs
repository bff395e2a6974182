//! The log of one topic: a journal of what came in and of how far its channels are.
//!
//! Whoever publishes when nobody else does writes for all who come meanwhile: one write, and one fsync where a power loss is
//! to be survived, is for all of them. Locks: `group` is a leaf; `writer` is held across writes to the disk, and the core's
//! lock is taken within it, so that the log and the queues have the same order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use nsq_protocol::TopicName;
use parking_lot::Mutex;

use super::group::Group;
use super::pace::tell_again_after;
use super::record::{Messages, encode_channel, encode_topic};
use super::sizes::SegmentSizes;
use super::usage::DiskUsage;
use crate::broker::core::{
    ClientId, KeptRun, LimitError, NewBatch, SavedTopic, TopicChanges, first_id,
};
use crate::journal::{Disk, Journal, JournalError, Sync, Upkeep};

/// The most exceptions that are told of all channels of a topic: some megabytes.
const EXCEPTIONS_MAX: usize = 256 << 10;

/// When so many segments are held by messages that are not finished, these are looked at: see [`TopicState::note_stragglers`].
const STRAGGLE_AFTER: u64 = 4;

/// How much of a segment their bodies may take, as one part of so many: they are written again in each. Of 16 MiB it is 1.
const STRAGGLER_PART: u64 = 16;

/// What a log asks of its topic.
pub(super) trait TopicState {
    /// What is to be kept of it; all of it, if asked for so. `None`: it is gone.
    fn changes(&self, is_whole: bool) -> Option<TopicChanges>;
    /// Messages with a lower ID need not be in the log.
    fn oldest(&self) -> Option<u64>;
    /// See [`Core::note_stragglers`](crate::broker::core::Core::note_stragglers).
    fn note_stragglers(&self, below: u64, max_bytes: usize) -> bool;
    /// All was kept that was told last.
    fn stragglers_told(&self);
}

/// What was published and is to be kept.
pub(in crate::broker) struct LogBatch {
    pub(in crate::broker) publisher: Option<ClientId>,
    pub(in crate::broker) batch: NewBatch,
    /// Zero: at once.
    pub(in crate::broker) delay: Duration,
}

/// Now, by the clock of the day.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) struct LogTime {
    pub(in crate::broker) now: Instant,
    /// Since the Unix epoch.
    pub(in crate::broker) unix_ns: i64,
}

/// See the module.
pub(in crate::broker) struct TopicLog {
    pub(super) name: TopicName,
    pub(super) disk: Arc<dyn Disk>,
    group: Group<LogBatch, LimitError>,
    pub(super) writer: Mutex<LogWriter>,
    /// The segments that hold messages, the oldest first: number, and the ID of the first.
    pub(super) index: Mutex<Vec<(u64, u64)>>,
    pub(super) body_bytes: Arc<AtomicUsize>,
    pub(super) usage: Arc<DiskUsage>,
}

pub(super) struct LogWriter {
    pub(super) journal: Journal,
    pub(super) next_id: u64,
    payload: Vec<u8>,
    /// What the journal had written when all of the topic was told last, and in which segment that is.
    told: (u64, u64),
    /// All is to be told: what was to be told before could not be written.
    must_tell: bool,
    /// Before, [`TopicLog::keep`] tells nothing: see [`super::pace`].
    tell_at: Instant,
    /// It has not, though there may be something to tell.
    has_untold: bool,
    /// A change of its channels could not be told.
    has_unkept_change: bool,
    /// What the journal needed could not be done.
    has_failed_upkeep: bool,
    /// The segments that are there.
    pub(super) sizes: SegmentSizes,
    segment_bytes: u64,
    /// Messages since the last sync, and after how many there is to be one.
    unsynced: usize,
    sync_every: usize,
    /// Bytes that the usage knows of.
    counted: u64,
    /// The topic is deleted.
    is_gone: bool,
}

/// What [`TopicLog::new`] is made of.
pub(super) struct OpenedLog {
    pub(super) name: TopicName,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) journal: Journal,
    pub(super) next_id: u64,
    pub(super) index: Vec<(u64, u64)>,
    pub(super) sizes: SegmentSizes,
    /// The segment in which all of the topic was told last.
    pub(super) told: u64,
    pub(super) segment_bytes: u64,
    pub(super) sync_every: usize,
}

impl TopicLog {
    pub(super) fn new(
        opened: OpenedLog,
        body_bytes: Arc<AtomicUsize>,
        usage: Arc<DiskUsage>,
    ) -> Self {
        let OpenedLog { name, disk, journal, next_id, index, sizes, told, .. } = opened;
        let OpenedLog { segment_bytes, sync_every, .. } = opened;
        let writer = LogWriter {
            journal,
            next_id,
            payload: Vec::new(),
            // Until it is told again, nothing from there on can go.
            told: (0, told),
            must_tell: true,
            tell_at: Instant::now(),
            has_untold: false,
            has_unkept_change: false,
            has_failed_upkeep: false,
            sizes,
            segment_bytes,
            unsynced: 0,
            sync_every,
            counted: 0,
            is_gone: false,
        };
        Self {
            name,
            disk,
            group: Group::default(),
            writer: Mutex::new(writer),
            index: Mutex::new(index),
            body_bytes,
            usage,
        }
    }

    /// The topic.
    pub(super) fn name(&self) -> &TopicName {
        &self.name
    }

    /// Makes the batches durable, all of them or none, and hands them over, with whether [`TopicLog::keep`] is due: in one go with those of others who publish at the
    /// same time.
    ///
    /// # Errors
    /// The disk's reason, there is no room by `--max-disk`, or the topic was deleted.
    pub(in crate::broker) fn publish(
        &self,
        batches: Vec<LogBatch>,
        time: impl Fn() -> LogTime,
        mut hand_over: impl FnMut(Vec<KeptRun>, bool),
    ) -> Result<(), LimitError> {
        self.group.join(batches, |all| self.write(all, time(), &mut hand_over))
    }

    fn write(
        &self,
        batches: Vec<LogBatch>,
        time: LogTime,
        hand_over: &mut impl FnMut(Vec<KeptRun>, bool),
    ) -> Result<(), LimitError> {
        let mut writer = self.writer.lock();
        if writer.is_gone {
            return Err(LimitError::Gone);
        }
        if writer.has_unkept_change {
            // By what a start finds, messages might go nowhere that are to wait for a channel, or the other way round.
            return Err(LimitError::Disk(format!(
                "topic {}: what has changed of its channels could not be kept; tried again within seconds",
                self.name
            )));
        }
        let bytes = batches.iter().map(|one| one.batch.cost() as u64).sum();
        self.usage.check(bytes)?;
        let known = self.index.lock().len();
        let kept = self.append(&mut writer, batches, time);
        let kept = kept.and_then(|kept| writer.journal.commit().map(|()| kept));
        writer.count(&self.usage);
        match kept {
            Ok(kept) => {
                self.usage.works(&self.name);
                writer.unsynced += kept.iter().map(|one| one.run.left as usize).sum::<usize>();
                hand_over(kept, writer.is_long() || writer.is_unsynced());
                Ok(())
            }
            Err(error) => {
                self.index.lock().truncate(known);
                // The keeper tries whether the disk works again.
                writer.must_tell = true;
                Err(self.usage.fails(&self.name, error))
            }
        }
    }

    fn append(
        &self,
        writer: &mut LogWriter,
        batches: Vec<LogBatch>,
        time: LogTime,
    ) -> Result<Vec<KeptRun>, JournalError> {
        let mut kept = Vec::with_capacity(batches.len());
        for LogBatch { publisher, batch, delay } in batches {
            let first = first_id(time.unix_ns, writer.next_id);
            let due_ms = match delay {
                Duration::ZERO => 0,
                delay => u64::try_from(time.unix_ns / 1_000_000).unwrap_or(0) + millis(delay),
            };
            let (count, bodies) = (batch.len() as u32, batch.wire());
            let messages = Messages { first, timestamp_ns: time.unix_ns, due_ms, count, bodies };
            writer.payload.clear();
            messages.encode(&mut writer.payload);
            writer.journal.append(&writer.payload)?;
            writer.next_id = first + u64::from(count);
            let segment = writer.journal.place().0;
            let mut index = self.index.lock();
            if index.last().is_none_or(|(last, _)| *last < segment) {
                index.push((segment, first));
            }
            drop(index);
            let bytes = batch.body_bytes();
            let run = batch.number(first, time.unix_ns, &self.body_bytes);
            let due = (due_ms > 0).then(|| time.now + delay);
            kept.push(KeptRun { publisher, run, bytes, due });
        }
        Ok(kept)
    }

    /// Changes something of the topic, and keeps what is to be known of it then.
    ///
    /// # Errors
    /// The change is made, and cannot be kept.
    pub(in crate::broker) fn change<R>(
        &self,
        change: impl FnOnce() -> R,
        saved: impl FnOnce() -> Option<TopicChanges>,
    ) -> (R, Result<(), LimitError>) {
        let mut writer = self.writer.lock();
        let done = change();
        let kept = match saved() {
            Some(changes) if !writer.is_gone => self.tell(&mut writer, changes),
            _ => Ok(()),
        };
        writer.has_unkept_change |= kept.is_err();
        (done, kept)
    }

    /// Takes the files away by `take` and deletes the topic by `delete`, within the lock: nothing is written meanwhile, nor ever
    /// again, so that another topic of the name can have the directory.
    ///
    /// # Errors
    /// Those of `take`: the topic is there as before.
    pub(super) fn end<R>(
        &self,
        take: impl FnOnce() -> io::Result<()>,
        delete: impl FnOnce() -> R,
    ) -> io::Result<R> {
        let mut writer = self.writer.lock();
        writer.journal.end(take)?;
        writer.is_gone = true;
        self.usage.give_back(&self.name, std::mem::take(&mut writer.counted));
        Ok(delete())
    }

    /// Tells of the topic as a start has found it, if that is not how the last run had left it: whoever publishes depends on it.
    pub(super) fn tell_found(&self, topic: &SavedTopic) {
        let mut writer = self.writer.lock();
        if self.tell(&mut writer, TopicChanges::Whole(topic.clone())).is_err() {
            writer.has_unkept_change = true;
        }
    }

    fn tell(&self, writer: &mut LogWriter, changes: TopicChanges) -> Result<(), LimitError> {
        let before = writer.journal.written();
        let told = writer.tell(changes, &self.index.lock());
        writer.count(&self.usage);
        match told {
            Ok(()) if writer.journal.written() > before => self.usage.works(&self.name),
            Ok(()) => {}
            Err(error) => {
                writer.must_tell = true;
                return Err(self.usage.fails(&self.name, error));
            }
        }
        Ok(())
    }

    /// Keeps what is to be told of the topic, gives up segments that nobody needs, and, with `sync`, gets all to the disk. Unless all
    /// is to get there, what is much is not told as often.
    ///
    /// # Errors
    /// The disk's reason. It goes on with the next call.
    pub(super) fn keep(
        &self,
        topic: &impl TopicState,
        sync: Sync,
        now: Instant,
    ) -> Result<(), LimitError> {
        let mut writer = self.writer.lock();
        if writer.is_gone {
            return Ok(());
        }
        writer.has_untold = sync == Sync::Closed && now < writer.tell_at;
        let told = if writer.has_untold { Ok(()) } else { self.tell_news(&mut writer, topic, now) };
        // Also where that cannot be told: it makes room on a full disk, and what a start misses then is finished.
        // Mostly there is none that could go.
        if (writer.sizes.oldest() < writer.told.1 || self.usage.is_tight())
            && let Some(oldest) = topic.oldest()
        {
            self.give_up(&mut writer, oldest);
        }
        if told.is_ok()
            && !writer.has_untold
            && writer.told.1.saturating_sub(writer.sizes.oldest()) >= STRAGGLE_AFTER
        {
            self.leave_stragglers(&mut writer, topic);
        }
        writer.count(&self.usage);
        // What tells of the topic gets to the disk before the segments go that have told of it: else a power loss would leave none.
        let sync = match sync {
            _ if told.is_err() => Sync::Closed,
            Sync::Closed if writer.is_unsynced() || writer.journal.has_given_up() => Sync::All,
            sync => sync,
        };
        let unsynced = if sync == Sync::All { std::mem::take(&mut writer.unsynced) } else { 0 };
        let upkeep = writer.journal.upkeep(sync);
        // Not while the disk works.
        drop(writer);
        let done = upkeep.map(Upkeep::run).transpose();
        let mut writer = self.writer.lock();
        let done = done.and_then(|done| match done {
            Some(done) if !writer.is_gone => writer.journal.upkept(done),
            _ => Ok(()),
        });
        let had_failed = std::mem::replace(&mut writer.has_failed_upkeep, done.is_err());
        match &done {
            Ok(()) if had_failed => self.usage.works(&self.name),
            Ok(()) => {}
            Err(_) => writer.unsynced += unsynced,
        }
        told.and(done.map_err(|error| self.usage.fails(&self.name, error)))
    }

    /// Tells what is to be told.
    fn tell_news(
        &self,
        writer: &mut LogWriter,
        topic: &impl TopicState,
        now: Instant,
    ) -> Result<(), LimitError> {
        let Some(changes) = topic.changes(writer.is_long() || writer.must_tell) else {
            return Ok(());
        };
        writer.tell_at = now + tell_again_after(changes.exceptions());
        self.tell(writer, changes)
    }

    /// Whether [`TopicLog::keep`] is to be called though nothing has happened: something is not on the disk, or could not be told;
    /// or room is wanted.
    pub(super) fn is_to_be_kept(&self) -> bool {
        let writer = self.writer.lock();
        let has_failed = writer.must_tell || writer.has_failed_upkeep;
        writer.unsynced > 0 || has_failed || writer.counted > 0 && self.usage.is_tight()
    }

    /// Whether [`TopicLog::keep`] has left something untold: it is to be called again.
    pub(super) fn has_untold(&self) -> bool {
        self.writer.lock().has_untold
    }

    /// Gives up segments that only a few messages hold, once these are told with the topic.
    fn leave_stragglers(&self, writer: &mut LogWriter, topic: &impl TopicState) {
        let below = {
            let index = self.index.lock();
            let told = index.iter().find(|(segment, _)| *segment >= writer.told.1);
            told.map_or(writer.next_id, |(_, first)| *first)
        };
        if topic.note_stragglers(below, (writer.segment_bytes / STRAGGLER_PART) as usize)
            && let Some(changes) = topic.changes(true)
            && self.tell(writer, changes).is_ok()
        {
            topic.stragglers_told();
            if let Some(oldest) = topic.oldest() {
                self.give_up(writer, oldest);
            }
        }
    }

    fn give_up(&self, writer: &mut LogWriter, oldest: u64) {
        let mut index = self.index.lock();
        let behind = index.partition_point(|(_, first)| *first <= oldest);
        // The one before those that begin behind it; and nothing that a start needs.
        let needed = if oldest >= writer.next_id {
            let (present, offset) = writer.journal.place();
            writer.sizes.is_unneeded(present, offset);
            u64::MAX
        } else {
            index.get(behind.saturating_sub(1)).map_or(u64::MAX, |(segment, _)| *segment)
        };
        let keep = needed.min(writer.told.1);
        index.retain(|(segment, _)| *segment >= keep);
        writer.journal.detach();
        while writer.sizes.oldest() < keep {
            let oldest = writer.sizes.oldest();
            writer.journal.give_up(oldest);
            writer.sizes.give_up();
        }
    }

    /// Gets all to the disk and closes the journal; nothing is to be written behind it.
    pub(super) fn close(&self) -> Result<(), JournalError> {
        self.writer.lock().journal.close()
    }
}

impl LogWriter {
    /// Tells what there is to say of the topic, and makes it durable.
    fn tell(&mut self, changes: TopicChanges, index: &[(u64, u64)]) -> Result<(), JournalError> {
        match changes {
            TopicChanges::Channels(channels) => {
                for (name, mut channel) in channels {
                    channel.coarsen(EXCEPTIONS_MAX);
                    self.payload.clear();
                    encode_channel(&name, &channel, &mut self.payload);
                    self.journal.append(&self.payload)?;
                }
                self.journal.commit()
            }
            TopicChanges::Whole(mut topic) => {
                self.must_tell = true;
                let most = (EXCEPTIONS_MAX / topic.channels.len().max(1)).max(2);
                topic.channels.iter_mut().for_each(|(_, channel)| channel.coarsen(most));
                self.tell_whole(&topic, index)
            }
        }
    }

    fn tell_whole(&mut self, topic: &SavedTopic, index: &[(u64, u64)]) -> Result<(), JournalError> {
        self.payload.clear();
        encode_topic(topic, index, &mut self.payload);
        self.journal.append(&self.payload)?;
        self.journal.commit()?;
        (self.must_tell, self.has_unkept_change) = (false, false);
        // Also where nobody publishes: older segments go now, and a power loss would leave none that tells of the channels.
        self.unsynced = self.unsynced.max(1);
        self.told = (self.journal.written(), self.journal.place().0);
        Ok(())
    }

    /// Whether a start would have much to read: all of the topic is to be told again.
    fn is_long(&self) -> bool {
        self.journal.written() - self.told.0 >= self.segment_bytes
    }

    /// Whether so many messages have come that all is to be got to the disk.
    fn is_unsynced(&self) -> bool {
        self.unsynced >= self.sync_every
    }

    /// Tells the usage how much it takes now.
    fn count(&mut self, usage: &DiskUsage) {
        let (segment, offset) = self.journal.place();
        self.sizes.advance(segment, self.segment_bytes);
        let bytes = self.sizes.bytes(segment, offset);
        usage.replace(std::mem::replace(&mut self.counted, bytes), bytes);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
