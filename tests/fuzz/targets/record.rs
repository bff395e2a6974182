//! Any bytes with a right checksum: refused, or a record whose bytes read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use playcounts::ledger::{Dedupe, Record};

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    bytes.extend(crc32fast::hash(data).to_le_bytes());
    let Ok(record) = Record::decode(&bytes) else { return };
    let mut again = Vec::new();
    record.encode(&mut again);
    assert_eq!(Record::decode(&again).as_ref(), Ok(&record));
    let mut dedupe = Dedupe::new();
    for (id, runs) in record.learned.producers {
        // A single long run is cheap; each gap costs what its bytes have cost.
        dedupe.learn(id, runs);
    }
});
