//! A journal of some frames, then changes to its bytes: a start gives exactly the frames, or refuses, or says what it
//! cuts off; never others, and never fewer in silence.
#![no_main]

mod memory;

use libfuzzer_sys::fuzz_target;
use memory::{Memory, config};
use playcounts::journal::{Journal, JournalConfig, OnDamage, Position, Sync};

/// The most that is done with one journal.
const STEPS: usize = 200;

fuzz_target!(|data: &[u8]| {
    let mut data = data.iter().copied();
    let Some(steps) = data.next() else { return };
    let disk = Memory::of(&Default::default());
    let (mut journal, _) = Journal::open(disk.clone(), config(), None, |_, _| Ok(())).unwrap();
    let from = journal.position(1);
    let mut frames: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut sealed = 1;
    for step in data.by_ref().take(usize::from(steps).min(STEPS)) {
        match step {
            0 | 1 => {
                journal.commit().unwrap();
                let sync = if step == 0 { Sync::All } else { Sync::Closed };
                let done = journal.upkeep(sync).map(|upkeep| upkeep.run().unwrap());
                if let Some(done) = done {
                    journal.upkept(done).unwrap();
                }
                if step == 0 {
                    sealed = journal.next();
                }
            }
            2 => {
                journal.commit().unwrap();
                drop(journal);
                journal = open(&disk, config(), from).expect("it is whole").0;
                sealed = journal.next();
            }
            _ => {
                let payload = vec![step; 1 + usize::from(step) * 3];
                let number = journal.append(&payload).unwrap();
                frames.push((number, payload));
                if step % 3 > 0 {
                    journal.commit().unwrap();
                }
            }
        }
    }
    journal.commit().unwrap();
    drop(journal);
    let mut files = disk.files();
    while let (Some(file), Some(high), Some(low), Some(flip)) =
        (data.next(), data.next(), data.next(), data.next())
    {
        let file = usize::from(file) % files.len();
        let bytes = files.values_mut().nth(file).unwrap();
        let at = usize::from(u16::from_be_bytes([high, low])) % bytes.len();
        bytes[at] ^= flip;
    }
    let disk = Memory::of(&files);
    match open(&disk, config(), from) {
        Ok((_, found, is_cut)) => {
            assert!(frames.starts_with(&found), "other frames");
            assert!(is_cut || frames.len() == found.len(), "fewer frames, and nothing said");
            assert!(found.len() as u64 + 1 >= sealed, "sealed frames were cut off");
        }
        Err(()) => {
            let cutting = JournalConfig { on_damage: OnDamage::Cut, ..config() };
            let Ok((journal, found, is_cut)) = open(&disk, cutting, from) else { return };
            assert!(frames.starts_with(&found) && is_cut);
            drop(journal);
            let (_, again, is_cut) = open(&disk, config(), from).expect("it was cut");
            assert!(found == again && !is_cut);
        }
    }
});

/// The journal, its frames, and whether something was cut off.
type Opened = (Journal, Vec<(u64, Vec<u8>)>, bool);

fn open(
    disk: &std::sync::Arc<Memory>,
    config: JournalConfig,
    from: Position,
) -> Result<Opened, ()> {
    let mut frames = Vec::new();
    let opened = Journal::open(disk.clone(), config, Some(from), |number, payload| {
        frames.push((number, payload.to_vec()));
        Ok(())
    });
    let (journal, cut) = opened.map_err(drop)?;
    Ok((journal, frames, cut.is_some()))
}
