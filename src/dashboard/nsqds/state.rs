//! What is known of the nsqds and nsqlookupds that are watched, and whom that makes: those of the command line, and
//! those that the nsqlookupds name (no IO; the time is an argument).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use nsq_protocol::{Admin, ChannelName, LookupConfig, NodeInfo, NodeStats, TlsConfig, TopicName};
use schemars::JsonSchema;
use serde::Serialize;

use super::figures::{self, Rates};
use crate::model::unix_time::UnixMs;
use crate::nsqd::depth::QueueDepth;
use crate::nsqd::http_tls::HttpTls;

/// How long an nsqd or an nsqlookupd may take to answer. On the same network it takes milliseconds.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(3);

/// How long a connection to an nsqlookupd may take.
const CONNECT_WAIT: Duration = Duration::from_secs(1);

/// Who took long is asked so much later: one that hangs takes a fifth of one thread's time.
pub(super) const REST: u32 = 4;

/// nsqds that are watched; what nsqlookupds name beyond them is counted only.
pub(super) const NSQDS_MAX: usize = 50;

/// What an nsqlookupd said is believed for so long after it was last heard: as nsqlookupd itself believes an nsqd.
const BELIEVED: Duration = Duration::from_secs(300);

/// The longest error that is kept, in characters.
pub(super) const ERROR_MAX: usize = 200;

/// Which queue a dashboard watches.
#[derive(Clone, Debug)]
pub struct WatchedQueue {
    /// HTTP `host:port`s of nsqds, or `https://host:port`s. Actions may name these, and those that the nsqlookupds name.
    pub nsqds: Vec<String>,
    /// HTTP `host:port`s of nsqlookupds, or `https://host:port`s, whose nsqds are watched, too, as they come and go.
    pub lookupds: Vec<String>,
    /// Whom those at `https://` must prove to be.
    pub tls: HttpTls,
    /// The topic of the plays.
    pub topic: TopicName,
    /// The processor's channel.
    pub channel: ChannelName,
    /// With more messages waiting than these, somebody should look; `None`: never.
    pub depth_alert: Option<u64>,
}

/// Who is asked.
pub(super) struct WatchedPeer {
    /// Its HTTP `host:port`.
    pub(super) address: String,
    /// When next.
    pub(super) due: Instant,
    /// Somebody is asking it now.
    pub(super) is_asked: bool,
    /// Why it did not answer when it was asked last.
    pub(super) error: Option<String>,
}

impl WatchedPeer {
    /// One that is asked at once.
    pub(super) fn new(address: &str, now: Instant) -> Self {
        Self { address: address.to_owned(), due: now, is_asked: false, error: None }
    }

    /// Notes what came of a question of the time `asked`; it is asked again after `every`, or later if that took long.
    pub(super) fn answered<T>(
        &mut self,
        answer: Result<T>,
        asked: Instant,
        now: Instant,
        every: Duration,
    ) -> Option<T> {
        self.is_asked = false;
        let took = now.saturating_duration_since(asked);
        self.due = now + every.max(took * REST);
        match answer {
            Ok(answer) => {
                self.error = None;
                Some(answer)
            }
            Err(error) => {
                self.error = Some(format!("{error:#}").chars().take(ERROR_MAX).collect());
                None
            }
        }
    }
}

/// An nsqd.
pub(super) struct WatchedNsqd {
    /// When it is asked.
    pub(super) peer: WatchedPeer,
    /// Its HTTP API.
    pub(super) admin: Admin,
    /// On the command line: it stays, whatever becomes of it.
    pub(super) is_named: bool,
    /// Who it says that it is, since the start at that time.
    pub(super) info: Option<(NodeInfo, i64)>,
    /// What it said last.
    pub(super) heard: Option<Heard>,
}

