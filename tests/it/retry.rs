//! `dead-letters retry`, as real processes: whatever is killed, each play of a dead letter is counted once, and shown.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nsq_protocol::MessageId;
use playcounts::journal::SyncPolicy;
use playcounts::ledger::{
    Arrivals, DeadLetter, DurableLedger, Ledger, LedgerConfig, MessageBudget, MessageKey, PartOf,
};
use playcounts::model::play::{Play, PlayDecoder};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{
    Broker, Running, assert_exit, command, dashboard, get, json, on_both_brokers, output, post,
    total, wait_until,
};

/// Letters that are looked at.
const LETTERS: u64 = 100_000;

/// Whose plays some of them are.
const PRODUCER: Uuid = Uuid::from_u128(0x5e_4d_e4);

/// A body, as options that have been mended read it: of each ten one is no play, and one a play of the producer.
fn body(letter: u64) -> String {
    let video = Uuid::from_u128(u128::from(letter % 7));
    match letter % 10 {
        0 => format!(r#"{{"id":"{video}"}}"#),
        1 => format!(r#"{{"video_id":"{video}","producer":"{PRODUCER}","seq":{}}}"#, letter / 10),
        _ => format!(r#"{{"video_id":"{video}"}}"#),
    }
}

/// Plays that they have, and letters that stay.
const PLAYS: u64 = LETTERS / 10 * 9;
const STAY: u64 = LETTERS / 10;

fn key(letter: u64) -> MessageKey {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
    // The same at each call of one test, and of this hour or the one before.
    let hour = 3_600_000_000_000;
    MessageKey::new(MessageId::from_u64(letter), now / hour * hour + letter as i64)
}

/// As options that were wrong have rejected it.
fn rejected(letter: u64) -> DeadLetter {
    let body = body(letter).into_bytes();
    let reason = Play::decode(b"{}").unwrap_err();
    let (part_of, nsqd) = (PartOf::Alone, "nsqd:4150".to_owned());
    DeadLetter { nsqd, message: key(letter), part_of, reason, size: body.len(), body }
}

/// Has a ledger keep letters.
fn keep(ledger: &mut dyn Ledger, letters: std::ops::Range<u64>) {
    for first in letters.clone().step_by(10_000) {
        let some = first..letters.end.min(first + 10_000);
        let rejected = some.map(rejected).collect();
        let committed = ledger.commit(&mut [Arrivals { plays: Vec::new(), rejected }]).unwrap();
        assert!(committed.counters.rejected > 0);
    }
}

fn files(directory: &Path) -> DurableLedger {
    std::fs::create_dir_all(directory).unwrap();
    let config = LedgerConfig {
        directory: directory.to_owned(),
        simulation: false,
        adopt: false,
        message_budget: MessageBudget::default(),
    };
    DurableLedger::open(&config, SyncPolicy::Process).unwrap()
}

/// The letters that are kept.
fn listed(dir: &Path, args: &[&str]) -> Vec<Value> {
    let listed = output(dir, &[&["dead-letters", "--json"], args].concat());
    assert_exit(&listed, 0);
    let lines = String::from_utf8(listed.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Starts it and kills it after so long.
fn killed_after(dir: &Path, args: &[&str], pause: Duration) {
    let process = Running::start(dir, args);
    std::thread::sleep(pause);
    process.signal(Signal::KILL);
    drop(process.wait());
}

/// The ledger of `process` in files, of which all is published.
#[track_caller]
fn assert_shown(dir: &Path, plays: u64) {
    let broker = Broker::ours(dir);
    let (_dashboard, url) = dashboard(dir);
    let (tcp, data) = (broker.tcp(), "ledger");
    let ended = output(
        dir,
        &[
            "process",
            "--nsqd-tcp-address",
            &tcp,
            "--dashboard-url",
            &url,
            "--data-dir",
            data,
            "--num-messages",
            "1",
        ],
    );
    assert_exit(&ended, 0);
    assert_eq!(total(&url), plays);
    let videos = get(&format!("{url}/api/counts?limit=100"));
    let videos = videos["counts"].as_array().unwrap().iter();
    assert_eq!(videos.map(|video| video["plays"].as_u64().unwrap()).sum::<u64>(), plays);
}

#[test]
fn a_hundred_thousand_are_counted_once_whatever_is_killed() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let mut ledger = files(&dir.join("ledger"));
    keep(&mut ledger, 0..LETTERS);
    drop(ledger);
    let retry = ["dead-letters", "retry", "--data-dir", "ledger", "--json"];
    let counted = || {
        let ledger = playcounts::ledger::read(&dir.join("ledger")).unwrap().unwrap();
        ledger.counters.counted
    };
    if cfg!(debug_assertions) {
        let mut before = 0;
        for point in [
            "ledger-in-checkpoint",
            "ledger-after-checkpoint",
            "ledger-before-commit:5",
            "ledger-in-commit:5",
            "ledger-after-commit:5",
        ] {
            let dead = command(dir, &retry).env("PLAYCOUNTS_FAILPOINT", point).output().unwrap();
            assert_eq!(dead.status.code(), None, "{point}: {dead:?}");
            assert!(counted() > before, "{point}");
            before = counted();
        }
    }
    for pause in [20, 50, 100, 200, 300] {
        killed_after(dir, &retry, Duration::from_millis(pause));
        // All that is counted has lost its letter, and nothing else.
        let kept = listed(dir, &["--data-dir", "ledger"]).len() as u64;
        assert_eq!(kept + counted(), LETTERS, "{pause}");
    }
    let before = counted();
    assert!(before < PLAYS, "something is left to the last one");
    let ended = output(dir, &retry);
    assert_exit(&ended, 0);
    let report = json(&ended);
    assert_eq!((&report["counted"], &report["stay"]), (&(PLAYS - before).into(), &STAY.into()));
    assert_eq!((counted(), listed(dir, &["--data-dir", "ledger"]).len() as u64), (PLAYS, STAY));
    // There is nothing left to count.
    let report = json(&output(dir, &retry));
    assert_eq!((&report["counted"], &report["letters"]), (&0.into(), &STAY.into()));
    assert_exit(&output(dir, &["check", "--data-dir", "ledger"]), 0);
    assert_shown(dir, PLAYS);
}

/// One that is cut short stays, and so does what is no play; a play that was counted meanwhile is not counted again.
#[test]
fn each_letter_is_told_what_becomes_of_it() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let mut ledger = files(&dir.join("ledger"));
    keep(&mut ledger, 0..1_000);
    let play = format!(r#"{{"video_id":"{}","producer":"{PRODUCER}","seq":0}}"#, Uuid::nil());
    let decoded = PlayDecoder::default().decode(play.as_bytes()).unwrap();
    let plays = vec![playcounts::ledger::ArrivedPlay::new(decoded, key(5_000))];
    ledger.commit(&mut [Arrivals { plays, rejected: Vec::new() }]).unwrap();
    let cut = DeadLetter { size: 20_000, ..rejected(5_001) };
    ledger.commit(&mut [Arrivals { plays: Vec::new(), rejected: vec![cut] }]).unwrap();
    drop(ledger);
    let retry = ["dead-letters", "retry", "--data-dir", "ledger"];
    let tried = output(dir, &[&retry[..], &["--dry-run"]].concat());
    assert_exit(&tried, 0);
    let text = String::from_utf8(tried.stdout).unwrap();
    let want = "looked at 1,001 dead letters: 900 letters with 900 plays would go";
    assert!(text.starts_with(want) && text.contains("nothing was changed"), "{text}");
    assert_eq!(listed(dir, &["--data-dir", "ledger"]).len(), 1_001);
    let done = output(dir, &retry);
    assert_exit(&done, 0);
    let text = String::from_utf8(done.stdout).unwrap();
    let want = "looked at 1,001 dead letters: counted 899 plays, 1 play was counted before; 900 letters are gone; \
                101 letters stay";
    assert!(text.starts_with(want), "{text}");
    assert!(text.contains("\n  100 letters: missing field `video_id`"), "{text}");
    assert!(text.contains("\n  1 letter: only the start of its body was kept"), "{text}");
    assert!(
        text.ends_with("`playcounts process` with --data-dir ledger publishes them\n"),
        "{text}"
    );
    assert_shown(dir, 900);
}

/// Bodies of a site's own are rejected by a processor that was not told of their shape. Counted later, they are known by their ids
/// before and after.
#[test]
fn bodies_of_a_shape_that_was_told_too_late_count_once() {
    on_both_brokers(|dir, broker| {
        let publish = |body: &str| post(&format!("http://{}/pub?topic=plays", broker.http()), body);
        let body = |id: u32| {
            format!(r#"{{"event":{{"video":{{"hashed_id":"dQw4w9WgXc{}"}}}},"play":{id}}}"#, id % 5)
        };
        let (_dashboard, url) = dashboard(dir);
        let tcp = broker.tcp();
        let process = [
            "process",
            "--nsqd-tcp-address",
            &tcp,
            "--dashboard-url",
            &url,
            "--data-dir",
            "ledger",
            "--update-interval",
            "100ms",
        ];
        let shape = ["--video-field", "/event/video/hashed_id", "--id-field", "/play"];
        let kept = || listed(dir, &["--data-dir", "ledger"]).len();
        let running = Running::start(dir, &process);
        (0..50).for_each(|id| publish(&body(id)));
        // Each element of an array is a letter.
        publish(&format!(r#"[{},{},{{"no":"play"}}]"#, body(50), body(51)));
        wait_until("all are rejected", || {
            playcounts::ledger::exists(&dir.join("ledger")) && kept() == 53
        });
        running.signal(Signal::TERM);
        assert_exit(&running.wait(), 0);
        let retry = |more: &[&str]| {
            let args = ["dead-letters", "retry", "--data-dir", "ledger", "--json"];
            let ended = output(dir, &[&args, more].concat());
            assert_exit(&ended, 0);
            json(&ended)
        };
        let report = retry(&["--video-field", "/event/hashed_id"]);
        assert_eq!((&report["counted"], &report["stay"]), (&0.into(), &53.into()));
        let reason = report["reasons"][0]["reason"].as_str().unwrap();
        assert!(reason.contains("nothing is at /event/hashed_id, --video-field"), "{reason}");
        // Some come again meanwhile.
        let told = Running::start(dir, &[&process[..], &shape].concat());
        (0..10).for_each(|id| publish(&body(id)));
        wait_until("they are counted", || total(&url) == 10);
        told.signal(Signal::TERM);
        assert_exit(&told.wait(), 0);
        let report = retry(&shape);
        let told = ["counted", "duplicates", "gone", "stay"].map(|field| report[field].as_u64());
        assert_eq!(told, [42, 10, 52, 1].map(Some), "{report}");
        let told = Running::start(dir, &[&process[..], &shape].concat());
        (0..53).for_each(|id| publish(&body(id)));
        wait_until("the new one is counted, and the letters are shown", || total(&url) == 53);
        told.signal(Signal::TERM);
        assert_exit(&told.wait(), 0);
        assert_eq!((total(&url), kept()), (53, 1));
    });
}

#[test]
fn who_is_in_the_way_is_told_with_the_way_out() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let refused = |args: &[&str], status, want: &str| {
        let ended = output(dir, &[&["dead-letters", "retry"], args].concat());
        assert_exit(&ended, status);
        let text = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(text.contains(want), "{text}");
    };
    refused(&["--data-dir", "none"], 1, "no processor has kept a ledger in none; give --data-dir");
    refused(&["--ledger", "sqlite"], 1, "--ledger is `files` or the URL of a database");
    refused(&["--time-window-back", "x"], 2, "--time-window-back x: must be a duration");
    refused(&["--video-field", "video"], 2, "begins with /");
    refused(&["--dryrun"], 2, "did you mean --dry-run?");
    refused(&["5"], 2, "nothing is known to do with \"5\"");
    let broker = Broker::ours(dir);
    let (_dashboard, url) = dashboard(dir);
    let tcp = broker.tcp();
    let line =
        ["process", "--nsqd-tcp-address", &tcp, "--dashboard-url", &url, "--data-dir", "ledger"];
    let mut process = Running::start(dir, &line);
    process.wait_for("process: counts ");
    let want = format!("another processor (pid {}) uses the data directory ledger", process.pid());
    refused(&["--data-dir", "ledger"], 1, &want);
    refused(&["--data-dir", "ledger"], 1, "stop it, retry, and start it again");
    assert_exit(&output(dir, &["dead-letters", "retry", "--data-dir", "ledger", "--dry-run"]), 0);
    process.signal(Signal::TERM);
    assert_exit(&process.wait(), 0);
    assert_exit(&output(dir, &["dead-letters", "retry", "--data-dir", "ledger"]), 0);
}

#[cfg(feature = "postgres")]
mod shared {
    use playcounts::ledger::{BehindPolicy, PostgresLedger, PostgresLedgerConfig};
    use playcounts::postgres::PgConfig;

    use super::*;

    /// How many plays of the producer are counted before.
    const BEFORE: u64 = 100;
    use crate::postgres_server::{Postgres, postgres_or_skip};
    use crate::support::publish_of;

    /// Has the processor of a data directory keep letters, and end.
    fn keep_shared(server: &Postgres, directory: &Path, letters: std::ops::Range<u64>) {
        std::fs::create_dir_all(directory).unwrap();
        let config = PostgresLedgerConfig {
            database: PgConfig::parse(&server.url(), &|_| None).unwrap(),
            directory: directory.to_owned(),
            on_behind: BehindPolicy::Refuse,
        };
        let mut ledger = PostgresLedger::open(&config).unwrap();
        ledger.publish_to(1);
        keep(&mut ledger, letters);
        ledger.close().unwrap();
    }

    fn process(server: &Postgres, broker: &Broker, url: &str, data: &str) -> Vec<String> {
        let (tcp, http, ledger) = (broker.tcp(), broker.http(), server.url());
        let line = format!(
            "process --nsqd-tcp-address {tcp} --nsqd-http-address {http} --dashboard-url {url} --data-dir {data} --json \
             --update-interval 100ms --ledger {ledger}"
        );
        line.split(' ').map(String::from).collect()
    }

    /// Two processors count, several retries run at once, and some are killed.
    #[test]
    fn a_hundred_thousand_of_a_shared_ledger_are_counted_once_whatever_is_killed() {
        let server = postgres_or_skip!();
        let dir = TempDir::new().unwrap();
        let dir = dir.path();
        keep_shared(&server, &dir.join("one"), 0..LETTERS);
        let broker = Broker::ours(dir);
        let (_dashboard, url) = dashboard(dir);
        let processors = ["one", "two"].map(|data| {
            let args = process(&server, &broker, &url, data);
            let words: Vec<&str> = args.iter().map(String::as_str).collect();
            Running::start(dir, &words)
        });
        let ledger = server.url();
        let retry = ["dead-letters", "retry", "--ledger", &ledger, "--json"];
        let left = || server.sql("SELECT count(*) FROM playcounts.dead_letters");
        if cfg!(debug_assertions) {
            for point in ["ledger-before-commit:5", "ledger-after-commit:5"] {
                let dead =
                    command(dir, &retry).env("PLAYCOUNTS_FAILPOINT", point).output().unwrap();
                assert_eq!(dead.status.code(), None, "{point}: {dead:?}");
            }
        }
        // The producer's plays come again, while some of them are counted from letters.
        let beside = Running::start(dir, &retry);
        publish_of(7, &broker, PRODUCER, 0..BEFORE);
        killed_after(dir, &retry, Duration::from_millis(300));
        beside.signal(Signal::KILL);
        drop(beside.wait());
        let both = [Running::start(dir, &retry), Running::start(dir, &retry)];
        for process in both {
            assert_exit(&process.wait(), 0);
        }
        // Those whose lock a killed one had held a moment longer.
        assert_exit(&output(dir, &retry), 0);
        assert_eq!(left(), STAY.to_string());
        wait_until("all are shown", || total(&url) >= PLAYS);
        for process in processors {
            process.signal(Signal::TERM);
            assert_exit(&process.wait(), 0);
        }
        assert_eq!(total(&url), PLAYS);
        let listed = listed(dir, &["--ledger", &ledger]);
        assert_eq!(listed.len() as u64, STAY);
        assert!(listed.iter().all(|letter| !letter["body"].as_str().unwrap().contains("video_id")));
    }

    /// What was not flushed is lost with the letters still there; nothing runs but the retries, and who comes later publishes.
    #[test]
    fn a_database_that_is_killed_in_the_middle_loses_nothing() {
        let mut server = postgres_or_skip!();
        let dir = TempDir::new().unwrap();
        let dir = dir.path();
        const SOME: u64 = 20_000;
        keep_shared(&server, &dir.join("one"), 0..SOME);
        let ledger = server.url();
        let retry = ["dead-letters", "retry", "--ledger", &ledger, "--json"];
        for pause in [100, 200, 300] {
            let process = Running::start(dir, &retry);
            std::thread::sleep(Duration::from_millis(pause));
            server.crash();
            let ended = process.wait();
            if ended.status.code() != Some(0) {
                let text = String::from_utf8_lossy(&ended.stderr).into_owned();
                assert_eq!(text.lines().count(), 1, "{text}");
            }
            server.restart();
        }
        assert_exit(&output(dir, &retry), 0);
        let left = server.sql("SELECT count(*) FROM playcounts.dead_letters");
        assert_eq!(left, (SOME / 10).to_string());
        let broker = Broker::ours(dir);
        let (_dashboard, url) = dashboard(dir);
        let args = process(&server, &broker, &url, "two");
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        let process = Running::start(dir, &words);
        wait_until("all are shown", || total(&url) >= SOME / 10 * 9);
        process.signal(Signal::TERM);
        assert_exit(&process.wait(), 0);
        assert_eq!(total(&url), SOME / 10 * 9);
    }

    #[test]
    fn a_database_without_a_ledger_gets_none() {
        let server = postgres_or_skip!();
        let dir = TempDir::new().unwrap();
        let ledger = server.url();
        for command in [&["dead-letters"][..], &["dead-letters", "retry"]] {
            let ended = output(dir.path(), &[command, &["--ledger", &ledger]].concat());
            assert_exit(&ended, 1);
            let text = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert!(text.contains("there is no shared ledger in the database"), "{text}");
        }
        assert_eq!(server.sql("SELECT to_regclass('playcounts.schema') IS NULL"), "t");
    }
}
