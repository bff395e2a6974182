//! Files of an older schema are taken over; damaged ones, and those of somebody else, are refused.

use super::*;

#[test]
fn a_file_of_schema_1_keeps_what_was_published() {
    let dir = tempfile::tempdir().unwrap();
    let old = Schema {
        version: 1,
        sql: include_str!("../../schema_1.sql"),
        migrations: &[],
        migrate: sqlite::nothing_more,
        ..SCHEMA
    };
    let file = dir.path().join(FILE);
    let (processor, dashboard) = (Uuid::from_u128(5), Uuid::from_u128(6));
    let mut runs = Vec::new();
    encode_runs(std::slice::from_ref(&(0..7)), &mut runs);
    let made = old.open(&file, "").unwrap();
    made.execute(
        "INSERT INTO ledger VALUES (1, ?1, '', 0, 3, ?2, 1, 7, 0, 0, 0, 0, 0)",
        params![processor, dashboard],
    )
    .unwrap();
    for (number, plays, published) in [(0i64, 4, 3), (1, 3, 3)] {
        made.execute(
            "INSERT INTO videos VALUES (?1, ?2, ?3, ?4, 9, 1)",
            params![number, Uuid::from_u128(number as u128), plays, published],
        )
        .unwrap();
    }
    made.execute("INSERT INTO producers VALUES (?1, ?2)", params![Uuid::from_u128(1), runs])
        .unwrap();
    drop(made);
    let reader = format!("{:#}", read(dir.path()).unwrap_err());
    assert!(reader.contains("has schema 1, of an older playcounts"), "{reader}");

    let mut ledger = open(dir.path());
    assert_eq!((ledger.processor(), ledger.starts), (processor, 4));
    let told = |ledger: &DurableLedger| {
        let mut videos: Vec<_> =
            ledger.videos().iter().map(|video| (video.plays, video.published)).collect();
        videos.sort_unstable();
        videos
    };
    assert_eq!(told(&ledger), [(3, 3), (4, 3)]);
    assert!(!ledger.publishes_to(FIRST, dashboard).unwrap());
    assert!(ledger.publishes_to(FIRST, Uuid::from_u128(7)).unwrap());
    drop(ledger);
    assert_eq!(told(&open(dir.path())), [(3, 0), (4, 0)]);
    let refused = format!("{:#}", old.open(&file, "").unwrap_err());
    assert!(refused.contains("has schema 3, of a newer playcounts; this one knows 1"), "{refused}");
}

/// Changes the file behind the ledger's back.
fn tamper(dir: &Path, sql: &str) {
    let connection = Connection::open(dir.join(FILE)).unwrap();
    row_check::add_function(&connection).unwrap();
    connection.execute_batch(sql).unwrap();
}

/// Makes the check of the table's one row fit again.
const RECHECK: &str = "UPDATE ledger SET row_check = row_check(processor, machine, simulation, starts, dashboard, epoch,
    life, segment, number, as_of, counted, by_message, recovered, duplicates, conflicting, rejected, videos, producers,
    messages, letters, generation);";

#[test]
fn a_ledger_that_does_not_add_up_is_refused() {
    for (sql, want) in [
        ("UPDATE videos SET plays = plays + 1 WHERE number = 0", "the row 0 of the table videos"),
        ("UPDATE videos SET published = 7 WHERE number = 0", "the row 0 of the table videos"),
        ("UPDATE videos SET last_played_at = 7 WHERE number = 0", "the row 0 of the table videos"),
        (
            "UPDATE videos SET video_id = randomblob(16) WHERE number = 0",
            "the row 0 of the table videos",
        ),
        ("DELETE FROM videos WHERE number = 1", "the table videos has 2 rows, and must have 3"),
        ("DELETE FROM producers", "the table producers has 0 rows, and must have 1"),
        ("UPDATE producers SET counted = x'00'", "table producers"),
        ("UPDATE producers SET counted = x'ff'", "table producers"),
        ("UPDATE messages SET keys = zeroblob(24)", "table messages"),
        ("DELETE FROM messages", "the table messages has 0 rows, and must have 1"),
        ("UPDATE ledger SET counted = 0", "the row of the table ledger"),
        ("UPDATE ledger SET number = number - 1", "the row of the table ledger"),
        (
            "UPDATE videos SET number = 4000000000 WHERE number = 1",
            "the row 4000000000 of the table videos",
        ),
        (
            "UPDATE videos SET plays = 9, row_check = row_check(number, video_id, 9, published, last_played_at, as_of, epoch)",
            "is damaged",
        ),
        ("DELETE FROM dead_letters", "the table dead_letters has 0 rows, and must have 1"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path());
        for seq in 0..3 {
            commit(&mut ledger, vec![play(seq.into(), Some((1, seq)), seq)]);
        }
        commit(&mut ledger, vec![play(1, None, 7)]);
        let rejected = vec![letter(99, 5)];
        ledger.commit(&mut [Arrivals { plays: Vec::new(), rejected }]).unwrap();
        ledger.close().unwrap();
        drop(ledger);

        tamper(dir.path(), sql);
        let text = refusal(dir.path());
        assert!(
            text.contains("cannot be read; bring back a backup") && text.contains(want),
            "{sql}: {text}"
        );
        let text = format!("{:#}", read(dir.path()).unwrap_err());
        assert!(text.contains(want), "{sql}: {text}");
    }
}

