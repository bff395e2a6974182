//! The store as its callers see it.

use super::database::{JOURNAL, remove};
use super::*;
use crate::model::video::VideoCount;
use crate::wire::ProducerConfirmed;

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

fn confirmed(producer: u128, watermark: u64) -> ConfirmedUpdate {
    let confirmed = Confirmed { watermark, above: Vec::new() };
    let producer = Uuid::from_u128(producer);
    ConfirmedUpdate {
        processor: Uuid::from_u128(1),
        producers: vec![ProducerConfirmed { producer, confirmed }],
    }
}

/// The files as a kill -9 leaves them at this moment.
fn killed(directory: &Path) -> tempfile::TempDir {
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

fn reopened(directory: &Path) -> Store {
    Store::open(directory, 1, Keep::default()).unwrap()
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
    store.confirm(confirmed(7, 3)).unwrap();
    drop(store);
    assert!(!temp.path().join(format!("{FILE}-wal")).exists());
    assert_eq!(read_counts(temp.path()).unwrap().unwrap().len(), 2);
    let store = Store::open(temp.path(), 1, Keep::default()).unwrap();
    store.merge(update(1, 2, &[(7, 6)])).unwrap();
    assert_eq!(all(&store), [(7, 6), (8, 0)]);
    assert_eq!(store.confirmed(&Uuid::from_u128(7)).watermark, 3);
    assert_eq!(store.totals(), Totals { videos: 2, plays: 6 });
    store.clear().unwrap();
    assert_eq!((all(&store), store.totals()), (vec![], Totals::default()));
    assert_eq!(store.confirmed(&Uuid::from_u128(7)), Confirmed::default());
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
    let rows = Connection::open(temp.path().join(FILE)).unwrap().query_row(
        "SELECT (SELECT count(*) FROM counts) * 10 + (SELECT count(*) FROM history_day)",
        [],
        |row| row.get::<_, i64>(0),
    );
    assert_eq!(rows.unwrap(), 32, "it was closed in order");
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
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 5).unwrap();
    assert!(refusal(&temp).contains("has schema 5, of a newer playcounts; this one knows 4"));
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
    assert_eq!(store.confirmed(&Uuid::nil()), Confirmed::default());
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
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for (before, after, want_same) in
        [(first, first, true), (first, second, false), (Uuid::nil(), Uuid::nil(), false)]
    {
        let temp = tempfile::tempdir().unwrap();
        let opened = database::open(temp.path(), before).unwrap();
        let copy = killed(temp.path());
        let again = database::open(copy.path(), after).unwrap();
        assert_eq!(again.identity.id == opened.identity.id, want_same, "{before} {after}");
        // Whatever it is then, it stays.
        drop(again);
        let store = reopened(copy.path());
        let id = store.id();
        drop(store);
        assert_eq!(database::open(copy.path(), second).unwrap().identity.id, id, "it was closed");
    }
}

/// Bytes behind the last whole frame are a commit that a crash has cut short.
#[test]
fn what_a_crash_left_unfinished_is_cut_and_told() {
    let (temp, store) = store();
    let id = store.id();
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    let copy = killed(temp.path());
    let segment = copy.path().join(JOURNAL).join("0000000001.segment");
    let mut bytes = std::fs::read(&segment).unwrap();
    // Behind the last byte of the frame, which says that there is no `last_played_at`.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 2;
    bytes[end..end + 40].fill(7);
    std::fs::write(&segment, bytes).unwrap();
    let store = reopened(copy.path());
    let cut = store.cut().unwrap().to_string();
    assert!(cut.contains("bytes were cut off at byte"), "{cut}");
    assert_ne!(store.id(), id, "something may be missing");
    assert_eq!(all(&store), [(7, 5)]);
    store.health().unwrap();
}

