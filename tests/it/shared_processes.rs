//! Processors that share a ledger in PostgreSQL, as real processes on one channel: whatever is killed or stopped, each play
//! counts once.

use std::path::Path;
use std::time::Duration;

use playcounts::ledger::{BehindPolicy, Ledger, PostgresLedger, PostgresLedgerConfig};
use playcounts::postgres::PgConfig;
use rustix::process::Signal;
use tempfile::TempDir;
use uuid::Uuid;

use crate::postgres_server::{Postgres, postgres_or_skip};
use crate::support::{
    self, Broker, Running, assert_exit, command, on_both_brokers, post, publish, total, wait_until,
};

/// The arguments of a processor with that data directory. nsqd gives out again what a dead consumer held when the message
/// timeout is over, not before.
fn args(server: &Postgres, broker: &Broker, url: &str, data: &str) -> Vec<String> {
    let (tcp, http, ledger) = (broker.tcp(), broker.http(), server.url());
    let line = format!(
        "process --nsqd-tcp-address {tcp} --nsqd-http-address {http} --dashboard-url {url} --data-dir {data} --json \
         --consumer-opt msg_timeout,1s --update-interval 100ms --ledger {ledger}"
    );
    line.split(' ').map(String::from).collect()
}

fn start(dir: &Path, args: &[String]) -> Running {
    Running::start(dir, &args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What the processor of a data directory, which has ended, has counted.
fn counted_by(server: &Postgres, data: &Path) -> u64 {
    let config = PostgresLedgerConfig {
        database: PgConfig::parse(&server.url(), &|_| None).unwrap(),
        directory: data.to_owned(),
        on_behind: BehindPolicy::Refuse,
    };
    let ledger = PostgresLedger::open(&config).unwrap();
    ledger.videos().iter().map(|video| video.plays).sum()
}

/// That the tables have plays `0..plays` of the producer, and no other.
#[track_caller]
fn assert_seen(server: &Postgres, producer: Uuid, plays: u64) {
    let all = server.sql(
        "SELECT p.producer, p.watermark + coalesce((
             SELECT sum(bit_count(bits)) FROM playcounts.seen s WHERE s.producer = p.producer), 0)
         FROM playcounts.producers p",
    );
    assert_eq!(all, format!("{producer}|{plays}"));
}

/// Both count, and repeats that the other one has counted are known.
#[test]
fn two_processors_share_a_channel() {
    let server = postgres_or_skip!();
    on_both_brokers(|dir, broker| {
        server.sql("DROP SCHEMA IF EXISTS playcounts CASCADE");
        let (_dashboard, url) = support::dashboard(dir);
        let both = ["one", "two"].map(|data| start(dir, &args(&server, broker, &url, data)));
        let producer = Uuid::new_v4();
        for from in (0..4_000).step_by(500) {
            publish(broker, producer, from..from + 500);
            publish(broker, producer, from.saturating_sub(1_000)..from);
        }
        wait_until("all are counted", || total(&url) == 4_000);
        for process in both {
            process.signal(Signal::TERM);
            let ended = process.wait();
            assert_exit(&ended, 0);
            let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert!(
                !stderr.contains("never-shown") && !stderr.contains("another processor"),
                "{stderr}"
            );
        }
        assert_eq!(total(&url), 4_000);
        assert_seen(&server, producer, 4_000);
        let each = ["one", "two"].map(|data| counted_by(&server, &dir.join(data)));
        assert_eq!(each[0] + each[1], 4_000, "{each:?}");
        assert!(each.iter().all(|counted| *counted > 0), "{each:?}");
    });
}

