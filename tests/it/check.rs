//! `playcounts check` on real files: whole, damaged, in use; and how it goes on with what is left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use playcounts::ledger::{self, DurableLedger, Ledger, NextUpkeep};
use playcounts::storage::data_dir::{DataDir, PROCESSOR};
use rusqlite::Connection;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::dashboard_support::{update, video};
use crate::ledger_support::{arrivals, hours, letter, open, play, upkeep};
use crate::support::{Broker, Running, assert_exit, output, wait_until};

/// Plays of [`made`] that its tables have, and all.
const IN_TABLES: u64 = 200;
const ALL: u64 = 500;

/// Counts plays `seqs` of ten videos, one a commit; with every fifth a dead letter, and every fourth has no identity.
fn count(ledger: &mut DurableLedger, seqs: std::ops::Range<u64>) {
    for seq in seqs {
        let identity = (seq % 4 != 0).then_some((1, seq));
        let letters = (seq % 5 == 0).then(|| letter(10_000 + seq)).into_iter().collect();
        let plays = vec![play((seq % 10).into(), identity, 1 + seq)];
        ledger.commit(&mut arrivals(plays, letters)).unwrap();
    }
}

/// A directory with a ledger: a checkpoint after 200 plays, then 300 in the journal, then killed, as a copy sees it.
fn made() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path()).unwrap();
    count(&mut ledger, 0..IN_TABLES);
    while upkeep(&mut ledger, hours(1)) == NextUpkeep::Soon {}
    count(&mut ledger, IN_TABLES..ALL);
    dir
}

/// The same, ended in order: all is in the tables.
fn closed() -> TempDir {
    let dir = made();
    open(dir.path()).unwrap().close().unwrap();
    dir
}

/// Every file but the lock files and what SQLite makes to read.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.to_string_lossy().ends_with("-shm") {
            let bytes = fs::read(&path).unwrap();
            if !bytes.is_empty() {
                found.insert(path, bytes);
            }
        }
    }
    found
}

/// Runs `check`: its exit status, and what it says on stdout and stderr.
#[track_caller]
fn check(directory: &Path, more: &[&str]) -> (Option<i32>, String) {
    let ran = output(directory, &[&["check", "--data-dir", "."], more].concat());
    let text = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    (ran.status.code(), text.into_owned())
}

/// That `check` finds damage, says all of `want`, and changes nothing.
#[track_caller]
fn assert_damaged(directory: &Path, want: &[&str]) {
    let before = files(directory);
    let (status, text) = check(directory, &[]);
    assert_eq!(status, Some(1), "{text}");
    for want in want {
        assert!(text.contains(want), "{text}\ndoes not say {want:?}");
    }
    assert!(files(directory) == before, "something was changed");
    assert!(open(directory).is_err(), "a start must refuse it");
    // At most it has begun a segment: the next look finds the same.
    let tables = directory.join("ledger.sqlite3");
    assert!(before.get(&tables) == files(directory).get(&tables), "something was changed");
    let (_, again) = check(directory, &[]);
    assert_eq!(again.lines().next(), text.lines().next(), "{again}");
}

