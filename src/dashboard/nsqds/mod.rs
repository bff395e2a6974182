//! The nsqds in use: what they hold, why nothing may be moving, and the few things that can be done to them.
//!
//! Here is who is asked, and when: threads `dash-queue-N` ask each nsqd's HTTP API every second and each nsqlookupd's
//! every five; calls are answered from what they heard last. `figures` makes that fit to be shown, `diagnosis` says why
//! nothing moves, `actions` does what is asked, `peek` shows messages that pass by.

mod actions;
mod diagnosis;
mod figures;
mod peek;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use nsq_protocol::thread::{Crew, StopToken, stop_pair};
use nsq_protocol::{Admin, ChannelName, LookupConfig, NodeInfo, NodeStats, StatsFilter, TopicName};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};

use super::store::now_ms;
use crate::nsqd::depth::QueueDepth;
pub(super) use actions::{ActionRequest, Refusal};
pub(super) use diagnosis::Heartbeat;
use figures::Rates;
pub(super) use peek::PeekRequest;

/// How often an nsqd is asked: the queue's depth has a point in the charts each second.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How often an nsqlookupd is asked: about how soon a new nsqd is seen.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long one of them may take to answer. On the same network it takes milliseconds.
const ANSWER_WAIT: Duration = Duration::from_secs(3);

/// How long a connection to an nsqlookupd may take.
const CONNECT_WAIT: Duration = Duration::from_secs(1);

/// Who took long is asked so much later: one that hangs takes a fifth of one thread's time.
const REST: u32 = 4;

/// Threads that ask: so many may hang before the others wait.
const ASKERS: usize = 8;

/// nsqds that are watched; what nsqlookupds name beyond them is counted only.
const NSQDS_MAX: usize = 50;

/// What an nsqlookupd said is believed for so long after it was last heard: as nsqlookupd itself believes an nsqd.
const BELIEVED: Duration = Duration::from_secs(300);

/// The longest error that is kept, in characters.
const ERROR_MAX: usize = 200;

/// Which queue a dashboard watches.
#[derive(Clone, Debug)]
pub struct WatchedQueue {
    /// HTTP `host:port`s of nsqds. Actions may name these, and those that the nsqlookupds name.
    pub nsqds: Vec<String>,
    /// HTTP `host:port`s of nsqlookupds, whose nsqds are watched, too, as they come and go.
    pub lookupds: Vec<String>,
    /// The topic of the plays.
    pub topic: TopicName,
    /// The processor's channel.
    pub channel: ChannelName,
    /// With more messages waiting than these, somebody should look; `None`: never.
    pub depth_alert: Option<u64>,
}

/// Who is asked.
struct WatchedPeer {
    address: String,
    /// When next.
    due: Instant,
    /// Somebody is asking it now.
    is_asked: bool,
    /// Why it did not answer when it was asked last.
    error: Option<String>,
}

impl WatchedPeer {
    fn new(address: &str, now: Instant) -> Self {
        Self { address: address.to_owned(), due: now, is_asked: false, error: None }
    }

