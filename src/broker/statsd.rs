//! Tells a statsd daemon how things are: the lines, pure, and the thread `broker-statsd`, which sends them over UDP.

use std::fmt::{self, Write};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nsq_protocol::resolve;
use nsq_protocol::thread::StopToken;

use super::config::BrokerConfig;
use super::hub::{Hub, timestamp_ns};
use super::stats::{ChannelStats, Latency, MemoryStats, Stats, StatsFilter, TopicStats};

/// The longest resolution of the daemon's name.
const RESOLVE_WAIT: Duration = Duration::from_secs(5);

/// What is left of an interval when all packets are out, as in nsqd.
const REST: Duration = Duration::from_secs(1);

/// The prefix of all keys: `%s` is the host's name and port, with `_` for what statsd reads as its own. (pure)
pub(super) fn prefix(config: &BrokerConfig, http_port: u16) -> String {
    let host = &config.broadcast_address;
    let place = if host.contains(':') {
        format!("[{host}]:{http_port}")
    } else {
        format!("{host}:{http_port}")
    };
    let mut prefix = config.statsd_prefix.replace("%s", &place.replace(['.', ':'], "_"));
    if !prefix.is_empty() && !prefix.ends_with('.') {
        prefix.push('.');
    }
    prefix
}

/// Sends every interval, until stopped.
pub(super) fn statsd_loop(hub: &Hub, address: &str, prefix: &str, stop: &StopToken) {
    let mut teller = StatsdTeller { hub, prefix, last: Stats::default() };
    let mut is_told = false;
    let interval = hub.config.statsd_interval;
    let mut next = Instant::now() + interval;
    while !stop.wait_until(next) {
        next += interval;
        match teller.tell(address, stop) {
            Ok(()) => is_told = false,
            Err(error) => {
                let level = if is_told { log::Level::Debug } else { log::Level::Warn };
                is_told = true;
                log::log!(
                    level,
                    "broker: cannot tell statsd at {address} (--statsd-address): {error}"
                );
            }
        }
        // Where sending took longer than the interval, none is made up for.
        next = next.max(Instant::now());
    }
}

/// Tells a daemon what has come since the last time.
struct StatsdTeller<'h> {
    hub: &'h Hub,
    prefix: &'h str,
    /// What was told then.
    last: Stats,
}

impl StatsdTeller<'_> {
    /// Once, over the interval.
    ///
    /// # Errors
    /// The daemon cannot be told, or of some packets it is known that they did not reach it.
    fn tell(&mut self, address: &str, stop: &StopToken) -> io::Result<()> {
        // First: what is not told this time counts the next time.
        let socket = connected(address)?;
        let config = &self.hub.config;
        let filter = StatsFilter {
            include_clients: false,
            now_ns: timestamp_ns(),
            ..StatsFilter::default()
        };
        let stats = self.hub.with_core(|core| core.stats(&filter));
        let mut lines = StatsdLines { prefix: self.prefix, text: String::new() };
        // Writing to a String cannot fail.
        let _ = lines.all(&stats, &self.last, config);
        self.last = stats;
        let spread = config.statsd_interval.saturating_sub(REST);
        send(&socket, &packets(&lines.text, config.statsd_udp_packet_size), spread, stop)
    }
}

/// A socket to that daemon.
fn connected(address: &str) -> io::Result<UdpSocket> {
    let none = || io::Error::other("the name has no address");
    let found = resolve(address, RESOLVE_WAIT)?.into_iter().next().ok_or_else(none)?;
    let any: SocketAddr = match found {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(found)?;
    Ok(socket)
}

/// Sends packets, spread over a time so that the daemon's buffer need not hold all of them. A stop ends the waits, and the
/// rest goes out at once, as with nsqd.
///
/// # Errors
/// The first that came; the other packets were sent nevertheless.
fn send(
    socket: &UdpSocket,
    packets: &[&str],
    spread: Duration,
    stop: &StopToken,
) -> io::Result<()> {
    let pause = spread / u32::try_from(packets.len()).unwrap_or(u32::MAX).max(1);
    let mut outcome = Ok(());
    for packet in packets {
        let mut sent = socket.send(packet.as_bytes());
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            // That an earlier one met with nobody; this one has yet to go.
            outcome = outcome.and(sent.map(drop));
            sent = socket.send(packet.as_bytes());
        }
        outcome = outcome.and(sent.map(drop));
        stop.wait(pause);
    }
    outcome
}

