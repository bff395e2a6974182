//! The nsqds in use: what they hold, why nothing may be moving, and the few things that can be done to them.
//!
//! One thread, `dash-queue`, asks each nsqd's HTTP API every two seconds; calls are answered from what it heard last.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nsq_protocol::thread::StopToken;
use nsq_protocol::{Admin, AdminError, ChannelName, NodeStats, StatsFilter, TopicName};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::store::now_ms;

/// How often nsqds are asked.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// The most of each that is shown: nsqd has no limits of its own.
const TOPICS_MAX: usize = 100;
const CHANNELS_MAX: usize = 50;
const CLIENTS_MAX: usize = 100;

/// The longest error that is kept, in characters.
const ERROR_MAX: usize = 200;

/// A processor that has not been heard for so long does not count.
const SILENT_MS: u64 = 10_000;

/// Which queue a dashboard watches.
#[derive(Clone, Debug)]
pub struct WatchedQueue {
    /// Their HTTP `host:port`s; the only ones that actions may name.
    pub nsqds: Vec<String>,
    /// The topic of the plays.
    pub topic: TopicName,
    /// The processor's channel.
    pub channel: ChannelName,
}

struct Nsqd {
    address: String,
    admin: Admin,
    heard: Option<Heard>,
    error: Option<String>,
}

/// What an nsqd said, and how fast it moved since it was asked before.
struct Heard {
    at: Instant,
    at_ms: i64,
    stats: NodeStats,
    rates: BTreeMap<Place, Rate>,
}

/// A topic, or one of its channels.
type Place = (String, Option<String>);

/// Messages a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Rate {
    /// Put in.
    rate_in: f64,
    /// Finished, or thrown away; of channels alone.
    rate_out: f64,
}

/// For each place: messages ever put in, and messages there now.
fn counters(stats: &NodeStats) -> BTreeMap<Place, (u64, i64)> {
    let mut counters = BTreeMap::new();
    for topic in &stats.topics {
        counters.insert((topic.topic_name.clone(), None), (topic.message_count, topic.depth));
        for channel in &topic.channels {
            let held = channel.depth + channel.in_flight_count + channel.deferred_count;
            let place = (topic.topic_name.clone(), Some(channel.channel_name.clone()));
            counters.insert(place, (channel.message_count, held));
        }
    }
    counters
}

fn rates(before: &NodeStats, now: &NodeStats, seconds: f64) -> BTreeMap<Place, Rate> {
    let before = counters(before);
    let rate = |(place, (put, held)): (Place, (u64, i64))| {
        // What was made, or made anew, since: nothing to compare with.
        let (put_before, held_before) =
            before.get(&place).copied().filter(|(then, _)| *then <= put)?;
        let put = (put - put_before) as f64;
        let gone = (put - (held - held_before) as f64).max(0.0);
        Some((place, Rate { rate_in: put / seconds, rate_out: gone / seconds }))
    };
    counters(now).into_iter().filter_map(rate).collect()
}

/// Leaves out what is beyond the limits.
fn cut(stats: &mut NodeStats) {
    stats.producers.clear();
    stats.topics.truncate(TOPICS_MAX);
    for topic in &mut stats.topics {
        topic.channels.truncate(CHANNELS_MAX);
        for channel in &mut topic.channels {
            channel.clients.truncate(CLIENTS_MAX);
        }
    }
}

/// What may be done to a topic or a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Pause,
    Unpause,
    Empty,
    Delete,
}

/// The body of `POST /api/queue`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    pub(super) action: Action,
    nsqd: String,
    topic: String,
    #[serde(default)]
    channel: Option<String>,
    /// `topic`, or `topic/channel`, typed once more.
    confirm: String,
}

impl Order {
    /// What it is done to, for the audit: `host:port topic/channel`.
    pub(super) fn target(&self) -> String {
        format!("{} {}", self.nsqd, self.name())
    }

    fn name(&self) -> String {
        match &self.channel {
            Some(channel) => format!("{}/{channel}", self.topic),
            None => self.topic.clone(),
        }
    }
}

/// One thing that may keep plays from moving, or that all is well.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) code: &'static str,
    /// `error`: nothing moves; `warning`: it may soon not; `info`.
    pub(super) severity: &'static str,
    pub(super) text: String,
    pub(super) way_out: &'static str,
}

/// A processor, as the diagnosis sees it.
#[derive(Clone, Debug)]
pub(super) struct Heartbeat {
    pub(super) id: String,
    pub(super) silent_ms: u64,
    pub(super) failure: Option<String>,
    pub(super) per_second: f64,
}

/// The nsqds, and what they said.
pub(super) struct Watch {
    nsqds: Mutex<Vec<Nsqd>>,
    queue: Option<WatchedQueue>,
}

