//! Any bytes as a segment, or behind the head of one: read or refused, and a start that went well once goes well again.
#![no_main]

mod memory;

use libfuzzer_sys::fuzz_target;
use memory::{Memory, SEGMENT, config};
use playcounts::journal::{Journal, Position, examine, read};

/// Where the frames begin.
const FRAMES_AT: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else { return };
    let disk = Memory::of(&Default::default());
    let (journal, _) = Journal::open(disk.clone(), config(), None, |_, _| Ok(())).unwrap();
    drop(journal);
    let mut files = disk.files();
    let bytes = files.get_mut("0000000001.segment").unwrap();
    if first & 1 == 0 {
        *bytes = data.to_vec();
    } else {
        let data = &data[..data.len().min(SEGMENT - FRAMES_AT)];
        bytes[FRAMES_AT..FRAMES_AT + data.len()].copy_from_slice(data);
    }
    let disk = Memory::of(&files);
    let from = Position { segment: 1, number: 1 };
    let _ = read(&*disk, from, |_, _| Ok(()));
    let Ok((next, _)) = examine(&*disk, &config(), Some(from), |_, _| Ok(())) else { return };
    let opened = Journal::open(disk.clone(), config(), Some(from), |_, _| Ok(()));
    let (mut journal, _) = opened.expect("as it was examined");
    assert_eq!(journal.next(), next);
    journal.put(b"more").unwrap();
    drop(journal);
    let (journal, cut) = Journal::open(disk, config(), Some(from), |_, _| Ok(())).unwrap();
    assert_eq!((journal.next(), cut), (next + 1, None));
});
