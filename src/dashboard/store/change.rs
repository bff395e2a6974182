//! What the journal keeps: each change of the counts, as the payload of one frame (pure).
//!
//! ```text
//! kind (1 byte)  at  processor (16 bytes)  …
//!   1 counts:    how many, and of each: length of the id, id, plays, last_played_at
//!   2 confirmed: how many, and of each: producer (16 bytes), watermark, how many runs, and of each run: gap, length
//! 3 cleared (1 byte)  at  the database's id from now on (16 bytes)
//! 4 nothing (1 byte): to see whether the journal can be written
//!   5 counts, 6 confirmed: as 1 and 2, with how many plays the processor's ledger holds, behind the processor
//!   7 claimed:   life (16 bytes), the id that its counts are kept under (16 bytes), 0; or 1 where a loss was
//!                accepted, the id of the counts that are forgotten, and the database's from now on (16 bytes each)
//!   8 to 13:     changes of the catalog, see `catalog_change`
//! ```
//!
//! Numbers are LEB128 varints. `at` is ms since the Unix epoch; `last_played_at` is 0 without one, or the distance from
//! `at`, zigzag, plus one. A run's gap is from the end of the one before, or from the watermark.

use uuid::Uuid;

use super::catalog_change::{self, CatalogChange};
use super::ledgers::{ClaimedLedger, ForgottenCounts};
use super::payload::Rest;
use crate::model::unix_time::UnixMs;
use crate::model::varint::{put, unzigzag, zigzag};
use crate::model::video::VideoCount;
use crate::model::video_id::VideoId;
use crate::wire::{CONFIRMED_PRODUCERS_MAX, CONFIRMED_RUNS_MAX, Confirmed, ProducerConfirmed};

const COUNTS: u8 = 1;
const CONFIRMED: u8 = 2;
const CLEARED: u8 = 3;
const NOTHING: u8 = 4;
const HELD_COUNTS: u8 = 5;
const HELD_CONFIRMED: u8 = 6;
const CLAIMED: u8 = 7;

/// One change.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// A processor's whole counts of some videos.
    Counts {
        /// When they came.
        at: UnixMs,
        /// Who counted.
        processor: Uuid,
        /// Plays in its ledger, where it says so.
        held: Option<u64>,
        /// Of each video the count.
        counts: Vec<VideoCount>,
    },
    /// Which plays of producers are counted for good.
    Confirmed {
        /// When it came.
        at: UnixMs,
        /// Who counted.
        processor: Uuid,
        /// Plays in its ledger, where it says so.
        held: Option<u64>,
        /// Of each producer.
        producers: Vec<ProducerConfirmed>,
    },
    /// A processor has said which ledger it counts in.
    Claimed {
        /// When it came.
        at: UnixMs,
        /// Which, and what follows from it.
        claimed: ClaimedLedger,
    },
    /// Everything before is forgotten.
    Cleared {
        /// Which database it is from here on.
        id: Uuid,
    },
    /// Titles, what is shown, or an import.
    Catalog {
        /// When it came.
        at: UnixMs,
        /// What it is.
        change: CatalogChange,
    },
    /// None: somebody has tried whether the journal can be written.
    Nothing,
}

