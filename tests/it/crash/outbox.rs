//! Producers and their outboxes: killed, full, set back, damaged, of an older version, on a disk that takes no more.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use playcounts::ledger;
use rusqlite::Connection;
use rustix::process::Signal;
use uuid::Uuid;

use super::{assert_exact, process, start};
use crate::disk::{SmallDisk, limit_files};
use crate::support::{
    self, Broker, Running, assert_exit, command, copy_all, json, on_both_brokers, output, post,
    total, wait_until,
};

/// The arguments of a producer of `plays` plays of 7 videos, with its outbox in `outbox`.
fn produce(broker: &Broker, url: &str, plays: u64) -> Vec<String> {
    let tcp = broker.tcp();
    let line = format!(
        "produce --num-messages {plays} --num-videos 7 --rate 5000 --republish-after 2s --data-dir outbox --json \
         --nsqd-tcp-address {tcp} --dashboard-url {url}"
    );
    line.split(' ').map(String::from).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// That the producer goes on, and then ledger and outbox agree on `plays` plays of every video. What the start said.
#[track_caller]
fn assert_goes_on(dir: &Path, produce: &[String], plays: u64) -> String {
    let done = start(dir, produce).wait();
    assert_exit(&done, 0);
    let report = json(&done);
    assert_eq!((&report["messages"], &report["confirmed"]), (&plays.into(), &true.into()));
    let attempted = playcounts::producer::read_outbox(&dir.join("outbox")).unwrap().unwrap();
    assert_exact(dir, attempted.producer, plays);
    let ledger = ledger::read(&dir.join("ledger")).unwrap().unwrap();
    let check = ledger::IntegrityCheck::new(&ledger, std::slice::from_ref(&attempted));
    assert!(check.is_exact() && check.attempted == plays, "{check}");
    let counted: BTreeMap<_, _> =
        ledger.videos.iter().map(|video| (video.video_id, video.plays)).collect();
    assert_eq!(counted, attempted.counts.into_iter().collect());
    stderr(&done)
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
            let dead =
                command(dir, &produce).env("PLAYCOUNTS_FAILPOINT", "outbox-after-write:5").output();
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
    produce.wait_for("the outbox is full with 1,000 plays");
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
    copy_all(&dir.join("outbox"), &old);
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

/// Killed where the journal is made, behind a batch, and in and behind the checkpoint of a stop.
#[test]
fn a_producer_that_dies_anywhere_goes_on_where_it_was() {
    if !cfg!(debug_assertions) {
        return;
    }
    for point in [
        "outbox-before-position",
        "outbox-after-write:5",
        "outbox-in-checkpoint",
        "outbox-after-checkpoint",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let broker = Broker::ours(dir);
        let (_dashboard, url) = support::dashboard(dir);
        let _process = start(dir, &process(&broker, &url));
        let args = produce(&broker, &url, 4000);
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut dies = command(dir, &words);
        dies.env("PLAYCOUNTS_FAILPOINT", point);
        let dies = Running::spawn(dies, point);
        if point.ends_with("checkpoint") {
            wait_until("some plays are counted", || total(&url) > 500);
            dies.signal(Signal::TERM);
        }
        let dead = dies.wait();
        assert_eq!(dead.status.code(), None, "{point}: {dead:?}");
        assert_goes_on(dir, &args, 4000);
    }
}

/// What a crash has left unfinished at the end of the journal is cut off, and that is said once.
#[test]
fn a_torn_end_is_cut_off_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let _process = start(dir, &process(&broker, &url));
    let args = produce(&broker, &url, 4000);
    let killed = start(dir, &args);
    wait_until("some plays are counted", || total(&url) > 500);
    killed.signal(Signal::KILL);
    drop(killed);
    let segment = dir.join("outbox/outbox.journal/0000000001.segment");
    let bytes = fs::read(&segment).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    // The last frame may end with plays of video 0; what follows it begins within the next 24 bytes.
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(b"torn", last as u64 + 14).unwrap();
    let said = assert_goes_on(dir, &args, 4000);
    assert_eq!(said.matches("bytes were cut off at byte ").count(), 1, "{said}");
    let again = assert_goes_on(dir, &args, 4000);
    assert!(!again.contains("cut off"), "{again}");
}

/// A bit that was flipped where no crash can have done it is refused, with file and place.
#[test]
fn a_damaged_journal_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let _process = start(dir, &process(&broker, &url));
    let args = produce(&broker, &url, 4000);
    let killed = start(dir, &args);
    wait_until("some plays are counted", || total(&url) > 500);
    killed.signal(Signal::KILL);
    drop(killed);
    let segment = dir.join("outbox/outbox.journal/0000000001.segment");
    let good = fs::read(&segment).unwrap();
    let mut bad = good.clone();
    bad[5000] ^= 4;
    fs::write(&segment, bad).unwrap();
    let refused = start(dir, &args).wait();
    assert_exit(&refused, 1);
    let error = stderr(&refused);
    let wanted = "cannot use the producer's outbox, outbox/outbox.journal: 0000000001.segment is damaged at byte ";
    assert!(error.contains(wanted), "{error}");
    fs::write(&segment, good).unwrap();
    assert_goes_on(dir, &args, 4000);
}

