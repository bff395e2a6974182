//! What may be done to a topic or a channel, by whom knows the write token and types its name once more.

use std::fmt;
use std::time::{Duration, Instant};

use nsq_protocol::{Admin, AdminError, ChannelName, LookupConfig, TopicName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::state::{ANSWER_WAIT, ERROR_MAX, WatchedNsqd, lookupd_config};
use super::watch::Watch;
use crate::nsqd::http_tls::explained;

/// How long all nsqlookupds together may take for a tombstone.
pub(super) const TOMBSTONE_WAIT: Duration = Duration::from_secs(6);

/// What may be done to a topic or a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// Its messages wait.
    Pause,
    /// They go on.
    Unpause,
    /// Its messages are thrown away.
    Empty,
    /// It goes, with its messages.
    Delete,
    /// It is made, where it is not there yet.
    Create,
    /// Of a topic: who asks the nsqlookupds for it is not told of this nsqd, for a while.
    Tombstone,
}

/// The body of `POST /api/queue`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActionRequest {
    /// What to do.
    pub(crate) action: Action,
    /// Its address in `GET /api/queue`.
    nsqd: String,
    /// What it is done to, or whose channel.
    topic: String,
    /// What it is done to; without one it is done to the topic.
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

/// Why a request was not followed; each with the reason, which may quote what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ActionError {
    /// The request is not whole, or names what cannot be.
    Invalid(String),
    /// What it names is not there.
    NotFound(String),
    /// It would do more than it says.
    Conflict(String),
    /// Too many do the same now.
    Busy(String),
    /// An nsqd or nsqlookupd refused it, or is away.
    Upstream(String),
}

impl ActionError {
    /// What an nsqd or nsqlookupd said, cut to [`ERROR_MAX`] characters.
    pub(super) fn upstream(error: impl fmt::Display) -> Self {
        Self::Upstream(format!("{error:#}").chars().take(ERROR_MAX).collect())
    }

    /// A name that cannot be.
    pub(super) fn invalid(error: impl fmt::Display) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl fmt::Display for ActionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(reason)
            | Self::NotFound(reason)
            | Self::Conflict(reason)
            | Self::Busy(reason)
            | Self::Upstream(reason) => f.write_str(reason),
        }
    }
}

impl Watch {
    /// Does what is asked for.
    ///
    /// # Errors
    /// The request is not whole, or nsqd refused.
    pub(crate) fn execute(&self, request: &ActionRequest) -> Result<(), ActionError> {
        let name = request.name();
        if request.confirm != name {
            let reason = format!("confirm must be {name:?}, the name of what is touched");
            return Err(ActionError::Invalid(reason));
        }
        let admin = self.admin(&request.nsqd)?;
        let topic = TopicName::new(&request.topic).map_err(ActionError::invalid)?;
        if request.action == Action::Tombstone {
            return self.tombstone(request, topic);
        }
        let done = match &request.channel {
            None => act_on_topic(&admin, request.action, &topic),
            Some(channel) => {
                let channel = ChannelName::new(channel).map_err(ActionError::invalid)?;
                act_on_channel(&admin, request.action, &topic, &channel)
            }
        };
        let at = &request.nsqd;
        done.map_err(|error| match error {
            error if error.is_not_found() && request.action == Action::Create => {
                ActionError::NotFound(format!("there is no topic {topic} at {at}"))
            }
            error if error.is_not_found() => {
                ActionError::NotFound(format!("there is no {name} at {at}"))
            }
            error => ActionError::upstream(explained(error)),
        })
    }

    fn tombstone(&self, request: &ActionRequest, topic: TopicName) -> Result<(), ActionError> {
        if request.channel.is_some() {
            return Err(ActionError::Invalid("a topic is tombstoned, not a channel".to_owned()));
        }
        let (node, mut lookup) = self.node(&request.nsqd)?;
        // They are asked one after the other.
        match u32::try_from(lookup.get_addresses().len()).unwrap_or(u32::MAX) {
            0 => return Err(ActionError::NotFound(format!("no nsqlookupd names {node}"))),
            count => lookup = lookup.request_timeout(ANSWER_WAIT.min(TOMBSTONE_WAIT / count)),
        }
        lookup
            .tombstone(&topic, &node)
            .map_err(|error| ActionError::upstream(anyhow::Error::from(error)))
    }

    /// The name that an nsqd has with nsqlookupds, and those that know it.
    fn node(&self, address: &str) -> Result<(String, LookupConfig), ActionError> {
        let state = self.state.lock();
        let nsqd = state.nsqds.iter().find(|nsqd| nsqd.peer.address == address);
        let told = nsqd.and_then(WatchedNsqd::name);
        // One that they have found has their name already.
        let names = told.into_iter().chain([address.to_owned()]);
        let now = Instant::now();
        let tls = self.queue.as_ref().map(|queue| queue.tls.lookupd.clone());
        let lookup = lookupd_config(&tls.unwrap_or_default());
        for name in names {
            let knowing = state.lookupds.iter().filter(|lookupd| lookupd.names(&name, now));
            let knowing = lookup.clone().addresses(knowing.map(|of| of.peer.address.clone()));
            if !knowing.get_addresses().is_empty() {
                return Ok((name, knowing));
            }
        }
        Ok((address.to_owned(), lookup))
    }

    /// The HTTP API of a watched nsqd.
    pub(super) fn admin(&self, address: &str) -> Result<Admin, ActionError> {
        let state = self.state.lock();
        let nsqd = state.nsqds.iter().find(|nsqd| nsqd.peer.address == address);
        nsqd.map(|nsqd| nsqd.admin.clone())
            .ok_or_else(|| ActionError::invalid("nsqd must be one that GET /api/queue shows"))
    }
}

fn act_on_topic(admin: &Admin, action: Action, topic: &TopicName) -> Result<(), AdminError> {
    match action {
        Action::Create | Action::Tombstone => admin.create_topic(topic),
        Action::Pause => admin.pause_topic(topic),
        Action::Unpause => admin.unpause_topic(topic),
        Action::Empty => admin.empty_topic(topic),
        Action::Delete => admin.delete_topic(topic),
    }
}

fn act_on_channel(
    admin: &Admin,
    action: Action,
    topic: &TopicName,
    channel: &ChannelName,
) -> Result<(), AdminError> {
    match action {
        Action::Create | Action::Tombstone => admin.create_channel(topic, channel),
        Action::Pause => admin.pause_channel(topic, channel),
        Action::Unpause => admin.unpause_channel(topic, channel),
        Action::Empty => admin.empty_channel(topic, channel),
        Action::Delete => admin.delete_channel(topic, channel),
    }
}
