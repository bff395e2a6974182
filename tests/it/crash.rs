//! What must be exact whatever dies: the points 34 to 42 of the failure analysis, each with real processes.
//! Kills without number and order are in tests/chaos.

use std::path::Path;
use std::time::Duration;

use playcounts::ledger;
use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;
use uuid::Uuid;

use crate::disk::{SmallDisk, limit_files};
use crate::support::{
    self, Broker, Running, assert_exit, command, get, json, on_both_brokers, output, post,
    wait_until,
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

/// Puts plays of one new producer on the queue, `seqs` of three videos.
fn publish(broker: &Broker, producer: Uuid, seqs: std::ops::Range<u64>) {
    publish_of(3, broker, producer, seqs);
}

/// The same of so many videos.
fn publish_of(videos: u64, broker: &Broker, producer: Uuid, seqs: std::ops::Range<u64>) {
    let play = |seq: u64| {
        let video = Uuid::from_u128(u128::from(seq % videos));
        format!(r#"{{"video_id":"{video}","producer":"{producer}","seq":{seq}}}"#)
    };
    let plays: Vec<String> = seqs.map(play).collect();
    for lines in plays.chunks(500) {
        post(&format!("http://{}/mpub?topic=plays", broker.http()), &lines.join("\n"));
    }
}

/// That the ledger holds plays `0..plays` of the producer, each once.
#[track_caller]
fn assert_exact(dir: &Path, producer: Uuid, plays: u64) {
    let ledger = ledger::read(&dir.join("ledger")).unwrap().expect("there is a ledger");
    assert_eq!(ledger.counters.counted, plays, "{:?}", ledger.counters);
    assert_eq!(ledger.videos.iter().map(|video| video.plays).sum::<u64>(), plays);
    let (_, counted) =
        ledger.producers.iter().find(|(id, _)| *id == producer).expect("it is known");
    assert_eq!((counted.watermark(), counted.runs().count()), (plays, 1));
}

fn total(url: &str) -> u64 {
    get(&format!("{url}/api/counts?limit=1"))["total_plays"].as_u64().unwrap_or(0)
}

/// 34: killed at every point of a commit.
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

/// 35: a standby takes over from an owner that is killed.
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

/// 36: stopped for longer than the message timeout.
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
            ledger::read(&dir.join("ledger")).unwrap().unwrap().counters.counted == 5000
        });
        process.signal(Signal::TERM);
        assert_exit(&process.wait(), 0);
        assert_exact(dir, producer, 5000);
    });
}

/// 37: another connection holds the ledger's write lock.
#[test]
fn a_busy_ledger_is_waited_for_and_then_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let args = process(&broker, &url);
    let first = start(dir, &args);
    let producer = Uuid::new_v4();
    publish(&broker, producer, 0..100);
    wait_until("plays are counted", || total(&url) == 100);
    let other = Connection::open(dir.join("ledger/ledger.sqlite3")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    publish(&broker, producer, 100..200);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(total(&url), 100, "nothing is shown that is not committed");
    other.execute_batch("ROLLBACK").unwrap();
    wait_until("it goes on", || total(&url) == 200);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    publish(&broker, producer, 200..300);
    let first = first.wait();
    assert_exit(&first, 1);
    let error = String::from_utf8_lossy(&first.stderr).into_owned();
    assert!(error.contains("the ledger cannot be written: database is locked"), "{error}");
    assert!(error.contains("what was not counted went back to nsqd"), "{error}");
    assert_red(&url, "database is locked");
    other.execute_batch("ROLLBACK").unwrap();
    assert_goes_on(dir, &broker, &url, producer, 300);
}

/// That the dashboard's health tells why the processor has stopped.
#[track_caller]
fn assert_red(url: &str, reason: &str) {
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder().http_status_as_error(false).build(),
    );
    let mut health = agent.get(format!("{url}/healthz")).call().unwrap();
    let text = health.body_mut().read_to_string().unwrap();
    assert_eq!(health.status().as_u16(), 503, "{text}");
    assert!(text.contains("a processor has stopped counting") && text.contains(reason), "{text}");
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

/// 38: the disk takes no more: the file may not grow (EFBIG), as with a quota.
#[test]
fn a_ledger_that_cannot_grow_ends_the_processor_and_loses_nothing() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let args = process(broker, &url);
        // A first run without the limit, so that it is hit by a commit and not by the making of the file.
        let producer = Uuid::new_v4();
        publish(broker, producer, 0..10);
        assert_exit(&start(dir, &with(&args, &["--num-messages", "10"])).wait(), 0);
        let mut limited = std::process::Command::new("bash");
        limited.args(["-c", &format!(r#"{} exec "$0" "$@""#, limit_files(128))]);
        limited.arg(env!("CARGO_BIN_EXE_playcounts")).args(&args).current_dir(dir);
        limited.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
        let mut child = limited.spawn().unwrap();
        let mut seq = 10;
        while child.try_wait().unwrap().is_none() {
            assert!(seq < 100_000, "it never ends");
            publish(broker, producer, seq..seq + 10);
            seq += 10;
            std::thread::sleep(Duration::from_millis(2));
        }
        let limited = child.wait_with_output().unwrap();
        assert_exit(&limited, 1);
        let error = String::from_utf8_lossy(&limited.stderr).into_owned();
        assert!(error.contains("the ledger cannot be written: "), "{error}");
        assert_red(&url, "the ledger cannot be written");
        assert_goes_on(dir, broker, &url, producer, seq);
    });
}

