//! The keys of messages as they lie in a record and in the ledger's tables (pure).
//!
//! ```text
//! | keys | run, run …        run: | keys << 2, kind | key, key …
//! ```
//! A key is how far its ID and its timestamp lie from those of the key before, the timestamp taken as its distance from the
//! time that the ID tells: 3 to 7 bytes for a message of nsqd in a batch, 13 for one alone.

use std::ops::Range;

use nsq_protocol::{MESSAGE_ID_LEN, MessageId};

use super::bytes::{Damaged, Input};
use crate::ledger::message_key::{IdClock, MessageKey};
use crate::model::varint::{put, zigzag};

/// The kinds of keys: IDs that are numbers, of a clock or without a timestamp; and any 16 bytes with 8 of the timestamp,
/// little-endian, where the lowest is for none.
const NSQD: u64 = 0;
const BROKER: u64 = 1;
const UNDATED: u64 = 2;
const OTHER: u64 = 3;

/// Bits of a run's head for the kind.
const KIND_BITS: u32 = 2;

/// Keys of many records, as they lie in those: kept until a checkpoint writes them, 4 to 14 bytes each.
#[derive(Clone, Debug, Default)]
pub(in crate::ledger) struct MessageRuns {
    keys: usize,
    runs: Vec<u8>,
}

impl MessageRuns {
    /// Adds so many keys as [`encode_messages`] wrote them, but for their number.
    pub(in crate::ledger) fn append(&mut self, keys: usize, runs: &[u8]) {
        self.keys += keys;
        self.runs.extend_from_slice(runs);
    }

    /// Adds keys.
    pub(in crate::ledger) fn extend(&mut self, messages: &[MessageKey]) {
        self.keys += messages.len();
        encode_message_runs(messages, &mut self.runs);
    }

    /// How many keys there are.
    pub(in crate::ledger) fn len(&self) -> usize {
        self.keys
    }

    /// Whether there is none.
    pub(in crate::ledger) fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// All of them as [`encode_messages`] would write them, in more runs.
    pub(in crate::ledger) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, self.keys as u64);
        out.extend_from_slice(&self.runs);
        out
    }
}

/// Appends keys, whose order is kept; returns where in `out` their runs stand, behind their number.
pub(in crate::ledger) fn encode_messages(
    messages: &[MessageKey],
    out: &mut Vec<u8>,
) -> Range<usize> {
    put(out, messages.len() as u64);
    let start = out.len();
    encode_message_runs(messages, out);
    start..out.len()
}

fn encode_message_runs(messages: &[MessageKey], out: &mut Vec<u8>) {
    // Each key's ID as a number, of the run.
    let mut ids = Vec::with_capacity(messages.len());
    let mut rest = messages;
    while let Some(first) = rest.first() {
        let (kind, _) = kind_of(first);
        let same = rest.iter().map(kind_of).take_while(|(other, _)| *other == kind);
        ids.clear();
        ids.extend(same.map(|(_, id)| id));
        let (run, behind) = rest.split_at(ids.len());
        rest = behind;
        put(out, (run.len() as u64) << KIND_BITS | kind);
        match kind {
            NSQD => encode_numbers(run, &ids, Some(IdClock::Nsqd), out),
            BROKER => encode_numbers(run, &ids, Some(IdClock::Broker), out),
            UNDATED => encode_numbers(run, &ids, None, out),
            _ => run.iter().for_each(|key| {
                out.extend_from_slice(&key.id().0);
                out.extend_from_slice(&key.timestamp_ns().unwrap_or(i64::MIN).to_le_bytes());
            }),
        }
    }
}

/// The kind of a key, and its ID's number if it is one.
fn kind_of(key: &MessageKey) -> (u64, u64) {
    let Some(id) = key.id().to_u64() else { return (OTHER, 0) };
    let stamp = key.timestamp_ns();
    let kind = match IdClock::of(id, stamp) {
        _ if stamp.is_none() => UNDATED,
        IdClock::Nsqd => NSQD,
        IdClock::Broker => BROKER,
    };
    (kind, id)
}

