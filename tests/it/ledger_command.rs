//! `playcounts ledger` against a real PostgreSQL: a shared ledger is made, told, and takes ledgers in files over, each play of
//! which is known then.

use std::path::Path;
use std::process::Output;
use std::sync::LazyLock;
use std::time::SystemTime;

use nsq_protocol::MessageId;
use playcounts::ledger::{
    Arrivals, ArrivedPlay, BehindPolicy, Counters, Ledger, LedgerConfig, MessageBudget, MessageKey,
    NextUpkeep, PostgresLedger, PostgresLedgerConfig,
};
use playcounts::model::config::Durability;
use playcounts::model::play::{Play, PlayIdentity};
use playcounts::model::video::VideoState;
use playcounts::postgres::PgConfig;
use playcounts::storage::data_dir::{DataDir, PROCESSOR};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::ledger_support::{arrivals, hours, letter, open, upkeep};
use crate::postgres_server::{Postgres, postgres_or_skip};
use crate::support::{copy_all, output};
use playcounts::model::video_id::VideoId;

/// Plays of [`made`].
const PLAYS: u64 = 100_000;

/// Messages of one commit: few enough for the small segments of the tests' ledgers in files.
const BATCH: u64 = 500;

fn open_shared(server: &Postgres, directory: &Path) -> anyhow::Result<PostgresLedger> {
    PostgresLedger::open(&PostgresLedgerConfig {
        database: PgConfig::parse(&server.url(), &|_| None).unwrap(),
        directory: directory.to_owned(),
        on_behind: BehindPolicy::Refuse,
    })
}

/// Runs `ledger` with that server; what it says on both.
fn run(server: &Postgres, args: &[&str]) -> (Output, String) {
    let url = server.url();
    let temp = TempDir::new().unwrap();
    let ran = output(temp.path(), &[&["ledger"], args, &["--ledger", &url]].concat());
    let text = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    (ran.clone(), text.into_owned())
}

#[track_caller]
fn runs(server: &Postgres, args: &[&str]) -> String {
    let (ran, text) = run(server, args);
    assert!(ran.status.success(), "{args:?}: {text}");
    text
}

#[track_caller]
fn refused(server: &Postgres, args: &[&str], want: &str) {
    let (ran, text) = run(server, args);
    assert_eq!(ran.status.code(), Some(1), "{args:?}: {text}");
    assert!(text.contains(want), "{text}\ndoes not say {want:?}");
    assert!(!text.contains("never-shown"), "the password is shown: {text}");
}

/// Play `number` of all: of 1,000 videos, of 7 producers with holes, and every eleventh without an identity.
fn play(number: u64) -> ArrivedPlay {
    let identity = (!number.is_multiple_of(11)).then(|| {
        let seq = number / 7 + number / 7_000 * 5;
        PlayIdentity { producer: Uuid::from_u128(1 + u128::from(number % 7)), seq }
    });
    let video_id = VideoId::from_u128(1 + u128::from(number % 1_000));
    // The same at each call: of the last hours.
    static FIRST_NS: LazyLock<i64> = LazyLock::new(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        now.as_nanos() as i64 - 3 * 3_600_000_000_000
    });
    let ns = *FIRST_NS + number as i64 * 100_000_000;
    let key = MessageKey::new(MessageId::from_u64(number + 1), ns);
    let enqueued_at_ns = Some(1_700_000_000_000_000_000 + number);
    ArrivedPlay::new(Play { video_id, enqueued_at_ns, identity, resent: false }, key)
}

/// Plays of those numbers, a batch each.
fn batches(numbers: impl Iterator<Item = u64>) -> Vec<Vec<Arrivals>> {
    let numbers: Vec<_> = numbers.collect();
    let batch = |numbers: &[u64]| {
        let plays = numbers.iter().map(|number| play(*number)).collect();
        vec![Arrivals { plays, rejected: Vec::new() }]
    };
    numbers.chunks(BATCH as usize).map(batch).collect()
}

fn count(ledger: &mut dyn Ledger, numbers: impl Iterator<Item = u64>) -> u64 {
    let batches = batches(numbers).into_iter();
    batches.map(|mut batch| ledger.commit(&mut batch).unwrap().counters.counted).sum()
}

/// What a ledger in files holds.
struct Held {
    processor: Uuid,
    counters: Counters,
    videos: Vec<VideoState>,
}

fn held(ledger: &dyn Ledger) -> Held {
    let mut videos = ledger.videos();
    videos.iter_mut().for_each(|video| video.published = 0);
    videos.sort_unstable_by_key(|video| video.video_id);
    Held { processor: ledger.processor(), counters: ledger.counters(), videos }
}

