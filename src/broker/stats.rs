//! What `/stats` shows: nsqd's keys in nsqd's order, and nsqd's text form (pure).

use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::config::NSQD_VERSION;
use crate::model::unix_time::UnixMs;

/// Whole seconds since the Unix epoch, in which nsqd tells every moment.
pub(super) fn seconds(moment: UnixMs) -> i64 {
    moment.0.div_euclid(1000)
}

/// What to leave out.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatsFilter<'a> {
    /// Only this topic; empty: all.
    pub(super) topic: &'a str,
    /// Only this channel; empty: all.
    pub(super) channel: &'a str,
    pub(super) include_clients: bool,
    pub(super) include_memory: bool,
    /// Now, in nanoseconds since the Unix epoch: how old measured times are. 0: none is too old.
    pub(super) now_ns: i64,
}

impl Default for StatsFilter<'_> {
    fn default() -> Self {
        Self { topic: "", channel: "", include_clients: true, include_memory: true, now_ns: 0 }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A broker at one moment, as `/stats?format=json` shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// The nsqd version that the broker behaves like.
    pub version: String,
    /// `OK`.
    pub health: String,
    /// Seconds since the Unix epoch.
    pub start_time: i64,
    /// Sorted by name; absent when a topic was asked for that does not exist.
    pub topics: Option<Vec<TopicStats>>,
    /// Go's heap in nsqd; here the memory that messages take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStats>,
    /// Connections that have published; absent when there is none, or when clients were left out.
    pub producers: Option<Vec<ClientStats>>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TopicStats {
    /// Its name.
    pub topic_name: String,
    /// Sorted by name.
    pub channels: Vec<ChannelStats>,
    /// Messages that wait in the topic itself: it has no channel, or is paused.
    pub depth: usize,
    /// Those of them on disk: none.
    pub backend_depth: usize,
    /// Messages published, ever.
    pub message_count: u64,
    /// Bytes of their bodies.
    pub message_bytes: u64,
    /// Messages that an `#ephemeral` topic had no room for, as with a channel.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped_count: u64,
    /// Whether messages stay in the topic.
    pub paused: bool,
    /// From publication to FIN.
    pub e2e_processing_latency: Latency,
}

/// One channel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChannelStats {
    /// Its name.
    pub channel_name: String,
    /// Messages that wait.
    pub depth: usize,
    /// Those of them on disk: none.
    pub backend_depth: usize,
    /// Messages that consumers hold.
    pub in_flight_count: usize,
    /// Messages whose time has not come.
    pub deferred_count: usize,
    /// Messages received from the topic, ever.
    pub message_count: u64,
    /// REQs.
    pub requeue_count: u64,
    /// Messages in flight whose time ran out.
    pub timeout_count: u64,
    /// Messages that an `#ephemeral` channel had no room for; they are among those received. Absent while there are
    /// none, and with nsqd, which does not tell them.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped_count: u64,
    /// Consumers.
    pub client_count: usize,
    /// The consumers; absent when they were left out.
    pub clients: Option<Vec<ClientStats>>,
    /// Whether consumers get nothing.
    pub paused: bool,
    /// From publication to FIN.
    pub e2e_processing_latency: Latency,
}

/// One connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClientStats {
    /// What it calls itself.
    pub client_id: String,
    /// Where it says it runs.
    pub hostname: String,
    /// `V2`.
    pub version: String,
    /// `host:port`.
    pub remote_address: String,
    /// 0 new, 3 subscribed, 4 closing.
    pub state: u8,
    /// Its RDY.
    pub ready_count: u32,
    /// Messages that it holds.
    pub in_flight_count: u32,
    /// Messages sent to it, ever.
    pub message_count: u64,
    /// FINs.
    pub finish_count: u64,
    /// REQs.
    pub requeue_count: u64,
    /// Seconds since the Unix epoch.
    pub connect_ts: i64,
    /// Per cent of messages that it wants; 0: all.
    pub sample_rate: u8,
    /// Whether its stream is deflated.
    pub deflate: bool,
    /// Whether its stream is in snappy frames.
    pub snappy: bool,
    /// The program.
    pub user_agent: String,
    /// Whether it has proved who it is, by AUTH; absent where not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub authed: bool,
    /// Who it is by AUTH; absent where nobody said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_identity: String,
    /// Where more is said of it; likewise.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_identity_url: String,
    /// What it has published: one topic, as in nsqd.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pub_counts: Vec<PubCount>,
    /// Whether its stream is in TLS.
    pub tls: bool,
    /// As `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`; empty without TLS.
    pub tls_cipher_suite: String,
    /// `TLS1.2` or `TLS1.3`; empty without TLS.
    pub tls_version: String,
    /// Empty.
    pub tls_negotiated_protocol: String,
    /// True with TLS, where nsqd's library says so whatever was negotiated.
    pub tls_negotiated_protocol_is_mutual: bool,
}

/// Messages that one connection has published to one topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PubCount {
    /// The topic.
    pub topic: String,
    /// How many.
    pub count: u64,
}

/// nsqd's keys for Go's heap.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryStats {
    /// Here: messages in memory, deferred and in flight ones included.
    pub heap_objects: u64,
    /// 0.
    pub heap_idle_bytes: u64,
    /// Here: bytes that messages take, as counted against `max_memory`.
    pub heap_in_use_bytes: u64,
    /// 0.
    pub heap_released_bytes: u64,
    /// 0: there is no collector.
    pub gc_pause_usec_100: u64,
    /// 0.
    pub gc_pause_usec_99: u64,
    /// 0.
    pub gc_pause_usec_95: u64,
    /// Here: `max_memory`.
    pub next_gc_bytes: u64,
    /// 0.
    pub gc_total_runs: u32,
}

