//! Topics with a log against a model: whatever happens, and however often the broker is killed, no message is lost, and one
//! that was finished before the last time that this was kept never comes again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use nsq_protocol::{BodiesBuf, ChannelName, MessageId, TopicName};
use proptest::collection::vec;
use proptest::prelude::*;

use super::backlog::{LoadedRun, Moment};
use super::batch::{MessageRun, NewBatch};
use super::kept::{KeptRun, TopicChanges};
use super::load::{LoadPlan, Loaded};
use super::saved::{SavedChannel, SavedTopic};
use super::state::Core;
use crate::broker::config::BrokerConfig;
use crate::model::unix_time::UnixMs;

const CHANNELS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum KeptStep {
    Publish {
        count: u32,
        delay_ms: u64,
    },
    Channel(usize),
    Delete(usize),
    Empty(usize),
    Pause(usize, bool),
    PauseTopic(bool),
    EmptyTopic,
    Pull(usize, u32),
    Finish(usize, usize),
    Requeue(usize, usize, u64),
    Disconnect(usize),
    Load,
    Time(u64),
    /// The log is long; with a larger number less of it is looked at.
    Straggle(u64),
    Keep,
    Kill,
}

fn step() -> impl Strategy<Value = KeptStep> {
    let channel = 0..CHANNELS.len();
    let delay = || prop_oneof![Just(0u64), 1..5000u64];
    prop_oneof![
        6 => (1..5u32).prop_map(|count| KeptStep::Publish { count, delay_ms: 0 }),
        2 => (1..5000u64).prop_map(|delay_ms| KeptStep::Publish { count: 1, delay_ms }),
        2 => channel.clone().prop_map(KeptStep::Channel),
        1 => channel.clone().prop_map(KeptStep::Delete),
        1 => channel.clone().prop_map(KeptStep::Empty),
        1 => (channel.clone(), any::<bool>()).prop_map(|(nth, on)| KeptStep::Pause(nth, on)),
        1 => any::<bool>().prop_map(KeptStep::PauseTopic),
        1 => Just(KeptStep::EmptyTopic),
        8 => (channel.clone(), 1..6u32).prop_map(|(nth, rdy)| KeptStep::Pull(nth, rdy)),
        8 => (channel.clone(), 0..6usize).prop_map(|(nth, at)| KeptStep::Finish(nth, at)),
        3 => (channel.clone(), 0..6usize, delay()).prop_map(|(nth, at, ms)| KeptStep::Requeue(nth, at, ms)),
        1 => channel.prop_map(KeptStep::Disconnect),
        4 => Just(KeptStep::Load),
        2 => (1..40_000u64).prop_map(KeptStep::Time),
        3 => (0..5u64).prop_map(KeptStep::Straggle),
        4 => Just(KeptStep::Keep),
        2 => Just(KeptStep::Kill),
    ]
}

/// A frame of the log.
#[derive(Clone)]
enum Entry {
    Messages { first: u64, count: u32, due_ms: u64 },
    Topic(SavedTopic),
    Channel(ChannelName, SavedChannel),
}

/// What must become of a channel's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Live,
    /// Done, and a kill may bring it back.
    Done,
    /// Done for good.
    KeptRun,
}

struct World {
    core: Core,
    log: Vec<Entry>,
    next_id: u64,
    ms: u64,
    start: Instant,
    used: Arc<AtomicUsize>,
    /// Of the channels that are there.
    fates: BTreeMap<usize, BTreeMap<u64, Fate>>,
    /// What waits in the topic.
    waiting: BTreeSet<u64>,
    is_paused: bool,
    /// What the consumers hold.
    held: BTreeMap<usize, Vec<u64>>,
}

fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

fn name(nth: usize) -> ChannelName {
    ChannelName::new(CHANNELS[nth]).unwrap()
}

/// `count` messages, each with its ID as its body.
fn run(first: u64, count: u32, used: &Arc<AtomicUsize>) -> MessageRun {
    let mut bodies = BodiesBuf::new();
    (first..first + u64::from(count)).for_each(|id| bodies.push(&id.to_be_bytes()));
    NewBatch::many(bodies.as_bodies()).number(first, 1, used)
}

impl World {
    fn config(max_memory: usize) -> BrokerConfig {
        BrokerConfig {
            data_path: Some("kept".into()),
            mem_queue_size: 5,
            max_memory,
            ..BrokerConfig::default()
        }
    }

