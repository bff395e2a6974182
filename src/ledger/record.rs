//! One commit as it lies in the ledger: what was counted, and what made it countable (pure).
//!
//! ```text
//! | version | counters … | new videos | deltas | producers' runs | messages | retried letters, in version 3 | CRC-32 |
//! ```
//! Numbers are LEB128 varints of at most 10 bytes, a video's id its length and its bytes, a producer's 16 bytes, the
//! checksum 4 bytes little-endian over all before it. A delta costs 3 to 6 bytes for a video of a small number, a run of
//! plays 2 to 10 and 17 for its producer; of messages see `messages`.
//!
//! Version 1 is read and not written: videos' ids without a length, and messages by their nsqd's address and ID. Version 3 is
//! written where dead letters go with the commit, and tells which: a playcounts that does not know it would keep them, and
//! count their plays again.

mod bytes;
mod messages;

use std::ops::Range;

use uuid::Uuid;

use super::counters::Counters;
use super::dedupe::Learned;
use crate::model::varint::put;
use crate::model::video_id::VideoId;
pub use bytes::Damaged;
pub(super) use bytes::Input;
use messages::encode_messages;
pub(super) use messages::{MessageRuns, count_messages, decode_messages, decode_messages_v1};

/// The first byte of a record.
const VERSION: u8 = 2;

/// The first byte of one with which dead letters go. The newest that is read.
const WITH_LETTERS: u8 = 3;

/// The oldest that is read.
const OLD_VERSION: u8 = 1;

/// Bytes of a GUID, the only ids that the old version knew.
const GUID_LEN: u64 = 16;

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
    pub new_videos: Vec<VideoId>,
    /// How many videos the ledger knew before.
    pub first_video: u32,
    /// By video, each at most once.
    pub deltas: Vec<Delta>,
    /// By play.
    pub learned: Learned,
    /// Numbers of dead letters that are gone with this commit, because their plays are counted in it: runs, disjoint and
    /// ascending.
    pub retried: Vec<Range<u64>>,
}

/// Why bytes are no record that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// They are not what any version writes.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// They are of a version that is not known: the number.
    #[error(
        "a record of the ledger has version {0}, of a newer playcounts; this one knows {WITH_LETTERS}"
    )]
    Version(u8),
}

impl Record {
    /// Appends the bytes; returns where in `out` the keys of its messages stand, behind their number.
    pub fn encode(&self, out: &mut Vec<u8>) -> Range<usize> {
        let start = out.len();
        out.push(if self.retried.is_empty() { VERSION } else { WITH_LETTERS });
        self.counters.fields().into_iter().for_each(|field| put(out, field));
        put(out, u64::from(self.first_video));
        put(out, self.new_videos.len() as u64);
        for id in &self.new_videos {
            let id = id.to_bytes();
            put(out, id.len() as u64);
            out.extend_from_slice(&id);
        }
        // Times lie close together: each as its distance from the newest.
        let newest = self.deltas.iter().map(|delta| delta.last_played_at).max().unwrap_or(0);
        put(out, newest);
        put(out, self.deltas.len() as u64);
        for Delta { number, plays, last_played_at } in &self.deltas {
            put(out, u64::from(*number));
            put(out, *plays);
            put(out, if *last_played_at == 0 { 0 } else { newest - last_played_at + 1 });
        }
        put(out, self.learned.producers.len() as u64);
        for (producer, runs) in &self.learned.producers {
            out.extend_from_slice(producer.as_bytes());
            encode_runs(runs, out);
        }
        let messages = encode_messages(&self.learned.messages, out);
        if !self.retried.is_empty() {
            encode_runs(&self.retried, out);
        }
        let checksum = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&checksum.to_le_bytes());
        messages
    }

    /// Reads the bytes of one record, of any version so far.
    ///
    /// # Errors
    /// [`RecordError`] when they are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(Damaged)?;
        if crc32fast::hash(body).to_le_bytes() != *checksum {
            return Err(Damaged.into());
        }
        let mut input = Input(body);
        let [version] = input.take()?;
        if version == 0 {
            return Err(Damaged.into());
        } else if version > WITH_LETTERS {
            return Err(RecordError::Version(version));
        }
        let mut fields = [0; 6];
        for field in &mut fields {
            *field = input.number()?;
        }
        let first_video = u32::try_from(input.number()?).map_err(|_| Damaged)?;
        let new_videos = input.list(|input| {
            let len = if version == OLD_VERSION { GUID_LEN } else { input.number()? };
            let len = usize::try_from(len).map_err(|_| Damaged)?;
            VideoId::from_bytes(input.slice(len)?).ok_or(Damaged)
        })?;
        let newest = input.number()?;
        let deltas = input.list(|input| -> Result<_, Damaged> {
            let number = u32::try_from(input.number()?).map_err(|_| Damaged)?;
            let (plays, age) = (input.number()?, input.number()?);
            let last_played_at = match age {
                0 => 0,
                age => newest.checked_sub(age - 1).ok_or(Damaged)?,
            };
            Ok(Delta { number, plays, last_played_at })
        })?;
        let producers = input.list(|input| -> Result<_, Damaged> {
            Ok((Uuid::from_bytes(input.take()?), input.runs()?))
        })?;
        let messages = match version {
            OLD_VERSION => input.list(Input::message_v1)?,
            _ => input.messages()?,
        };
        let retried = if version == WITH_LETTERS { input.runs()? } else { Vec::new() };
        input.end()?;
        let counters = Counters::from_fields(fields);
        let learned = Learned { producers, messages };
        Ok(Self { counters, new_videos, first_video, deltas, learned, retried })
    }
}

/// Appends runs that are disjoint and ascending: their number, then each as its distance from the one before and its
/// length.
pub(super) fn encode_runs(runs: &[Range<u64>], out: &mut Vec<u8>) {
    put(out, runs.len() as u64);
    let mut end = 0;
    for run in runs {
        put(out, run.start - end);
        put(out, run.end - run.start);
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
    input.end().map(|()| runs)
}

#[cfg(test)]
mod tests;
