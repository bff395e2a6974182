//! One connection as the core knows it, and its subscription (pure).

use std::time::Duration;

use nsq_protocol::TopicName;

use super::channel::Channel;
use super::ids::{ClientId, NumberMap};
use crate::broker::auth::AuthFacts;
use crate::model::unix_time::UnixMs;

/// Topics that are remembered for one publisher: `/stats` shows only one, or the one that is asked for.
const PUBLISHED_MAX: usize = 64;

/// What a client is, as IDENTIFY tells it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) client_id: String,
    pub(crate) hostname: String,
    pub(crate) user_agent: String,
    pub(crate) sample_rate: u8,
    pub(crate) msg_timeout: Duration,
}

/// What a client has agreed on in its TLS handshake, in nsqd's words.
#[derive(Clone, Debug)]
pub(crate) struct TlsFacts {
    /// `TLS1.2`.
    pub(crate) version: &'static str,
    pub(crate) cipher_suite: String,
}

/// What a connection's bytes pass through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upgraded {
    pub(crate) tls: Option<TlsFacts>,
    pub(crate) snappy: bool,
    pub(crate) deflate: bool,
}

pub(super) struct Client {
    pub(super) remote_address: String,
    pub(super) connected: UnixMs,
    pub(super) identity: Identity,
    /// Of those who said AUTH: who they are.
    pub(super) auth: Option<Box<AuthFacts>>,
    /// Most have none.
    pub(super) upgraded: Option<Box<Upgraded>>,
    pub(super) subscription: Option<Subscription>,
    pub(super) published: Vec<(TopicName, u64)>,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) channel: u64,
    pub(super) rdy: u32,
    pub(super) in_flight: u32,
    pub(super) closing: bool,
    /// Told to pull, and has not yet pulled in vain.
    pub(super) awake: bool,
    /// In the channel's `idle`.
    pub(super) in_idle: bool,
    pub(super) message_count: u64,
    pub(super) finish_count: u64,
    pub(super) requeue_count: u64,
}

impl Subscription {
    pub(super) fn is_ready(&self) -> bool {
        self.rdy > self.in_flight
    }
}

impl Client {
    pub(super) fn count_published(&mut self, topic: &TopicName, count: u64) {
        if let Some((_, total)) = self.published.iter_mut().find(|(name, _)| name == topic) {
            *total += count;
        } else if self.published.len() < PUBLISHED_MAX {
            self.published.push((*topic, count));
        }
    }
}

/// The subscription of a client, and its channel; both are there unless the channel was deleted.
pub(super) fn subscribed<'a>(
    clients: &'a mut NumberMap<Client>,
    channels: &'a mut NumberMap<Channel>,
    id: ClientId,
) -> Option<(&'a mut Subscription, &'a mut Channel)> {
    let subscription = clients.get_mut(&id)?.subscription.as_mut()?;
    let channel = channels.get_mut(&subscription.channel)?;
    Some((subscription, channel))
}