    fn new(max_memory: usize) -> Self {
        let mut core = Core::new(Self::config(max_memory), UnixMs(0));
        core.create_topic(&topic()).unwrap();
        let used = core.body_bytes();
        let mut world = Self {
            core,
            log: Vec::new(),
            next_id: 1,
            ms: 1,
            start: Instant::now(),
            used,
            fates: BTreeMap::new(),
            waiting: BTreeSet::new(),
            is_paused: false,
            held: BTreeMap::new(),
        };
        world.tell();
        world
    }

    fn moment(&self) -> Moment {
        Moment { now: self.start + Duration::from_millis(self.ms), unix_ms: self.ms }
    }

    fn now(&self) -> Instant {
        self.moment().now
    }

    /// As after each change of the topic.
    fn tell(&mut self) {
        let moment = self.moment();
        match self.core.take_changes(&topic(), true, moment) {
            Some(TopicChanges::Whole(saved)) => self.log.push(Entry::Topic(saved)),
            changes => panic!("{changes:?}"),
        }
        self.settle_fates();
    }

    fn settle_fates(&mut self) {
        for fate in self.fates.values_mut().flat_map(BTreeMap::values_mut) {
            if *fate == Fate::Done {
                *fate = Fate::KeptRun;
            }
        }
    }

    fn keep(&mut self) {
        let moment = self.moment();
        match self.core.take_changes(&topic(), false, moment) {
            Some(TopicChanges::Channels(channels)) => {
                self.log
                    .extend(channels.into_iter().map(|(name, saved)| Entry::Channel(name, saved)));
                self.settle_fates();
            }
            Some(TopicChanges::Whole(saved)) => {
                self.log.push(Entry::Topic(saved));
                self.settle_fates();
            }
            None => panic!("the topic is there"),
        }
    }

    fn kill(&mut self) {
        let mut saved = SavedTopic::new(topic());
        for entry in &self.log {
            match entry.clone() {
                Entry::Messages { first, count, .. } => saved.publish(first, count.into()),
                Entry::Topic(topic) => saved = topic,
                Entry::Channel(name, channel) => saved.set_channel(&name, channel),
            }
        }
        let oldest = saved.oldest();
        self.core = Core::new(Self::config(self.core.config.max_memory), UnixMs(0));
        self.core.restore(&saved, self.moment());
        assert_eq!(self.core.oldest(&topic()), Some(oldest));
        self.used = self.core.body_bytes();
        self.held.clear();
        for fate in self.fates.values_mut().flat_map(BTreeMap::values_mut) {
            if *fate == Fate::Done {
                *fate = Fate::Live;
            }
        }
    }

    fn publish(&mut self, count: u32, delay_ms: u64) {
        let first = self.next_id;
        // Some IDs are no message's.
        self.next_id += u64::from(count) + self.ms % 3;
        let due_ms = if delay_ms > 0 { self.ms + delay_ms } else { 0 };
        self.log.push(Entry::Messages { first, count, due_ms });
        let due = (delay_ms > 0).then(|| self.now() + Duration::from_millis(delay_ms));
        let run = run(first, count, &self.used);
        self.core.publish_kept(
            &topic(),
            KeptRun { publisher: None, run, bytes: 8 * count as usize, due },
        );
        let ids = first..first + u64::from(count);
        if self.fates.is_empty() || self.is_paused {
            self.waiting.extend(ids);
        } else {
            for fates in self.fates.values_mut() {
                fates.extend(ids.clone().map(|id| (id, Fate::Live)));
            }
        }
    }

    fn drain(&mut self) {
        if self.is_paused || self.fates.is_empty() {
            return;
        }
        for fates in self.fates.values_mut() {
            fates.extend(self.waiting.iter().map(|id| (*id, Fate::Live)));
        }
        self.waiting.clear();
    }

    fn make(&mut self, nth: usize) {
        self.core.create_channel(&topic(), &name(nth), self.now()).unwrap();
        self.fates.entry(nth).or_default();
        self.drain();
        self.tell();
    }

    fn client(nth: usize) -> u64 {
        10 + nth as u64
    }

