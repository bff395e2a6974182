use std::collections::{BTreeMap, BTreeSet};

use nsq_protocol::MessageId;
use proptest::prelude::*;
use rusqlite::{Connection, params};

use super::*;
use crate::ledger::commit::{ArrivedPlay, DeadLetter};
use crate::ledger::dead_letters;
use crate::ledger::letter::DEAD_LETTERS_MAX;
use crate::ledger::message_key::MessageKey;
use crate::ledger::message_parts::PartOf;
use crate::ledger::record::encode_runs;
use crate::ledger::snapshot::{read, remove, remove_simulation};
use crate::model::play::{Play, PlayIdentity, Rejection};
use crate::model::seq_set::SeqSet;
use crate::model::video_id::VideoId;
use crate::storage::row_check;
use crate::storage::sqlite::{self, Schema};

/// Small segments, so that a test fills several.
const SEGMENT: u64 = 16 * 1024;

const FIRST: DashboardIndex = DashboardIndex::FIRST;

fn config(directory: &Path) -> LedgerConfig {
    LedgerConfig {
        directory: directory.to_owned(),
        simulation: false,
        adopt: false,
        message_budget: MessageBudget::default(),
    }
}

fn open(directory: &Path) -> DurableLedger {
    DurableLedger::open_with(&config(directory), SyncPolicy::Process, SEGMENT).unwrap()
}

/// With segments as they are in real life: for commits that are large.
fn open_large(directory: &Path) -> DurableLedger {
    DurableLedger::open(&config(directory), SyncPolicy::Process).unwrap()
}

#[track_caller]
fn refusal(directory: &Path) -> String {
    let error = DurableLedger::open_with(&config(directory), SyncPolicy::Process, SEGMENT)
        .err()
        .expect("it is refused");
    let text = format!("{error:#}");
    assert!(!text.contains('\n') && text.contains(FILE), "{text}");
    text
}

/// A play of `video`: number `seq` of a producer, or without identity, in a message of that ID.
fn play(video: u128, identity: Option<(u128, u64)>, message: u64) -> (Play, MessageKey) {
    let identity =
        identity.map(|(producer, seq)| PlayIdentity { producer: Uuid::from_u128(producer), seq });
    let enqueued_at_ns = Some(message * 1_000_000);
    let play =
        Play { video_id: VideoId::from_u128(video), enqueued_at_ns, identity, resent: false };
    (play, MessageKey::new(MessageId::from_u64(message), 1))
}

fn arrivals(plays: Vec<(Play, MessageKey)>) -> [Arrivals; 1] {
    let plays = plays.into_iter().map(|(play, message)| ArrivedPlay::new(play, message)).collect();
    [Arrivals { plays, rejected: Vec::new() }]
}

fn commit(ledger: &mut DurableLedger, plays: Vec<(Play, MessageKey)>) -> Counters {
    ledger.commit(&mut arrivals(plays)).unwrap().counters
}

fn letter(id: u64, len: usize) -> DeadLetter {
    DeadLetter {
        part_of: PartOf::Alone,
        nsqd: "nsqd:4150".into(),
        message: MessageKey::new(MessageId::from_u64(id), 1),
        reason: Play::decode(b"{}").unwrap_err(),
        size: len,
        body: vec![0xff; len],
    }
}

/// Does one upkeep at that time, as the thread `ledger` does.
fn upkeep(ledger: &mut DurableLedger, now: Instant) -> NextUpkeep {
    let Some(work) = ledger.upkeep(now) else { return NextUpkeep::Later };
    let done = work.run().unwrap();
    ledger.upkept(done).unwrap()
}

/// Makes a whole checkpoint.
fn checkpoint(ledger: &mut DurableLedger) {
    let now = Instant::now() + CHECKPOINT_EVERY;
    while upkeep(ledger, now) == NextUpkeep::Soon {}
}

fn plays_of(ledger: &DurableLedger) -> BTreeMap<u128, u64> {
    ledger
        .videos()
        .into_iter()
        .map(|video| (video.video_id.guid().unwrap().as_u128(), video.plays))
        .collect()
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
                        upkeep(&mut ledger, Instant::now() + 2 * CHECKPOINT_EVERY);
                    }
                }
                Step::Publish => {
                    let count = |video: &VideoState| VideoCount {
                        video_id: video.video_id,
                        plays: video.plays,
                        last_played_at: None,
                    };
                    ledger.published(FIRST, &ledger.videos().iter().map(count).collect::<Vec<_>>());
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
            let confirmed = ledger.confirmed(&Uuid::from_u128(producer)).unwrap();
            let next = (0..).find(|seq| !seen.contains(&(producer, *seq))).unwrap();
            prop_assert_eq!(confirmed.watermark, next);
            let told: BTreeSet<_> = confirmed.above.iter().flat_map(|[start, end]| *start..*end).collect();
            let above = seen.iter().filter(|(id, seq)| *id == producer && *seq > next).map(|(_, seq)| *seq);
            prop_assert_eq!(told, above.collect::<BTreeSet<_>>());
        }
    }
}

