use std::collections::{BTreeMap, BTreeSet};

use nsq_protocol::MessageId;
use proptest::prelude::*;

use super::*;
use crate::ledger::commit::DeadLetter;
use crate::ledger::message_key::MessageKey;
use crate::ledger::record::encode_runs;
use crate::ledger::snapshot::{read, remove, remove_simulation};
use crate::model::play::{Play, PlayIdentity, Rejection};
use crate::storage::sqlite::Schema;

fn config(directory: &Path) -> LedgerConfig {
    LedgerConfig { directory: directory.to_owned(), simulation: false, adopt: false }
}

fn open(directory: &Path) -> SqliteLedger {
    SqliteLedger::open(&config(directory), "OFF").unwrap()
}

#[track_caller]
fn refusal(directory: &Path) -> String {
    let error = SqliteLedger::open(&config(directory), "OFF").err().expect("it is refused");
    let text = format!("{error:#}");
    assert!(!text.contains('\n') && text.contains(FILE), "{text}");
    text
}

/// A play of `video`: number `seq` of a producer, or without identity, in a message of that ID.
fn play(video: u128, identity: Option<(u128, u64)>, message: u64) -> (Play, MessageKey) {
    let identity =
        identity.map(|(producer, seq)| PlayIdentity { producer: Uuid::from_u128(producer), seq });
    let enqueued_at_ns = Some(message * 1_000_000);
    let play = Play { video_id: Uuid::from_u128(video), enqueued_at_ns, identity, resent: false };
    (play, MessageKey::new(MessageId::from_u64(message), 1))
}

fn arrivals(plays: Vec<(Play, MessageKey)>) -> [Arrivals; 1] {
    [Arrivals { plays, rejected: Vec::new() }]
}

fn commit(ledger: &mut SqliteLedger, plays: Vec<(Play, MessageKey)>) -> Counters {
    ledger.commit(&mut arrivals(plays)).unwrap().counters
}

fn plays_of(ledger: &SqliteLedger) -> BTreeMap<u128, u64> {
    ledger.videos().into_iter().map(|video| (video.video_id.as_u128(), video.plays)).collect()
}