    fn pull(&mut self, nth: usize, rdy: u32) {
        if !self.fates.contains_key(&nth) {
            return;
        }
        let (id, now) = (Self::client(nth), self.now());
        if !self.held.contains_key(&nth) {
            self.core.connect(id, "127.0.0.1:1".into(), UnixMs(0));
            self.core.subscribe(id, &topic(), &name(nth), now).unwrap();
            self.held.insert(nth, Vec::new());
        }
        let held = self.held.entry(nth).or_default();
        self.core.set_ready(id, held.len() as u32 + rdy);
        let mut runs = Vec::new();
        self.core.pull(id, now, 1 << 20, &mut runs);
        for (id, body) in runs.iter().flat_map(MessageRun::messages) {
            assert_eq!(body, id.to_be_bytes(), "the body of {id}");
            let fate = self.fates[&nth].get(&id);
            assert_eq!(fate, Some(&Fate::Live), "message {id} of channel {nth} comes");
            assert!(!held.contains(&id), "message {id} is in flight");
            held.push(id);
        }
    }

    fn take(&mut self, nth: usize, at: usize) -> Option<u64> {
        let held = self.held.get_mut(&nth)?;
        (at < held.len()).then(|| held.remove(at))
    }

    fn finish(&mut self, nth: usize, at: usize) {
        let Some(id) = self.take(nth, at) else { return };
        let mut failed = None;
        let message = std::iter::once(MessageId::from_u64(id));
        self.core.finish(Self::client(nth), 0, message, |id, why| failed = Some((id, why)));
        assert_eq!(failed, None);
        self.fates.get_mut(&nth).unwrap().insert(id, Fate::Done);
    }

    fn load(&mut self) {
        while let Some(plan) = self.core.next_load() {
            let loaded = self.read(&plan);
            let moment = self.moment();
            self.core.loaded(&plan, loaded, moment);
        }
    }

    fn read(&self, plan: &LoadPlan) -> Loaded {
        let mut loaded = Loaded { runs: Vec::new(), next: plan.until, place: None };
        let mut messages = 0;
        for entry in &self.log {
            let Entry::Messages { first, count, due_ms } = entry else { continue };
            let end = first + u64::from(*count);
            if end <= plan.from {
                continue;
            }
            if *first >= plan.until || messages >= plan.messages {
                loaded.next = *first;
                break;
            }
            messages += *count as usize;
            loaded.runs.push(LoadedRun { run: run(*first, *count, &self.used), due_ms: *due_ms });
        }
        loaded.next = loaded.next.min(plan.until);
        loaded
    }

    fn time(&mut self, ms: u64) {
        self.ms += ms;
        let now = self.now();
        while self.core.tick(now, 100) {}
        // What has timed out is not held any more.
        for (nth, held) in &mut self.held {
            let key = self.core.topics[&topic()].channels.get(&name(*nth));
            let Some(channel) = key.and_then(|key| self.core.channels.get(key)) else { continue };
            let mut in_flight = BTreeSet::new();
            channel.in_flight.left(|first, count, _| {
                in_flight.extend(first..first + u64::from(count));
            });
            held.retain(|id| in_flight.contains(id));
        }
    }

    fn do_step(&mut self, step: KeptStep) {
        match step {
            KeptStep::Publish { count, delay_ms } => self.publish(count, delay_ms),
            KeptStep::Channel(nth) => self.make(nth),
            KeptStep::Delete(nth) => {
                if self.core.delete_channel(&topic(), &name(nth)).is_ok() {
                    self.tell();
                }
                self.disconnect(nth);
                self.fates.remove(&nth);
            }
            KeptStep::Empty(nth) => {
                if self.core.empty_channel(&topic(), &name(nth)).is_ok() {
                    self.tell();
                    self.fates.insert(nth, BTreeMap::new());
                    self.held.entry(nth).and_modify(Vec::clear);
                }
            }
            KeptStep::Pause(nth, on) => {
                let done = match on {
                    true => self.core.pause_channel(&topic(), &name(nth)),
                    false => self.core.unpause_channel(&topic(), &name(nth)),
                };
                if done.is_ok() {
                    self.tell();
                }
            }
            KeptStep::PauseTopic(on) => {
                self.is_paused = on;
                match on {
                    true => self.core.pause_topic(&topic()).unwrap(),
                    false => self.core.unpause_topic(&topic(), self.now()).unwrap(),
                }
                self.drain();
                self.tell();
            }
            KeptStep::EmptyTopic => {
                self.core.empty_topic(&topic()).unwrap();
                self.waiting.clear();
                self.tell();
            }
            KeptStep::Pull(nth, rdy) => self.pull(nth, rdy),
            KeptStep::Finish(nth, at) => self.finish(nth, at),
            KeptStep::Requeue(nth, at, ms) => {
                if let Some(id) = self.take(nth, at) {
                    let delay = Duration::from_millis(ms);
                    let message = MessageId::from_u64(id);
                    self.core.requeue(Self::client(nth), message, delay, self.now()).unwrap();
                }
            }
            KeptStep::Disconnect(nth) => self.disconnect(nth),
            KeptStep::Load => self.load(),
            KeptStep::Time(ms) => self.time(ms),
            KeptStep::Straggle(back) => self.straggle(back),
            KeptStep::Keep => self.keep(),
            KeptStep::Kill => self.kill(),
        }
        self.core.take_effects();
    }

