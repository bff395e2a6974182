//! Damage to the files of a journal: a start gives exactly its frames, or refuses with file and offset, or, only behind
//! the last seal, says what it cuts off.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::frame::{FRAMES_AT, MARK_AT, SegmentHead};
use super::crashes::seeds;
use super::sim::SimDisk;
use super::*;

type Files = BTreeMap<String, Vec<u8>>;
type Frames = Vec<(u64, Vec<u8>)>;

/// How a journal has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// After a second without work.
    Idle,
    /// In order.
    Closed,
    /// A kill, with frames behind the last seal.
    Killed,
}

/// A journal of some segments: its files, the position, its frames, and the number below which a seal holds them.
struct Sample {
    files: Files,
    from: Position,
    frames: Frames,
    sealed: u64,
}

fn upkeep(journal: &mut Journal, sync: Sync) {
    if let Some(upkeep) = journal.upkeep(sync) {
        let done = upkeep.run().unwrap();
        journal.upkept(done).unwrap();
    }
}

fn sample(end: End, life: u128) -> Sample {
    let disk = SimDisk::new(7);
    let config = JournalConfig { life: Uuid::from_u128(life), ..config() };
    let (mut journal, _) = Journal::open(disk.shared(), config, None, |_, _| Ok(())).unwrap();
    let mut from = journal.position(1);
    for start in 0..2 {
        for number in 0..90 {
            journal.put(&payload(journal.next())).unwrap();
            if number % 20 == 0 {
                upkeep(&mut journal, Sync::Closed);
            }
            if number == 70 {
                // So that files are used again, and there are spare ones.
                upkeep(&mut journal, Sync::All);
                from = journal.position(40 * (start + 1));
                journal.release(from);
            }
        }
        if start == 0 {
            let opened = Journal::open(disk.shared(), config, Some(from), |_, _| Ok(())).unwrap();
            assert_eq!(opened.1, None);
            journal = opened.0;
        }
    }
    upkeep(&mut journal, Sync::All);
    let sealed = journal.next();
    match end {
        End::Idle => {}
        End::Closed => journal.close().unwrap(),
        End::Killed => {
            for _ in 0..5 {
                journal.put(&payload(journal.next())).unwrap();
            }
        }
    }
    let frames = (from.number..journal.next()).map(|number| (number, payload(number))).collect();
    Sample { files: disk.files(), from, frames, sealed }
}

/// What a start says to these files.
fn start(files: &Files, from: Position) -> Result<(Frames, Option<Cut>), JournalError> {
    let mut frames = Vec::new();
    let disk = SimDisk::of(files).shared();
    let (_, cut) = Journal::open(disk, config(), Some(from), |number, payload| {
        frames.push((number, payload.to_vec()));
        Ok(())
    })?;
    Ok((frames, cut))
}

/// How many starts were exact, were refused, and cut something off.
#[derive(Debug, Default)]
struct Tally {
    exact: u64,
    refused: u64,
    cut: u64,
}

