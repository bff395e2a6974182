//! The broker's state: topics, channels, clients, what is in flight, and how much memory it takes (pure).
//!
//! Monotonic time and wall-clock time are arguments. What must happen outside, such as waking a connection,
//! collects in [`Effects`]; the owner takes them with [`Core::take_effects`] and carries them out once it has
//! let go of its lock on the core.
//!
//! Delivery is pull: [`Core::pull`] gives a consumer what it may have, and what it gave is in flight. A
//! consumer that was told to pull is `awake` until a pull finds nothing for it; one that was ready in vain is
//! listed in its channel's `idle`. So a publish wakes as many idle consumers as it has messages and nobody
//! twice.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use nsq_protocol::{ChannelName, MESSAGE_HEAD_LEN, MessageId, TopicName};

use super::batch::{NewBatch, Run};
use super::channel::{Channel, Cost, Deferred, NumberMap, Queue};
use super::config::{BrokerConfig, NSQD_VERSION};
use super::deadlines::{Deadline, Deadlines};
use super::flight::NotYours;
use super::stats::{
    ChannelStats, ClientStats, Latency, MemoryStats, PubCount, Stats, StatsFilter, TopicStats,
};

/// Names a connection; never used twice.
pub(super) type ClientId = u64;

/// Topics that are remembered for one publisher: `/stats` shows only one, or the one that is asked for.
const PUBLISHED_MAX: usize = 64;

/// Above so many consumers of a channel, a pull takes all of them for ready when it works out a fair share:
/// counting would take longer than the pull.
const COUNT_READY_MAX: usize = 64;

/// A frame's size, type and message head: what a delivery takes on the wire besides its body.
const FRAME_OVERHEAD: usize = 8 + MESSAGE_HEAD_LEN;

/// Why something was not taken. Behind the text's colon comes what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("memory limit: {used} of {max} bytes are queued; consume or raise --max-memory")]
    Memory { used: usize, max: usize },
    #[error(
        "queue limit: {depth} of {max} messages wait in {place}; consume or raise --mem-queue-size"
    )]
    Queue { place: String, depth: usize, max: usize },
    #[error("topic limit: there are {0}; delete some or raise --max-topics")]
    Topics(usize),
    #[error("channel limit: there are {0}; delete some or raise --max-channels")]
    Channels(usize),
    /// nsqd's text.
    #[error("failed consumers for {place} exceeds limit of {max}")]
    Consumers { place: String, max: usize },
}

/// A topic or channel that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Topic,
    Channel,
}

/// What a client is, as IDENTIFY tells it.
#[derive(Clone, Debug, Default)]
pub(super) struct Identity {
    pub(super) client_id: String,
    pub(super) hostname: String,
    pub(super) user_agent: String,
    pub(super) sample_rate: u8,
    pub(super) msg_timeout: Duration,
}

/// What must happen once the core is unlocked.
#[derive(Default)]
pub(super) struct Effects {
    /// Consumers that should pull.
    pub(super) wake: Vec<ClientId>,
    /// Connections to close: their channel was deleted.
    pub(super) close: Vec<ClientId>,
    /// The next deadline is sooner than it was.
    pub(super) sooner: bool,
    /// To be dropped: a full queue takes long to free.
    pub(super) garbage: Vec<Box<dyn Any + Send>>,
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wake {:?} close {:?} sooner {}", self.wake, self.close, self.sooner)
    }
}

struct Client {
    remote_address: String,
    connected_s: i64,
    identity: Identity,
    subscription: Option<Subscription>,
    published: Vec<(TopicName, u64)>,
}

#[derive(Debug)]
struct Subscription {
    channel: u64,
    rdy: u32,
    in_flight: u32,
    closing: bool,
    /// Told to pull, and has not yet pulled in vain.
    awake: bool,
    /// In the channel's `idle`.
    listed: bool,
    message_count: u64,
    finish_count: u64,
    requeue_count: u64,
}

impl Subscription {
    fn is_ready(&self) -> bool {
        self.rdy > self.in_flight
    }
}

struct Topic {
    channels: BTreeMap<ChannelName, u64>,
    /// What waits for the first channel, or for the end of a pause.
    queue: Queue,
    /// The same, for messages with a delay.
    delayed: VecDeque<Deferred>,
    paused: bool,
    message_count: u64,
    message_bytes: u64,
}

/// See the module.
pub(super) struct Core {
    config: BrokerConfig,
    start_s: i64,
    clients: NumberMap<Client>,
    topics: HashMap<TopicName, Topic, RandomState>,
    channels: NumberMap<Channel>,
    next_channel: u64,
    /// The ID of the next message, unless the clock is past it.
    next_id: u64,
    deadlines: Deadlines,
    /// Sums over all topics and channels.
    cost: Cost,
    /// Bytes of all batches.
    bodies: Arc<AtomicUsize>,
    effects: Effects,
}

impl Core {
    /// An empty broker that says it was started at `start_s`, seconds since the Unix epoch.
    pub(super) fn new(config: BrokerConfig, start_s: i64) -> Self {
        Self {
            config,
            start_s,
            clients: NumberMap::default(),
            topics: HashMap::default(),
            channels: NumberMap::default(),
            next_channel: 0,
            next_id: 1,
            deadlines: Deadlines::default(),
            cost: Cost::default(),
            bodies: Arc::default(),
            effects: Effects::default(),
        }
    }

    /// Takes what has collected to be done outside.
    pub(super) fn take_effects(&mut self) -> Effects {
        self.effects.sooner = self.deadlines.take_sooner();
        std::mem::take(&mut self.effects)
    }

    /// Bytes that count against `max_memory`.
    pub(super) fn used(&self) -> usize {
        self.bodies.load(Ordering::Relaxed) + self.cost.bytes
    }

    // ---- connections

    /// A connection has come; every other call about it comes between this and `disconnect`.
    pub(super) fn connect(&mut self, id: ClientId, remote_address: String, connected_s: i64) {
        // nsqd's defaults: the remote host.
        let host = remote_address.rsplit_once(':').map_or("", |(host, _)| host);
        let identity = Identity {
            client_id: host.into(),
            hostname: host.into(),
            msg_timeout: self.config.msg_timeout,
            ..Identity::default()
        };
        let client = Client {
            remote_address,
            connected_s,
            identity,
            subscription: None,
            published: Vec::new(),
        };
        self.clients.insert(id, client);
    }

