//! A ledger that cannot be written or trusted: busy, full, damaged, from elsewhere.

use std::time::Duration;

use playcounts::storage::row_check;
use rusqlite::Connection;
use uuid::Uuid;

use super::{assert_exact, assert_goes_on, process, start, with};
use crate::disk::{SmallDisk, limit_files};
use crate::support::{
    self, Broker, assert_exit, on_both_brokers, post, publish, total, wait_until,
};

/// Another connection holds the write lock of the ledger's tables: no commit waits for it, nor does what it shows.
#[test]
fn counting_goes_on_while_the_tables_are_locked() {
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
    wait_until("it goes on", || total(&url) == 200);
    other.execute_batch("ROLLBACK").unwrap();
    drop(first);
    assert_goes_on(dir, &broker, &url, producer, 200);
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

/// The disk takes no more: files may not grow (EFBIG), as with a quota. There is no room for a start's segment.
#[test]
fn a_ledger_that_cannot_grow_refuses_to_start_and_loses_nothing() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let args = process(broker, &url);
        let producer = Uuid::new_v4();
        publish(broker, producer, 0..10);
        assert_exit(&start(dir, &with(&args, &["--num-messages", "10"])).wait(), 0);
        publish(broker, producer, 10..20);
        let mut limited = std::process::Command::new("bash");
        limited.args(["-c", &format!(r#"{} exec "$0" "$@""#, limit_files(128))]);
        limited.arg(env!("CARGO_BIN_EXE_playcounts")).args(&args).current_dir(dir);
        let limited = limited.output().unwrap();
        assert_exit(&limited, 1);
        let error = String::from_utf8_lossy(&limited.stderr).into_owned();
        assert!(error.contains("cannot be made: File too large"), "{error}");
        assert_goes_on(dir, broker, &url, producer, 20);
    });
}

/// A full disk, where a small one may be mounted: there is room for the journal's first two segments.
#[test]
fn a_full_disk_ends_the_processor_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir(dir.join("ledger")).unwrap();
    let Some(disk) = SmallDisk::mount(&dir.join("ledger"), "34m") else { return };
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let producer = Uuid::new_v4();
    let mut full = start(dir, &process(&broker, &url));
    let mut seq = 0;
    // Bodies that are no play are kept: they fill it soon.
    let letters = vec![vec!["x"; 16 * 1024].concat(); 100].join("\n");
    while !full.has_ended() {
        assert!(seq < 10_000, "it never ends");
        publish(&broker, producer, seq..seq + 10);
        post(&format!("http://{}/mpub?topic=plays", broker.http()), &letters);
        seq += 10;
        std::thread::sleep(Duration::from_millis(20));
    }
    let full = full.wait();
    assert_exit(&full, 1);
    let error = String::from_utf8_lossy(&full.stderr).into_owned();
    assert!(error.contains("the ledger cannot be written: "), "{error}");
    assert!(error.contains("No space left on device") || error.contains("disk is full"), "{error}");
    assert_red(&url, "the ledger cannot be written");
    disk.resize("200m");
    let again = start(dir, &process(&broker, &url));
    wait_until("it goes on", || total(&url) == seq);
    drop(again);
    assert_exact(dir, producer, seq);
}

/// The data directory is removed, or another one is put in its place, while the processor runs: it counts nothing into
/// files that nobody will find.
#[test]
fn a_ledger_that_loses_its_directory_ends_the_processor() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let producer = Uuid::new_v4();
    let first = start(dir, &process(&broker, &url));
    publish(&broker, producer, 0..50);
    wait_until("plays are counted", || total(&url) == 50);
    std::fs::rename(dir.join("ledger"), dir.join("aside")).unwrap();
    std::fs::create_dir(dir.join("ledger")).unwrap();
    publish(&broker, producer, 50..80);
    let first = first.wait();
    assert_exit(&first, 1);
    let error = String::from_utf8_lossy(&first.stderr).into_owned();
    assert!(error.contains("0000000001.segment is not in its directory any more"), "{error}");
    assert_red(&url, "is not in its directory any more");
    std::fs::remove_dir_all(dir.join("ledger")).unwrap();
    std::fs::rename(dir.join("aside"), dir.join("ledger")).unwrap();
    assert_goes_on(dir, &broker, &url, producer, 80);
}

/// A ledger that is damaged, of another version or from elsewhere is refused, never taken for empty.
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
        let connection = Connection::open(&file).unwrap();
        row_check::add_function(&connection).unwrap();
        connection.execute_batch(sql).unwrap();
        drop(connection);
        std::fs::read(&file).unwrap()
    };
    let newer = sql("PRAGMA user_version = 99");
    let older = sql("PRAGMA user_version = 0");
    let elsewhere = sql(
        "UPDATE ledger SET machine = 'another', row_check = row_check(processor, 'another', simulation, starts, dashboard,
           epoch, life, segment, number, as_of, counted, by_message, recovered, duplicates, conflicting, rejected, videos,
           producers, messages, letters, generation)",
    );
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

/// What a kill has left unfinished at the end of a ledger is cut off by the next start, and health tells it, in no alarm.
#[test]
fn a_ledgers_torn_end_is_told_by_health() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let producer = Uuid::new_v4();
    let args = process(&broker, &url);
    let first = start(dir, &args);
    publish(&broker, producer, 0..50);
    wait_until("plays are counted", || total(&url) == 50);
    first.signal(rustix::process::Signal::KILL);
    drop(first);
    let before = super::get(&format!("{url}/healthz"));
    assert!(before["cut"].is_null(), "{before}");
    let segment = dir.join("ledger/ledger.journal/0000000001.segment");
    let bytes = std::fs::read(&segment).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    // The last frame may end with some zeros; what follows it begins within the next 24 bytes.
    let file = std::fs::OpenOptions::new().write(true).open(&segment).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"torn", last as u64 + 14).unwrap();
    let mut again = start(dir, &args);
    again.wait_for("the ledger holds 50 plays");
    wait_until("it is told", || {
        let health = super::get(&format!("{url}/healthz"));
        health["status"] == "ok"
            && health["cut"].as_str().is_some_and(|cut| cut.contains("the ledger of processor "))
    });
}