#[test]
fn a_checkpoint_takes_the_frames_and_bounds_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let waiting = |ledger: &DurableLedger| ledger.size().unwrap().unswept;
    let segments = || {
        let names = std::fs::read_dir(dir.path().join(JOURNAL)).unwrap();
        names
            .filter(|name| {
                name.as_ref().unwrap().file_name().to_string_lossy().ends_with(".segment")
            })
            .count()
    };
    for seq in 0..600 {
        commit(&mut ledger, vec![play(seq.into(), Some((1, seq)), seq)]);
    }
    assert_eq!(waiting(&ledger), 600);
    assert!(segments() >= 3);
    // Repeats alone are not written.
    assert_eq!(commit(&mut ledger, vec![play(3, Some((1, 3)), 99)]).duplicates, 1);
    assert_eq!(waiting(&ledger), 600);
    checkpoint(&mut ledger);
    // What was released goes with the next upkeep.
    upkeep(&mut ledger, Instant::now());
    assert_eq!((waiting(&ledger), segments()), (0, 2));
    drop(ledger);
    assert_eq!(plays_of(&open(dir.path())).len(), 600);
}

#[test]
fn dead_letters_are_kept_once_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!dead_letters::dead_letters(dir.path(), |_| Ok(())).unwrap());
    let mut ledger = open_large(dir.path());
    let mut reject = |ids: std::ops::Range<u64>, len: usize| {
        let rejected = ids.map(|id| letter(id, len)).collect();
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
    reject(10..10 + DEAD_LETTERS_MAX as u64, 0);
    assert_eq!(all().len() as i64, DEAD_LETTERS_MAX);
    assert_eq!(all()[0].message_id, MessageId::from_u64(10).to_string());
    // A body that came cut is told by its whole size.
    let cut = DeadLetter { size: 3 << 30, reason: Rejection::too_large(3 << 30), ..letter(4, 7) };
    ledger.commit(&mut [Arrivals { plays: Vec::new(), rejected: vec![cut] }]).unwrap();
    let last = all().pop().unwrap();
    assert_eq!((last.size, last.body.len()), (3 << 30, 7));
    assert_eq!(last.reason, "3221225472 bytes are more than --max-msg-size allows");
}

#[test]
fn another_dashboard_is_told_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    commit(&mut ledger, vec![play(7, Some((1, 0)), 1)]);
    let published = |ledger: &DurableLedger| ledger.videos()[0].published;
    let count = VideoCount { video_id: VideoId::from_u128(7), plays: 1, last_played_at: None };
    assert!(ledger.publishes_to(FIRST, Uuid::from_u128(1)).unwrap());
    ledger.published(FIRST, std::slice::from_ref(&count));
    assert_eq!(ledger.take_unreported(FIRST, 10).unwrap().len(), 1);
    assert!(!ledger.publishes_to(FIRST, Uuid::from_u128(1)).unwrap());
    ledger.close().unwrap();
    drop(ledger);
    let mut ledger = open(dir.path());
    assert_eq!(published(&ledger), 1);
    assert!(!ledger.publishes_to(FIRST, Uuid::from_u128(1)).unwrap());
    assert!(ledger.publishes_to(FIRST, Uuid::from_u128(2)).unwrap());
    assert_eq!(published(&ledger), 0);
    assert_eq!(ledger.take_unreported(FIRST, 10).unwrap()[0].confirmed.watermark, 1);
    drop(ledger);
    assert_eq!(published(&open(dir.path())), 0);
}

/// Each of them has every other play: it takes many messages to tell of a thousand runs, and either must go on where both
/// together have come to.
#[test]
fn two_ledgers_together_tell_of_every_play() {
    const PLAYS: u64 = 2_000;
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut ledgers = dirs.each_ref().map(|dir| open(dir.path()));
    for (index, ledger) in ledgers.iter_mut().enumerate() {
        let seqs = (0..PLAYS).filter(|seq| seq % 2 == index as u64);
        commit(ledger, seqs.map(|seq| play(7, Some((1, seq)), seq)).collect());
    }
    // As the dashboard has it.
    let mut known = Confirmed::default();
    let mut messages = 0;
    while known.watermark < PLAYS {
        for ledger in &mut ledgers {
            ledger.retell(FIRST, 10);
            while let Some(told) = ledger.take_unreported(FIRST, 10).unwrap().pop() {
                known = known.union(&told.confirmed);
                ledger.reported(FIRST, &told, known.watermark);
                messages += 1;
            }
        }
        assert!(messages < 100, "{known:?}");
    }
    for ledger in &mut ledgers {
        while let Some(told) = ledger.take_unreported(FIRST, 10).unwrap().pop() {
            ledger.reported(FIRST, &told, known.watermark);
        }
        ledger.retell(FIRST, 10);
        while let Some(told) = ledger.take_unreported(FIRST, 10).unwrap().pop() {
            ledger.reported(FIRST, &told, known.watermark);
        }
        assert!(!ledger.retell(FIRST, 10), "all of it is told");
        // A dashboard that knows nothing is told from the beginning.
        ledger.publishes_to(FIRST, Uuid::from_u128(9)).unwrap();
        let told = ledger.take_unreported(FIRST, 10).unwrap().pop().unwrap().confirmed;
        assert!(told.above[0][0] < 4 && told.watermark < 2, "{told:?}");
    }
}