/// Video, producer and number, message ID.
type Arrival = (u128, Option<(u128, u64)>, u64);

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Arrival>),
    /// That many times, when a checkpoint is due.
    Checkpoint(usize),
    /// The dashboard has taken all counts.
    Publish,
    /// The process is killed, or ends in order, and starts again.
    Restart {
        closed: bool,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let identity = proptest::option::weighted(0.8, (0u128..3, 0u64..60));
    prop_oneof![
        6 => proptest::collection::vec((0u128..30, identity, 0u64..200), 0..25).prop_map(Step::Commit),
        3 => (1usize..8).prop_map(Step::Checkpoint),
        1 => Just(Step::Publish),
        2 => any::<bool>().prop_map(|closed| Step::Restart { closed }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happens_each_play_counts_once(steps in proptest::collection::vec(any_step(), 1..30)) {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path());
        ledger.slice = 3;
        let processor = ledger.processor();
        let (mut plays, mut seen, mut messages) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let mut version = 0;
        for step in steps {
            match step {
                Step::Commit(batch) => {
                    let fresh: Vec<_> = batch
                        .iter()
                        .filter(|(_, identity, message)| match identity {
                            Some(identity) => seen.insert(*identity),
                            None => messages.insert(*message),
                        })
                        .collect();
                    fresh.iter().for_each(|(video, ..)| *plays.entry(*video).or_insert(0) += 1);
                    let batch_len = batch.len() as u64;
                    let batch = batch.iter().map(|(video, identity, message)| play(*video, *identity, *message));
                    let counters = commit(&mut ledger, batch.collect());
                    prop_assert_eq!(counters.counted, fresh.len() as u64);
                    prop_assert_eq!(counters.counted + counters.duplicates, batch_len);
                }
                Step::Checkpoint(times) => {
                    for _ in 0..times {
                        ledger.checkpoint(Instant::now() + 2 * CHECKPOINT_EVERY, CommitTraffic::Idle).unwrap();
                    }
                }
                Step::Publish => {
                    let count = |video: &VideoState| VideoCount {
                        video_id: video.video_id,
                        plays: video.plays,
                        last_played_at: None,
                    };
                    ledger.published(&ledger.videos().iter().map(count).collect::<Vec<_>>());
                }
                Step::Restart { closed } => {
                    let before = ledger.videos();
                    if closed {
                        ledger.close().unwrap();
                    }
                    drop(ledger);
                    ledger = open(dir.path());
                    ledger.slice = 3;
                    prop_assert_eq!(ledger.processor(), processor);
                    prop_assert!(ledger.first_version() > version);
                    version = ledger.first_version();
                    let sorted = |mut videos: Vec<VideoState>| {
                        videos.sort_by_key(|video| video.video_id);
                        videos
                    };
                    for (was, is) in sorted(before).iter().zip(sorted(ledger.videos())) {
                        prop_assert_eq!((was.plays, was.last_played_at), (is.plays, is.last_played_at));
                        prop_assert!(is.published <= was.published);
                        prop_assert!(!closed || is.published == was.published);
                    }
                }
            }
            prop_assert_eq!(&plays_of(&ledger), &plays);
        }
        let watched = read(dir.path()).unwrap().unwrap();
        prop_assert_eq!(watched.counters.counted, plays.values().sum::<u64>());
        for producer in 0..3 {
            let confirmed = ledger.confirmed(&Uuid::from_u128(producer));
            let next = (0..).find(|seq| !seen.contains(&(producer, *seq))).unwrap();
            prop_assert_eq!(confirmed.watermark, next);
            let told: BTreeSet<_> = confirmed.above.iter().flat_map(|[start, end]| *start..*end).collect();
            let above = seen.iter().filter(|(id, seq)| *id == producer && *seq > next).map(|(_, seq)| *seq);
            prop_assert_eq!(told, above.collect::<BTreeSet<_>>());
        }
    }
}

#[test]
fn a_checkpoint_takes_the_records_and_bounds_their_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let records = |ledger: &SqliteLedger| -> i64 {
        ledger.connection.query_row("SELECT count(*) FROM records", [], |row| row.get(0)).unwrap()
    };
    for seq in 0..50 {
        commit(&mut ledger, vec![play(seq.into(), Some((1, seq)), seq)]);
    }
    assert_eq!(records(&ledger), 50);
    // Repeats alone are not written.
    assert_eq!(commit(&mut ledger, vec![play(3, Some((1, 3)), 99)]).duplicates, 1);
    assert_eq!(records(&ledger), 50);
    let mut later = Instant::now() + CHECKPOINT_EVERY;
    while ledger.checkpoint(later, CommitTraffic::Idle).unwrap() <= later {}
    assert_eq!(records(&ledger), 0);
    later += CHECKPOINT_EVERY;
    assert!(ledger.checkpoint(later, CommitTraffic::Idle).unwrap() > later, "nothing has changed");
}

#[test]
fn dead_letters_are_kept_once_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!dead_letters::dead_letters(dir.path(), |_| Ok(())).unwrap());
    let mut ledger = open(dir.path());
    let reason = Play::decode(b"{}").unwrap_err();
    let mut reject = |ids: std::ops::Range<u64>, len: usize| {
        let letter = |id| DeadLetter {
            nsqd: "nsqd:4150".into(),
            message: MessageKey::new(MessageId::from_u64(id), 1),
            reason: reason.clone(),
            body: vec![0xff; len],
        };
        let rejected = ids.map(letter).collect();
        let mut arrivals = [Arrivals { plays: Vec::new(), rejected }];
        ledger.commit(&mut arrivals).unwrap().counters.rejected
    };
    assert_eq!(reject(0..3, 5), 3);
    assert_eq!(reject(2..4, 1 << 20), 1);
    let all = || {
        let mut all = Vec::new();
        dead_letters::dead_letters(dir.path(), |letter| {
            all.push(letter);
            Ok(())
        })
        .unwrap();
        all
    };
    assert_eq!(all().len(), 4);
    let last = all().pop().unwrap();
    assert_eq!((last.size, last.body.len()), (1 << 20, 16 * 1024));
    assert!(last.reason.contains("missing field") && last.reason.len() <= Rejection::MAX_LEN);
    assert!(last.to_string().len() < 1000);
    reject(10..10 + dead_letters::DEAD_LETTERS_MAX as u64, 0);
    assert_eq!(all().len() as i64, dead_letters::DEAD_LETTERS_MAX);
    assert_eq!(all()[0].message_id, MessageId::from_u64(10).to_string());
}