    /// Notes that its answer is there, or why not.
    fn answered<T>(&mut self, answer: Result<T>, every: Duration, took: Duration) -> Option<T> {
        self.is_asked = false;
        self.due = Instant::now() + every.max(took * REST);
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

struct WatchedNsqd {
    peer: WatchedPeer,
    admin: Admin,
    /// On the command line: it stays, whatever becomes of it.
    is_named: bool,
    /// Who it says that it is, since the start at that time.
    info: Option<(NodeInfo, i64)>,
    heard: Option<Heard>,
}

impl WatchedNsqd {
    fn new(address: &str, is_named: bool, now: Instant) -> Self {
        Self {
            peer: WatchedPeer::new(address, now),
            admin: Admin::with_timeout(address, ANSWER_WAIT),
            is_named,
            info: None,
            heard: None,
        }
    }

    /// What it said last, if it still answers.
    fn answering(&self) -> Option<&Heard> {
        self.heard.as_ref().filter(|_| self.peer.error.is_none())
    }

    fn is_same_as(&self, other: &Self) -> bool {
        self.info.is_some() && self.info == other.info
    }
}

/// What an nsqd said, and how fast it moved since it was asked before.
struct Heard {
    at: Instant,
    at_ms: i64,
    stats: NodeStats,
    rates: Rates,
}

struct WatchedLookupd {
    peer: WatchedPeer,
    config: LookupConfig,
    /// HTTP addresses that it named last, at most [`NSQDS_MAX`], and how many there were.
    names: BTreeSet<String>,
    named: usize,
    heard: Option<(Instant, i64)>,
}

/// How nsqlookupds are asked.
fn lookupd_config() -> LookupConfig {
    let mut config = LookupConfig::default();
    (config.connect_timeout, config.request_timeout) = (CONNECT_WAIT, ANSWER_WAIT);
    config
}

impl WatchedLookupd {
    fn new(address: &str, now: Instant) -> Self {
        let mut config = lookupd_config();
        config.addresses = vec![address.to_owned()];
        let names = BTreeSet::new();
        Self { peer: WatchedPeer::new(address, now), config, names, named: 0, heard: None }
    }

    fn is_believed(&self, now: Instant) -> bool {
        self.heard.is_some_and(|(at, _)| now.saturating_duration_since(at) < BELIEVED)
    }

    fn names(&self, nsqd: &str, now: Instant) -> bool {
        self.is_believed(now) && self.names.contains(nsqd)
    }
}

/// Whom to ask what.
enum Poll {
    /// With the start that its [`NodeInfo`] is known of.
    Nsqd(String, Admin, Option<i64>),
    Lookupd(usize, Box<LookupConfig>),
}

/// What came of a [`Poll`].
enum PollResult {
    Nsqd(String, Result<(NodeStats, Option<NodeInfo>)>),
    Lookupd(usize, Result<Vec<String>>),
}

impl Poll {
    fn ask(self) -> PollResult {
        match self {
            Self::Nsqd(address, admin, known) => {
                let answer = admin.stats(&StatsFilter::default()).map(|stats| {
                    // Without it the nsqd is shown all the same.
                    let is_known = known == Some(stats.start_time);
                    let info = if is_known { None } else { admin.info().ok() };
                    (stats, info)
                });
                PollResult::Nsqd(address, answer.map_err(Into::into))
            }
            Self::Lookupd(index, config) => {
                let has_port = |address: &String| {
                    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
                    port.is_some_and(|port: u16| port > 0)
                };
                let nodes = config.nodes().map(|nodes| {
                    nodes.into_iter().map(|node| node.http_address).filter(has_port).collect()
                });
                PollResult::Lookupd(index, nodes.map_err(Into::into))
            }
        }
    }
}

#[derive(Default)]
struct WatchState {
    /// Those of the command line first.
    nsqds: Vec<WatchedNsqd>,
    lookupds: Vec<WatchedLookupd>,
}

impl WatchState {
    /// Without those that are another one under a second name.
    fn nsqds(&self) -> impl Iterator<Item = &WatchedNsqd> {
        self.nsqds.iter().enumerate().filter_map(|(index, nsqd)| {
            let mut before = self.nsqds[..index].iter();
            let is_twin = before.any(|other| other.answering().is_some() && other.is_same_as(nsqd));
            (!is_twin).then_some(nsqd)
        })
    }

    /// Takes in what is named, and forgets what nobody names and what does not answer.
    fn follow(&mut self, now: Instant) {
        let Self { nsqds, lookupds } = self;
        let believed = lookupds.iter().filter(|lookupd| lookupd.is_believed(now));
        for name in believed.flat_map(|lookupd| &lookupd.names) {
            let is_known = nsqds.iter().any(|nsqd| nsqd.peer.address == *name);
            if !is_known && nsqds.len() < NSQDS_MAX {
                nsqds.push(WatchedNsqd::new(name, false, now));
            }
        }
        nsqds.retain(|nsqd| {
            let is_named = || lookupds.iter().any(|lookupd| lookupd.names(&nsqd.peer.address, now));
            nsqd.is_named || nsqd.answering().is_some() || is_named()
        });
    }

    fn depth(&self, queue: &WatchedQueue) -> Depth {
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
    fn left_out(&self) -> usize {
        let most = |lookupd: &WatchedLookupd| {
            let known = self.nsqds.iter().filter(|nsqd| lookupd.names.contains(&nsqd.peer.address));
            lookupd.named.saturating_sub(known.count())
        };
        self.lookupds.iter().map(most).max().unwrap_or(0)
    }
}

/// The queue's depth, as far as the nsqds tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Depth {
    /// Over those that answer; `None` when none does.
    pub(super) queue: Option<QueueDepth>,
    /// Why some is missing.
    pub(super) error: Option<String>,
    /// Where the topic or the channel is paused, as `topic at host:port`.
    pub(super) paused: Vec<String>,
    /// Where one is set.
    pub(super) alert: Option<Alert>,
}

/// The limit of [`WatchedQueue::depth_alert`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Alert {
    pub(super) above: u64,
    /// Whether more messages wait; `None` while nobody knows.
    pub(super) on: Option<bool>,
}

/// How many more may do something at one time.
struct Permits(Mutex<usize>);

/// Leave to do it, given back when dropped.
struct Permit<'a>(&'a Permits);

