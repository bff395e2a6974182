//! Video ids of every kind that sites have, from a foreign producer to what is shown: over both brokers, with a ledger in
//! files and a shared one, over restarts and kills.

use std::collections::BTreeMap;
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

#[cfg(feature = "postgres")]
use crate::postgres_server::postgres_or_skip;
use crate::support::{
    Broker, Running, assert_exit, copy_all, get, on_both_brokers, output, post, total, wait_until,
};

/// What stands as `video_id`, and the id that is shown.
fn ids() -> Vec<(Value, String)> {
    let as_it_is = [
        // YouTube's and Wistia's, and one that differs in a letter's case.
        "dQw4w9WgXcQ",
        "dQw4w9WgXcq",
        "e4a27b971d",
        // A place on the web, with all that an address or a query could take for its own.
        "https://example.org/watch?v=a%20b&t=1+2;x#here/..",
        r"C:\videos\one",
        // What a CSV's reader, a page or a database could take for something else.
        "=1+1",
        "a \"quoted\", id",
        "<b>bold</b>",
        "it's; DROP TABLE videos",
        " blanks ",
        "_a%",
        "null",
        "007",
        "видео-ü-映画-🎬",
        // As many bytes as a GUID and as a text that stands in an id as it is, and one more.
        "fifteen-bytes-i",
        "sixteen-bytes-id",
        "seventeen-bytes-i",
        // GUIDs of a variant of nobody's, and of all bits.
        "0b9e9f0e-6b07-4c12-ea70-6a8f6f6c2f11",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        // A GUID, and texts that begin as it does.
        "0b9e9f0e-6b07-4c12-8a70-6a8f6f6c2f11",
        "0b9e9f0e",
        "0b9e9f0e-6b07-4c12-8a70-6a8f6f6c2f1",
        "0b9e9f0e-6b07-4c12-8a70-6a8f6f6c2f11-hd",
    ];
    let mut ids: Vec<_> = as_it_is.iter().map(|id| (json!(id), (*id).to_owned())).collect();
    let long = ["x".repeat(128), "й".repeat(64), format!("{}y", "x".repeat(127))];
    ids.extend(long.into_iter().map(|id| (json!(id), id)));
    ids.push((json!(12_345_678), "12345678".to_owned()));
    ids.push((json!(0), "0".to_owned()));
    ids.push((json!(u64::MAX), u64::MAX.to_string()));
    let upper = "0A1B2C3D4E5F40718293A4B5C6D7E8F9";
    ids.push((json!(upper), "0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9".to_owned()));
    ids
}

/// Bodies whose `video_id` is none, each with the reason.
fn misfits() -> Vec<(Value, &'static str)> {
    vec![
        (json!("x".repeat(129)), "at most 128 bytes, not 129"),
        (json!("й".repeat(65)), "at most 128 bytes, not 130"),
        (json!(""), "at least one character"),
        (json!("two\nlines"), "no control characters"),
        (json!(1.5), "1.5"),
        (json!(null), "null"),
    ]
}

/// Publishes plays of all `ids`: of the last one play, of each one more than of the next.
fn publish(broker: &Broker, ids: &[(Value, String)]) {
    for (index, (value, _)) in ids.iter().enumerate() {
        let body = json!({ "video_id": value }).to_string();
        let bodies = vec![body; times(ids, index)].join("\n");
        post(&format!("http://{}/mpub?topic=plays", broker.http()), &bodies);
    }
}

fn times(ids: &[(Value, String)], index: usize) -> usize {
    ids.len() - index
}

/// What must be shown after so many rounds of [`publish`].
fn expected(ids: &[(Value, String)], rounds: usize) -> BTreeMap<String, u64> {
    let plays = |index| (times(ids, index) * rounds) as u64;
    ids.iter().enumerate().map(|(index, (_, id))| (id.clone(), plays(index))).collect()
}

/// An id as a part of a path or a value of a query: every byte but letters and digits as `%XX`.
fn encoded(id: &str) -> String {
    utf8_percent_encode(id, NON_ALPHANUMERIC).to_string()
}

fn text(url: &str) -> String {
    ureq::get(url)
        .call()
        .unwrap_or_else(|error| panic!("{url}: {error}"))
        .body_mut()
        .read_to_string()
        .unwrap()
}

/// The rows of a list, by their ids.
fn rows(list: &Value) -> BTreeMap<String, u64> {
    let row = |row: &Value| {
        (row["video_id"].as_str().unwrap().to_owned(), row["plays"].as_u64().unwrap())
    };
    list.as_array().unwrap().iter().map(row).collect()
}