#[test]
fn another_dashboard_is_told_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    commit(&mut ledger, vec![play(7, Some((1, 0)), 1)]);
    let published = |ledger: &SqliteLedger| ledger.videos()[0].published;
    let count = VideoCount { video_id: Uuid::from_u128(7), plays: 1, last_played_at: None };
    assert!(ledger.publishes_to(Uuid::from_u128(1)).unwrap());
    ledger.published(std::slice::from_ref(&count));
    assert_eq!(ledger.take_unreported(10).len(), 1);
    assert!(!ledger.publishes_to(Uuid::from_u128(1)).unwrap());
    ledger.close().unwrap();
    drop(ledger);
    let mut ledger = open(dir.path());
    assert_eq!(published(&ledger), 1);
    assert!(!ledger.publishes_to(Uuid::from_u128(1)).unwrap());
    assert!(ledger.publishes_to(Uuid::from_u128(2)).unwrap());
    assert_eq!(published(&ledger), 0);
    assert_eq!(ledger.take_unreported(10)[0].confirmed.watermark, 1);
    drop(ledger);
    assert_eq!(published(&open(dir.path())), 0);
}

/// A million videos must not stop the commits for seconds: a new dashboard costs one row, not one for each video.
#[test]
fn another_dashboard_costs_one_row_and_is_told_everything() {
    const VIDEOS: u64 = 200_000;
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let changes = |ledger: &SqliteLedger| -> i64 {
        ledger.connection.query_row("SELECT total_changes()", [], |row| row.get(0)).unwrap()
    };
    let publish_all = |ledger: &mut SqliteLedger, share: usize| {
        let unseen = ledger.videos().into_iter().filter(|video| video.published < video.plays);
        let counts: Vec<_> = unseen
            .map(|VideoState { video_id, plays, .. }| VideoCount {
                video_id,
                plays,
                last_played_at: None,
            })
            .collect();
        ledger.published(&counts[..counts.len() / share]);
        counts.len() as u64
    };
    let published = |ledger: &SqliteLedger| -> u64 {
        ledger.videos().iter().map(|video| video.published).sum()
    };
    assert!(ledger.publishes_to(Uuid::from_u128(1)).unwrap());
    commit(&mut ledger, (0..VIDEOS).map(|seq| play(seq.into(), Some((1, seq)), seq)).collect());
    assert_eq!(publish_all(&mut ledger, 1), VIDEOS);
    ledger.close().unwrap();
    drop(ledger);

    let mut ledger = open(dir.path());
    assert_eq!(published(&ledger), VIDEOS);
    let (rows, bytes) = (changes(&ledger), ledger.size().unwrap().1);
    assert!(ledger.publishes_to(Uuid::from_u128(2)).unwrap());
    assert_eq!(changes(&ledger) - rows, 1);
    let written = ledger.size().unwrap().1 - bytes;
    assert!(written < 100_000, "{written} bytes");
    assert_eq!(published(&ledger), 0);
    // Commits go on, and with them a checkpoint of what they change.
    commit(&mut ledger, vec![play(7, Some((1, VIDEOS)), VIDEOS)]);
    let now = Instant::now() + CHECKPOINT_EVERY;
    while ledger.checkpoint(now, CommitTraffic::Idle).unwrap() <= now {}
    drop(ledger);

    // A start in between knows that the rows tell of the other dashboard, however many are checkpointed since.
    let mut ledger = open(dir.path());
    assert_eq!(published(&ledger), 0);
    assert!(!ledger.publishes_to(Uuid::from_u128(2)).unwrap());
    assert_eq!(publish_all(&mut ledger, 2), VIDEOS);
    ledger.close().unwrap();
    let half = published(&ledger);
    drop(ledger);
    let mut ledger = open(dir.path());
    assert_eq!(published(&ledger), half);
    assert_eq!(publish_all(&mut ledger, 1), VIDEOS / 2);
    ledger.close().unwrap();
    drop(ledger);
    assert_eq!(published(&open(dir.path())), VIDEOS + 1);
}

#[test]
fn a_file_of_schema_1_keeps_what_was_published() {
    let dir = tempfile::tempdir().unwrap();
    let old =
        Schema { version: 1, sql: include_str!("../schema_1.sql"), migrations: &[], ..SCHEMA };
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
    let told = |ledger: &SqliteLedger| {
        let mut videos: Vec<_> =
            ledger.videos().iter().map(|video| (video.plays, video.published)).collect();
        videos.sort_unstable();
        videos
    };
    assert_eq!(told(&ledger), [(3, 3), (4, 3)]);
    assert!(!ledger.publishes_to(dashboard).unwrap());
    assert!(ledger.publishes_to(Uuid::from_u128(7)).unwrap());
    drop(ledger);
    assert_eq!(told(&open(dir.path())), [(3, 0), (4, 0)]);
    let refused = format!("{:#}", old.open(&file, "").unwrap_err());
    assert!(refused.contains("has schema 2, of a newer playcounts; this one knows 1"), "{refused}");
}