impl Permits {
    fn try_acquire(&self) -> Option<Permit<'_>> {
        let mut free = self.0.lock();
        *free = free.checked_sub(1)?;
        Some(Permit(self))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.0.lock() += 1;
    }
}

/// The nsqds and nsqlookupds, and what they said.
pub(super) struct Watch {
    state: Mutex<WatchState>,
    peeks: Permits,
    queue: Option<WatchedQueue>,
}

impl Watch {
    pub(super) fn new(queue: Option<WatchedQueue>) -> Self {
        let now = Instant::now();
        let state = queue.as_ref().map_or_else(WatchState::default, |queue| WatchState {
            nsqds: queue.nsqds.iter().map(|address| WatchedNsqd::new(address, true, now)).collect(),
            lookupds: queue
                .lookupds
                .iter()
                .map(|address| WatchedLookupd::new(address, now))
                .collect(),
        });
        Self { state: Mutex::new(state), peeks: Permits(Mutex::new(peek::AT_ONCE)), queue }
    }

    /// Starts the threads that ask until the crew ends: as many as there can be to ask, but [`ASKERS`] at most.
    ///
    /// # Errors
    /// The operating system's, when it refuses a thread; those that started have ended then.
    pub(super) fn start(self: &Arc<Self>) -> io::Result<Crew<()>> {
        let askers = {
            let state = self.state.lock();
            if state.lookupds.is_empty() { state.nsqds.len().min(ASKERS) } else { ASKERS }
        };
        let (stop, stopped) = stop_pair();
        let mut crew = Crew::stopped_by(stop);
        for number in 0..askers {
            let (watch, stopped) = (Arc::clone(self), stopped.clone());
            crew.spawn(&format!("dash-queue-{number}"), move || watch.run(&stopped))?;
        }
        Ok(crew)
    }

    fn run(&self, stop: &StopToken) {
        while !stop.is_stopped() {
            let now = Instant::now();
            match self.next(now) {
                Ok(question) => {
                    let answer = question.ask();
                    if !stop.is_stopped() {
                        self.take(answer, now, now_ms());
                    }
                }
                // Somebody new may come meanwhile.
                Err(due) if stop.wait_until(due.min(now + ASK_EVERY)) => return,
                Err(_) => {}
            }
        }
    }

