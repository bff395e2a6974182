//! One commit as it lies in the ledger: what was counted, and what made it countable (pure).
//!
//! ```text
//! | version | counters … | new videos | deltas | producers' runs | message IDs | CRC-32 |
//! ```
//! Numbers are LEB128 varints of at most 10 bytes, ids their 16 bytes, the checksum 4 bytes little-endian over all
//! before it. A delta costs 3 to 6 bytes for a video of a small number, a run of plays 2 to 10 and 17 for its producer.

use std::ops::Range;

use nsq_protocol::{MESSAGE_ID_LEN, MessageId};
use uuid::Uuid;

use super::counters::Counters;
use super::dedupe::{Learned, MessageKey};
use crate::model::play::PlayIdentity;

/// The first byte of a record of this kind.
const VERSION: u8 = 1;

/// How much one video's count grew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The video's number in the ledger.
    pub number: u32,
    /// Plays; at least 1.
    pub plays: u64,
    /// When the newest of them was enqueued, in ms since the Unix epoch; 0: none said so.
    pub last_played_at: u64,
}

/// What one commit adds to the ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// By outcome, in this commit.
    pub counters: Counters,
    /// Videos never seen before: they take the numbers from `first_video` on, in this order.
    pub new_videos: Vec<Uuid>,
    /// How many videos the ledger knew before.
    pub first_video: u32,
    /// By video, each at most once.
    pub deltas: Vec<Delta>,
    /// By play.
    pub learned: Learned,
}

/// The bytes are no record: they were changed behind the ledger's back, or a newer version wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of the ledger is damaged")]
pub struct Damaged;

impl Record {
    /// Appends the bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(VERSION);
        self.counters.fields().into_iter().for_each(|field| push(out, field));
        push(out, u64::from(self.first_video));
        push(out, self.new_videos.len() as u64);
        self.new_videos.iter().for_each(|id| out.extend_from_slice(id.as_bytes()));
        // Times lie close together: each as its distance from the newest.
        let newest = self.deltas.iter().map(|delta| delta.last_played_at).max().unwrap_or(0);
        push(out, newest);
        push(out, self.deltas.len() as u64);
        for Delta { number, plays, last_played_at } in &self.deltas {
            push(out, u64::from(*number));
            push(out, *plays);
            push(out, if *last_played_at == 0 { 0 } else { newest - last_played_at + 1 });
        }
        push(out, self.learned.producers.len() as u64);
        for (producer, runs) in &self.learned.producers {
            out.extend_from_slice(producer.as_bytes());
            encode_runs(runs, out);
        }
        push(out, self.learned.messages.len() as u64);
        encode_messages(&self.learned.messages, out);
        let checksum = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&checksum.to_le_bytes());
    }

    /// Reads the bytes of one record.
    ///
    /// # Errors
    /// [`Damaged`] when they are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(Damaged)?;
        if crc32fast::hash(body).to_le_bytes() != *checksum {
            return Err(Damaged);
        }
        let mut input = Input(body);
        if input.take::<1>()? != [VERSION] {
            return Err(Damaged);
        }
        let mut fields = [0; 6];
        for field in &mut fields {
            *field = input.number()?;
        }
        let first_video = u32::try_from(input.number()?).map_err(|_| Damaged)?;
        let new_videos = input.list(|input| Ok(Uuid::from_bytes(input.take()?)))?;
        let newest = input.number()?;
        let deltas = input.list(|input| {
            let number = u32::try_from(input.number()?).map_err(|_| Damaged)?;
            let (plays, age) = (input.number()?, input.number()?);
            let last_played_at = match age {
                0 => 0,
                age => newest.checked_sub(age - 1).ok_or(Damaged)?,
            };
            Ok(Delta { number, plays, last_played_at })
        })?;
        let producers = input.list(|input| Ok((Uuid::from_bytes(input.take()?), input.runs()?)))?;
        let messages = input.list(Input::message)?;
        if !input.0.is_empty() {
            return Err(Damaged);
        }
        let counters = Counters::from_fields(fields);
        let learned = Learned { producers, messages };
        Ok(Self { counters, new_videos, first_video, deltas, learned })
    }
}

/// Appends runs that are disjoint and ascending: their number, then each as its distance from the one before and its
/// length.
pub(super) fn encode_runs(runs: &[Range<u64>], out: &mut Vec<u8>) {
    push(out, runs.len() as u64);
    let mut end = 0;
    for run in runs {
        push(out, run.start - end);
        push(out, run.end - run.start);
        end = run.end;
    }
}

