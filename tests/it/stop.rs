//! SIGTERM: each part ends within 10 s, whoever else is away or hangs, and what was in flight is finished: counted once, and
//! not delivered again.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use uuid::Uuid;

use crate::dashboard_support::{ask, update};
use crate::streams::subscribe;
use crate::support::{
    self, Broker, Running, assert_exit, get, json, on_both_brokers, publish_of, total, wait_until,
};
use playcounts::model::video_id::VideoId;

/// What a stop may take.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(10);

/// Messages that are there when a processor is stopped: more than it counts until then.
const BACKLOG: u64 = 60_000;

/// What it holds: the default of `--max-in-flight`.
const HOLDS: u64 = 2_500;

/// Ends a part, which must be done in time.
#[track_caller]
pub(crate) fn stop(part: Running, what: &str) -> Output {
    stop_within(STOP_MAX, part, what)
}

/// Ends a part, which must be done in that time.
#[track_caller]
#[allow(clippy::print_stderr, reason = "how long it took is worth seeing")]
pub(crate) fn stop_within(most: Duration, part: Running, what: &str) -> Output {
    let since = Instant::now();
    part.signal(Signal::TERM);
    let ended = part.wait();
    let took = since.elapsed();
    eprintln!("stopped in {took:.2?}: {what}");
    assert!(took < most, "{what} took {took:?}: {ended:#?}");
    // Not by the signal.
    assert!(ended.status.code().is_some(), "{what}: {ended:#?}");
    ended
}

/// A server that takes connections and never answers.
struct Hung(TcpListener);

impl Hung {
    fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }
}

fn process(dir: &Path, broker: &Broker, url: &str) -> Running {
    let (tcp, http) = (broker.tcp(), broker.http());
    let line = format!(
        "process --nsqd-tcp-address {tcp} --nsqd-http-address {http} --dashboard-url {url} --data-dir ledger --json \
         --update-interval 100ms"
    );
    Running::start(dir, &line.split(' ').collect::<Vec<_>>())
}

/// The channel of the queue.
fn channel(broker: &Broker) -> Value {
    let stats = get(&format!("http://{}/stats?format=json&topic=plays", broker.http()));
    stats["topics"][0]["channels"][0].clone()
}

/// Messages that have left the channel for good.
fn finished(broker: &Broker) -> u64 {
    let channel = channel(broker);
    let number = |name: &str| channel[name].as_u64().unwrap_or(0);
    number("message_count") - number("depth") - number("in_flight_count")
}

/// What is counted is finished and the other way round, and another start counts the rest: each once.
#[track_caller]
fn nothing_is_lost(dir: &Path, broker: &Broker, stopped: &Output) {
    let counted = json(stopped)["counted"].as_u64().unwrap();
    // nsqd still moves the topic's messages to the channel, and its figures are not of one moment until it has.
    wait_until("nsqd has noticed, and moved all", || {
        let channel = channel(broker);
        channel["in_flight_count"] == 0 && channel["message_count"] == BACKLOG
    });
    assert_eq!(finished(broker), counted, "{}", channel(broker));
    assert!(counted > 0 && counted < BACKLOG, "stopped in the middle: {counted}");
    let (_dashboard, url) = support::dashboard(dir);
    let rest = process(dir, broker, &url);
    wait_until("the rest is counted", || total(&url) == BACKLOG);
    let rest = stop(rest, "the processor of the rest");
    assert_exit(&rest, 0);
    assert_eq!(json(&rest)["counted"], BACKLOG - counted);
    assert_eq!(json(&rest)["duplicates"], 0, "nothing was delivered twice");
}

/// A processor with a full queue, 2,500 messages in flight, that is stopped while it counts.
fn stop_under_load(dir: &Path, broker: &Broker, url: &str, what: &str) -> Output {
    publish_of(100, broker, Uuid::new_v4(), 0..BACKLOG);
    let process = process(dir, broker, url);
    wait_until("it counts", || channel(broker)["client_count"] == 1 && finished(broker) > HOLDS);
    stop(process, what)
}

#[test]
fn a_processor_under_load_finishes_what_it_holds() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let stopped = stop_under_load(dir, broker, &url, "a processor under load");
        assert_exit(&stopped, 0);
        drop(_dashboard);
        nothing_is_lost(dir, broker, &stopped);
    });
}

#[test]
fn a_processor_whose_dashboard_is_away_or_hangs_finishes_what_it_holds() {
    on_both_brokers(|dir, broker| {
        let stopped = stop_under_load(dir, broker, "http://127.0.0.1:1", "no dashboard");
        assert_exit(&stopped, 1);
        let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
        assert!(said.contains("not yet published to http://127.0.0.1:1"), "{said}");
        nothing_is_lost(dir, broker, &stopped);
    });
    on_both_brokers(|dir, broker| {
        let hung = Hung::new();
        let stopped = stop_under_load(dir, broker, &hung.url(), "a dashboard that hangs");
        assert_exit(&stopped, 1);
        nothing_is_lost(dir, broker, &stopped);
    });
}