/// That a dashboard shows these videos, and no other, by every call that tells of them.
#[track_caller]
fn assert_shown(url: &str, wanted: &BTreeMap<String, u64>) {
    let page = get(&format!("{url}/api/counts?limit=500&sort=video_id"));
    assert_eq!(rows(&page["counts"]), *wanted);
    let order: Vec<_> =
        page["counts"].as_array().unwrap().iter().map(|row| &row["video_id"]).collect();
    assert!(order.is_sorted_by_key(|id| id.as_str().unwrap()), "{order:?}");
    assert_eq!(rows(&get(&format!("{url}/api/export/counts.json"))), *wanted);
    let csv = text(&format!("{url}/api/export/counts.csv"));
    for (id, plays) in wanted {
        let path = encoded(id);
        let one = get(&format!("{url}/api/counts/{path}"));
        assert_eq!((&one["video_id"], &one["plays"]), (&json!(id), &json!(plays)), "{one}");
        get(&format!("{url}/api/counts/{path}/series"));
        get(&format!("{url}/api/export/series.json?video={path}"));
        // The whole of it, and what some others begin with, too.
        let start: String = id.chars().take(5).collect();
        for search in [id, &start] {
            let found = get(&format!("{url}/api/counts?limit=500&search={}", encoded(search)));
            let want: BTreeMap<_, _> =
                wanted.iter().filter(|(id, _)| id.starts_with(search.trim())).collect();
            let found = rows(&found["counts"]);
            assert!(
                want.iter().all(|(id, plays)| found.get(*id) == Some(plays)),
                "{search}: {found:?}"
            );
        }
        // An id is in a CSV as it is, in quotes where it would be more than one cell.
        let cell = match id.contains([',', '"']) {
            true => format!("\"{}\"", id.replace('"', "\"\"")),
            false => id.clone(),
        };
        let line = format!("{cell},{plays},");
        assert!(csv.lines().any(|found| found.starts_with(&line)), "{line} is not in {csv}");
    }
    assert_eq!(total(url), wanted.values().sum::<u64>());
}

fn dashboard(dir: &Path, data: &str, address: &str) -> (Running, String) {
    let mut process =
        Running::start(dir, &["dashboard", "--http-address", address, "--data-dir", data]);
    let url = process.wait_for("live at ");
    (process, url)
}

fn process(dir: &Path, broker: &Broker, urls: [&str; 2], more: &[&str]) -> Running {
    let (tcp, http) = (broker.tcp(), broker.http());
    let args = [
        "process",
        "--nsqd-tcp-address",
        &tcp,
        "--nsqd-http-address",
        &http,
        "--dashboard-url",
        urls[0],
        "--dashboard-url",
        urls[1],
        "--update-interval",
        "100ms",
        "--consumer-opt",
        "msg_timeout,1s",
    ];
    Running::start(dir, &[&args, more].concat())
}

fn wait_for_plays(urls: [&str; 2], plays: &BTreeMap<String, u64>) {
    let all: u64 = plays.values().sum();
    wait_until("all is shown", || urls.iter().all(|url| total(url) == all));
}

#[test]
fn ids_of_every_kind_are_counted_and_shown_over_kills_and_backups() {
    let ids = ids();
    on_both_brokers(|dir, broker| {
        let (one, url) = dashboard(dir, "one", "127.0.0.1:0");
        let (two, other) = dashboard(dir, "two", "127.0.0.1:0");
        let urls = [&*url, &*other];
        let ledger = ["--data-dir", "ledger"];
        let first = process(dir, broker, urls, &ledger);
        publish(broker, &ids);
        wait_for_plays(urls, &expected(&ids, 1));
        assert_shown(&url, &expected(&ids, 1));
        // All are killed, and go on.
        for part in [first, one, two] {
            part.signal(Signal::KILL);
            part.wait();
        }
        publish(broker, &ids);
        let _one = dashboard(dir, "one", url.strip_prefix("http://").unwrap());
        let two = dashboard(dir, "two", other.strip_prefix("http://").unwrap()).0;
        let second = process(dir, broker, urls, &ledger);
        wait_for_plays(urls, &expected(&ids, 2));
        assert_shown(&other, &expected(&ids, 2));
        // Stopped in order, copied, looked at, put back.
        second.signal(Signal::TERM);
        assert_exit(&second.wait(), 0);
        two.signal(Signal::TERM);
        assert_exit(&two.wait(), 0);
        for data in ["ledger", "two"] {
            let (copy, back) = (format!("{data}-copy"), format!("{data}-back"));
            let said = |args: &[&str]| {
                let ran = output(dir, args);
                assert_exit(&ran, 0);
                String::from_utf8(ran.stdout).unwrap()
            };
            said(&["backup", "--data-dir", data, "--output", &copy]);
            said(&["restore", "--from", &copy, "--data-dir", &back]);
            let whole = format!("of {} videos", ids.len());
            assert!(said(&["check", "--data-dir", &back]).contains(&whole));
        }
        let (_two, other) = dashboard(dir, "two-back", "127.0.0.1:0");
        assert_shown(&other, &expected(&ids, 2));
        let urls = [&*url, &*other];
        let _third = process(dir, broker, urls, &["--data-dir", "ledger-back"]);
        publish(broker, &ids);
        wait_for_plays(urls, &expected(&ids, 3));
        assert_shown(&url, &expected(&ids, 3));
    });
}