impl Watch {
    pub(super) fn new(queue: Option<WatchedQueue>) -> Self {
        let nsqd = |address: &String| Nsqd {
            address: address.clone(),
            admin: Admin::new(address),
            heard: None,
            error: None,
        };
        let nsqds = queue.iter().flat_map(|queue| queue.nsqds.iter().map(nsqd)).collect();
        Self { nsqds: Mutex::new(nsqds), queue }
    }

    /// Asks until stopped.
    pub(super) fn run(&self, stop: &StopToken) {
        let admins: Vec<_> = self.nsqds.lock().iter().map(|nsqd| nsqd.admin.clone()).collect();
        loop {
            for (index, admin) in admins.iter().enumerate() {
                let answer = admin.stats(&StatsFilter::default());
                if stop.is_stopped() {
                    return;
                }
                self.take(index, answer, Instant::now(), now_ms());
            }
            if stop.wait(ASK_EVERY) {
                return;
            }
        }
    }

    fn take(&self, index: usize, answer: Result<NodeStats, AdminError>, now: Instant, now_ms: i64) {
        let mut nsqds = self.nsqds.lock();
        let Some(nsqd) = nsqds.get_mut(index) else { return };
        match answer {
            Ok(mut stats) => {
                cut(&mut stats);
                let rates = nsqd.heard.as_ref().map_or_else(BTreeMap::new, |before| {
                    rates(&before.stats, &stats, (now - before.at).as_secs_f64().max(0.001))
                });
                nsqd.heard = Some(Heard { at: now, at_ms: now_ms, stats, rates });
                nsqd.error = None;
            }
            Err(error) => {
                let source = std::error::Error::source(&error);
                let text =
                    source.map_or_else(|| error.to_string(), |why| format!("{error}: {why}"));
                nsqd.error = Some(text.chars().take(ERROR_MAX).collect());
            }
        }
    }

    /// The answer of `GET /api/queue`: nsqd's own fields, with rates.
    pub(super) fn show(&self) -> Value {
        let nsqds: Vec<_> = self.nsqds.lock().iter().map(show).collect();
        let names = self.queue.as_ref().map(|queue| (queue.topic.as_str(), queue.channel.as_str()));
        json!({
            "topic": names.map(|(topic, _)| topic),
            "channel": names.map(|(_, channel)| channel),
            "nsqds": nsqds,
        })
    }

    /// Why nothing is moving, the worst first.
    pub(super) fn diagnose(&self, processors: &[Heartbeat], store: Option<&str>) -> Vec<Finding> {
        let mut found = Vec::new();
        if let Some(reason) = store {
            found.push(Finding {
                code: "store",
                severity: "error",
                text: format!("The dashboard cannot store counts: {reason}"),
                way_out: "Make room on its disk, or mend what is named; processors send everything again.",
            });
        }
        diagnose_processors(processors, &mut found);
        if let Some(queue) = &self.queue {
            let mut depth = 0;
            let mut known = false;
            for nsqd in self.nsqds.lock().iter() {
                known |= diagnose_nsqd(nsqd, queue, &mut depth, &mut found);
            }
            let moving = processors.iter().any(|known| known.per_second > 0.0);
            if known && depth == 0 && !moving {
                found.push(Finding {
                    code: "idle",
                    severity: "info",
                    text: "The queue is empty and nothing is being counted.".to_owned(),
                    way_out: "If plays are made: look whether their producers reach these nsqds and this topic.",
                });
            }
        }
        found.sort_by_key(|finding| match finding.severity {
            "error" => 0,
            "warning" => 1,
            _ => 2,
        });
        if found.is_empty() {
            found.push(Finding {
                code: "well",
                severity: "info",
                text: "Nothing is found that holds plays up.".to_owned(),
                way_out: "",
            });
        }
        found
    }

    /// Does what was ordered.
    ///
    /// # Errors
    /// (status, reason): the order is not whole, or nsqd refused.
    pub(super) fn obey(&self, order: &Order) -> Result<(), (u16, String)> {
        let bad = |reason: String| (400, reason);
        let name = order.name();
        if order.confirm != name {
            return Err(bad(format!("confirm must be {name:?}, the name of what is touched")));
        }
        let admin = self
            .nsqds
            .lock()
            .iter()
            .find(|nsqd| nsqd.address == order.nsqd)
            .map(|nsqd| nsqd.admin.clone())
            .ok_or_else(|| bad("nsqd must be one that GET /api/queue shows".to_owned()))?;
        let topic = TopicName::new(&order.topic).map_err(|error| bad(error.to_string()))?;
        let done = match &order.channel {
            None => match order.action {
                Action::Pause => admin.pause_topic(&topic),
                Action::Unpause => admin.unpause_topic(&topic),
                Action::Empty => admin.empty_topic(&topic),
                Action::Delete => admin.delete_topic(&topic),
            },
            Some(channel) => {
                let channel = ChannelName::new(channel).map_err(|error| bad(error.to_string()))?;
                match order.action {
                    Action::Pause => admin.pause_channel(&topic, &channel),
                    Action::Unpause => admin.unpause_channel(&topic, &channel),
                    Action::Empty => admin.empty_channel(&topic, &channel),
                    Action::Delete => admin.delete_channel(&topic, &channel),
                }
            }
        };
        done.map_err(|error| match error {
            error if error.is_not_found() => (404, format!("there is no {name} at {}", order.nsqd)),
            error => (502, error.to_string().chars().take(ERROR_MAX).collect()),
        })
    }
}

