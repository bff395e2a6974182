//! What nsqds told, made fit to be shown (pure): cut to limits, with rates, and summed over the nsqds.

use std::collections::BTreeMap;

use nsq_protocol::{ChannelName, ChannelStats, ClientStats, NodeStats, TopicName, TopicStats};
use serde::Serialize;

/// The most topics that are kept of one nsqd, whose own limits are none.
pub(super) const TOPICS_MAX: usize = 100;

/// The most channels of one topic, and of all topics of one nsqd.
pub(super) const CHANNELS_MAX: usize = 50;
const CHANNELS_IN_ALL: usize = 1_000;

/// The most consumers of one channel.
pub(super) const CLIENTS_MAX: usize = 100;

/// The most consumers of all channels of one nsqd.
pub(super) const CLIENTS_IN_ALL: usize = 1_000;

/// The most percentiles of one channel: nsqd keeps as many as it was told to.
const PERCENTILES_MAX: usize = 8;

/// The longest text that is kept of a consumer or of an nsqd itself, in characters. A consumer names itself.
const TEXT_MAX: usize = 100;

/// A topic, or one of its channels.
type TopicOrChannel = (String, Option<String>);

/// Messages a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rate {
    /// Put in.
    pub(super) rate_in: f64,
    /// Finished, or thrown away; of channels alone.
    pub(super) rate_out: f64,
}

/// For each place: messages ever put in, and messages there now.
fn counters(stats: &NodeStats) -> BTreeMap<TopicOrChannel, (u64, i64)> {
    let mut counters = BTreeMap::new();
    for topic in &stats.topics {
        counters.insert((topic.topic_name.clone(), None), (topic.message_count, topic.depth));
        for channel in &topic.channels {
            let held = [channel.depth, channel.in_flight_count, channel.deferred_count]
                .into_iter()
                .fold(0, i64::saturating_add);
            let place = (topic.topic_name.clone(), Some(channel.channel_name.clone()));
            counters.insert(place, (channel.message_count, held));
        }
    }
    counters
}

/// How fast each topic and channel of an nsqd moves.
#[derive(Debug, Default)]
pub(super) struct Rates(BTreeMap<TopicOrChannel, Rate>);

impl Rates {
    /// Of a topic, or of its channel; nothing is known of what is new.
    pub(super) fn of(&self, topic: &str, channel: Option<&str>) -> Rate {
        let place = (topic.to_owned(), channel.map(str::to_owned));
        self.0.get(&place).copied().unwrap_or_default()
    }
}

/// How fast each place moved in those seconds.
pub(super) fn rates(before: &NodeStats, now: &NodeStats, seconds: f64) -> Rates {
    let before = counters(before);
    let rate = |(place, (put, held)): (TopicOrChannel, (u64, i64))| {
        // What was made, or made anew, since: nothing to compare with.
        let (put_before, held_before) =
            before.get(&place).copied().filter(|(then, _)| *then <= put)?;
        let put = (put - put_before) as f64;
        let gone = (put - (held as f64 - held_before as f64)).max(0.0);
        Some((place, Rate { rate_in: put / seconds, rate_out: gone / seconds }))
    };
    Rates(counters(now).into_iter().filter_map(rate).collect())
}

fn shorten(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(TEXT_MAX) {
        text.truncate(end);
    }
}

/// Leaves out what is beyond the limits, and last what is watched: that is put first.
pub(super) fn cut(stats: &mut NodeStats, topic: &TopicName, channel: &ChannelName) {
    stats.producers.clear();
    [&mut stats.version, &mut stats.health].into_iter().for_each(shorten);
    // A name that nsqd would not take is none, whatever its length.
    stats.topics.retain(|known| TopicName::new(&known.topic_name).is_ok());
    stats.topics.sort_by_key(|known| known.topic_name != topic.as_str());
    stats.topics.truncate(TOPICS_MAX);
    let (mut channels, mut clients) = (CHANNELS_IN_ALL, CLIENTS_IN_ALL);
    for topic in &mut stats.topics {
        topic.e2e_processing_latency.percentiles.truncate(PERCENTILES_MAX);
        topic.channels.retain(|known| ChannelName::new(&known.channel_name).is_ok());
        topic.channels.sort_by_key(|known| known.channel_name != channel.as_str());
        topic.channels.truncate(CHANNELS_MAX.min(channels));
        channels -= topic.channels.len();
        for channel in &mut topic.channels {
            channel.e2e_processing_latency.percentiles.truncate(PERCENTILES_MAX);
            channel.clients.truncate(CLIENTS_MAX.min(clients));
            clients -= channel.clients.len();
            for client in &mut channel.clients {
                client.pub_counts.clear();
                let ClientStats { client_id, hostname, user_agent, remote_address, .. } = client;
                [client_id, hostname, user_agent, remote_address].into_iter().for_each(shorten);
            }
        }
    }
}

