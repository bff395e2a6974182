//! Reading back: what channels want of the log, and what becomes of it (pure).

use super::backlog::{LoadedRun, LogPlace, Moment};
use super::channel::Channel;
use super::cost::settle;
use super::queue::Deferred;
use super::state::Core;
use super::wake::wake_idle;

/// Bytes of bodies that are read from the log at a time.
const LOAD_BYTES: usize = 1 << 20;

/// Deferred messages that keep nobody from reading one more where memory is full: they are not there to be finished. Beyond them
/// memory would have no limit.
const DEFERRED_BESIDE: usize = 64;

/// What is to be read from a topic's log for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoadPlan {
    pub(crate) topic: nsq_protocol::TopicName,
    /// The channel.
    pub(crate) key: u64,
    /// The ID of the first message that is wanted.
    pub(crate) from: u64,
    /// Messages from this ID on are not.
    pub(crate) until: u64,
    /// Where `from` lies, if that is known.
    pub(crate) place: Option<LogPlace>,
    /// When so many messages are read it is enough.
    pub(crate) messages: usize,
    /// So many bytes likewise.
    pub(crate) bytes: usize,
}

/// What was read.
pub(crate) struct Loaded {
    pub(crate) runs: Vec<LoadedRun>,
    /// The ID behind the last message that was read; where the log has no more, the plan's `until`.
    pub(crate) next: u64,
    /// Where it lies.
    pub(crate) place: Option<LogPlace>,
}

impl Core {
    /// Has the log read for a channel, if it is behind and there is somebody to read it for.
    pub(super) fn want_load(&mut self, key: u64) {
        if !self.keeps {
            return;
        }
        let low = self.config.mem_queue_size / 2;
        let Some(channel) = self.channels.get_mut(&key) else { return };
        let Some(backlog) = &mut channel.backlog else { return };
        let is_wanted = !channel.consumers.is_empty() && !channel.paused;
        if is_wanted && backlog.is_behind() && !backlog.is_loading && channel.queue.depth() <= low {
            backlog.is_loading = true;
            self.to_load.push_back(key);
            self.effects.load = true;
        }
    }

    /// The next thing to read; [`Core::loaded`] must be told what came of it.
    pub(crate) fn next_load(&mut self) -> Option<LoadPlan> {
        while let Some(key) = self.to_load.pop_front() {
            if self.used() + LOAD_BYTES > self.config.max_memory {
                self.evict(LOAD_BYTES);
            }
            let is_full = self.used() > self.config.max_memory;
            let Some(channel) = self.channels.get_mut(&key) else { continue };
            let depth = channel.queue.depth();
            let Some(backlog) = &mut channel.backlog else { continue };
            let deferred = channel.deferred.len().saturating_sub(DEFERRED_BESIDE);
            let holds = depth + channel.in_flight.len() + deferred;
            // Where memory is full, one at a time: whoever has some frees it by finishing.
            if !backlog.is_behind() || is_full && holds > 0 {
                backlog.is_loading = false;
                // Nobody has any of it to finish.
                if backlog.is_behind() && depth + channel.in_flight.len() == 0 {
                    self.starved.insert(key);
                }
                continue;
            }
            let room = self.config.mem_queue_size.saturating_sub(depth).max(1);
            return Some(LoadPlan {
                topic: channel.topic,
                key,
                from: backlog.next,
                until: backlog.until,
                place: backlog.place,
                messages: if is_full { 1 } else { room },
                bytes: LOAD_BYTES,
            });
        }
        None
    }

    /// Whether there are channels that get nothing as long as memory is full: see [`Core::feed_starved`].
    pub(crate) fn has_starved(&self) -> bool {
        !self.starved.is_empty()
    }

    /// Has the log read for them once more, if it is still to be.
    pub(crate) fn feed_starved(&mut self) {
        for key in std::mem::take(&mut self.starved) {
            self.want_load(key);
        }
    }

