//! A journal against a plain list; and beside a reader, and with an upkeep in another thread.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use proptest::prelude::*;

use super::sim::SimDisk;
use super::*;

#[derive(Clone, Debug)]
enum Op {
    /// Appends payloads of these sizes, and commits.
    Group(Vec<usize>),
    Upkeep(Sync),
    /// The tables take this share of what is committed, in per cent.
    Checkpoint(u64),
    Close,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let size = prop_oneof![8 => 1usize..400, 1 => Just(4024), 1 => 1usize..=4024];
    prop_oneof![
        6 => prop::collection::vec(size, 1..6).prop_map(Op::Group),
        1 => Just(Op::Upkeep(Sync::All)),
        1 => Just(Op::Upkeep(Sync::Closed)),
        1 => (0u64..=100).prop_map(Op::Checkpoint),
        1 => Just(Op::Close),
        1 => Just(Op::Restart),
    ]
}

type Frames = Vec<(u64, Vec<u8>)>;

/// A start, and its frames.
fn start(disk: &SimDisk, config: JournalConfig, from: Option<Position>) -> (Journal, Frames) {
    let mut frames = Vec::new();
    let opened = Journal::open(disk.shared(), config, from, |number, payload| {
        frames.push((number, payload.to_vec()));
        Ok(())
    });
    let (journal, cut) = opened.unwrap();
    assert_eq!(cut, None, "nothing was cut short");
    (journal, frames)
}

fn upkeep(journal: &mut Journal, sync: Sync) {
    if let Some(upkeep) = journal.upkeep(sync) {
        let done = upkeep.run().unwrap();
        journal.upkept(done).unwrap();
    }
}

/// What is read beside the owner, and what a start would find.
fn seen(disk: &SimDisk, config: &JournalConfig, from: Position) -> [(u64, Frames); 2] {
    let mut frames = [Vec::new(), Vec::new()];
    let [one, two] = &mut frames;
    let read = read(&*disk.shared(), from, |number, payload| {
        one.push((number, payload.to_vec()));
        Ok(())
    });
    let examined = examine(&*disk.shared(), config, Some(from), |number, payload| {
        two.push((number, payload.to_vec()));
        Ok(())
    });
    let [one, two] = frames;
    [(read.unwrap(), one), (examined.unwrap().0, two)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_holds_what_a_list_would_hold(
        ops in prop::collection::vec(op(), 1..50),
        is_power in any::<bool>(),
    ) {
        let sync = if is_power { SyncPolicy::Power } else { SyncPolicy::Process };
        let config = JournalConfig { sync, ..config() };
        let disk = SimDisk::new(1);
        let (mut journal, _) = start(&disk, config, None);
        let mut from = journal.position(1);
        let mut list: Frames = Vec::new();
        for op in ops {
            match op {
                Op::Group(sizes) => {
                    for size in sizes {
                        let number = journal.next();
                        let payload = vec![number as u8 | 1; size];
                        prop_assert_eq!(journal.append(&payload).unwrap(), number);
                        list.push((number, payload));
                    }
                    journal.commit().unwrap();
                }
                Op::Upkeep(sync) => upkeep(&mut journal, sync),
                Op::Checkpoint(share) => {
                    upkeep(&mut journal, Sync::All);
                    let number = from.number + (journal.next() - from.number) * share / 100;
                    let position = journal.position(number);
                    prop_assert!(position.number == number && position.segment >= from.segment);
                    journal.release(position);
                    from = position;
                    list.retain(|(number, _)| *number >= from.number);
                }
                Op::Close => journal.close().unwrap(),
                Op::Restart => {
                    drop(journal);
                    let frames;
                    (journal, frames) = start(&disk, config, Some(from));
                    prop_assert!(frames == list);
                }
            }
            prop_assert_eq!(journal.next(), from.number + list.len() as u64);
            for (next, frames) in seen(&disk, &config, from) {
                prop_assert_eq!(next, journal.next());
                prop_assert!(frames == list);
            }
        }
        // Its segments, the next one, two that are kept, and those that the next upkeep gives up.
        let most = journal.segments.len() + 1 + 2 + journal.released.len();
        prop_assert!(disk.files().len() <= most);
    }
}

#[test]
fn what_no_frame_takes_is_refused_and_changes_nothing() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = start(&disk, config(), None);
    let most = config().payload_max();
    assert_eq!(most, 4024);
    journal.append(b"one").unwrap();
    for bytes in [0, most + 1] {
        let refused = journal.append(&vec![1; bytes]);
        assert!(matches!(refused, Err(JournalError::TooLarge { .. })), "{refused:?}");
    }
    journal.commit().unwrap();
    assert_eq!(journal.put(&vec![1; most]).unwrap(), 2);
    let from = journal.position(1);
    drop(journal);
    assert_eq!(start(&disk, config(), Some(from)).1.len(), 2);
}

