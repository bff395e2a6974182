//! What the core wants done outside, once it is unlocked (pure).

use std::any::Any;
use std::fmt;

use nsq_protocol::{ChannelName, TopicName};

use super::ids::ClientId;

/// A topic, or one of its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) topic: TopicName,
    pub(crate) channel: Option<ChannelName>,
}

/// Something was created or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegistrationChange {
    pub(crate) what: Registration,
    /// It was there, and was deleted.
    pub(crate) is_deleted: bool,
}

#[cfg(test)]
impl RegistrationChange {
    /// Of a topic.
    pub(crate) fn of(topic: &str, is_deleted: bool) -> Self {
        let topic = TopicName::new(topic).expect("a name");
        Self { what: Registration { topic, channel: None }, is_deleted }
    }
}

/// What must happen once the core is unlocked.
#[derive(Default)]
pub(crate) struct Effects {
    /// Consumers that should pull.
    pub(crate) wake: Vec<ClientId>,
    /// Connections to close: their channel was deleted.
    pub(crate) close: Vec<ClientId>,
    /// The next deadline is sooner than it was.
    pub(crate) sooner: bool,
    /// Topics and channels that were created or deleted.
    pub(crate) registrations: Vec<RegistrationChange>,
    /// There is something for [`Core::next_load`](super::Core::next_load).
    pub(crate) load: bool,
    /// There is something for [`Core::take_changes`](super::Core::take_changes).
    pub(crate) changed: bool,
    /// To be dropped: a full queue takes long to free.
    pub(crate) garbage: Vec<Box<dyn Any + Send>>,
}

impl Effects {
    /// Takes out that a consumer is to be woken; whether it is.
    pub(crate) fn take_wake(&mut self, id: ClientId) -> bool {
        let before = self.wake.len();
        self.wake.retain(|other| *other != id);
        self.wake.len() < before
    }

    /// Adds what came behind.
    pub(crate) fn absorb(&mut self, later: Self) {
        let Self { wake, close, sooner, registrations, load, changed, garbage } = later;
        self.wake.extend(wake);
        self.close.extend(close);
        self.sooner |= sooner;
        self.registrations.extend(registrations);
        self.load |= load;
        self.changed |= changed;
        self.garbage.extend(garbage);
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wake {:?} close {:?} sooner {}", self.wake, self.close, self.sooner)
    }
}