/// Changes the file behind the ledger's back.
fn tamper(dir: &Path, sql: &str) {
    Connection::open(dir.join(FILE)).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_ledger_that_does_not_add_up_is_refused() {
    for (checkpoint, sql) in [
        (true, "UPDATE videos SET plays = plays + 1 WHERE number = 0"),
        (true, "DELETE FROM videos WHERE number = 1"),
        (true, "DELETE FROM producers"),
        (true, "UPDATE producers SET counted = x'00'"),
        (true, "UPDATE producers SET counted = x'ff'"),
        (true, "UPDATE ledger SET counted = 0"),
        (true, "UPDATE videos SET number = 4000000000 WHERE number = 1"),
        (false, "DELETE FROM records WHERE number = 1"),
        (false, "UPDATE records SET record = x'0102'"),
        (
            false,
            "UPDATE records SET number = number + 1000000 WHERE number = 1; DELETE FROM records WHERE number = 2",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path());
        for seq in 0..3 {
            commit(&mut ledger, vec![play(seq.into(), Some((1, seq)), seq)]);
        }
        if checkpoint {
            ledger.close().unwrap();
        }
        drop(ledger);
        tamper(dir.path(), sql);
        let text = refusal(dir.path());
        assert!(text.contains("cannot be read; bring back a backup"), "{sql}: {text}");
    }
}

#[test]
fn it_keeps_to_its_machine_and_its_kind() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    tamper(dir.path(), "UPDATE ledger SET machine = 'another'");
    if !machine_id().is_empty() {
        assert!(refusal(dir.path()).contains("--adopt-ledger"));
    }
    let adopt = LedgerConfig { adopt: true, ..config(dir.path()) };
    drop(SqliteLedger::open(&adopt, "OFF").unwrap());
    drop(open(dir.path()));
    let run = LedgerConfig { simulation: true, ..config(dir.path()) };
    let text = format!("{:#}", SqliteLedger::open(&run, "OFF").err().unwrap());
    assert!(text.contains("a processor's (`process`) counts"), "{text}");
    assert!(remove_simulation(dir.path()).unwrap_err().to_string().contains("`run` starts clean"));
    remove(dir.path()).unwrap();
    drop(SqliteLedger::open(&run, "OFF").unwrap());
    assert!(refusal(dir.path()).contains("a simulation's (`run`) counts"));
    remove_simulation(dir.path()).unwrap();
    assert!(read(dir.path()).unwrap().is_none());
}

/// `run` starts clean, also where an older playcounts ran.
#[test]
fn a_simulation_of_schema_1_may_be_thrown_away_and_a_processors_may_not() {
    for (simulation, may) in [(1, true), (0, false)] {
        let dir = tempfile::tempdir().unwrap();
        let old =
            Schema { version: 1, sql: include_str!("../schema_1.sql"), migrations: &[], ..SCHEMA };
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
        ("PRAGMA user_version = 3", "of a newer playcounts"),
        ("PRAGMA application_id = 7", "somebody else's database"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        tamper(dir.path(), sql);
        assert!(refusal(dir.path()).contains(want));
    }
}

#[test]
fn after_a_failure_nothing_is_committed_or_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    commit(&mut ledger, vec![play(7, Some((1, 0)), 1)]);
    tamper(dir.path(), "ALTER TABLE records RENAME TO gone");
    let lost = || arrivals(vec![play(7, Some((1, 1)), 2)]);
    let error = format!("{:#}", ledger.commit(&mut lost()).unwrap_err());
    assert!(error.starts_with("the ledger cannot be written: no such table"), "{error}");
    tamper(dir.path(), "ALTER TABLE gone RENAME TO records");
    // The state is ahead of the file: only a new start knows what is true.
    ledger.commit(&mut lost()).unwrap_err();
    assert_eq!(
        (ledger.confirmed(&Uuid::from_u128(1)).watermark, ledger.take_unreported(9).len()),
        (0, 0)
    );
    ledger.close().unwrap_err();
    drop(ledger);
    let mut ledger = open(dir.path());
    assert_eq!(
        commit(&mut ledger, lost().into_iter().flat_map(|batch| batch.plays).collect()).counted,
        1
    );
    assert_eq!(plays_of(&ledger), [(7, 2)].into());
}