/// A million videos must not stop the commits for seconds: a new dashboard costs one frame, not a row for each video.
#[test]
fn another_dashboard_costs_one_frame_and_is_told_everything() {
    const VIDEOS: u64 = 200_000;
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open_large(dir.path());
    let publish_all = |ledger: &mut DurableLedger, share: usize| {
        let unseen = ledger.videos().into_iter().filter(|video| video.published < video.plays);
        let counts: Vec<_> = unseen
            .map(|VideoState { video_id, plays, .. }| VideoCount {
                video_id,
                plays,
                last_played_at: None,
            })
            .collect();
        ledger.published(FIRST, &counts[..counts.len() / share]);
        counts.len() as u64
    };
    let published = |ledger: &DurableLedger| -> u64 {
        ledger.videos().iter().map(|video| video.published).sum()
    };
    assert!(ledger.publishes_to(FIRST, Uuid::from_u128(1)).unwrap());
    commit(&mut ledger, (0..VIDEOS).map(|seq| play(seq.into(), Some((1, seq)), seq)).collect());
    assert_eq!(publish_all(&mut ledger, 1), VIDEOS);
    // A debug build does not write so many in the time that a stop has.
    ledger.close_within(Duration::MAX).unwrap();
    drop(ledger);

    let mut ledger = open_large(dir.path());
    assert_eq!(published(&ledger), VIDEOS);
    let before = (ledger.journal.written(), ledger.journal.next());
    assert!(ledger.publishes_to(FIRST, Uuid::from_u128(2)).unwrap());
    let written = ledger.journal.written() - before.0;
    assert!(written < 100 && ledger.journal.next() == before.1 + 1, "{written} bytes");
    assert_eq!(published(&ledger), 0);
    // Commits go on, and with them a checkpoint of what they change.
    commit(&mut ledger, vec![play(7, Some((1, VIDEOS)), VIDEOS)]);
    checkpoint(&mut ledger);
    drop(ledger);

    // A start in between knows that the rows tell of the other dashboard, however many are checkpointed since.
    let mut ledger = open_large(dir.path());
    assert_eq!(published(&ledger), 0);
    assert!(!ledger.publishes_to(FIRST, Uuid::from_u128(2)).unwrap());
    assert_eq!(publish_all(&mut ledger, 2), VIDEOS);
    ledger.close_within(Duration::MAX).unwrap();
    let half = published(&ledger);
    drop(ledger);
    let mut ledger = open_large(dir.path());
    assert_eq!(published(&ledger), half);
    assert_eq!(publish_all(&mut ledger, 1), VIDEOS / 2);
    ledger.close_within(Duration::MAX).unwrap();
    drop(ledger);
    assert_eq!(published(&open_large(dir.path())), VIDEOS + 1);
}

#[test]
fn a_close_without_time_leaves_it_to_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open_large(dir.path());
    commit(&mut ledger, (0..5_000).map(|seq| play(seq.into(), Some((1, seq)), seq)).collect());
    ledger.close_within(Duration::ZERO).unwrap();
    drop(ledger);
    let ledger = open_large(dir.path());
    assert_eq!((ledger.counters().counted, ledger.videos().len()), (5_000, 5_000));
}

#[test]
fn after_a_failure_nothing_is_committed_or_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    commit(&mut ledger, vec![play(7, Some((1, 0)), 1)]);
    let (journal, aside) = (dir.path().join(JOURNAL), dir.path().join("aside"));
    std::fs::rename(&journal, &aside).unwrap();
    let lost = || vec![play(7, Some((1, 1)), 2)];
    let error = format!("{:#}", ledger.commit(&mut arrivals(lost())).unwrap_err());
    assert!(
        error.starts_with(
            "the ledger cannot be written: 0000000001.segment is not in its directory any more"
        ),
        "{error}"
    );
    std::fs::rename(&aside, &journal).unwrap();
    // The state is ahead of the file: only a new start knows what is true.
    ledger.commit(&mut arrivals(lost())).unwrap_err();
    assert_eq!(
        (
            ledger.confirmed(&Uuid::from_u128(1)).unwrap().watermark,
            ledger.take_unreported(FIRST, 9).unwrap().len()
        ),
        (0, 0)
    );
    ledger.close().unwrap_err();
    drop(ledger);
    let mut ledger = open(dir.path());
    assert_eq!(commit(&mut ledger, lost()).counted, 1);
    assert_eq!(plays_of(&ledger), [(7, 2)].into());
}

mod files;
mod producers;
mod retry;
mod window;
