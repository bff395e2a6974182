//! What must be exact whatever dies, each with real processes: here processors and what they are given, beside it their
//! ledger and the producers' outboxes. Kills without number and order are in tests/chaos.

mod ledger;
mod outbox;

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use uuid::Uuid;

use crate::nsqd::{self, Nsqd};
use crate::support::{
    self, Broker, Running, assert_exit, command, get, json, on_both_brokers, output, post, publish,
    publish_of, total, wait_until,
};

/// The arguments of a processor on `broker`, with its ledger in `ledger`. nsqd gives out again what a dead consumer
/// held when the message timeout is over, not before.
fn process(broker: &Broker, url: &str) -> Vec<String> {
    let tcp = broker.tcp();
    let line = format!(
        "process --nsqd-tcp-address {tcp} --dashboard-url {url} --data-dir ledger --json \
         --consumer-opt msg_timeout,1s --update-interval 100ms"
    );
    line.split(' ').map(String::from).collect()
}

fn with(args: &[String], more: &[&str]) -> Vec<String> {
    args.iter().cloned().chain(more.iter().map(ToString::to_string)).collect()
}

fn start(dir: &Path, args: &[String]) -> Running {
    Running::start(dir, &args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// That the ledger holds plays `0..plays` of the producer, each once.
#[track_caller]
fn assert_exact(dir: &Path, producer: Uuid, plays: u64) {
    let ledger = playcounts::ledger::read(&dir.join("ledger")).unwrap().expect("there is a ledger");
    assert_eq!(ledger.counters.counted, plays, "{:?}", ledger.counters);
    assert_eq!(ledger.videos.iter().map(|video| video.plays).sum::<u64>(), plays);
    let (_, counted) =
        ledger.producers.iter().find(|(id, _)| *id == producer).expect("it is known");
    assert_eq!((counted.watermark(), counted.runs().count()), (plays, 1));
}

/// Killed at every point of a commit.
#[test]
fn a_processor_that_dies_anywhere_counts_exactly() {
    if !cfg!(debug_assertions) {
        return;
    }
    for point in [
        "worker-after-receive",
        "ledger-before-commit",
        "ledger-in-commit",
        "ledger-after-commit",
        "ledger-mid-fins",
        "ledger-in-checkpoint",
        "ledger-after-checkpoint",
    ] {
        on_both_brokers(|dir, broker| {
            let (_dashboard, url) = support::dashboard(dir);
            let producer = Uuid::new_v4();
            publish(broker, producer, 0..2000);
            let args = with(&process(broker, &url), &["--num-messages", "2000"]);
            let words: Vec<&str> = args.iter().map(String::as_str).collect();
            let dead = command(dir, &words).env("PLAYCOUNTS_FAILPOINT", point).output().unwrap();
            assert_eq!(dead.status.code(), None, "{point}: {dead:?}");
            let again = start(dir, &args).wait();
            assert_exit(&again, 0);
            assert_exact(dir, producer, 2000);
            assert_eq!(total(&url), 2000, "{point}");
        });
    }
}

/// A standby takes over from an owner that is killed.
#[test]
fn a_standby_takes_over_at_once() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let args = process(broker, &url);
        let owner = start(dir, &args);
        let producer = Uuid::new_v4();
        publish(broker, producer, 0..100);
        wait_until("the owner counts", || total(&url) == 100);
        let mut standby = start(dir, &with(&args, &["--standby"]));
        standby.wait_for("standing by: another processor (pid ");
        // One that stands by can be stopped.
        let mut stopped = start(dir, &with(&args, &["--standby"]));
        stopped.wait_for("standing by: ");
        stopped.signal(Signal::TERM);
        let stopped = stopped.wait();
        assert_exit(&stopped, 1);
        assert!(
            String::from_utf8_lossy(&stopped.stderr).contains("nothing was counted"),
            "{stopped:?}"
        );
        owner.signal(Signal::KILL);
        standby.wait_for("the ledger holds 100 plays of 3 videos");
        publish(broker, producer, 0..300);
        wait_until("the standby counts", || total(&url) == 300);
        standby.signal(Signal::TERM);
        let standby = standby.wait();
        assert_exit(&standby, 0);
        let report = json(&standby);
        assert_eq!((&report["counted"], &report["duplicates"]), (&200.into(), &100.into()));
        assert_exact(dir, producer, 300);
    });
}