impl WatchedNsqd {
    /// One of the command line.
    pub(super) fn named(address: &str, tls: &TlsConfig, now: Instant) -> Self {
        let admin = Admin::with_tls(address, ANSWER_WAIT, tls.clone());
        Self { is_named: true, admin, ..Self::found(address, now) }
    }

    /// One that an nsqlookupd has named.
    pub(super) fn found(address: &str, now: Instant) -> Self {
        Self {
            peer: WatchedPeer::new(address, now),
            admin: Admin::with_timeout(address, ANSWER_WAIT),
            is_named: false,
            info: None,
            heard: None,
        }
    }

    /// Takes what it said, and finds how fast it moved since it was heard before.
    pub(super) fn hear(&mut self, stats: NodeStats, at: Instant, at_ms: UnixMs) {
        let rates = self.heard.as_ref().map_or_else(Rates::default, |before| {
            let seconds = at.saturating_duration_since(before.at).as_secs_f64();
            figures::rates(&before.stats, &stats, seconds.max(0.001))
        });
        self.heard = Some(Heard { at, at_ms, stats, rates });
    }

    /// What it said last, if it still answers.
    pub(super) fn answering(&self) -> Option<&Heard> {
        self.heard.as_ref().filter(|_| self.peer.error.is_none())
    }

    /// The name that it has with nsqlookupds, once it has told it: its broadcast address and HTTP port.
    pub(super) fn name(&self) -> Option<String> {
        let (info, _) = self.info.as_ref()?;
        Some(format!("{}:{}", info.broadcast_address, info.http_port))
    }

    /// Whether `other` is this one at another address. One that wants TLS answers at its HTTPS port alone, and at its HTTP
    /// port, which nsqlookupds name, with an error.
    fn is_same_as(&self, other: &Self) -> bool {
        let is_told = self.info.is_some() && self.info == other.info;
        is_told || other.peer.error.is_some() && self.name().as_ref() == Some(&other.peer.address)
    }
}

/// What an nsqd said, and how fast it moved since it was asked before.
pub(super) struct Heard {
    /// When it was asked.
    pub(super) at: Instant,
    /// When its answer came.
    pub(super) at_ms: UnixMs,
    /// What it said, cut to the limits of `figures`.
    pub(super) stats: NodeStats,
    /// How fast it moved.
    pub(super) rates: Rates,
}

/// An nsqlookupd.
pub(super) struct WatchedLookupd {
    /// When it is asked.
    pub(super) peer: WatchedPeer,
    /// How it is asked.
    pub(super) config: LookupConfig,
    /// HTTP addresses that it named last, at most [`NSQDS_MAX`].
    pub(super) names: BTreeSet<String>,
    /// How many it named.
    pub(super) named: usize,
    /// When that was.
    pub(super) heard: Option<(Instant, UnixMs)>,
}

/// How nsqlookupds are asked.
pub(super) fn lookupd_config(tls: &TlsConfig) -> LookupConfig {
    LookupConfig::new().tls(tls.clone()).connect_timeout(CONNECT_WAIT).request_timeout(ANSWER_WAIT)
}

impl WatchedLookupd {
    /// One of the command line.
    pub(super) fn new(address: &str, tls: &TlsConfig, now: Instant) -> Self {
        let config = lookupd_config(tls).address(address);
        let names = BTreeSet::new();
        Self { peer: WatchedPeer::new(address, now), config, names, named: 0, heard: None }
    }

    /// Takes the HTTP addresses that it names.
    pub(super) fn hear(&mut self, names: Vec<String>, at: Instant, at_ms: UnixMs) {
        self.named = names.len();
        self.names = names.into_iter().take(NSQDS_MAX).collect();
        self.heard = Some((at, at_ms));
    }

    /// Whether it has been heard lately enough.
    pub(super) fn is_believed(&self, now: Instant) -> bool {
        self.heard.is_some_and(|(at, _)| now.saturating_duration_since(at) < BELIEVED)
    }

