//! What a user decides about a message that is given up, and what a user is told of it (pure).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::codec::message::MessageRef;
use crate::error::chain;

/// What becomes of a message that is given up.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use nsq_protocol::{ConsumerConfig, GiveUp};
///
/// let config = ConsumerConfig::new("plays".parse()?, "count".parse()?).max_attempts(5);
/// let config = config.on_give_up(|given_up| {
///     eprintln!("{}: {}", given_up.message.id, given_up.cause);
///     GiveUp::Requeue(Duration::from_secs(3600))
/// });
/// # Ok::<(), nsq_protocol::NameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GiveUp {
    /// FIN: it is gone from the channel.
    Finish,
    /// REQ: it comes again after the delay, and is given up again.
    Requeue(Duration),
}

/// A message that is given up, as [`crate::ConsumerConfig::on_give_up`] is told of it.
///
/// # Example
/// ```
/// use nsq_protocol::{GiveUp, GivenUp, Producer, TopicName};
///
/// /// To another topic; where that does not work, it is tried again in a minute.
/// fn to_dead_letters(producer: &Producer, topic: &TopicName, given_up: GivenUp<'_>) -> GiveUp {
///     match producer.publish(topic, given_up.message.body) {
///         Ok(()) => GiveUp::Finish,
///         Err(_) => GiveUp::Requeue(std::time::Duration::from_secs(60)),
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct GivenUp<'a> {
    /// What was published, and its attempts. Of an oversized message no more than
    /// [`crate::ConsumerConfig::oversized`] keeps.
    pub message: MessageRef<'a>,
    /// The nsqd that it came from, as configured or found.
    pub nsqd: &'a str,
    /// Why.
    pub cause: GiveUpCause<'a>,
}

/// Why a message is given up. As text it is the whole story in one line.
///
/// # Example
/// ```
/// use nsq_protocol::{GiveUpCause, GivenUp};
///
/// fn last_error(given_up: GivenUp<'_>) -> Option<String> {
///     match given_up.cause {
///         GiveUpCause::HandlerFailed(error) => Some(error.to_string()),
///         _ => None,
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum GiveUpCause<'a> {
    /// It was delivered more often than [`crate::ConsumerConfig::max_attempts`]. No handler saw this delivery.
    AttemptsUsedUp,
    /// The handler of [`crate::Consumer::run_fallible`] returned this error, and it was the last attempt.
    HandlerFailed(&'a (dyn std::error::Error + Send + Sync + 'static)),
}

impl fmt::Display for GiveUpCause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AttemptsUsedUp => f.write_str("all of its attempts are used up"),
            Self::HandlerFailed(error) => f.write_str(&chain(*error)),
        }
    }
}

/// Called with each message that is given up; see [`crate::ConsumerConfig::on_give_up`].
#[derive(Clone)]
pub(crate) struct GiveUpHandler(Arc<dyn Fn(GivenUp<'_>) -> GiveUp + Send + Sync>);

impl GiveUpHandler {
    pub(crate) fn new(handler: impl Fn(GivenUp<'_>) -> GiveUp + Send + Sync + 'static) -> Self {
        Self(Arc::new(handler))
    }

    pub(crate) fn call(&self, given_up: GivenUp<'_>) -> GiveUp {
        (self.0)(given_up)
    }
}

impl fmt::Debug for GiveUpHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GiveUpHandler")
    }
}
