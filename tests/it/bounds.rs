//! What has no bound, or a stated one, with real processes: producers without number, plays that somebody else makes under a
//! producer's id, counts that would overflow.

use std::ops::Range;
use std::path::Path;

use playcounts::ledger;
use playcounts::model::video::MAX_PLAYS;
use rustix::process::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    self, Broker, Running, assert_exit, command, get, json, post, total, wait_until,
};

/// Producers in memory, of a build for tests.
const IN_MEMORY: &str = "PLAYCOUNTS_PRODUCERS";

fn process(broker: &Broker, url: &str) -> String {
    let tcp = broker.tcp();
    format!(
        "process --nsqd-tcp-address {tcp} --dashboard-url {url} --data-dir ledger --json \
         --consumer-opt msg_timeout,1s --update-interval 100ms"
    )
}

/// Starts a processor with memory for 50 producers.
fn start_tiny(dir: &Path, line: &str, failpoint: &str) -> Running {
    let words: Vec<&str> = line.split(' ').collect();
    let mut command = command(dir, &words);
    command.env(IN_MEMORY, "50").env("PLAYCOUNTS_FAILPOINT", failpoint);
    Running::spawn(command, line)
}

/// Plays `seqs` of each of so many producers.
fn publish_many(broker: &Broker, producers: Range<u128>, seqs: Range<u64>) {
    let video = Uuid::from_u128(5);
    let plays = producers.flat_map(|producer| {
        let producer = Uuid::from_u128(producer << 64 | 1);
        seqs.clone().map(move |seq| {
            format!(r#"{{"video_id":"{video}","producer":"{producer}","seq":{seq}}}"#)
        })
    });
    let plays: Vec<String> = plays.collect();
    for lines in plays.chunks(500) {
        post(&format!("http://{}/mpub?topic=plays", broker.http()), &lines.join("\n"));
    }
}

fn codes(url: &str) -> Vec<Value> {
    let found = get(&format!("{url}/api/diagnosis"))["findings"].clone();
    found.as_array().unwrap().iter().map(|finding| finding["code"].clone()).collect()
}

/// Killed at each point of a commit and a checkpoint, with 3,000 producers and memory for 50: each play counts once,
/// whatever is published again, and every producer is told.
#[test]
fn any_number_of_producers_counts_exactly_over_kills() {
    if !cfg!(debug_assertions) {
        return;
    }
    for point in ["ledger-after-commit", "ledger-in-checkpoint", "ledger-after-checkpoint:3"] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let broker = Broker::ours(dir);
        let (_dashboard, url) = support::dashboard(dir);
        let line = process(&broker, &url);
        publish_many(&broker, 0..3_000, 0..2);
        let mut dead = start_tiny(dir, &line, point);
        wait_until("it dies", || dead.has_ended());
        drop(dead);
        let again = start_tiny(dir, &line, "");
        wait_until("all are counted", || total(&url) == 6_000);
        // Again, with one more each: long out of memory.
        publish_many(&broker, 0..3_000, 1..3);
        wait_until("one more of each is counted", || total(&url) == 9_000);
        let told = |producer: u128| {
            let id = Uuid::from_u128(producer << 64 | 1);
            get(&format!("{url}/api/confirmed?producer={id}"))["watermark"].as_u64()
        };
        wait_until("each is told", || (0..3_000).step_by(97).all(|id| told(id) == Some(3)));
        again.signal(Signal::TERM);
        let again = again.wait();
        assert_exit(&again, 0);
        let held = ledger::read(&dir.join("ledger")).unwrap().unwrap();
        assert_eq!((held.counters.counted, held.counters.by_message), (9_000, 0), "{point}");
        assert_eq!(held.producers.len(), 3_000);
        assert!(held.producers.iter().all(|(_, set)| set.watermark() == 3));
    }
}

/// Somebody makes a play under the id of a producer: it says so, and all of its own plays are counted all the same.
#[test]
fn plays_that_a_producer_never_made_do_not_end_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let line = process(&broker, &url);
    let process = Running::start(dir, &line.split(' ').collect::<Vec<_>>());
    let tcp = broker.tcp();
    let line = format!(
        "produce --num-messages 20000 --num-videos 7 --rate 2500 --republish-after 2s --data-dir outbox --json \
         --nsqd-tcp-address {tcp} --dashboard-url {url}"
    );
    let words: Vec<&str> = line.split(' ').collect();
    let mut first = Running::start(dir, &words);
    wait_until("some plays are counted", || total(&url) > 500);
    let outbox = || playcounts::producer::read_outbox(&dir.join("outbox")).unwrap().unwrap();
    let id = outbox().producer;
    let stranger = Uuid::from_u128(99);
    for seq in [19_500, 19_502] {
        let play = format!(r#"{{"video_id":"{stranger}","producer":"{id}","seq":{seq}}}"#);
        post(&format!("http://{}/pub?topic=plays", broker.http()), &play);
    }
    first.wait_for("plays are counted that it never made");
    wait_until("the dashboard says so", || codes(&url).contains(&"foreign-plays".into()));
    first.wait_for(&format!("producer {id} goes on as "));
    // The id that it has now outlives it, and nobody takes its outbox for an older one.
    first.signal(Signal::KILL);
    drop(first);
    let done = Running::start(dir, &words).wait();
    assert_exit(&done, 0);
    assert_eq!(json(&done)["confirmed"], true, "{done:?}");
    let attempted = outbox();
    assert_eq!((attempted.producer, attempted.plays), (id, 20_000));
    assert!(!attempted.later.is_empty());
    wait_until("the dashboard shows all", || total(&url) == 20_002);
    process.signal(Signal::TERM);
    assert_exit(&process.wait(), 0);
    let held = ledger::read(&dir.join("ledger")).unwrap().unwrap();
    let check = ledger::IntegrityCheck::new(&held, std::slice::from_ref(&attempted));
    assert_eq!((check.lost, check.phantom, check.counted), (0, 2, 20_002), "{check}");
}

/// Counts that would overflow when they are told; nothing is broken by them.
#[test]
fn counts_that_would_overflow_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (dashboard, url) = support::dashboard(dir);
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder().http_status_as_error(false).build(),
    );
    let tell = |processor: u128, video: u128, plays: u64| {
        let counts =
            json!([{"video_id": Uuid::from_u128(video), "plays": plays, "last_played_at": 1}]);
        let body = json!({"processor": Uuid::from_u128(processor), "version": 1, "counts": counts});
        let mut answer = agent.post(format!("{url}/api/counts")).send(body.to_string()).unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    };
    assert_eq!(tell(1, 1, MAX_PLAYS).0, 200);
    for (processor, video) in [(2, 1), (2, 2), (1, 2)] {
        let (status, reason) = tell(processor, video, MAX_PLAYS);
        assert!(status == 409 && reason.contains("more than 9007199254740991"), "{reason}");
    }
    assert_eq!(total(&url), MAX_PLAYS);
    assert!(codes(&url).contains(&"counts-refused".into()));
    assert_eq!(agent.get(format!("{url}/healthz")).call().unwrap().status().as_u16(), 503);
    // What is there is still heard, and a start finds all of it well.
    assert_eq!(tell(1, 1, 3).0, 200);
    dashboard.signal(Signal::TERM);
    assert_exit(&dashboard.wait(), 0);
    let (_dashboard, url) = support::dashboard(dir);
    assert_eq!(total(&url), MAX_PLAYS);
    assert_eq!(get(&format!("{url}/healthz"))["status"], "ok");
}
