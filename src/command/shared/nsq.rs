//! What options say of NSQ: topic and channel, the nsqds or who knows them, settings by go-nsq's names.

use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use nsq_protocol::{
    ChannelName, ConsumerConfig, LookupConfig, NsqdNode, ProducerConfig, TlsConfig, TopicName,
};

use crate::broker::BrokerConfig;

/// Where an nsqd listens.
const NSQD_TCP_ADDRESS: &str = "127.0.0.1:4150";

/// The topic of `--topic`.
///
/// # Errors
/// One line that says what a name is.
pub(crate) fn topic(name: &str) -> Result<TopicName> {
    TopicName::new(name).map_err(|error| anyhow!("--topic: {error}"))
}

/// The channel of `--channel`.
///
/// # Errors
/// One line that says what a name is.
pub(crate) fn channel(name: &str) -> Result<ChannelName> {
    ChannelName::new(name).map_err(|error| anyhow!("--channel: {error}"))
}

/// As NSQ's tools have it: either nsqds are named, or nsqlookupds that know them.
///
/// # Errors
/// When both are.
pub(crate) fn nsqds_or_lookupds(nsqds: &[String], lookupds: &[String]) -> Result<()> {
    if !nsqds.is_empty() && !lookupds.is_empty() {
        bail!(
            "--nsqd-tcp-address and --lookupd-http-address cannot be used together: name nsqds, or an nsqlookupd that knows them"
        );
    }
    Ok(())
}

/// Whether each nsqlookupd is written as one; `tls` is for those at `https://`.
///
/// # Errors
/// The first that is no `host:port`, or a file of `tls` that cannot be used.
pub(crate) fn check_lookupds(lookupds: &[String], tls: &TlsConfig) -> Result<()> {
    let lookup = LookupConfig::new().addresses(lookupds).tls(tls.clone());
    lookup.check().context("--lookupd-http-address")
}

/// The nsqds that the nsqlookupds know now; none of no nsqlookupd. Asks them, on this thread;
/// `tls` is for those at `https://`.
///
/// # Errors
/// When no nsqlookupd answers, or none knows an nsqd.
pub(crate) fn nodes(lookupds: &[String], tls: &TlsConfig) -> Result<Vec<NsqdNode>> {
    if lookupds.is_empty() {
        return Ok(Vec::new());
    }
    let lookup = LookupConfig::new().addresses(lookupds).tls(tls.clone());
    let nodes = lookup.nodes().context("--lookupd-http-address")?;
    if nodes.is_empty() {
        let lookupds = lookupds.join(", ");
        bail!(
            "no nsqd is registered with nsqlookupd {lookupds}; start one with --lookupd-tcp-address"
        );
    }
    Ok(nodes)
}

/// The nsqds of `--nsqd-tcp-address`, or the one on this machine.
pub(crate) fn nsqds_or_local(addresses: Vec<String>) -> Vec<String> {
    if addresses.is_empty() { vec![NSQD_TCP_ADDRESS.to_owned()] } else { addresses }
}

/// What one queued play costs the embedded broker at most, in bytes: its body of about 155 and what is kept with it.
const QUEUED_PLAY: u64 = 200;

/// How many queued plays the embedded broker's memory holds, where it has no disk.
pub(crate) fn embedded_broker_capacity() -> u64 {
    BrokerConfig::default().max_memory as u64 / QUEUED_PLAY
}

/// A `name,value` of `--consumer-opt`, known to make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConsumerOption(String);

impl FromStr for ConsumerOption {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let any = (TopicName::new("t"), ChannelName::new("c"));
        if let (Ok(topic), Ok(channel)) = any {
            let mut config = ConsumerConfig::new(topic, channel);
            config.parse_option(text).map_err(|error| error.to_string())?;
        }
        Ok(Self(text.to_owned()))
    }
}

impl ConsumerOption {
    /// Applies all of `options`, in their order.
    ///
    /// # Errors
    /// When two of them contradict each other.
    pub(crate) fn apply(options: &[Self], config: &mut ConsumerConfig) -> Result<()> {
        options.iter().try_for_each(|option| {
            config.parse_option(&option.0).map_err(|error| anyhow!("--consumer-opt: {error}"))
        })
    }
}

/// A `name,value` of `--producer-opt`, known to make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProducerOption(String);

impl FromStr for ProducerOption {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        ProducerConfig::new().parse_option(text).map_err(|error| error.to_string())?;
        Ok(Self(text.to_owned()))
    }
}

impl ProducerOption {
    /// Applies all of `options`, in their order.
    ///
    /// # Errors
    /// When two of them contradict each other.
    pub(crate) fn apply(options: &[Self], config: &mut ProducerConfig) -> Result<()> {
        options.iter().try_for_each(|option| {
            config.parse_option(&option.0).map_err(|error| anyhow!("--producer-opt: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_address_it_is_the_nsqd_of_this_machine() {
        assert_eq!(nsqds_or_local(Vec::new()), ["127.0.0.1:4150"]);
        assert_eq!(nsqds_or_local(vec!["a:1".into()]), ["a:1"]);
    }
}