    /// Keeps what is far behind elsewhere, and gives up what nobody needs of the log.
    fn straggle(&mut self, back: u64) {
        self.keep();
        let state = &self.core.topics[&topic()];
        let channels = state.channels.values().filter_map(|key| self.core.channels.get(key));
        let backlogs = channels.filter_map(|channel| channel.backlog.as_ref());
        let passed = backlogs.map(|backlog| backlog.next.min(backlog.pulled_below)).min();
        let waiting = state.tail.unwrap().first_of_new();
        // All have gone past it, or not quite.
        let below = (passed.unwrap_or(waiting).min(waiting) + 1).saturating_sub(back);
        if self.core.note_stragglers(&topic(), below, 1000) {
            self.tell();
            self.core.stragglers_told(&topic());
        }
        let oldest = self.core.oldest(&topic()).unwrap();
        let told = self.log.iter().rposition(|entry| matches!(entry, Entry::Topic(_))).unwrap();
        let mut at = 0;
        self.log.retain(|entry| {
            at += 1;
            let is_needed = match entry {
                Entry::Messages { first, count, .. } => first + u64::from(*count) > oldest,
                _ => true,
            };
            at > told || is_needed
        });
    }

    fn disconnect(&mut self, nth: usize) {
        if self.held.remove(&nth).is_some() {
            self.core.disconnect(Self::client(nth));
        }
    }

    /// Gets and finishes all there is.
    fn finish_all(&mut self) {
        self.do_step(KeptStep::PauseTopic(false));
        if self.fates.is_empty() {
            self.make(0);
        }
        for nth in 0..CHANNELS.len() {
            self.do_step(KeptStep::Pause(nth, false));
        }
        for _ in 0..2000 {
            self.load();
            self.time(10_000);
            for nth in self.fates.keys().copied().collect::<Vec<_>>() {
                self.pull(nth, 100);
                while self.held.get(&nth).is_some_and(|held| !held.is_empty()) {
                    self.finish(nth, 0);
                }
            }
            if self.fates.values().flat_map(BTreeMap::values).all(|fate| *fate != Fate::Live) {
                break;
            }
        }
        // A channel that let go of what was finished looks for more.
        self.load();
        for (nth, fates) in &self.fates {
            let lost: Vec<u64> =
                fates.iter().filter(|(_, fate)| **fate == Fate::Live).map(|(id, _)| *id).collect();
            assert_eq!(lost, [0u64; 0], "channel {nth} never gets them");
        }
        for channel in self.core.channels.values() {
            let left = (channel.depth(), channel.in_flight.len(), channel.deferred.len());
            assert_eq!(left, (0, 0, 0), "{:?}", channel.name);
        }
        self.keep();
        let end = self.log.iter().rev().find_map(|entry| match entry {
            Entry::Messages { first, count, .. } => Some(first + u64::from(*count)),
            _ => None,
        });
        // All segments but the last can go.
        assert!(self.core.oldest(&topic()) >= end, "{end:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn nothing_is_lost_and_what_is_kept_as_done_never_comes_again(
        steps in vec(step(), 1..120),
        max_memory in prop_oneof![Just(usize::MAX), 1000..20_000usize],
    ) {
        let mut world = World::new(max_memory);
        for step in steps {
            world.do_step(step);
        }
        world.finish_all();
        world.do_step(KeptStep::Kill);
        // Nothing is left, for good.
        world.finish_all();
    }
}