#[test]
fn a_store_whose_journal_fails_says_so_and_recovers() {
    let (temp, store) = store();
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    let (journal, away) = (temp.path().join(JOURNAL), temp.path().join("away"));
    std::fs::rename(&journal, &away).unwrap();
    for _ in 0..2 {
        let reason = store.merge(update(1, 2, &[(7, 6)])).unwrap_err();
        assert!(reason.starts_with("the counts cannot be stored: "), "{reason}");
    }
    let reason = store.health().unwrap_err();
    assert!(reason.starts_with("the counts cannot be stored: "), "{reason}");
    // Reads go on.
    assert_eq!((all(&store), store.totals()), (vec![(7, 5)], Totals { videos: 1, plays: 5 }));
    std::fs::rename(&away, &journal).unwrap();
    store.health().unwrap();
    store.merge(update(1, 2, &[(7, 6)])).unwrap();
    assert_eq!(all(&store), [(7, 6)]);
    assert_eq!(all(&reopened(killed(temp.path()).path())), [(7, 6)]);
}

#[test]
fn a_store_whose_tables_fail_keeps_what_it_is_told() {
    let (temp, store) = store();
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    let other = Connection::open(temp.path().join(FILE)).unwrap();
    other.execute_batch("ALTER TABLE counts RENAME TO gone").unwrap();
    let reason = store.write(Task::Checkpoint).unwrap_err();
    assert!(reason.starts_with("the counts cannot be put in order: no such table"), "{reason}");
    assert_eq!(store.health().unwrap_err(), reason);
    store.merge(update(1, 2, &[(7, 6), (8, 1)])).unwrap();
    assert_eq!(all(&store), [(7, 6), (8, 1)]);
    other.execute_batch("ALTER TABLE gone RENAME TO counts").unwrap();
    store.health().unwrap();
    store.write(Task::Checkpoint).unwrap();
    let day = store.kept(Scale::Day).unwrap();
    let top = store.top(Scale::Day, day, 9).unwrap();
    assert_eq!((top.total, top.videos), (7, 2), "what failed is written once");
    drop(store);
    assert_eq!(all(&reopened(temp.path())), [(7, 6), (8, 1)]);
}

/// At whatever moment it is killed, before or behind a reset, a checkpoint, or both.
#[test]
fn what_was_before_a_reset_never_comes_back() {
    let (temp, store) = store();
    let expect = |directory: &Path, id: Uuid, counts: &[(u128, u64)], at: &str| {
        assert_eq!(read_counts(directory).unwrap().unwrap().len(), counts.len(), "{at}");
        let store = reopened(directory);
        assert_eq!((store.id(), all(&store)), (id, counts.to_vec()), "{at}");
        let day = store.kept(Scale::Day).unwrap();
        let total = store.top(Scale::Day, day, 9).unwrap().total;
        assert_eq!(total, counts.iter().map(|(_, plays)| *plays as i64).sum::<i64>(), "{at}");
    };
    let mut version = 0;
    let mut tell = |counts: &[(u128, u64)]| {
        version += 1;
        store.merge(update(3, version, counts)).unwrap()
    };
    tell(&[(7, 5), (8, 1)]);
    store.confirm(confirmed(7, 3)).unwrap();
    store.write(Task::Checkpoint).unwrap();
    tell(&[(9, 2)]);
    // Nothing is emptied while the tables are held.
    let held = store.state.tables.write();
    let before = store.id();
    let first = store.clear().unwrap();
    assert_ne!(first, before);
    expect(killed(temp.path()).path(), first, &[], "cleared in the journal");
    assert_eq!(tell(&[(7, 1)]), first);
    expect(killed(temp.path()).path(), first, &[(7, 1)], "and told again");
    let second = store.clear().unwrap();
    tell(&[(8, 4)]);
    store.confirm(confirmed(8, 2)).unwrap();
    expect(killed(temp.path()).path(), second, &[(8, 4)], "cleared twice");
    drop(held);
    store.write(Task::Checkpoint).unwrap();
    expect(killed(temp.path()).path(), second, &[(8, 4)], "cleared in the tables");
    tell(&[(8, 5)]);
    let copy = killed(temp.path());
    assert_eq!(reopened(copy.path()).confirmed(&Uuid::from_u128(7)), Confirmed::default());
    assert_eq!(reopened(copy.path()).confirmed(&Uuid::from_u128(8)).watermark, 2);
    expect(copy.path(), second, &[(8, 5)], "and told again");
    let day = store.kept(Scale::Day).unwrap();
    assert_eq!(store.top(Scale::Day, day, 9).unwrap().total, 5);
}

