//! One list of scenarios, run against the embedded broker and against the real nsqd 1.3.0: what it says must
//! hold for both. Where ours differs on purpose, the scenario says so.
//!
//! All scenarios share one server and run at one time, each on its own topics: most of them wait for nsqd's
//! 5 s between two looks at its list of channels. Here is how they are run, and the list; they are in the files beside.

mod administration;
mod clients;
mod compression;
mod connection;
mod consuming;
mod http;
mod liveness;
mod publishing;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Instant;

use playcounts::broker::{Broker, BrokerConfig};
use serde_json::Value;

use crate::broker_support::{self, Client};
use crate::nsqd::nsqd_or_skip;
use crate::timing::DEADLINE;

/// Who is being asked.
struct Target {
    tcp: SocketAddr,
    http: SocketAddr,
    is_ours: bool,
}

type Scenario = (&'static str, fn(&Target));

const SCENARIOS: &[Scenario] = &[
    ("magic", connection::magic),
    ("fatal errors", connection::fatal_errors),
    ("errors of consumers", connection::errors_of_consumers),
    ("identify answers", connection::identify_answers),
    ("identify ranges", connection::identify_ranges),
    ("identify twice", connection::identify_twice),
    ("auth", connection::auth),
    ("compression is negotiated", compression::negotiated),
    ("compressed commands", compression::commands),
    ("compressed clients", compression::clients),
    ("garbage behind an upgrade", compression::garbage_behind_it),
    ("small print of commands", connection::small_print),
    ("rdy is a level", consuming::rdy_is_a_level),
    ("fan-out and backlog", consuming::fan_out_and_backlog),
    ("cls", consuming::cls),
    ("fin of what is not ours", consuming::fin_of_what_is_not_ours),
    ("requeue", consuming::requeue),
    ("requeue with a delay", consuming::requeue_with_a_delay),
    ("touch", consuming::touch),
    ("timeout", consuming::timeout),
    ("dpub", publishing::dpub),
    ("mpub", publishing::mpub),
    ("mpub with a wrong length", publishing::mpub_with_a_wrong_length),
    ("drops of what is ephemeral", publishing::ephemeral_drops),
    ("pause a channel", administration::pause_a_channel),
    ("pause a topic", administration::pause_a_topic),
    ("empty while subscribed", administration::empty_while_subscribed),
    ("delete while subscribed", administration::delete_while_subscribed),
    ("ephemeral", administration::ephemeral),
    ("disconnect", consuming::disconnect),
    ("clients changed while they run", clients::changed_while_they_run),
    ("heartbeats", liveness::heartbeats),
    ("half a pub", liveness::half_a_pub),
    ("a line without end", liveness::a_line_without_end),
    ("stats keys", http::stats_keys),
    ("stats counters", http::stats_counters),
    ("http codes", http::http_codes),
    ("http info", http::http_info),
    ("http publishing", http::http_publishing),
    ("nsq on the http port", http::nsq_on_the_http_port),
];

fn run(target: &Target) {
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (name, scenario) in SCENARIOS {
            let failures = &failures;
            scope.spawn(move || {
                if catch_unwind(AssertUnwindSafe(|| scenario(target))).is_err() {
                    failures.lock().unwrap().push(*name);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "failed: {failures:?}");
}

#[test]
fn the_embedded_broker_does_what_nsqd_does() {
    let config = BrokerConfig {
        tcp_address: "127.0.0.1:0".into(),
        http_address: Some("127.0.0.1:0".into()),
        ..BrokerConfig::default()
    };
    let broker = Broker::start(config).unwrap();
    run(&Target { tcp: broker.tcp_addr(), http: broker.http_addr().unwrap(), is_ours: true });
    broker.shutdown();
}

#[test]
fn with_its_messages_on_disk_it_does_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let config = BrokerConfig {
        tcp_address: "127.0.0.1:0".into(),
        http_address: Some("127.0.0.1:0".into()),
        data_path: Some(temp.path().join("messages")),
        ..BrokerConfig::default()
    };
    let broker = Broker::start(config).unwrap();
    run(&Target { tcp: broker.tcp_addr(), http: broker.http_addr().unwrap(), is_ours: true });
    broker.shutdown();
}

#[test]
fn nsqd_does_what_the_scenarios_say() {
    let nsqd = nsqd_or_skip!();
    run(&Target { tcp: nsqd.tcp, http: nsqd.http, is_ours: false });
}

impl Target {
    fn consumer(&self, topic: &str, rdy: u64) -> Client {
        Client::consumer(self.tcp, topic, "c", rdy)
    }

    fn post(&self, target: &str) {
        let (status, _, body) = broker_support::http(self.http, "POST", target, b"");
        assert_eq!((status, body.as_str()), (200, ""), "{target}");
    }

    fn stats(&self, query: &str) -> Value {
        let (status, _, body) =
            broker_support::http(self.http, "GET", &format!("/stats?format=json{query}"), b"");
        assert_eq!(status, 200);
        serde_json::from_str(&body).unwrap()
    }

    fn topic(&self, topic: &str) -> Value {
        self.stats(&format!("&topic={topic}"))["topics"][0].take()
    }

    fn channel(&self, topic: &str) -> Value {
        self.topic(topic)["channels"][0].take()
    }

    /// Waits until `key` of the topic's first channel is `want`: a command without an answer takes a moment.
    #[track_caller]
    fn channel_becomes(&self, topic: &str, key: &str, want: u64) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let found = self.channel(topic)[key].clone();
            if found == want {
                return;
            }
            assert!(Instant::now() < deadline, "{key} of {topic} is {found}, not {want}");
        }
    }
}