    /// Whether it names the nsqd at that address.
    pub(super) fn names(&self, nsqd: &str, now: Instant) -> bool {
        self.is_believed(now) && self.names.contains(nsqd)
    }
}

/// Every nsqd and nsqlookupd that is watched.
#[derive(Default)]
pub(super) struct WatchState {
    /// Those of the command line first.
    pub(super) nsqds: Vec<WatchedNsqd>,
    /// In the order of the command line.
    pub(super) lookupds: Vec<WatchedLookupd>,
}

impl WatchState {
    /// Without those that are another one under a second name.
    pub(super) fn nsqds(&self) -> impl Iterator<Item = &WatchedNsqd> {
        self.nsqds.iter().enumerate().filter_map(|(index, nsqd)| {
            let mut before = self.nsqds[..index].iter();
            let is_twin = before.any(|other| other.answering().is_some() && other.is_same_as(nsqd));
            (!is_twin).then_some(nsqd)
        })
    }

    /// Adds the nsqds that are named, and forgets those that nobody names and that do not answer.
    pub(super) fn follow(&mut self, now: Instant) {
        let Self { nsqds, lookupds } = self;
        let believed = lookupds.iter().filter(|lookupd| lookupd.is_believed(now));
        for name in believed.flat_map(|lookupd| &lookupd.names) {
            let is_known = nsqds.iter().any(|nsqd| nsqd.peer.address == *name);
            if !is_known && nsqds.len() < NSQDS_MAX {
                nsqds.push(WatchedNsqd::found(name, now));
            }
        }
        nsqds.retain(|nsqd| {
            let is_named = || lookupds.iter().any(|lookupd| lookupd.names(&nsqd.peer.address, now));
            nsqd.is_named || nsqd.answering().is_some() || is_named()
        });
    }

    /// How much waits in that queue.
    pub(super) fn depth(&self, queue: &WatchedQueue) -> Depth {
        let mut depth = Depth::default();
        for nsqd in self.nsqds() {
            let at = &nsqd.peer.address;
            if let Some(heard) = nsqd.answering() {
                let sum = depth.queue.get_or_insert_default();
                let Some(topic) = heard.stats.topic(&queue.topic) else { continue };
                *sum += QueueDepth::of(topic, &queue.channel);
                if topic.paused {
                    depth.paused.push(format!("topic at {at}"));
                }
                let channel = heard.stats.channel(&queue.topic, &queue.channel);
                if channel.is_some_and(|channel| channel.paused) {
                    depth.paused.push(format!("channel at {at}"));
                }
            } else if let Some(error) = &nsqd.peer.error {
                depth.error.get_or_insert_with(|| format!("nsqd {at}: {error}"));
            }
        }
        depth.alert = queue.depth_alert.map(|above| {
            let on = depth.queue.map(|queue| queue.depth > above);
            Alert { above, on }
        });
        depth
    }

    /// nsqds that are named and not watched, for want of room.
    pub(super) fn left_out(&self) -> usize {
        let most = |lookupd: &WatchedLookupd| {
            let known = self.nsqds.iter().filter(|nsqd| lookupd.names.contains(&nsqd.peer.address));
            lookupd.named.saturating_sub(known.count())
        };
        self.lookupds.iter().map(most).max().unwrap_or(0)
    }
}

/// The queue's depth, as far as the nsqds tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Depth {
    /// Over those that answer; `None` when none does.
    pub(crate) queue: Option<QueueDepth>,
    /// Why some is missing.
    pub(crate) error: Option<String>,
    /// Where the topic or the channel is paused, as `topic at host:port`.
    pub(crate) paused: Vec<String>,
    /// Where one is set.
    pub(crate) alert: Option<Alert>,
}

/// The limit of [`WatchedQueue::depth_alert`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Alert {
    /// More than so many are too many.
    pub(crate) above: u64,
    /// Whether more messages wait; `None` while nobody knows.
    pub(crate) on: Option<bool>,
}
