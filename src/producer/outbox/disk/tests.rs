//! The outbox on a real directory: what is kept comes back over starts and checkpoints, and damage is refused.

use std::time::Duration;

use proptest::prelude::*;
use rusqlite::Connection;

use std::fs;

use super::*;
use crate::storage::row_check;

/// Small segments, checkpoints that hold some frames and slices that hold few plays.
const SMALL: OutboxLimits = OutboxLimits {
    segment_bytes: 8192,
    checkpoint_bytes: 8192,
    checkpoint_every: Duration::from_secs(300),
    slice_plays: 100,
    tick: Duration::from_millis(1),
};

fn run() -> RunIdentity {
    RunIdentity { topic: "plays".into(), messages: 100, videos: 3, popularity: "uniform".into() }
}

/// Small segments only: made often, they take their time.
const QUIET: OutboxLimits =
    OutboxLimits { segment_bytes: SMALL.segment_bytes, ..OutboxLimits::DEFAULT };

fn open(dir: &DataDir) -> Result<DiskOutbox> {
    DiskOutbox::open_with(dir, &run(), Durability::Process, QUIET)
}

#[track_caller]
fn refusal(dir: &DataDir) -> String {
    let text = format!("{:#}", open(dir).err().unwrap());
    assert!(!text.contains('\n'), "{text}");
    text
}

fn database(dir: &Path) -> PathBuf {
    dir.join("outbox.sqlite3")
}

/// Runs SQL on the tables that computes checks, too.
fn sql(dir: &Path, sql: &str) {
    let connection = Connection::open(database(dir)).unwrap();
    row_check::add_function(&connection).unwrap();
    connection.execute_batch(sql).unwrap();
}

/// Whoever comes later is told why the thread has ended, not that the tables' files went with it.
#[test]
fn the_first_reason_is_the_one_that_is_told() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let mut outbox = DiskOutbox::open_with(&dir, &run(), Durability::Process, SMALL).unwrap();
    // No segment can be made of it.
    fs::create_dir(temp.path().join(JOURNAL).join("spare-9")).unwrap();
    let mut first = 0;
    let error = loop {
        match outbox.keep(&PlayBatch::new(first, 5, vec![0; 100].into()), 0) {
            Ok(()) => first += 100,
            Err(error) => break format!("{error:#}"),
        }
    };
    assert!(error.contains("spare-9"), "{error}");
    let shm = temp.path().join("outbox.sqlite3-shm");
    while shm.exists() {
        std::thread::yield_now();
    }
    let batch = PlayBatch::new(first, 5, vec![0].into());
    assert_eq!(format!("{:#}", outbox.keep(&batch, 0).unwrap_err()), error);
    assert_eq!(format!("{:#}", outbox.check().unwrap_err()), error);
    assert_eq!(format!("{:#}", outbox.close().unwrap_err()), error);
}

#[test]
fn it_goes_on_where_it_was() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    assert!(read(temp.path()).unwrap().is_none());
    let mut outbox = open(&dir).unwrap();
    let (producer, videos) = (outbox.producers.present(), outbox.videos.clone());
    let batches = [
        PlayBatch::new(0, 5, vec![0, 1].into()),
        PlayBatch::new(2, 6, vec![1, 1, 2].into()),
        PlayBatch::new(5, 7, vec![0].into()),
    ];
    for (batch, acknowledged) in batches.iter().zip([0, 2, 2]) {
        outbox.keep(batch, acknowledged).unwrap();
    }
    let beside = read(temp.path()).unwrap().unwrap();
    assert_eq!((beside.producer, beside.plays, beside.acknowledged), (producer, 6, 2));
    outbox.close().unwrap();
    let mut outbox = open(&dir).unwrap();
    assert_eq!((outbox.producers.present(), &outbox.videos), (producer, &videos));
    assert_eq!((outbox.next, outbox.acknowledged, &outbox.counts[..]), (6, 2, &[2, 3, 1][..]));
    assert_eq!(outbox.batches, batches);
    outbox.forget(&batches[..2]).unwrap();
    outbox.forget(&[]).unwrap();
    drop(outbox);
    let outbox = open(&dir).unwrap();
    assert_eq!((outbox.next, outbox.acknowledged, &outbox.counts[..]), (6, 5, &[2, 3, 1][..]));
    assert_eq!(outbox.batches, &batches[2..]);
    let attempted = read(temp.path()).unwrap().unwrap();
    assert_eq!((attempted.producer, attempted.plays, attempted.acknowledged), (producer, 6, 5));
    assert_eq!(attempted.counts, [(videos[0], 2), (videos[1], 3), (videos[2], 1)]);
    let text = remove(&dir).unwrap_err().to_string();
    assert!(text.starts_with("another producer"), "{text}");
    drop(outbox);
    remove(&dir).unwrap();
    assert!(!exists(temp.path()));
}