/// What an nsqd that hangs does not hear is delivered again, and known.
#[test]
fn a_processor_whose_nsqd_is_away_or_hangs_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (_dashboard, url) = support::dashboard(dir.path());
    for signal in [Signal::KILL, Signal::STOP] {
        let what = format!("an nsqd that got {signal:?}");
        let (own, broker) = (tempfile::tempdir().unwrap(), Broker::ours(dir.path()));
        publish_of(100, &broker, Uuid::new_v4(), 0..BACKLOG);
        let process = process(own.path(), &broker, &url);
        wait_until("it counts", || finished(&broker) > 0);
        let Broker::Ours { _process: nsqd, .. } = &broker else { unreachable!("it is ours") };
        nsqd.signal(signal);
        assert_exit(&stop(process, &what), 0);
    }
    // Waiting for the first time.
    let own = tempfile::tempdir().unwrap();
    let line = "process --nsqd-tcp-address 127.0.0.1:1 --data-dir ledger";
    let mut waits = Running::start(own.path(), &line.split(' ').collect::<Vec<_>>());
    waits.wait_for("trying again");
    assert_exit(&stop(waits, "a processor that waits for its nsqd"), 1);
}

/// Pages, clients that send half a request, and counts of many videos that no table has yet.
#[test]
fn a_dashboard_under_load_keeps_what_it_has_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (dashboard, url) = support::dashboard(dir.path());
    let address: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
    let _streams: Vec<TcpStream> = (0..50).map(|_| subscribe(address, "")).collect();
    let _halves: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.write_all(b"POST /api/counts HTTP/1.1\r\nContent-Le").unwrap();
            socket
        })
        .collect();
    let plays = 4_000;
    for version in 1..=plays / 20 {
        let video = |n: u64| VideoId::from_u128(u128::from(version * 20 + n));
        let counts: Vec<_> = (1..=20).map(|n| (video(n), 1)).collect();
        let body = update(version, &counts).to_string();
        assert_eq!(ask(address, "POST", "/api/counts", "", body.as_bytes()).status, 200);
    }
    assert_exit(&stop(dashboard, "a dashboard"), 0);
    let (_again, url) = support::dashboard(dir.path());
    assert_eq!(total(&url), plays);
}

#[test]
fn a_broker_under_load_ends() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::ours(dir.path());
    let (_dashboard, url) = support::dashboard(dir.path());
    publish_of(100, &broker, Uuid::new_v4(), 0..BACKLOG);
    let _process = process(dir.path(), &broker, &url);
    let line = format!("produce --num-messages 100000000 --nsqd-tcp-address {}", broker.tcp());
    let _produce = Running::start(dir.path(), &line.split(' ').collect::<Vec<_>>());
    wait_until("plays come and go", || finished(&broker) > BACKLOG);
    let _silent = TcpStream::connect(broker.tcp()).unwrap();
    let Broker::Ours { _process: part, .. } = broker else { unreachable!("it is ours") };
    assert_exit(&stop(part, "a broker"), 0);
}

/// Without an outbox, and with one whose plays nobody counts, while nsqd works, hangs, or is away.
#[test]
fn a_producer_ends() {
    for (outbox, signal) in [
        ("", None),
        (" --data-dir outbox", None),
        ("", Some(Signal::STOP)),
        (" --data-dir outbox", Some(Signal::STOP)),
        (" --data-dir outbox", Some(Signal::KILL)),
    ] {
        let what = format!("a producer{outbox}, its nsqd got {signal:?}");
        let dir = tempfile::tempdir().unwrap();
        let (broker, hung) = (Broker::ours(dir.path()), Hung::new());
        let dashboard = if outbox.is_empty() { String::new() } else { hung.url() };
        let mut line =
            format!("produce --num-messages 100000000 --nsqd-tcp-address {}{outbox}", broker.tcp());
        if !dashboard.is_empty() {
            line.push_str(&format!(" --dashboard-url {dashboard}"));
        }
        let produce = Running::start(dir.path(), &line.split(' ').collect::<Vec<_>>());
        let topic = format!("http://{}/stats?format=json&topic=plays", broker.http());
        wait_until("plays come", || {
            get(&topic)["topics"][0]["message_count"].as_u64().unwrap_or(0) > 10_000
        });
        let Broker::Ours { _process: nsqd, .. } = &broker else { unreachable!("it is ours") };
        signal.into_iter().for_each(|signal| nsqd.signal(signal));
        assert_exit(&stop(produce, &what), 1);
    }
}