/// That `--accept-loss` goes on, saying all of `want`; then the ledger is whole, holds so many plays, and goes on.
#[track_caller]
fn assert_goes_on(directory: &Path, plays: u64, want: &[&str]) {
    let processor = Connection::open(directory.join("ledger.sqlite3"))
        .unwrap()
        .query_row("SELECT processor FROM ledger", [], |row| row.get::<_, uuid::Uuid>(0))
        .unwrap();
    let (status, text) = check(directory, &["--accept-loss"]);
    assert_eq!(status, Some(0), "{text}");
    for want in want {
        assert!(text.contains(want), "{text}\ndoes not say {want:?}");
    }
    assert!(text.contains(&format!("ledger: whole: {plays} plays of 10 videos")), "{text}");
    assert!(directory.join("ledger.journal.dropped-1").is_dir() || text.contains("no journal"));
    let (status, text) = check(directory, &["--accept-loss"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("the ledger is whole: there is no loss to accept"), "{text}");
    for more in 0..3 {
        let mut ledger = open(directory).unwrap();
        assert_eq!((ledger.processor(), ledger.counters().counted), (processor, plays + more));
        let new = vec![play(3, Some((77, more)), 1_000_000 + more)];
        assert_eq!(ledger.commit(&mut arrivals(new, Vec::new())).unwrap().counters.counted, 1);
    }
}

/// Flips a bit in the middle of what a segment of the ledger holds; its name.
fn flip(directory: &Path, segment: usize) -> String {
    flip_at(&directory.join("ledger.journal"), segment, 4096 + 6000)
}

fn flip_at(journal: &Path, segment: usize, at: usize) -> String {
    let mut segments: Vec<_> = fs::read_dir(journal)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "segment"))
        .collect();
    segments.sort();
    let path = &segments[segment];
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 4;
    fs::write(path, bytes).unwrap();
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn tamper(directory: &Path, sql: &str) {
    Connection::open(directory.join("ledger.sqlite3")).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn what_is_whole_is_said_in_one_line_and_stays_as_it_is() {
    for dir in [made(), closed()] {
        let before = files(dir.path());
        let (status, text) = check(dir.path(), &[]);
        assert_eq!(
            (status, text.as_str()),
            (Some(0), "ledger: whole: 500 plays of 10 videos, 100 dead letters\n")
        );
        let (status, text) = check(dir.path(), &["--json"]);
        let found: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(
            (status, &found["part"], &found["state"]),
            (Some(0), &"ledger".into(), &"whole".into())
        );
        assert!(files(dir.path()) == before, "something was changed");
        let (status, text) = check(dir.path(), &["--accept-loss"]);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("the ledger is whole: there is no loss to accept"), "{text}");
    }
}

#[test]
fn a_damaged_journal_is_kept_up_to_the_damage() {
    let dir = made();
    let segment = flip(dir.path(), 1);
    assert_damaged(
        dir.path(),
        &[
            &format!("ledger.journal: {segment} is damaged at byte "),
            "playcounts check --accept-loss",
            "backup",
        ],
    );
    let (_, text) = check(dir.path(), &[]);
    let left = text.split_once("left are ").unwrap().1.split(' ').next().unwrap();
    let left: u64 = left.parse().unwrap();
    assert!((IN_TABLES..ALL).contains(&left), "{text}");
    assert_goes_on(
        dir.path(),
        left,
        &[&format!("{left} plays are left"), "dropped-1", "left out are frame "],
    );
    // A play that was cut off is new again, one that is left is not.
    let mut ledger = open(dir.path()).unwrap();
    let repeats = vec![play(1, Some((1, 1)), 2), play(9, Some((1, 499)), 500)];
    assert_eq!(ledger.commit(&mut arrivals(repeats, Vec::new())).unwrap().counters.counted, 1);
}

#[test]
fn a_journal_that_is_gone_is_begun_anew_where_the_tables_add_up() {
    let dir = closed();
    fs::remove_dir_all(dir.path().join("ledger.journal")).unwrap();
    // Its place is taken by an empty one: a start makes it, and refuses.
    assert_damaged(dir.path(), &["ledger.journal is missing", "left are 500 plays of 10 videos"]);
    fs::create_dir_all(dir.path().join("ledger.journal")).unwrap();
    assert_goes_on(dir.path(), ALL, &["500 plays are left"]);
}

#[test]
fn rows_that_the_counts_can_do_without_are_dropped() {
    let dir = closed();
    tamper(
        dir.path(),
        "UPDATE dead_letters SET body = x'00' WHERE number < 3; UPDATE messages SET keys = substr(keys, 2) WHERE number = 1",
    );
    assert_damaged(
        dir.path(),
        &[
            "the row 1 of the table messages does not fit its check",
            "the row 2 of the table dead_letters",
        ],
    );
    assert_goes_on(dir.path(), ALL, &["2 dead letters were dropped", "1 of "]);
    let mut letters = 0;
    assert!(
        ledger::dead_letters(dir.path(), |_| {
            letters += 1;
            Ok(())
        })
        .unwrap()
    );
    assert_eq!(letters, 98);
}

#[test]
fn counts_are_never_made_up() {
    for (sql, want) in [
        (
            "UPDATE videos SET plays = 7 WHERE number = 2",
            "the row 2 of the table videos does not fit its check",
        ),
        ("DELETE FROM videos WHERE number = 2", "the table videos has 9 rows, and must have 10"),
        (
            "UPDATE producers SET counted = x'00'",
            "the row 00000000000000000000000000000001 of the table producers",
        ),
        (
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'reason ', 'treason ') WHERE name = 'dead_letters'",
            "its tables are not declared as they were made",
        ),
        ("UPDATE ledger SET counted = 9", "the row of the table ledger does not fit its check"),
    ] {
        let dir = closed();
        tamper(dir.path(), sql);
        let before = files(dir.path());
        assert_damaged(dir.path(), &[want, "bring back a backup", "playcounts reset"]);
        let (status, text) = check(dir.path(), &["--accept-loss"]);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("the ledger cannot be used any more: bring back a backup"), "{text}");
        assert!(
            files(dir.path())
                .iter()
                .all(|(path, bytes)| path.ends_with("processor.lock") || before[path] == *bytes)
        );
    }
}

