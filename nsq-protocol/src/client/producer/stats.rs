//! What a producer tells of itself. Made on the thread that asks.

use serde::Serialize;

/// What a producer did so far.
///
/// # Example
/// ```
/// /// Publishes that nsqd has not answered yet.
/// fn pending(producer: &nsq_protocol::Producer) -> usize {
///     producer.stats().connections.iter().map(|of| of.pending_commands).sum()
/// }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ProducerStats {
    /// One for each nsqd: those of the configuration, in its order, then those that nsqlookupds name.
    pub connections: Vec<ProducerConnectionStats>,
}

/// What a producer did so far with one nsqd, over all its connections. Counts are commands, an MPUB being one, also one of
/// several threads' publishes.
///
/// # Example
/// ```
/// use nsq_protocol::{ProducerConnectionStats, ProducerStats};
///
/// /// The nsqd that the next publish goes to.
/// fn current(stats: &ProducerStats) -> Option<&ProducerConnectionStats> {
///     stats.connections.iter().find(|of| of.current && of.connected)
/// }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ProducerConnectionStats {
    /// As configured.
    pub address: String,
    /// Whether a connection stands now.
    pub connected: bool,
    /// Whether the next publish goes there.
    pub current: bool,
    /// Commands sent and not yet answered.
    pub pending_commands: usize,
    /// Their bytes, about, and those of publishes that gather for the next MPUB.
    pub pending_bytes: usize,
    /// Answered with OK.
    pub accepted: u64,
    /// Answered with an error.
    pub refused: u64,
    /// Not answered because the connection ended; most were sent again.
    pub unknown: u64,
    /// Connections made after the first one.
    pub reconnects: u64,
    /// Why the last connection, or attempt, ended; kept when a later one works.
    pub last_error: Option<String>,
}
