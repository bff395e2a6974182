//! What the consumer tells of its connections and the ledger of its window, as a report may hold it (pure).

use std::collections::HashSet;

use nsq_protocol::{ConnectionStats, ConsumerStats, LookupdStats, Pause, Unreachable};

use crate::ledger::MessageWindowSize;
use crate::wire::{
    CONNECTION_TEXT_MAX, CONNECTIONS_MAX, ConnectionFigures, ConsumerFigures, LookupdFigures,
    MessageWindowFigures,
};

/// The window of messages, as of `now_ns` since the Unix epoch.
pub(super) fn window_figures(size: MessageWindowSize, now_ns: u64) -> MessageWindowFigures {
    let MessageWindowSize { messages, bytes, oldest_ns } = size;
    // A clock that is ahead took it just now; one before the epoch tells no time.
    let age_ms = |oldest_ns| now_ns.saturating_sub(oldest_ns) / 1_000_000;
    let oldest_ms = oldest_ns.and_then(|ns| u64::try_from(ns).ok()).map(age_ms);
    MessageWindowFigures { messages, bytes, oldest_ms, redelivered_unknown: 0 }
}

/// The figures of a report.
pub(super) fn figures(stats: &ConsumerStats) -> ConsumerFigures {
    let known: HashSet<_> = stats.connections.iter().map(|known| &*known.address).collect();
    // One that was connected once is among the connections, too.
    let never = stats.unreachable.iter().filter(|nsqd| !known.contains(&*nsqd.address));
    let mut connections: Vec<_> =
        stats.connections.iter().map(connection).chain(never.map(unreachable)).collect();
    connections.sort_by_key(|connection| connection.connected);
    let left_out = connections.len().saturating_sub(CONNECTIONS_MAX) as u64;
    connections.truncate(CONNECTIONS_MAX);
    let ends_in = stats.backoff.ends_in.filter(|_| stats.backoff.level > 0);
    ConsumerFigures {
        connections,
        lookupds: stats.lookupds.iter().take(CONNECTIONS_MAX).map(lookupd).collect(),
        left_out,
        backoff_ms: ends_in.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        backoff_level: stats.backoff.level,
        in_flight: stats.in_flight,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(CONNECTION_TEXT_MAX).collect()
}

fn connection(of: &ConnectionStats) -> ConnectionFigures {
    ConnectionFigures {
        nsqd: cut(&of.address),
        connected: of.connected,
        rdy: of.rdy,
        pause: of.pause,
        in_flight: of.in_flight,
        reconnects: of.reconnects,
        last_error: of.last_error.as_deref().map(cut),
    }
}

fn unreachable(nsqd: &Unreachable) -> ConnectionFigures {
    ConnectionFigures {
        nsqd: cut(&nsqd.address),
        connected: false,
        rdy: 0,
        pause: Some(Pause::NotConnected),
        in_flight: 0,
        reconnects: 0,
        last_error: Some(cut(&nsqd.last_error)),
    }
}

fn lookupd(of: &LookupdStats) -> LookupdFigures {
    LookupdFigures {
        lookupd: cut(&of.address),
        answering: of.answering,
        nsqds: of.nsqds as u64,
        last_error: of.last_error.as_deref().map(cut),
    }
}