    /// The client says who it is.
    pub(super) fn identify(&mut self, id: ClientId, identity: Identity) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.identity = identity;
        }
    }

    /// The connection is gone: what it holds goes to others at once, where nsqd waits for the timeout.
    pub(super) fn disconnect(&mut self, id: ClientId) {
        let Some(client) = self.clients.remove(&id) else { return };
        let Some(subscription) = client.subscription else { return };
        let key = subscription.channel;
        let Some(channel) = self.channels.get_mut(&key) else { return };
        channel.consumers.retain(|consumer| *consumer != id);
        let before = channel.cost();
        channel.release(id);
        settle(&mut self.cost, before, channel.cost());
        if channel.name.is_ephemeral() && channel.consumers.is_empty() {
            let (topic, name) = (channel.topic, channel.name);
            // It was there a line ago.
            let _ = self.delete_channel(&topic, &name);
        } else {
            self.rouse(key);
        }
        self.sweep();
    }

    // ---- publishing

    /// Puts a batch into `topic`, all of it or nothing; with a delay it must be one message.
    pub(super) fn publish(
        &mut self,
        publisher: Option<ClientId>,
        topic: &TopicName,
        batch: NewBatch,
        delay: Duration,
        now: Instant,
        wall_ns: i64,
    ) -> Result<(), Refusal> {
        self.create_topic(topic)?;
        let (used, max) = (self.used(), self.config.max_memory);
        if used + batch.cost() > max {
            return Err(Refusal::Memory { used, max });
        }
        let state = self.topics.get_mut(topic).expect("created above");
        if let Some(max) = self.config.mem_queue_size {
            check_depths(topic, state, &self.channels, batch.len(), max)?;
        }
        if let Some(client) = publisher.and_then(|id| self.clients.get_mut(&id)) {
            client.count_published(topic, batch.len() as u64);
        }
        state.message_count += batch.len() as u64;
        state.message_bytes += batch.body_bytes() as u64;
        // The clock as a number, so that IDs differ from those of an earlier run; and never one twice, also
        // when the clock is set back.
        let first_id = self.next_id.max(u64::try_from(wall_ns).unwrap_or(0));
        self.next_id = first_id + batch.len() as u64;
        let run = batch.number(first_id, wall_ns, &self.bodies);
        let waits = state.channels.is_empty() || state.paused;
        let due = now + delay;
        if waits {
            let before = state.cost();
            if delay.is_zero() {
                state.queue.push(run);
            } else {
                state.delayed.push_back(Deferred { run, due });
            }
            settle(&mut self.cost, before, state.cost());
            return Ok(());
        }
        // The last channel gets the run itself, the others a copy.
        let mut keys = state.channels.values().copied().peekable();
        let mut run = Some(run);
        while let Some(key) = keys.next() {
            let one = if keys.peek().is_some() { run.clone() } else { run.take() };
            let (Some(one), Some(channel)) = (one, self.channels.get_mut(&key)) else { continue };
            let before = channel.cost();
            if !is_dropped(channel, one.left, self.config.mem_queue_size) {
                channel.message_count += u64::from(one.left);
                if delay.is_zero() {
                    channel.queue.push(one);
                    rouse(channel, &mut self.clients, &mut self.effects);
                } else {
                    defer(&mut self.deadlines, key, channel, Deferred { run: one, due });
                }
            }
            settle(&mut self.cost, before, channel.cost());
        }
        Ok(())
    }

    // ---- consuming

    /// Makes the connection a consumer.
    pub(super) fn subscribe(
        &mut self,
        id: ClientId,
        topic: &TopicName,
        name: &ChannelName,
        now: Instant,
    ) -> Result<(), Refusal> {
        let key = self.create_channel(topic, name, now)?;
        let (Some(client), Some(channel)) =
            (self.clients.get_mut(&id), self.channels.get_mut(&key))
        else {
            return Ok(());
        };
        let max = self.config.max_channel_consumers;
        if max != 0 && channel.consumers.len() >= max {
            return Err(Refusal::Consumers { place: format!("{topic}:{name}"), max });
        }
        channel.consumers.push(id);
        client.subscription = Some(Subscription {
            channel: key,
            rdy: 0,
            in_flight: 0,
            closing: false,
            awake: false,
            listed: false,
            message_count: 0,
            finish_count: 0,
            requeue_count: 0,
        });
        Ok(())
    }

    /// RDY: the client may hold `count` messages at a time.
    pub(super) fn set_ready(&mut self, id: ClientId, count: u32) {
        let Some((subscription, channel)) = subscribed(&mut self.clients, &mut self.channels, id)
        else {
            return;
        };
        if subscription.closing {
            return;
        }
        subscription.rdy = count;
        notice(id, subscription, channel, &mut self.effects);
        // If it was told to pull and now may not, somebody else must.
        let key = subscription.channel;
        if count == 0 {
            self.rouse(key);
        }
    }

    /// CLS: no more messages; those that the client holds it may still answer.
    pub(super) fn start_close(&mut self, id: ClientId) {
        self.set_ready(id, 0);
        if let Some((subscription, _)) = subscribed(&mut self.clients, &mut self.channels, id) {
            subscription.closing = true;
        }
    }

    /// Takes up to `budget` bytes of frames, but at least one message, for this consumer. Returns whether
    /// there is more; if not, it will be woken when there is.
    pub(super) fn pull(
        &mut self,
        id: ClientId,
        now: Instant,
        budget: usize,
        out: &mut Vec<Run>,
    ) -> bool {
        let Some(client) = self.clients.get(&id) else { return false };
        let Some(subscription) = &client.subscription else { return false };
        let key = subscription.channel;
        let (room, timeout, rate) = (
            subscription.rdy.saturating_sub(subscription.in_flight) as usize,
            client.identity.msg_timeout,
            client.identity.sample_rate,
        );
        let Some(channel) = self.channels.get(&key) else { return false };
        let share = if channel.paused { 0 } else { self.share(channel) };
        let Some((subscription, channel)) = subscribed(&mut self.clients, &mut self.channels, id)
        else {
            return false;
        };
        let before = channel.cost();
        let (mut room, mut budget) = (room.min(share), budget);
        let deadline = now + timeout;
        while room > 0 && budget > 0 {
            let Some(run) = channel.queue.front() else { break };
            let mut pulled = Run { left: 0, attempts: run.attempts.wrapping_add(1), ..run.clone() };
            let mut taken = 0;
            while room > 0 && budget > 0 && run.left > 0 {
                taken += 1;
                if rate > 0 && !is_sampled(run.next_id, rate) {
                    run.advance();
                    budget = budget.saturating_sub(FRAME_OVERHEAD);
                    // A run has no holes: what was pulled so far goes out as it is.
                    break;
                }
                budget = budget.saturating_sub(FRAME_OVERHEAD + run.first_len());
                room -= 1;
                run.advance();
                pulled.left += 1;
            }
            channel.queue.taken(taken);
            if pulled.left > 0 {
                let deadlines = &mut self.deadlines;
                channel.in_flight.hold(&pulled, id, now, deadline, |first| {
                    deadlines.push(Deadline { at: deadline, channel: key, id: first });
                });
                subscription.in_flight += pulled.left;
                subscription.message_count += u64::from(pulled.left);
                out.push(pulled);
            }
        }
        settle(&mut self.cost, before, channel.cost());
        let more = !channel.paused
            && channel.queue.depth() > 0
            && subscription.rdy > subscription.in_flight;
        subscription.awake = more;
        if !more {
            notice(id, subscription, channel, &mut self.effects);
            self.rouse(key);
        }
        self.sweep();
        more
    }

    /// FINs: the messages are done. Calls `failed` with each that the client did not hold.
    pub(super) fn finish(
        &mut self,
        id: ClientId,
        mut messages: impl Iterator<Item = MessageId>,
        mut failed: impl FnMut(MessageId, NotYours),
    ) {
        let Some((subscription, channel)) = subscribed(&mut self.clients, &mut self.channels, id)
        else {
            return messages.for_each(|message| failed(message, NotYours::NotInFlight));
        };
        let before = channel.cost();
        let in_flight = channel.in_flight.len();
        for message in &mut messages {
            let done = number(message).and_then(|number| channel.in_flight.finish(id, number));
            done.unwrap_or_else(|why| failed(message, why));
        }
        settle(&mut self.cost, before, channel.cost());
        let done = (in_flight - channel.in_flight.len()) as u32;
        subscription.finish_count += u64::from(done);
        subscription.in_flight = subscription.in_flight.saturating_sub(done);
        notice(id, subscription, channel, &mut self.effects);
    }

    /// REQ: deliver the message again after `delay`.
    pub(super) fn requeue(
        &mut self,
        id: ClientId,
        message: MessageId,
        delay: Duration,
        now: Instant,
    ) -> Result<(), NotYours> {
        let (subscription, channel) =
            subscribed(&mut self.clients, &mut self.channels, id).ok_or(NotYours::NotInFlight)?;
        let key = subscription.channel;
        let before = channel.cost();
        let run = channel.in_flight.take(id, number(message)?)?;
        channel.requeue_count += 1;
        subscription.requeue_count += 1;
        subscription.in_flight = subscription.in_flight.saturating_sub(1);
        if delay.is_zero() {
            channel.queue.push(run);
        } else {
            let deferred = Deferred { run, due: now + delay };
            defer(&mut self.deadlines, key, channel, deferred);
        }
        settle(&mut self.cost, before, channel.cost());
        notice(id, subscription, channel, &mut self.effects);
        self.rouse(key);
        Ok(())
    }

    /// TOUCH: the message's timeout starts again, up to `max_msg_timeout` after its delivery.
    pub(super) fn touch(
        &mut self,
        id: ClientId,
        message: MessageId,
        now: Instant,
    ) -> Result<(), NotYours> {
        let message = number(message)?;
        let timeout =
            self.clients.get(&id).map_or(Duration::ZERO, |client| client.identity.msg_timeout);
        let (subscription, channel) =
            subscribed(&mut self.clients, &mut self.channels, id).ok_or(NotYours::NotInFlight)?;
        let before = channel.cost();
        let longest = self.config.max_msg_timeout;
        let touch = |delivered| (now + timeout).min(delivered + longest);
        let at = channel.in_flight.touch(id, message, touch)?;
        settle(&mut self.cost, before, channel.cost());
        self.deadlines.push(Deadline { at, channel: subscription.channel, id: message });
        self.sweep();
        Ok(())
    }

    // ---- time

    /// When [`Core::tick`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Requeues what has timed out and delivers what has fallen due by `now`, at most `max` messages; returns
    /// whether there may be more.
    pub(super) fn tick(&mut self, now: Instant, max: usize) -> bool {
        for _ in 0..max {
            let Some(deadline) = self.deadlines.pop(now) else { return false };
            let Some(channel) = self.channels.get_mut(&deadline.channel) else { continue };
            if !is_valid(channel, &deadline) {
                continue;
            }
            let before = channel.cost();
            let mut owners = Vec::new();
            let Channel { in_flight, queue, timeout_count, .. } = channel;
            in_flight.expire(deadline.id, deadline.at, |owner, run| {
                *timeout_count += u64::from(run.left);
                owners.push((owner, run.left));
                queue.push(run);
            });
            if is_deferred(channel, &deadline)
                && let Some(deferred) = channel.deferred.remove(&deadline.id)
            {
                channel.queue.push(deferred.run);
            }
            settle(&mut self.cost, before, channel.cost());
            for (id, count) in owners {
                let client = self.clients.get_mut(&id);
                let subscription = client.and_then(|client| client.subscription.as_mut());
                let Some(subscription) = subscription else { continue };
                subscription.in_flight = subscription.in_flight.saturating_sub(count);
                notice(id, subscription, channel, &mut self.effects);
            }
            rouse(channel, &mut self.clients, &mut self.effects);
        }
        true
    }

    // ---- topics and channels

    /// Creates `topic` unless it is there.
    pub(super) fn create_topic(&mut self, topic: &TopicName) -> Result<(), Refusal> {
        if self.topics.contains_key(topic) {
            return Ok(());
        }
        if self.topics.len() >= self.config.max_topics {
            return Err(Refusal::Topics(self.topics.len()));
        }
        let state = Topic {
            channels: BTreeMap::new(),
            queue: Queue::default(),
            delayed: VecDeque::new(),
            paused: false,
            message_count: 0,
            message_bytes: 0,
        };
        self.topics.insert(*topic, state);
        Ok(())
    }

    /// Whether there is that topic.
    pub(super) fn has_topic(&self, topic: &TopicName) -> bool {
        self.topics.contains_key(topic)
    }

    /// Creates the topic and its channel unless they are there. The first channel gets what waits in the
    /// topic.
    pub(super) fn create_channel(
        &mut self,
        topic: &TopicName,
        name: &ChannelName,
        now: Instant,
    ) -> Result<u64, Refusal> {
        self.create_topic(topic)?;
        let state = self.topics.get_mut(topic).expect("created above");
        if let Some(key) = state.channels.get(name) {
            return Ok(*key);
        }
        if self.channels.len() >= self.config.max_channels {
            return Err(Refusal::Channels(self.channels.len()));
        }
        let key = self.next_channel;
        self.next_channel += 1;
        state.channels.insert(*name, key);
        self.channels.insert(key, Channel::new(*topic, *name));
        self.drain(topic, now);
        Ok(key)
    }

    /// Hands what waits in the topic to its channels.
    fn drain(&mut self, topic: &TopicName, now: Instant) {
        let Some(state) = self.topics.get_mut(topic) else { return };
        if state.paused || state.channels.is_empty() {
            return;
        }
        let before = state.cost();
        let keys: Vec<u64> = state.channels.values().copied().collect();
        let mut queue = std::mem::take(&mut state.queue);
        let delayed = std::mem::take(&mut state.delayed);
        settle(&mut self.cost, before, state.cost());
        for (index, key) in keys.iter().enumerate() {
            let Some(channel) = self.channels.get_mut(key) else { continue };
            let before = channel.cost();
            channel.message_count += (queue.depth() + delayed.len()) as u64;
            // Mostly there is one channel, the first, with nothing in it: it takes the queue as it is.
            if index + 1 == keys.len() && channel.queue.depth() == 0 {
                channel.queue = std::mem::take(&mut queue);
            } else {
                queue.runs().for_each(|run| channel.queue.push(run.clone()));
            }
            for Deferred { run, due } in &delayed {
                let run = run.clone();
                if *due <= now {
                    channel.queue.push(run);
                } else {
                    defer(&mut self.deadlines, *key, channel, Deferred { run, due: *due });
                }
            }
            settle(&mut self.cost, before, channel.cost());
            rouse(channel, &mut self.clients, &mut self.effects);
        }
    }

    /// Deletes the topic, its channels and all their messages; closes the consumers' connections.
    pub(super) fn delete_topic(&mut self, topic: &TopicName) -> Result<(), Missing> {
        let state = self.topics.remove(topic).ok_or(Missing::Topic)?;
        settle(&mut self.cost, state.cost(), Cost::default());
        for key in state.channels.values() {
            self.remove_channel(*key);
        }
        self.effects.garbage.push(Box::new((state.queue, state.delayed)));
        self.sweep();
        Ok(())
    }

    /// Deletes the channel and its messages; closes its consumers' connections.
    pub(super) fn delete_channel(
        &mut self,
        topic: &TopicName,
        name: &ChannelName,
    ) -> Result<(), Missing> {
        let state = self.topics.get_mut(topic).ok_or(Missing::Topic)?;
        let key = state.channels.remove(name).ok_or(Missing::Channel)?;
        let is_last = state.channels.is_empty();
        self.remove_channel(key);
        if is_last && topic.is_ephemeral() {
            self.delete_topic(topic)?;
        }
        self.sweep();
        Ok(())
    }

    fn remove_channel(&mut self, key: u64) {
        let Some(channel) = self.channels.remove(&key) else { return };
        settle(&mut self.cost, channel.cost(), Cost::default());
        self.effects.close.extend(&channel.consumers);
        self.effects.garbage.push(Box::new(channel));
    }

    /// Drops what waits in the topic itself; its channels keep what they have.
    pub(super) fn empty_topic(&mut self, topic: &TopicName) -> Result<(), Missing> {
        let state = self.topics.get_mut(topic).ok_or(Missing::Topic)?;
        let before = state.cost();
        let garbage = (std::mem::take(&mut state.queue), std::mem::take(&mut state.delayed));
        settle(&mut self.cost, before, state.cost());
        self.effects.garbage.push(Box::new(garbage));
        Ok(())
    }

    /// Drops what waits in the channel, is deferred or in flight.
    pub(super) fn empty_channel(
        &mut self,
        topic: &TopicName,
        name: &ChannelName,
    ) -> Result<(), Missing> {
        let key = self.channel_key(topic, name)?;
        let channel = self.channels.get_mut(&key).ok_or(Missing::Channel)?;
        let before = channel.cost();
        let garbage = channel.empty();
        settle(&mut self.cost, before, channel.cost());
        self.effects.garbage.push(Box::new(garbage));
        for id in channel.consumers.clone() {
            if let Some((subscription, channel)) =
                subscribed(&mut self.clients, &mut self.channels, id)
            {
                subscription.in_flight = 0;
                notice(id, subscription, channel, &mut self.effects);
            }
        }
        self.sweep();
        Ok(())
    }

    /// Whether messages stay in the topic.
    pub(super) fn pause_topic(
        &mut self,
        topic: &TopicName,
        paused: bool,
        now: Instant,
    ) -> Result<(), Missing> {
        self.topics.get_mut(topic).ok_or(Missing::Topic)?.paused = paused;
        self.drain(topic, now);
        Ok(())
    }

    /// Whether the channel's consumers get nothing.
    pub(super) fn pause_channel(
        &mut self,
        topic: &TopicName,
        name: &ChannelName,
        paused: bool,
    ) -> Result<(), Missing> {
        let key = self.channel_key(topic, name)?;
        let channel = self.channels.get_mut(&key).ok_or(Missing::Channel)?;
        channel.paused = paused;
        for id in channel.consumers.clone() {
            if let Some((subscription, channel)) =
                subscribed(&mut self.clients, &mut self.channels, id)
            {
                notice(id, subscription, channel, &mut self.effects);
            }
        }
        Ok(())
    }

    fn channel_key(&self, topic: &TopicName, name: &ChannelName) -> Result<u64, Missing> {
        let state = self.topics.get(topic).ok_or(Missing::Topic)?;
        state.channels.get(name).copied().ok_or(Missing::Channel)
    }

    // ---- the rest

    /// How much of the channel's queue one pull may take: each ready consumer its part.
    fn share(&self, channel: &Channel) -> usize {
        let consumers = channel.consumers.len();
        let ready = if consumers <= 1 || consumers > COUNT_READY_MAX {
            consumers
        } else {
            let is_ready = |id: &&ClientId| {
                let client = self.clients.get(id);
                client
                    .and_then(|client| client.subscription.as_ref())
                    .is_some_and(Subscription::is_ready)
            };
            channel.consumers.iter().filter(is_ready).count()
        };
        channel.queue.depth().div_ceil(ready.max(1))
    }

    fn rouse(&mut self, key: u64) {
        if let Some(channel) = self.channels.get_mut(&key) {
            rouse(channel, &mut self.clients, &mut self.effects);
        }
    }

    fn sweep(&mut self) {
        let channels = &self.channels;
        self.deadlines.sweep(self.cost.live, |deadline| {
            channels.get(&deadline.channel).is_some_and(|channel| is_valid(channel, deadline))
        });
    }

    /// All that `/stats` shows.
    pub(super) fn stats(&self, filter: &StatsFilter<'_>) -> Stats {
        let mut names: Vec<&TopicName> = if filter.topic.is_empty() {
            self.topics.keys().collect()
        } else {
            self.topics.get_key_value(filter.topic).map(|(name, _)| name).into_iter().collect()
        };
        names.sort_unstable();
        let found = filter.topic.is_empty() || !names.is_empty();
        let topics = names.into_iter().filter_map(|name| self.topic_stats(name, filter)).collect();
        let mut producers: Vec<(&ClientId, &Client)> = self
            .clients
            .iter()
            .filter(|(_, client)| filter.include_clients && !client.published.is_empty())
            .collect();
        producers.sort_unstable_by_key(|(id, _)| **id);
        let producers: Vec<ClientStats> =
            producers.into_iter().map(|(_, client)| client.stats(filter.topic)).collect();
        let held = |channel: &Channel| {
            channel.queue.depth() + channel.in_flight.len() + channel.deferred.len()
        };
        let messages: usize = self.topics.values().map(|topic| topic.queue.depth()).sum::<usize>()
            + self.channels.values().map(held).sum::<usize>();
        Stats {
            version: NSQD_VERSION.into(),
            health: "OK".into(),
            start_time: self.start_s,
            topics: found.then_some(topics),
            memory: filter.include_memory.then(|| MemoryStats {
                heap_objects: messages as u64,
                heap_in_use_bytes: self.used() as u64,
                next_gc_bytes: self.config.max_memory as u64,
                ..MemoryStats::default()
            }),
            producers: (found && !producers.is_empty()).then_some(producers),
        }
    }

    fn topic_stats(&self, name: &TopicName, filter: &StatsFilter<'_>) -> Option<TopicStats> {
        let topic = self.topics.get(name)?;
        let wanted: Vec<u64> = if filter.channel.is_empty() {
            topic.channels.values().copied().collect()
        } else {
            // nsqd leaves the whole topic out where it has no such channel.
            vec![*topic.channels.get(filter.channel)?]
        };
        let channels = wanted.iter().filter_map(|key| self.channels.get(key));
        Some(TopicStats {
            topic_name: name.to_string(),
            channels: channels.map(|channel| self.channel_stats(channel, filter)).collect(),
            depth: topic.queue.depth() + topic.delayed.len(),
            backend_depth: 0,
            message_count: topic.message_count,
            message_bytes: topic.message_bytes,
            paused: topic.paused,
            e2e_processing_latency: Latency::default(),
        })
    }

    fn channel_stats(&self, channel: &Channel, filter: &StatsFilter<'_>) -> ChannelStats {
        let clients = || {
            let clients = channel.consumers.iter().filter_map(|id| self.clients.get(id));
            clients.map(|client| client.stats(filter.topic)).collect()
        };
        ChannelStats {
            channel_name: channel.name.to_string(),
            depth: channel.queue.depth(),
            backend_depth: 0,
            in_flight_count: channel.in_flight.len(),
            deferred_count: channel.deferred.len(),
            message_count: channel.message_count,
            requeue_count: channel.requeue_count,
            timeout_count: channel.timeout_count,
            client_count: channel.consumers.len(),
            clients: filter.include_clients.then(clients),
            paused: channel.paused,
            e2e_processing_latency: Latency::default(),
        }
    }
}