#[test]
fn another_run_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    drop(open(&dir).unwrap());
    for other in [
        RunIdentity { topic: "other".into(), ..run() },
        RunIdentity { messages: 101, ..run() },
        RunIdentity { videos: 4, ..run() },
        RunIdentity { popularity: "zipf:1".into(), ..run() },
    ] {
        let text = DiskOutbox::open(&dir, &other, Durability::Process).err().unwrap().to_string();
        assert!(text.contains("100 plays of 3 videos, uniform, on topic plays"), "{text}");
    }
    sql(
        temp.path(),
        "INSERT INTO batches VALUES (7, 1, x'00000000', row_check(7, 1, x'00000000'));
         UPDATE run SET num_batches = 1;
         UPDATE run SET row_check = row_check(only, producer, topic, messages, num_videos, popularity, life, segment,
            number, next, acknowledged, gone, num_batches)",
    );
    let text = refusal(&dir);
    assert!(text.ends_with("play 0 is missing, the next is 7"), "{text}");
}

/// Three batches, of which the first is gone and all is in the tables; then a fourth in the journal.
fn filled(dir: &DataDir) -> Attempted {
    let mut outbox = open(dir).unwrap();
    let first = PlayBatch::new(0, 5, vec![0, 1].into());
    outbox.keep(&first, 0).unwrap();
    outbox.keep(&PlayBatch::new(2, 6, vec![1, 1, 2].into()), 2).unwrap();
    outbox.keep(&PlayBatch::new(5, 7, vec![0].into()), 2).unwrap();
    outbox.forget(&[first]).unwrap();
    outbox.close().unwrap();
    let mut outbox = open(dir).unwrap();
    outbox.keep(&PlayBatch::new(6, 8, vec![2].into()), 5).unwrap();
    // As if it were killed here.
    outbox.shared.lock().has_failed = true;
    drop(outbox);
    read(dir.path()).unwrap().unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join(JOURNAL)).unwrap();
    for place in ["", JOURNAL] {
        let files = fs::read_dir(from.join(place)).unwrap().map(|file| file.unwrap().path());
        for file in files.filter(|path| path.is_file()) {
            fs::copy(&file, to.join(place).join(file.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn a_copy_holds_the_same_and_goes_on_under_another_id() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path().join("original")).unwrap();
    let held = filled(&dir);
    let restored = DataDir::open(temp.path().join("copy")).unwrap();
    let copied = crate::producer::copy_outbox(dir.path(), &database(restored.path()));
    copied.unwrap().unwrap();
    let found = read(restored.path()).unwrap().unwrap();
    let new = found.later.last().unwrap().1;
    assert_eq!((found.producer, &found.later[..]), (held.producer, &[(7, new)][..]));
    assert_ne!(new, held.producer);
    assert_eq!((found.plays, found.acknowledged, &found.counts), (7, 5, &held.counts));
    let mut outbox = open(&restored).unwrap();
    assert_eq!(outbox.batches.iter().map(|batch| batch.first).collect::<Vec<_>>(), [2, 5, 6]);
    let of = |number| outbox.producers().identity(number);
    assert_eq!((of(6).producer, of(6).seq), (held.producer, 6));
    assert_eq!((of(7).producer, of(7).seq), (new, 7));
    outbox.keep(&PlayBatch::new(7, 9, vec![2].into()), 7).unwrap();
    outbox.close().unwrap();
    // The same of a copy of it, over its own tables; and a name that is taken is left alone.
    let again = DataDir::open(temp.path().join("again")).unwrap();
    let copy = || crate::producer::copy_outbox(restored.path(), &database(again.path()));
    copy().unwrap().unwrap();
    assert!(format!("{:#}", copy().unwrap_err()).contains("must not exist yet"));
    let outbox = open(&again).unwrap();
    let owners = [2, 7, 8].map(|number| outbox.producers().identity(number));
    assert_eq!(owners.map(|play| play.seq), [2, 7, 8]);
    assert_eq!((owners[0].producer, owners[1].producer), (held.producer, new));
    assert_eq!(owners[2].producer, outbox.producers().present());
    assert!(![held.producer, new].contains(&owners[2].producer));
    assert!(crate::producer::copy_outbox(temp.path(), &temp.path().join("x")).unwrap().is_none());
}

#[test]
fn what_has_vanished_or_changed_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let good = DataDir::open(temp.path().join("good")).unwrap();
    filled(&good);
    for (change, reason) in [
        ("UPDATE run SET acknowledged = 3", "the row of `run` does not fit its check"),
        ("UPDATE run SET topic = 'plaxs'", "the row of `run` does not fit its check"),
        ("UPDATE videos SET plays = 2 WHERE number = 1", "row 1 of `videos` does not fit"),
        ("UPDATE videos SET video_id = x'00' WHERE number = 0", "row 0 of `videos` does not fit"),
        ("DELETE FROM videos WHERE number = 0", "row 0 of `videos` is missing"),
        ("DELETE FROM videos WHERE number = 2", "`videos` has 2 rows, and must have 3"),
        ("UPDATE batches SET videos = x'00000000' WHERE first = 2", "row 2 of `batches` does not"),
        ("UPDATE batches SET first = 3 WHERE first = 2", "row 3 of `batches` does not fit"),
        ("DELETE FROM batches WHERE first = 5", "`batches` has 1 row, and must have 2"),
        ("DELETE FROM run", "the row of `run` is missing"),
        ("DELETE FROM run; DELETE FROM videos; DELETE FROM batches", "the row of `run` is missing"),
    ] {
        let bad = temp.path().join("bad");
        copy(good.path(), &bad);
        sql(&bad, change);
        let text = refusal(&DataDir::open(&bad).unwrap());
        assert!(text.contains(reason) && text.contains("outbox."), "{change}: {text}");
        fs::remove_dir_all(&bad).unwrap();
    }
    let lone = temp.path().join("lone");
    copy(good.path(), &lone);
    fs::remove_dir_all(lone.join(JOURNAL)).unwrap();
    let text = refusal(&DataDir::open(&lone).unwrap());
    assert!(text.contains(".segment is missing: "), "{text}");
    // Opened to write, it has an empty directory.
    fs::remove_dir_all(lone.join(JOURNAL)).unwrap();
    let text = format!("{:#}", read(&lone).unwrap_err());
    assert!(text.ends_with("outbox.journal: it is missing"), "{text}");
}

/// A byte of the tables is changed, each in turn: the same as before, or refused.
#[test]
fn a_changed_byte_in_the_tables_is_harmless_or_refused() {
    let temp = tempfile::tempdir().unwrap();
    let good = DataDir::open(temp.path().join("good")).unwrap();
    let wanted = filled(&good);
    let bytes = fs::read(database(good.path())).unwrap();
    let (mut exact, mut refused) = (0, 0);
    for place in (0..bytes.len()).step_by(41) {
        let bad = temp.path().join(format!("bad-{place}"));
        copy(good.path(), &bad);
        let mut changed = bytes.clone();
        changed[place] ^= 1 << (place % 8);
        fs::write(database(&bad), changed).unwrap();
        match open(&DataDir::open(&bad).unwrap()) {
            Ok(outbox) => {
                let found = (outbox.producers.present(), outbox.next, outbox.acknowledged);
                assert_eq!(found, (wanted.producer, 7, 5), "{place}");
                let counts = outbox.videos.iter().copied().zip(outbox.counts.iter().copied());
                assert!(counts.eq(wanted.counts.iter().copied()), "{place}");
                let batches: Vec<_> =
                    outbox.batches.iter().map(|batch| &batch.videos[..]).collect();
                assert_eq!(batches, [&[1, 1, 2][..], &[0], &[2]], "{place}");
                exact += 1;
            }
            Err(_) => refused += 1,
        }
        fs::remove_dir_all(&bad).unwrap();
    }
    assert!(exact > 100 && refused > 10, "{exact} exact, {refused} refused");
}

/// A frame that is whole, and says what cannot be.
#[test]
fn a_frame_that_does_not_follow_is_damage() {
    for (payload, reason) in [
        (&[9, 9][..], "it is no entry of an outbox"),
        (&[2, 4], "what ends at 4 is gone, of plays 0 to 3"),
        (&[2, 1], "play 1 is missing, the next is 0"),
        (&[1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], "play 3 is missing, the next is 4"),
        (&[1, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], "play 4 is acknowledged, and 3 not made yet"),
        (&[1, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3], "a video that is none of the run's"),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).unwrap();
        let mut outbox = open(&dir).unwrap();
        outbox.keep(&PlayBatch::new(0, 5, vec![0, 1, 2].into()), 0).unwrap();
        outbox.close().unwrap();
        let outbox = open(&dir).unwrap();
        {
            let mut shared = outbox.shared.lock();
            shared.journal.put(payload).unwrap();
            shared.has_failed = true;
        }
        drop(outbox);
        let text = refusal(&dir);
        assert!(text.contains(reason) && text.contains(JOURNAL), "{reason}: {text}");
    }
}