    /// Whom to ask now, those that answer first; else when somebody is due.
    fn next(&self, now: Instant) -> Result<Poll, Instant> {
        let mut state = self.state.lock();
        let WatchState { nsqds, lookupds } = &mut *state;
        let peers = nsqds.iter().map(|nsqd| &nsqd.peer);
        let peers = peers.chain(lookupds.iter().map(|lookupd| &lookupd.peer)).enumerate();
        let order = |(_, peer): &(usize, &WatchedPeer)| {
            let is_due = peer.due <= now;
            (!is_due, is_due && peer.error.is_some(), peer.due)
        };
        let first = peers.filter(|(_, peer)| !peer.is_asked).min_by_key(order);
        let Some((index, due)) = first.map(|(index, peer)| (index, peer.due)) else {
            return Err(now + ASK_EVERY);
        };
        if due > now {
            return Err(due);
        }
        Ok(match nsqds.get_mut(index) {
            Some(nsqd) => {
                nsqd.peer.is_asked = true;
                let known = nsqd.info.as_ref().map(|(_, start)| *start);
                Poll::Nsqd(nsqd.peer.address.clone(), nsqd.admin.clone(), known)
            }
            None => {
                let index = index - nsqds.len();
                lookupds[index].peer.is_asked = true;
                Poll::Lookupd(index, Box::new(lookupds[index].config.clone()))
            }
        })
    }

    /// Takes what came of a question of that time.
    fn take(&self, answer: PollResult, asked: Instant, now_ms: i64) {
        let now = Instant::now();
        let took = now.saturating_duration_since(asked);
        let Some(queue) = &self.queue else { return };
        let mut state = self.state.lock();
        match answer {
            PollResult::Nsqd(address, answer) => {
                let mut nsqds = state.nsqds.iter_mut();
                let Some(nsqd) = nsqds.find(|nsqd| nsqd.peer.address == address) else { return };
                if let Some((mut stats, info)) = nsqd.peer.answered(answer, ASK_EVERY, took) {
                    figures::cut(&mut stats, &queue.topic, &queue.channel);
                    if let Some(info) = info {
                        nsqd.info = Some((info, stats.start_time));
                    }
                    nsqd.hear(stats, asked, now_ms);
                }
            }
            PollResult::Lookupd(index, answer) => {
                let Some(lookupd) = state.lookupds.get_mut(index) else { return };
                if let Some(names) = lookupd.peer.answered(answer, LOOK_EVERY, took) {
                    lookupd.named = names.len();
                    lookupd.names = names.into_iter().take(NSQDS_MAX).collect();
                    lookupd.heard = Some((now, now_ms));
                }
            }
        }
        state.follow(now);
    }

    /// The queue's depth, summed over the nsqds; `None` where no queue is watched.
    pub(super) fn depth(&self) -> Option<Depth> {
        let queue = self.queue.as_ref()?;
        let state = self.state.lock();
        (!state.nsqds.is_empty() || !state.lookupds.is_empty()).then(|| state.depth(queue))
    }

    /// The answer of `GET /api/queue`: nsqd's own fields, with rates, and the sums over all nsqds.
    pub(super) fn show(&self) -> Value {
        let state = self.state.lock();
        let now = Instant::now();
        let nsqds: Vec<_> = state
            .nsqds()
            .map(|nsqd| {
                let names = |lookupd: &&WatchedLookupd| lookupd.names(&nsqd.peer.address, now);
                let found_by = state.lookupds.iter().filter(names);
                let mut shown = nsqd.show();
                shown["found_by"] = found_by.map(|lookupd| lookupd.peer.address.as_str()).collect();
                shown
            })
            .collect();
        let told = state.nsqds().filter_map(WatchedNsqd::answering);
        let totals = figures::totals(told.map(|heard| (&heard.stats, &heard.rates)));
        let lookupds: Vec<_> = state.lookupds.iter().map(WatchedLookupd::show).collect();
        let names = self.queue.as_ref().map(|queue| (queue.topic.as_str(), queue.channel.as_str()));
        json!({
            "topic": names.map(|(topic, _)| topic),
            "channel": names.map(|(_, channel)| channel),
            "nsqds": nsqds,
            "left_out": state.left_out(),
            "lookupds": lookupds,
            "totals": totals,
        })
    }
}

