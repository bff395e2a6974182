//! How messages go out: a consumer pulls what it may have (pure).

use std::time::Instant;

use nsq_protocol::MESSAGE_HEAD_LEN;

use super::batch::MessageRun;
use super::channel::Channel;
use super::client::{Subscription, subscribed};
use super::cost::settle;
use super::deadlines::Deadline;
use super::ids::ClientId;
use super::queue::RunQueue;
use super::state::Core;
use super::wake::update_ready_state;

/// Above so many consumers of a channel, a pull takes all of them for ready when it works out a fair share:
/// counting would take longer than the pull.
const COUNT_READY_MAX: usize = 64;

/// A frame's size, type and message head: what a delivery takes on the wire besides its body.
const FRAME_OVERHEAD: usize = 8 + MESSAGE_HEAD_LEN;

impl Core {
    /// Takes up to `budget` bytes of frames, but at least one message, for this consumer. Returns whether it is to come again
    /// once it has written what it got: until then, and should that take for ever, what is published goes to others. If not,
    /// it will be woken when there is something.
    pub(crate) fn pull(
        &mut self,
        id: ClientId,
        now: Instant,
        budget: usize,
        out: &mut Vec<MessageRun>,
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
        let mut has_pulled = false;
        let deadline = now + timeout;
        while room > 0 && budget > 0 {
            let front = take_front(&mut channel.queue, rate, &mut room, &mut budget);
            let Some((pulled, end)) = front else { break };
            if let Some(backlog) = &mut channel.backlog {
                backlog.pulled(pulled.next_id, end);
            }
            if pulled.left > 0 {
                let deadlines = &mut self.deadlines;
                channel.in_flight.hold(&pulled, id, now, deadline, |first| {
                    deadlines.push(Deadline { at: deadline, channel: key, id: first });
                });
                subscription.in_flight += pulled.left;
                subscription.message_count += u64::from(pulled.left);
                out.push(pulled);
            }
            has_pulled = true;
        }
        settle(&mut self.cost, before, channel.cost());
        let may_have_more = !channel.paused
            && channel.queue.depth() > 0
            && subscription.rdy > subscription.in_flight;
        let more = has_pulled || may_have_more;
        subscription.awake = more;
        if !more {
            update_ready_state(id, subscription, channel, &mut self.effects);
        }
        if !may_have_more {
            self.wake_idle(key);
        }
        if has_pulled {
            self.changed(key);
            self.want_load(key);
            self.prune();
        }
        more
    }

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
}

/// Takes messages off the front of the queue, all of one run, as long as there is `room` for messages and `budget` for
/// bytes, and lowers both. What the sample rate drops is taken, too, so that what is returned may be empty; with it comes
/// the ID behind what was taken.
fn take_front(
    queue: &mut RunQueue,
    rate: u8,
    room: &mut usize,
    budget: &mut usize,
) -> Option<(MessageRun, u64)> {
    let run = queue.front()?;
    let mut pulled = MessageRun { left: 0, attempts: run.attempts.wrapping_add(1), ..run.clone() };
    let mut taken = 0;
    while *room > 0 && *budget > 0 && run.left > 0 {
        taken += 1;
        if rate > 0 && !is_sampled(run.next_id, rate) {
            run.advance();
            *budget = budget.saturating_sub(FRAME_OVERHEAD);
            // A run has no holes: what was pulled so far goes out as it is.
            break;
        }
        *budget = budget.saturating_sub(FRAME_OVERHEAD + run.first_len());
        *room -= 1;
        run.advance();
        pulled.left += 1;
    }
    let end = run.next_id;
    queue.taken(taken);
    Some((pulled, end))
}

/// Whether a consumer that wants `rate` per cent gets this message: a hash of the ID, so that no pattern of
/// publication can meet a pattern here, and no clock or generator is needed.
fn is_sampled(id: u64, rate: u8) -> bool {
    // The finaliser of SplitMix64: every bit of the ID reaches every bit of the sum.
    let mixed = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % 100 < u64::from(rate)
}
