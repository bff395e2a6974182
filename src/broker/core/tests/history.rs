//! Random histories of one topic beside a simple model of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nsq_protocol::{ChannelName, MessageId};
use proptest::prelude::*;

use super::{TIMEOUT, batch, channel, core, finish, topic};
use crate::broker::core::ids::ClientId;
use crate::broker::core::in_flight::InFlightError;
use crate::broker::core::state::Core;
use crate::broker::stats::StatsFilter;
use crate::model::unix_time::UnixMs;

#[derive(Clone, Debug)]
enum HistoryStep {
    Publish(usize, u64),
    Ready(u64, u32),
    /// The consumer does what its writer does, if it was woken.
    Pull(u64, usize),
    /// The n-th of what the consumer holds.
    Finish(u64, usize),
    Requeue(u64, usize, u64),
    Touch(u64, usize),
    Reconnect(u64),
    Advance(u64),
    PauseChannel(u64, bool),
    PauseTopic(bool),
    EmptyChannel(u64),
}

fn any_step() -> impl Strategy<Value = HistoryStep> {
    use HistoryStep::*;
    let who = 1u64..=4;
    prop_oneof![
        6 => (prop_oneof![1usize..20, 20usize..150], prop_oneof![3 => Just(0), 1 => 1u64..50])
            .prop_map(|(count, delay)| Publish(if delay == 0 { count } else { 1 }, delay)),
        4 => (who.clone(), prop_oneof![0u32..12, 30u32..120]).prop_map(|(id, rdy)| Ready(id, rdy)),
        12 => (who.clone(), prop_oneof![1usize..2000, 2000usize..20_000]).prop_map(|(id, budget)| Pull(id, budget)),
        12 => (who.clone(), any::<usize>()).prop_map(|(id, nth)| Finish(id, nth)),
        3 => (who.clone(), any::<usize>(), prop_oneof![Just(0), 1u64..50])
            .prop_map(|(id, nth, delay)| Requeue(id, nth, delay)),
        2 => (who.clone(), any::<usize>()).prop_map(|(id, nth)| Touch(id, nth)),
        1 => who.clone().prop_map(Reconnect),
        3 => (1u64..70).prop_map(Advance),
        1 => (0u64..2, any::<bool>()).prop_map(|(index, paused)| PauseChannel(index, paused)),
        1 => any::<bool>().prop_map(PauseTopic),
        1 => (0u64..2).prop_map(EmptyChannel),
    ]
}

/// What one channel must hold: every message is in one of three places.
#[derive(Default)]
struct ChannelModel {
    waiting: BTreeSet<u64>,
    held: BTreeMap<u64, (ClientId, Instant)>,
    deferred: BTreeMap<u64, Instant>,
}

struct World {
    core: Core,
    now: Instant,
    channels: [ChannelModel; 2],
    /// Published while the topic is paused, with their delays' ends.
    topic: Vec<(u64, Instant)>,
    topic_paused: bool,
    paused: [bool; 2],
    rdy: [u32; 5],
    woken: BTreeSet<ClientId>,
    next_id: u64,
}

fn index_of(id: ClientId) -> usize {
    (id % 2) as usize
}

