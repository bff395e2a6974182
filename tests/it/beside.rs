//! Processors beside each other, and starts that wait: two ledgers on one channel, one ledger twice, an nsqd that is away.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use uuid::Uuid;

use crate::broker_support::Client;
use crate::nsqd::{self, Nsqd};
use crate::support::{
    self, Broker, Running, assert_exit, get, health, json, on_both_brokers, output, post, total,
    wait_until,
};

/// What a start waits for is said in a line that ends so.
const WAITS: &str = "; trying again";

/// A dashboard that watches the broker.
fn watching(dir: &Path, broker: &Broker) -> (Running, String) {
    let http = broker.http();
    let args = ["dashboard", "--http-address", "127.0.0.1:0", "--nsqd-http-address", &http];
    let mut process = Running::start(dir, &args);
    let url = process.wait_for("live at ");
    (process, url)
}

/// A processor on the data directory of that name, which finds nsqd's HTTP API.
fn process(dir: &Path, broker: &Broker, url: &str, data: &str, more: &[&str]) -> Running {
    process_at(dir, &[&broker.tcp(), &broker.http()], url, data, more)
}

fn process_at(dir: &Path, nsqd: &[&str; 2], url: &str, data: &str, more: &[&str]) -> Running {
    let [tcp, http] = nsqd;
    let args = ["process", "--nsqd-tcp-address", tcp, "--nsqd-http-address", http];
    let more = [&["--dashboard-url", url, "--data-dir", data, "--json"], more].concat();
    Running::start(dir, &[&args[..], &more].concat())
}

/// The code of the diagnosis' first line.
fn first_finding(url: &str) -> String {
    get(&format!("{url}/api/diagnosis"))["findings"][0]["code"].as_str().unwrap().to_owned()
}

fn publish(http: &str, seqs: std::ops::Range<u64>) {
    let producer = Uuid::from_u128(5);
    let play = |seq| format!(r#"{{"video_id":"{producer}","producer":"{producer}","seq":{seq}}}"#);
    let plays: Vec<_> = seqs.map(play).collect();
    post(&format!("http://{http}/mpub?topic=plays"), &plays.join("\n"));
}

/// The user agents of the channel's consumers.
fn consumers(broker: &Broker) -> Vec<String> {
    let stats = get(&format!("http://{}/stats?format=json&topic=plays", broker.http()));
    let clients = stats["topics"][0]["channels"][0]["clients"].as_array().cloned();
    let agent = |client: Value| client["user_agent"].as_str().unwrap().to_owned();
    clients.unwrap_or_default().into_iter().map(agent).collect()
}

#[test]
fn a_second_ledger_is_refused_and_beside_the_first_all_is_red() {
    on_both_brokers(|dir, broker| {
        // It watches no nsqd: it must see it by what the processors report.
        let (_dashboard, url) = support::dashboard(dir);
        let first = process(dir, broker, &url, "first", &[]);
        wait_until("the first is there", || consumers(broker).len() == 1);
        let agent = consumers(broker).pop().unwrap();
        assert!(agent.starts_with("playcounts/") && agent.contains("; ledger "), "{agent}");
        let refused = process(dir, broker, &url, "second", &[]).wait();
        assert_exit(&refused, 1);
        let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
        for part in ["another processor reads this channel, from 127.0.0.1:", "--beside-others"] {
            assert!(reason.contains(part), "{reason}");
        }
        assert_eq!(health(&url).0, 200);
        // Where it cannot look it says so, and starts.
        let nowhere = [&*broker.tcp(), "127.0.0.1:1"];
        let mut second = process_at(dir, &nowhere, &url, "second", &[]);
        second.wait_for("cannot look whether another processor reads this channel");
        wait_until("it is seen", || health(&url).0 == 503);
        let reason = health(&url).1;
        assert!(reason.contains("different ledgers") && reason.contains("Stop one"), "{reason}");
        assert_eq!(first_finding(&url), "two-ledgers");
        second.signal(Signal::TERM);
        assert_exit(&second.wait(), 0);
        wait_until("it is over", || health(&url).0 == 200);
        // The same ledger is no other, and a stranger is a warning.
        let address = broker.tcp().parse().unwrap();
        let _foreign = Client::consumer(address, "plays", "processor", 1);
        first.signal(Signal::KILL);
        first.wait();
        let mut again = process(dir, broker, &url, "first", &[]);
        again.wait_for("are not processors of this version");
        let (_watching, url) = watching(&dir.join("first"), broker);
        wait_until("it is found", || first_finding(&url) == "no-processor");
        wait_until("the stranger, too", || {
            get(&format!("{url}/api/diagnosis")).to_string().contains("foreign-consumer")
        });
    });
}

#[test]
fn of_two_ledgers_that_come_at_one_time_one_stays() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let mut both = ["first", "second"].map(|data| process(dir, broker, &url, data, &[]));
        wait_until("one has ended", || both.iter_mut().any(Running::has_ended));
        let [mut one, mut other] = both;
        let ended = if one.has_ended() { one } else { std::mem::replace(&mut other, one) };
        let ended = ended.wait();
        assert_exit(&ended, 1);
        let reason = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(reason.contains("another processor reads this channel"), "{reason}");
        // Its time to look again is over once it counts what comes 4 s later.
        std::thread::sleep(std::time::Duration::from_secs(4));
        publish(&broker.http(), 0..10);
        wait_until("the other one counts", || total(&url) == 10);
        assert!(!other.has_ended());
        assert_eq!(health(&url).0, 200);
    });
}

