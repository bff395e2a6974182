//! The store as its callers see it.

use super::database::open_in;
use super::*;
use crate::model::video::VideoCount;

fn store() -> (tempfile::TempDir, Store) {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path(), 2, Keep::default()).unwrap();
    (temp, store)
}

fn update(processor: u128, version: u64, counts: &[(u128, u64)]) -> CountsUpdate {
    CountsUpdate {
        processor: Uuid::from_u128(processor),
        version,
        counts: counts
            .iter()
            .map(|(id, plays)| VideoCount {
                video_id: Uuid::from_u128(*id),
                plays: *plays,
                last_played_at: None,
            })
            .collect(),
        consumption: None,
    }
}

fn all(store: &Store) -> Vec<(u128, u64)> {
    store.counts().into_iter().map(|(id, plays)| (id.as_u128(), plays)).collect()
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
    drop(store);
    assert!(!temp.path().join(format!("{FILE}-wal")).exists());
    assert_eq!(read_counts(temp.path()).unwrap().unwrap().len(), 2);
    let store = Store::open(temp.path(), 1, Keep::default()).unwrap();
    store.merge(update(1, 2, &[(7, 6)])).unwrap();
    assert_eq!(all(&store), [(7, 6), (8, 0)]);
    assert_eq!(store.totals(), Totals { videos: 2, plays: 6 });
    store.clear().unwrap();
    assert_eq!((all(&store), store.totals()), (vec![], Totals::default()));
}

#[test]
fn history_is_whole_before_while_and_after_it_is_checkpointed() {
    let (temp, store) = store();
    let minute = unix_ms().0 / 60_000;
    let period = Period { first: minute - 10, last: minute + 10 };
    let id = Uuid::from_u128(7);
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
    let log_is_empty = || {
        let file = Connection::open(temp.path().join(FILE)).unwrap();
        file.query_row("SELECT count(*) = 0 FROM log", [], |row| row.get::<_, bool>(0)).unwrap()
    };
    assert!(log_is_empty(), "it was closed in order");
    let store = Store::open(temp.path(), 1, Keep::default()).unwrap();
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
    assert_eq!(store.video(id).unwrap().1, 1);
}

#[test]
fn a_copy_is_written_while_it_runs() {
    let (temp, store) = store();
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    let to = temp.path().join("copy");
    std::fs::create_dir(&to).unwrap();
    backup(temp.path(), &to.join(FILE)).unwrap().unwrap();
    store.merge(update(1, 2, &[(7, 6)])).unwrap();
    assert_eq!(read_counts(&to).unwrap().unwrap(), [(Uuid::from_u128(7), 5)]);
    assert_eq!(read_counts(temp.path()).unwrap().unwrap(), [(Uuid::from_u128(7), 6)]);
    let again = format!("{:#}", backup(temp.path(), &to.join(FILE)).unwrap_err());
    assert!(again.contains("which must not exist yet"), "{again}");
    assert_eq!(backup(&to.join("none"), &to.join("x")).unwrap(), None);
}

#[test]
fn foreign_newer_and_broken_files_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join(FILE);
    let connection = Connection::open(&file).unwrap();
    connection.execute_batch("CREATE TABLE mine (x)").unwrap();
    let refusal = |temp: &tempfile::TempDir| {
        format!("{:#}", Store::open(temp.path(), 1, Keep::default()).err().unwrap())
    };
    assert!(refusal(&temp).contains("somebody else's database"), "{}", refusal(&temp));
    drop(connection);
    remove(temp.path()).unwrap();
    drop(Store::open(temp.path(), 1, Keep::default()).unwrap());
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 4).unwrap();
    assert!(refusal(&temp).contains("has schema 4, of a newer playcounts; this one knows 3"));
    assert!(read_counts(temp.path()).is_err());
    remove(temp.path()).unwrap();
    assert_eq!(read_counts(temp.path()).unwrap(), None);
    std::fs::write(
        &file,
        "no database at all, but text that is long enough to be read as a header",
    )
    .unwrap();
    assert!(refusal(&temp).contains("`playcounts reset` makes a new one"), "{}", refusal(&temp));
}

#[test]
fn a_database_of_schema_1_keeps_its_counts() {
    let temp = tempfile::tempdir().unwrap();
    let old = Connection::open(temp.path().join(FILE)).unwrap();
    old.execute_batch(include_str!("schema_1.sql")).unwrap();
    old.execute_batch(
        "INSERT INTO processors VALUES (1, x'00000000000000000000000000000001', 4);
         INSERT INTO plays VALUES (x'00000000000000000000000000000007', 1, 5);
         INSERT INTO videos VALUES (x'00000000000000000000000000000007', 5, 1, 1);
         INSERT INTO history VALUES (x'00000000000000000000000000000007', 1, 61, 2);
         INSERT INTO history VALUES (x'00000000000000000000000000000007', 3, 63, 5);
         UPDATE totals SET videos = 1, plays = 5;
         PRAGMA application_id = 0x706c6179; PRAGMA user_version = 1;",
    )
    .unwrap();
    old.prepare("SELECT * FROM confirmed").unwrap_err();
    drop(old);
    let store = Store::open(temp.path(), 1, Keep::default()).unwrap();
    assert_eq!((all(&store), store.totals().plays), (vec![(7, 5)], 5));
    let series =
        |scale, last| store.series(Uuid::from_u128(7), scale, Period { first: 0, last }).unwrap();
    assert_eq!(series(Scale::Minute, 1_000), [(UnixMs(63 * 60_000), 3)]);
    assert_eq!(series(Scale::Hour, 2_000), [(UnixMs(3_600_000), 3)]);
    assert_eq!(series(Scale::Day, 2_000), [(UnixMs(0), 3)]);
    store.merge(update(1, 5, &[(7, 6)])).unwrap();
    assert_eq!(all(&store), [(7, 6)]);
    assert_eq!(store.confirmed(&Uuid::nil()).unwrap(), Confirmed::default());
}