fn name_of(index: usize) -> ChannelName {
    channel(if index == 0 { "even" } else { "odd" })
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let mut world = Self {
            core: core(|_| ()),
            now,
            channels: Default::default(),
            topic: Vec::new(),
            topic_paused: false,
            paused: [false; 2],
            rdy: [0; 5],
            woken: BTreeSet::new(),
            next_id: 1,
        };
        (1..=4).for_each(|id| world.connect(id));
        world
    }

    fn connect(&mut self, id: ClientId) {
        self.core.connect(id, String::new(), UnixMs(0));
        self.core.subscribe(id, &topic("t"), &name_of(index_of(id)), self.now).unwrap();
        self.rdy[id as usize] = 0;
    }

    fn nth_held(&self, id: ClientId, nth: usize) -> Option<u64> {
        let mine: Vec<u64> = self.channels[index_of(id)]
            .held
            .iter()
            .filter(|(_, (owner, _))| *owner == id)
            .map(|(message, _)| *message)
            .collect();
        (!mine.is_empty()).then(|| mine[nth % mine.len()])
    }

    fn hand_out(&mut self) {
        if self.topic_paused {
            return;
        }
        for (id, due) in self.topic.drain(..) {
            for model in &mut self.channels {
                if due <= self.now {
                    model.waiting.insert(id);
                } else {
                    model.deferred.insert(id, due);
                }
            }
        }
    }

    fn step(&mut self, step: &HistoryStep) {
        let now = self.now;
        match *step {
            HistoryStep::Publish(count, delay) => {
                let delay = Duration::from_secs(delay);
                self.core.publish(None, &topic("t"), batch(count), delay, now, 0).unwrap();
                let ids = self.next_id..self.next_id + count as u64;
                self.next_id = ids.end;
                self.topic.extend(ids.map(|id| (id, now + delay)));
                self.hand_out();
            }
            HistoryStep::Ready(id, rdy) => {
                self.core.set_ready(id, rdy);
                self.rdy[id as usize] = rdy;
            }
            HistoryStep::Pull(id, budget) => self.pull(id, budget),
            HistoryStep::Finish(id, nth) => {
                let Some(message) = self.nth_held(id, nth) else { return };
                // Its neighbour on the same channel does not own it.
                let other = if id > 2 { id - 2 } else { id + 2 };
                assert_eq!(finish(&mut self.core, other, message), Err(InFlightError::NotOwner));
                assert_eq!(finish(&mut self.core, id, message), Ok(()));
                assert_eq!(finish(&mut self.core, id, message), Err(InFlightError::NotInFlight));
                self.channels[index_of(id)].held.remove(&message);
            }
            HistoryStep::Requeue(id, nth, delay) => {
                let Some(message) = self.nth_held(id, nth) else { return };
                let delay = Duration::from_secs(delay);
                assert_eq!(self.core.requeue(id, MessageId::from_u64(message), delay, now), Ok(()));
                let model = &mut self.channels[index_of(id)];
                model.held.remove(&message);
                if delay.is_zero() {
                    model.waiting.insert(message);
                } else {
                    model.deferred.insert(message, now + delay);
                }
            }
            HistoryStep::Touch(id, nth) => {
                let Some(message) = self.nth_held(id, nth) else { return };
                assert_eq!(self.core.touch(id, MessageId::from_u64(message), now), Ok(()));
                self.channels[index_of(id)].held.insert(message, (id, now + TIMEOUT));
            }
            HistoryStep::Reconnect(id) => {
                self.core.disconnect(id);
                let model = &mut self.channels[index_of(id)];
                while let Some(message) =
                    model.held.iter().find(|(_, (owner, _))| *owner == id).map(|(id, _)| *id)
                {
                    model.held.remove(&message);
                    model.waiting.insert(message);
                }
                self.woken.remove(&id);
                self.connect(id);
            }
            HistoryStep::Advance(seconds) => {
                self.now += Duration::from_secs(seconds);
                while self.core.tick(self.now, 3) {}
                for model in &mut self.channels {
                    let now = self.now;
                    let timed_out = model.held.extract_if(.., |_, (_, at)| *at <= now);
                    let due = model.deferred.extract_if(.., |_, at| *at <= now);
                    model.waiting.extend(timed_out.map(|(id, _)| id));
                    model.waiting.extend(due.map(|(id, _)| id));
                }
            }
            HistoryStep::PauseChannel(index, paused) => {
                let index = index as usize;
                let (topic, name) = (topic("t"), name_of(index));
                let result = if paused {
                    self.core.pause_channel(&topic, &name)
                } else {
                    self.core.unpause_channel(&topic, &name)
                };
                result.unwrap();
                self.paused[index] = paused;
            }
            HistoryStep::PauseTopic(paused) => {
                let result = if paused {
                    self.core.pause_topic(&topic("t"))
                } else {
                    self.core.unpause_topic(&topic("t"), now)
                };
                result.unwrap();
                self.topic_paused = paused;
                self.hand_out();
            }
            HistoryStep::EmptyChannel(index) => {
                let index = index as usize;
                self.core.empty_channel(&topic("t"), &name_of(index)).unwrap();
                self.channels[index] = ChannelModel::default();
            }
        }
        self.collect();
    }

    fn collect(&mut self) {
        let effects = self.core.take_effects();
        assert!(effects.close.is_empty());
        self.woken.extend(effects.wake);
    }

    fn pull(&mut self, id: ClientId, budget: usize) {
        if !self.woken.remove(&id) {
            return;
        }
        let mut runs = Vec::new();
        if self.core.pull(id, self.now, budget, &mut runs) {
            self.woken.insert(id);
        }
        let model = &mut self.channels[index_of(id)];
        for run in &runs {
            for (message, body) in run.messages() {
                assert!(body.starts_with(b"body "));
                assert!(model.waiting.remove(&message), "{message} was not waiting");
                model.held.insert(message, (id, self.now + TIMEOUT));
            }
        }
        let mine = model.held.values().filter(|(owner, _)| *owner == id).count();
        if !runs.is_empty() {
            assert!(mine <= self.rdy[id as usize] as usize, "{mine} in flight");
            assert!(!self.paused[index_of(id)]);
        }
        self.collect();
    }

    fn check(&self) {
        let stats = self.core.stats(&StatsFilter::default());
        let stats = &stats.topics.unwrap()[0];
        assert_eq!(stats.depth, self.topic.len());
        for (index, model) in self.channels.iter().enumerate() {
            let found = &stats.channels[index];
            assert_eq!(
                (found.depth, found.in_flight_count, found.deferred_count),
                (model.waiting.len(), model.held.len(), model.deferred.len())
            );
            let live: u32 =
                found.clients.iter().flatten().map(|client| client.in_flight_count).sum();
            assert_eq!(live as usize, model.held.len());
            // Whoever may have a message that waits has been woken for it, or somebody else has.
            let ready = found
                .clients
                .iter()
                .flatten()
                .any(|client| client.ready_count > client.in_flight_count);
            if ready && found.depth > 0 && !found.paused {
                let both = [index as u64, index as u64 + 2, 4];
                let woken = both.iter().any(|id| index_of(*id) == index && self.woken.contains(id));
                assert!(woken, "channel {index} sleeps on {} messages", found.depth);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_history_keeps_every_message_in_one_place(
        steps in proptest::collection::vec(any_step(), 1..150)
    ) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        // In the end everything can be delivered and finished, and nothing stays behind.
        world.step(&HistoryStep::PauseTopic(false));
        (0..2).for_each(|index| world.step(&HistoryStep::PauseChannel(index, false)));
        world.step(&HistoryStep::Advance(1000));
        (1..=4).for_each(|id| world.step(&HistoryStep::Ready(id, 7)));
        for _ in 0..10_000 {
            let Some(id) = world.woken.first().copied() else { break };
            world.pull(id, 500);
            world.check();
            while world.nth_held(id, 0).is_some() {
                world.step(&HistoryStep::Finish(id, 0));
            }
        }
        for model in &world.channels {
            prop_assert!(model.waiting.is_empty() && model.held.is_empty() && model.deferred.is_empty());
        }
        prop_assert_eq!(world.core.used(), 0);
    }
}
