//! What a user asks nsqlookupds for at once: all nsqds, the channels of a topic, and to keep silent about an nsqd. Runs on
//! the caller's thread.

use std::collections::BTreeSet;

use crate::client::lookup::config::LookupConfig;
use crate::client::lookup::http::{agent, get, no_answer, post};
use crate::client::lookup::response::{read_channels, read_response};
use crate::codec::names::{ChannelName, TopicName};
use crate::error::Error;

/// Of requests that no consumer makes.
const USER_AGENT: &str = concat!("nsq-protocol/", env!("CARGO_PKG_VERSION"));

/// An nsqd as nsqlookupds name it.
///
/// # Example
/// ```no_run
/// use nsq_protocol::{LookupConfig, ProducerConfig};
///
/// let nodes = LookupConfig::new().address("127.0.0.1:4161").nodes()?;
/// let config = ProducerConfig::new().nsqds(nodes.iter().map(|node| &node.tcp_address));
/// # Ok::<(), nsq_protocol::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct NsqdNode {
    /// Where to connect to, `host:port`, after the broadcast map.
    pub tcp_address: String,
    /// Its HTTP API, `host:port`: the same host, nsqd's own port.
    pub http_address: String,
}

impl LookupConfig {
    /// Asks each nsqlookupd once for all nsqds, whatever their topics: where a producer can publish to. Sorted,
    /// each one once; runs on the caller's thread, up to `request_timeout` for each nsqlookupd.
    ///
    /// # Errors
    /// [`Error::Config`] for a setting out of range; [`Error::Lookup`] or [`Error::Tls`], the first one's, when none answers.
    pub fn nodes(&self) -> Result<Vec<NsqdNode>, Error> {
        self.check()?;
        let agent = agent(self, USER_AGENT);
        let mut nodes = BTreeSet::new();
        let (mut answered, mut errors) = (false, Vec::new());
        for address in &self.addresses {
            let found = get(&agent, address, "/nodes", &[]).and_then(|(status, body)| {
                let read = read_response(status, &body, &self.broadcast_map);
                read.map_err(|reason| no_answer(address, &reason))
            });
            match found {
                Ok(answer) => {
                    answered = true;
                    let pairs = answer.nsqds.into_iter().zip(answer.http);
                    nodes.extend(
                        pairs.map(|(tcp_address, http_address)| NsqdNode {
                            tcp_address,
                            http_address,
                        }),
                    );
                }
                Err(error) => errors.push(error),
            }
        }
        if !answered && let Some(first) = errors.drain(..).next() {
            return Err(first);
        }
        errors.iter().for_each(|error| log::warn!("{}", error.to_line()));
        Ok(nodes.into_iter().collect())
    }

    /// Asks each nsqlookupd once for the channels that it knows of a topic, at whatever nsqd: what an nsqd does that creates
    /// the topic, so that no channel misses its first messages. Sorted, each one once, none for a topic that nobody
    /// knows; runs on the caller's thread, up to `request_timeout` for each nsqlookupd.
    ///
    /// # Errors
    /// As [`LookupConfig::nodes`].
    pub fn channels(&self, topic: &TopicName) -> Result<Vec<ChannelName>, Error> {
        self.check()?;
        let agent = agent(self, USER_AGENT);
        let mut channels = BTreeSet::new();
        let (mut answered, mut errors) = (false, Vec::new());
        for address in &self.addresses {
            let answer = get(&agent, address, "/channels", &[("topic", topic.as_str())]);
            let found = answer.and_then(|(status, body)| {
                read_channels(status, &body).map_err(|reason| no_answer(address, &reason))
            });
            match found {
                Ok(names) => {
                    answered = true;
                    channels.extend(names);
                }
                Err(error) => errors.push(error),
            }
        }
        if !answered && let Some(first) = errors.drain(..).next() {
            return Err(first);
        }
        errors.iter().for_each(|error| log::warn!("{}", error.to_line()));
        Ok(channels.into_iter().collect())
    }

    /// Has every nsqlookupd keep silent about one nsqd when it is asked for a topic, for its
    /// `--tombstone-lifetime`, 45 s: whoever looks for the topic finds the others meanwhile. `node` is the nsqd as
    /// nsqlookupd knows it: its broadcast address and HTTP port. One that none knows is no error. Runs on the
    /// caller's thread, up to `request_timeout` for each nsqlookupd; all are asked, whether or not one fails.
    ///
    /// # Errors
    /// [`Error::Config`] for a setting out of range; [`Error::Lookup`] or [`Error::Tls`], the first one's that refuses or is
    /// away.
    pub fn tombstone(&self, topic: &TopicName, node: &str) -> Result<(), Error> {
        self.check()?;
        let agent = agent(self, USER_AGENT);
        let query = [("topic", topic.as_str()), ("node", node)];
        let mut outcome = Ok(());
        for address in &self.addresses {
            let done = match post(&agent, address, "/topic/tombstone", &query) {
                Ok((200, _)) => Ok(()),
                Ok((status, _)) => Err(no_answer(address, &format!("status {status}"))),
                Err(error) => Err(error),
            };
            outcome = outcome.and(done);
        }
        outcome
    }
}