    /// Nothing was read for a channel; `again`: it is to be tried once more.
    pub(crate) fn load_failed(&mut self, plan: &LoadPlan, again: bool) {
        if let Some(channel) = self.channels.get_mut(&plan.key)
            && let Some(backlog) = &mut channel.backlog
        {
            backlog.is_loading = false;
            // The log may have given it up meanwhile.
            backlog.place = None;
        }
        if again {
            self.want_load(plan.key);
        }
    }

    /// What was read for a channel.
    pub(crate) fn loaded(&mut self, plan: &LoadPlan, loaded: Loaded, moment: Moment) {
        let Some(channel) = self.channels.get_mut(&plan.key) else { return };
        let before = channel.cost();
        let Some(backlog) = &mut channel.backlog else { return };
        backlog.is_loading = false;
        // Else it was emptied meanwhile, or what it had in memory was let go of.
        if backlog.next == plan.from {
            let mut deferred = Vec::new();
            for run in loaded.runs {
                for LoadedRun { run, due_ms } in backlog.unfinished(run) {
                    backlog.depth = backlog.depth.saturating_sub(run.left as usize);
                    if due_ms > moment.unix_ms {
                        deferred.push(Deferred { run, due: moment.instant(due_ms) });
                    } else {
                        channel.queue.push(run);
                    }
                }
            }
            (backlog.next, backlog.place) = (loaded.next.max(plan.from), loaded.place);
            backlog.forget_left();
            if !backlog.is_behind() {
                // What the log has lost is no more.
                backlog.depth = 0;
            }
            for one in deferred {
                channel.set_apart(plan.key, one, &mut self.deadlines);
            }
        }
        settle(&mut self.cost, before, channel.cost());
        wake_idle(channel, &mut self.clients, &mut self.effects);
        self.want_load(plan.key);
    }

    /// Lets go of messages that are in the log, too, until there is room for `bytes`: in channels that nobody reads or that are
    /// paused, the fullest first. What others have is about to be delivered, and would be read again at once.
    pub(super) fn evict(&mut self, bytes: usize) {
        let is_meant = |channel: &Channel| {
            let is_read = !channel.consumers.is_empty() && !channel.paused;
            channel.backlog.is_some() && !channel.name.is_ephemeral() && !is_read
        };
        self.relieve_fullest(bytes, is_meant, Channel::evict);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use nsq_protocol::{ChannelName, TopicName};

    use crate::broker::config::BrokerConfig;
    use crate::broker::core::batch::NewBatch;
    use crate::broker::core::kept::KeptRun;
    use crate::broker::core::state::Core;
    use crate::model::unix_time::UnixMs;

    fn publish(core: &mut Core, topic: &TopicName, id: u64, due: Option<Instant>) {
        let run = NewBatch::one(b"x").number(id, 1, &core.body_bytes());
        core.publish_kept(topic, KeptRun { publisher: None, run, bytes: 1, due });
    }

    /// Nobody has anything to finish there, so nothing else would ask.
    #[test]
    fn a_channel_with_deferred_messages_is_read_for_once_memory_has_room() {
        let config = BrokerConfig { data_path: Some("kept".into()), ..BrokerConfig::default() };
        let full = config.max_memory;
        let (mut core, now) = (Core::new(config, UnixMs(0)), Instant::now());
        let topic = TopicName::new("t").unwrap();
        core.connect(1, "10.0.0.1:5".into(), UnixMs(0));
        core.subscribe(1, &topic, &ChannelName::new("c").unwrap(), now).unwrap();
        core.set_ready(1, 5);
        for id in 1..=100 {
            publish(&mut core, &topic, id, Some(now + Duration::from_secs(3600)));
        }
        // What others hold.
        let used = core.body_bytes();
        used.fetch_add(full, Ordering::Relaxed);
        publish(&mut core, &topic, 101, None);
        assert!(core.next_load().is_none() && core.has_starved(), "memory is full");
        core.feed_starved();
        assert!(core.next_load().is_none() && core.has_starved(), "it still is");
        used.fetch_sub(full, Ordering::Relaxed);
        core.feed_starved();
        let plan = core.next_load().expect("something to read");
        assert_eq!((plan.from, core.has_starved()), (101, false));
    }
}
