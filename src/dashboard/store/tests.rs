//! The store as its callers see it.

mod catalog;
mod checkpoints;
mod files;
mod ledgers;

use nsq_protocol::thread::{Never, stop_pair};

use super::database::{JOURNAL, remove};
use super::*;
use crate::model::video::{MAX_PLAYS, VideoCount};
use crate::model::video_id::VideoId;
use crate::wire::ProducerConfirmed;

fn store() -> (tempfile::TempDir, Store) {
    let temp = tempfile::tempdir().unwrap();
    let mut store = Store::open(temp.path(), JournalOwner::Part, 2, Keep::default()).unwrap();
    // On a busy machine a checkpoint may take longer than an HTTP call may wait.
    store.wait = Duration::from_secs(60);
    (temp, store)
}

fn update(processor: u128, version: u64, counts: &[(u128, u64)]) -> CountsUpdate {
    CountsUpdate {
        processor: Uuid::from_u128(processor),
        version,
        counts: counts
            .iter()
            .map(|(id, plays)| VideoCount {
                video_id: VideoId::from_u128(*id),
                plays: *plays,
                last_played_at: None,
            })
            .collect(),
        titles: Vec::new(),
        consumption: None,
        ledger: None,
    }
}

fn confirmed(producer: u128, watermark: u64) -> ConfirmedUpdate {
    let confirmed = Confirmed { watermark, above: Vec::new() };
    let producer = Uuid::from_u128(producer);
    ConfirmedUpdate {
        processor: Uuid::from_u128(1),
        producers: vec![ProducerConfirmed { producer, confirmed }],
        ledger: None,
    }
}

/// Keeps the tables as they are until what is returned is dropped.
fn hold(store: &Store) -> Sender<Never> {
    let (begun, has_begun) = bounded(1);
    let (until, end) = bounded(0);
    let tasks = store.inboxes.tasks.lock().clone().unwrap();
    tasks.send((Task::Hold(begun, end), bounded(1).0)).unwrap();
    has_begun.recv().unwrap();
    until
}

/// The files as a kill -9 leaves them at this moment.
fn killed(store: &Store, directory: &Path) -> tempfile::TempDir {
    let _held = hold(store);
    copied(directory)
}

fn copied(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join(JOURNAL)).unwrap();
    for part in ["", JOURNAL] {
        for file in std::fs::read_dir(directory.join(part)).unwrap() {
            let file = file.unwrap();
            if file.file_type().unwrap().is_file() {
                std::fs::copy(file.path(), copy.path().join(part).join(file.file_name())).unwrap();
            }
        }
    }
    copy
}

/// Makes of the tables those of schema 5, which had nothing of the catalog.
fn as_schema_5(directory: &Path) -> Connection {
    let connection = Connection::open(directory.join(FILE)).unwrap();
    crate::storage::row_check::add_function(&connection).unwrap();
    connection
        .execute_batch(
            "ALTER TABLE identity RENAME TO identity_6;
             CREATE TABLE identity (
                 only INTEGER PRIMARY KEY CHECK (only = 1), dashboard BLOB NOT NULL, boot TEXT NOT NULL, closed INTEGER,
                 life BLOB NOT NULL, segment INTEGER, number INTEGER, count_rows INTEGER NOT NULL,
                 count_plays INTEGER NOT NULL, row_check INTEGER NOT NULL
             ) STRICT;
             INSERT INTO identity
                 SELECT only, dashboard, boot, closed, life, segment, number, count_rows, count_plays,
                     row_check(only, dashboard, boot, closed, life, segment, number, count_rows, count_plays)
                 FROM identity_6;
             DROP TABLE identity_6; DROP TABLE titles; DROP TABLE changes; DROP TABLE imports;
             PRAGMA user_version = 5;",
        )
        .unwrap();
    connection
}

fn reopened(directory: &Path) -> Store {
    Store::open(directory, JournalOwner::Part, 1, Keep::default()).unwrap()
}

fn all(store: &Store) -> Vec<(u128, u64)> {
    store.counts().into_iter().map(|(id, plays)| (id.guid().unwrap().as_u128(), plays)).collect()
}