impl Topic {
    fn cost(&self) -> Cost {
        let delayed = self.delayed.len() * 2 * size_of::<Deferred>();
        Cost { bytes: self.queue.cost() + delayed, live: 0 }
    }
}

impl Client {
    fn count_published(&mut self, topic: &TopicName, count: u64) {
        if let Some((_, total)) = self.published.iter_mut().find(|(name, _)| name == topic) {
            *total += count;
        } else if self.published.len() < PUBLISHED_MAX {
            self.published.push((*topic, count));
        }
    }

    fn stats(&self, topic: &str) -> ClientStats {
        let entry =
            self.published.iter().find(|(name, _)| topic.is_empty() || name.as_str() == topic);
        let pub_counts =
            entry.map(|(name, count)| PubCount { topic: name.to_string(), count: *count });
        let mut stats = ClientStats {
            client_id: self.identity.client_id.clone(),
            hostname: self.identity.hostname.clone(),
            version: "V2".into(),
            remote_address: self.remote_address.clone(),
            connect_ts: self.connected_s,
            sample_rate: self.identity.sample_rate,
            user_agent: self.identity.user_agent.clone(),
            pub_counts: pub_counts.into_iter().collect(),
            ..ClientStats::default()
        };
        if let Some(subscription) = &self.subscription {
            stats.state = if subscription.closing { 4 } else { 3 };
            stats.ready_count = subscription.rdy;
            stats.in_flight_count = subscription.in_flight;
            stats.message_count = subscription.message_count;
            stats.finish_count = subscription.finish_count;
            stats.requeue_count = subscription.requeue_count;
        }
        stats
    }
}

