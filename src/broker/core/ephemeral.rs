//! What an `#ephemeral` topic or channel has no room for is dropped there, and keeps nobody from publishing (pure).

use nsq_protocol::TopicName;

use super::batch::MessageRun;
use super::channel::Channel;
use super::cost::settle;
use super::limits::LimitError;
use super::queue::RunQueue;
use super::state::Core;
use super::topic::Topic;

/// Takes off `run` what there is no room for where `held` messages wait already. How many that were.
fn drop_excess(run: &mut MessageRun, held: usize, max: usize) -> u64 {
    // nsqd hands one over where a consumer waits for it, even with a queue of 0.
    let room = max.max(1).saturating_sub(held);
    let taken = run.left.min(u32::try_from(room).unwrap_or(u32::MAX));
    let dropped = run.left - taken;
    run.left = taken;
    u64::from(dropped)
}

impl Channel {
    /// Takes off `run` what there is no room for, if the channel is ephemeral.
    pub(super) fn drop_excess(&mut self, run: &mut MessageRun, max: usize) {
        if self.name.is_ephemeral() {
            self.dropped_count += drop_excess(run, self.queue.depth() + self.deferred.len(), max);
        }
    }
}

impl Channel {
    /// Gives up what is only in the log, below `end`, if the channel is ephemeral and has too much.
    pub(super) fn drop_unread(&mut self, end: u64, max: usize) {
        let held = self.queue.depth();
        let Some(backlog) = self.backlog.as_mut().filter(|_| self.name.is_ephemeral()) else {
            return;
        };
        if backlog.is_behind() && held + backlog.depth >= max.max(1) {
            self.dropped_count += backlog.depth as u64;
            backlog.depth = 0;
            backlog.take(end);
        }
    }
}

impl Topic {
    /// The same for a topic, called `name`, in which messages wait.
    pub(super) fn drop_excess(&mut self, name: &TopicName, run: &mut MessageRun, max: usize) {
        if name.is_ephemeral() {
            self.dropped_count += drop_excess(run, self.queue.depth() + self.deferred.len(), max);
        }
    }
}

impl Core {
    /// Makes sure that `bytes` more can be held: what waits in ephemeral channels and topics goes first, and the fullest
    /// of the channels before the others.
    pub(super) fn make_room(&mut self, bytes: usize) -> Result<(), LimitError> {
        let max = self.config.max_memory;
        // What is on disk, too, is lost to nobody.
        if self.used() + bytes > max {
            self.evict(bytes);
        }
        if self.used() + bytes > max {
            self.shed_channels(bytes);
        }
        if self.used() + bytes > max {
            self.shed_topics();
        }
        match self.used() {
            used if used + bytes > max => Err(LimitError::Memory { used, max }),
            _ => Ok(()),
        }
    }

    pub(super) fn shed_channels(&mut self, bytes: usize) {
        self.relieve_fullest(
            bytes,
            |channel| channel.name.is_ephemeral(),
            |channel| {
                channel.dropped_count += channel.queue.depth() as u64;
                channel.queue = RunQueue::default();
            },
        );
    }

    /// Has channels that are meant give up what waits in their memory by `relieve`, the fullest first, until there is room for
    /// `bytes`.
    pub(super) fn relieve_fullest(
        &mut self,
        bytes: usize,
        is_meant: impl Fn(&Channel) -> bool,
        relieve: impl Fn(&mut Channel),
    ) {
        let depths =
            self.channels.iter().map(|(key, channel)| (channel, channel.queue.depth(), *key));
        let meant = depths.filter(|(channel, depth, _)| *depth > 0 && is_meant(channel));
        let mut fullest: Vec<(usize, u64)> = meant.map(|(_, depth, key)| (depth, key)).collect();
        fullest.sort_unstable_by(|one, other| other.cmp(one));
        for (_, key) in fullest {
            if self.used() + bytes <= self.config.max_memory {
                return;
            }
            let Some(channel) = self.channels.get_mut(&key) else { continue };
            let before = channel.cost();
            relieve(channel);
            settle(&mut self.cost, before, channel.cost());
        }
    }

    fn shed_topics(&mut self) {
        for (_, topic) in self.topics.iter_mut().filter(|(name, _)| name.is_ephemeral()) {
            let before = topic.cost();
            topic.dropped_count += topic.queue.depth() as u64;
            topic.queue = RunQueue::default();
            settle(&mut self.cost, before, topic.cost());
        }
    }
}
