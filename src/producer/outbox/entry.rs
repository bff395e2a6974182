//! What one frame of the outbox's journal says, as bytes (pure).
//!
//! ```text
//! kept        1 | first | acknowledged | enqueued at, 8 bytes | number of plays | each play's video
//! forgotten   2 | below
//! renamed     3 | first | producer, 16 bytes
//! ```
//! The first byte says what it is, and in which format. Numbers are LEB128 varints of at most 10 bytes, the time is
//! little-endian; the journal has the checksum. A batch costs some 14 bytes, and each play 1 to 5: with at most 128 videos
//! it is 1, with at most 16,384 it is 2.

use uuid::Uuid;

use super::batch::PlayBatch;
use crate::model::varint;

/// The first byte of a batch that is kept.
const KEPT: u8 = 1;

/// The first byte of what is forgotten.
const FORGOTTEN: u8 = 2;

/// The first byte of another id.
const RENAMED: u8 = 3;

/// What one frame says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum OutboxEntry {
    /// A batch is kept: it is about to be published.
    Kept {
        /// What is kept.
        batch: PlayBatch,
        /// nsqd has acknowledged every play with a number below.
        acknowledged: u64,
    },
    /// Every play with a number below is counted for good.
    Forgotten {
        /// Where a batch ends.
        below: u64,
    },
    /// The producer goes on under another id; all before is counted for good.
    Renamed {
        /// The number of the first play of that id.
        first: u64,
        /// The id.
        producer: Uuid,
    },
}

/// Writes that a batch is kept.
pub(super) fn encode_kept(batch: &PlayBatch, acknowledged: u64, out: &mut Vec<u8>) {
    out.push(KEPT);
    varint::put(out, batch.first);
    varint::put(out, acknowledged);
    out.extend_from_slice(&batch.enqueued_at_ns.to_le_bytes());
    varint::put(out, batch.videos.len() as u64);
    batch.videos.iter().for_each(|video| varint::put(out, u64::from(*video)));
}

/// Writes that all below a number is forgotten.
pub(super) fn encode_forgotten(below: u64, out: &mut Vec<u8>) {
    out.push(FORGOTTEN);
    varint::put(out, below);
}

/// Writes that plays from a number on are of another producer.
pub(super) fn encode_renamed(first: u64, producer: Uuid, out: &mut Vec<u8>) {
    out.push(RENAMED);
    varint::put(out, first);
    out.extend_from_slice(producer.as_bytes());
}

/// Reads one frame; `None`: it is of no kind and format that is known, or not whole.
pub(super) fn decode(bytes: &[u8]) -> Option<OutboxEntry> {
    let mut input = EntryInput(bytes);
    let entry = match input.take::<1>()? {
        [KEPT] => {
            let (first, acknowledged) = (input.number()?, input.number()?);
            let enqueued_at_ns = u64::from_le_bytes(input.take()?);
            let plays = usize::try_from(input.number()?).ok()?;
            // A play has one byte at least: nothing is set aside for more than have come.
            if plays == 0 || plays > input.0.len() || first.checked_add(plays as u64).is_none() {
                return None;
            }
            let mut videos = Vec::with_capacity(plays);
            for _ in 0..plays {
                videos.push(u32::try_from(input.number()?).ok()?);
            }
            let batch = PlayBatch::new(first, enqueued_at_ns, videos.into());
            OutboxEntry::Kept { batch, acknowledged }
        }
        [FORGOTTEN] => OutboxEntry::Forgotten { below: input.number()? },
        [RENAMED] => {
            let (first, producer) = (input.number()?, Uuid::from_bytes(input.take()?));
            OutboxEntry::Renamed { first, producer }
        }
        _ => return None,
    };
    input.0.is_empty().then_some(entry)
}

/// What is left to read.
struct EntryInput<'a>(&'a [u8]);

impl EntryInput<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn number(&mut self) -> Option<u64> {
        varint::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(entry: &OutboxEntry) -> Vec<u8> {
        let mut bytes = Vec::new();
        match entry {
            OutboxEntry::Kept { batch, acknowledged } => {
                encode_kept(batch, *acknowledged, &mut bytes);
            }
            OutboxEntry::Forgotten { below } => encode_forgotten(*below, &mut bytes),
            OutboxEntry::Renamed { first, producer } => {
                encode_renamed(*first, *producer, &mut bytes)
            }
        }
        bytes
    }

    fn any_entry() -> impl Strategy<Value = OutboxEntry> {
        let videos = proptest::collection::vec(prop_oneof![0u32..300, any::<u32>()], 1..600);
        let kept = (0u64..u64::MAX - 600, any::<u64>(), any::<u64>(), videos);
        prop_oneof![
            kept.prop_map(|(first, acknowledged, enqueued_at_ns, videos)| OutboxEntry::Kept {
                batch: PlayBatch::new(first, enqueued_at_ns, videos.into()),
                acknowledged,
            }),
            any::<u64>().prop_map(|below| OutboxEntry::Forgotten { below }),
            (any::<u64>(), any::<u128>()).prop_map(|(first, id)| OutboxEntry::Renamed {
                first,
                producer: Uuid::from_u128(id),
            }),
        ]
    }

    #[test]
    fn a_play_of_few_videos_costs_one_byte() {
        let batch = PlayBatch::new(1_000_000, 1_800_000_000_000_000_000, vec![99; 500].into());
        let entry = OutboxEntry::Kept { batch, acknowledged: 998_000 };
        assert_eq!(encoded(&entry).len(), 500 + 17);
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for bytes in [
            &[][..],
            &[0],
            &[4, 1],
            &[3, 1],
            &[2],
            &[2, 0x80],
            &[2, 1, 0],
            &[2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 7],
            &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x1f],
            &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn an_entry_comes_back(entry in any_entry()) {
            prop_assert_eq!(decode(&encoded(&entry)), Some(entry));
        }

        #[test]
        fn a_part_of_an_entry_is_none(entry in any_entry(), part in 0.0..1.0f64) {
            let bytes = encoded(&entry);
            let part = (bytes.len() as f64 * part) as usize;
            prop_assert_eq!(decode(&bytes[..part]), None);
        }

        #[test]
        fn whatever_comes_is_an_entry_or_none(
            bytes in proptest::collection::vec(any::<u8>(), 0..60), kind in 0u8..5
        ) {
            let bytes = [&[kind][..], &bytes].concat();
            if let Some(OutboxEntry::Kept { batch, .. }) = decode(&bytes) {
                prop_assert!(batch.videos.len() < bytes.len());
            }
        }
    }
}