/// SQLite's WAL was lost with the newest starts in it: the journal knows.
#[test]
fn tables_of_before_are_told_and_lose_no_play() {
    let dir = closed();
    let file = dir.path().join("ledger.sqlite3");
    let old = fs::read(&file).unwrap();
    let before = open(dir.path()).unwrap().first_version();
    fs::write(&file, old).unwrap();
    assert_damaged(
        dir.path(),
        &["ledger.sqlite3 is older than ledger.journal", "left are 500 plays"],
    );
    assert_goes_on(dir.path(), ALL, &["500 plays are left"]);
    assert!(open(dir.path()).unwrap().first_version() > before);
}

#[test]
fn beside_a_processor_it_looks_and_accepts_nothing() {
    let dir = made();
    let lock = DataDir::open(dir.path()).unwrap().lock(PROCESSOR).unwrap();
    let (status, text) = check(dir.path(), &[]);
    assert_eq!(status, Some(0), "{text}");
    let pid = std::process::id();
    for want in [
        "ledger: whole: 500 plays",
        &format!("another processor (pid {pid}) uses the data directory"),
    ] {
        assert!(text.contains(want), "{text}");
    }
    flip(dir.path(), 1);
    let (status, text) = check(dir.path(), &["--accept-loss"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains(&format!("another processor (pid {pid}) uses")), "{text}");
    drop(lock);
}

#[test]
fn the_other_parts_are_looked_at_as_well() {
    let dir = tempfile::tempdir().unwrap();
    assert_exit(&output(dir.path(), &["check", "--data-dir", "nowhere"]), 1);
    let (status, text) = check(dir.path(), &[]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("no part has kept anything in ."), "{text}");
    let run =
        ["run", "--num-messages=100", "--http-address=127.0.0.1:0", "--exit", "--data-dir", "."];
    assert_exit(&output(dir.path(), &run), 0);
    let (status, text) = check(dir.path(), &[]);
    assert_eq!(status, Some(0), "{text}");
    for want in ["ledger: whole: 100 plays of ", "dashboard: whole: 100 plays of "] {
        assert!(text.contains(want), "{text}");
    }
    let segment = flip_at(&dir.path().join("dashboard.journal"), 0, 4096);
    let (status, text) = check(dir.path(), &[]);
    assert_eq!(status, Some(1), "{text}");
    for want in
        ["dashboard: damaged\n", &format!("{segment} is damaged at byte "), "the history is lost"]
    {
        assert!(text.contains(want), "{text}\ndoes not say {want:?}");
    }
    for (file, part) in [("dashboard.sqlite3", "dashboard"), ("outbox.sqlite3", "outbox")] {
        let garbage = b"no database, but text that is long enough to be taken for one".repeat(9);
        fs::write(dir.path().join(file), garbage).unwrap();
        let (status, text) = check(dir.path(), &[]);
        assert_eq!(status, Some(1), "{text}");
        for want in [&format!("{part}: damaged\n"), file, "way out: bring back a backup"] {
            assert!(text.contains(want), "{text}");
        }
    }
}

/// The first text of a dashboard's database that some SQL gives.
fn read_dashboard(data: &Path, sql: &str) -> String {
    let connection = Connection::open(data.join("dashboard.sqlite3")).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Tells a dashboard counts of 20 videos, which grow with the version.
fn tell(url: &str, version: u64) {
    let counts: Vec<_> = (1..=20).map(|n| (video(n), version * 100)).collect();
    crate::support::post(&format!("{url}/api/counts"), &update(version, &counts).to_string());
}

/// That a damaged dashboard goes on with what is left, saying all of `wanted`.
#[track_caller]
fn assert_dashboard_goes_on(data: &Path, wanted: &[&str]) {
    let (status, text) = check(data, &[]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("`playcounts check --accept-loss` goes on"), "{text}");
    let (status, text) = check(data, &["--accept-loss"]);
    assert_eq!(status, Some(0), "{text}");
    for want in wanted {
        assert!(text.contains(want), "{text}\ndoes not say {want:?}");
    }
}

/// Counts come back from the processors, who are told that it is another database; history of whole rows stays.
#[test]
fn a_damaged_dashboard_goes_on_with_what_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("playcounts-data");
    let (dashboard, url) = crate::support::dashboard(dir.path());
    tell(&url, 1);
    dashboard.signal(Signal::TERM);
    assert_exit(&dashboard.wait(), 0);
    let id = "SELECT hex(dashboard) FROM identity";
    let before = read_dashboard(&data, id);
    let connection = Connection::open(data.join("dashboard.sqlite3")).unwrap();
    connection
        .execute_batch(
            "UPDATE counts SET plays = 7 WHERE video_id = (SELECT min(video_id) FROM counts);
             UPDATE history_hour SET plays = 7 WHERE video_id = (SELECT max(video_id) FROM history_hour)",
        )
        .unwrap();
    drop(connection);
    assert_dashboard_goes_on(
        &data,
        &[
            "1 row of the table counts was dropped",
            "1 row of the table history_hour was dropped",
            "1,900 plays in 19 rows are left, of 2,000 in 20",
            "dashboard.journal.dropped-1",
            "dashboard: whole: 1,900 plays of 19 videos",
        ],
    );
    assert_ne!(read_dashboard(&data, id), before, "processors must tell everything again");
    // Damage in the journal: of several updates the first, so that it is no crash's.
    let (dashboard, url) = crate::support::dashboard(dir.path());
    (2..5).for_each(|version| tell(&url, version));
    dashboard.signal(Signal::KILL);
    drop(dashboard);
    flip_at(&data.join("dashboard.journal"), 0, 4096);
    assert_dashboard_goes_on(
        &data,
        &[
            "left out are frame 1, at byte 4096",
            "1,900 plays in 19 rows are left",
            "dashboard.journal.dropped-2",
        ],
    );
    let (_dashboard, url) = crate::support::dashboard(dir.path());
    tell(&url, 5);
    assert_eq!(crate::support::get(&format!("{url}/api/counts?limit=1"))["total_plays"], 20 * 500);
    let (status, text) = check(&data, &["--accept-loss"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("another dashboard (pid "), "{text}");
}

/// An outbox that is damaged is put aside whole: who does not know its numbers must not give out any.
#[test]
fn a_damaged_outbox_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::ours(dir.path());
    let (_dashboard, url) = crate::support::dashboard(dir.path());
    let tcp = broker.tcp();
    let args = [
        "produce",
        "--num-messages=40",
        "--data-dir=outbox",
        "--nsqd-tcp-address",
        &tcp,
        "--dashboard-url",
        &url,
    ];
    let produce = Running::start(dir.path(), &args);
    let outbox = dir.path().join("outbox");
    let all =
        || playcounts::producer::read_outbox(&outbox).ok().flatten().map_or(0, |found| found.plays);
    wait_until("all are kept", || all() == 40);
    produce.signal(Signal::KILL);
    drop(produce);
    let file = Connection::open(outbox.join("outbox.sqlite3")).unwrap();
    file.execute_batch("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'plays ', 'ploys ')").unwrap();
    drop(file);
    let (status, text) = check(&outbox, &[]);
    assert_eq!(status, Some(1), "{text}");
    let (status, text) = check(&outbox, &["--accept-loss"]);
    assert_eq!(status, Some(0), "{text}");
    for want in [
        "its files are in ./outbox.dropped-1 now",
        "plays were not known to be counted cannot be told",
    ] {
        assert!(text.contains(want), "{text}\ndoes not say {want:?}");
    }
    for name in ["outbox.sqlite3", "outbox.journal"] {
        assert!(outbox.join("outbox.dropped-1").join(name).exists() && !outbox.join(name).exists());
    }
    // Another producer begins.
    let produce = Running::start(dir.path(), &args);
    wait_until("all are kept", || all() == 40);
    produce.signal(Signal::KILL);
    drop(produce);
    flip_at(&outbox.join("outbox.journal"), 0, 20);
    let (status, text) = check(&outbox, &["--accept-loss"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(
        text.contains("0 plays that were not known to be counted are not published again"),
        "{text}"
    );
    assert!(outbox.join("outbox.dropped-2").is_dir());
}