/// The journal's directory is gone while it is written: that is said, and nothing is kept any more.
#[test]
fn a_removed_directory_ends_it() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let mut outbox = open(&dir).unwrap();
    outbox.keep(&PlayBatch::new(0, 5, vec![0].into()), 0).unwrap();
    fs::rename(temp.path().join(JOURNAL), temp.path().join("elsewhere")).unwrap();
    let error = outbox.keep(&PlayBatch::new(1, 5, vec![0].into()), 0).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.starts_with("the outbox cannot be written: 0000000001.segment is not"), "{text}");
    drop(outbox);
    fs::rename(temp.path().join("elsewhere"), temp.path().join(JOURNAL)).unwrap();
    assert_eq!(open(&dir).unwrap().next, 1);
}

/// Checkpoints move what is kept into the tables while more comes: the journal stays small, and nothing is lost by a kill.
#[test]
fn checkpoints_keep_the_journal_small() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let mut outbox = DiskOutbox::open_with(&dir, &run(), Durability::Power, SMALL).unwrap();
    let segments = || fs::read_dir(temp.path().join(JOURNAL)).unwrap().count();
    let (mut held, mut next) = (VecDeque::new(), 0);
    // Until a checkpoint has given up a segment, then as much again.
    let mut first_is_gone_at = None;
    while first_is_gone_at.is_none_or(|gone| next < 2 * gone) {
        let batch = PlayBatch::new(next, 1, vec![(next % 3) as u32; 50].into());
        outbox.keep(&batch, next).unwrap();
        next = batch.end();
        held.push_back(batch);
        if held.len() == 10 {
            let gone: Vec<_> = held.drain(..7).collect();
            outbox.forget(&gone).unwrap();
        }
        if !temp.path().join(JOURNAL).join("0000000001.segment").exists() {
            first_is_gone_at.get_or_insert(next);
        }
        assert!(next < 5_000_000, "no checkpoint is made");
    }
    outbox.shared.lock().has_failed = true;
    drop(outbox);
    let outbox = open(&dir).unwrap();
    assert_eq!((outbox.next, outbox.counts.iter().sum::<u64>()), (next, next));
    assert_eq!(outbox.batches, held);
    // The present segment, the next, and those that are kept to be used again.
    outbox.close().unwrap();
    assert!(segments() <= 4, "{} segments", segments());
}