impl WatchedNsqd {
    fn hear(&mut self, stats: NodeStats, at: Instant, at_ms: i64) {
        let rates = self.heard.as_ref().map_or_else(Rates::default, |before| {
            let seconds = at.saturating_duration_since(before.at).as_secs_f64();
            figures::rates(&before.stats, &stats, seconds.max(0.001))
        });
        self.heard = Some(Heard { at, at_ms, stats, rates });
    }

    fn show(&self) -> Value {
        let mut shown = json!({ "address": self.peer.address, "error": self.peer.error });
        let Some(heard) = &self.heard else { return shown };
        let topics: Vec<_> = heard
            .stats
            .topics
            .iter()
            .map(|topic| {
                let mut value = json!(topic);
                value["rate_in"] = heard.rates.of(&topic.topic_name, None).rate_in.into();
                for (index, channel) in topic.channels.iter().enumerate() {
                    let rate = heard.rates.of(&topic.topic_name, Some(&channel.channel_name));
                    value["channels"][index]["rate_in"] = rate.rate_in.into();
                    value["channels"][index]["rate_out"] = rate.rate_out.into();
                }
                value
            })
            .collect();
        shown["heard_at"] = heard.at_ms.into();
        shown["version"] = json!(heard.stats.version);
        shown["health"] = json!(heard.stats.health);
        shown["start_time"] = heard.stats.start_time.into();
        shown["topics"] = topics.into();
        shown
    }
}

impl WatchedLookupd {
    fn show(&self) -> Value {
        json!({
            "address": self.peer.address,
            "answering": self.heard.is_some() && self.peer.error.is_none(),
            "error": self.peer.error,
            "heard_at": self.heard.map(|(_, at_ms)| at_ms),
            "nsqds": self.heard.map(|_| self.named),
        })
    }
}

#[cfg(test)]
mod tests {
    use nsq_protocol::{ChannelStats, ClientStats, TopicStats};

    use super::*;

    pub(super) fn watch(nsqds: &[&str], lookupds: &[&str]) -> Watch {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Watch::new(Some(WatchedQueue {
            nsqds: list(nsqds),
            lookupds: list(lookupds),
            topic: "plays".parse().unwrap(),
            channel: "processor".parse().unwrap(),
            depth_alert: Some(100),
        }))
    }

    /// An nsqd with the queue and one consumer.
    pub(super) fn stats(change: impl FnOnce(&mut TopicStats)) -> NodeStats {
        let mut client = ClientStats::default();
        (client.client_id, client.ready_count) = ("c".to_owned(), 10);
        let mut channel = ChannelStats::default();
        channel.channel_name = "processor".to_owned();
        (channel.client_count, channel.clients) = (1, vec![client]);
        let mut topic = TopicStats::default();
        (topic.topic_name, topic.channels) = ("plays".to_owned(), vec![channel]);
        change(&mut topic);
        let mut stats = NodeStats::default();
        stats.topics = vec![topic];
        stats
    }

    impl Watch {
        pub(super) fn hear(&self, nsqd: &str, stats: NodeStats) {
            let answer = PollResult::Nsqd(nsqd.to_owned(), Ok((stats, None)));
            self.take(answer, Instant::now(), 0);
        }

        fn miss(&self, nsqd: &str) {
            let answer = PollResult::Nsqd(nsqd.to_owned(), Err(anyhow::anyhow!("gone")));
            self.take(answer, Instant::now(), 0);
        }

        pub(super) fn hear_lookupd(&self, index: usize, names: Result<&[&str], &str>) {
            let names = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            let answer = names.map_err(|reason| anyhow::anyhow!("{reason}"));
            self.take(PollResult::Lookupd(index, answer), Instant::now(), 0);
        }

        fn shown(&self) -> Vec<String> {
            self.show()["nsqds"]
                .as_array()
                .unwrap()
                .iter()
                .map(|nsqd| nsqd["address"].as_str().unwrap().to_owned())
                .collect()
        }
    }

