//! How many messages wait in a queue, summed over its nsqds (pure).

use std::ops::AddAssign;

use nsq_protocol::{ChannelName, TopicStats};
use schemars::JsonSchema;
use serde::Serialize;

/// Where the messages of the channel are, or, before there is one, those of the topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct QueueDepth {
    /// Queued now, in-flight and deferred not included.
    pub depth: u64,
    /// Delivered and not yet answered.
    pub in_flight: u64,
    /// Waiting for a delay to pass.
    pub deferred: u64,
}

impl QueueDepth {
    /// Of one nsqd's topic.
    pub fn of(topic: &TopicStats, channel: &ChannelName) -> Self {
        // nsqd's counters are signed; a negative one is a moment between two of its updates.
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        let mut depth = Self { depth: count(topic.depth), ..Self::default() };
        let mut channels = topic.channels.iter();
        if let Some(channel) = channels.find(|known| known.channel_name == channel.as_str()) {
            depth += Self {
                depth: count(channel.depth),
                in_flight: count(channel.in_flight_count),
                deferred: count(channel.deferred_count),
            };
        }
        depth
    }
}

impl AddAssign for QueueDepth {
    fn add_assign(&mut self, more: Self) {
        self.depth = self.depth.saturating_add(more.depth);
        self.in_flight = self.in_flight.saturating_add(more.in_flight);
        self.deferred = self.deferred.saturating_add(more.deferred);
    }
}