/// While the tables are to be emptied, history is that of after the reset.
#[test]
fn history_of_before_a_reset_is_not_seen() {
    let (_temp, store) = store();
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    store.write(Task::Checkpoint).unwrap();
    let day = store.kept(Scale::Day).unwrap();
    let locked = store.inboxes.tasks.lock().clone().unwrap();
    let held = store.state.tables.write();
    store.clear().unwrap();
    store.merge(update(1, 2, &[(7, 2)])).unwrap();
    assert_eq!(store.state.pending.read().cleared().map(|cleared| cleared.id), Some(store.id()));
    drop((locked, held));
    for _ in 0..50 {
        assert_eq!(store.top(Scale::Day, day, 9).unwrap().total, 2);
        let series = store.series(Uuid::from_u128(7), Scale::Day, day).unwrap();
        assert_eq!(series.iter().map(|(_, plays)| plays).sum::<i64>(), 2);
    }
    store.write(Task::Checkpoint).unwrap();
    assert_eq!(store.top(Scale::Day, day, 9).unwrap().total, 2);
}

/// Rows that were changed behind our back are met where they are read, and never covered by a check that is made anew.
#[test]
fn damaged_rows_are_found() {
    let (temp, store) = store();
    store.merge(update(1, 1, &[(7, 5), (8, 1)])).unwrap();
    store.confirm(confirmed(7, 3)).unwrap();
    store
        .log_action(LoggedAction {
            at: UnixMs(1),
            peer: "here".into(),
            action: "reset".into(),
            target: "counts".into(),
            outcome: "done".into(),
        })
        .unwrap();
    let minute = unix_ms().0 / 60_000;
    store.add_point(MinutePoint { minute, plays: 1, ..MinutePoint::default() }).unwrap();
    store.add_point(MinutePoint { minute, plays: 2, ..MinutePoint::default() }).unwrap();
    store.write(Task::Checkpoint).unwrap();
    assert_eq!(store.actions().unwrap().len(), 1);
    store.points(UnixMs(0), UnixMs(1 << 43)).unwrap();
    drop(store);
    let damaged = |sql: &str| {
        let copy = killed(temp.path());
        let file = Connection::open(copy.path().join(FILE)).unwrap();
        file.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        assert_eq!(file.execute(sql, []).unwrap(), 1, "{sql}");
        copy
    };
    for (sql, what) in [
        ("UPDATE counts SET plays = plays + 1 WHERE plays = 5", "table counts does not fit"),
        ("UPDATE counts SET last_played_at = 9 WHERE plays = 5", "table counts does not fit"),
        (
            "DELETE FROM counts WHERE plays = 5",
            "counts has 1 rows with 1 plays, and was written with 2 and 6",
        ),
        ("UPDATE processors SET processor = x'01'", "table processors does not fit"),
        ("DELETE FROM processors", "processors has no row 1"),
        ("UPDATE confirmed SET watermark = 4", "table confirmed does not fit"),
        ("UPDATE identity SET number = number + 1", "table identity does not fit"),
        ("UPDATE identity SET life = zeroblob(16)", "table identity does not fit"),
    ] {
        let copy = damaged(sql);
        let error = Store::open(copy.path(), 1, Keep::default()).err().unwrap();
        let text = format!("{error:#}");
        assert!(text.contains(what) && text.contains(FILE), "{sql}: {text}");
        assert!(read_counts(copy.path()).is_err(), "{sql}");
        let copied = backup(copy.path(), &copy.path().join("copy"));
        assert!(copied.is_err() && !copy.path().join("copy").exists(), "{sql}");
    }
    type Ask = fn(&Store) -> Result<()>;
    let asks: [(&str, &str, Ask); 4] = [
        ("UPDATE history_minute SET plays = 6 WHERE plays = 5", "history_minute", |store| {
            store.top(Scale::Minute, store.kept(Scale::Minute)?, 9).map(drop)
        }),
        ("UPDATE history_day SET plays = 6 WHERE plays = 5", "history_day", |store| {
            store.series(Uuid::from_u128(7), Scale::Day, store.kept(Scale::Day)?).map(drop)
        }),
        ("UPDATE points SET plays = 6", "points", |store| {
            store.points(UnixMs(0), UnixMs(1 << 43)).map(drop)
        }),
        ("UPDATE audit SET peer = 'there'", "audit", |store| store.actions().map(drop)),
    ];
    for (sql, table, ask) in asks {
        let copy = damaged(sql);
        let store = reopened(copy.path());
        store.health().unwrap();
        let error = ask(&store).unwrap_err();
        assert!(error.is::<DamagedTable>(), "{error:#}");
        let text = format!("{error:#}");
        assert!(
            text.contains(&format!("table {table} does not fit")) && text.contains(FILE),
            "{text}"
        );
        assert!(store.health().unwrap_err().contains(table), "{sql}");
    }
    for table in ["history_hour", "counts"] {
        let copy = killed(temp.path());
        let store = reopened(copy.path());
        store.merge(update(1, 3, &[(7, 9)])).unwrap();
        let file = Connection::open(copy.path().join(FILE)).unwrap();
        let change = |from, to| {
            let sql = format!("UPDATE {table} SET plays = {to} WHERE plays = {from}");
            assert_eq!(file.execute(&sql, []).unwrap(), 1, "{sql}");
        };
        change(5, 6);
        let reason = store.write(Task::Checkpoint).unwrap_err();
        let what = format!("a row of the table {table} does not fit its check");
        assert!(reason.contains(&what), "{reason}");
        assert_eq!(store.health().unwrap_err(), reason);
        change(6, 5);
        store.write(Task::Checkpoint).unwrap();
        store.health().unwrap();
        drop(store);
        assert_eq!(all(&reopened(copy.path())), [(7, 9), (8, 1)]);
    }
}