/// What was done to an outbox, one by one.
#[derive(Clone, Debug)]
enum DiskStep {
    Keep { plays: usize, acknowledge: bool },
    Forget(usize),
    Read,
    Close,
    Kill,
}

fn any_step() -> impl Strategy<Value = DiskStep> {
    prop_oneof![
        12 => (1usize..60, any::<bool>())
            .prop_map(|(plays, acknowledge)| DiskStep::Keep { plays, acknowledge }),
        5 => (1usize..6).prop_map(DiskStep::Forget),
        2 => Just(DiskStep::Read),
        1 => Just(DiskStep::Close),
        1 => Just(DiskStep::Kill),
    ]
}

/// The same in memory.
#[derive(Debug, Default)]
struct Kept {
    held: VecDeque<PlayBatch>,
    counts: [u64; 3],
    next: u64,
    acknowledged: u64,
}

impl Kept {
    #[track_caller]
    fn assert_is(&self, outbox: &DiskOutbox) {
        let found = (outbox.next, outbox.acknowledged, &outbox.counts[..]);
        assert_eq!(found, (self.next, self.acknowledged, &self.counts[..]));
        assert_eq!(outbox.batches, self.held);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn over_checkpoints_and_starts_it_is_what_was_done(
        steps in proptest::collection::vec(any_step(), 1..250)
    ) {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).unwrap();
        let open =
            || DiskOutbox::open_with(&dir, &run(), Durability::Process, SMALL).unwrap();
        let (mut outbox, mut kept) = (open(), Kept::default());
        for step in steps {
            match step {
                DiskStep::Keep { plays, acknowledge } => {
                    let videos: Box<[u32]> =
                        (0..plays).map(|play| (play as u64 + kept.next) as u32 % 3).collect();
                    videos.iter().for_each(|video| kept.counts[*video as usize] += 1);
                    if acknowledge {
                        kept.acknowledged = kept.next;
                    }
                    let batch = PlayBatch::new(kept.next, kept.next * 7, videos);
                    outbox.keep(&batch, kept.acknowledged).unwrap();
                    kept.next = batch.end();
                    kept.held.push_back(batch);
                }
                DiskStep::Forget(batches) => {
                    let gone = batches.min(kept.held.len());
                    let gone: Vec<_> = kept.held.drain(..gone).collect();
                    let end = gone.last().map_or(0, PlayBatch::end);
                    kept.acknowledged = kept.acknowledged.max(end);
                    outbox.forget(&gone).unwrap();
                }
                DiskStep::Read => {
                    let found = read(temp.path()).unwrap().unwrap();
                    let counts: u64 = found.counts.iter().map(|(_, plays)| plays).sum();
                    let found = (found.plays, found.acknowledged, counts);
                    prop_assert_eq!(found, (kept.next, kept.acknowledged, kept.next));
                }
                DiskStep::Close => {
                    outbox.close().unwrap();
                    outbox = open();
                    kept.assert_is(&outbox);
                }
                DiskStep::Kill => {
                    outbox.shared.lock().has_failed = true;
                    drop(outbox);
                    outbox = open();
                    kept.assert_is(&outbox);
                }
            }
        }
        outbox.close().unwrap();
        kept.assert_is(&open());
    }
}

/// A producer that goes on under another id: both are known, over starts and checkpoints.
#[test]
fn another_id_is_kept() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let mut outbox = open(&dir).unwrap();
    let (first, later) = (outbox.producers.present(), Uuid::from_u128(9));
    let batch = PlayBatch::new(0, 5, vec![0, 1].into());
    outbox.keep(&batch, 0).unwrap();
    outbox.forget(&[batch]).unwrap();
    outbox.rename(2, later).unwrap();
    outbox.keep(&PlayBatch::new(2, 6, vec![1].into()), 2).unwrap();
    let ids = || read(temp.path()).unwrap().unwrap().ids();
    assert_eq!(ids(), [(first, 0..2), (later, 2..3)]);
    for _ in 0..2 {
        outbox.close().unwrap();
        outbox = open(&dir).unwrap();
        assert_eq!((outbox.producers.present(), outbox.next, outbox.batches.len()), (later, 3, 1));
        assert_eq!(ids(), [(first, 0..2), (later, 2..3)]);
    }
    outbox.close().unwrap();
    sql(temp.path(), "UPDATE later SET first = 1");
    let text = refusal(&dir);
    assert!(text.ends_with("row 1 of `later` does not fit its check"), "{text}");
}
