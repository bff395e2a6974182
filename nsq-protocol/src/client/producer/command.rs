//! What a producer publishes, and which of it nsqd would refuse (pure).

use crate::client::producer::config::ProducerConfig;
use crate::codec::bodies::Bodies;
use crate::codec::command::Command;
use crate::codec::names::TopicName;
use crate::error::PublishError;

/// Room for a command's name, topic, delay and sizes, when its bytes are counted against the window.
const COMMAND_HEAD: usize = 128;

/// What is published, borrowed from whoever keeps it for another attempt.
#[derive(Clone, Copy)]
pub(crate) enum Publish<'a> {
    One(TopicName, &'a [u8]),
    Many(TopicName, Bodies<'a>),
    Deferred(TopicName, u64, &'a [u8]),
}

impl Publish<'_> {
    pub(super) fn command(&self) -> Command<'_> {
        match self {
            Publish::One(topic, body) => Command::Pub(*topic, body),
            Publish::Many(topic, bodies) => Command::Mpub(*topic, *bodies),
            Publish::Deferred(topic, delay_ms, body) => Command::Dpub(*topic, *delay_ms, body),
        }
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn topic(&self) -> TopicName {
        let (Self::One(topic, _) | Self::Many(topic, _) | Self::Deferred(topic, ..)) = self;
        *topic
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn messages(&self) -> usize {
        match self {
            Self::One(..) | Self::Deferred(..) => 1,
            Self::Many(_, bodies) => bodies.len(),
        }
    }

    /// What it takes of the window, about.
    pub(super) fn bytes(&self) -> usize {
        COMMAND_HEAD
            + match self {
                Publish::One(_, body) | Publish::Deferred(_, _, body) => body.len(),
                Publish::Many(_, bodies) => bodies.body_size(),
            }
    }

    /// Refuses here what nsqd would refuse by closing the connection, which would make every other pending
    /// publish unknown.
    pub(crate) fn check(&self, config: &ProducerConfig) -> Result<(), PublishError> {
        let refuse = |reason: String| Err(PublishError::Invalid { reason });
        let max = config.connection.max_msg_size;
        let check_body = |body: &[u8]| match body.len() {
            0 => refuse("the body is empty".to_owned()),
            len if len > max => {
                refuse(format!("a body of {len} bytes is over the {max} byte limit"))
            }
            _ => Ok(()),
        };
        match self {
            Publish::One(_, body) => check_body(body),
            Publish::Deferred(_, delay_ms, body) => {
                let max = config.max_delay;
                if u128::from(*delay_ms) > max.as_millis() {
                    return refuse(format!(
                        "a delay of {delay_ms} ms is over the limit of {max:?}"
                    ));
                }
                check_body(body)
            }
            Publish::Many(_, bodies) => {
                let (size, max) = (bodies.body_size(), config.max_body_size);
                if bodies.is_empty() {
                    return refuse("there is no body".to_owned());
                }
                if size > max {
                    return refuse(format!("an MPUB of {size} bytes is over the {max} byte limit"));
                }
                bodies.iter().try_for_each(check_body)
            }
        }
    }
}