/// One is killed at every point of a commit; the other one counts what it had in its hands, and no play of it twice.
#[test]
fn a_processor_that_dies_anywhere_leaves_the_rest_to_others() {
    if !cfg!(debug_assertions) {
        return;
    }
    let server = postgres_or_skip!();
    for point in
        ["worker-after-receive", "ledger-before-commit", "ledger-after-commit", "ledger-mid-fins"]
    {
        let dir = TempDir::new().unwrap();
        let dir = dir.path();
        let broker = Broker::ours(dir);
        server.sql("DROP SCHEMA IF EXISTS playcounts CASCADE");
        let (_dashboard, url) = support::dashboard(dir);
        let producer = Uuid::new_v4();
        publish(&broker, producer, 0..2_000);
        let dies = args(&server, &broker, &url, "one");
        let words: Vec<&str> = dies.iter().map(String::as_str).collect();
        let dead = command(dir, &words).env("PLAYCOUNTS_FAILPOINT", point).output().unwrap();
        assert_eq!(dead.status.code(), None, "{point}: {dead:?}");
        let other = start(dir, &args(&server, &broker, &url, "two"));
        wait_until("the rest is counted", || {
            server.sql("SELECT count(*) FROM playcounts.producers WHERE watermark >= 1024") == "1"
                && support::get(&format!("http://{}/stats?format=json", broker.http()))["topics"][0]
                    ["channels"][0]["depth"]
                    == 0
        });
        let again = start(dir, &dies);
        wait_until("all are counted and shown", || total(&url) == 2_000);
        for process in [other, again] {
            process.signal(Signal::TERM);
            assert_exit(&process.wait(), 0);
        }
        assert_seen(&server, producer, 2_000);
        let each = ["one", "two"].map(|data| counted_by(&server, &dir.join(data)));
        assert_eq!(each[0] + each[1], 2_000, "{point}: {each:?}");
        assert_eq!(total(&url), 2_000, "{point}");
    }
}

/// A second processor finds one connection free of the three that it needs: it says what to raise, takes nothing from the
/// first one, and goes on by itself when that one has ended.
#[test]
fn a_server_without_a_free_connection_is_waited_for() {
    let server = postgres_or_skip!(
        "max_connections=4",
        "superuser_reserved_connections=0",
        "max_wal_senders=0"
    );
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let producer = Uuid::new_v4();
    let one = start(dir, &args(&server, &broker, &url, "one"));
    publish(&broker, producer, 0..1_000);
    wait_until("the first counts and publishes", || total(&url) == 1_000);
    let two = start(dir, &args(&server, &broker, &url, "two"));
    wait_until("the second says what it lacks", || {
        let (status, text) = support::health(&url);
        status == 503 && text.contains("raise max_connections")
    });
    publish(&broker, producer, 1_000..2_000);
    one.signal(Signal::TERM);
    assert_exit(&one.wait(), 0);
    publish(&broker, producer, 2_000..4_000);
    wait_until("the second goes on", || total(&url) == 4_000 && support::health(&url).0 == 200);
    two.signal(Signal::TERM);
    assert_exit(&two.wait(), 0);
    assert_seen(&server, producer, 4_000);
}

/// The server is killed again and again while plays come; what is finished is counted.
#[test]
fn a_server_that_is_killed_again_and_again_loses_nothing() {
    let mut server = postgres_or_skip!("wal_writer_delay=10s");
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let both = ["one", "two"].map(|data| start(dir, &args(&server, &broker, &url, data)));
    let producer = Uuid::new_v4();
    let mut published = 0;
    for round in 0..5 {
        for _ in 0..20 {
            publish(&broker, producer, published..published + 50);
            published += 50;
            std::thread::sleep(Duration::from_millis(10));
        }
        server.crash();
        publish(&broker, producer, published..published + 500);
        published += 500;
        std::thread::sleep(Duration::from_millis(300 * round));
        server.restart();
        wait_until("counting goes on", || total(&url) > published - 500);
    }
    wait_until("all are counted", || total(&url) == published);
    for process in both {
        process.signal(Signal::TERM);
        assert_exit(&process.wait(), 0);
    }
    assert_seen(&server, producer, published);
    assert_eq!(total(&url), published);
}

