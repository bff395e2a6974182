//! What a user chooses about the flow of messages, and what a user is told of it (pure).

use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::flow::rdy::Hold;

/// How RDY, the number of messages that nsqd may send ahead, is chosen for each connection.
///
/// # Example
/// ```
/// use nsq_protocol::{ConsumerConfig, RdyMode};
///
/// let config = ConsumerConfig::new("plays".parse()?, "count".parse()?);
/// assert_eq!(config.get_rdy(), RdyMode::Adaptive);
/// let config = config.rdy(RdyMode::Fixed);
/// # Ok::<(), nsq_protocol::NameError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RdyMode {
    /// RDY follows the load, from 1 up to the connection's share of `max_in_flight`: a quiet channel's messages
    /// come at once, and a busy one's come as fast as nsqd can send.
    #[default]
    Adaptive,
    /// RDY is the connection's share of `max_in_flight`, always. nsqd then holds messages of a quiet channel for
    /// up to `output_buffer_timeout`.
    Fixed,
}

/// Why a connection is given no messages at the moment.
///
/// # Example
/// ```
/// use nsq_protocol::{ConsumerStats, Pause};
///
/// fn is_stuck(stats: &ConsumerStats) -> bool {
///     stats.connections.iter().any(|of| of.pause == Some(Pause::TimedOut))
/// }
/// // As it stands in JSON.
/// assert_eq!(serde_json::to_string(&Pause::OthersTurn)?, r#""others_turn""#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pause {
    /// There is no connection; `last_error` says why.
    NotConnected,
    /// Handlers failed: see [`crate::ConsumerStats::backoff`].
    Backoff,
    /// There are more nsqds than `max_in_flight`, and it is the turn of others.
    OthersTurn,
    /// As much as `max_in_flight` allows is held, or on its way, from other connections.
    MaxInFlight,
    /// Messages timed out at nsqd while they were held here; half of those held must be answered first.
    TimedOut,
    /// [`crate::Consumer::pause`] was called.
    Paused,
    /// The consumer stops, or leaves this nsqd.
    Stopping,
}

impl From<Hold> for Pause {
    fn from(hold: Hold) -> Self {
        match hold {
            Hold::Backoff => Self::Backoff,
            Hold::Turn => Self::OthersTurn,
            Hold::Room => Self::MaxInFlight,
            Hold::TimedOut => Self::TimedOut,
            Hold::Paused => Self::Paused,
        }
    }
}

/// A duration as figures have it: a number of seconds.
pub(crate) fn seconds<S: Serializer>(of: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    of.map(|of| of.as_secs_f64()).serialize(to)
}

/// Where a consumer's backoff stands.
///
/// # Example
/// ```
/// fn report(consumer: &nsq_protocol::Consumer) {
///     if let Some(rest) = consumer.stats().backoff.ends_in {
///         println!("handlers fail; the next message is asked for in {rest:?}");
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackoffStats {
    /// Failures in a row that led to it; 0 while all is well. It stays for a while after a success, in which a
    /// further failure goes on from it.
    pub level: u32,
    /// How long no message is asked for yet; serialized in seconds.
    #[serde(serialize_with = "seconds")]
    pub ends_in: Option<Duration>,
    /// One message is asked for, to see how it fares.
    pub probing: bool,
}

/// What becomes of a message that is larger than [`crate::ConnectionConfig::max_msg_size`]. The rest of its body is
/// dropped as it comes, in any case, so that the connection and the messages behind it go on.
///
/// # Example
/// ```
/// use nsq_protocol::{ConsumerConfig, Oversized};
///
/// let config = ConsumerConfig::new("plays".parse()?, "count".parse()?)
///     .max_msg_size(64 << 10)
///     .oversized(Oversized::HandOver { kept: 256 }); // enough to say in a log what it was
/// # Ok::<(), nsq_protocol::NameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Oversized {
    /// REQ, with a warning: it stays with nsqd and comes again after the delay, until a consumer with a larger limit
    /// takes it or it is given up. No handler takes a part of a body for the whole. The default, with 1 min.
    Requeue(Duration),
    /// It is handed over as any other, with the first `kept` bytes of its body, at most `max_msg_size`, and
    /// [`crate::MessageRef::skipped`] above 0.
    HandOver {
        /// Bytes of its body that are kept.
        kept: usize,
    },
}

impl Oversized {
    /// Bytes of a body that are kept.
    pub(crate) fn kept(self) -> usize {
        match self {
            Self::Requeue(_) => 0,
            Self::HandOver { kept } => kept,
        }
    }
}

impl Default for Oversized {
    fn default() -> Self {
        // Rarely enough that a body of some 100 MB is no load, and soon enough for one who raises the limit.
        Self::Requeue(Duration::from_secs(60))
    }
}
