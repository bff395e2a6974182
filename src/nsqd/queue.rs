//! The queue between producer and processor, as `run`, `reset` and the dashboard see it: one or more nsqds (or the
//! embedded broker) by their HTTP APIs.

use anyhow::{Context, Result, bail};
use nsq_protocol::{Admin, ChannelName, StatsFilter, TopicName, TopicStats};

use super::depth::QueueDepth;

/// One topic, with one channel of interest, over several nsqds.
#[derive(Debug)]
pub struct Queue {
    nsqds: Vec<Admin>,
    topic: TopicName,
    channel: ChannelName,
}

impl Queue {
    /// The queue at those `host:port`s. Nothing is asked of them yet.
    pub fn new(http_addresses: &[String], topic: TopicName, channel: ChannelName) -> Self {
        let nsqds = http_addresses.iter().map(|address| Admin::new(address)).collect();
        Self { nsqds, topic, channel }
    }

    /// How much waits in the channel (or, before there is one, in the topic), summed over the nsqds.
    ///
    /// # Errors
    /// The first nsqd that does not answer.
    pub fn depth(&self) -> Result<QueueDepth> {
        let mut sum = QueueDepth::default();
        for nsqd in &self.nsqds {
            let Some(topic) = self.stats(nsqd)? else { continue };
            sum += QueueDepth::of(&topic, &self.channel);
        }
        Ok(sum)
    }

    /// The topic at one nsqd; `None` where there is no such topic.
    fn stats(&self, nsqd: &Admin) -> Result<Option<TopicStats>> {
        let mut filter = StatsFilter::default();
        (filter.topic, filter.clients) = (Some(self.topic), false);
        Ok(nsqd
            .stats(&filter)?
            .topics
            .into_iter()
            .find(|topic| topic.topic_name == self.topic.as_str()))
    }

    /// Makes sure that the topic and its channel are there and hold nothing. With `empty` it throws away what they
    /// hold; without, messages there are an error.
    ///
    /// # Errors
    /// When the topic holds messages, or an nsqd does not answer as one.
    pub fn prepare(&self, empty: bool) -> Result<()> {
        for nsqd in &self.nsqds {
            nsqd.ping()
                .context("no HTTP API of an nsqd; give its host:port with --nsqd-http-address")?;
            // The first channel gets the topic's backlog: it must be ours.
            nsqd.create_topic(&self.topic)?;
            nsqd.create_channel(&self.topic, &self.channel)?;
        }
        if empty {
            self.empty()?;
        }
        let QueueDepth { depth, in_flight, deferred } = self.depth()?;
        if depth + in_flight + deferred > 0 {
            bail!(
                "topic {} is not empty: {depth} messages wait in channel {}, {in_flight} are in flight, {deferred} are \
                 deferred; empty it with --reset, or take another --topic",
                self.topic,
                self.channel,
            );
        }
        Ok(())
    }

    /// Throws away all messages of the topic and of all its channels. A topic that is not there is empty.
    ///
    /// # Errors
    /// The first nsqd that does not answer.
    pub fn empty(&self) -> Result<()> {
        for nsqd in &self.nsqds {
            let Some(topic) = self.stats(nsqd)? else { continue };
            nsqd.empty_topic(&self.topic)?;
            for channel in &topic.channels {
                nsqd.empty_channel(&self.topic, &ChannelName::new(&channel.channel_name)?)?;
            }
        }
        Ok(())
    }
}

/// nsqd's HTTP `host:port` for each TCP one: those given, else the same host and the next port, as nsqd's own
/// defaults (4150, 4151) have it.
///
/// # Errors
/// When their numbers differ, or a TCP address has no port.
pub fn http_addresses(tcp: &[String], http: &[String]) -> Result<Vec<String>> {
    if !http.is_empty() {
        if http.len() != tcp.len() {
            bail!(
                "{} --nsqd-http-address for {} --nsqd-tcp-address; give one for each",
                http.len(),
                tcp.len()
            );
        }
        return Ok(http.to_vec());
    }
    let next = |address: &String| {
        let (host, port) = address.rsplit_once(':')?;
        Some(format!("{host}:{}", port.parse::<u16>().ok()?.checked_add(1)?))
    };
    tcp.iter()
        .map(|address| {
            next(address).with_context(|| format!("--nsqd-tcp-address {address:?} is no host:port"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_http_port_is_the_next_one() {
        let list = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        let check = |tcp: &[&str], http: &[&str]| http_addresses(&list(tcp), &list(http)).ok();
        assert_eq!(check(&["a:4150", "[::1]:9"], &[]), Some(list(&["a:4151", "[::1]:10"])));
        assert_eq!(check(&["a:4150"], &["b:1"]), Some(list(&["b:1"])));
        assert_eq!(check(&["a:4150"], &["b:1", "c:1"]), None);
        assert_eq!(check(&["a"], &[]), None);
        assert_eq!(check(&["a:65535"], &[]), None);
    }
}