/// An upkeep in another thread, which prepares segments while the owner needs them, and a reader beside both.
#[test]
fn an_upkeep_and_a_reader_run_beside_the_owner() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ..) = open(dir.path(), config(), None).unwrap();
    let journal = Mutex::new(journal);
    let from = Mutex::new(journal.lock().position(1));
    let is_done = AtomicBool::new(false);
    let mut reads = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..6000 {
                let mut journal = journal.lock();
                let payload = payload(journal.next());
                journal.put(&payload).unwrap();
            }
            is_done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                let upkeep = journal.lock().upkeep(Sync::Closed);
                if let Some(upkeep) = upkeep {
                    let done = upkeep.run().unwrap();
                    journal.lock().upkept(done).unwrap();
                }
                let mut journal = journal.lock();
                let position = journal.position(journal.next().saturating_sub(200).max(1));
                *from.lock() = position;
                journal.release(position);
            }
        });
        let disk = FsDisk::open_reader(dir.path()).unwrap();
        while !is_done.load(Ordering::SeqCst) {
            let begin = *from.lock();
            let least = journal.lock().next();
            let mut number = begin.number;
            let end = read(&*disk, begin, |found, bytes| {
                assert_eq!((found, bytes), (number, &payload(number)[..]));
                number += 1;
                Ok(())
            });
            match end {
                Ok(end) => {
                    assert!(end == number && end >= least, "{end}, {number}, {least}");
                    reads += 1;
                }
                // It was given up meanwhile.
                Err(JournalError::Io { source, .. }) => {
                    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
    let from = *from.lock();
    drop(journal);
    let (journal, frames, cut) = open(dir.path(), config(), Some(from)).unwrap();
    assert!(frames.iter().map(|(number, _)| *number).eq(from.number..=6000));
    assert!(frames.iter().all(|(number, bytes)| *bytes == payload(*number)));
    assert_eq!((journal.next(), cut), (6001, None));
    assert!(reads > 0);
}

/// A start puts a new file in the place of the segment that an earlier one has made ready.
#[test]
fn a_reader_runs_beside_starts() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path(), config(), None).unwrap();
    journal.put(b"one").unwrap();
    let upkeep = journal.upkeep(Sync::All).unwrap().run().unwrap();
    journal.upkept(upkeep).unwrap();
    drop(journal);
    let is_done = AtomicBool::new(false);
    let mut reads = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..200 {
                drop(open(dir.path(), config(), START).unwrap());
            }
            is_done.store(true, Ordering::SeqCst);
        });
        let disk = FsDisk::open_reader(dir.path()).unwrap();
        while !is_done.load(Ordering::SeqCst) {
            let end = read(&*disk, START.unwrap(), |_, _| Ok(()));
            assert_eq!(end.unwrap(), 2, "after {reads} reads");
            reads += 1;
        }
    });
    assert!(reads > 0);
}

/// Another journal may have the directory by then.
#[test]
fn an_upkeep_of_a_journal_that_has_ended_touches_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, away) = (dir.path().join("journal"), dir.path().join("away"));
    let (mut journal, ..) = open(&path, config(), None).unwrap();
    (0..100).for_each(|number| assert!(journal.put(&payload(number)).is_ok()));
    journal.release(journal.position(journal.next()));
    let late = journal.upkeep(Sync::All).unwrap();
    journal.end(|| Err::<(), _>("it is not taken")).unwrap_err();
    journal.end(|| std::fs::rename(&path, &away)).unwrap();
    let (mut new, ..) = open(&path, config(), None).unwrap();
    (0..100).for_each(|number| assert!(new.put(&payload(number)).is_ok()));
    let files = || {
        let files = std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.map(|file| (std::fs::read(&file).unwrap(), file)).collect();
        files.sort_unstable();
        files
    };
    let before = files();
    drop(late.run().unwrap());
    assert!(files() == before);
}

/// A directory that was moved away, or covered, gets nothing more; and all goes on when it is back.
#[test]
fn nothing_goes_into_another_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (path, away) = (dir.path().join("journal"), dir.path().join("away"));
    let (mut journal, ..) = open(&path, config(), None).unwrap();
    journal.put(b"one").unwrap();
    std::fs::rename(&path, &away).unwrap();
    std::fs::create_dir(&path).unwrap();
    for _ in 0..3 {
        let refused = journal.put(b"two");
        assert!(matches!(refused, Err(JournalError::Gone { .. })), "{refused:?}");
        assert_eq!(journal.next(), 2);
    }
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&away, &path).unwrap();
    assert_eq!(journal.put(b"two").unwrap(), 2);
    drop(journal);
    let frames = open(&path, config(), START).unwrap().1;
    assert_eq!(frames, [(1, b"one".to_vec()), (2, b"two".to_vec())]);
}