/// 38: a full disk, where a small one may be mounted.
#[test]
fn a_full_disk_ends_the_processor_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir(dir.join("ledger")).unwrap();
    let Some(disk) = SmallDisk::mount(&dir.join("ledger"), "400k") else { return };
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let producer = Uuid::new_v4();
    let mut full = start(dir, &process(&broker, &url));
    let mut seq = 0;
    while !full.has_ended() {
        assert!(seq < 100_000, "it never ends");
        publish(&broker, producer, seq..seq + 10);
        seq += 10;
        std::thread::sleep(Duration::from_millis(2));
    }
    let full = full.wait();
    assert_exit(&full, 1);
    let error = String::from_utf8_lossy(&full.stderr).into_owned();
    assert!(error.contains("the ledger cannot be written: database or disk is full"), "{error}");
    assert_red(&url, "disk is full");
    disk.resize("10m");
    assert_goes_on(dir, &broker, &url, producer, seq);
}

/// 38 and 41: a ledger that is damaged, of another version or from elsewhere is refused, never taken for empty.
#[test]
fn a_ledger_that_cannot_be_trusted_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let producer = Uuid::new_v4();
    publish(&broker, producer, 0..50);
    let args = with(&process(&broker, &url), &["--num-messages", "50"]);
    assert_exit(&start(dir, &args).wait(), 0);
    let file = dir.join("ledger/ledger.sqlite3");
    let good = std::fs::read(&file).unwrap();
    let mut damaged = good.clone();
    damaged[4096..].iter_mut().step_by(7).for_each(|byte| *byte ^= 0x55);
    let sql = |sql: &str| {
        std::fs::write(&file, &good).unwrap();
        Connection::open(&file).unwrap().execute_batch(sql).unwrap();
        std::fs::read(&file).unwrap()
    };
    let newer = sql("PRAGMA user_version = 99");
    let older = sql("PRAGMA user_version = 0");
    let elsewhere = sql("UPDATE ledger SET machine = 'another'");
    let wrong = sql("UPDATE videos SET plays = plays + 1 WHERE number = 0");
    for (bytes, reason) in [
        (&damaged[..], "bring back a backup"),
        (
            b"this is no database, but it is long enough to be read as if it were one",
            "bring back a backup",
        ),
        (&newer, "of a newer playcounts"),
        (&older, "somebody else's database"),
        (&elsewhere, "--adopt-ledger"),
        (&wrong, "bring back a backup"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let refused = start(dir, &args).wait();
        assert_exit(&refused, 1);
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(error.contains("ledger.sqlite3") && error.contains(reason), "{reason}: {error}");
    }
    std::fs::write(&file, &good).unwrap();
    assert_goes_on(dir, &broker, &url, producer, 50);
}

/// 39: what is no play is kept as a dead letter, and finished.
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
        let bad: [&[u8]; 10] = [
            b"garbage",
            b"{\"video_id\":",
            b"{}",
            twice.as_bytes(),
            float.as_bytes(),
            deep.as_bytes(),
            b"\xef\xbb\xbf{}",
            b"\0",
            b"{\"video_id\":\"\\ud800\"}",
            long.as_bytes(),
        ];
        let publish = format!("http://{}/pub?topic=plays", broker.http());
        for body in bad.iter().chain([&unknown.as_bytes()]) {
            ureq::post(&publish).send(*body).unwrap();
        }
        let args = with(&process(broker, &url), &["--num-messages", "11"]);
        let done = start(dir, &args).wait();
        assert_exit(&done, 0);
        let report = json(&done);
        assert_eq!((&report["counted"], &report["rejected"]), (&1.into(), &10.into()));
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
        assert_eq!(letters.len(), 10);
        assert!(letters.iter().any(|letter| letter["body"] == "garbage" && letter["size"] == 7));
        assert!(letters.iter().any(|letter| letter["size"] == long.len()
            && letter["body"].as_str().unwrap().len() == 16384));
        let table = output(dir, &["dead-letters", "--data-dir", "ledger"]);
        assert_eq!(String::from_utf8(table.stdout).unwrap().lines().count(), 10);
    });
    let dir = tempfile::tempdir().unwrap();
    let none = output(dir.path(), &["dead-letters"]);
    assert_exit(&none, 1);
    assert!(
        String::from_utf8_lossy(&none.stderr).contains("no processor has kept a ledger"),
        "{none:?}"
    );
}

/// 40: of two plays with one identity the first counts.
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

/// 42: asked to end in the middle of the work; asked twice it does not wait.
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

