//! Messages that are not finished while the log has gone on far past them: one that is requeued again and again, or is due in
//! days. They are kept with what is told of the topic, so that none holds its segment of the log, and all those behind it, for
//! as long as that lasts (pure).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nsq_protocol::{ChannelName, TopicName};

use super::backlog::{ChannelBacklog, Moment};
use super::batch::MessageRun;
use super::channel::Channel;
use super::deadlines::Deadlines;
use super::queue::Deferred;
use super::saved::{SavedChannel, SavedStraggler};
use super::state::Core;
use super::topic::Straggler;

/// The most of one topic. With more, the segments stay.
const STRAGGLERS_MAX: usize = 1000;

impl Core {
    /// Takes note of the messages with an ID below `below` which the channels of a topic have not finished, if these are few and
    /// take at most `max_bytes`, and nothing else holds that part of the log. Returns whether there are some that are not told
    /// yet: then all of the topic is to be told, and [`Core::stragglers_told`] called once that is kept.
    pub(crate) fn note_stragglers(
        &mut self,
        name: &TopicName,
        below: u64,
        max_bytes: usize,
    ) -> bool {
        let used = Arc::clone(&self.body_bytes);
        let Some(topic) = self.topics.get_mut(name) else { return false };
        if topic.tail.is_none_or(|tail| tail.first_of_new() < below) {
            return false;
        }
        let mut found = BTreeMap::new();
        for (name, key) in &topic.channels {
            let Some(channel) = self.channels.get_mut(key) else { continue };
            channel.tidy();
            let Some(backlog) = &channel.backlog else { continue };
            // It may read that part yet. Of an ephemeral one a start finds nothing again.
            if backlog.next < below || !name.is_ephemeral() && backlog.pulled_below < below {
                return false;
            }
            if name.is_ephemeral() {
                continue;
            }
            for run in channel.unfinished_below(below) {
                for at in 0..run.left.min(STRAGGLERS_MAX as u32 + 1) {
                    let one = run.slice(at, 1);
                    found.entry(one.next_id).or_insert(one);
                }
                if found.len() > STRAGGLERS_MAX {
                    return false;
                }
            }
        }
        if found.values().map(MessageRun::first_len).sum::<usize>() > max_bytes {
            return false;
        }
        let mut before = std::mem::take(&mut topic.stragglers);
        // Of those below it, the others are finished.
        let beyond = before.split_off(&below);
        let known_or_new = |(id, run): (u64, MessageRun)| match before.remove(&id) {
            Some(known) => (id, known),
            None => (id, Straggler::new(&run, &used)),
        };
        topic.stragglers = found.into_iter().map(known_or_new).chain(beyond).collect();
        topic.stragglers.values().any(|straggler| !straggler.is_told)
    }

    /// What was told of the topic last is kept, with its stragglers.
    pub(crate) fn stragglers_told(&mut self, name: &TopicName) {
        if let Some(topic) = self.topics.get_mut(name) {
            topic.stragglers.values_mut().for_each(|straggler| straggler.is_told = true);
        }
    }

    /// Those of a topic that a channel still has, to be told; the others are forgotten.
    pub(super) fn saved_stragglers(&mut self, name: &TopicName) -> Vec<SavedStraggler> {
        let Some(topic) = self.topics.get_mut(name) else { return Vec::new() };
        let Some((last, _)) = topic.stragglers.last_key_value() else { return Vec::new() };
        let below = last + 1;
        let mut needed = BTreeSet::new();
        for (name, key) in &topic.channels {
            let Some(channel) = self.channels.get(key).filter(|_| !name.is_ephemeral()) else {
                continue;
            };
            let runs = channel.unfinished_below(below);
            let ids = runs.flat_map(|run| run.next_id..run.next_id + u64::from(run.left));
            needed.extend(ids.filter(|id| topic.stragglers.contains_key(id)));
        }
        topic.stragglers.retain(|id, _| needed.contains(id));
        topic.stragglers.values().map(Straggler::saved).collect()
    }
}

impl Channel {
    /// One of the last run, with those of its topic's stragglers that it has not finished.
    pub(super) fn restore(
        (topic, name): (TopicName, ChannelName),
        key: u64,
        saved: &SavedChannel,
        stragglers: &BTreeMap<u64, Straggler>,
        moment: Moment,
        deadlines: &mut Deadlines,
    ) -> Self {
        let mut channel = Self::new(topic, name);
        channel.paused = saved.is_paused;
        channel.message_count = saved.depth;
        let mut saved = saved.clone();
        let mut later = Vec::new();
        for straggler in stragglers.values() {
            let Some(left) = saved.take_left(straggler.run.next_id) else { continue };
            let run = MessageRun { attempts: left.attempts, ..straggler.run.clone() };
            if left.due_ms > moment.unix_ms {
                later.push(Deferred { run, due: moment.instant(left.due_ms) });
            } else {
                channel.queue.push(run);
            }
        }
        channel.backlog = Some(Box::new(ChannelBacklog::restore(&saved)));
        for one in later {
            channel.set_apart(key, one, deadlines);
        }
        channel
    }
}