#[test]
fn beside_others_the_producer_ends_and_nothing_is_published_again() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = watching(dir, broker);
        let beside = ["--beside-others", "--max-in-flight=50"];
        let both = ["first", "second"].map(|data| process(dir, broker, &url, data, &beside));
        wait_until("both are there", || consumers(broker).len() == 2);
        let tcp = broker.tcp();
        let produce = ["produce", "--nsqd-tcp-address", &tcp, "--dashboard-url", &url, "--json"];
        let kept = ["--data-dir=outbox", "--num-messages=10000", "--republish-after=40s"];
        let produced = output(dir, &[&produce[..], &kept].concat());
        assert_exit(&produced, 0);
        let report = json(&produced);
        assert_eq!((&report["confirmed"], &report["republished"]), (&true.into(), &0.into()));
        wait_until("all is shown", || total(&url) == 10_000);
        assert_eq!((health(&url).0, &*first_finding(&url)), (503, "two-ledgers"));
        for processor in both {
            processor.signal(Signal::TERM);
            let processor = processor.wait();
            assert_exit(&processor, 0);
            assert!(json(&processor)["counted"].as_u64() > Some(100), "both have a part of it");
        }
    });
}

#[test]
fn a_cloned_data_directory_turns_red() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, broker) = (dir.path(), Broker::ours(dir.path()));
    let (_dashboard, url) = support::dashboard(dir);
    let first = process(dir, &broker, &url, "first", &[]);
    publish(&broker.http(), 0..10);
    wait_until("it counts", || total(&url) == 10);
    first.signal(Signal::TERM);
    assert_exit(&first.wait(), 0);
    let copied = Command::new("cp").args(["-a", "first", "clone"]).current_dir(dir).status();
    assert!(copied.unwrap().success());
    let one = process(dir, &broker, &url, "first", &[]);
    let clone = process(dir, &broker, &url, "clone", &[]);
    wait_until("it is seen", || health(&url).0 == 503);
    let reason = health(&url).1;
    for part in ["Two processes report as processor ", "from 127.0.0.1 ", "was copied", "Stop one"]
    {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(first_finding(&url), "cloned-processor");
    clone.signal(Signal::TERM);
    assert_exit(&clone.wait(), 0);
    wait_until("it is over", || health(&url).0 == 200);
    drop(one);
}

/// Kills owner and nsqd together, and lets nsqd come back at its place.
fn check_standby(dir: &Path, nsqd: &[&str; 2], restart: impl FnOnce() -> Box<dyn std::any::Any>) {
    let (_dashboard, url) = support::dashboard(dir);
    let owner = process_at(dir, nsqd, &url, "data", &["--standby"]);
    publish(nsqd[1], 0..10);
    wait_until("the owner counts", || total(&url) == 10);
    let mut standby = process_at(dir, nsqd, &url, "data", &["--standby"]);
    standby.wait_for("standing by");
    owner.signal(Signal::KILL);
    let _back = {
        let back = restart();
        owner.wait();
        back
    };
    publish(nsqd[1], 0..30);
    wait_until("the standby counts", || total(&url) == 30);
    standby.wait_for("process: takes over: ");
    standby.signal(Signal::TERM);
    assert_exit(&standby.wait(), 0);
}

#[test]
fn a_standby_takes_over_although_nsqd_died_with_the_owner() {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let (tcp, http) = (free(), free());
    let start = || {
        let args = ["broker", "--tcp-address", &tcp, "--http-address", &http];
        let mut broker = Running::start(dir.path(), &args);
        broker.wait_for("HTTP: listening on ");
        broker
    };
    let broker = start();
    check_standby(dir.path(), &[&tcp, &http], || {
        drop(broker);
        std::thread::sleep(std::time::Duration::from_secs(1));
        Box::new(start())
    });
    let Some(program) = nsqd::find() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut real = Nsqd::start(&program, &[]);
    let (tcp, http) = (real.addr(), real.http_addr());
    check_standby(dir.path(), &[&tcp, &http], || {
        real.kill();
        std::thread::sleep(std::time::Duration::from_secs(1));
        Box::new(real.restart())
    });
}

#[test]
fn a_start_waits_for_what_is_away_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (_dashboard, url) = support::dashboard(dir);
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let nsqds = ["--nsqd-tcp-address", &unused, "--nsqd-tcp-address", "no-such-host.invalid:4150"];
    let lookupd = ["--lookupd-http-address", &unused];
    for where_from in [&nsqds[..], &lookupd] {
        let args =
            [&["process", "--dashboard-url", &url, "--data-dir=ledger"], where_from].concat();
        let mut process = Running::start(dir, &args);
        process.wait_for(WAITS);
        wait_until("the dashboard says so", || health(&url).1.contains(" waits: "));
        let (status, body) = health(&url);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["status"]), (200, &"ok".into()));
        assert_eq!(first_finding(&url), "processor-waits");
        let asked = get(&format!("{url}/api/confirmed?producer={}", Uuid::nil()));
        assert_eq!(asked["processors"], 0, "it counts nothing");
        process.signal(Signal::TERM);
        let ended = process.wait();
        assert_exit(&ended, 1);
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(stderr.matches(WAITS).count() < 4, "not at each try: {stderr}");
        let mut produce =
            Running::start(dir, &[&["produce", "--num-messages=1"], where_from].concat());
        produce.wait_for(WAITS);
        produce.signal(Signal::TERM);
        assert_exit(&produce.wait(), 1);
    }
    // What no waiting mends ends a start.
    let broker = Broker::ours(dir);
    let tcp = broker.tcp();
    for (refused, option, reason) in [
        ("process", "--consumer-opt=tls_v1", "offers no TLS"),
        ("produce", "--producer-opt=tls_v1", "offers no TLS"),
    ] {
        let ended = output(dir, &[refused, option, "--nsqd-tcp-address", &tcp]);
        assert_exit(&ended, 1);
        assert!(String::from_utf8_lossy(&ended.stderr).contains(reason), "{ended:?}");
    }
}