impl MemoryStats {
    /// What goes up and down, by nsqd's keys.
    pub(super) fn gauges(&self) -> [(&'static str, u64); 8] {
        [
            ("heap_objects", self.heap_objects),
            ("heap_idle_bytes", self.heap_idle_bytes),
            ("heap_in_use_bytes", self.heap_in_use_bytes),
            ("heap_released_bytes", self.heap_released_bytes),
            ("gc_pause_usec_100", self.gc_pause_usec_100),
            ("gc_pause_usec_99", self.gc_pause_usec_99),
            ("gc_pause_usec_95", self.gc_pause_usec_95),
            ("next_gc_bytes", self.next_gc_bytes),
        ]
    }
}

/// How long messages took from publication to FIN.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Of how many messages.
    pub count: u64,
    /// In the order in which they were asked for; absent where none were, and for a topic without channels.
    pub percentiles: Option<Vec<Percentile>>,
}

/// One share of the messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Percentile {
    /// The share: 0.99.
    pub quantile: f64,
    /// So many were done within this, in nanoseconds, told to 3.2 %; 0 where there are none.
    pub value: u64,
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, one) in self.percentiles.iter().flatten().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            let (scale, unit) = match one.value {
                value if value > 1_000_000_000 => (1e9, "s"),
                value if value > 1_000_000 => (1e6, "ms"),
                value if value > 1_000 => (1e3, "us"),
                _ => (1.0, "ns"),
            };
            write!(f, "{separator}{:.1}{unit}", one.value as f64 / scale)?;
        }
        Ok(())
    }
}

impl Stats {
    /// nsqd's text form, for people, with how long it has run by `now`.
    pub(super) fn to_text(&self, uptime: Duration, now: UnixMs) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut out, uptime, seconds(now));
        out
    }

    fn write_text(&self, w: &mut String, uptime: Duration, now_s: i64) -> fmt::Result {
        writeln!(w, "nsqd v{NSQD_VERSION} (playcounts {})", env!("CARGO_PKG_VERSION"))?;
        writeln!(w, "start_time {}", UnixMs(self.start_time * 1000))?;
        writeln!(w, "uptime {uptime:?}")?;
        writeln!(w, "\nHealth: {}", self.health)?;
        if let Some(memory) = &self.memory {
            writeln!(w, "\nMemory:")?;
            let runs = ("gc_total_runs", u64::from(memory.gc_total_runs));
            for (key, value) in memory.gauges().into_iter().chain([runs]) {
                writeln!(w, "   {key:<25}\t{value}")?;
            }
        }
        let topics = self.topics.as_deref().unwrap_or_default();
        write!(w, "\nTopics:{}", if topics.is_empty() { " None\n" } else { "" })?;
        for topic in topics {
            writeln!(
                w,
                "\n{}[{:<15}] depth: {:<5} be-depth: {:<5} msgs: {:<8} e2e%: {}",
                if topic.paused { "*P " } else { "   " },
                topic.topic_name,
                topic.depth,
                topic.backend_depth,
                topic.message_count,
                topic.e2e_processing_latency,
            )?;
            for channel in &topic.channels {
                channel.write_text(w, now_s)?;
            }
        }
        let producers = self.producers.as_deref().unwrap_or_default();
        writeln!(w, "\nProducers:{}", if producers.is_empty() { " None" } else { "" })?;
        for client in producers {
            write!(w, "   ")?;
            client.write_text(w, now_s)?;
        }
        Ok(())
    }
}

impl ChannelStats {
    fn write_text(&self, w: &mut String, now_s: i64) -> fmt::Result {
        writeln!(
            w,
            "{}[{:<25}] depth: {:<5} be-depth: {:<5} inflt: {:<4} def: {:<4} re-q: {:<5} timeout: {:<5} \
             msgs: {:<8} e2e%: {}",
            if self.paused { "   *P " } else { "      " },
            self.channel_name,
            self.depth,
            self.backend_depth,
            self.in_flight_count,
            self.deferred_count,
            self.requeue_count,
            self.timeout_count,
            self.message_count,
            self.e2e_processing_latency,
        )?;
        for client in self.clients.as_deref().unwrap_or_default() {
            write!(w, "        ")?;
            client.write_text(w, now_s)?;
        }
        Ok(())
    }
}

impl ClientStats {
    fn write_text(&self, w: &mut String, now_s: i64) -> fmt::Result {
        let port = self.remote_address.rsplit(':').next().unwrap_or_default();
        let id = format!("{}:{port} {}", self.hostname, self.user_agent);
        write!(w, "[{} {id:<21}] ", self.version)?;
        if self.pub_counts.is_empty() {
            write!(
                w,
                "state: {} inflt: {:<4} rdy: {:<4} fin: {:<8} re-q: {:<8} msgs: {:<8}",
                self.state,
                self.in_flight_count,
                self.ready_count,
                self.finish_count,
                self.requeue_count,
                self.message_count,
            )?;
        } else {
            let total: u64 = self.pub_counts.iter().map(|entry| entry.count).sum();
            write!(w, "msgs: {total:<8} topics: ")?;
            for (index, entry) in self.pub_counts.iter().enumerate() {
                write!(w, "{}{}={}", if index == 0 { "" } else { "," }, entry.topic, entry.count)?;
            }
        }
        writeln!(w, " connected: {}s", now_s - self.connect_ts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_told_in_whole_seconds() {
        for (start_time, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_486_509, "2026-11-24T02:15:09Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let stats = Stats { start_time, ..Stats::default() };
            let shown = stats.to_text(Duration::ZERO, UnixMs(0));
            assert!(shown.contains(&format!("start_time {text}\n")), "{shown}");
        }
        assert_eq!(seconds(UnixMs(1_999)), 1);
    }
}