/// A processor's counts, which came at `at`.
pub(super) fn encode_counts(
    at: UnixMs,
    processor: Uuid,
    held: Option<u64>,
    counts: &[VideoCount],
) -> Vec<u8> {
    // An id and its length, plays of three bytes, a time of three: most are smaller.
    let mut out = Vec::with_capacity(40 + counts.len() * 24);
    head_with(&mut out, [COUNTS, HELD_COUNTS], at, processor, held);
    put(&mut out, counts.len() as u64);
    for VideoCount { video_id, plays, last_played_at } in counts {
        let id = video_id.to_bytes();
        put(&mut out, id.len() as u64);
        out.extend_from_slice(&id);
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
    held: Option<u64>,
    producers: &[ProducerConfirmed],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(40 + producers.len() * 32);
    head_with(&mut out, [CONFIRMED, HELD_CONFIRMED], at, processor, held);
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

/// A processor has said at `at` which ledger it counts in.
pub(super) fn encode_claimed(at: UnixMs, claimed: &ClaimedLedger) -> Vec<u8> {
    let ClaimedLedger { processor, life, key, forget } = claimed;
    let mut out = Vec::with_capacity(96);
    head(&mut out, CLAIMED, at, *processor);
    out.extend_from_slice(life.as_bytes());
    out.extend_from_slice(key.as_bytes());
    out.push(u8::from(forget.is_some()));
    let forget = forget.map(|ForgottenCounts { key, id }| [key, id]);
    out.extend(forget.iter().flatten().flat_map(|id| id.as_bytes()));
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
    if payload.first().is_some_and(|kind| catalog_change::KINDS.contains(kind)) {
        let (at, change) = catalog_change::decode(payload).ok_or_else(wrong)?;
        return Ok(Change::Catalog { at, change });
    }
    let change = match rest.take(1).ok_or_else(wrong)?[0] {
        COUNTS => rest.counts(Held::Unsaid),
        CONFIRMED => rest.confirmed(Held::Unsaid),
        HELD_COUNTS => rest.counts(Held::Said),
        HELD_CONFIRMED => rest.confirmed(Held::Said),
        CLAIMED => rest.claimed(),
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

/// The head of either kind: without what the ledger holds, or with it.
fn head_with(out: &mut Vec<u8>, kinds: [u8; 2], at: UnixMs, processor: Uuid, held: Option<u64>) {
    head(out, kinds[usize::from(held.is_some())], at, processor);
    held.into_iter().for_each(|held| put(out, held));
}

/// Whether a payload says what the ledger holds.
#[derive(Clone, Copy)]
enum Held {
    Unsaid,
    Said,
}

impl Rest<'_> {
    fn time(&mut self) -> Option<UnixMs> {
        self.number().map(|time| UnixMs(unzigzag(time)))
    }

    fn held(&mut self, held: Held) -> Option<Option<u64>> {
        match held {
            Held::Unsaid => Some(None),
            Held::Said => self.number().map(Some),
        }
    }

    fn counts(&mut self, held: Held) -> Option<Change> {
        let (at, processor, held) = (self.time()?, self.id()?, self.held(held)?);
        let many = self.number()?;
        let mut counts = Vec::new();
        for _ in 0..many {
            let len = usize::try_from(self.number()?).ok()?;
            let video_id = VideoId::from_bytes(self.take(len)?)?;
            let plays = self.number()?;
            let last_played_at = match self.number()? {
                0 => None,
                distance => Some(UnixMs(at.0.wrapping_add(unzigzag(distance - 1)))),
            };
            counts.push(VideoCount { video_id, plays, last_played_at });
        }
        Some(Change::Counts { at, processor, held, counts })
    }

    fn confirmed(&mut self, held: Held) -> Option<Change> {
        let (at, processor, held) = (self.time()?, self.id()?, self.held(held)?);
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
        Some(Change::Confirmed { at, processor, held, producers })
    }

    fn claimed(&mut self) -> Option<Change> {
        let (at, processor, life, key) = (self.time()?, self.id()?, self.id()?, self.id()?);
        let forget = match self.take(1)?[0] {
            0 => None,
            1 => Some(ForgottenCounts { key: self.id()?, id: self.id()? }),
            _ => return None,
        };
        Some(Change::Claimed { at, claimed: ClaimedLedger { processor, life, key, forget } })
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
            at in 0i64..1 << 53, processor: u128, held: Option<u64>,
            counts in prop::collection::vec((any::<u128>(), any::<u64>(), prop::option::of(1i64..1 << 53)), 0..30),
            producers in prop::collection::vec((any::<u128>(), any::<u64>(), prop::collection::vec(any::<[u64; 2]>(), 0..64)), 0..5),
        ) {
            let (at, processor) = (UnixMs(at), Uuid::from_u128(processor));
            let counts: Vec<_> = counts.into_iter().map(|(id, plays, played)| VideoCount {
                video_id: VideoId::from_u128(id), plays, last_played_at: played.map(UnixMs),
            }).collect();
            let bytes = encode_counts(at, processor, held, &counts);
            prop_assert_eq!(decode(&bytes).unwrap(), Change::Counts { at, processor, held, counts });
            let producers: Vec<_> = producers.into_iter().map(|(id, watermark, above)| ProducerConfirmed {
                producer: Uuid::from_u128(id), confirmed: Confirmed { watermark, above },
            }).collect();
            let bytes = encode_confirmed(at, processor, held, &producers);
            prop_assert_eq!(decode(&bytes).unwrap(), Change::Confirmed { at, processor, held, producers });
            let forget = held.map(|held| ForgottenCounts { key: processor, id: Uuid::from_u128(held.into()) });
            let claimed = ClaimedLedger { processor, life: Uuid::from_u128(2), key: Uuid::from_u128(3), forget };
            let bytes = encode_claimed(at, &claimed);
            prop_assert_eq!(decode(&bytes).unwrap(), Change::Claimed { at, claimed });
            prop_assert_eq!(decode(&encode_cleared(at, processor)).unwrap(), Change::Cleared { id: processor });
        }

        #[test]
        fn no_bytes_are_taken_for_more_than_they_are(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..16) {
            let bytes = [&[kind][..], &bytes].concat();
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_cut_or_longer_payload_is_refused() {
        let count = VideoCount {
            video_id: VideoId::from_u128(7),
            plays: 300,
            last_played_at: Some(UnixMs(5)),
        };
        let whole = encode_counts(UnixMs(9), Uuid::from_u128(1), None, &[count]);
        for len in 0..whole.len() {
            assert!(decode(&whole[..len]).is_err(), "{len}");
        }
        assert!(decode(&[&whole[..], &[0]].concat()).is_err());
        assert_eq!(decode(&encode_nothing()), Ok(Change::Nothing));
        assert!(decode(&[14]).unwrap_err().contains("of a newer playcounts"));
        assert_eq!(decode(&[9]).unwrap_err(), "its frame is no change of counts");
    }

    #[test]
    fn a_usual_update_is_small() {
        let at = UnixMs(1_790_000_000_000);
        let counts = (0..20).map(|n| VideoCount {
            video_id: VideoId::from_u128(n << 90 | 77),
            plays: 12_345,
            last_played_at: Some(UnixMs(at.0 - 900)),
        });
        let bytes = encode_counts(at, Uuid::from_u128(1), None, &counts.collect::<Vec<_>>());
        assert_eq!(bytes.len(), 1 + 6 + 16 + 1 + 20 * (17 + 2 + 2));
    }
}
