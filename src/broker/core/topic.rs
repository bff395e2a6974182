//! One topic: its channels, and what waits for them (pure).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use nsq_protocol::ChannelName;

use super::batch::{MessageRun, NewBatch};
use super::cost::Cost;
use super::queue::{Deferred, RunQueue};
use super::saved::SavedStraggler;

pub(super) struct Topic {
    pub(super) channels: BTreeMap<ChannelName, u64>,
    /// What waits for the first channel, or for the end of a pause.
    pub(super) queue: RunQueue,
    /// The same, for messages with a delay.
    pub(super) deferred: VecDeque<Deferred>,
    pub(super) paused: bool,
    pub(super) message_count: u64,
    pub(super) message_bytes: u64,
    /// Messages that an ephemeral topic had no room for, while it had no channel or was paused.
    pub(super) dropped_count: u64,
    /// What its log holds; `None`: it is in memory only.
    pub(super) tail: Option<Tail>,
    /// Messages that are far behind in its log, by their IDs.
    pub(super) stragglers: BTreeMap<u64, Straggler>,
}

/// The end of a topic's log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tail {
    /// Behind the ID of the last message.
    pub(super) end: u64,
    /// From which message on they wait for the first channel, or for the end of a pause.
    pub(super) waiting_from: u64,
    /// How many wait.
    pub(super) waiting: usize,
    /// It is in `changed_topics`.
    pub(super) is_changed: bool,
    /// Not only channels have changed.
    pub(super) is_whole_changed: bool,
}

impl Tail {
    /// Below it nothing waits for a channel that is new.
    pub(super) fn first_of_new(&self) -> u64 {
        if self.waiting > 0 { self.waiting_from } else { self.end }
    }
}

/// A message that some channel has not finished while the log has gone on far past it.
pub(super) struct Straggler {
    /// The one message, with a body of its own: not that of its whole batch.
    pub(super) run: MessageRun,
    /// It is on disk elsewhere than in the log's messages, so that its segment may go.
    pub(super) is_told: bool,
}

impl Straggler {
    /// The first message of a run; its body is counted in `used`.
    pub(super) fn new(run: &MessageRun, used: &Arc<AtomicUsize>) -> Self {
        let body = run.messages().next().map_or(&[][..], |(_, body)| body);
        let run = NewBatch::one(body).number(run.next_id, run.batch.timestamp_ns, used);
        Self { run, is_told: false }
    }

    /// One of the last run; likewise.
    pub(super) fn restore(saved: &SavedStraggler, used: &Arc<AtomicUsize>) -> Self {
        let run = NewBatch::one(&saved.body).number(saved.id, saved.timestamp_ns, used);
        Self { run, is_told: true }
    }

    /// What is to be told of it.
    pub(super) fn saved(&self) -> SavedStraggler {
        let body = self.run.messages().next().map_or_else(Vec::new, |(_, body)| body.to_vec());
        SavedStraggler { id: self.run.next_id, timestamp_ns: self.run.batch.timestamp_ns, body }
    }
}

impl Topic {
    /// One that is new, with or without a log.
    pub(super) fn new(tail: Option<Tail>) -> Self {
        Self {
            channels: BTreeMap::new(),
            queue: RunQueue::default(),
            deferred: VecDeque::new(),
            paused: false,
            message_count: 0,
            message_bytes: 0,
            dropped_count: 0,
            tail,
            stragglers: BTreeMap::new(),
        }
    }

    /// Messages that wait in it, in memory and on disk.
    pub(super) fn depth(&self) -> usize {
        self.queue.depth() + self.deferred.len() + self.waiting()
    }

    /// Those on disk.
    pub(super) fn waiting(&self) -> usize {
        self.tail.map_or(0, |tail| tail.waiting)
    }

    pub(super) fn cost(&self) -> Cost {
        let deferred = self.deferred.len() * 2 * size_of::<Deferred>();
        Cost { bytes: self.queue.cost() + deferred, live: 0 }
    }
}