/// Stopped for longer than the message timeout.
#[test]
fn a_processor_that_was_stopped_for_long_counts_once() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let process = start(dir, &process(broker, &url));
        let producer = Uuid::new_v4();
        publish(broker, producer, 0..100);
        wait_until("plays are counted", || total(&url) == 100);
        process.signal(Signal::STOP);
        publish(broker, producer, 100..5000);
        // Longer than the timeout: what is in flight comes again.
        std::thread::sleep(Duration::from_millis(2500));
        process.signal(Signal::CONT);
        wait_until("all are counted", || {
            playcounts::ledger::read(&dir.join("ledger")).unwrap().unwrap().counters.counted == 5000
        });
        process.signal(Signal::TERM);
        assert_exit(&process.wait(), 0);
        assert_exact(dir, producer, 5000);
    });
}

/// That a new start counts the rest of `plays`, exactly, and health is well again.
#[track_caller]
fn assert_goes_on(dir: &Path, broker: &Broker, url: &str, producer: Uuid, plays: u64) {
    let count = plays.to_string();
    let again = start(dir, &with(&process(broker, url), &["--num-messages", &count])).wait();
    assert_exit(&again, 0);
    assert_exact(dir, producer, plays);
    assert_eq!(total(url), plays);
    assert_eq!(get(&format!("{url}/healthz"))["status"], "ok");
}

/// What is no play is kept as a dead letter, and finished.
#[test]
fn bodies_that_are_no_play_become_dead_letters() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let video = Uuid::new_v4();
        let deep = "[".repeat(100_000);
        let long = format!(r#"{{"video_id":"{}"}}"#, "x".repeat((1 << 20) - 100));
        let twice = format!(r#"{{"video_id":"{video}","video_id":"{video}"}}"#);
        let float = format!(r#"{{"video_id":"{video}","enqueued_at":1e400}}"#);
        let unknown = format!(r#"{{"video_id":"{video}","enqueued_at":null,"more":{{}}}}"#);
        let bad: [&[u8]; 9] = [
            b"garbage",
            b"{\"video_id\":",
            b"{}",
            twice.as_bytes(),
            deep.as_bytes(),
            b"\xef\xbb\xbf{}",
            b"\0",
            b"{\"video_id\":\"\\ud800\"}",
            long.as_bytes(),
        ];
        let publish = format!("http://{}/pub?topic=plays", broker.http());
        for body in bad.iter().chain(&[unknown.as_bytes(), float.as_bytes()]) {
            ureq::post(&publish).send(*body).unwrap();
        }
        let args = with(&process(broker, &url), &["--num-messages", "11"]);
        let done = start(dir, &args).wait();
        assert_exit(&done, 0);
        let report = json(&done);
        assert_eq!((&report["counted"], &report["rejected"]), (&2.into(), &9.into()));
        let stats = get(&format!("http://{}/stats?format=json&topic=plays", broker.http()));
        let channel = &stats["topics"][0]["channels"][0];
        for counter in ["depth", "in_flight_count", "deferred_count", "requeue_count"] {
            assert_eq!(channel[counter], 0, "{counter} in {channel}");
        }
        let listed = output(dir, &["dead-letters", "--data-dir", "ledger", "--json"]);
        assert_exit(&listed, 0);
        let text = String::from_utf8(listed.stdout).unwrap();
        let letters: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(letters.len(), 9);
        assert!(letters.iter().any(|letter| letter["body"] == "garbage" && letter["size"] == 7));
        assert!(letters.iter().any(|letter| letter["size"] == long.len()
            && letter["body"].as_str().unwrap().len() == 16384));
        let table = output(dir, &["dead-letters", "--data-dir", "ledger"]);
        assert_eq!(String::from_utf8(table.stdout).unwrap().lines().count(), 9);
    });
    let dir = tempfile::tempdir().unwrap();
    let none = output(dir.path(), &["dead-letters"]);
    assert_exit(&none, 1);
    assert!(
        String::from_utf8_lossy(&none.stderr).contains("no processor has kept a ledger"),
        "{none:?}"
    );
}

/// Of two plays with one identity the first counts.
#[test]
fn of_two_videos_with_one_identity_the_first_counts() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let producer = Uuid::new_v4();
    let play = |video: u128, seq| {
        let video = Uuid::from_u128(video);
        format!(r#"{{"video_id":"{video}","producer":"{producer}","seq":{seq}}}"#)
    };
    let plays = [play(1, 0), play(2, 0), play(1, 0), play(2, 1)];
    post(&format!("http://{}/mpub?topic=plays", broker.http()), &plays.join("\n"));
    let done = start(dir, &with(&process(&broker, &url), &["--num-messages", "2"])).wait();
    assert_exit(&done, 0);
    let report = json(&done);
    assert_eq!((&report["counted"], &report["duplicates"]), (&2.into(), &2.into()));
    assert_eq!(report["conflicting_duplicates"], 1);
    assert_eq!(get(&format!("{url}/api/counts/{}", Uuid::from_u128(1)))["plays"], 1);
}

/// Asked to end in the middle of the work; asked twice it does not wait.
#[test]
fn a_signal_in_a_full_batch_leaves_an_exact_ledger() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let args = process(broker, &url);
        let producer = Uuid::new_v4();
        publish(broker, producer, 0..20_000);
        let first = start(dir, &args);
        wait_until("it counts", || total(&url) > 0);
        first.signal(Signal::TERM);
        assert_exit(&first.wait(), 0);
        publish(broker, producer, 20_000..40_000);
        let second = start(dir, &args);
        std::thread::sleep(Duration::from_millis(30));
        second.signal(Signal::TERM);
        second.signal(Signal::TERM);
        let _ = second.wait();
        assert_goes_on(dir, broker, &url, producer, 40_000);
    });
}