/// The number of a message. An ID that is no number is none of ours.
fn number(message: MessageId) -> Result<u64, NotYours> {
    message.to_u64().ok_or(NotYours::NotInFlight)
}

/// The subscription of a client, and its channel; both are there unless the channel was deleted.
fn subscribed<'a>(
    clients: &'a mut NumberMap<Client>,
    channels: &'a mut NumberMap<Channel>,
    id: ClientId,
) -> Option<(&'a mut Subscription, &'a mut Channel)> {
    let subscription = clients.get_mut(&id)?.subscription.as_mut()?;
    let channel = channels.get_mut(&subscription.channel)?;
    Some((subscription, channel))
}

/// Replaces a part of the broker's cost by what it is now.
fn settle(total: &mut Cost, before: Cost, after: Cost) {
    total.bytes = total.bytes - before.bytes + after.bytes;
    total.live = total.live - before.live + after.live;
}

/// A consumer may have become ready: wakes it if something waits, else notes that it is idle.
fn notice(
    id: ClientId,
    subscription: &mut Subscription,
    channel: &mut Channel,
    effects: &mut Effects,
) {
    if subscription.awake || channel.paused || !subscription.is_ready() {
        return;
    }
    if channel.queue.depth() > 0 {
        subscription.awake = true;
        effects.wake.push(id);
    } else if !subscription.listed {
        subscription.listed = true;
        channel.idle.push_back(id);
    }
}

