//! What a watch makes of the answers that it gets.

use std::time::{Duration, Instant};

use anyhow::Result;
use nsq_protocol::{ChannelStats, ClientStats, NodeInfo, NodeStats, TopicStats};
use serde_json::{Value, json};
use uuid::Uuid;

use super::asker::{ASK_EVERY, Poll, PollResult};
use super::state::{ANSWER_WAIT, Alert, NSQDS_MAX, REST, WatchedQueue};
use super::watch::Watch;
use super::{CountedTold, actions, figures, peek};
use crate::model::unix_time::UnixMs;
use crate::nsqd::consumers;
use crate::nsqd::http_tls::HttpTls;

pub(super) fn watch(nsqds: &[&str], lookupds: &[&str]) -> Watch {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Watch::new(Some(WatchedQueue {
        nsqds: list(nsqds),
        lookupds: list(lookupds),
        tls: HttpTls::default(),
        topic: "plays".parse().unwrap(),
        channel: "processor".parse().unwrap(),
        depth_alert: Some(100),
    }))
}

/// An nsqd with the queue and one consumer.
pub(super) fn stats(change: impl FnOnce(&mut TopicStats)) -> NodeStats {
    let mut client = ClientStats::default();
    (client.client_id, client.ready_count) = ("c".to_owned(), 10);
    client.user_agent = consumers::user_agent("p/1", &Uuid::from_u128(1));
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
        self.take(answer, Instant::now(), UnixMs(0));
    }

    fn miss(&self, nsqd: &str) {
        let answer = PollResult::Nsqd(nsqd.to_owned(), Err(anyhow::anyhow!("gone")));
        self.take(answer, Instant::now(), UnixMs(0));
    }

    pub(super) fn hear_lookupd(&self, index: usize, names: Result<&[&str], &str>) {
        let names = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let answer = names.map_err(|reason| anyhow::anyhow!("{reason}"));
        self.take(PollResult::Lookupd(index, answer), Instant::now(), UnixMs(0));
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
        watch.take(answer, Instant::now(), UnixMs(0));
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
fn an_nsqd_that_wants_tls_is_one_with_its_http_port() {
    let watch = watch(&["https://h:2"], &["l:1"]);
    watch.hear_lookupd(0, Ok(&["n:1", "n:3"]));
    watch.miss("n:1");
    watch.miss("n:3");
    let mut info = NodeInfo::default();
    (info.broadcast_address, info.http_port) = ("n".to_owned(), 1);
    let answer = PollResult::Nsqd("https://h:2".to_owned(), Ok((stats(|_| {}), Some(info))));
    watch.take(answer, Instant::now(), UnixMs(0));
    assert_eq!(watch.shown(), ["https://h:2", "n:3"]);
    watch.hear_lookupd(0, Ok(&["n:1"]));
    assert_eq!(watch.depth().unwrap().error, None);
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
    let found = watch.diagnose(&[], &CountedTold::default(), None);
    let alert = found.iter().find(|finding| finding.code == "depth-alert").unwrap();
    assert_eq!(json!(alert.severity), "warning");
    assert_eq!(alert.text, "101 messages wait in the queue, more than the 100 of --depth-alert.");
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
    watch.take(hung, start.checked_sub(ANSWER_WAIT).unwrap_or(start), UnixMs(0));
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
        watch.take(answer, start + Duration::from_secs(seconds), UnixMs(0));
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

#[test]
fn what_an_action_waits_for_in_all_leaves_time_for_its_answer() {
    // A line in the action log before it and one behind it; see `execute`, `tombstone` and `peek`.
    let log = crate::dashboard::store::WAIT;
    let action = log + ANSWER_WAIT.max(actions::TOMBSTONE_WAIT) + log;
    // The statistics and who it is; two addresses, each with a connection and two steps of its handshake.
    let peek = ANSWER_WAIT * 2 + peek::CONNECT_WAIT * 6 + peek::WAIT + peek::STOP_WAIT + log;
    assert!(action.max(peek) + Duration::from_secs(5) < crate::http::ANSWER_WAIT);
}
