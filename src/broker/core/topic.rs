//! One topic: its channels, and what waits for them (pure).

use std::collections::{BTreeMap, VecDeque};

use nsq_protocol::ChannelName;

use super::cost::Cost;
use super::queue::{Deferred, RunQueue};

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
}

impl Topic {
    pub(super) fn cost(&self) -> Cost {
        let deferred = self.deferred.len() * 2 * size_of::<Deferred>();
        Cost { bytes: self.queue.cost() + deferred, live: 0 }
    }
}
