//! Ledgers of schema 2, from before there was a journal, as a real processor left them: taken over exactly, at the first
//! start. tests/it/data/README.md says what was counted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nsq_protocol::MessageId;
use playcounts::ledger::{self, Counters, Ledger, LedgerConfig, MessageBudget, Snapshot};
use playcounts::model::config::Durability;
use playcounts::model::dashboard_index::DashboardIndex;
use rusqlite::Connection;
use tempfile::TempDir;
use uuid::{Uuid, uuid};

use crate::replayed::{self, ReplayedMessage};
use crate::support::{self, assert_exit, command, get, output};

/// A producer of plays 0 to 259, and one of 10 to 59 and 100 to 119.
const ONE: Uuid = uuid!("a0000000-0000-4000-8000-000000000001");
const OTHER: Uuid = uuid!("c0000000-0000-4000-8000-000000000002");

/// Video, plays, ms of the newest play since the first; 0: none said so.
const COUNTED: [(u128, u64, u64); 6] =
    [(1, 107, 258), (2, 87, 259), (3, 86, 257), (4, 100, 0), (5, 70, 119), (7, 1, 0)];

/// When the first play was enqueued, in ms since the Unix epoch.
const FIRST_PLAYED_AT: u64 = 1_764_150_000_000;

/// Plays and dead letters.
const PLAYS: u64 = 451;
const REJECTED: u64 = 7;

/// A ledger as it was left.
struct OldLedger {
    /// Of its data.
    name: &'static str,
    /// Of the nsqd that it counted from.
    nsqd: &'static str,
    processor: Uuid,
    dashboard: Uuid,
    /// Of `COUNTED`, how much the dashboard had taken.
    published: [u64; 6],
    duplicates: u64,
    conflicting: u64,
}

/// Killed, with records and a WAL: what was published since the newest checkpoint is not known, nor repeats that came alone.
const KILLED: OldLedger = OldLedger {
    name: "ledger-2-killed",
    nsqd: "127.9.1.4:24151",
    processor: uuid!("4d275777-f271-4edc-ae74-2ab752ec658d"),
    dashboard: uuid!("099e6be2-b9a0-49f0-9ce3-001143d11ec0"),
    published: [67, 67, 66, 60, 50, 0],
    duplicates: 18,
    conflicting: 0,
};

/// Stopped in order: all is in the tables.
const CLOSED: OldLedger = OldLedger {
    name: "ledger-2-closed",
    nsqd: "127.9.1.5:24151",
    processor: uuid!("335b8dcf-bb10-45fd-b09d-fca0d967ad67"),
    dashboard: uuid!("db3a088d-ef2d-43f1-99ad-bc4a4a49fd4a"),
    published: [87, 87, 86, 60, 70, 0],
    duplicates: 25,
    conflicting: 5,
};

impl OldLedger {
    fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data").join(self.name)
    }

    fn messages(&self) -> Vec<ReplayedMessage> {
        replayed::read_messages(&self.path().join("messages.tsv"))
    }

    /// A directory whose `ledger` holds a copy.
    fn copy(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("ledger")).unwrap();
        for file in ["ledger.sqlite3", "ledger.sqlite3-wal"] {
            let from = self.path().join(file);
            if from.exists() {
                std::fs::copy(from, dir.path().join("ledger").join(file)).unwrap();
            }
        }
        dir
    }

    fn counters(&self) -> Counters {
        let Self { duplicates, conflicting, .. } = *self;
        Counters {
            counted: PLAYS,
            by_message: 121,
            recovered: 20,
            duplicates,
            conflicting,
            rejected: REJECTED,
        }
    }
}

fn open(dir: &Path) -> Box<dyn Ledger> {
    let config = LedgerConfig {
        directory: dir.join("ledger"),
        simulation: false,
        adopt: true,
        message_budget: MessageBudget::default(),
    };
    ledger::open(&config, Durability::Process).unwrap()
}

/// That the ledger holds what the old one held, and nothing else.
#[track_caller]
fn assert_taken_over(dir: &Path, old: &OldLedger) {
    let found = ledger::read(&dir.join("ledger")).unwrap().expect("there is a ledger");
    let Snapshot { processor, counters, mut videos, producers } = found;
    assert_eq!((processor, counters), (old.processor, old.counters()));
    videos.sort_by_key(|video| video.video_id);
    let videos: Vec<_> = videos
        .iter()
        .map(|video| {
            (
                video.video_id.guid().unwrap().as_u128(),
                video.plays,
                video.last_played_at,
                video.published,
            )
        })
        .collect();
    let played_at = |ms| if ms == 0 { 0 } else { FIRST_PLAYED_AT + ms };
    let wanted: Vec<_> = COUNTED
        .iter()
        .zip(old.published)
        .map(|((video, plays, ms), published)| (*video, *plays, played_at(*ms), published))
        .collect();
    assert_eq!(videos, wanted);
    let counted: BTreeMap<Uuid, String> = producers
        .iter()
        .map(|(id, set)| (*id, format!("{:?}", set.runs().collect::<Vec<_>>())))
        .collect();
    let wanted = [(ONE, "[0..260]"), (OTHER, "[10..60, 100..120]")];
    assert_eq!(counted, wanted.map(|(id, runs)| (id, runs.to_owned())).into());
    assert_dead_letters(dir, old);
}