/// Every play delivered twice, in another order: counted once.
#[test]
fn plays_that_all_come_twice_count_once() {
    use rand::seq::SliceRandom;
    let plays = 50_000u64;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let producer = Uuid::new_v4();
    let mut bodies: Vec<String> = (0..plays)
        .map(|seq| {
            let video = Uuid::from_u128(u128::from(seq % 97));
            format!(r#"{{"video_id":"{video}","producer":"{producer}","seq":{seq}}}"#)
        })
        .collect();
    let mut send = || {
        bodies.shuffle(&mut rand::rng());
        for lines in bodies.chunks(1000) {
            post(&format!("http://{}/mpub?topic=plays", broker.http()), &lines.join("\n"));
        }
    };
    send();
    send();
    let process = start(dir, &process(&broker, &url));
    wait_until("all messages are finished", || {
        let stats = get(&format!("http://{}/stats?format=json&topic=plays", broker.http()));
        let channel = &stats["topics"][0]["channels"][0];
        channel["message_count"] == 2 * plays
            && channel["depth"] == 0
            && channel["in_flight_count"] == 0
    });
    process.signal(Signal::TERM);
    let process = process.wait();
    assert_exit(&process, 0);
    let report = json(&process);
    assert_eq!((&report["counted"], &report["duplicates"]), (&plays.into(), &plays.into()));
    assert_exact(dir, producer, plays);
}

/// What was published is remembered; a dashboard that has forgotten is told everything again.
#[test]
fn a_restart_publishes_only_what_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (dashboard, url) = support::dashboard(dir);
    let producer = Uuid::new_v4();
    let args = process(&broker, &url);
    let run = |plays: u64| {
        let count = plays.to_string();
        let done = start(dir, &with(&args, &["--num-messages", &count])).wait();
        assert_exit(&done, 0);
        json(&done)["published_messages"].as_u64().unwrap()
    };
    publish(&broker, producer, 0..300);
    assert!(run(300) > 0);
    assert_eq!(run(300), 0);
    publish(&broker, producer, 300..301);
    assert_eq!((run(301), total(&url)), (1, 301));
    ureq::delete(format!("{url}/api/counts")).call().unwrap();
    assert_eq!(total(&url), 0);
    assert_eq!((run(301), total(&url)), (1, 301));
    // So is one whose file is gone.
    drop(dashboard);
    std::fs::remove_dir_all(dir.join("playcounts-data")).unwrap();
    let (_dashboard, url) = support::dashboard(dir);
    let args = with(&process(&broker, &url), &["--num-messages", "301"]);
    assert_exit(&start(dir, &args).wait(), 0);
    assert_eq!(total(&url), 301);
}