impl Tally {
    fn judge(&mut self, sample: &Sample, files: &Files, what: &str) {
        match start(files, sample.from) {
            Ok((frames, None)) => {
                assert!(frames == sample.frames, "{what}: not the frames");
                self.exact += 1;
            }
            Ok((frames, Some(cut))) => {
                assert!(sample.frames.starts_with(&frames), "{what}: not the frames");
                let next = sample.from.number + frames.len() as u64;
                assert_eq!(cut.number, next, "{what}");
                assert!(next >= sample.sealed, "{what}: sealed frames were cut off");
                assert!(cut.bytes > 0 && cut.reason == CutReason::Crash, "{what}: {cut}");
                assert!(files.contains_key(&cut.file), "{what}: {cut}");
                self.cut += 1;
            }
            Err(
                JournalError::Damaged { file, .. }
                | JournalError::Missing { file, .. }
                | JournalError::Foreign { file, .. },
            ) => {
                assert!(file.ends_with(".segment"), "{what}: {file}");
                self.refused += 1;
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

/// Changes to the bytes of one file.
fn change(bytes: &mut Vec<u8>, kind: u32, at: usize, rng: &mut StdRng) {
    match kind {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => {
            let sector = at / 512 * 512;
            bytes[sector..sector + 512].fill(0);
        }
        2 => bytes.truncate(at),
        3 => {
            let end = (at + rng.random_range(1..200)).min(bytes.len());
            rng.fill(&mut bytes[at..end]);
        }
        _ => bytes.push(0),
    }
}

fn damage(end: End) -> Tally {
    let sample = sample(end, 7);
    let mut tally = Tally::default();
    tally.judge(&sample, &sample.files, "as it is");
    assert_eq!((tally.exact, tally.refused, tally.cut), (1, 0, 0));
    let segments = sample.files.keys().filter(|name| name.ends_with(".segment"));
    let segments: Vec<&String> = segments.collect();
    assert!(segments.len() >= 4 && sample.files.len() > segments.len(), "{segments:?}");
    let mut rng = StdRng::seed_from_u64(end as u64);
    let mut one = |name: &String, kind, at: usize| {
        let mut files = sample.files.clone();
        let bytes = files.get_mut(name).unwrap();
        let before = bytes.clone();
        change(bytes, kind, at.min(before.len() - 1), &mut rng);
        tally.judge(&sample, &files, &format!("{end:?}, {name}, kind {kind}, at {at}"));
    };
    for name in sample.files.keys() {
        for at in (0..84).chain(MARK_AT..MARK_AT + 28).chain(FRAMES_AT..FRAMES_AT + 60) {
            one(name, 0, at);
        }
        for sector in 0..SEGMENT as usize / 512 {
            one(name, 1, sector * 512);
            one(name, 2, sector * 512);
        }
        one(name, 4, 0);
    }
    for seed in 0..seeds(60) * 10 {
        let mut rng = StdRng::seed_from_u64(seed);
        let names: Vec<&String> = sample.files.keys().collect();
        let name = names[rng.random_range(0..names.len())];
        let (kind, at) = (rng.random_range(0..4), rng.random_range(0..SEGMENT as usize));
        one(name, kind, at);
    }
    tally
}

#[test]
fn damage_behind_a_seal_of_a_second_without_work_is_found() {
    let tally = damage(End::Idle);
    assert!(tally.cut == 0 && tally.refused > 300 && tally.exact > 300, "{tally:?}");
}

#[test]
fn damage_to_a_closed_journal_is_found() {
    let tally = damage(End::Closed);
    assert!(tally.cut == 0 && tally.refused > 300 && tally.exact > 300, "{tally:?}");
}

#[test]
fn damage_after_a_kill_is_found_or_cut_off_behind_the_seal() {
    let tally = damage(End::Killed);
    assert!(tally.cut > 0 && tally.refused > 300 && tally.exact > 300, "{tally:?}");
}

/// Files that are missing, or in each other's place, or of something else.
#[test]
fn files_that_do_not_belong_together_are_refused() {
    for end in [End::Idle, End::Closed, End::Killed] {
        let (sample, other) = (sample(end, 7), sample(end, 8));
        let segments = sample.files.keys().filter(|name| name.ends_with(".segment"));
        let segments: Vec<&String> = segments.collect();
        let mut tally = Tally::default();
        for one in &segments {
            let mut without = sample.files.clone();
            without.remove(*one);
            tally.judge(&sample, &without, &format!("without {one}"));
            let mut with_other = sample.files.clone();
            with_other.insert((*one).clone(), other.files[*one].clone());
            let refused = start(&with_other, sample.from);
            assert!(matches!(refused, Err(JournalError::Foreign { .. })), "{refused:?}");
            for two in segments.iter().filter(|two| two > &one) {
                let mut swapped = sample.files.clone();
                swapped.insert((*one).clone(), sample.files[*two].clone());
                swapped.insert((*two).clone(), sample.files[*one].clone());
                let refused = start(&swapped, sample.from);
                assert!(matches!(refused, Err(JournalError::Foreign { .. })), "{refused:?}");
            }
        }
        // Only the one that was made ready and never written to may be gone.
        assert!(tally.exact <= 1 && tally.refused as usize + 1 >= segments.len(), "{tally:?}");
        let none = start(&Files::new(), sample.from);
        assert!(matches!(none, Err(JournalError::Missing { .. })), "{none:?}");
        let no_tables =
            Journal::open(SimDisk::of(&sample.files).shared(), config(), None, |_, _| Ok(()));
        assert!(no_tables.is_err());
    }
}

/// Somebody has decided to go on without what is damaged: then it starts, says so, and starts again.
#[test]
fn damage_is_cut_off_where_somebody_wants_it() {
    let sample = sample(End::Closed, 7);
    let segments = sample.files.keys().filter(|name| name.ends_with(".segment"));
    for name in segments {
        for at in [0, MARK_AT, FRAMES_AT + 1, FRAMES_AT + 700, usize::MAX] {
            let mut files = sample.files.clone();
            match files.get_mut(name).and_then(|bytes| bytes.get_mut(at)) {
                Some(byte) => *byte ^= 1,
                None => drop(files.remove(name)),
            }
            let is_damaged = start(&files, sample.from).is_err();
            let disk = SimDisk::of(&files);
            let cutting = JournalConfig { on_damage: OnDamage::Cut, ..config() };
            let mut frames = Vec::new();
            let opened =
                Journal::open(disk.shared(), cutting, Some(sample.from), |number, bytes| {
                    frames.push((number, bytes.to_vec()));
                    Ok(())
                });
            let (mut journal, cut) = opened.unwrap_or_else(|error| panic!("{name} {at}: {error}"));
            assert_eq!(cut.is_some(), is_damaged, "{name} {at}");
            assert!(sample.frames.starts_with(&frames), "{name} {at}");
            frames.push((journal.put(b"more").unwrap(), b"more".to_vec()));
            drop(journal);
            let again = start(&disk.files(), sample.from);
            let (again, cut) = again.unwrap_or_else(|error| panic!("{name} {at}: {error}"));
            assert!(again == frames && cut.is_none(), "{name} {at}: {cut:?}");
        }
    }
}

#[test]
fn a_head_says_whose_it_is() {
    let sample = sample(End::Closed, 7);
    let (name, bytes) = sample.files.iter().next().unwrap();
    let head = SegmentHead::decode(bytes).unwrap();
    for changed in [
        SegmentHead { kind: JournalKind::Outbox, ..head },
        SegmentHead { owner: JournalOwner::Simulation, ..head },
        SegmentHead { segment: head.segment + 1, ..head },
    ] {
        let mut files = sample.files.clone();
        let bytes = files.get_mut(name).unwrap();
        bytes[..84].copy_from_slice(&changed.encode());
        let refused = start(&files, sample.from);
        assert!(matches!(refused, Err(JournalError::Foreign { .. })), "{refused:?}");
    }
}
