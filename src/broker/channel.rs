//! One channel: what waits, what is in flight and what is deferred (pure). Knows nothing of its consumers
//! but their IDs.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use foldhash::fast::RandomState;
use nsq_protocol::{ChannelName, TopicName};

use super::batch::Run;
use super::flight::Flight;

/// A map whose keys are the broker's own numbers, so that nobody can choose them to collide.
pub(super) type NumberMap<V> = HashMap<u64, V, RandomState>;

/// What one run costs in a queue: 32 bytes, doubled when the queue has just grown.
const RUN_OVERHEAD: usize = 64;

/// What one run in flight or one deferred message costs: its place in a map that has just grown, and in the heap
/// of deadlines with its stale companions.
const HELD_OVERHEAD: usize = 256;

/// An empty queue or map with more room than this gives it back.
const KEEP_ROOM: usize = 4096;

/// What a topic or channel takes besides the bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) bytes: usize,
    /// Runs in flight and deferred messages: what has a deadline.
    pub(super) live: usize,
}

/// Runs that wait, first in, first out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    runs: VecDeque<Run>,
    depth: usize,
}

impl Queue {
    pub(super) fn push(&mut self, run: Run) {
        self.depth += run.left as usize;
        self.runs.push_back(run);
    }

    /// How many messages.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// The first run; never an empty one.
    pub(super) fn front(&mut self) -> Option<&mut Run> {
        self.runs.front_mut()
    }

    pub(super) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter()
    }

    /// Says that `count` messages were taken from the first run.
    pub(super) fn taken(&mut self, count: usize) {
        self.depth -= count;
        if self.runs.front().is_some_and(|run| run.left == 0) {
            self.runs.pop_front();
            if self.runs.is_empty() && self.runs.capacity() > KEEP_ROOM {
                self.runs = VecDeque::new();
            }
        }
    }

    pub(super) fn cost(&self) -> usize {
        self.runs.len() * RUN_OVERHEAD
    }
}

/// A message whose time has not come.
#[derive(Debug)]
pub(super) struct Deferred {
    pub(super) run: Run,
    pub(super) due: Instant,
}

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) topic: TopicName,
    pub(super) name: ChannelName,
    pub(super) queue: Queue,
    pub(super) in_flight: Flight,
    pub(super) deferred: NumberMap<Deferred>,
    pub(super) paused: bool,
    pub(super) message_count: u64,
    pub(super) requeue_count: u64,
    pub(super) timeout_count: u64,
    /// All of them, in the order they came.
    pub(super) consumers: Vec<u64>,
    /// Consumers that were ready when the queue was empty, each at most once, the longest idle first. An
    /// entry may be out of date.
    pub(super) idle: VecDeque<u64>,
}

impl Channel {
    pub(super) fn new(topic: TopicName, name: ChannelName) -> Self {
        Self {
            topic,
            name,
            queue: Queue::default(),
            in_flight: Flight::default(),
            deferred: NumberMap::default(),
            paused: false,
            message_count: 0,
            requeue_count: 0,
            timeout_count: 0,
            consumers: Vec::new(),
            idle: VecDeque::new(),
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
    pub(super) fn empty(&mut self) -> (Queue, Flight, NumberMap<Deferred>) {
        (
            std::mem::take(&mut self.queue),
            std::mem::take(&mut self.in_flight),
            std::mem::take(&mut self.deferred),
        )
    }
}