/// A topic, or a channel of it, over all nsqds that have it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Total {
    topic_name: String,
    channel_name: Option<String>,
    /// nsqds that have it, and at how many of them it is paused.
    nsqds: usize,
    paused: usize,
    depth: i64,
    /// Of these, on disk.
    backend_depth: i64,
    in_flight_count: i64,
    deferred_count: i64,
    message_count: u64,
    requeue_count: u64,
    timeout_count: u64,
    client_count: i64,
    rate_in: f64,
    rate_out: f64,
}

impl Total {
    fn of_topic(topic: &TopicStats, rate: Rate) -> Self {
        Self {
            topic_name: topic.topic_name.clone(),
            nsqds: 1,
            paused: usize::from(topic.paused),
            depth: topic.depth,
            backend_depth: topic.backend_depth,
            message_count: topic.message_count,
            rate_in: rate.rate_in,
            ..Self::default()
        }
    }

    fn of_channel(topic: &TopicStats, channel: &ChannelStats, rate: Rate) -> Self {
        Self {
            topic_name: topic.topic_name.clone(),
            channel_name: Some(channel.channel_name.clone()),
            nsqds: 1,
            paused: usize::from(channel.paused),
            depth: channel.depth,
            backend_depth: channel.backend_depth,
            in_flight_count: channel.in_flight_count,
            deferred_count: channel.deferred_count,
            message_count: channel.message_count,
            requeue_count: channel.requeue_count,
            timeout_count: channel.timeout_count,
            client_count: channel.client_count,
            rate_in: rate.rate_in,
            rate_out: rate.rate_out,
        }
    }

    fn add(&mut self, other: &Self) {
        self.nsqds += other.nsqds;
        self.paused += other.paused;
        for (sum, more) in [
            (&mut self.depth, other.depth),
            (&mut self.backend_depth, other.backend_depth),
            (&mut self.in_flight_count, other.in_flight_count),
            (&mut self.deferred_count, other.deferred_count),
            (&mut self.client_count, other.client_count),
        ] {
            *sum = sum.saturating_add(more);
        }
        for (sum, more) in [
            (&mut self.message_count, other.message_count),
            (&mut self.requeue_count, other.requeue_count),
            (&mut self.timeout_count, other.timeout_count),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.rate_in += other.rate_in;
        self.rate_out += other.rate_out;
    }
}

/// The sums over all nsqds, each topic followed by its channels; in the order of the first nsqd that has them.
pub(super) fn totals<'a>(nsqds: impl Iterator<Item = (&'a NodeStats, &'a Rates)>) -> Vec<Total> {
    let mut sums: Vec<(String, Vec<Total>)> = Vec::new();
    for (stats, rates) in nsqds {
        for topic in &stats.topics {
            let rate = |channel: Option<&str>| rates.of(&topic.topic_name, channel);
            let of = sums.iter().position(|(name, _)| *name == topic.topic_name);
            let of = of.unwrap_or_else(|| {
                sums.push((topic.topic_name.clone(), Vec::new()));
                sums.len() - 1
            });
            let known = &mut sums[of].1;
            let channels = topic.channels.iter().map(|channel| {
                Total::of_channel(topic, channel, rate(Some(&channel.channel_name)))
            });
            for part in std::iter::once(Total::of_topic(topic, rate(None))).chain(channels) {
                match known.iter_mut().find(|total| total.channel_name == part.channel_name) {
                    Some(total) => total.add(&part),
                    None => known.push(part),
                }
            }
        }
    }
    sums.into_iter().flat_map(|(_, totals)| totals).collect()
}

#[cfg(test)]
mod tests;
