//! The journal on a real directory: what is appended comes back, over segments, starts, and cuts.

use std::path::Path;

use uuid::Uuid;

use super::*;

mod crashes;
mod damage;
mod faults;
mod format;
mod model;
pub(crate) mod sim;
mod world;

/// Small segments, so that a test fills several.
const SEGMENT: u64 = 8192;

fn config() -> JournalConfig {
    JournalConfig {
        kind: JournalKind::Ledger,
        owner: JournalOwner::Part,
        life: Uuid::from_u128(7),
        boot: Uuid::from_u128(1),
        sync: SyncPolicy::Process,
        segment_bytes: SEGMENT,
        on_damage: OnDamage::Refuse,
    }
}

/// A journal that was opened: itself, its frames, and what was cut off.
type Opened = (Journal, Vec<(u64, Vec<u8>)>, Option<Cut>);

/// Opens the journal and returns its frames, too.
fn open(
    directory: &Path,
    config: JournalConfig,
    from: Option<Position>,
) -> Result<Opened, JournalError> {
    let mut frames = Vec::new();
    let disk = FsDisk::open(directory).unwrap();
    let (journal, cut) = Journal::open(disk, config, from, |number, payload| {
        frames.push((number, payload.to_vec()));
        Ok(())
    })?;
    Ok((journal, frames, cut))
}

fn payload(number: u64) -> Vec<u8> {
    vec![number as u8 | 1; 1 + (number as usize * 37) % 300]
}

const START: Option<Position> = Some(Position { segment: 1, number: 1 });

#[test]
fn what_was_committed_comes_back_over_segments_and_starts() {
    let dir = tempfile::tempdir().unwrap();
    let mut from = None;
    let mut last = 0;
    for start in 0..5 {
        let (mut journal, frames, cut) = open(dir.path(), config(), from).unwrap();
        from = START;
        assert_eq!(cut, None, "{start}");
        assert!(frames.iter().map(|(number, _)| *number).eq(1..=last), "{start}");
        assert!(frames.iter().all(|(number, bytes)| *bytes == payload(*number)));
        for _ in 0..60 {
            last = journal.put(&payload(journal.next())).unwrap();
            if start == 2
                && let Some(upkeep) = journal.upkeep(Sync::All)
            {
                let done = upkeep.run().unwrap();
                journal.upkept(done).unwrap();
            }
        }
        if start == 3 {
            journal.close().unwrap();
        }
    }
}

#[test]
fn what_is_released_is_gone_and_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path(), config(), None).unwrap();
    for _ in 0..2000 {
        let last = journal.put(&payload(journal.next())).unwrap();
        journal.release(journal.position(last));
        if let Some(upkeep) = journal.upkeep(Sync::Closed) {
            let done = upkeep.run().unwrap();
            journal.upkept(done).unwrap();
        }
    }
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert!(files <= 5, "{files}");
    let from = journal.position(1990);
    drop(journal);
    let (journal, frames, cut) = open(dir.path(), config(), Some(from)).unwrap();
    assert!(frames.iter().map(|(number, _)| *number).eq(1990..=2000));
    assert_eq!((journal.next(), cut), (2001, None));
}