/// Files that do not belong together, or of which one is missing.
#[test]
fn a_journal_and_tables_that_do_not_belong_together_are_refused() {
    let made = |plays: u64| {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path());
        for seq in 0..plays {
            commit(&mut ledger, vec![play(seq.into(), Some((1, seq)), seq)]);
        }
        dir
    };
    let dir = made(3);
    std::fs::remove_dir_all(dir.path().join(JOURNAL)).unwrap();
    assert!(refusal(dir.path()).contains("0000000001.segment is missing"));
    let dir = made(3);
    sqlite::remove(&dir.path().join(FILE)).unwrap();
    assert!(refusal(dir.path()).contains("of other files than those beside it"));
    let (dir, other) = (made(3), made(4));
    std::fs::remove_dir_all(dir.path().join(JOURNAL)).unwrap();
    std::fs::rename(other.path().join(JOURNAL), dir.path().join(JOURNAL)).unwrap();
    assert!(refusal(dir.path()).contains("of other files than those beside it"));
    // Tables from before a checkpoint, and the journal from behind it.
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    for seq in 0..600 {
        commit(&mut ledger, vec![play(seq.into(), Some((1, seq)), seq)]);
    }
    drop(ledger);
    let old = std::fs::read(dir.path().join(FILE)).unwrap();
    let mut ledger = open(dir.path());
    checkpoint(&mut ledger);
    upkeep(&mut ledger, Instant::now());
    ledger.close().unwrap();
    drop(ledger);
    std::fs::write(dir.path().join(FILE), old).unwrap();
    assert!(refusal(dir.path()).contains("is missing"));
}

#[test]
fn it_keeps_to_its_machine_and_its_kind() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    tamper(dir.path(), &format!("UPDATE ledger SET machine = 'another'; {RECHECK}"));
    if !machine_id().is_empty() {
        assert!(refusal(dir.path()).contains("--adopt-ledger"));
    }
    let adopt = LedgerConfig { adopt: true, ..config(dir.path()) };
    drop(DurableLedger::open(&adopt, SyncPolicy::Process).unwrap());
    drop(open(dir.path()));
    let run = LedgerConfig { simulation: true, ..config(dir.path()) };
    let text = format!("{:#}", DurableLedger::open(&run, SyncPolicy::Process).err().unwrap());
    assert!(text.contains("a processor's (`process`) counts"), "{text}");
    assert!(remove_simulation(dir.path()).unwrap_err().to_string().contains("`run` starts clean"));
    remove(dir.path()).unwrap();
    drop(DurableLedger::open(&run, SyncPolicy::Process).unwrap());
    assert!(refusal(dir.path()).contains("a simulation's (`run`) counts"));
    remove_simulation(dir.path()).unwrap();
    assert!(read(dir.path()).unwrap().is_none());
}

/// `run` starts clean, also where an older playcounts ran.
#[test]
fn a_simulation_of_schema_1_may_be_thrown_away_and_a_processors_may_not() {
    for (simulation, may) in [(1, true), (0, false)] {
        let dir = tempfile::tempdir().unwrap();
        let old = Schema {
            version: 1,
            sql: include_str!("../../schema_1.sql"),
            migrations: &[],
            migrate: sqlite::nothing_more,
            ..SCHEMA
        };
        let made = old.open(&dir.path().join(FILE), "").unwrap();
        made.execute(
            "INSERT INTO ledger VALUES (1, ?1, '', ?2, 3, NULL, 1, 7, 0, 0, 0, 0, 0)",
            params![Uuid::from_u128(5), simulation],
        )
        .unwrap();
        drop(made);
        assert_eq!(remove_simulation(dir.path()).is_ok(), may);
        assert_eq!(dir.path().join(FILE).exists(), !may);
    }
}

#[test]
fn other_schemas_are_refused() {
    for (sql, want) in [
        ("PRAGMA user_version = 4", "of a newer playcounts"),
        ("PRAGMA application_id = 7", "somebody else's database"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        tamper(dir.path(), sql);
        assert!(refusal(dir.path()).contains(want));
    }
}