/// Without the flush behind a commit a server that is killed loses plays that were finished: what it is for.
#[test]
fn without_the_flush_plays_are_lost() {
    if !cfg!(debug_assertions) {
        return;
    }
    let mut server = postgres_or_skip!("wal_writer_delay=10s");
    let mut lost = false;
    for _ in 0..5 {
        let dir = TempDir::new().unwrap();
        let dir = dir.path();
        let broker = Broker::ours(dir);
        let (_dashboard, url) = support::dashboard(dir);
        server.sql("DROP SCHEMA IF EXISTS playcounts CASCADE");
        let spoilt = args(&server, &broker, &url, "one");
        let words: Vec<&str> = spoilt.iter().map(String::as_str).collect();
        let mut spoilt = command(dir, &words);
        spoilt.env("PLAYCOUNTS_LEAVE_OUT", "ledger-flush");
        let process = Running::spawn(spoilt, "without the flush");
        // Without an identity: nothing else is to be told of them, which would flush.
        for count in 1..=20 {
            post(
                &format!("http://{}/pub?topic=plays", broker.http()),
                &format!(r#"{{"video_id":"{}"}}"#, Uuid::nil()),
            );
            wait_until("it is counted", || total(&url) == count);
        }
        server.crash();
        drop(process);
        server.restart();
        lost |= server.sql("SELECT count(*) FROM playcounts.messages") != "20";
        if lost {
            break;
        }
    }
    assert!(lost, "nothing is ever lost without it");
}

/// A processor stops in the middle of a commit, with all locks: the others wait until the server gives it up, and no longer.
#[test]
fn a_processor_that_stops_in_a_commit_holds_the_others_up_for_seconds() {
    if !cfg!(debug_assertions) {
        return;
    }
    let server = postgres_or_skip!();
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let stops = args(&server, &broker, &url, "one");
    let words: Vec<&str> = stops.iter().map(String::as_str).collect();
    let mut stops = command(dir, &words);
    stops.env("PLAYCOUNTS_STOPPOINT", "ledger-before-commit");
    let stopped = Running::spawn(stops, "stops");
    let producer = Uuid::new_v4();
    publish(&broker, producer, 0..1_000);
    wait_until("it has stopped", || {
        server.sql("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND usename = 'playcounts'
            AND state_change < now() - interval '0.5 s'") == "1"
    });
    let other = start(dir, &args(&server, &broker, &url, "two"));
    let began = std::time::Instant::now();
    wait_until("the other one goes on", || total(&url) >= 500);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    stopped.signal(Signal::CONT);
    publish(&broker, producer, 0..2_000);
    wait_until("all are counted", || total(&url) == 2_000);
    for process in [other, stopped] {
        process.signal(Signal::TERM);
        assert_exit(&process.wait(), 0);
    }
    assert_seen(&server, producer, 2_000);
    let each = ["one", "two"].map(|data| counted_by(&server, &dir.join(data)));
    assert_eq!((each[0] + each[1], total(&url)), (2_000, 2_000), "{each:?}");
}

/// The server stands still in the middle of commits: the dashboard hears all the same how the processors fare.
#[test]
fn a_processor_whose_database_stands_still_still_reports() {
    let server = postgres_or_skip!();
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let process = start(dir, &args(&server, &broker, &url, "one"));
    let producer = Uuid::new_v4();
    publish(&broker, producer, 0..500);
    wait_until("plays are counted", || total(&url) == 500);
    server.signal(Signal::STOP);
    publish(&broker, producer, 500..1_000);
    let began = std::time::Instant::now();
    let mut longest = 0;
    while began.elapsed() < Duration::from_secs(15) {
        let processors = support::get(&format!("{url}/api/processors"));
        let ago = processors["processors"][0]["silent_ms"].as_u64().unwrap();
        longest = longest.max(ago);
        std::thread::sleep(Duration::from_millis(100));
    }
    // The commit waits for its answer for 10 s, and what is confirmed is asked for in between, for 3 s twice.
    assert!(longest < 9_000, "silent for {longest} ms");
    server.signal(Signal::CONT);
    publish(&broker, producer, 0..2_000);
    wait_until("all are counted", || total(&url) == 2_000);
    process.signal(Signal::TERM);
    assert_exit(&process.wait(), 0);
    assert_seen(&server, producer, 2_000);
}

/// A processor is stopped for longer than its lease, and a new one takes its id: when it goes on it is refused, says so, and
/// starts again under another id.
#[test]
fn a_processor_that_was_stopped_for_long_starts_again() {
    let server = postgres_or_skip!();
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let mut stopped = start(dir, &args(&server, &broker, &url, "one"));
    let producer = Uuid::new_v4();
    publish(&broker, producer, 0..500);
    wait_until("plays are counted", || total(&url) == 500);
    stopped.signal(Signal::STOP);
    publish(&broker, producer, 500..1_000);
    wait_until("its lease has run out", || {
        server.sql("SELECT lease_until < now() - interval '6 s' AND now() - pg_postmaster_start_time() > interval '16 s'
            FROM playcounts.processors") == "t"
    });
    let other = start(dir, &args(&server, &broker, &url, "two"));
    wait_until("the other one has counted the rest", || total(&url) == 1_000);
    assert_eq!(server.sql("SELECT count(*) FROM playcounts.processors"), "1");
    stopped.signal(Signal::CONT);
    stopped.wait_for("another processor had taken over while this one was away");
    publish(&broker, producer, 0..3_000);
    wait_until("all are counted", || total(&url) == 3_000);
    wait_until("both count", || server.sql("SELECT count(*) FROM playcounts.processors") == "2");
    for process in [other, stopped] {
        process.signal(Signal::TERM);
        assert_exit(&process.wait(), 0);
    }
    assert_seen(&server, producer, 3_000);
    let each = ["one", "two"].map(|data| counted_by(&server, &dir.join(data)));
    assert_eq!(each[0] + each[1], 3_000, "{each:?}");
}

/// One is killed for good, and no dashboard has heard of its counts: another one publishes them under its id, and stops when
/// it is back.
#[test]
fn the_counts_of_one_that_is_gone_are_published_by_another() {
    let server = postgres_or_skip!();
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let producer = Uuid::new_v4();
    let alone = start(dir, &args(&server, &broker, "http://127.0.0.1:1", "one"));
    publish(&broker, producer, 0..1_000);
    let last = "SELECT coalesce(sum(last_record), 0) FROM playcounts.processors";
    wait_until("it counts", || server.try_sql(last).status.success() && server.sql(last) != "0");
    wait_until("all is counted", || {
        server.sql(
            "SELECT count(*) FROM playcounts.seen WHERE segment = 0 AND bit_count(bits) = 1000",
        ) == "1"
    });
    alone.signal(Signal::KILL);
    drop(alone);
    let mut other = start(dir, &args(&server, &broker, &url, "two"));
    publish(&broker, producer, 500..1_500);
    wait_until("its own are shown", || total(&url) >= 500);
    other.wait_for("is gone: its counts are published for it");
    wait_until("those of the other are shown", || total(&url) == 1_500);
    wait_until("it is noted", || {
        server.sql("SELECT count(*) FROM playcounts.told") == "1"
            && server.sql("SELECT count(published_by) FROM playcounts.processors") == "0"
    });
    let back = start(dir, &args(&server, &broker, &url, "one"));
    publish(&broker, producer, 0..3_000);
    wait_until("all are shown", || total(&url) == 3_000);
    for process in [other, back] {
        process.signal(Signal::TERM);
        assert_exit(&process.wait(), 0);
    }
    assert_seen(&server, producer, 3_000);
    let each = ["one", "two"].map(|data| counted_by(&server, &dir.join(data)));
    assert_eq!((each[0] + each[1], total(&url)), (3_000, 3_000), "{each:?}");
}

/// What keeps a start from its ledger is one line, without the password.
#[test]
fn a_ledger_that_refuses_is_told_in_one_line() {
    let server = postgres_or_skip!();
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let right = args(&server, &broker, "http://127.0.0.1:1", "one");
    let refused = |ledger: &str, env: &[(&str, &str)], reason: &str| {
        let mut args = right.clone();
        *args.last_mut().unwrap() = ledger.to_owned();
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        let ended = command(dir, &words).envs(env.iter().copied()).output().unwrap();
        assert_exit(&ended, 1);
        let text = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(text.contains(reason) && text.lines().count() == 1, "{ledger}: {text}");
        assert!(!text.contains("never-shown") && !text.contains("wrong-one"), "{text}");
    };
    let (url, addr) = (server.url(), server.addr());
    refused(&url.replace("never-shown", "wrong-one"), &[], "28P01");
    refused(
        &format!("postgres://playcounts@{addr}/playcounts"),
        &[("PGPASSWORD", "wrong-one")],
        "28P01",
    );
    let (server_url, _) = url.rsplit_once('/').unwrap();
    refused(&format!("{server_url}/nowhere"), &[], "3D000");
    refused("sqlite", &[], "--ledger is `files` or the URL");
    server.sql("CREATE SCHEMA playcounts; CREATE TABLE playcounts.schema (version int, life uuid)");
    server.sql("INSERT INTO playcounts.schema VALUES (99, gen_random_uuid())");
    refused(&url, &[], "permission denied");
    server.sql("GRANT USAGE ON SCHEMA playcounts TO playcounts; GRANT SELECT ON playcounts.schema TO playcounts");
    refused(&url, &[], "version 99, of a newer playcounts");
    // A ledger of files is not left behind.
    server.sql("DROP SCHEMA playcounts CASCADE");
    std::fs::create_dir_all(dir.join("one")).unwrap();
    std::fs::write(dir.join("one/ledger.sqlite3"), "").unwrap();
    refused(&url, &[], "`playcounts ledger import --data-dir one` takes it over");
}