#[test]
fn repeats_old_versions_and_any_order_change_nothing() {
    let (_temp, store) = store();
    store.merge(update(1, 2, &[(7, 5), (8, 1)])).unwrap();
    let revision = store.revision();
    store.merge(update(1, 2, &[(7, 5), (8, 1)])).unwrap();
    store.merge(update(1, 1, &[(7, 3)])).unwrap();
    assert_eq!(store.revision(), revision);
    assert_eq!(all(&store), [(7, 5), (8, 1)]);
    store.merge(update(2, 1, &[(7, 10)])).unwrap();
    assert_eq!(all(&store), [(7, 15), (8, 1)]);
    assert_eq!(store.totals(), Totals { videos: 2, plays: 16 });
}

#[test]
fn it_is_all_there_after_opening_again() {
    let (temp, store) = store();
    store.merge(update(1, 1, &[(7, 5), (8, 0)])).unwrap();
    store.confirm(confirmed(7, 3)).unwrap();
    drop(store);
    assert!(!temp.path().join(format!("{FILE}-wal")).exists());
    assert_eq!(read_counts(temp.path()).unwrap().unwrap().len(), 2);
    let store = Store::open(temp.path(), JournalOwner::Part, 1, Keep::default()).unwrap();
    store.merge(update(1, 2, &[(7, 6)])).unwrap();
    assert_eq!(all(&store), [(7, 6), (8, 0)]);
    assert_eq!(store.confirmed(&Uuid::from_u128(7)).unwrap().watermark, 3);
    assert_eq!(store.totals(), Totals { videos: 2, plays: 6 });
    store.clear().unwrap();
    assert_eq!((all(&store), store.totals()), (vec![], Totals::default()));
    assert_eq!(store.confirmed(&Uuid::from_u128(7)).unwrap(), Confirmed::default());
}

#[test]
fn history_is_whole_before_while_and_after_it_is_checkpointed() {
    let (temp, store) = store();
    let minute = unix_ms().0 / 60_000;
    let period = Period { first: minute - 10, last: minute + 10 };
    let id = VideoId::from_u128(7);
    let plays = |store: &Store| -> i64 {
        [Scale::Minute, Scale::Hour, Scale::Day]
            .map(|scale| {
                let period =
                    Period::of(scale, UnixMs(period.first * 60_000), UnixMs(period.last * 60_000));
                store.series(id, scale, period).unwrap().iter().map(|(_, plays)| plays).sum()
            })
            .into_iter()
            .reduce(|one: i64, other| {
                assert_eq!(one, other);
                one
            })
            .unwrap()
    };
    store.merge(update(1, 1, &[(7, 5), (8, 1)])).unwrap();
    store.merge(update(2, 1, &[(7, 2)])).unwrap();
    assert_eq!(plays(&store), 7);
    let top = store.top(Scale::Minute, period, 1).unwrap();
    assert_eq!((top.total, top.videos, top.top[0].plays), (8, 2, 7));
    assert_eq!((top.top[0].video_id, top.top[0].spark.iter().sum::<i64>()), (id, 7));
    drop(store);
    let rows = Connection::open(temp.path().join(FILE)).unwrap().query_row(
        "SELECT (SELECT count(*) FROM counts) * 10 + (SELECT count(*) FROM history_day)",
        [],
        |row| row.get::<_, i64>(0),
    );
    assert_eq!(rows.unwrap(), 32, "it was closed in order");
    let store = Store::open(temp.path(), JournalOwner::Part, 1, Keep::default()).unwrap();
    assert_eq!(plays(&store), 7);
    store.merge(update(1, 2, &[(7, 6)])).unwrap();
    assert_eq!(plays(&store), 8);
    assert_eq!(
        store
            .top(Scale::Hour, Period::of(Scale::Hour, UnixMs(0), UnixMs(i64::MAX)), 5)
            .unwrap()
            .total,
        9
    );
    assert_eq!(store.shown_video(id).unwrap().rank, 1);
}

#[test]
fn it_is_another_database_after_a_reset() {
    let (temp, store) = store();
    let id = store.id();
    drop(store);
    let store = Store::open(temp.path(), JournalOwner::Part, 1, Keep::default()).unwrap();
    assert_eq!(store.id(), id);
    store.clear().unwrap();
    assert_ne!(store.id(), id);
    let id = store.id();
    drop(store);
    assert_eq!(Store::open(temp.path(), JournalOwner::Part, 1, Keep::default()).unwrap().id(), id);
}

