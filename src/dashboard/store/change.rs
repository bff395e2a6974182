//! What the journal keeps: each change of the counts, as the payload of one frame (pure).
//!
//! ```text
//! kind (1 byte)  at  processor (16 bytes)  …
//!   1 counts:    how many, and of each: length of the id, id, plays, last_played_at
//!   2 confirmed: how many, and of each: producer (16 bytes), watermark, how many runs, and of each run: gap, length
//! 3 cleared (1 byte)  at  the database's id from now on (16 bytes)
//! 4 nothing (1 byte): to see whether the journal can be written
//! ```
//!
//! Numbers are LEB128 varints. `at` is ms since the Unix epoch; `last_played_at` is 0 without one, or the distance from
//! `at`, zigzag, plus one. A run's gap is from the end of the one before, or from the watermark.

use uuid::Uuid;

use crate::model::unix_time::UnixMs;
use crate::model::varint::{self, put, unzigzag, zigzag};
use crate::model::video::VideoCount;
use crate::wire::{CONFIRMED_PRODUCERS_MAX, CONFIRMED_RUNS_MAX, Confirmed, ProducerConfirmed};

const COUNTS: u8 = 1;
const CONFIRMED: u8 = 2;
const CLEARED: u8 = 3;
const NOTHING: u8 = 4;

/// One change.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// A processor's whole counts of some videos.
    Counts {
        /// When they came.
        at: UnixMs,
        /// Who counted.
        processor: Uuid,
        /// Of each video the count.
        counts: Vec<VideoCount>,
    },
    /// Which plays of producers are counted for good.
    Confirmed {
        /// When it came.
        at: UnixMs,
        /// Of each producer.
        producers: Vec<ProducerConfirmed>,
    },
    /// Everything before is forgotten.
    Cleared {
        /// Which database it is from here on.
        id: Uuid,
    },
    /// None: somebody has tried whether the journal can be written.
    Nothing,
}

/// A processor's counts, which came at `at`.
pub(super) fn encode_counts(at: UnixMs, processor: Uuid, counts: &[VideoCount]) -> Vec<u8> {
    // An id and its length, plays of three bytes, a time of three: most are smaller.
    let mut out = Vec::with_capacity(32 + counts.len() * 24);
    head(&mut out, COUNTS, at, processor);
    put(&mut out, counts.len() as u64);
    for VideoCount { video_id, plays, last_played_at } in counts {
        let id = video_id.as_bytes();
        put(&mut out, id.len() as u64);
        out.extend_from_slice(id);
        put(&mut out, *plays);
        let played = last_played_at.filter(|time| time.0 > 0);
        put(&mut out, played.map_or(0, |time| zigzag(time.0.wrapping_sub(at.0)).wrapping_add(1)));
    }
    out
}

/// What a processor has counted of producers' plays, told at `at`.
pub(super) fn encode_confirmed(
    at: UnixMs,
    processor: Uuid,
    producers: &[ProducerConfirmed],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + producers.len() * 32);
    head(&mut out, CONFIRMED, at, processor);
    put(&mut out, producers.len() as u64);
    for ProducerConfirmed { producer, confirmed } in producers {
        out.extend_from_slice(producer.as_bytes());
        put(&mut out, confirmed.watermark);
        put(&mut out, confirmed.above.len() as u64);
        let mut end = confirmed.watermark;
        for run in &confirmed.above {
            put(&mut out, run[0].wrapping_sub(end));
            put(&mut out, run[1].wrapping_sub(run[0]));
            end = run[1];
        }
    }
    out
}

/// Everything is forgotten, and the database is another one.
pub(super) fn encode_cleared(at: UnixMs, id: Uuid) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    head(&mut out, CLEARED, at, id);
    out
}

/// No change: what tries whether the journal can be written.
pub(super) fn encode_nothing() -> Vec<u8> {
    vec![NOTHING]
}

/// Reads a payload.
///
/// # Errors
/// What is wrong with it.
pub(super) fn decode(payload: &[u8]) -> Result<Change, String> {
    let mut rest = Rest(payload);
    let wrong = || "its frame is no change of counts".to_owned();
    let change = match rest.take(1).ok_or_else(wrong)?[0] {
        COUNTS => rest.counts(),
        CONFIRMED => rest.confirmed(),
        CLEARED => rest.cleared(),
        NOTHING => Some(Change::Nothing),
        kind => return Err(format!("a change of kind {kind}, of a newer playcounts")),
    };
    change.filter(|_| rest.0.is_empty()).ok_or_else(wrong)
}

fn head(out: &mut Vec<u8>, kind: u8, at: UnixMs, id: Uuid) {
    out.push(kind);
    put(out, zigzag(at.0));
    out.extend_from_slice(id.as_bytes());
}

