//! The whole state of a broker. What is done with it stands beside, one file for one act (pure).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::quality::RandomState;
use nsq_protocol::TopicName;

use super::channel::Channel;
use super::client::Client;
use super::cost::Cost;
use super::deadlines::Deadlines;
use super::effects::Effects;
use super::ids::NumberMap;
use super::topic::Topic;
use crate::broker::config::BrokerConfig;
use crate::model::unix_time::UnixMs;

/// A broker without its sockets: topics, channels, clients, and what must be done outside.
pub(crate) struct Core {
    pub(super) config: BrokerConfig,
    pub(super) started: UnixMs,
    pub(super) clients: NumberMap<Client>,
    pub(super) topics: HashMap<TopicName, Topic, RandomState>,
    pub(super) channels: NumberMap<Channel>,
    /// The number of the next channel.
    pub(super) next_channel: u64,
    /// The ID of the next message, unless the clock is past it.
    pub(super) next_id: u64,
    pub(super) deadlines: Deadlines,
    /// Sums over all topics and channels.
    pub(super) cost: Cost,
    /// Bytes of all batches.
    pub(super) body_bytes: Arc<AtomicUsize>,
    pub(super) effects: Effects,
    /// Topics have logs, but for ephemeral ones.
    pub(super) keeps: bool,
    /// Channels that the log is to be read for.
    pub(super) to_load: VecDeque<u64>,
    /// Channels that were to be read for while memory was full, and hold nothing that somebody could finish.
    pub(super) starved: BTreeSet<u64>,
    /// Topics of which something is to be kept that was not before.
    pub(super) changed_topics: Vec<TopicName>,
}

impl Core {
    /// An empty broker that says when it was started.
    pub(crate) fn new(config: BrokerConfig, started: UnixMs) -> Self {
        Self {
            keeps: config.data_path.is_some(),
            to_load: VecDeque::new(),
            starved: BTreeSet::new(),
            changed_topics: Vec::new(),
            config,
            started,
            clients: NumberMap::default(),
            topics: HashMap::default(),
            channels: NumberMap::default(),
            next_channel: 0,
            next_id: 1,
            deadlines: Deadlines::default(),
            cost: Cost::default(),
            body_bytes: Arc::default(),
            effects: Effects::default(),
        }
    }

    /// Takes what has collected to be done outside.
    pub(crate) fn take_effects(&mut self) -> Effects {
        self.effects.sooner = self.deadlines.take_sooner();
        self.effects.changed = !self.changed_topics.is_empty();
        std::mem::take(&mut self.effects)
    }

    /// Bytes that count against `max_memory`.
    pub(crate) fn used(&self) -> usize {
        self.body_bytes.load(Ordering::Relaxed) + self.cost.bytes
    }
}
