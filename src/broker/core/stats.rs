//! The core's figures, as `/stats` shows them (pure).

use nsq_protocol::TopicName;

use super::channel::Channel;
use super::client::Client;
use super::ids::ClientId;
use super::latency::LatencySum;
use super::state::Core;
use crate::broker::config::NSQD_VERSION;
use crate::broker::stats::{
    ChannelStats, ClientStats, Latency, MemoryStats, PubCount, Stats, StatsFilter, TopicStats,
    seconds,
};

impl Core {
    /// All that `/stats` shows.
    pub(crate) fn stats(&self, filter: &StatsFilter<'_>) -> Stats {
        let mut names: Vec<&TopicName> = if filter.topic.is_empty() {
            self.topics.keys().collect()
        } else {
            self.topics.get_key_value(filter.topic).map(|(name, _)| name).into_iter().collect()
        };
        names.sort_unstable();
        let found = filter.topic.is_empty() || !names.is_empty();
        let topics = names.into_iter().filter_map(|name| self.topic_stats(name, filter)).collect();
        let mut producers: Vec<(&ClientId, &Client)> = self
            .clients
            .iter()
            .filter(|(_, client)| filter.include_clients && !client.published.is_empty())
            .collect();
        producers.sort_unstable_by_key(|(id, _)| **id);
        let producers: Vec<ClientStats> =
            producers.into_iter().map(|(_, client)| client.stats(filter.topic)).collect();
        let held = |channel: &Channel| {
            channel.queue.depth() + channel.in_flight.len() + channel.deferred.len()
        };
        let messages: usize = self.topics.values().map(|topic| topic.queue.depth()).sum::<usize>()
            + self.channels.values().map(held).sum::<usize>();
        Stats {
            version: NSQD_VERSION.into(),
            health: "OK".into(),
            start_time: seconds(self.started),
            topics: found.then_some(topics),
            memory: filter.include_memory.then(|| MemoryStats {
                heap_objects: messages as u64,
                heap_in_use_bytes: self.used() as u64,
                next_gc_bytes: self.config.max_memory as u64,
                ..MemoryStats::default()
            }),
            producers: (found && !producers.is_empty()).then_some(producers),
        }
    }

    fn topic_stats(&self, name: &TopicName, filter: &StatsFilter<'_>) -> Option<TopicStats> {
        let topic = self.topics.get(name)?;
        let wanted: Vec<u64> = if filter.channel.is_empty() {
            topic.channels.values().copied().collect()
        } else {
            // nsqd leaves the whole topic out where it has no such channel.
            vec![*topic.channels.get(filter.channel)?]
        };
        let channels = wanted.iter().filter_map(|key| self.channels.get(key));
        // Of the whole topic, as nsqd, also where one channel is asked for.
        let all: Vec<&Channel> =
            topic.channels.values().filter_map(|key| self.channels.get(key)).collect();
        let latency = (!all.is_empty()).then(|| self.latency(&all, filter));
        Some(TopicStats {
            topic_name: name.to_string(),
            channels: channels.map(|channel| self.channel_stats(channel, filter)).collect(),
            depth: topic.depth(),
            backend_depth: topic.waiting(),
            message_count: topic.message_count,
            message_bytes: topic.message_bytes,
            dropped_count: topic.dropped_count,
            paused: topic.paused,
            e2e_processing_latency: latency.unwrap_or_default(),
        })
    }

    fn latency(&self, channels: &[&Channel], filter: &StatsFilter<'_>) -> Latency {
        let percentiles = &self.config.e2e_processing_latency_percentiles;
        if percentiles.is_empty() {
            return Latency::default();
        }
        let mut sum = LatencySum::new();
        for latencies in channels.iter().filter_map(|channel| channel.latencies.as_ref()) {
            latencies.add_to(&mut sum, filter.now_ns);
        }
        sum.told(percentiles)
    }

    fn channel_stats(&self, channel: &Channel, filter: &StatsFilter<'_>) -> ChannelStats {
        let clients = || {
            let clients = channel.consumers.iter().filter_map(|id| self.clients.get(id));
            clients.map(|client| client.stats(filter.topic)).collect()
        };
        ChannelStats {
            channel_name: channel.name.to_string(),
            depth: channel.depth(),
            backend_depth: channel.depth() - channel.queue.depth(),
            in_flight_count: channel.in_flight.len(),
            deferred_count: channel.deferred.len(),
            message_count: channel.message_count,
            requeue_count: channel.requeue_count,
            timeout_count: channel.timeout_count,
            dropped_count: channel.dropped_count,
            client_count: channel.consumers.len(),
            clients: filter.include_clients.then(clients),
            paused: channel.paused,
            e2e_processing_latency: self.latency(&[channel], filter),
        }
    }
}

impl Client {
    fn stats(&self, topic: &str) -> ClientStats {
        let entry =
            self.published.iter().find(|(name, _)| topic.is_empty() || name.as_str() == topic);
        let pub_counts =
            entry.map(|(name, count)| PubCount { topic: name.to_string(), count: *count });
        let mut stats = ClientStats {
            client_id: self.identity.client_id.clone(),
            hostname: self.identity.hostname.clone(),
            version: "V2".into(),
            remote_address: self.remote_address.clone(),
            connect_ts: seconds(self.connected),
            sample_rate: self.identity.sample_rate,
            user_agent: self.identity.user_agent.clone(),
            pub_counts: pub_counts.into_iter().collect(),
            ..ClientStats::default()
        };
        if let Some(auth) = &self.auth {
            stats.authed = true;
            stats.auth_identity = auth.identity.clone();
            stats.auth_identity_url = auth.identity_url.clone();
        }
        if let Some(upgraded) = &self.upgraded {
            (stats.snappy, stats.deflate) = (upgraded.snappy, upgraded.deflate);
            if let Some(tls) = &upgraded.tls {
                stats.tls = true;
                stats.tls_version = tls.version.into();
                stats.tls_cipher_suite = tls.cipher_suite.clone();
                // As nsqd has it, whose library says so always.
                stats.tls_negotiated_protocol_is_mutual = true;
            }
        }
        if let Some(subscription) = &self.subscription {
            stats.state = if subscription.closing { 4 } else { 3 };
            stats.ready_count = subscription.rdy;
            stats.in_flight_count = subscription.in_flight;
            stats.message_count = subscription.message_count;
            stats.finish_count = subscription.finish_count;
            stats.requeue_count = subscription.requeue_count;
        }
        stats
    }
}