fn show(nsqd: &Nsqd) -> Value {
    let mut shown = json!({ "address": nsqd.address, "error": nsqd.error });
    let Some(heard) = &nsqd.heard else { return shown };
    let rate = |topic: &str, channel: Option<&str>| {
        let place = (topic.to_owned(), channel.map(str::to_owned));
        heard.rates.get(&place).copied().unwrap_or_default()
    };
    let topics: Vec<_> = heard
        .stats
        .topics
        .iter()
        .map(|topic| {
            let mut value = json!(topic);
            value["rate_in"] = rate(&topic.topic_name, None).rate_in.into();
            for (index, channel) in topic.channels.iter().enumerate() {
                let rate = rate(&topic.topic_name, Some(&channel.channel_name));
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

fn diagnose_processors(processors: &[Heartbeat], found: &mut Vec<Finding>) {
    for processor in processors {
        if let Some(failure) = &processor.failure {
            found.push(Finding {
                code: "processor-failed",
                severity: "error",
                text: format!("Processor {} has stopped counting: {failure}", processor.id),
                way_out: "Mend what is named and start it again; nothing is lost, nsqd has the messages.",
            });
        }
    }
    let Some(quietest) = processors.iter().map(|known| known.silent_ms).min() else {
        found.push(Finding {
            code: "no-processor",
            severity: "error",
            text: "No processor has reported since this dashboard started.".to_owned(),
            way_out: "Start `playcounts process` with --dashboard-url of this dashboard.",
        });
        return;
    };
    if quietest > SILENT_MS {
        found.push(Finding {
            code: "processor-silent",
            severity: "error",
            text: format!("No processor has reported for {} s.", quietest / 1000),
            way_out: "Look whether it runs, and whether it reaches this dashboard: its log says so.",
        });
    }
}

/// Adds what it finds at one nsqd to `found`, and what waits there to `depth`; whether it answers.
fn diagnose_nsqd(
    nsqd: &Nsqd,
    queue: &WatchedQueue,
    depth: &mut i64,
    found: &mut Vec<Finding>,
) -> bool {
    let at = &nsqd.address;
    let mut find = |code, severity, text: String, way_out| {
        found.push(Finding { code, severity, text, way_out });
    };
    if let Some(error) = &nsqd.error {
        let text = format!("nsqd {at} does not answer: {error}");
        find("nsqd-away", "error", text, "Start it, or give --nsqd-http-address its HTTP address.");
        return false;
    }
    let Some(heard) = &nsqd.heard else { return false };
    let (topic_name, channel_name) = (queue.topic.as_str(), queue.channel.as_str());
    let Some(topic) = heard.stats.topics.iter().find(|topic| topic.topic_name == topic_name) else {
        let text = format!("nsqd {at} has no topic {topic_name}: nobody has published to it.");
        find("no-topic", "warning", text, "Look at the producers' topic and nsqd address.");
        return true;
    };
    *depth += topic.depth;
    if topic.paused {
        let text = format!("Topic {topic_name} at {at} is paused; {} messages wait.", topic.depth);
        find("topic-paused", "error", text, "Unpause it.");
    }
    let channel = topic.channels.iter().find(|channel| channel.channel_name == channel_name);
    let Some(channel) = channel else {
        let text = format!("Topic {topic_name} at {at} has no channel {channel_name}.");
        find("no-channel", "error", text, "Start the processor, or give it this --channel.");
        return true;
    };
    let waiting = channel.depth + channel.deferred_count;
    *depth += waiting;
    let name = format!("Channel {topic_name}/{channel_name} at {at}");
    if channel.paused {
        find(
            "channel-paused",
            "error",
            format!("{name} is paused; {waiting} messages wait."),
            "Unpause it.",
        );
    }
    let rdy: i64 = channel.clients.iter().map(|client| client.ready_count).sum();
    if channel.client_count == 0 && waiting > 0 {
        let text = format!("{name} has {waiting} messages and no consumer.");
        find("no-consumer", "error", text, "Start `playcounts process`.");
    } else if channel.client_count > 0 && rdy == 0 && waiting > 0 {
        let text = format!(
            "{name} has {waiting} messages, and its consumers ask for none (RDY 0): they back off."
        );
        find("backoff", "error", text, "The processor's log says what it could not handle.");
    } else if channel.depth > 0 && rdy > 0 && channel.in_flight_count >= rdy {
        let text = format!(
            "{name}: {} messages wait while {} are in flight, as many as its consumers ask for.",
            channel.depth, channel.in_flight_count
        );
        find(
            "behind",
            "warning",
            text,
            "It works at its limit: more --num-threads, or a larger --max-in-flight.",
        );
    }
    true
}

#[cfg(test)]
mod tests {
    use nsq_protocol::{ChannelStats, ClientStats, TopicStats};

    use super::*;

    fn watch() -> Watch {
        Watch::new(Some(WatchedQueue {
            nsqds: vec!["a:1".to_owned()],
            topic: "plays".parse().unwrap(),
            channel: "processor".parse().unwrap(),
        }))
    }

    fn stats(change: impl FnOnce(&mut TopicStats)) -> NodeStats {
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

    fn processor() -> Heartbeat {
        Heartbeat { id: "p".to_owned(), silent_ms: 100, failure: None, per_second: 5.0 }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut TopicStats), want: &[&str]) {
        let watch = watch();
        watch.take(0, Ok(stats(change)), Instant::now(), 0);
        let found = watch.diagnose(&[processor()], None);
        let codes: Vec<_> = found.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, want, "{found:?}");
    }

    #[test]
    fn each_cause_is_found() {
        check(|_| {}, &["well"]);
        check(|topic| topic.topic_name = "other".to_owned(), &["no-topic"]);
        check(|topic| topic.channels.clear(), &["no-channel"]);
        check(|topic| topic.paused = true, &["topic-paused"]);
        check(|topic| topic.channels[0].paused = true, &["channel-paused"]);
        check(
            |topic| {
                (topic.channels[0].depth, topic.channels[0].client_count) = (5, 0);
                topic.channels[0].clients.clear();
            },
            &["no-consumer"],
        );
        check(
            |topic| {
                topic.channels[0].deferred_count = 5;
                topic.channels[0].clients[0].ready_count = 0;
            },
            &["backoff"],
        );
        check(
            |topic| (topic.channels[0].depth, topic.channels[0].in_flight_count) = (5, 10),
            &["behind"],
        );
        let watch = watch();
        let codes = |processors: &[Heartbeat], store| {
            let found = watch.diagnose(processors, store);
            found.iter().map(|finding| finding.code).collect::<Vec<_>>()
        };
        watch.take(0, Ok(stats(|_| {})), Instant::now(), 0);
        let quiet = Heartbeat { per_second: 0.0, ..processor() };
        assert_eq!(codes(&[quiet], None), ["idle"]);
        assert_eq!(codes(&[], Some("full")), ["store", "no-processor", "idle"]);
        let gone = Heartbeat { silent_ms: 60_000, failure: Some("x".to_owned()), ..processor() };
        assert_eq!(codes(&[gone], None), ["processor-failed", "processor-silent"]);
    }

    #[test]
    fn rates_are_those_between_two_answers() {
        let watch = watch();
        let start = Instant::now();
        let at = |put: u64, depth: i64| {
            stats(|topic| {
                topic.message_count = put;
                topic.channels[0].message_count = put;
                topic.channels[0].depth = depth;
            })
        };
        watch.take(0, Ok(at(100, 10)), start, 1);
        watch.take(0, Ok(at(300, 50)), start + Duration::from_secs(2), 2);
        let rates = |watch: &Watch| {
            let topic = &watch.show()["nsqds"][0]["topics"][0];
            let channel = &topic["channels"][0];
            [&topic["rate_in"], &channel["rate_in"], &channel["rate_out"]]
                .map(|rate| rate.as_f64().unwrap())
        };
        assert_eq!(rates(&watch), [100.0, 100.0, 80.0]);
        // nsqd was started again.
        watch.take(0, Ok(at(5, 0)), start + Duration::from_secs(4), 3);
        assert_eq!(rates(&watch), [0.0; 3]);
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let watch = watch();
        let mut huge = stats(|topic| {
            topic.channels[0].clients = vec![ClientStats::default(); 1_000];
            topic.channels = vec![topic.channels[0].clone(); 200];
        });
        huge.topics = vec![huge.topics[0].clone(); 150];
        watch.take(0, Ok(huge), Instant::now(), 0);
        let shown = watch.show();
        let length = |value: &Value| value.as_array().unwrap().len();
        let topics = &shown["nsqds"][0]["topics"];
        assert_eq!(length(topics), TOPICS_MAX);
        assert_eq!(length(&topics[0]["channels"]), CHANNELS_MAX);
        assert_eq!(length(&topics[0]["channels"][0]["clients"]), CLIENTS_MAX);
    }
}