/// A ledger in files that was killed: some of it in tables, the rest in the journal, and two dead letters.
fn made(directory: &Path) {
    let mut ledger = open(directory).unwrap();
    count(&mut ledger, 0..PLAYS / 2);
    ledger.commit(&mut arrivals(Vec::new(), vec![letter(1)])).unwrap();
    while upkeep(&mut ledger, hours(1)) == NextUpkeep::Soon {}
    count(&mut ledger, PLAYS / 2..PLAYS);
    // Some come twice.
    assert_eq!(count(&mut ledger, (0..PLAYS).step_by(97)), 0);
    ledger.commit(&mut arrivals(Vec::new(), vec![letter(2)])).unwrap();
}

fn data_dir(directory: &Path) -> [&str; 2] {
    ["--data-dir", directory.to_str().unwrap()]
}

#[test]
fn a_shared_ledger_is_made_once_and_told() {
    let server = postgres_or_skip!();
    refused(&server, &["status"], "there is no shared ledger in the database at 127.0.0.1:");
    assert!(runs(&server, &["init"]).starts_with("made the shared ledger "));
    let again = runs(&server, &["init"]);
    assert!(again.contains(" is there; nothing was changed"), "{again}");
    let dir = TempDir::new().unwrap();
    let mut ledger = open_shared(&server, dir.path()).unwrap();
    assert_eq!(count(&mut ledger, 0..3_000), 3_000);
    let id = ledger.processor();
    let text = runs(&server, &["status"]);
    assert!(text.contains(&format!("processor {id}: lease ")), "{text}");
    assert!(
        text.contains("0 plays, 6 commits, 6 not swept") && text.contains("7 producers"),
        "{text}"
    );
    ledger.close().unwrap();
    let text = runs(&server, &["status"]);
    assert!(text.contains(&format!("processor {id}: stopped in order ")), "{text}");
    let told: Value = serde_json::from_str(runs(&server, &["status", "--json"]).trim()).unwrap();
    let processor = &told["processors"][0];
    assert_eq!((&processor["plays"], &processor["unswept"]), (&3_000.into(), &0.into()), "{told}");
    let since = processor["lease_ms_left"].as_i64().unwrap();
    assert!((-60_000..0).contains(&since) && processor["was_stopped"] == true, "{told}");
    assert_eq!((&told["records"], &told["videos"]), (&0.into(), &1_000.into()), "{told}");
    let names = told["tables"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap());
    assert!(names.filter(|name| name.starts_with("messages")).eq(["messages"]), "{told}");
    // A newer one is left alone.
    server.sql("UPDATE playcounts.schema SET version = 99");
    for command in ["init", "status"] {
        refused(&server, &[command], "version 99, of a newer playcounts");
    }
}

#[test]
fn a_ledger_in_files_is_taken_over_with_all_that_it_knows() {
    let server = postgres_or_skip!();
    let temp = TempDir::new().unwrap();
    let (files, copy) = (temp.path().join("files"), temp.path().join("copy"));
    std::fs::create_dir(&files).unwrap();
    made(&files);
    copy_all(&files, &copy);
    // What a start finds of it: how often repeats alone came is not kept.
    let before = held(&open(&copy).unwrap());
    assert_eq!((before.counters.counted, before.counters.rejected), (PLAYS, 2));
    let import = [&["import"], &data_dir(&files)[..]].concat();
    // Its processor runs.
    let lock = DataDir::open(&files).unwrap().lock(PROCESSOR).unwrap();
    refused(&server, &import, &format!("{}", std::process::id()));
    drop(lock);
    let text = runs(&server, &import);
    assert!(text.contains("took over 100,000 plays of 1,000 videos, 7 producers"), "{text}");
    assert!(text.contains("ledger.sqlite3.imported-1 now"), "{text}");

    // The same processor, with the same counts.
    let mut ledger = open_shared(&server, &files).unwrap();
    let after = held(&ledger);
    assert_eq!(after.processor, before.processor);
    assert_eq!(after.counters, before.counters);
    assert_eq!(after.videos, before.videos);
    // What it knew it knows, and so does another processor; what is new is new.
    let dir = TempDir::new().unwrap();
    let mut other = open_shared(&server, dir.path()).unwrap();
    assert_eq!(count(&mut ledger, 0..PLAYS), 0);
    assert_eq!(count(&mut other, (0..PLAYS).rev()), 0);
    assert_eq!(count(&mut ledger, PLAYS..PLAYS + 500), 500);
    assert_eq!(count(&mut other, PLAYS..PLAYS + 700), 200);
    for producer in 1..=7 {
        let told = other.confirmed(&Uuid::from_u128(producer)).unwrap();
        assert!(told.watermark > 0 || !told.above.is_empty(), "{producer}: {told:?}");
    }
    assert_eq!(server.sql("SELECT count(*) FROM playcounts.dead_letters"), "2");
    ledger.close().unwrap();
    drop(ledger);

    // Never beside it in files again, nor a copy of it.
    let config = LedgerConfig {
        directory: files.clone(),
        simulation: false,
        adopt: false,
        message_budget: MessageBudget::default(),
    };
    let error = playcounts::ledger::open(&config, Durability::Process).err().unwrap();
    assert!(format!("{error:#}").contains("counts in a shared ledger"), "{error:#}");
    refused(&server, &import, "has no ledger in files: it counts as processor");
    let import = [&["import"], &data_dir(&copy)[..]].concat();
    let want = format!("has a processor {} already", before.processor);
    refused(&server, &import, &want);
    assert!(open(&copy).is_ok(), "a refused one is left as it was");
    assert!(!copy.join("processor-id").exists());
}

