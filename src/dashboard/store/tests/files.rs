//! What is in the files: of older versions, damaged, of somebody else, left by a crash.

use super::*;
use crate::model::video_id::VideoId;

#[test]
fn a_copy_is_written_while_it_runs() {
    let (temp, store) = store();
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    let to = temp.path().join("copy");
    std::fs::create_dir(&to).unwrap();
    backup(temp.path(), &to.join(FILE)).unwrap().unwrap();
    store.merge(update(1, 2, &[(7, 6)])).unwrap();
    assert_eq!(read_counts(&to).unwrap().unwrap(), [(VideoId::from_u128(7), 5)]);
    assert_eq!(read_counts(temp.path()).unwrap().unwrap(), [(VideoId::from_u128(7), 6)]);
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
        format!(
            "{:#}",
            Store::open(temp.path(), JournalOwner::Part, 1, Keep::default()).err().unwrap()
        )
    };
    assert!(refusal(&temp).contains("somebody else's database"), "{}", refusal(&temp));
    drop(connection);
    remove(temp.path()).unwrap();
    drop(Store::open(temp.path(), JournalOwner::Part, 1, Keep::default()).unwrap());
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 7).unwrap();
    assert!(refusal(&temp).contains("has schema 7, of a newer playcounts; this one knows 6"));
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
    old.execute_batch(include_str!("../schema_1.sql")).unwrap();
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
    let store = Store::open(temp.path(), JournalOwner::Part, 1, Keep::default()).unwrap();
    assert_eq!((all(&store), store.totals().plays), (vec![(7, 5)], 5));
    let series = |scale, last| {
        store.series(VideoId::from_u128(7), scale, Period { first: 0, last }).unwrap()
    };
    assert_eq!(series(Scale::Minute, 1_000), [(UnixMs(63 * 60_000), 3)]);
    assert_eq!(series(Scale::Hour, 2_000), [(UnixMs(3_600_000), 3)]);
    assert_eq!(series(Scale::Day, 2_000), [(UnixMs(0), 3)]);
    store.merge(update(1, 5, &[(7, 6)])).unwrap();
    assert_eq!(all(&store), [(7, 6)]);
    assert_eq!(store.confirmed(&Uuid::nil()).unwrap(), Confirmed::default());
}

#[test]
fn it_is_another_database_after_a_power_loss() {
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for (before, after, want_same) in
        [(first, first, true), (first, second, false), (Uuid::nil(), Uuid::nil(), false)]
    {
        let temp = tempfile::tempdir().unwrap();
        let opened = database::open(temp.path(), JournalOwner::Part, before).unwrap();
        let copy = copied(temp.path());
        let again = database::open(copy.path(), JournalOwner::Part, after).unwrap();
        assert_eq!(again.identity.id == opened.identity.id, want_same, "{before} {after}");
        // Whatever it is then, it stays.
        drop(again);
        let store = reopened(copy.path());
        let id = store.id();
        drop(store);
        assert_eq!(
            database::open(copy.path(), JournalOwner::Part, second).unwrap().identity.id,
            id,
            "it was closed"
        );
    }
}

/// Bytes behind the last whole frame are a commit that a crash has cut short.
#[test]
fn what_a_crash_left_unfinished_is_cut_and_told() {
    let (temp, store) = store();
    let id = store.id();
    // A checkpoint would seal what is there.
    let _held = hold(&store);
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    let copy = copied(temp.path());
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

/// A directory with a row of each table, closed in order.
fn with_rows() -> tempfile::TempDir {
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
    temp
}

/// A copy of it, in which this SQL has changed one row.
fn damaged(rows: &Path, sql: &str) -> tempfile::TempDir {
    let copy = copied(rows);
    let file = Connection::open(copy.path().join(FILE)).unwrap();
    file.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    assert_eq!(file.execute(sql, []).unwrap(), 1, "{sql}");
    copy
}

#[test]
fn a_start_finds_rows_that_were_changed_behind_its_back() {
    let rows = with_rows();
    for (sql, what) in [
        ("UPDATE counts SET plays = plays + 1 WHERE plays = 5", "table counts does not fit"),
        ("UPDATE counts SET last_played_at = 9 WHERE plays = 5", "table counts does not fit"),
        (
            "DELETE FROM counts WHERE plays = 5",
            "counts has 1 row with 1 play, and was written with 2 and 6",
        ),
        ("UPDATE processors SET processor = x'01'", "table processors does not fit"),
        ("DELETE FROM processors", "processors has no row 1"),
        ("UPDATE confirmed SET watermark = 4", "table confirmed does not fit"),
        ("UPDATE identity SET number = number + 1", "table identity does not fit"),
        ("UPDATE identity SET life = zeroblob(16)", "table identity does not fit"),
    ] {
        let copy = damaged(rows.path(), sql);
        let error = Store::open(copy.path(), JournalOwner::Part, 1, Keep::default()).err().unwrap();
        let text = format!("{error:#}");
        assert!(text.contains(what) && text.contains(FILE), "{sql}: {text}");
        assert!(read_counts(copy.path()).is_err(), "{sql}");
        let copied = backup(copy.path(), &copy.path().join("copy"));
        assert!(copied.is_err() && !copy.path().join("copy").exists(), "{sql}");
    }
}

#[test]
fn who_reads_finds_rows_that_were_changed() {
    let rows = with_rows();
    type Ask = fn(&Store) -> Result<()>;
    let asks: [(&str, &str, Ask); 4] = [
        ("UPDATE history_minute SET plays = 6 WHERE plays = 5", "history_minute", |store| {
            store.top(Scale::Minute, store.kept(Scale::Minute)?, 9).map(drop)
        }),
        ("UPDATE history_day SET plays = 6 WHERE plays = 5", "history_day", |store| {
            store.series(VideoId::from_u128(7), Scale::Day, store.kept(Scale::Day)?).map(drop)
        }),
        ("UPDATE points SET plays = 6", "points", |store| {
            store.points(UnixMs(0), UnixMs(1 << 43)).map(drop)
        }),
        ("UPDATE audit SET peer = 'there'", "audit", |store| store.actions().map(drop)),
    ];
    for (sql, table, ask) in asks {
        let copy = damaged(rows.path(), sql);
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
}

/// A row that was changed is not covered by a check that is made anew.
#[test]
fn a_checkpoint_finds_rows_that_were_changed() {
    let rows = with_rows();
    for table in ["history_hour", "counts"] {
        let copy = copied(rows.path());
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
        format!(
            "{:#}",
            Store::open(directory, JournalOwner::Part, 1, Keep::default()).err().unwrap()
        )
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