/// Wakes idle consumers, as many as there are messages, the longest idle first.
fn rouse(channel: &mut Channel, clients: &mut NumberMap<Client>, effects: &mut Effects) {
    if channel.paused {
        return;
    }
    let mut wanted = channel.queue.depth();
    while wanted > 0
        && let Some(id) = channel.idle.pop_front()
    {
        let client = clients.get_mut(&id);
        let Some(subscription) = client.and_then(|client| client.subscription.as_mut()) else {
            continue;
        };
        subscription.listed = false;
        if !subscription.awake && subscription.is_ready() {
            subscription.awake = true;
            effects.wake.push(id);
            wanted -= 1;
        }
    }
}

fn defer(deadlines: &mut Deadlines, key: u64, channel: &mut Channel, deferred: Deferred) {
    deadlines.push(Deadline { at: deferred.due, channel: key, id: deferred.run.next_id });
    channel.deferred.insert(deferred.run.next_id, deferred);
}

fn is_valid(channel: &Channel, deadline: &Deadline) -> bool {
    channel.in_flight.is_due(deadline.id, deadline.at) || is_deferred(channel, deadline)
}

fn is_deferred(channel: &Channel, deadline: &Deadline) -> bool {
    channel.deferred.get(&deadline.id).is_some_and(|deferred| deferred.due == deadline.at)
}