/// A producer must not wait for the counts of many videos to be published before it hears that its plays are counted:
/// it would publish them again meanwhile.
#[test]
fn plays_are_confirmed_while_counts_are_published() {
    const PLAYS: u64 = 40_000;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let producer = Uuid::new_v4();
    publish_of(PLAYS, &broker, producer, 0..PLAYS);
    let _process = start(dir, &process(&broker, &url));
    let mut shown = 0;
    wait_until("all is confirmed", || {
        let confirmed = get(&format!("{url}/api/confirmed?producer={producer}"));
        // Asked behind it: it was not more when all was confirmed.
        shown = total(&url);
        confirmed["watermark"] == PLAYS
    });
    assert!(shown < PLAYS, "all counts were published first");
    wait_until("all is published", || total(&url) == PLAYS);
}

/// Killed between a commit and its FINs, and nsqd comes back on another port with its disk: its messages, which it has under
/// the same IDs and timestamps, are not counted again, although nothing in their bodies says who they are.
#[test]
fn plays_without_identity_are_known_at_an_nsqd_that_has_moved() {
    const PLAYS: u64 = 3000;
    let Some(program) = nsqd::find() else { return };
    if !cfg!(debug_assertions) {
        return;
    }
    let mut broker = Broker::Real(Nsqd::start(&program, &[]));
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (_dashboard, url) = support::dashboard(dir);
    let plays: Vec<_> = (0..PLAYS)
        .map(|n| format!(r#"{{"video_id":"{}"}}"#, Uuid::from_u128(u128::from(n % 3))))
        .collect();
    for lines in plays.chunks(500) {
        post(&format!("http://{}/mpub?topic=plays", broker.http()), &lines.join("\n"));
    }
    let counted = || {
        let ledger = playcounts::ledger::read(&dir.join("ledger")).unwrap();
        ledger.map(|ledger| ledger.counters)
    };
    let mut known = 0;
    for point in ["ledger-after-commit", "ledger-mid-fins:2"] {
        let args = process(&broker, &url);
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        let dead = command(dir, &words).env("PLAYCOUNTS_FAILPOINT", point).output().unwrap();
        assert_eq!(dead.status.code(), None, "{point}: {dead:?}");
        let now = counted().unwrap().counted;
        assert!(now > known && now < PLAYS, "{point}: {now} of {PLAYS} are counted");
        known = now;
        let Broker::Real(mut nsqd) = broker else { unreachable!("it is a real one") };
        // In order, as a pod ends: what was in flight goes to its disk.
        nsqd.terminate();
        let moved = nsqd.restart_elsewhere();
        assert_ne!(moved.tcp, nsqd.tcp);
        broker = Broker::Real(moved);
    }
    let count = PLAYS.to_string();
    let last = start(dir, &with(&process(&broker, &url), &["--num-messages", &count])).wait();
    assert_exit(&last, 0);
    let counters = counted().unwrap();
    assert_eq!((counters.counted, counters.by_message), (PLAYS, PLAYS), "{counters:?}");
    assert!(json(&last)["duplicates"].as_u64() > Some(0), "none came again: {last:?}");
    assert_eq!(total(&url), PLAYS);
}