#[test]
fn plays_that_both_have_are_told_and_known() {
    let server = postgres_or_skip!();
    let temp = TempDir::new().unwrap();
    let mut first = open(temp.path()).unwrap();
    assert_eq!(count(&mut first, 0..10_000), 10_000);
    drop(first);
    let dir = TempDir::new().unwrap();
    let mut shared = open_shared(&server, dir.path()).unwrap();
    assert_eq!(count(&mut shared, 5_000..20_000), 15_000);
    let text = runs(&server, &[&["import"], &data_dir(temp.path())[..]].concat());
    let with_identity = (5_000..10_000).filter(|number| number % 11 != 0).count();
    assert_eq!(with_identity, 4_545);
    assert!(text.contains("4,545 of the plays were in the shared ledger, too"), "{text}");
    assert_eq!(count(&mut shared, 0..20_000), 0);
    assert_eq!(count(&mut shared, 0..20_100), 100);
}

#[test]
fn an_import_that_was_cut_off_goes_on_and_one_that_failed_leaves_no_trace() {
    let server = postgres_or_skip!();
    let temp = TempDir::new().unwrap();
    let files = temp.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let mut ledger = open(&files).unwrap();
    assert_eq!(count(&mut ledger, 0..4_000), 4_000);
    let id = ledger.processor();
    drop(ledger);
    let import = [&["import"], &data_dir(&files)[..]].concat();
    runs(&server, &["init"]);
    // The database refuses a row in the middle.
    server.sql("ALTER TABLE playcounts.seen ADD CONSTRAINT no CHECK (segment < 0)");
    refused(&server, &import, "nothing was taken over");
    assert!(!files.join("processor-id").exists());
    assert_eq!(server.sql("SELECT count(*) FROM playcounts.processors"), "0");
    assert_eq!(count(&mut open(&files).unwrap(), 0..4_000), 0);
    server.sql("ALTER TABLE playcounts.seen DROP CONSTRAINT no");
    // Killed behind the commit: the files are where they were.
    let saved = temp.path().join("saved");
    copy_all(&files, &saved);
    runs(&server, &import);
    let mark = std::fs::read(files.join("processor-id")).unwrap();
    std::fs::remove_dir_all(&files).unwrap();
    copy_all(&saved, &files);
    std::fs::write(files.join("processor-id"), mark).unwrap();
    let text = runs(&server, &import);
    assert!(text.contains("an earlier try had written it all"), "{text}");
    assert_eq!(server.sql("SELECT count(*) FROM playcounts.processors"), "1");
    let mut shared = open_shared(&server, &files).unwrap();
    assert_eq!((shared.processor(), count(&mut shared, 0..4_001)), (id, 1));
}

#[test]
fn what_cannot_be_taken_over_is_refused() {
    let server = postgres_or_skip!();
    let temp = TempDir::new().unwrap();
    let nowhere = temp.path().join("nowhere");
    refused(
        &server,
        &[&["import"], &data_dir(&nowhere)[..]].concat(),
        "there is no data directory",
    );
    let empty = temp.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    refused(&server, &[&["import"], &data_dir(&empty)[..]].concat(), "there is no ledger in");
    let simulation = temp.path().join("simulation");
    std::fs::create_dir(&simulation).unwrap();
    let config = LedgerConfig {
        directory: simulation.clone(),
        simulation: true,
        adopt: false,
        message_budget: MessageBudget::default(),
    };
    drop(playcounts::ledger::open(&config, Durability::Process).unwrap());
    let import = [&["import"], &data_dir(&simulation)[..]].concat();
    refused(&server, &import, "holds a simulation's (`run`) counts");
    let ran = output(temp.path(), &["ledger", "init", "--ledger", "files"]);
    let text = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(text.contains("--ledger must be the URL of a database"), "{text}");
}
