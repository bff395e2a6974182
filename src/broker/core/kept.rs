//! Topics with a log: messages come in once they are in it, and what a start must know is told (pure).

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use nsq_protocol::{ChannelName, TopicName};

use super::backlog::Moment;
use super::batch::MessageRun;
use super::channel::Channel;
use super::cost::{Cost, settle};
use super::ids::ClientId;
use super::queue::Deferred;
use super::saved::{SavedChannel, SavedTopic};
use super::state::Core;
use super::topic::{Straggler, Tail, Topic};
use super::wake::wake_idle;

/// Messages that are in a topic's log.
pub(crate) struct KeptRun {
    pub(crate) publisher: Option<ClientId>,
    pub(crate) run: MessageRun,
    /// Bytes of the bodies.
    pub(crate) bytes: usize,
    /// `None`: at once.
    pub(crate) due: Option<Instant>,
}

/// What of a topic is to be kept that was not before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TopicChanges {
    /// All of it.
    Whole(SavedTopic),
    /// These channels.
    Channels(Vec<(ChannelName, SavedChannel)>),
}

impl TopicChanges {
    /// How many exceptions of all its channels.
    pub(crate) fn exceptions(&self) -> usize {
        let (Self::Whole(SavedTopic { channels, .. }) | Self::Channels(channels)) = self;
        channels.iter().map(|(_, channel)| channel.exceptions.len()).sum()
    }
}

impl Core {
    /// Something of a channel is to be kept that was not before.
    pub(super) fn changed(&mut self, key: u64) {
        if !self.keeps {
            return;
        }
        let Some(channel) = self.channels.get_mut(&key) else { return };
        let Some(backlog) = &mut channel.backlog else { return };
        if !std::mem::replace(&mut backlog.is_changed, true)
            && let Some(topic) = self.topics.get_mut(&channel.topic)
        {
            note_changed(topic, channel.topic, false, &mut self.changed_topics);
        }
    }

    /// Something of a topic is to be kept that was not before: which channels it has, or what is paused.
    pub(super) fn topic_changed(&mut self, name: &TopicName) {
        if let Some(topic) = self.topics.get_mut(name) {
            note_changed(topic, *name, true, &mut self.changed_topics);
        }
    }

    /// Has [`Core::take_changed_topics`] name the topic, whether or not anything has changed.
    pub(crate) fn keep_soon(&mut self, name: &TopicName) {
        if let Some(topic) = self.topics.get_mut(name) {
            note_changed(topic, *name, false, &mut self.changed_topics);
        }
    }

