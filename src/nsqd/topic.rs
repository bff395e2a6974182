//! The queue between producer and processor: a topic and its channel over several nsqds (or the embedded broker), by
//! their HTTP APIs. Each call blocks the thread that makes it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use nsq_protocol::{Admin, ChannelName, StatsFilter, TlsConfig, TopicName, TopicStats};

use super::depth::QueueDepth;
use super::http_tls::explained;

/// How long one call may take. A disk that is busy takes seconds to make a topic.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// What to do with messages that a topic holds before a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backlog {
    /// They are an error.
    Refuse,
    /// Throw them away.
    Discard,
}

/// One topic, with one channel of interest, over several nsqds.
#[derive(Debug)]
pub(crate) struct RemoteTopic {
    nsqds: Vec<Admin>,
    topic: TopicName,
    channel: ChannelName,
}

impl RemoteTopic {
    /// The topic at those nsqds, each by the `host:port` of its HTTP API, or `https://host:port`, which is trusted as `tls`
    /// says. Nothing is asked of them yet.
    pub(crate) fn new(
        http_addresses: &[String],
        tls: &TlsConfig,
        topic: TopicName,
        channel: ChannelName,
    ) -> Self {
        let admin = |address: &String| Admin::with_tls(address, ANSWER_WAIT, tls.clone());
        Self { nsqds: http_addresses.iter().map(admin).collect(), topic, channel }
    }

    /// How much waits in the channel (or, before there is one, in the topic), summed over the nsqds.
    ///
    /// # Errors
    /// The first nsqd that does not answer.
    fn depth(&self) -> Result<QueueDepth> {
        let mut sum = QueueDepth::default();
        for nsqd in &self.nsqds {
            let Some(topic) = self.stats(nsqd)? else { continue };
            sum += QueueDepth::of(&topic, &self.channel);
        }
        Ok(sum)
    }

    /// The topic at one nsqd; `None` where there is no such topic.
    fn stats(&self, nsqd: &Admin) -> Result<Option<TopicStats>> {
        let filter = StatsFilter::new().topic(self.topic).clients(false);
        Ok(nsqd
            .stats(&filter)
            .map_err(explained)?
            .topics
            .into_iter()
            .find(|topic| topic.topic_name == self.topic.as_str()))
    }

    /// Makes sure that the topic and its channel are there and hold nothing.
    ///
    /// # Errors
    /// When the topic holds messages that are to be refused, or an nsqd does not answer as one.
    pub(crate) fn prepare(&self, backlog: Backlog) -> Result<()> {
        for nsqd in &self.nsqds {
            nsqd.ping()
                .map_err(explained)
                .context("no HTTP API of an nsqd; give its host:port with --nsqd-http-address")?;
            // The first channel gets the topic's backlog: it must be ours.
            nsqd.create_topic(&self.topic)?;
            nsqd.create_channel(&self.topic, &self.channel)?;
        }
        if backlog == Backlog::Discard {
            self.empty()?;
        }
        let QueueDepth { depth, in_flight, deferred } = self.depth()?;
        if depth + in_flight + deferred > 0 {
            bail!(
                "topic {} is not empty: in channel {} are {depth} waiting, {in_flight} in flight and {deferred} deferred; empty \
                 it with --reset, or take another --topic",
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
    pub(crate) fn empty(&self) -> Result<()> {
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