/// As nsqd: what an ephemeral channel cannot hold is dropped for that channel.
fn is_dropped(channel: &Channel, count: u32, max: Option<usize>) -> bool {
    channel.name.is_ephemeral()
        && max.is_some_and(|max| channel.queue.depth() + count as usize > max)
}

/// Refuses what `--mem-queue-size` leaves no room for.
fn check_depths(
    topic: &TopicName,
    state: &Topic,
    channels: &NumberMap<Channel>,
    count: usize,
    max: usize,
) -> Result<(), Refusal> {
    let check = |depth: usize, place: &dyn Fn() -> String| {
        if depth + count <= max {
            Ok(())
        } else {
            Err(Refusal::Queue { place: place(), depth, max })
        }
    };
    if state.channels.is_empty() || state.paused {
        return check(state.queue.depth() + state.delayed.len(), &|| format!("topic {topic}"));
    }
    let channels = state.channels.values().filter_map(|key| channels.get(key));
    for channel in channels.filter(|channel| !channel.name.is_ephemeral()) {
        let depth = channel.queue.depth() + channel.deferred.len();
        check(depth, &|| format!("channel {topic}:{}", channel.name))?;
    }
    Ok(())
}

/// Whether a consumer that wants `rate` per cent gets this message: a hash of the ID, so that no pattern of
/// publication can meet a pattern here, and no clock or generator is needed.
fn is_sampled(id: u64, rate: u8) -> bool {
    // The finaliser of SplitMix64: every bit of the ID reaches every bit of the sum.
    let mixed = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % 100 < u64::from(rate)
}

