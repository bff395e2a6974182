//! One channel: what waits, what is in flight and what is deferred (pure). Knows nothing of its consumers
//! but their IDs.

use std::collections::VecDeque;

use nsq_protocol::{ChannelName, TopicName};

use super::backlog::ChannelBacklog;
use super::cost::Cost;
use super::deadlines::{Deadline, Deadlines};
use super::ids::NumberMap;
use super::in_flight::InFlight;
use super::latency::Latencies;
use super::queue::{Deferred, RunQueue};

/// What one run in flight or one deferred message costs: its place in a map that has just grown, and in the heap
/// of deadlines with its stale companions.
const HELD_OVERHEAD: usize = 256;

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) topic: TopicName,
    pub(super) name: ChannelName,
    pub(super) queue: RunQueue,
    pub(super) in_flight: InFlight,
    pub(super) deferred: NumberMap<Deferred>,
    pub(super) paused: bool,
    pub(super) message_count: u64,
    pub(super) requeue_count: u64,
    pub(super) timeout_count: u64,
    /// Messages that an ephemeral channel had no room for.
    pub(super) dropped_count: u64,
    /// How long its messages took; `None`: that is not asked for, or none is done.
    pub(super) latencies: Option<Box<Latencies>>,
    /// All of them, in the order they came.
    pub(super) consumers: Vec<u64>,
    /// Consumers that were ready when the queue was empty, each at most once, the longest idle first. An
    /// entry may be out of date.
    pub(super) idle: VecDeque<u64>,
    /// What it has on disk; `None`: its topic is in memory only.
    pub(super) backlog: Option<Box<ChannelBacklog>>,
}

impl Channel {
    pub(super) fn new(topic: TopicName, name: ChannelName) -> Self {
        Self {
            topic,
            name,
            queue: RunQueue::default(),
            in_flight: InFlight::default(),
            deferred: NumberMap::default(),
            paused: false,
            message_count: 0,
            requeue_count: 0,
            timeout_count: 0,
            dropped_count: 0,
            latencies: None,
            consumers: Vec::new(),
            idle: VecDeque::new(),
            backlog: None,
        }
    }

    pub(super) fn cost(&self) -> Cost {
        let live = self.in_flight.runs() + self.deferred.len();
        Cost { bytes: self.queue.cost() + live * HELD_OVERHEAD, live }
    }

    /// Puts all that `owner` holds back into the queue, in the order of publication.
    pub(super) fn release(&mut self, owner: u64) {
        let Self { in_flight, queue, .. } = self;
        in_flight.release(owner, |run| queue.push(run));
    }

    /// Takes out all that the channel holds, for the caller to drop.
    pub(super) fn empty(&mut self) -> (RunQueue, InFlight, NumberMap<Deferred>) {
        (
            std::mem::take(&mut self.queue),
            std::mem::take(&mut self.in_flight),
            std::mem::take(&mut self.deferred),
        )
    }
}

pub(super) fn defer(
    deadlines: &mut Deadlines,
    key: u64,
    channel: &mut Channel,
    deferred: Deferred,
) {
    deadlines.push(Deadline { at: deferred.due, channel: key, id: deferred.run.next_id });
    channel.deferred.insert(deferred.run.next_id, deferred);
}

pub(super) fn is_valid(channel: &Channel, deadline: &Deadline) -> bool {
    channel.in_flight.is_due(deadline.id, deadline.at) || is_deferred(channel, deadline)
}

pub(super) fn is_deferred(channel: &Channel, deadline: &Deadline) -> bool {
    channel.deferred.get(&deadline.id).is_some_and(|deferred| deferred.due == deadline.at)
}
