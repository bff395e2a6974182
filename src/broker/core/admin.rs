//! Topics and channels are created, emptied, paused and deleted (pure).

use std::time::Instant;

use nsq_protocol::{ChannelName, TopicName};

use super::backlog::ChannelBacklog;
use super::channel::Channel;
use super::client::subscribed;
use super::cost::{Cost, settle};
use super::limits::LimitError;
use super::state::Core;
use super::topic::{Tail, Topic};
use super::wake::update_ready_state;

/// A topic or channel that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Topic,
    Channel,
}

impl Core {
    /// Creates `topic` unless it is there.
    pub(crate) fn create_topic(&mut self, topic: &TopicName) -> Result<(), LimitError> {
        if self.topics.contains_key(topic) {
            return Ok(());
        }
        if self.topics.len() >= self.config.max_topics {
            return Err(LimitError::Topics(self.topics.len()));
        }
        let tail = (self.keeps && !topic.is_ephemeral()).then(Tail::default);
        self.topics.insert(*topic, Topic::new(tail));
        self.topic_changed(topic);
        self.note_change(*topic, None, false);
        Ok(())
    }

    /// Whether there is that topic.
    pub(crate) fn has_topic(&self, topic: &TopicName) -> bool {
        self.topics.contains_key(topic)
    }

    /// Creates the topic and its channel unless they are there. The first channel gets what waits in the
    /// topic.
    pub(crate) fn create_channel(
        &mut self,
        topic: &TopicName,
        name: &ChannelName,
        now: Instant,
    ) -> Result<u64, LimitError> {
        self.create_topic(topic)?;
        let state = self.topics.get_mut(topic).expect("created above");
        if let Some(key) = state.channels.get(name) {
            return Ok(*key);
        }
        if self.channels.len() >= self.config.max_channels {
            return Err(LimitError::Channels(self.channels.len()));
        }
        let key = self.next_channel;
        self.next_channel += 1;
        state.channels.insert(*name, key);
        let mut channel = Channel::new(*topic, *name);
        channel.backlog = state.tail.map(|tail| Box::new(ChannelBacklog::new(tail.first_of_new())));
        self.channels.insert(key, channel);
        self.topic_changed(topic);
        self.note_change(*topic, Some(*name), false);
        self.drain(topic, now);
        Ok(key)
    }

    /// Deletes the topic, its channels and all their messages; closes the consumers' connections.
    pub(crate) fn delete_topic(&mut self, topic: &TopicName) -> Result<(), Missing> {
        let state = self.topics.remove(topic).ok_or(Missing::Topic)?;
        settle(&mut self.cost, state.cost(), Cost::default());
        for key in state.channels.values() {
            self.remove_channel(*key);
        }
        self.note_change(*topic, None, true);
        self.effects.garbage.push(Box::new((state.queue, state.deferred)));
        self.prune();
        Ok(())
    }

    /// Deletes the channel and its messages; closes its consumers' connections.
    pub(crate) fn delete_channel(
        &mut self,
        topic: &TopicName,
        name: &ChannelName,
    ) -> Result<(), Missing> {
        let state = self.topics.get_mut(topic).ok_or(Missing::Topic)?;
        let key = state.channels.remove(name).ok_or(Missing::Channel)?;
        let is_last = state.channels.is_empty();
        if let Some(tail) = state.tail.as_mut().filter(|tail| is_last && tail.waiting == 0) {
            tail.waiting_from = tail.end;
        }
        self.remove_channel(key);
        self.topic_changed(topic);
        if is_last && topic.is_ephemeral() {
            self.delete_topic(topic)?;
        }
        self.prune();
        Ok(())
    }

    /// Deletes the channel, if it has no consumers.
    pub(crate) fn delete_unread(&mut self, topic: &TopicName, name: &ChannelName) {
        let key = self.topics.get(topic).and_then(|state| state.channels.get(name));
        let channel = key.and_then(|key| self.channels.get(key));
        if channel.is_some_and(|channel| channel.consumers.is_empty()) {
            // It cannot be missing: it was just found.
            let _ = self.delete_channel(topic, name);
        }
    }