    #[test]
    fn nsqds_come_and_go_with_their_nsqlookupds() {
        let watch = watch(&["a:1"], &["l:1", "l:2"]);
        assert_eq!(watch.shown(), ["a:1"]);
        watch.hear_lookupd(0, Ok(&["b:1", "c:1"]));
        watch.hear_lookupd(1, Ok(&["c:1", "a:1"]));
        assert_eq!(watch.shown(), ["a:1", "b:1", "c:1"]);
        assert_eq!(watch.show()["nsqds"][2]["found_by"], json!(["l:1", "l:2"]));
        // It is named still, or answers still: it stays.
        watch.miss("b:1");
        watch.hear("c:1", stats(|_| {}));
        watch.hear_lookupd(1, Ok(&[]));
        watch.hear_lookupd(0, Err("gone"));
        assert_eq!(watch.shown(), ["a:1", "b:1", "c:1"]);
        watch.hear_lookupd(0, Ok(&["c:1"]));
        assert_eq!(watch.shown(), ["a:1", "c:1"]);
        watch.hear_lookupd(0, Ok(&[]));
        assert_eq!(watch.shown(), ["a:1", "c:1"]);
        watch.miss("c:1");
        watch.miss("a:1");
        assert_eq!(watch.shown(), ["a:1"]);
        let lookupd = &watch.show()["lookupds"][0];
        assert_eq!((&lookupd["answering"], &lookupd["nsqds"]), (&json!(true), &json!(0)));
        // An nsqlookupd that names too many fills no memory.
        let many: Vec<_> = (0..200).map(|number| format!("n{number}:1")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        watch.hear_lookupd(0, Ok(&many));
        assert_eq!((watch.shown().len(), &watch.show()["left_out"]), (NSQDS_MAX, &json!(151)));
    }

    #[test]
    fn an_nsqd_with_two_names_is_one() {
        let watch = watch(&["127.0.0.1:1", "host:1"], &[]);
        let hear = |address: &str, port| {
            let mut info = NodeInfo::default();
            info.tcp_port = port;
            let stats = stats(|topic| topic.channels[0].depth = 3);
            let answer = PollResult::Nsqd(address.to_owned(), Ok((stats, Some(info))));
            watch.take(answer, Instant::now(), 0);
        };
        hear("127.0.0.1:1", 7);
        hear("host:1", 8);
        assert_eq!((watch.shown().len(), watch.depth().unwrap().queue.unwrap().depth), (2, 6));
        hear("host:1", 7);
        assert_eq!((watch.shown().len(), watch.depth().unwrap().queue.unwrap().depth), (1, 3));
        watch.miss("127.0.0.1:1");
        assert_eq!(watch.shown().len(), 2);
        let depth = watch.depth().unwrap();
        assert_eq!(depth.error.as_deref(), Some("nsqd 127.0.0.1:1: gone"));
        assert_eq!(depth.queue.unwrap().depth, 3);
    }

    #[test]
    fn the_depth_tells_of_pauses_and_of_the_alert() {
        let watch = watch(&["a:1", "b:1"], &[]);
        let depth = || watch.depth().unwrap();
        assert_eq!(depth().alert, Some(Alert { above: 100, on: None }));
        watch.hear("a:1", stats(|topic| topic.channels[0].depth = 60));
        watch.hear(
            "b:1",
            stats(|topic| (topic.depth, topic.paused, topic.channels[0].paused) = (40, true, true)),
        );
        assert_eq!(depth().alert, Some(Alert { above: 100, on: Some(false) }));
        assert_eq!(depth().paused, ["topic at b:1", "channel at b:1"]);
        watch.hear("a:1", stats(|topic| topic.channels[0].depth = 61));
        assert_eq!(depth().alert, Some(Alert { above: 100, on: Some(true) }));
        let found = watch.diagnose(&[], None);
        let alert = found.iter().find(|finding| finding.code == "depth-alert").unwrap();
        assert_eq!(alert.severity, "warning");
        assert_eq!(alert.text, "101 messages wait, more than the 100 of --depth-alert.");
    }

    #[test]
    fn those_that_answer_are_asked_first_and_who_hangs_is_asked_less() {
        let watch = watch(&["hangs:1", "well:1"], &["l:1"]);
        let start = Instant::now();
        let asked = |now| match watch.next(now) {
            Ok(Poll::Nsqd(address, ..)) => address,
            Ok(Poll::Lookupd(..)) => "lookupd".to_owned(),
            Err(_) => "nobody".to_owned(),
        };
        // Each is asked by one thread at a time.
        let mut first: Vec<_> = (0..4).map(|_| asked(start)).collect();
        first.sort();
        assert_eq!(first, ["hangs:1", "lookupd", "nobody", "well:1"]);
        let hung = PollResult::Nsqd("hangs:1".to_owned(), Err(anyhow::anyhow!("no answer")));
        watch.take(hung, start.checked_sub(ANSWER_WAIT).unwrap_or(start), 0);
        watch.hear("well:1", stats(|_| {}));
        assert_eq!(asked(start), "nobody");
        let later = start + ASK_EVERY * 2;
        assert_eq!([asked(later), asked(later)], ["well:1", "nobody"]);
        watch.hear("well:1", stats(|_| {}));
        let later = start + ANSWER_WAIT * (REST + 1);
        assert_eq!([asked(later), asked(later)], ["well:1", "hangs:1"]);
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let watch = watch(&["a:1"], &[]);
        let mut huge = stats(|topic| {
            topic.channels[0].clients = vec![ClientStats::default(); 1_000];
            topic.channels[0].clients[0].user_agent = "é".repeat(10_000);
            topic.channels = vec![topic.channels[0].clone(); 200];
            topic.channels[0].channel_name = "other".to_owned();
        });
        huge.version = "x".repeat(1 << 20);
        huge.topics = vec![huge.topics[0].clone(); 150];
        huge.topics[0].topic_name = "x".repeat(1 << 20);
        huge.topics[1].topic_name = "other".to_owned();
        watch.hear("a:1", huge);
        let shown = watch.show();
        let length = |value: &Value| value.as_array().unwrap().len();
        let topics = &shown["nsqds"][0]["topics"];
        assert_eq!(length(topics), figures::TOPICS_MAX);
        assert_eq!(length(&topics[0]["channels"]), figures::CHANNELS_MAX);
        let channel = &topics[0]["channels"][0];
        assert_eq!(length(&channel["clients"]), figures::CLIENTS_MAX);
        let clients = topics[0]["channels"].as_array().unwrap().iter();
        let clients: usize = clients.map(|channel| length(&channel["clients"])).sum();
        assert_eq!(clients, figures::CLIENTS_IN_ALL);
        // What is watched is the last to be left out.
        assert_eq!(
            (&topics[0]["topic_name"], &channel["channel_name"]),
            (&json!("plays"), &json!("processor"))
        );
        assert_eq!(channel["clients"][0]["user_agent"].as_str().unwrap().chars().count(), 100);
        assert!(shown.to_string().len() < 1 << 20, "{}", shown.to_string().len());
    }

    #[test]
    fn rates_are_those_between_two_answers() {
        let watch = watch(&["a:1"], &[]);
        let start = Instant::now();
        let hear = |put: u64, depth: i64, seconds| {
            let stats = stats(|topic| {
                topic.message_count = put;
                topic.channels[0].message_count = put;
                topic.channels[0].depth = depth;
            });
            let answer = PollResult::Nsqd("a:1".to_owned(), Ok((stats, None)));
            watch.take(answer, start + Duration::from_secs(seconds), 0);
        };
        hear(100, 10, 0);
        hear(300, 50, 2);
        let rates = || {
            let topic = &watch.show()["nsqds"][0]["topics"][0];
            let channel = &topic["channels"][0];
            [&topic["rate_in"], &channel["rate_in"], &channel["rate_out"]]
                .map(|rate| rate.as_f64().unwrap())
        };
        assert_eq!(rates(), [100.0, 100.0, 80.0]);
        // nsqd was started again.
        hear(5, 0, 4);
        assert_eq!(rates(), [0.0; 3]);
    }
}