/// The directory is removed, or moved, while it is written to: the producer ends and says so.
#[test]
fn a_removed_outbox_ends_its_producer() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let _process = start(dir, &process(&broker, &url));
    let args = produce(&broker, &url, 20_000);
    let running = start(dir, &args);
    wait_until("some plays are counted", || total(&url) > 500);
    fs::rename(dir.join("outbox"), dir.join("moved")).unwrap();
    let ended = running.wait();
    assert_exit(&ended, 1);
    let error = stderr(&ended);
    let wanted =
        "the outbox cannot be written: 0000000001.segment is not in its directory any more";
    assert!(error.contains(wanted), "{error}");
    assert!(!dir.join("outbox").exists(), "nothing is made in its place");
    fs::rename(dir.join("moved"), dir.join("outbox")).unwrap();
    assert_goes_on(dir, &args, 20_000);
}

/// A full disk, where a small one may be mounted: there is no room for the next segment.
#[test]
fn a_full_disk_ends_the_producer_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("outbox")).unwrap();
    let Some(disk) = SmallDisk::mount(&dir.join("outbox"), "20m") else { return };
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let _process = start(dir, &process(&broker, &url));
    let args = produce(&broker, &url, 20_000);
    let full = start(dir, &args).wait();
    assert_exit(&full, 1);
    let error = stderr(&full);
    let lines: Vec<_> = error.lines().filter(|line| line.contains("the outbox")).collect();
    let [line] = lines[..] else { panic!("{error}") };
    assert!(line.contains("the outbox cannot be written: ") && line.contains("No space"), "{line}");
    disk.resize("100m");
    assert_goes_on(dir, &args, 20_000);
}

/// The same where nobody may mount anything: its files may not grow (EFBIG), so that a start finds no room for its segment.
#[test]
fn a_failing_disk_ends_the_producer_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let _process = start(dir, &process(&broker, &url));
    let args = produce(&broker, &url, 20_000);
    let first = start(dir, &args);
    wait_until("some plays are counted", || total(&url) > 500);
    first.signal(Signal::KILL);
    drop(first);
    let mut limited = Command::new("bash");
    limited.args(["-c", &format!(r#"{} exec "$0" "$@""#, limit_files(64))]);
    limited.arg(env!("CARGO_BIN_EXE_playcounts")).args(&args).current_dir(dir);
    limited.stdout(Stdio::piped()).stderr(Stdio::piped());
    let limited = Running::spawn(limited, "the limited one").wait();
    assert_exit(&limited, 1);
    let error = stderr(&limited);
    assert!(error.contains("cannot be made: File too large"), "{error}");
    assert_goes_on(dir, &args, 20_000);
}

/// Plays that are gone from an outbox of schema 1: whose, and how many of each video.
fn gone_of_schema_1(database: &Path) -> (Uuid, Vec<(Uuid, u64)>) {
    let connection = Connection::open(database).unwrap();
    let producer = connection.query_row("SELECT producer FROM run", [], |row| row.get(0)).unwrap();
    let mut select = connection.prepare("SELECT video_id, plays FROM videos").unwrap();
    let gone = select.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))).unwrap();
    (producer, gone.map(Result::unwrap).collect())
}

/// Files of schema 1, as a `produce` of that time left them when it was killed after 390 of 900 plays, of which 260 were
/// counted: the run goes on and every play is counted once.
#[test]
fn an_outbox_of_schema_1_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let files = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/data/outbox-1"));
    // One to look at: that alone puts the WAL into the database.
    for to in ["outbox", "look"].map(|to| dir.join(to)) {
        fs::create_dir(&to).unwrap();
        for name in ["outbox.sqlite3", "outbox.sqlite3-wal"] {
            fs::copy(files.join(name), to.join(name)).unwrap();
        }
    }
    let (producer, gone) = gone_of_schema_1(&dir.join("look/outbox.sqlite3"));
    assert_eq!(gone.iter().map(|(_, plays)| plays).sum::<u64>(), 260);
    let reader = playcounts::producer::read_outbox(&dir.join("outbox")).unwrap_err().to_string();
    assert!(reader.contains("has schema 1, of an older playcounts"), "{reader}");
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let _process = start(dir, &process(&broker, &url));
    // What is gone is counted; of the queue of that time nothing else is left.
    let videos = gone.iter().flat_map(|(video, plays)| (0..*plays).map(move |_| video));
    let plays: Vec<String> = videos
        .zip(0..)
        .map(|(video, seq)| {
            format!(r#"{{"video_id":"{video}","producer":"{producer}","seq":{seq}}}"#)
        })
        .collect();
    post(&format!("http://{}/mpub?topic=plays", broker.http()), &plays.join("\n"));
    let mut args = produce(&broker, &url, 900);
    args[4] = "20".into();
    assert_goes_on(dir, &args, 900);
    let attempted = playcounts::producer::read_outbox(&dir.join("outbox")).unwrap().unwrap();
    assert_eq!(attempted.producer, producer);
    for (video, plays) in gone {
        let found = attempted.counts.iter().find(|(found, _)| *found == video.into());
        assert!(found.is_some_and(|(_, now)| *now >= plays), "{video}");
    }
    // Once more, from the files of now.
    assert_goes_on(dir, &args, 900);
}