/// A writer that hangs keeps nobody from an answer: each call ends at its deadline, and tells why.
#[test]
fn a_call_that_waits_in_vain_tells_why() {
    let (_temp, mut store) = store();
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    store.wait = Duration::from_millis(50);
    let (id, period) = (VideoId::from_u128(7), Period { first: 0, last: 1 });
    {
        let _checkpoint = store.state.tables.write();
        let reason = store.series(id, Scale::Day, period).unwrap_err().to_string();
        assert_eq!(reason, "the store is busy writing");
        let reason = store.top(Scale::Day, period, 1).unwrap_err().to_string();
        assert_eq!(reason, "the store is busy writing");
    }
    {
        let _read = store.state.index.read();
        // The writer commits this one, and hangs before it answers.
        let reason: Arc<str> = store.merge(update(1, 2, &[(7, 6)])).unwrap_err().into();
        assert_eq!(&*reason, "the store did not answer in time");
        let jobs = store.inboxes.jobs.lock().clone().unwrap();
        while jobs.try_send((Job::Probe, bounded(1).0)).is_ok() {}
        let reason: Arc<str> = store.merge(update(1, 3, &[(7, 7)])).unwrap_err().into();
        assert_eq!(&*reason, "the store takes no more updates");
        let reason: Arc<str> = store.clear().unwrap_err().into();
        assert_eq!(&*reason, "the store takes no more updates");
        *store.state.commit_failure.lock() = Some("the disk is full".into());
        let reason = store.health().unwrap_err();
        assert_eq!(&*reason, "the store takes no more updates");
    }
    let one = store.readers.read(Instant::now(), |_| {
        let other = store.readers.read(Instant::now(), |_| Ok(store.kept(Scale::Day).is_err()));
        Ok(other.unwrap())
    });
    assert!(one.unwrap(), "both connections are lent out");
    store.wait = WAIT;
    store.health().unwrap();
    store.merge(update(1, 3, &[(7, 7)])).unwrap();
    assert_eq!(all(&store), [(7, 7)]);
}

#[test]
fn what_an_http_call_waits_for_in_all_leaves_time_for_its_answer() {
    // A reset clears, and adds a line to the action log; nothing waits longer for the store.
    let longest = WAIT * 2;
    assert!(longest + Duration::from_secs(5) < crate::http::ANSWER_WAIT);
}

/// Whoever tells too much is refused, alone; what is there stays, over starts as well.
#[test]
fn counts_that_would_overflow_are_refused() {
    let most = MAX_PLAYS;
    let (temp, store) = store();
    store.merge(update(1, 1, &[(7, most - 10), (8, 3)])).unwrap();
    for counts in [
        // Of another processor for the same video, of another video, of both together, and of a known count that grows.
        (2, vec![(7, 8)]),
        (2, vec![(9, most)]),
        (2, vec![(9, 4), (10, 4)]),
        (1, vec![(8, 11)]),
    ] {
        let not_stored = store.merge(update(counts.0, 2, &counts.1)).unwrap_err();
        assert!(matches!(&not_stored, NotStored::Refused(_)), "{not_stored:?}");
        assert_eq!(store.totals().plays, most - 7);
        // It is told, and nothing is broken.
        assert!(store.refused().unwrap().contains("more than 9007199254740991"));
        store.health().unwrap();
    }
    store.merge(update(2, 3, &[(9, 4), (10, 3)])).unwrap();
    assert_eq!(store.totals().plays, most);
    // A repeat and an old count are no growth.
    store.merge(update(1, 4, &[(7, most - 10), (8, 2)])).unwrap();
    drop(store);
    let store = Store::open(temp.path(), JournalOwner::Part, 1, Keep::default()).unwrap();
    assert_eq!((store.totals().plays, store.refused()), (most, None));
}

/// A processor that is one too many is refused, and those that are known go on.
#[test]
fn processors_have_a_limit() {
    let (_temp, store) = store();
    for id in 0..writer::PROCESSORS_MAX as u128 {
        store.merge(update(id, 1, &[(7, 1)])).unwrap();
    }
    let not_stored = store.merge(update(1 << 90, 1, &[(7, 1)])).unwrap_err();
    let NotStored::Refused(reason) = not_stored else { panic!("{not_stored:?}") };
    assert!(reason.contains("10000 processors are known already"), "{reason}");
    assert_eq!(store.refused().as_deref(), Some(&*reason));
    store.merge(update(5, 2, &[(7, 2)])).unwrap();
    assert_eq!(store.totals().plays, writer::PROCESSORS_MAX as u64 + 1);
}