/// That `dead-letters` lists them as they were kept.
#[track_caller]
fn assert_dead_letters(dir: &Path, old: &OldLedger) {
    let listed = output(dir, &["dead-letters", "--json", "--data-dir", "ledger"]);
    assert_exit(&listed, 0);
    let listed: Vec<serde_json::Value> = String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let is_no_play = |message: &&ReplayedMessage| !message.body.contains(r#""video_id":"0"#);
    let messages = old.messages();
    let wanted: Vec<_> = messages.iter().filter(is_no_play).collect();
    assert_eq!((listed.len(), wanted.len()), (7, 7));
    for ((letter, message), number) in listed.iter().zip(wanted).zip(1..) {
        assert_eq!((&letter["number"], &letter["nsqd"]), (&number.into(), &old.nsqd.into()));
        assert_eq!(letter["message_id"], message.id.to_string());
        assert_eq!(
            (&letter["body"], &letter["size"]),
            (&message.body.clone().into(), &message.body.len().into())
        );
        assert!(letter["at"].as_i64() > Some(1_795_694_000_000), "{letter}");
    }
    assert_eq!(listed[3]["reason"], "video_id \"x\" is no UUID at line 1 column 15");
}

fn version(dir: &Path) -> i64 {
    let connection = Connection::open(dir.join("ledger/ledger.sqlite3")).unwrap();
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

/// Taken over by the first start, whole, and held by those that follow.
#[test]
fn an_old_ledger_is_taken_over_exactly() {
    for old in [KILLED, CLOSED] {
        let dir = old.copy();
        let dir = dir.path();
        let reader = format!("{:#}", ledger::read(&dir.join("ledger")).unwrap_err());
        assert!(reader.contains("has schema 2, of an older playcounts"), "{reader}");
        for start in 2..5 {
            let mut ledger = open(dir);
            assert_eq!(version(dir), 3);
            assert_eq!((ledger.processor(), ledger.counters()), (old.processor, old.counters()));
            assert_eq!(ledger.first_version(), start << 32);
            // It is the dashboard that was told before.
            assert!(!ledger.publishes_to(DashboardIndex::FIRST, old.dashboard).unwrap());
            if start == 3 {
                ledger.close().unwrap();
            }
            drop(ledger);
            assert_taken_over(dir, &old);
        }
    }
}

/// Messages that the old ledger has counted come again, at its first start and later: they are not counted again.
#[test]
fn what_an_old_ledger_has_counted_is_not_counted_again() {
    for old in [KILLED, CLOSED] {
        let dir = old.copy();
        let dir = dir.path();
        let (_dashboard, url) = support::dashboard(dir);
        let mut messages = old.messages();
        assert_eq!(messages.len(), 158);
        let repeats = messages.len() as u64 - REJECTED;
        // Behind them, plays that are new.
        for number in 0..10 {
            messages.push(ReplayedMessage {
                id: MessageId::from_u64(0x18b0_0000_0000_0000 + number),
                timestamp_ns: 1_800_000_000_000_000_000,
                body: format!(r#"{{"video_id":"{}"}}"#, Uuid::from_u128(4)),
            });
        }
        replayed::serve(old.nsqd, messages);
        let held = (PLAYS + REJECTED + 10).to_string();
        let process = [
            "process",
            "--nsqd-tcp-address",
            old.nsqd,
            "--dashboard-url",
            &url,
            "--data-dir",
            "ledger",
            "--json",
            "--adopt-ledger",
            "--consumer-opt",
            "rdy,fixed",
            "--num-messages",
            &held,
        ];
        let first = output(dir, &process);
        assert_exit(&first, 0);
        let report = support::json(&first);
        assert_eq!((&report["counted"], &report["rejected"]), (&10.into(), &0.into()), "{report}");
        assert_eq!(report["duplicates"], repeats + REJECTED);
        assert_eq!(get(&format!("{url}/api/counts"))["total_plays"], PLAYS + 10);
        let ledger = ledger::read(&dir.join("ledger")).unwrap().unwrap();
        assert_eq!((ledger.processor, ledger.counters.counted), (old.processor, PLAYS + 10));
        assert_dead_letters(dir, &old);
    }
}

/// Killed in the middle, it is done again.
#[test]
fn a_migration_that_was_interrupted_is_done_again() {
    if !cfg!(debug_assertions) {
        return;
    }
    for old in [KILLED, CLOSED] {
        let dir = old.copy();
        let dir = dir.path();
        for point in ["ledger-in-migration", "ledger-after-migration"] {
            let dead = command(dir, &["process", "--data-dir", "ledger", "--adopt-ledger"])
                .env("PLAYCOUNTS_FAILPOINT", point)
                .output()
                .unwrap();
            assert_eq!(dead.status.code(), None, "{point}: {dead:?}");
            assert_eq!(version(dir), if point == "ledger-in-migration" { 2 } else { 3 });
        }
        drop(open(dir));
        assert_taken_over(dir, &old);
    }
}
