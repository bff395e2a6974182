//! Whom to wake: as many idle consumers as there are messages, nobody twice (pure).

use super::channel::Channel;
use super::client::{Client, Subscription};
use super::effects::Effects;
use super::ids::{ClientId, NumberMap};
use super::state::Core;

impl Core {
    pub(super) fn wake_idle(&mut self, key: u64) {
        if let Some(channel) = self.channels.get_mut(&key) {
            wake_idle(channel, &mut self.clients, &mut self.effects);
        }
    }
}

/// A consumer may have become ready: wakes it if something waits, else notes that it is idle.
pub(super) fn update_ready_state(
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
    } else if !subscription.in_idle {
        subscription.in_idle = true;
        channel.idle.push_back(id);
    }
}

/// Wakes idle consumers, as many as there are messages, the longest idle first.
pub(super) fn wake_idle(
    channel: &mut Channel,
    clients: &mut NumberMap<Client>,
    effects: &mut Effects,
) {
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
        subscription.in_idle = false;
        if !subscription.awake && subscription.is_ready() {
            subscription.awake = true;
            effects.wake.push(id);
            wanted -= 1;
        }
    }
}
