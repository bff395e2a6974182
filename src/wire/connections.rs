//! The part of a processor's report that tells of its connections to the queue (pure).

use nsq_protocol::Pause;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::limits::{Invalid, check_numbers};
use crate::model::video::MAX_PLAYS;

/// The most connections, and the most nsqlookupds, that one report tells of.
pub const CONNECTIONS_MAX: usize = 50;

/// The longest text of a [`ConsumerFigures`], in characters.
pub const CONNECTION_TEXT_MAX: usize = 200;

/// How a processor's consumer fares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsumerFigures {
    /// One for each nsqd, those that are not connected first.
    #[schemars(length(max = CONNECTIONS_MAX))]
    pub connections: Vec<ConnectionFigures>,
    /// One for each nsqlookupd.
    #[serde(default)]
    #[schemars(length(max = CONNECTIONS_MAX))]
    pub lookupds: Vec<LookupdFigures>,
    /// Connections that are left out.
    #[serde(default)]
    #[schemars(range(max = MAX_PLAYS))]
    pub left_out: u64,
    /// For how long no message is asked for, because messages failed, in ms; absent without a backoff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = MAX_PLAYS))]
    pub backoff_ms: Option<u64>,
    /// Failures in a row that led to it.
    #[serde(default)]
    #[schemars(range(max = u32::MAX))]
    pub backoff_level: u32,
    /// Messages received and not answered, over all connections.
    #[schemars(range(max = MAX_PLAYS))]
    pub in_flight: u64,
    /// The topic that it reads; absent from an older processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The channel of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// What its start waits for; absent once it has been connected. Cut to 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
}

/// A processor and one nsqd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionFigures {
    /// Where it is connected to, `host:port`; cut to 200 characters.
    pub nsqd: String,
    /// Whether it is.
    pub connected: bool,
    /// What nsqd was told last.
    #[schemars(range(max = MAX_PLAYS))]
    pub rdy: u64,
    /// Why that is 0; absent while messages are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pause_schema")]
    pub pause: Option<Pause>,
    /// Messages received and not answered.
    #[schemars(range(max = MAX_PLAYS))]
    pub in_flight: u64,
    /// Connections made after the first one.
    #[schemars(range(max = MAX_PLAYS))]
    pub reconnects: u64,
    /// Messages that were larger than its `--max-msg-size`: dead letters.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(max = MAX_PLAYS))]
    pub oversized: u64,
    /// Why the last connection, or attempt, ended; kept when a later one works. Cut to 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// A processor and one nsqlookupd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LookupdFigures {
    /// As configured; cut to 200 characters.
    pub lookupd: String,
    /// Whether it answered when it was asked last.
    pub answering: bool,
    /// nsqds that it named last.
    #[schemars(range(max = MAX_PLAYS))]
    pub nsqds: u64,
    /// Why the last request that failed did; kept when a later one works. Cut to 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl ConsumerFigures {
    /// Refuses what a processor would not send.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let (connections, lookupds) = (&self.connections, &self.lookupds);
        if connections.len().max(lookupds.len()) > CONNECTIONS_MAX {
            return Err(Invalid::new(format!(
                "a report tells of at most {CONNECTIONS_MAX} connections and as many nsqlookupds"
            )));
        }
        let own = [Some(self.left_out), self.backoff_ms, Some(self.in_flight)];
        let of_nsqds =
            connections.iter().flat_map(|of| [of.rdy, of.in_flight, of.reconnects, of.oversized]);
        let of_lookupds = lookupds.iter().map(|of| of.nsqds);
        let numbers = own.into_iter().flatten().chain(of_nsqds).chain(of_lookupds);
        check_numbers(numbers, "of a consumer is")
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Every reason of a pause: `Pause` belongs to a crate that knows nothing of schemas.
const PAUSES: [Pause; 6] = [
    Pause::NotConnected,
    Pause::Backoff,
    Pause::OthersTurn,
    Pause::MaxInFlight,
    Pause::TimedOut,
    Pause::Stopping,
];

fn pause_schema(_: &mut SchemaGenerator) -> Schema {
    let mut names: Vec<_> = PAUSES.iter().map(|pause| serde_json::json!(pause)).collect();
    names.push(serde_json::Value::Null);
    json_schema!({ "type": ["string", "null"], "enum": names })
}
