//! What time does: messages in flight time out, deferred ones fall due (pure).

use std::time::Instant;

use super::channel::{Channel, is_deferred, is_valid};
use super::cost::settle;
use super::state::Core;
use super::wake::{update_ready_state, wake_idle};

impl Core {
    /// When [`Core::tick`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Requeues what has timed out and delivers what has fallen due by `now`, at most `max` messages; returns
    /// whether there may be more.
    pub(crate) fn tick(&mut self, now: Instant, max: usize) -> bool {
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
                update_ready_state(id, subscription, channel, &mut self.effects);
            }
            wake_idle(channel, &mut self.clients, &mut self.effects);
        }
        true
    }
}

impl Core {
    pub(super) fn prune(&mut self) {
        let channels = &self.channels;
        self.deadlines.prune(self.cost.live, |deadline| {
            channels.get(&deadline.channel).is_some_and(|channel| is_valid(channel, deadline))
        });
    }
}