    fn remove_channel(&mut self, key: u64) {
        let Some(channel) = self.channels.remove(&key) else { return };
        settle(&mut self.cost, channel.cost(), Cost::default());
        self.effects.close.extend(&channel.consumers);
        self.note_change(channel.topic, Some(channel.name), true);
        self.effects.garbage.push(Box::new(channel));
    }

    /// Drops what waits in the topic itself; its channels keep what they have.
    pub(crate) fn empty_topic(&mut self, topic: &TopicName) -> Result<(), Missing> {
        let state = self.topics.get_mut(topic).ok_or(Missing::Topic)?;
        let before = state.cost();
        let garbage = (std::mem::take(&mut state.queue), std::mem::take(&mut state.deferred));
        if let Some(tail) = state.tail.as_mut().filter(|tail| tail.waiting > 0) {
            let (from, end) = (tail.waiting_from, tail.end);
            (tail.waiting_from, tail.waiting) = (end, 0);
            for key in state.channels.values() {
                let backlog =
                    self.channels.get_mut(key).and_then(|channel| channel.backlog.as_mut());
                backlog.into_iter().for_each(|backlog| backlog.leave_out(from, end));
            }
        }
        settle(&mut self.cost, before, state.cost());
        self.effects.garbage.push(Box::new(garbage));
        self.topic_changed(topic);
        Ok(())
    }

    /// Drops what waits in the channel, is deferred or in flight.
    pub(crate) fn empty_channel(
        &mut self,
        topic: &TopicName,
        name: &ChannelName,
    ) -> Result<(), Missing> {
        let key = self.channel_key(topic, name)?;
        let channel = self.channels.get_mut(&key).ok_or(Missing::Channel)?;
        let before = channel.cost();
        let garbage = channel.empty();
        if let Some(backlog) = &mut channel.backlog {
            backlog.empty(backlog.until);
        }
        settle(&mut self.cost, before, channel.cost());
        self.effects.garbage.push(Box::new(garbage));
        for id in channel.consumers.clone() {
            if let Some((subscription, channel)) =
                subscribed(&mut self.clients, &mut self.channels, id)
            {
                subscription.in_flight = 0;
                update_ready_state(id, subscription, channel, &mut self.effects);
            }
        }
        self.topic_changed(topic);
        self.prune();
        Ok(())
    }

    /// Messages stay in the topic from now on.
    pub(crate) fn pause_topic(&mut self, topic: &TopicName) -> Result<(), Missing> {
        self.topics.get_mut(topic).ok_or(Missing::Topic)?.paused = true;
        self.topic_changed(topic);
        Ok(())
    }

    /// What waits in the topic goes to its channels, and so does what comes.
    pub(crate) fn unpause_topic(&mut self, topic: &TopicName, now: Instant) -> Result<(), Missing> {
        self.topics.get_mut(topic).ok_or(Missing::Topic)?.paused = false;
        self.topic_changed(topic);
        self.drain(topic, now);
        Ok(())
    }

    /// The channel's consumers get nothing from now on.
    pub(crate) fn pause_channel(
        &mut self,
        topic: &TopicName,
        name: &ChannelName,
    ) -> Result<(), Missing> {
        let key = self.channel_key(topic, name)?;
        self.channels.get_mut(&key).ok_or(Missing::Channel)?.paused = true;
        self.topic_changed(topic);
        Ok(())
    }

    /// The channel's consumers get messages again.
    pub(crate) fn unpause_channel(
        &mut self,
        topic: &TopicName,
        name: &ChannelName,
    ) -> Result<(), Missing> {
        let key = self.channel_key(topic, name)?;
        let channel = self.channels.get_mut(&key).ok_or(Missing::Channel)?;
        channel.paused = false;
        for id in channel.consumers.clone() {
            if let Some((subscription, channel)) =
                subscribed(&mut self.clients, &mut self.channels, id)
            {
                update_ready_state(id, subscription, channel, &mut self.effects);
            }
        }
        self.topic_changed(topic);
        self.want_load(key);
        Ok(())
    }

    fn channel_key(&self, topic: &TopicName, name: &ChannelName) -> Result<u64, Missing> {
        let state = self.topics.get(topic).ok_or(Missing::Topic)?;
        state.channels.get(name).copied().ok_or(Missing::Channel)
    }
}
