//! Connections come, say who they are, subscribe and go (pure).

use std::time::Instant;

use nsq_protocol::{ChannelName, TopicName};

use super::client::{Client, Identity, Subscription, Upgraded, subscribed};
use super::cost::settle;
use super::ids::ClientId;
use super::limits::LimitError;
use super::state::Core;
use super::wake::update_ready_state;
use crate::broker::auth::AuthFacts;
use crate::model::unix_time::UnixMs;

impl Core {
    /// A connection has come; every other call about it comes between this and `disconnect`.
    pub(crate) fn connect(&mut self, id: ClientId, remote_address: String, connected: UnixMs) {
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
            connected,
            identity,
            auth: None,
            upgraded: None,
            subscription: None,
            published: Vec::new(),
        };
        self.clients.insert(id, client);
    }

    /// The client says who it is.
    pub(crate) fn identify(&mut self, id: ClientId, identity: Identity) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.identity = identity;
        }
    }

    /// The client has proved who it is.
    pub(crate) fn authenticate(&mut self, id: ClientId, facts: AuthFacts) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.auth = Some(Box::new(facts));
        }
    }

    /// What its bytes pass through from now on.
    pub(crate) fn upgrade(&mut self, id: ClientId, upgraded: Upgraded) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.upgraded = Some(Box::new(upgraded));
        }
    }

    /// The topic of the ephemeral channel that the client consumes.
    pub(crate) fn ephemeral_channel_of(&self, id: ClientId) -> Option<TopicName> {
        let key = self.clients.get(&id)?.subscription.as_ref()?.channel;
        let channel = self.channels.get(&key)?;
        channel.name.is_ephemeral().then_some(channel.topic)
    }

    /// The connection is gone: what it holds goes to others at once, where nsqd waits for the timeout.
    pub(crate) fn disconnect(&mut self, id: ClientId) {
        let Some(client) = self.clients.remove(&id) else { return };
        let Some(subscription) = client.subscription else { return };
        let key = subscription.channel;
        let Some(channel) = self.channels.get_mut(&key) else { return };
        channel.consumers.retain(|consumer| *consumer != id);
        let before = channel.cost();
        channel.release(id);
        settle(&mut self.cost, before, channel.cost());
        self.changed(key);
        let Some(channel) = self.channels.get(&key) else { return };
        if channel.name.is_ephemeral() && channel.consumers.is_empty() {
            let (topic, name) = (channel.topic, channel.name);
            // It cannot be missing: it was just found.
            let _ = self.delete_channel(&topic, &name);
        } else {
            self.wake_idle(key);
        }
        self.prune();
    }

    /// Makes the connection a consumer.
    pub(crate) fn subscribe(
        &mut self,
        id: ClientId,
        topic: &TopicName,
        name: &ChannelName,
        now: Instant,
    ) -> Result<(), LimitError> {
        let key = self.create_channel(topic, name, now)?;
        let (Some(client), Some(channel)) =
            (self.clients.get_mut(&id), self.channels.get_mut(&key))
        else {
            return Ok(());
        };
        let max = self.config.max_channel_consumers;
        if max != 0 && channel.consumers.len() >= max {
            return Err(LimitError::Consumers { place: format!("{topic}:{name}"), max });
        }
        channel.consumers.push(id);
        client.subscription = Some(Subscription {
            channel: key,
            rdy: 0,
            in_flight: 0,
            closing: false,
            awake: false,
            in_idle: false,
            message_count: 0,
            finish_count: 0,
            requeue_count: 0,
        });
        self.want_load(key);
        Ok(())
    }

    /// RDY: the client may hold `count` messages at a time.
    pub(crate) fn set_ready(&mut self, id: ClientId, count: u32) {
        let Some((subscription, channel)) = subscribed(&mut self.clients, &mut self.channels, id)
        else {
            return;
        };
        if subscription.closing {
            return;
        }
        subscription.rdy = count;
        update_ready_state(id, subscription, channel, &mut self.effects);
        // If it was told to pull and now may not, somebody else must.
        let key = subscription.channel;
        if count == 0 {
            self.wake_idle(key);
        }
    }

    /// CLS: no more messages; those that the client holds it may still answer.
    pub(crate) fn start_close(&mut self, id: ClientId) {
        self.set_ready(id, 0);
        if let Some((subscription, _)) = subscribed(&mut self.clients, &mut self.channels, id) {
            subscription.closing = true;
        }
    }
}
