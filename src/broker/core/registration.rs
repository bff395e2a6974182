//! Topics and channels as nsqlookupds know them (pure).

use nsq_protocol::{ChannelName, TopicName};

use super::effects::{Registration, RegistrationChange};
use super::state::Core;

impl Core {
    /// All there is: each channel, which stands for its topic, too, and each topic without channels.
    pub(crate) fn registrations(&self) -> Vec<Registration> {
        let mut all = Vec::with_capacity(self.topics.len().max(self.channels.len()));
        for (topic, state) in &self.topics {
            let of = |channel| Registration { topic: *topic, channel };
            all.extend(state.channels.keys().map(|name| of(Some(*name))));
            all.extend(state.channels.is_empty().then(|| of(None)));
        }
        all
    }

    /// Whether there is that.
    pub(crate) fn is_there(&self, what: &Registration) -> bool {
        let state = self.topics.get(&what.topic);
        state.is_some_and(|state| {
            what.channel.is_none_or(|channel| state.channels.contains_key(&channel))
        })
    }

    /// Notes for nsqlookupds what was created or deleted.
    pub(super) fn note_change(
        &mut self,
        topic: TopicName,
        channel: Option<ChannelName>,
        is_deleted: bool,
    ) {
        let what = Registration { topic, channel };
        self.effects.registrations.push(RegistrationChange { what, is_deleted });
    }
}