/// Cuts lines into packets of at most `size` bytes; a line that is longer is one by itself. (pure)
fn packets(text: &str, size: usize) -> Vec<&str> {
    let mut packets = Vec::new();
    let (mut from, mut end) = (0, 0);
    for line in text.split_inclusive('\n') {
        if end > from && end + line.len() - from > size {
            packets.push(&text[from..end]);
            from = end;
        }
        end += line.len();
    }
    packets.extend((end > from).then(|| &text[from..end]));
    packets
}

/// Lines of statsd, in nsqd's words. (pure)
struct StatsdLines<'a> {
    prefix: &'a str,
    text: String,
}

impl StatsdLines<'_> {
    fn gauge(&mut self, key: fmt::Arguments<'_>, value: u64) -> fmt::Result {
        writeln!(self.text, "{}{key}:{value}|g", self.prefix)
    }

    /// What has come since the last time. One that is lower than then was made anew.
    fn counter(&mut self, key: fmt::Arguments<'_>, now: u64, last: u64) -> fmt::Result {
        writeln!(self.text, "{}{key}:{}|c", self.prefix, now.checked_sub(last).unwrap_or(now))
    }

    fn all(&mut self, stats: &Stats, last: &Stats, config: &BrokerConfig) -> fmt::Result {
        let is_left_out =
            |name: &str| config.statsd_exclude_ephemeral && name.ends_with("#ephemeral");
        let old = last.topics.as_deref().unwrap_or_default();
        for topic in stats.topics.as_deref().unwrap_or_default() {
            if is_left_out(&topic.topic_name) {
                continue;
            }
            let old = old.iter().find(|old| old.topic_name == topic.topic_name);
            self.topic(topic, old)?;
            for channel in &topic.channels {
                if is_left_out(&channel.channel_name) {
                    continue;
                }
                let old = old.and_then(|old| {
                    old.channels.iter().find(|old| old.channel_name == channel.channel_name)
                });
                self.channel(&topic.topic_name, channel, old)?;
            }
        }
        match &stats.memory {
            Some(memory) if config.statsd_mem_stats => self.memory(memory),
            _ => Ok(()),
        }
    }

    fn topic(&mut self, topic: &TopicStats, old: Option<&TopicStats>) -> fmt::Result {
        let name = &topic.topic_name;
        let last = |of: fn(&TopicStats) -> u64| old.map_or(0, of);
        self.counter(
            format_args!("topic.{name}.message_count"),
            topic.message_count,
            last(|old| old.message_count),
        )?;
        self.counter(
            format_args!("topic.{name}.message_bytes"),
            topic.message_bytes,
            last(|old| old.message_bytes),
        )?;
        self.gauge(format_args!("topic.{name}.depth"), topic.depth as u64)?;
        self.gauge(format_args!("topic.{name}.backend_depth"), topic.backend_depth as u64)?;
        self.latency(&format!("topic.{name}"), &topic.e2e_processing_latency)
    }

    fn channel(
        &mut self,
        topic: &str,
        channel: &ChannelStats,
        old: Option<&ChannelStats>,
    ) -> fmt::Result {
        let place = format!("topic.{topic}.channel.{}", channel.channel_name);
        let last = |of: fn(&ChannelStats) -> u64| old.map_or(0, of);
        self.counter(
            format_args!("{place}.message_count"),
            channel.message_count,
            last(|old| old.message_count),
        )?;
        for (key, value) in [
            ("depth", channel.depth),
            ("backend_depth", channel.backend_depth),
            ("in_flight_count", channel.in_flight_count),
            ("deferred_count", channel.deferred_count),
        ] {
            self.gauge(format_args!("{place}.{key}"), value as u64)?;
        }
        self.counter(
            format_args!("{place}.requeue_count"),
            channel.requeue_count,
            last(|old| old.requeue_count),
        )?;
        self.counter(
            format_args!("{place}.timeout_count"),
            channel.timeout_count,
            last(|old| old.timeout_count),
        )?;
        self.gauge(format_args!("{place}.clients"), channel.client_count as u64)?;
        self.latency(&place, &channel.e2e_processing_latency)
    }

    fn latency(&mut self, place: &str, latency: &Latency) -> fmt::Result {
        for one in latency.percentiles.as_deref().unwrap_or_default() {
            let percent = one.quantile * 100.0;
            self.gauge(format_args!("{place}.e2e_processing_latency_{percent:.0}"), one.value)?;
        }
        Ok(())
    }

    fn memory(&mut self, memory: &MemoryStats) -> fmt::Result {
        for (key, value) in memory.gauges() {
            self.gauge(format_args!("mem.{key}"), value)?;
        }
        self.counter(format_args!("mem.gc_runs"), u64::from(memory.gc_total_runs), 0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nsq_protocol::thread::stop_pair;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::broker::core::NewBatch;
    use crate::runtime::clock::unix_ms;

    /// Far beyond what a packet takes to itself.
    const DEADLINE: Duration = Duration::from_secs(60);

    #[test]
    fn packets_end_between_lines() {
        let text = "aa\nbbb\nc\ndddddddd\ne\n";
        for (size, want) in [
            (1, vec!["aa\n", "bbb\n", "c\n", "dddddddd\n", "e\n"]),
            (6, vec!["aa\n", "bbb\nc\n", "dddddddd\n", "e\n"]),
            (7, vec!["aa\nbbb\n", "c\n", "dddddddd\n", "e\n"]),
            (100, vec![text]),
        ] {
            assert_eq!(packets(text, size), want, "{size}");
        }
        assert!(packets("", 508).is_empty());
    }

    /// A daemon on a port of its own.
    fn daemon() -> (UdpSocket, String) {
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        daemon.set_read_timeout(Some(DEADLINE)).unwrap();
        let address = daemon.local_addr().unwrap().to_string();
        (daemon, address)
    }

    #[track_caller]
    fn received(daemon: &UdpSocket) -> String {
        let mut packet = [0; 4096];
        let count = daemon.recv(&mut packet).unwrap();
        String::from_utf8(packet[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_packet_that_meets_nobody_costs_no_other() {
        let (_source, stop) = stop_pair();
        // No program is given that port unless it asks for it.
        let socket = connected("127.0.0.1:1").unwrap();
        send(&socket, &["lost"], Duration::ZERO, &stop).unwrap();
        // It is known now that nobody is there, and whoever sends next is told so.
        let mut polled = [PollFd::new(&socket, PollFlags::IN)];
        let limit = Timespec { tv_sec: DEADLINE.as_secs() as i64, tv_nsec: 0 };
        assert_eq!(poll(&mut polled, Some(&limit)).unwrap(), 1);
        let (daemon, address) = daemon();
        socket.connect(&address).unwrap();
        let error = send(&socket, &["a", "b", "c"], Duration::ZERO, &stop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!([(); 3].map(|()| received(&daemon)), ["a", "b", "c"]);
    }

    #[test]
    fn at_a_stop_the_rest_is_sent_at_once() {
        let (daemon, address) = daemon();
        let (source, stop) = stop_pair();
        drop(source);
        let hour = Duration::from_secs(3600);
        send(&connected(&address).unwrap(), &["a", "b", "c"], hour, &stop).unwrap();
        assert_eq!([(); 3].map(|()| received(&daemon)), ["a", "b", "c"]);
    }

    #[test]
    fn what_a_name_without_an_address_was_not_told_counts_the_next_time() {
        let (source, stop) = stop_pair();
        drop(source);
        let config = BrokerConfig { statsd_mem_stats: false, ..BrokerConfig::default() };
        let (hub, _inbox) = Hub::new(Arc::new(config), unix_ms(), stop.clone());
        let topic = "t".parse().unwrap();
        let publish = || {
            hub.with_core(|core| {
                let one = NewBatch::one(b"x");
                core.publish(None, &topic, one, Duration::ZERO, Instant::now(), 0).unwrap();
            });
        };
        let mut teller = StatsdTeller { hub: &hub, prefix: "", last: Stats::default() };
        let (daemon, address) = daemon();
        for (before, want) in [(1, 2), (3, 4), (0, 1)] {
            (0..before).for_each(|_| publish());
            assert!(teller.tell("no port", &stop).is_err());
            publish();
            teller.tell(&address, &stop).unwrap();
            let told = received(&daemon);
            let line = told.lines().find(|line| line.starts_with("topic.t.message_count:"));
            assert_eq!(line, Some(&*format!("topic.t.message_count:{want}|c")), "{told}");
        }
    }

    #[test]
    fn the_prefix_names_the_host_as_nsqd_does() {
        let of = |prefix_given: &str, host: &str| {
            let config = BrokerConfig {
                statsd_prefix: prefix_given.into(),
                broadcast_address: host.into(),
                ..BrokerConfig::default()
            };
            prefix(&config, 4151)
        };
        assert_eq!(of("nsq.%s", "a.example"), "nsq.a_example_4151.");
        assert_eq!(of("own.", "a"), "own.");
        assert_eq!(of("%s.nsq", "::1"), "[__1]_4151.nsq.");
        assert_eq!(of("", "a"), "");
    }
}