/// What is left of a payload. Whatever it holds, reading it takes no more memory than it is long.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        varint::take(&mut self.0)
    }

    fn id(&mut self) -> Option<Uuid> {
        Uuid::from_slice(self.take(16)?).ok()
    }

    fn time(&mut self) -> Option<UnixMs> {
        self.number().map(|time| UnixMs(unzigzag(time)))
    }

    fn counts(&mut self) -> Option<Change> {
        let (at, processor) = (self.time()?, self.id()?);
        let many = self.number()?;
        let mut counts = Vec::new();
        for _ in 0..many {
            // An id of another length is a text, which a later version knows.
            let len = usize::try_from(self.number()?).ok()?;
            let video_id = Uuid::from_slice(self.take(len)?).ok()?;
            let plays = self.number()?;
            let last_played_at = match self.number()? {
                0 => None,
                distance => Some(UnixMs(at.0.wrapping_add(unzigzag(distance - 1)))),
            };
            counts.push(VideoCount { video_id, plays, last_played_at });
        }
        Some(Change::Counts { at, processor, counts })
    }

    fn confirmed(&mut self) -> Option<Change> {
        let (at, _processor) = (self.time()?, self.id()?);
        let many = self.number().filter(|many| *many <= CONFIRMED_PRODUCERS_MAX as u64)?;
        let mut producers = Vec::new();
        for _ in 0..many {
            let (producer, watermark) = (self.id()?, self.number()?);
            let runs = self.number().filter(|runs| *runs <= CONFIRMED_RUNS_MAX as u64)?;
            let (mut above, mut end) = (Vec::with_capacity(runs as usize), watermark);
            for _ in 0..runs {
                let start = end.wrapping_add(self.number()?);
                end = start.wrapping_add(self.number()?);
                above.push([start, end]);
            }
            let confirmed = Confirmed { watermark, above };
            producers.push(ProducerConfirmed { producer, confirmed });
        }
        Some(Change::Confirmed { at, producers })
    }

    fn cleared(&mut self) -> Option<Change> {
        self.time()?;
        Some(Change::Cleared { id: self.id()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_told_comes_back(
            at in 0i64..1 << 53, processor: u128,
            counts in prop::collection::vec((any::<u128>(), any::<u64>(), prop::option::of(1i64..1 << 53)), 0..30),
            producers in prop::collection::vec((any::<u128>(), any::<u64>(), prop::collection::vec(any::<[u64; 2]>(), 0..64)), 0..5),
        ) {
            let (at, processor) = (UnixMs(at), Uuid::from_u128(processor));
            let counts: Vec<_> = counts.into_iter().map(|(id, plays, played)| VideoCount {
                video_id: Uuid::from_u128(id), plays, last_played_at: played.map(UnixMs),
            }).collect();
            let bytes = encode_counts(at, processor, &counts);
            prop_assert_eq!(decode(&bytes).unwrap(), Change::Counts { at, processor, counts });
            let producers: Vec<_> = producers.into_iter().map(|(id, watermark, above)| ProducerConfirmed {
                producer: Uuid::from_u128(id), confirmed: Confirmed { watermark, above },
            }).collect();
            let bytes = encode_confirmed(at, processor, &producers);
            prop_assert_eq!(decode(&bytes).unwrap(), Change::Confirmed { at, producers });
            prop_assert_eq!(decode(&encode_cleared(at, processor)).unwrap(), Change::Cleared { id: processor });
        }

        #[test]
        fn no_bytes_are_taken_for_more_than_they_are(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..5) {
            let bytes = [&[kind][..], &bytes].concat();
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_cut_or_longer_payload_is_refused() {
        let count = VideoCount {
            video_id: Uuid::from_u128(7),
            plays: 300,
            last_played_at: Some(UnixMs(5)),
        };
        let whole = encode_counts(UnixMs(9), Uuid::from_u128(1), &[count]);
        for len in 0..whole.len() {
            assert!(decode(&whole[..len]).is_err(), "{len}");
        }
        assert!(decode(&[&whole[..], &[0]].concat()).is_err());
        assert_eq!(decode(&encode_nothing()), Ok(Change::Nothing));
        assert!(decode(&[9]).unwrap_err().contains("of a newer playcounts"));
    }

    #[test]
    fn a_usual_update_is_small() {
        let at = UnixMs(1_790_000_000_000);
        let counts = (0..20).map(|n| VideoCount {
            video_id: Uuid::from_u128(n << 90 | 77),
            plays: 12_345,
            last_played_at: Some(UnixMs(at.0 - 900)),
        });
        let bytes = encode_counts(at, Uuid::from_u128(1), &counts.collect::<Vec<_>>());
        assert_eq!(bytes.len(), 1 + 6 + 16 + 1 + 20 * (17 + 2 + 2));
    }
}