#[test]
fn what_is_no_id_is_a_dead_letter_that_says_why() {
    on_both_brokers(|dir, broker| {
        let (_one, url) = dashboard(dir, "one", "127.0.0.1:0");
        let (_two, other) = dashboard(dir, "two", "127.0.0.1:0");
        let processor = process(dir, broker, [&url, &other], &["--data-dir", "ledger"]);
        for (value, _) in misfits() {
            let body = json!({ "video_id": value }).to_string();
            post(&format!("http://{}/pub?topic=plays", broker.http()), &body);
        }
        post(&format!("http://{}/pub?topic=plays", broker.http()), r#"{"video_id":"good"}"#);
        wait_until("the good one is shown", || total(&url) == 1);
        wait_until("the others are told", || {
            let told = get(&format!("{url}/api/processors"))["processors"][0]["rejected"].clone();
            told == misfits().len() as u64
        });
        processor.signal(Signal::TERM);
        assert_exit(&processor.wait(), 0);
        let letters = output(dir, &["dead-letters", "--data-dir", "ledger"]);
        assert_exit(&letters, 0);
        let said = String::from_utf8(letters.stdout).unwrap();
        for (value, reason) in misfits() {
            assert!(said.contains(reason), "{value}: {reason:?} is not in {said}");
        }
    });
}

#[cfg(feature = "postgres")]
#[test]
fn processors_of_a_shared_ledger_count_ids_of_every_kind() {
    let server = postgres_or_skip!();
    let ids = ids();
    on_both_brokers(|dir, broker| {
        server.sql("DROP SCHEMA IF EXISTS playcounts CASCADE");
        let (_one, url) = dashboard(dir, "one", "127.0.0.1:0");
        let (_two, other) = dashboard(dir, "two", "127.0.0.1:0");
        let (urls, ledger) = ([&*url, &*other], server.url());
        let start = |data| process(dir, broker, urls, &["--ledger", &ledger, "--data-dir", data]);
        let (first, _second) = (start("first"), start("second"));
        for round in 1..=3 {
            publish(broker, &ids);
            wait_for_plays(urls, &expected(&ids, round));
        }
        first.signal(Signal::KILL);
        first.wait();
        publish(broker, &ids);
        let _again = start("first");
        wait_for_plays(urls, &expected(&ids, 4));
        urls.iter().for_each(|url| assert_shown(url, &expected(&ids, 4)));
    });
}

/// A ledger of before there were other ids than GUIDs: what it holds stays, and others come to it.
#[test]
fn files_of_guids_alone_come_over_and_go_on() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/ledger-2-closed");
    copy_all(&old, &dir.join("ledger"));
    let broker = Broker::ours(dir);
    let (_one, url) = dashboard(dir, "one", "127.0.0.1:0");
    let (_two, other) = dashboard(dir, "two", "127.0.0.1:0");
    let urls = [&*url, &*other];
    let start = || process(dir, &broker, urls, &["--data-dir", "ledger", "--adopt-ledger"]);
    let first = start();
    wait_until("what it held is shown", || urls.iter().all(|url| total(url) == OLD_PLAYS));
    let mut wanted = rows(&get(&format!("{url}/api/counts?limit=500"))["counts"]);
    assert_eq!(wanted.len(), OLD_VIDEOS);
    let ids = ids();
    publish(&broker, &ids);
    wanted.extend(expected(&ids, 1));
    wait_for_plays(urls, &wanted);
    first.signal(Signal::KILL);
    first.wait();
    let _second = start();
    publish(&broker, &ids);
    wanted.extend(expected(&ids, 2));
    wait_for_plays(urls, &wanted);
    urls.iter().for_each(|url| assert_shown(url, &wanted));
}

/// Of that ledger, as tests/it/data/README.md says.
const OLD_PLAYS: u64 = 451;
const OLD_VIDEOS: usize = 6;
