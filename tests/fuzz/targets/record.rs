//! Any bytes with a right checksum, of each version: refused, or a record whose bytes read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use playcounts::ledger::{Dedupe, Record};

/// Of those that are written, and of the one that is read only.
const VERSIONS: [u8; 3] = [3, 2, 1];

fuzz_target!(|data: &[u8]| VERSIONS.into_iter().for_each(|version| check(version, data)));

fn check(version: u8, data: &[u8]) {
    let mut bytes = data.to_vec();
    let Some(first) = bytes.first_mut() else { return };
    *first = version;
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    let Ok(record) = Record::decode(&bytes) else { return };
    let mut again = Vec::new();
    record.encode(&mut again);
    assert_eq!(Record::decode(&again).as_ref(), Ok(&record));
    let mut dedupe = Dedupe::new();
    for (id, runs) in record.learned.producers {
        // A single long run is cheap; each gap costs what its bytes have cost.
        dedupe.learn(id, runs);
    }
    record.learned.messages.into_iter().for_each(|message| dedupe.learn_message(message));
}
