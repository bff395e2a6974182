//! Looking who else consumes a processor's channel, over the HTTP APIs of its nsqds. Blocks the thread that looks, for
//! `LOOK_MAX` and one answer at most.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use nsq_protocol::{Admin, ChannelName, LookupConfig, StatsFilter, TlsConfig, TopicName};
use uuid::Uuid;

use super::addresses::NsqdAddresses;
use super::consumers::{ChannelConsumers, SeenProcessor};
use super::http_tls::explained;

/// How long one nsqd may take to answer. On the same network it takes milliseconds.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// After that no further nsqd is asked: a start must not wait long for those that are away.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// What to do about a second processor.
const WAY_OUT: &str = "two ledgers on one channel count a play twice that is published again. Stop one of them (one \
    whose host has died stays in nsqd's list for about a minute), or give this one the same --data-dir and --standby; --beside-others starts it \
    all the same";

/// How a processor's nsqds are asked who consumes its channel.
#[derive(Clone, Debug)]
pub struct Neighbours {
    nsqds: Vec<AskedNsqd>,
    /// Whom those at `https://` must prove to be.
    tls: TlsConfig,
    /// Who names more nsqds.
    lookup: LookupConfig,
    topic: TopicName,
    channel: ChannelName,
}

#[derive(Clone, Debug)]
struct AskedNsqd {
    /// Its HTTP `host:port`, or `https://host:port`.
    http: String,
    /// Where the HTTP port is a guess: the TCP port that it must tell of.
    tcp_port: Option<u16>,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Over all nsqds that answered.
    pub(crate) consumers: ChannelConsumers,
    /// Why some did not; the first reason.
    pub(crate) unseen: Option<String>,
}

impl Neighbours {
    /// Of the nsqds with those TCP addresses, each asked at the HTTP address of the same place or, without any, at the next
    /// port; and of those that the nsqlookupds of `lookup` name. `tls` is for an address that begins with `https://`.
    ///
    /// # Errors
    /// The two lists differ in length.
    pub(crate) fn new(
        tcp: &[String],
        http: Vec<String>,
        tls: TlsConfig,
        lookup: LookupConfig,
        topic: TopicName,
        channel: ChannelName,
    ) -> Result<Self> {
        let named = |pair: NsqdAddresses| AskedNsqd { http: pair.http, tcp_port: None };
        let nsqds = if http.is_empty() {
            tcp.iter().filter_map(|tcp| AskedNsqd::guess(tcp)).collect()
        } else {
            NsqdAddresses::pair(tcp.to_vec(), http)?.into_iter().map(named).collect()
        };
        Ok(Self { nsqds, tls, lookup, topic, channel })
    }

    /// Asks them all, one after the other.
    pub(crate) fn look(&self) -> Look {
        let deadline = Instant::now() + LOOK_MAX;
        let mut look = Look::default();
        let mut nsqds = self.nsqds.clone();
        if !self.lookup.get_addresses().is_empty() {
            let limit = self.lookup.get_request_timeout().min(ANSWER_WAIT);
            let lookup = self.lookup.clone().request_timeout(limit);
            match lookup.nodes() {
                Ok(nodes) => nsqds.extend(
                    nodes
                        .into_iter()
                        .map(|node| AskedNsqd { http: node.http_address, tcp_port: None }),
                ),
                Err(error) => look.unseen = Some(format!("{:#}", anyhow!(error))),
            }
        }
        if self.nsqds.is_empty() && self.lookup.get_addresses().is_empty() {
            look.unseen = Some("no HTTP address of an nsqd is known".to_owned());
        }
        for nsqd in nsqds {
            let seen = match Instant::now() < deadline {
                true => self.ask(&nsqd, &mut look.consumers),
                false => Err(anyhow!("those before took {LOOK_MAX:?}")),
            };
            if let Err(error) = seen {
                look.unseen.get_or_insert_with(|| format!("nsqd {}: {error:#}", nsqd.http));
            }
        }
        look
    }

    fn ask(&self, nsqd: &AskedNsqd, consumers: &mut ChannelConsumers) -> Result<()> {
        let admin = Admin::with_tls(&nsqd.http, ANSWER_WAIT, self.tls.clone());
        if let Some(port) = nsqd.tcp_port {
            let told = admin.info().map_err(explained)?.tcp_port;
            if told != port {
                bail!("it is the HTTP port of another one, with TCP port {told}");
            }
        }
        let filter = StatsFilter::new().topic(self.topic).channel(self.channel);
        let stats = admin.stats(&filter).map_err(explained)?;
        if let Some(channel) = stats.channel(&self.topic, &self.channel) {
            consumers.add(channel);
        }
        Ok(())
    }
}

impl AskedNsqd {
    fn guess(tcp: &str) -> Option<Self> {
        let (_, port) = tcp.rsplit_once(':')?;
        let pair = NsqdAddresses::pair(vec![tcp.to_owned()], Vec::new()).ok()?;
        Some(Self { http: pair.into_iter().next()?.http, tcp_port: port.parse().ok() })
    }
}

impl Look {
    /// # Errors
    /// A processor with another ledger than `own` is there already.
    pub(crate) fn refuse_others(&self, own: Option<&Uuid>) -> Result<()> {
        let other = self.consumers.processors.iter().find(|known| Some(&known.ledger) != own);
        other.map_or(Ok(()), |other| Err(beside(other)))
    }

    /// Whether the processor of `own`, which is connected, must make way for another one: then the error that says so.
    pub(crate) fn must_yield(&self, own: &Uuid) -> Option<anyhow::Error> {
        self.consumers.must_yield_to(own).map(beside)
    }

    /// Logs what keeps the look from being sure, and who takes plays away.
    pub(crate) fn warn(&self) {
        if let Some(reason) = &self.unseen {
            log::warn!(
                "cannot look whether another processor reads this channel: {reason}; --nsqd-http-address says where nsqd's \
                 HTTP API is"
            );
        }
        if let Some(first) = self.consumers.foreign.first() {
            let count = self.consumers.foreign.len();
            log::warn!(
                "consumers of this channel that are not processors of this version: {count}, one of them {}; what they take \
                 is not counted here",
                first.escape_debug()
            );
        }
    }
}

fn beside(other: &SeenProcessor) -> anyhow::Error {
    let SeenProcessor { ledger, remote_address, .. } = other;
    anyhow!(
        "another processor reads this channel, from {} with ledger {ledger}: {WAY_OUT}",
        remote_address.escape_debug()
    )
}
