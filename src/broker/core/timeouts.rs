//! What time does: messages in flight time out, deferred ones fall due (pure).

use std::time::Instant;

use super::channel::{Channel, is_deferred, is_valid};
use super::cost::settle;
use super::deadlines::Deadline;
use super::state::Core;
use super::wake::{update_ready_state, wake_idle};

impl Core {
    /// When [`Core::tick`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Requeues what has timed out and delivers what has fallen due by `now`: at most `max` messages, where a deadline
    /// that no message has any more counts as one. Returns whether there may be more.
    pub(crate) fn tick(&mut self, now: Instant, max: usize) -> bool {
        let mut left = max;
        while left > 0 {
            let Some(deadline) = self.deadlines.pop(now) else { return false };
            left -= self.expire(deadline, left).max(1);
        }
        true
    }

    /// Puts at most `max` messages whose deadline this was back into the queue, and returns how many; the others keep
    /// the deadline.
    fn expire(&mut self, deadline: Deadline, max: usize) -> usize {
        let Some(channel) = self.channels.get_mut(&deadline.channel) else { return 0 };
        if !is_valid(channel, &deadline) {
            return 0;
        }
        let before = channel.cost();
        let mut count = 0;
        if is_deferred(channel, &deadline)
            && let Some(deferred) = channel.deferred.remove(&deadline.id)
        {
            channel.queue.push(deferred.run);
            count += 1;
        }
        let mut owners = Vec::new();
        let Channel { in_flight, queue, timeout_count, .. } = channel;
        let rest = in_flight.expire(deadline.id, deadline.at, max - count, |owner, run| {
            *timeout_count += u64::from(run.left);
            count += run.left as usize;
            owners.push((owner, run.left));
            queue.push(run);
        });
        if let Some(id) = rest {
            self.deadlines.push(Deadline { id, ..deadline });
        }
        settle(&mut self.cost, before, channel.cost());
        for (id, count) in owners {
            let client = self.clients.get_mut(&id);
            let subscription = client.and_then(|client| client.subscription.as_mut());
            let Some(subscription) = subscription else { continue };
            subscription.in_flight = subscription.in_flight.saturating_sub(count);
            update_ready_state(id, subscription, channel, &mut self.effects);
        }
        wake_idle(channel, &mut self.clients, &mut self.effects);
        self.changed(deadline.channel);
        count
    }

    /// Drops deadlines that no message has any more, once they are most of them.
    pub(super) fn prune(&mut self) {
        let channels = &self.channels;
        self.deadlines.prune(self.cost.live, |deadline| {
            channels.get(&deadline.channel).is_some_and(|channel| is_valid(channel, deadline))
        });
    }
}