    /// What the bytes of batches are counted in.
    pub(crate) fn body_bytes(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.body_bytes)
    }

    /// Whether the channel is there.
    pub(crate) fn has_channel(&self, topic: &TopicName, name: &ChannelName) -> bool {
        self.topics.get(topic).is_some_and(|state| state.channels.contains_key(name))
    }

    /// Puts messages that are in the log into the topic's channels. A topic that is not there any more drops them.
    pub(crate) fn publish_kept(&mut self, topic: &TopicName, kept: KeptRun) {
        let KeptRun { publisher, run, bytes, due } = kept;
        // Its own bytes are counted already.
        if self.used() > self.config.max_memory {
            self.evict(0);
            self.shed_channels(0);
        }
        let has_room = self.used() <= self.config.max_memory;
        let Some(state) = self.topics.get_mut(topic) else { return };
        let Some(tail) = &mut state.tail else { return };
        let count = run.left as usize;
        if let Some(client) = publisher.and_then(|id| self.clients.get_mut(&id)) {
            client.count_published(topic, count as u64);
        }
        state.message_count += count as u64;
        state.message_bytes += bytes as u64;
        let (run_first, end) = (run.next_id, run.next_id + u64::from(run.left));
        tail.end = end;
        if state.channels.is_empty() || state.paused {
            if tail.waiting == 0 {
                tail.waiting_from = run.next_id;
            }
            tail.waiting += count;
            return;
        }
        let keys: Vec<u64> = state.channels.values().copied().collect();
        let mut keys = keys.into_iter().peekable();
        let mut run = Some(run);
        while let Some(key) = keys.next() {
            let one = if keys.peek().is_some() { run.clone() } else { run.take() };
            let (Some(one), Some(channel)) = (one, self.channels.get_mut(&key)) else { continue };
            if channel.backlog.is_none() {
                continue;
            }
            channel.message_count += count as u64;
            channel.drop_unread(run_first, self.config.mem_queue_size);
            let Some(backlog) = &mut channel.backlog else { continue };
            // One that is ephemeral drops what it has no room for.
            let has_room = channel.name.is_ephemeral()
                || has_room && channel.queue.depth() < self.config.mem_queue_size.max(1);
            if !backlog.is_behind() && has_room {
                self.hand_to(key, one, due, end);
                continue;
            }
            backlog.leave(count, end);
            if channel.queue.depth() == 0 {
                self.want_load(key);
            }
        }
    }

    /// Puts a run into the memory of a channel that has all before it there.
    fn hand_to(&mut self, key: u64, mut run: MessageRun, due: Option<Instant>, end: u64) {
        let Some(channel) = self.channels.get_mut(&key) else { return };
        let before = channel.cost();
        channel.drop_excess(&mut run, self.config.mem_queue_size);
        if let Some(backlog) = &mut channel.backlog {
            backlog.take(end);
        }
        match due {
            _ if run.left == 0 => {}
            Some(due) => channel.set_apart(key, Deferred { run, due }, &mut self.deadlines),
            None => {
                channel.queue.push(run);
                wake_idle(channel, &mut self.clients, &mut self.effects);
            }
        }
        settle(&mut self.cost, before, channel.cost());
    }

    /// Hands what waits in a topic with a log to its channels.
    pub(super) fn drain_log(&mut self, topic: &TopicName) {
        let Some(state) = self.topics.get_mut(topic) else { return };
        let Some(tail) = &mut state.tail else { return };
        if tail.waiting == 0 {
            return;
        }
        let (from, count, end) = (tail.waiting_from, tail.waiting, tail.end);
        (tail.waiting_from, tail.waiting) = (end, 0);
        let keys: Vec<u64> = state.channels.values().copied().collect();
        for key in keys {
            let Some(channel) = self.channels.get_mut(&key) else { continue };
            channel.message_count += count as u64;
            if let Some(backlog) = &mut channel.backlog {
                backlog.inherit(from, count, end);
            }
            self.want_load(key);
        }
    }

    /// A topic of the last run, with its channels.
    pub(crate) fn restore(&mut self, saved: &SavedTopic, moment: Moment) {
        let tail = Tail {
            end: saved.tail,
            waiting_from: saved.waiting_from,
            waiting: usize::try_from(saved.waiting).unwrap_or(usize::MAX),
            ..Tail::default()
        };
        let mut topic = Topic::new(Some(tail));
        topic.paused = saved.is_paused;
        let stragglers = saved.stragglers.iter();
        topic.stragglers =
            stragglers.map(|one| (one.id, Straggler::restore(one, &self.body_bytes))).collect();
        for (name, channel) in &saved.channels {
            let key = self.next_channel;
            self.next_channel += 1;
            topic.channels.insert(*name, key);
            let restored = Channel::restore(
                (saved.name, *name),
                key,
                channel,
                &topic.stragglers,
                moment,
                &mut self.deadlines,
            );
            settle(&mut self.cost, Cost::default(), restored.cost());
            self.channels.insert(key, restored);
        }
        self.topics.insert(saved.name, topic);
        self.topic_changed(&saved.name);
    }

    /// Topics of which something is to be kept.
    pub(crate) fn take_changed_topics(&mut self) -> Vec<TopicName> {
        std::mem::take(&mut self.changed_topics)
    }

    /// What of a topic is to be kept since the last call; all of it, if asked for so. `None`: there is no such topic, or it
    /// has no log.
    pub(crate) fn take_changes(
        &mut self,
        name: &TopicName,
        is_whole: bool,
        moment: Moment,
    ) -> Option<TopicChanges> {
        let tail = self.topics.get_mut(name)?.tail.as_mut()?;
        let is_whole = is_whole | std::mem::take(&mut tail.is_whole_changed);
        tail.is_changed = false;
        let stragglers = if is_whole { self.saved_stragglers(name) } else { Vec::new() };
        let topic = self.topics.get(name)?;
        let tail = topic.tail?;
        let mut channels = Vec::new();
        let mut has_ephemeral = false;
        for (name, key) in &topic.channels {
            let Some(channel) = self.channels.get_mut(key) else { continue };
            has_ephemeral |= name.is_ephemeral();
            channel.tidy();
            let Some(backlog) = channel.backlog.as_mut().filter(|_| !name.is_ephemeral()) else {
                continue;
            };
            if std::mem::take(&mut backlog.is_changed) || is_whole {
                channels.extend(channel.saved(moment).map(|saved| (*name, saved)));
            }
        }
        Some(match is_whole {
            false => TopicChanges::Channels(channels),
            true => TopicChanges::Whole(SavedTopic {
                name: *name,
                is_paused: topic.paused,
                has_ephemeral,
                tail: tail.end,
                waiting_from: tail.waiting_from,
                waiting: tail.waiting as u64,
                channels,
                stragglers,
            }),
        })
    }

    /// The lowest ID of a topic that somebody may need again.
    pub(crate) fn oldest(&self, name: &TopicName) -> Option<u64> {
        let topic = self.topics.get(name)?;
        let tail = topic.tail?;
        let is_elsewhere =
            |id| topic.stragglers.get(&id).is_some_and(|straggler| straggler.is_told);
        let channels = topic.channels.values().filter_map(|key| self.channels.get(key));
        Some(
            channels
                .filter_map(|channel| channel.oldest(is_elsewhere))
                .fold(tail.first_of_new(), u64::min),
        )
    }
}

fn note_changed(topic: &mut Topic, name: TopicName, is_whole: bool, changed: &mut Vec<TopicName>) {
    let Some(tail) = &mut topic.tail else { return };
    if !std::mem::replace(&mut tail.is_changed, true) {
        changed.push(name);
    }
    tail.is_whole_changed |= is_whole;
}