/// A directory that is another one now is not written to.
#[test]
fn files_that_belong_to_others_are_refused() {
    let (temp, store) = store();
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    drop(store);
    let (other, _) = self::store();
    let refusal = |directory: &Path| {
        format!("{:#}", Store::open(directory, 1, Keep::default()).err().unwrap())
    };
    std::fs::remove_dir_all(temp.path().join(JOURNAL)).unwrap();
    let text = refusal(temp.path());
    assert!(text.contains(JOURNAL) && text.contains("is missing"), "{text}");
    std::fs::remove_dir(temp.path().join(JOURNAL)).unwrap();
    std::fs::rename(other.path().join(JOURNAL), temp.path().join(JOURNAL)).unwrap();
    let text = refusal(temp.path());
    assert!(text.contains("of other files than those beside it"), "{text}");
    std::fs::remove_file(temp.path().join(FILE)).unwrap();
    let text = refusal(temp.path());
    assert!(text.contains(JOURNAL) && text.contains("give --data-dir another"), "{text}");
}

/// A writer that hangs keeps nobody from an answer: each call ends at its deadline, and tells why.
#[test]
fn a_call_that_waits_in_vain_tells_why() {
    let (_temp, mut store) = store();
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    store.wait = Duration::from_millis(50);
    let (id, period) = (Uuid::from_u128(7), Period { first: 0, last: 1 });
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
        let reason = store.merge(update(1, 2, &[(7, 6)])).unwrap_err();
        assert_eq!(&*reason, "the store did not answer in time");
        let jobs = store.inboxes.jobs.lock().clone().unwrap();
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
    // A reset clears, and adds a line to the action log; nothing waits longer for the store.
    let longest = WAIT * 2;
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