#[test]
fn it_is_another_database_after_a_reset() {
    let (temp, store) = store();
    let id = store.id();
    drop(store);
    let store = Store::open(temp.path(), 1, Keep::default()).unwrap();
    assert_eq!(store.id(), id);
    store.clear().unwrap();
    assert_ne!(store.id(), id);
    let id = store.id();
    drop(store);
    assert_eq!(Store::open(temp.path(), 1, Keep::default()).unwrap().id(), id);
}

#[test]
fn it_is_another_database_after_a_power_loss() {
    let temp = tempfile::tempdir().unwrap();
    let opened = |name: &str, boot: &str| {
        let connection = open_in(&temp.path().join(name), boot).unwrap();
        (read_id(&connection).unwrap(), connection)
    };
    // What a kill leaves: both files as they are.
    let copied = |from: &str, to: &str| {
        for suffix in ["", "-wal"] {
            let path = |name: &str| temp.path().join(format!("{name}{suffix}"));
            std::fs::copy(path(from), path(to)).unwrap();
        }
    };
    let (id, open) = opened("a.sqlite3", "first");
    copied("a.sqlite3", "b.sqlite3");
    copied("a.sqlite3", "c.sqlite3");
    assert_eq!(opened("b.sqlite3", "first").0, id, "only the process has ended");
    let (other, _open) = opened("c.sqlite3", "second");
    assert_ne!(other, id, "the machine has");
    drop(open);
    assert_eq!(opened("a.sqlite3", "second").0, id, "it was closed before");
    let (id, open) = opened("d.sqlite3", "");
    copied("d.sqlite3", "e.sqlite3");
    let (other, _open) = opened("e.sqlite3", "");
    assert_ne!(other, id, "nobody knows whether it was the same start of the machine");
    drop(open);
    assert_eq!(opened("d.sqlite3", "").0, id, "it was closed before");
}

#[test]
fn a_failing_store_says_so_and_recovers() {
    let (temp, store) = store();
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    let other = Connection::open(temp.path().join(FILE)).unwrap();
    other.execute_batch("ALTER TABLE log RENAME TO gone").unwrap();
    let reason = store.merge(update(1, 2, &[(7, 6)])).unwrap_err();
    assert!(reason.starts_with("the counts cannot be stored: no such table"), "{reason}");
    assert_eq!(store.totals(), Totals { videos: 1, plays: 5 });
    // Reads go on.
    assert_eq!(all(&store), [(7, 5)]);
    other.execute_batch("ALTER TABLE gone RENAME TO log").unwrap();
    store.health().unwrap();
    store.merge(update(1, 2, &[(7, 6)])).unwrap();
    assert_eq!(all(&store), [(7, 6)]);
}

/// A writer that hangs keeps nobody from an answer: each call ends at its deadline, and tells why.
#[test]
fn a_call_that_waits_in_vain_tells_why() {
    let (_temp, mut store) = store();
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    store.wait = Duration::from_millis(50);
    let (id, period) = (Uuid::from_u128(7), Period { first: 0, last: 1 });
    {
        let _commit = store.state.pending.write();
        let reason = store.series(id, Scale::Day, period).unwrap_err().to_string();
        assert_eq!(reason, "the store is busy writing");
        let reason = store.top(Scale::Day, period, 1).unwrap_err().to_string();
        assert_eq!(reason, "the store is busy writing");
        // The writer commits this one, and hangs before it answers.
        let reason = store.merge(update(1, 2, &[(7, 6)])).unwrap_err();
        assert_eq!(&*reason, "the store did not answer in time");
        let jobs = store.jobs.lock().clone().unwrap();
        while jobs.try_send((Job::Probe, bounded(1).0)).is_ok() {}
        let reason = store.merge(update(1, 3, &[(7, 7)])).unwrap_err();
        assert_eq!(&*reason, "the store takes no more updates");
        let reason = store.clear().unwrap_err();
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
    // A reset clears, and adds a line to the action log; nothing else waits so long for the store.
    let longest = WAIT * CLEAR_WAITS + WAIT;
    assert!(longest + Duration::from_secs(5) < crate::http::ANSWER_WAIT);
}

#[test]
fn sums_past_every_integer_stay_integers() {
    let (_temp, store) = store();
    let most = crate::model::video::MAX_PLAYS;
    for processor in 1..=3 {
        store.merge(update(processor, 1, &[(7, most)])).unwrap();
    }
    assert_eq!(all(&store), [(7, 3 * most)]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(16))]
    #[test]
    fn any_history_of_updates_ends_in_the_sum_of_maxima(
        updates in proptest::collection::vec((0u128..3, 0u128..5, 0u64..50), 1..60)
    ) {
        let (_temp, store) = store();
        let mut model = std::collections::BTreeMap::new();
        for (processor, video, plays) in updates {
            store.merge(update(processor, 1, &[(video, plays)])).unwrap();
            let known = model.entry((video, processor)).or_insert(0);
            *known = plays.max(*known);
        }
        let mut sums = std::collections::BTreeMap::new();
        for ((video, _), plays) in model {
            *sums.entry(video).or_insert(0) += plays;
        }
        let want: Vec<_> = sums.into_iter().collect();
        proptest::prop_assert_eq!(store.totals().plays, want.iter().map(|(_, plays)| plays).sum::<u64>());
        proptest::prop_assert_eq!(store.totals().videos, want.len() as u64);
        proptest::prop_assert_eq!(all(&store), want);
    }
}
