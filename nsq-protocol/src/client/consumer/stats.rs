//! What a consumer tells of itself. Made on the thread that asks.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::client::consumer::counts::read;
use crate::client::consumer::discovery_stats::{LookupdStats, Unreachable};
use crate::client::consumer::link::Link;
use crate::client::consumer::link_table::Departed;
use crate::client::consumer::shared::Shared;
use crate::flow::policy::{BackoffStats, Pause, seconds};

/// What a consumer did so far.
///
/// # Example
/// ```
/// fn report(consumer: &nsq_protocol::Consumer) {
///     let stats = consumer.stats();
///     let connected = stats.connections.iter().filter(|of| of.connected).count();
///     println!("{connected} nsqds, {} messages in flight", stats.in_flight);
/// }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ConsumerStats {
    /// One for each nsqd: those of the configuration, in its order, then those that were added or found.
    pub connections: Vec<ConnectionStats>,
    /// What was done with nsqds that are gone.
    pub departed: Departed,
    /// One for each nsqlookupd that is asked: those of the configuration, in its order, then those that were added.
    pub lookupds: Vec<LookupdStats>,
    /// nsqds that an nsqlookupd names and that could not be connected to when last tried; at most 100 are shown.
    pub unreachable: Vec<Unreachable>,
    /// Batches that no worker has taken yet.
    pub queued_batches: usize,
    /// Messages received and not answered, over all connections, those that are gone included.
    pub in_flight: u64,
    /// The most that there were at any time.
    pub peak_in_flight: u64,
    /// Whether failed messages keep all connections from being asked for more.
    pub backoff: BackoffStats,
    /// Messages that were given up: see [`crate::ConsumerConfig::max_attempts`].
    pub gave_up: u64,
}

/// What a consumer did so far with one nsqd, over all its connections. Counts start with the consumer.
///
/// # Example
/// ```
/// /// Why an nsqd sends nothing, in one line.
/// fn silence(of: &nsq_protocol::ConnectionStats) -> Option<String> {
///     let pause = of.pause?;
///     Some(format!("{}: {pause:?} {}", of.address, of.last_error.as_deref().unwrap_or_default()))
/// }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// As configured, or as found.
    pub address: String,
    /// The nsqlookupd that named it first; `None` for one of the configuration.
    pub lookupd: Option<String>,
    /// Whether a connection stands now.
    pub connected: bool,
    /// What nsqd was told last; 0 while not connected.
    pub rdy: u64,
    /// Why it is 0; `None` while messages are asked for.
    pub pause: Option<Pause>,
    /// Messages received and not answered, those of lost connections included.
    pub in_flight: u64,
    /// Deliveries.
    pub messages: u64,
    /// Those of them that were larger than [`crate::ConnectionConfig::max_msg_size`].
    pub oversized: u64,
    /// FINs handed to the connection.
    pub finished: u64,
    /// REQs handed to the connection.
    pub requeued: u64,
    /// TOUCHes handed to the connection.
    pub touched: u64,
    /// `E_FIN_FAILED` answers: nsqd had given the message up, most often because of its msg-timeout.
    pub failed_finishes: u64,
    /// `E_REQ_FAILED` answers.
    pub failed_requeues: u64,
    /// `E_TOUCH_FAILED` answers.
    pub failed_touches: u64,
    /// Answers that came when their connection was gone, and touches left out.
    pub lost_answers: u64,
    /// Connections made after the first one.
    pub reconnects: u64,
    /// Why the last connection, or attempt, ended; kept when a later one works.
    pub last_error: Option<String>,
    /// How long ago the last heartbeat came; serialized in seconds.
    #[serde(serialize_with = "seconds")]
    pub last_heartbeat_age: Option<Duration>,
}

impl ConsumerStats {
    /// Of the consumer with that state.
    pub(super) fn of(shared: &Shared) -> Self {
        let (flow, discovery) = (&shared.flow, shared.discovery.lock());
        Self {
            connections: flow.links.iter().map(|link| ConnectionStats::of(&link)).collect(),
            departed: flow.links.departed(),
            lookupds: discovery.lookupds.values().cloned().collect(),
            unreachable: discovery.unreachable(),
            queued_batches: shared.queue.len(),
            in_flight: flow.in_flight(),
            peak_in_flight: flow.peak_in_flight(),
            backoff: flow.backoff_stats(),
            gave_up: shared.giving_up.count(),
        }
    }
}

impl ConnectionStats {
    fn of(link: &Link) -> Self {
        let live = link.live();
        let counts = &link.counts;
        Self {
            address: link.addr.to_string(),
            lookupd: link.lookupd.as_ref().map(|lookupd| lookupd.to_string()),
            connected: live.is_some(),
            rdy: live.as_ref().map_or(0, |session| session.rdy()),
            pause: live.map_or(Some(Pause::NotConnected), |session| session.pause()),
            in_flight: link.held(),
            messages: read(&counts.messages),
            oversized: read(&counts.oversized),
            finished: read(&counts.finished),
            requeued: read(&counts.requeued),
            touched: read(&counts.touched),
            failed_finishes: read(&counts.failed_finishes),
            failed_requeues: read(&counts.failed_requeues),
            failed_touches: read(&counts.failed_touches),
            lost_answers: read(&counts.lost_answers),
            reconnects: read(&counts.connections).saturating_sub(1),
            last_error: link.last_error().map(|error| error.to_line()),
            last_heartbeat_age: counts.heartbeat_age(Instant::now()),
        }
    }
}
