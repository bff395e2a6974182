//! Reads messages of a topic's log back into the memory of a channel.

use super::record::TopicRecord;
use super::topic_log::TopicLog;
use crate::broker::core::{LoadPlan, Loaded, LoadedRun, NewBatch};
use crate::journal::{FrameReader, FrameStep, JournalError};

impl TopicLog {
    /// Reads messages for a channel.
    ///
    /// # Errors
    /// The operating system's. What is damaged is left out, and the log says so.
    pub(super) fn load(&self, plan: &LoadPlan) -> Result<Loaded, JournalError> {
        let mut loaded = Loaded { runs: Vec::new(), next: plan.until, place: None };
        let done = self.read(plan, &mut loaded);
        match loaded.runs.last() {
            // What lies before a bad place is delivered. The next read begins there, and tells of it.
            Some(LoadedRun { run, .. }) if done.is_err() => {
                loaded.next = run.next_id + u64::from(run.left);
            }
            _ => done?,
        }
        Ok(loaded)
    }

    fn read(&self, plan: &LoadPlan, loaded: &mut Loaded) -> Result<(), JournalError> {
        let (oldest, last) = {
            let writer = self.writer.lock();
            (writer.sizes.oldest(), writer.journal.place().0)
        };
        let place = plan.place.filter(|(segment, _)| *segment >= oldest);
        let (mut segment, mut offset) = place.unwrap_or_else(|| self.find(plan.from));
        let (mut messages, mut bytes) = (0, 0);
        while segment <= last {
            let mut reader = match FrameReader::open(&*self.disk, segment, offset) {
                Ok(reader) => reader,
                Err(error @ JournalError::Io { .. }) => return Err(error),
                Err(error) => {
                    log::error!("broker: topic {}: messages are lost: {error}", self.name);
                    (segment, offset) = (segment + 1, 0);
                    continue;
                }
            };
            loop {
                let (at, payload) = match reader.step()? {
                    FrameStep::Frame(at, _, payload) => (at, payload),
                    FrameStep::End => break,
                    FrameStep::Nothing => {
                        if segment < last {
                            self.say_damaged(segment, reader.offset());
                        }
                        break;
                    }
                };
                let Ok(TopicRecord::Messages(found)) = TopicRecord::decode(payload) else {
                    continue;
                };
                let end = found.first + u64::from(found.count);
                if end <= plan.from || !found.is_whole() {
                    continue;
                }
                if found.first >= plan.until {
                    (loaded.next, loaded.place) = (found.first, Some((segment, at)));
                    return Ok(());
                }
                messages += found.count as usize;
                bytes += found.bodies.len();
                let batch = NewBatch::read(found.bodies, found.count);
                let run = batch.number(found.first, found.timestamp_ns, &self.body_bytes);
                loaded.runs.push(LoadedRun { run, due_ms: found.due_ms });
                if messages >= plan.messages || bytes >= plan.bytes {
                    (loaded.next, loaded.place) = (end, Some((segment, reader.offset())));
                    return Ok(());
                }
            }
            (segment, offset) = (segment + 1, 0);
        }
        Ok(())
    }

    fn say_damaged(&self, segment: u64, offset: u64) {
        log::error!(
            "broker: topic {}: messages are lost: segment {segment} is damaged at byte {offset}",
            self.name
        );
    }

    /// The segment in which a message is, if it is in one.
    fn find(&self, id: u64) -> (u64, u64) {
        let index = self.index.lock();
        let behind = index.partition_point(|(_, first)| *first <= id);
        let found = index.get(behind.saturating_sub(1)).map(|(segment, _)| (*segment, 0));
        found.unwrap_or((u64::MAX, 0))
    }
}
