//! What a report tells of the connections: those of the consumer, cut to what a report may hold, or what its start waits
//! for; and of the ledger and its window of messages.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use nsq_protocol::{
    ConnectionStats, Consumer, ConsumerConfig, ConsumerStats, LookupdStats, Pause, Unreachable,
};
use parking_lot::Mutex;

use crate::ledger::{Ledger, LedgerSize, MessageWindowSize};
use crate::runtime::links::{LinkSource, LinkState, PartLink};
use crate::wire::{
    CONNECTION_TEXT_MAX, CONNECTIONS_MAX, ConnectionFigures, ConsumerFigures, LedgerStatus,
    LookupdFigures, MessageWindowFigures,
};

/// The window of messages, as of `now_ns` since the Unix epoch.
pub(super) fn window_figures(size: MessageWindowSize, now_ns: u64) -> MessageWindowFigures {
    let MessageWindowSize { messages, bytes, oldest_ns } = size;
    // A clock that is ahead took it just now; one before the epoch tells no time.
    let age_ms = |oldest_ns| now_ns.saturating_sub(oldest_ns) / 1_000_000;
    let oldest_ms = oldest_ns.and_then(|ns| u64::try_from(ns).ok()).map(age_ms);
    MessageWindowFigures { messages, bytes, oldest_ms, redelivered_unknown: 0 }
}

/// What a report tells of the ledger.
pub(super) struct ReportedLedger {
    pub(super) size: Option<LedgerSize>,
    pub(super) window: MessageWindowSize,
    pub(super) status: LedgerStatus,
}

impl ReportedLedger {
    pub(super) fn of(ledger: &dyn Ledger) -> Self {
        let (size, window, status) = (ledger.size(), ledger.message_window(), ledger.status());
        Self { size, window, status }
    }
}

/// The consumer, as reports see it: from its start on, its owner ends it, and with it what can be told.
pub(super) struct ReportedConsumer {
    topic: String,
    channel: String,
    state: Mutex<ReportedState>,
}

enum ReportedState {
    /// It is being started; why that takes so long.
    Waiting(Option<String>),
    Started(Weak<Consumer>),
}

impl ReportedConsumer {
    /// One that is not started yet.
    pub(super) fn new(config: &ConsumerConfig) -> Self {
        let state = Mutex::new(ReportedState::Waiting(None));
        let (topic, channel) = (config.get_topic().to_string(), config.get_channel().to_string());
        Self { topic, channel, state }
    }

    /// Its start waits for that.
    pub(super) fn waits(&self, reason: &str) {
        *self.state.lock() = ReportedState::Waiting(Some(cut(reason)));
    }

    /// It is started.
    pub(super) fn started(&self, consumer: &Arc<Consumer>) {
        *self.state.lock() = ReportedState::Started(Arc::downgrade(consumer));
    }

    /// The figures of a report; `None` once it has ended.
    pub(super) fn figures(&self) -> Option<ConsumerFigures> {
        let mut told = match &*self.state.lock() {
            ReportedState::Waiting(reason) => {
                ConsumerFigures { waiting: reason.clone(), ..ConsumerFigures::default() }
            }
            ReportedState::Started(consumer) => figures(&consumer.upgrade()?.stats()),
        };
        (told.topic, told.channel) = (Some(self.topic.clone()), Some(self.channel.clone()));
        Some(told)
    }
}

/// Which nsqds and nsqlookupds of a consumer are there, for as long as it is.
pub(super) fn links_of(consumer: &Arc<Consumer>) -> LinkSource {
    let consumer = Arc::downgrade(consumer);
    Box::new(move || Some(links(&consumer.upgrade()?.stats())))
}

fn links(stats: &ConsumerStats) -> Vec<(PartLink, LinkState)> {
    let connection = |of: &ConnectionStats| {
        let reason = || of.last_error.clone().unwrap_or_else(|| "not connected".to_owned());
        let away = (!of.connected).then(reason);
        // It was connected once for each reconnect, and is lost once more while it is away.
        let losses = of.reconnects + u64::from(!of.connected);
        let is_news = of.lookupd.is_some();
        (PartLink::Nsqd(of.address.clone()), LinkState { away, losses, is_news })
    };
    let unreachable = |of: &Unreachable| {
        let away = Some(of.last_error.clone());
        (PartLink::Nsqd(of.address.clone()), LinkState { away, losses: 1, is_news: true })
    };
    let lookupd = |of: &LookupdStats| {
        // Before the first answer, or the first failure, nothing is known.
        let away = of.last_error.clone().filter(|_| !of.answering);
        (PartLink::Lookupd(of.address.clone()), LinkState { away, ..LinkState::default() })
    };
    // What is a connection, too, is known better there.
    let unreachable = stats.unreachable.iter().map(unreachable);
    let connections = stats.connections.iter().map(connection);
    unreachable.chain(connections).chain(stats.lookupds.iter().map(lookupd)).collect()
}

fn figures(stats: &ConsumerStats) -> ConsumerFigures {
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
        ..ConsumerFigures::default()
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
        oversized: of.oversized,
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
        oversized: 0,
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