/// A producer that is killed goes on where it was: no play more, none less.
#[test]
fn a_killed_producer_goes_on_where_it_was() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let process = start(dir, &process(broker, &url));
        let tcp = broker.tcp();
        let produce = [
            "produce",
            "--num-messages",
            "4000",
            "--num-videos",
            "7",
            "--rate",
            "10000",
            "--data-dir",
            "outbox",
            "--nsqd-tcp-address",
            &tcp,
            "--dashboard-url",
            &url,
            "--json",
        ];
        if cfg!(debug_assertions) {
            let dead = command(dir, &produce)
                .env("PLAYCOUNTS_FAILPOINT", "outbox-after-write:30")
                .output();
            assert_eq!(dead.unwrap().status.code(), None);
        }
        let killed = Running::start(dir, &produce);
        wait_until("some plays are counted", || total(&url) > 500);
        killed.signal(Signal::KILL);
        drop(killed);
        let other = output(dir, &produce.map(|word| if word == "7" { "8" } else { word }));
        assert_exit(&other, 1);
        let error = String::from_utf8_lossy(&other.stderr).into_owned();
        assert!(error.contains("the outbox of another run: 4000 plays of 7 videos"), "{error}");
        let done = output(dir, &produce);
        assert_exit(&done, 0);
        let report = json(&done);
        assert_eq!((&report["messages"], &report["confirmed"]), (&4000.into(), &true.into()));
        // Again: there is nothing left to do.
        let again = output(dir, &produce);
        assert_exit(&again, 0);
        assert_eq!(json(&again)["republished"], 0);
        wait_until("the dashboard shows all", || total(&url) == 4000);
        process.signal(Signal::TERM);
        assert_exit(&process.wait(), 0);
        let attempted = playcounts::producer::read_outbox(&dir.join("outbox")).unwrap().unwrap();
        let ledger = ledger::read(&dir.join("ledger")).unwrap().unwrap();
        let check = ledger::IntegrityCheck::new(&ledger, std::slice::from_ref(&attempted));
        assert!(check.is_exact() && check.counted == 4000, "{check}");
        let produced = std::fs::read_to_string(dir.join("outbox/produced.csv")).unwrap();
        let plays = produced
            .lines()
            .skip(1)
            .map(|line| line.split(',').nth(1).unwrap().parse::<u64>().unwrap());
        assert_eq!(plays.sum::<u64>(), 4000);
    });
}

/// A full outbox holds its producer up until a processor counts; nothing is lost for it.
#[test]
fn a_full_outbox_slows_its_producer_down() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let tcp = broker.tcp();
    let mut produce = Running::start(
        dir,
        &[
            "produce",
            "--num-messages",
            "3000",
            "--max-outbox",
            "1000",
            "--data-dir",
            "outbox",
            "--nsqd-tcp-address",
            &tcp,
            "--dashboard-url",
            &url,
            "--json",
        ],
    );
    produce.wait_for("the outbox is full with 1000 plays");
    let attempted =
        || playcounts::producer::read_outbox(&dir.join("outbox")).unwrap().unwrap().plays;
    assert_eq!(attempted(), 1000);
    let process = start(dir, &process(&broker, &url));
    produce.wait_for("the outbox has room again");
    let produce = produce.wait();
    assert_exit(&produce, 0);
    assert_eq!((&json(&produce)["messages"], attempted()), (&3000.into(), 3000));
    process.signal(Signal::TERM);
    let process = process.wait();
    assert_exit(&process, 0);
    assert_eq!(json(&process)["counted"], 3000);
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

/// A producer's outbox that is older than what it has published would use numbers twice: it is refused. One that is
/// whole waits for a broker that is away.
#[test]
fn an_outbox_that_was_set_back_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let process = start(dir, &process(&broker, &url));
    let tcp = broker.tcp();
    let line = format!(
        "produce --num-messages 3000 --rate 3000 --data-dir outbox --nsqd-tcp-address {tcp} --dashboard-url {url}"
    );
    let words: Vec<&str> = line.split(' ').collect();
    let first = Running::start(dir, &words);
    wait_until("some plays are counted", || total(&url) > 300);
    first.signal(Signal::KILL);
    drop(first);
    let old = dir.join("old");
    std::fs::create_dir(&old).unwrap();
    for file in std::fs::read_dir(dir.join("outbox")).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), old.join(file.file_name())).unwrap();
    }
    assert_exit(&output(dir, &words), 0);
    let set_back = line.replace("--data-dir outbox", "--data-dir old");
    let refused = output(dir, &set_back.split(' ').collect::<Vec<_>>());
    assert_exit(&refused, 1);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("3000 plays are counted, and it knows of"), "{error}");
    // No broker: it waits until there is one, or until it is told to stop.
    drop((process, broker));
    let other = line.replace("outbox", "other");
    let mut waits = Running::start(dir, &other.split(' ').collect::<Vec<_>>());
    waits.wait_for("trying again");
    waits.signal(Signal::TERM);
    let waits = waits.wait();
    assert_exit(&waits, 1);
    assert!(
        String::from_utf8_lossy(&waits.stderr).contains("the same command goes on"),
        "{waits:?}"
    );
}
