//! How messages come in: into the topic's channels, or into the topic while it has none or is paused (pure).

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use nsq_protocol::TopicName;

use super::batch::{MessageRun, NewBatch};
use super::channel::defer;
use super::cost::settle;
use super::ids::{ClientId, first_id};
use super::limits::LimitError;
use super::queue::Deferred;
use super::state::Core;
use super::wake::wake_idle;

impl Core {
    /// Puts a batch into `topic`, all of it or nothing; with a delay it must be one message. `timestamp_ns`, since the
    /// Unix epoch, is what its messages say of when they were published.
    pub(crate) fn publish(
        &mut self,
        publisher: Option<ClientId>,
        topic: &TopicName,
        batch: NewBatch,
        delay: Duration,
        now: Instant,
        timestamp_ns: i64,
    ) -> Result<(), LimitError> {
        self.create_topic(topic)?;
        self.make_room(batch.cost())?;
        let state = self.topics.get_mut(topic).expect("created above");
        if let Some(client) = publisher.and_then(|id| self.clients.get_mut(&id)) {
            client.count_published(topic, batch.len() as u64);
        }
        state.message_count += batch.len() as u64;
        state.message_bytes += batch.body_bytes() as u64;
        let mut run = number(batch, timestamp_ns, &mut self.next_id, &self.body_bytes);
        let due = now + delay;
        if state.channels.is_empty() || state.paused {
            let before = state.cost();
            state.drop_excess(topic, &mut run, self.config.mem_queue_size);
            match run.left {
                0 => {}
                _ if delay.is_zero() => state.queue.push(run),
                _ => state.deferred.push_back(Deferred { run, due }),
            }
            settle(&mut self.cost, before, state.cost());
            return Ok(());
        }
        // The last channel gets the run itself, the others a copy.
        let mut keys = state.channels.values().copied().peekable();
        let mut run = Some(run);
        while let Some(key) = keys.next() {
            let one = if keys.peek().is_some() { run.clone() } else { run.take() };
            let (Some(mut one), Some(channel)) = (one, self.channels.get_mut(&key)) else {
                continue;
            };
            let before = channel.cost();
            // As nsqd, with those that are dropped.
            channel.message_count += u64::from(one.left);
            channel.drop_excess(&mut one, self.config.mem_queue_size);
            if one.left > 0 {
                if delay.is_zero() {
                    channel.queue.push(one);
                    wake_idle(channel, &mut self.clients, &mut self.effects);
                } else {
                    defer(&mut self.deadlines, key, channel, Deferred { run: one, due });
                }
            }
            settle(&mut self.cost, before, channel.cost());
        }
        Ok(())
    }

    /// Hands what waits in the topic to its channels.
    pub(super) fn drain(&mut self, topic: &TopicName, now: Instant) {
        let Some(state) = self.topics.get_mut(topic) else { return };
        if state.paused || state.channels.is_empty() {
            return;
        }
        if state.tail.is_some() {
            return self.drain_log(topic);
        }
        let before = state.cost();
        let keys: Vec<u64> = state.channels.values().copied().collect();
        let mut queue = std::mem::take(&mut state.queue);
        let deferred = std::mem::take(&mut state.deferred);
        settle(&mut self.cost, before, state.cost());
        for (index, key) in keys.iter().enumerate() {
            let Some(channel) = self.channels.get_mut(key) else { continue };
            let before = channel.cost();
            channel.message_count += (queue.depth() + deferred.len()) as u64;
            // Mostly there is one channel, the first, with nothing in it: it takes the queue as it is.
            let is_ephemeral = channel.name.is_ephemeral();
            if index + 1 == keys.len() && channel.queue.depth() == 0 && !is_ephemeral {
                channel.queue = std::mem::take(&mut queue);
            } else {
                for run in queue.runs() {
                    let mut run = run.clone();
                    channel.drop_excess(&mut run, self.config.mem_queue_size);
                    if run.left > 0 {
                        channel.queue.push(run);
                    }
                }
            }
            for Deferred { run, due } in &deferred {
                let mut run = run.clone();
                channel.drop_excess(&mut run, self.config.mem_queue_size);
                if run.left == 0 {
                    continue;
                }
                if *due <= now {
                    channel.queue.push(run);
                } else {
                    defer(&mut self.deadlines, *key, channel, Deferred { run, due: *due });
                }
            }
            settle(&mut self.cost, before, channel.cost());
            wake_idle(channel, &mut self.clients, &mut self.effects);
        }
    }
}

/// Gives the messages their IDs.
fn number(
    batch: NewBatch,
    timestamp_ns: i64,
    next_id: &mut u64,
    body_bytes: &Arc<AtomicUsize>,
) -> MessageRun {
    let first_id = first_id(timestamp_ns, *next_id);
    *next_id = first_id + batch.len() as u64;
    batch.number(first_id, timestamp_ns, body_bytes)
}