/// Without a clock they have no timestamps.
fn encode_numbers(run: &[MessageKey], ids: &[u64], clock: Option<IdClock>, out: &mut Vec<u8>) {
    let (mut last_id, mut last_offset) = (0u64, 0u64);
    for (key, id) in run.iter().zip(ids) {
        put(out, zigzag((id.wrapping_sub(last_id)) as i64));
        last_id = *id;
        if let (Some(clock), Some(timestamp_ns)) = (clock, key.timestamp_ns()) {
            let offset = timestamp_ns.wrapping_sub(clock.time_ns(*id)) as u64;
            put(out, zigzag((offset.wrapping_sub(last_offset)) as i64));
            last_offset = offset;
        }
    }
}

/// How many keys [`encode_messages`] wrote, from the first 10 of its bytes or more.
///
/// # Errors
/// [`Damaged`] when they are anything else.
pub(in crate::ledger) fn count_messages(bytes: &[u8]) -> Result<u64, Damaged> {
    Input(bytes).number()
}

/// Reads what [`encode_messages`] wrote.
///
/// # Errors
/// [`Damaged`] when it is anything else.
pub(in crate::ledger) fn decode_messages(bytes: &[u8]) -> Result<Vec<MessageKey>, Damaged> {
    let mut input = Input(bytes);
    let messages = input.messages()?;
    input.end().map(|()| messages)
}

/// Reads keys as version 1 of the record and the tables beside it had them, 24 bytes each: a hash of the nsqd's address,
/// which is no part of the key any more, and the ID.
///
/// # Errors
/// [`Damaged`] when the last key is cut.
pub(in crate::ledger) fn decode_messages_v1(bytes: &[u8]) -> Result<Vec<MessageKey>, Damaged> {
    let mut input = Input(bytes);
    let mut messages = Vec::new();
    while !input.0.is_empty() {
        messages.push(input.message_v1()?);
    }
    Ok(messages)
}

impl Input<'_> {
    pub(super) fn messages(&mut self) -> Result<Vec<MessageKey>, Damaged> {
        let count = self.number()?;
        // A key has a byte or more.
        if count > self.0.len() as u64 {
            return Err(Damaged);
        }
        let mut messages = Vec::with_capacity(count as usize);
        while (messages.len() as u64) < count {
            let head = self.number()?;
            let (keys, kind) = (head >> KIND_BITS, head & ((1 << KIND_BITS) - 1));
            if keys == 0 || keys > count - messages.len() as u64 {
                return Err(Damaged);
            }
            match kind {
                NSQD => self.numbers(keys, Some(IdClock::Nsqd), &mut messages)?,
                BROKER => self.numbers(keys, Some(IdClock::Broker), &mut messages)?,
                UNDATED => self.numbers(keys, None, &mut messages)?,
                _ => {
                    for _ in 0..keys {
                        messages.push(self.other_message()?);
                    }
                }
            }
        }
        Ok(messages)
    }

    fn numbers(
        &mut self,
        keys: u64,
        clock: Option<IdClock>,
        messages: &mut Vec<MessageKey>,
    ) -> Result<(), Damaged> {
        let (mut id, mut offset) = (0u64, 0u64);
        for _ in 0..keys {
            id = id.wrapping_add(self.signed()?);
            let message = MessageId::from_u64(id);
            let Some(clock) = clock else {
                messages.push(MessageKey::undated(message));
                continue;
            };
            offset = offset.wrapping_add(self.signed()?);
            match clock.time_ns(id).wrapping_add(offset as i64) {
                i64::MIN => return Err(Damaged),
                timestamp_ns => messages.push(MessageKey::new(message, timestamp_ns)),
            }
        }
        Ok(())
    }

    fn other_message(&mut self) -> Result<MessageKey, Damaged> {
        let id = MessageId(self.take::<MESSAGE_ID_LEN>()?);
        Ok(match i64::from_le_bytes(self.take()?) {
            i64::MIN => MessageKey::undated(id),
            timestamp_ns => MessageKey::new(id, timestamp_ns),
        })
    }

    pub(super) fn message_v1(&mut self) -> Result<MessageKey, Damaged> {
        self.take::<8>()?;
        Ok(MessageKey::undated(MessageId(self.take::<MESSAGE_ID_LEN>()?)))
    }
}
