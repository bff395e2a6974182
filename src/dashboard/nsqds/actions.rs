//! What may be done to a topic or a channel, by whom knows the write token and types its name once more.

use std::time::Instant;

use nsq_protocol::{Admin, ChannelName, LookupConfig, TopicName};
use serde::{Deserialize, Serialize};

use super::state::{ERROR_MAX, lookupd_config};
use super::watch::Watch;

/// What may be done to a topic or a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Pause,
    Unpause,
    Empty,
    Delete,
    Create,
    /// Of a topic: who asks the nsqlookupds for it is not told of this nsqd, for a while.
    Tombstone,
}

/// The body of `POST /api/queue`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActionRequest {
    pub(crate) action: Action,
    nsqd: String,
    topic: String,
    #[serde(default)]
    channel: Option<String>,
    /// `topic`, or `topic/channel`, typed once more.
    confirm: String,
}

impl ActionRequest {
    /// What it is done to, for the action log: `host:port topic/channel`.
    pub(crate) fn target(&self) -> String {
        format!("{} {}", self.nsqd, self.name())
    }

    fn name(&self) -> String {
        match &self.channel {
            Some(channel) => format!("{}/{channel}", self.topic),
            None => self.topic.clone(),
        }
    }
}

/// Status and reason of a request that is refused.
pub(crate) type Refusal = (u16, String);

/// Somebody else refused it, or is away.
pub(super) fn failed(error: anyhow::Error) -> Refusal {
    (502, format!("{error:#}").chars().take(ERROR_MAX).collect())
}

impl Watch {
    /// Does what is asked for.
    ///
    /// # Errors
    /// (status, reason): the request is not whole, or nsqd refused.
    pub(crate) fn execute(&self, request: &ActionRequest) -> Result<(), Refusal> {
        let bad = |reason: String| (400, reason);
        let name = request.name();
        if request.confirm != name {
            return Err(bad(format!("confirm must be {name:?}, the name of what is touched")));
        }
        let admin = self.admin(&request.nsqd)?;
        let topic = TopicName::new(&request.topic).map_err(|error| bad(error.to_string()))?;
        let done = match &request.channel {
            _ if request.action == Action::Tombstone => return self.tombstone(request, topic),
            None => match request.action {
                Action::Create | Action::Tombstone => admin.create_topic(&topic),
                Action::Pause => admin.pause_topic(&topic),
                Action::Unpause => admin.unpause_topic(&topic),
                Action::Empty => admin.empty_topic(&topic),
                Action::Delete => admin.delete_topic(&topic),
            },
            Some(channel) => {
                let channel = ChannelName::new(channel).map_err(|error| bad(error.to_string()))?;
                match request.action {
                    Action::Create | Action::Tombstone => admin.create_channel(&topic, &channel),
                    Action::Pause => admin.pause_channel(&topic, &channel),
                    Action::Unpause => admin.unpause_channel(&topic, &channel),
                    Action::Empty => admin.empty_channel(&topic, &channel),
                    Action::Delete => admin.delete_channel(&topic, &channel),
                }
            }
        };
        done.map_err(|error| match error {
            error if error.is_not_found() && request.action == Action::Create => {
                (404, format!("there is no topic {topic} at {}", request.nsqd))
            }
            error if error.is_not_found() => {
                (404, format!("there is no {name} at {}", request.nsqd))
            }
            error => (502, error.to_string().chars().take(ERROR_MAX).collect()),
        })
    }

    fn tombstone(&self, request: &ActionRequest, topic: TopicName) -> Result<(), Refusal> {
        if request.channel.is_some() {
            return Err((400, "a topic is tombstoned, not a channel".to_owned()));
        }
        let (node, lookup) = self.node(&request.nsqd)?;
        if lookup.addresses.is_empty() {
            return Err((404, format!("no nsqlookupd names {node}")));
        }
        lookup.tombstone(&topic, &node).map_err(|error| failed(error.into()))
    }

    /// The name that an nsqd has with nsqlookupds, and those that know it.
    fn node(&self, address: &str) -> Result<(String, LookupConfig), Refusal> {
        let state = self.state.lock();
        let nsqd = state.nsqds.iter().find(|nsqd| nsqd.peer.address == address);
        let told = nsqd.and_then(|nsqd| nsqd.info.as_ref());
        // One that they have found has their name already.
        let names = told
            .map(|(info, _)| format!("{}:{}", info.broadcast_address, info.http_port))
            .into_iter()
            .chain([address.to_owned()]);
        let now = Instant::now();
        let mut lookup = lookupd_config();
        for name in names {
            let knowing = state.lookupds.iter().filter(|lookupd| lookupd.names(&name, now));
            lookup.addresses = knowing.map(|lookupd| lookupd.peer.address.clone()).collect();
            if !lookup.addresses.is_empty() {
                return Ok((name, lookup));
            }
        }
        Ok((address.to_owned(), lookup))
    }

    pub(super) fn admin(&self, address: &str) -> Result<Admin, Refusal> {
        let state = self.state.lock();
        let nsqd = state.nsqds.iter().find(|nsqd| nsqd.peer.address == address);
        nsqd.map(|nsqd| nsqd.admin.clone())
            .ok_or_else(|| (400, "nsqd must be one that GET /api/queue shows".to_owned()))
    }
}