/// See [`super::bench_core`].
pub(super) fn bench(rounds: usize, size: usize) -> Duration {
    let now = Instant::now();
    let mut core = Core::new(BrokerConfig::default(), 0);
    let (topic, channel) = (TopicName::new("t"), ChannelName::new("c"));
    let (topic, channel) = (topic.expect("a name"), channel.expect("a name"));
    let mut bodies = nsq_protocol::BodiesBuf::new();
    (0..size).for_each(|_| bodies.push(&[b'x'; 155]));
    core.connect(1, "127.0.0.1:1".into(), 0);
    core.subscribe(1, &topic, &channel, now).expect("nothing is there yet");
    core.set_ready(1, 2500);
    let began = Instant::now();
    let mut runs = Vec::new();
    for _ in 0..rounds {
        let batch = NewBatch::many(bodies.as_bodies());
        core.publish(None, &topic, batch, Duration::ZERO, now, 0).expect("there is room");
        while core.pull(1, now, 64 << 10, &mut runs) {}
        let ids = runs.iter().flat_map(Run::messages).map(|(id, _)| MessageId::from_u64(id));
        core.finish(1, ids, |id, why| unreachable!("{id} was just pulled: {why}"));
        runs.clear();
        core.take_effects();
    }
    began.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nsq_protocol::BodiesBuf;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn core(change: impl FnOnce(&mut BrokerConfig)) -> Core {
        let mut config = BrokerConfig::default();
        change(&mut config);
        Core::new(config, 0)
    }

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    fn batch(count: usize) -> NewBatch {
        let mut bodies = BodiesBuf::new();
        (0..count).for_each(|index| bodies.push(format!("body {index}").as_bytes()));
        NewBatch::many(bodies.as_bodies())
    }

    /// A consumer of t:c.
    fn consumer(core: &mut Core, id: ClientId, rdy: u32, now: Instant) {
        core.connect(id, "10.0.0.1:5".into(), 0);
        core.subscribe(id, &topic("t"), &channel("c"), now).unwrap();
        core.set_ready(id, rdy);
    }

    fn publish(core: &mut Core, count: usize, now: Instant) {
        core.publish(None, &topic("t"), batch(count), Duration::ZERO, now, 5).unwrap();
    }

    /// What a pull gives: IDs and attempts.
    fn pull(core: &mut Core, id: ClientId, now: Instant) -> Vec<(u64, u16)> {
        let mut runs = Vec::new();
        core.pull(id, now, usize::MAX, &mut runs);
        let messages = |run: &Run| run.messages().map(|(id, _)| id).collect::<Vec<_>>();
        runs.iter().flat_map(|run| messages(run).into_iter().map(|id| (id, run.attempts))).collect()
    }

    fn finish(core: &mut Core, id: ClientId, message: u64) -> Result<(), NotYours> {
        let mut done = Ok(());
        core.finish(id, [MessageId::from_u64(message)].into_iter(), |_, why| done = Err(why));
        done
    }

    fn woken(core: &mut Core) -> Vec<ClientId> {
        core.take_effects().wake
    }

    #[test]
    fn ids_grow_whatever_the_clock_does() {
        let (mut core, now) = (core(|_| ()), Instant::now());
        consumer(&mut core, 1, 100, now);
        for wall_ns in [1_000, 1_000, 5, -7, i64::MAX - 10, 2_000] {
            core.publish(None, &topic("t"), batch(2), Duration::ZERO, now, wall_ns).unwrap();
        }
        let ids: Vec<u64> = pull(&mut core, 1, now).into_iter().map(|(id, _)| id).collect();
        let max = i64::MAX as u64 - 10;
        assert_eq!(
            ids,
            [1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, max, max + 1, max + 2, max + 3]
        );
    }

    #[test]
    fn a_publish_wakes_as_many_as_it_has_messages_and_nobody_twice() {
        let (mut core, now) = (core(|_| ()), Instant::now());
        (1..=4).for_each(|id| consumer(&mut core, id, 5, now));
        woken(&mut core);
        publish(&mut core, 1, now);
        assert_eq!(woken(&mut core), [1]);
        publish(&mut core, 2, now);
        // Three wait now, but the first is already on its way.
        assert_eq!(woken(&mut core), [2, 3, 4]);
        publish(&mut core, 9, now);
        assert_eq!(woken(&mut core), [0; 0]);
        // Twelve messages, four ready consumers: each pull takes its share.
        assert_eq!(pull(&mut core, 1, now).len(), 3);
    }

    #[test]
    fn a_message_is_not_lost_with_the_consumer_that_was_woken_for_it() {
        let (mut core, now) = (core(|_| ()), Instant::now());
        (1..=3).for_each(|id| consumer(&mut core, id, 1, now));
        publish(&mut core, 1, now);
        assert_eq!(woken(&mut core), [1]);
        core.disconnect(1);
        assert_eq!(woken(&mut core), [2]);
        core.set_ready(2, 0);
        assert_eq!(woken(&mut core), [3]);
        assert_eq!(pull(&mut core, 3, now).len(), 1);
    }

    #[test]
    fn memory_is_refused_with_the_figures_and_given_back() {
        let (mut core, now) = (core(|config| config.max_memory = 2000), Instant::now());
        let mut sent = 0;
        let refusal = loop {
            match core.publish(None, &topic("t"), batch(10), Duration::ZERO, now, 0) {
                Ok(()) => sent += 10,
                Err(refusal) => break refusal.to_string(),
            }
        };
        let used = core.used();
        assert_eq!(
            refusal,
            format!("memory limit: {used} of 2000 bytes are queued; consume or raise --max-memory")
        );
        assert!(used > 1500 && used <= 2000, "{used}");
        consumer(&mut core, 1, 1000, now);
        let got = pull(&mut core, 1, now);
        assert_eq!(got.len(), sent);
        // What is in flight still counts, more than before; but it is never refused.
        assert!(core.used() > used);
        got.iter().for_each(|(id, _)| finish(&mut core, 1, *id).unwrap());
        assert_eq!(core.used(), 0);
        publish(&mut core, 10, now);
    }

    #[test]
    fn a_shared_batch_is_freed_with_its_last_message_on_its_last_channel() {
        let (mut core, now) = (core(|_| ()), Instant::now());
        consumer(&mut core, 1, 10, now);
        core.create_channel(&topic("t"), &channel("other"), now).unwrap();
        publish(&mut core, 3, now);
        for (id, _) in pull(&mut core, 1, now) {
            finish(&mut core, 1, id).unwrap();
        }
        assert!(core.used() > 0);
        core.empty_channel(&topic("t"), &channel("other")).unwrap();
        // The garbage is what holds it now: it is dropped outside the lock.
        assert!(core.used() > 0);
        core.take_effects();
        assert_eq!(core.used(), 0);
    }

    #[test]
    fn mem_queue_size_is_a_limit_for_all_or_nothing() {
        let (mut core, now) = (core(|config| config.mem_queue_size = Some(5)), Instant::now());
        publish(&mut core, 3, now);
        let refused = |core: &mut Core, count| {
            core.publish(None, &topic("t"), batch(count), Duration::ZERO, now, 0)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused(&mut core, 3),
            "queue limit: 3 of 5 messages wait in topic t; consume or raise --mem-queue-size"
        );
        publish(&mut core, 2, now);
        core.create_channel(&topic("t"), &channel("c"), now).unwrap();
        assert_eq!(
            refused(&mut core, 1),
            "queue limit: 5 of 5 messages wait in channel t:c; consume or raise --mem-queue-size"
        );
    }

    #[test]
    fn there_are_only_so_many_topics_channels_and_consumers() {
        let limits = |config: &mut BrokerConfig| {
            (config.max_topics, config.max_channels, config.max_channel_consumers) = (2, 2, 1);
        };
        let (mut core, now) = (core(limits), Instant::now());
        consumer(&mut core, 1, 1, now);
        core.connect(2, String::new(), 0);
        let mut sub = |topic_name, channel_name| {
            core.subscribe(2, &topic(topic_name), &channel(channel_name), now)
                .map_err(|why| why.to_string())
        };
        assert_eq!(sub("t", "c"), Err("failed consumers for t:c exceeds limit of 1".into()));
        assert_eq!(sub("u", "c"), Ok(()));
        assert_eq!(
            sub("u", "d"),
            Err("channel limit: there are 2; delete some or raise --max-channels".into())
        );
        assert_eq!(
            sub("v", "c"),
            Err("topic limit: there are 2; delete some or raise --max-topics".into())
        );
    }

    #[test]
    fn touch_ends_at_max_msg_timeout() {
        let max = Duration::from_secs(100);
        let (mut core, start) = (core(|config| config.max_msg_timeout = max), Instant::now());
        consumer(&mut core, 1, 1, start);
        publish(&mut core, 1, start);
        let id = pull(&mut core, 1, start)[0].0;
        core.touch(1, MessageId::from_u64(id), start + Duration::from_secs(50)).unwrap();
        core.tick(start + Duration::from_secs(99), 10);
        assert_eq!(finish(&mut core, 1, id + 1), Err(NotYours::NotInFlight));
        core.tick(start + max, 10);
        assert_eq!(finish(&mut core, 1, id), Err(NotYours::NotInFlight));
        assert_eq!(pull(&mut core, 1, start + max), [(id, 2)]);
        core.disconnect(1);
        consumer(&mut core, 2, 1, start);
        assert_eq!(pull(&mut core, 2, start), [(id, 3)]);
    }

    #[test]
    fn attempts_wrap() {
        let (mut core, now) = (core(|_| ()), Instant::now());
        consumer(&mut core, 1, 1, now);
        publish(&mut core, 1, now);
        for attempts in (1..=u16::MAX).chain([0, 1]) {
            let got = pull(&mut core, 1, now);
            assert_eq!(got[0].1, attempts);
            core.requeue(1, MessageId::from_u64(got[0].0), Duration::ZERO, now).unwrap();
        }
    }

    #[test]
    fn a_delay_counts_from_the_publish_also_while_there_is_no_channel() {
        let (mut core, now) = (core(|_| ()), Instant::now());
        let delay = Duration::from_secs(10);
        for _ in 0..2 {
            core.publish(None, &topic("t"), batch(1), delay, now, 0).unwrap();
        }
        assert_eq!(core.stats(&StatsFilter::default()).topics.unwrap()[0].depth, 2);
        consumer(&mut core, 1, 5, now + delay / 2);
        assert_eq!(pull(&mut core, 1, now + delay / 2), []);
        assert!(core.take_effects().sooner);
        assert_eq!(core.next_deadline(), Some(now + delay));
        assert!(!core.tick(now + delay, 10));
        assert_eq!(woken(&mut core), [1]);
        assert_eq!(pull(&mut core, 1, now + delay).len(), 2);
    }

    #[test]
    fn a_sample_is_exact_and_the_rest_is_dropped() {
        let (mut core, now) = (core(|_| ()), Instant::now());
        for (id, rate) in [(1, 1), (2, 50), (3, 99)] {
            core.connect(id, String::new(), 0);
            core.identify(
                id,
                Identity { sample_rate: rate, msg_timeout: TIMEOUT, ..Default::default() },
            );
            core.subscribe(id, &topic("t"), &channel("c"), now).unwrap();
            core.set_ready(id, 65_535);
            publish(&mut core, 20_000, now);
            let mut got = 0;
            while let count @ 1.. = pull(&mut core, id, now).len() {
                got += count;
            }
            let want = 200 * usize::from(rate);
            assert!(got.abs_diff(want) < 300, "{got} of 20000 at {rate} %");
            core.disconnect(id);
            core.empty_channel(&topic("t"), &channel("c")).unwrap();
            core.take_effects();
            assert_eq!(core.used(), 0);
        }
    }

    /// One step of a random history over one topic, two channels and four consumers, two of each channel.
    #[derive(Clone, Debug)]
    enum Step {
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

    fn any_step() -> impl Strategy<Value = Step> {
        use Step::*;
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
    struct Model {
        waiting: BTreeSet<u64>,
        held: BTreeMap<u64, (ClientId, Instant)>,
        deferred: BTreeMap<u64, Instant>,
    }

    struct World {
        core: Core,
        now: Instant,
        channels: [Model; 2],
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
            self.core.connect(id, String::new(), 0);
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

        fn step(&mut self, step: &Step) {
            let now = self.now;
            match *step {
                Step::Publish(count, delay) => {
                    let delay = Duration::from_secs(delay);
                    self.core.publish(None, &topic("t"), batch(count), delay, now, 0).unwrap();
                    let ids = self.next_id..self.next_id + count as u64;
                    self.next_id = ids.end;
                    self.topic.extend(ids.map(|id| (id, now + delay)));
                    self.hand_out();
                }
                Step::Ready(id, rdy) => {
                    self.core.set_ready(id, rdy);
                    self.rdy[id as usize] = rdy;
                }
                Step::Pull(id, budget) => self.pull(id, budget),
                Step::Finish(id, nth) => {
                    let Some(message) = self.nth_held(id, nth) else { return };
                    // Its neighbour on the same channel does not own it.
                    let other = if id > 2 { id - 2 } else { id + 2 };
                    assert_eq!(finish(&mut self.core, other, message), Err(NotYours::OtherOwner));
                    assert_eq!(finish(&mut self.core, id, message), Ok(()));
                    assert_eq!(finish(&mut self.core, id, message), Err(NotYours::NotInFlight));
                    self.channels[index_of(id)].held.remove(&message);
                }
                Step::Requeue(id, nth, delay) => {
                    let Some(message) = self.nth_held(id, nth) else { return };
                    let delay = Duration::from_secs(delay);
                    assert_eq!(
                        self.core.requeue(id, MessageId::from_u64(message), delay, now),
                        Ok(())
                    );
                    let model = &mut self.channels[index_of(id)];
                    model.held.remove(&message);
                    if delay.is_zero() {
                        model.waiting.insert(message);
                    } else {
                        model.deferred.insert(message, now + delay);
                    }
                }
                Step::Touch(id, nth) => {
                    let Some(message) = self.nth_held(id, nth) else { return };
                    assert_eq!(self.core.touch(id, MessageId::from_u64(message), now), Ok(()));
                    self.channels[index_of(id)].held.insert(message, (id, now + TIMEOUT));
                }
                Step::Reconnect(id) => {
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
                Step::Advance(seconds) => {
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
                Step::PauseChannel(index, paused) => {
                    let index = index as usize;
                    self.core.pause_channel(&topic("t"), &name_of(index), paused).unwrap();
                    self.paused[index] = paused;
                }
                Step::PauseTopic(paused) => {
                    self.core.pause_topic(&topic("t"), paused, now).unwrap();
                    self.topic_paused = paused;
                    self.hand_out();
                }
                Step::EmptyChannel(index) => {
                    let index = index as usize;
                    self.core.empty_channel(&topic("t"), &name_of(index)).unwrap();
                    self.channels[index] = Model::default();
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
                    let woken =
                        both.iter().any(|id| index_of(*id) == index && self.woken.contains(id));
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
            world.step(&Step::PauseTopic(false));
            (0..2).for_each(|index| world.step(&Step::PauseChannel(index, false)));
            world.step(&Step::Advance(1000));
            (1..=4).for_each(|id| world.step(&Step::Ready(id, 7)));
            for _ in 0..10_000 {
                let Some(id) = world.woken.first().copied() else { break };
                world.pull(id, 500);
                world.check();
                while world.nth_held(id, 0).is_some() {
                    world.step(&Step::Finish(id, 0));
                }
            }
            for model in &world.channels {
                prop_assert!(model.waiting.is_empty() && model.held.is_empty() && model.deferred.is_empty());
            }
            prop_assert_eq!(world.core.used(), 0);
        }
    }
}