/// Reads what [`encode_runs`] wrote.
///
/// # Errors
/// [`Damaged`] when it is anything else.
pub(super) fn decode_runs(bytes: &[u8]) -> Result<Vec<Range<u64>>, Damaged> {
    let mut input = Input(bytes);
    let runs = input.runs()?;
    if input.0.is_empty() { Ok(runs) } else { Err(Damaged) }
}

/// Appends message keys of a fixed size each.
pub(super) fn encode_messages(messages: &[MessageKey], out: &mut Vec<u8>) {
    for MessageKey { nsqd, id } in messages {
        out.extend_from_slice(&nsqd.to_le_bytes());
        out.extend_from_slice(&id.0);
    }
}

/// Reads what [`encode_messages`] wrote.
///
/// # Errors
/// [`Damaged`] when the last key is cut.
pub(super) fn decode_messages(bytes: &[u8]) -> Result<Vec<MessageKey>, Damaged> {
    let mut input = Input(bytes);
    let mut messages = Vec::new();
    while !input.0.is_empty() {
        messages.push(input.message()?);
    }
    Ok(messages)
}

pub(super) fn push(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What is left to read.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(Damaged)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(super) fn number(&mut self) -> Result<u64, Damaged> {
        let mut number = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.take()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if bits << shift >> shift != bits {
                return Err(Damaged);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Damaged)
    }

    /// A number of bytes, then the bytes.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let len = usize::try_from(self.number()?).map_err(|_| Damaged)?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Damaged)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A number of things, then the things. Nothing is set aside for more than have come.
    fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Damaged>,
    ) -> Result<Vec<T>, Damaged> {
        let count = self.number()?;
        let mut list = Vec::with_capacity((count as usize).min(self.0.len()).min(1024));
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }

    fn runs(&mut self) -> Result<Vec<Range<u64>>, Damaged> {
        let mut end = 0u64;
        self.list(|input| {
            let start = end.checked_add(input.number()?).ok_or(Damaged)?;
            end = start.checked_add(input.number()?).ok_or(Damaged)?;
            // Sets stay below the largest number of a play, so that nothing overflows above them.
            if start >= end || end > PlayIdentity::MAX_SEQ + 1 {
                Err(Damaged)
            } else {
                Ok(start..end)
            }
        })
    }

    fn message(&mut self) -> Result<MessageKey, Damaged> {
        let nsqd = u64::from_le_bytes(self.take()?);
        Ok(MessageKey { nsqd, id: MessageId(self.take::<MESSAGE_ID_LEN>()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_runs() -> impl Strategy<Value = Vec<Range<u64>>> {
        proptest::collection::vec((1u64..1 << 40, 1u64..1 << 40), 1..6).prop_map(|pairs| {
            let mut end = 0;
            let run = |(gap, len)| {
                let start = end + gap;
                end = start + len;
                start..end
            };
            pairs.into_iter().map(run).collect()
        })
    }

    prop_compose! {
        fn any_record()(
            fields in any::<[u64; 6]>(),
            first_video in any::<u32>(),
            new_videos in proptest::collection::vec(any::<u128>(), 0..5),
            deltas in proptest::collection::vec(any::<(u32, u64, u64)>(), 0..20),
            producers in proptest::collection::vec((any::<u128>(), any_runs()), 0..4),
            messages in proptest::collection::vec(any::<(u64, u64)>(), 0..5),
        ) -> Record {
            let delta = |(number, plays, last_played_at)| Delta { number, plays, last_played_at };
            let message = |(nsqd, id)| MessageKey { nsqd, id: MessageId::from_u64(id) };
            Record {
                counters: Counters::from_fields(fields),
                first_video,
                new_videos: new_videos.into_iter().map(Uuid::from_u128).collect(),
                deltas: deltas.into_iter().map(delta).collect(),
                learned: Learned {
                    producers: producers.into_iter().map(|(id, runs)| (Uuid::from_u128(id), runs)).collect(),
                    messages: messages.into_iter().map(message).collect(),
                },
            }
        }
    }

    proptest! {
        #[test]
        fn a_record_survives_its_bytes(record in any_record()) {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(Record::decode(&bytes), Ok(record));
        }

        #[test]
        fn a_changed_byte_is_noticed(record in any_record(), at in any::<prop::sample::Index>(), by in 1u8..=255) {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            prop_assert_eq!(Record::decode(&bytes), Err(Damaged));
            prop_assert_eq!(Record::decode(&bytes[..at]), Err(Damaged));
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (decode_runs(&bytes), decode_messages(&bytes));
            bytes.insert(0, VERSION);
            bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
            let _ = Record::decode(&bytes);
        }
    }
}
