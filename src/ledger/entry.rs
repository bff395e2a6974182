//! What the frames of the ledger's journal hold (pure).
//!
//! ```text
//! | 1 | record |    a commit: see Record
//! | 2 | at | first number | letters … |    dead letters of the record that follows, at most 1 MiB of bodies
//! | 3 | id |    counts are published to another dashboard from now on
//! | 4 | generation |    the tables were written that often
//! ```

use std::ops::Range;

use uuid::Uuid;

use super::commit::DeadLetter;
use super::letter::{BODY_MAX, SavedDeadLetter};
use super::record::{Damaged, Input, Record, RecordError};
use crate::model::play::Rejection;
use crate::model::unix_time::UnixMs;
use crate::model::varint::put;

/// The first byte of each kind.
const RECORD: u8 = 1;
const LETTERS: u8 = 2;
const DASHBOARD: u8 = 3;
const TABLES: u8 = 4;

/// Bytes of bodies in one frame of dead letters; and one body more.
const LETTERS_BYTES: usize = 1 << 20;

/// One frame's content.
#[derive(Debug, PartialEq)]
pub(super) enum LedgerEntry {
    /// A commit.
    Record(Record),
    /// Dead letters. They count with the record that follows.
    Letters(Vec<SavedDeadLetter>),
    /// Counts are published to another dashboard.
    Dashboard(Uuid),
    /// The tables were written that often.
    Tables(u64),
}

impl LedgerEntry {
    /// Reads a frame's payload.
    ///
    /// # Errors
    /// [`RecordError`] when it is anything else.
    pub(super) fn decode(payload: &[u8]) -> Result<Self, RecordError> {
        let (kind, rest) = payload.split_first().ok_or(Damaged)?;
        match *kind {
            RECORD => Record::decode(rest).map(Self::Record),
            LETTERS => Ok(Self::Letters(decode_letters(Input(rest))?)),
            DASHBOARD => {
                let id = rest.try_into().map_err(|_| Damaged)?;
                Ok(Self::Dashboard(Uuid::from_bytes(id)))
            }
            TABLES => {
                let mut input = Input(rest);
                let generation = input.number()?;
                if input.0.is_empty() { Ok(Self::Tables(generation)) } else { Err(Damaged.into()) }
            }
            _ => Err(Damaged.into()),
        }
    }
}

/// Writes a commit's payload over `out`; returns where in it the keys of its messages stand, behind their number.
pub(super) fn encode_record(record: &Record, out: &mut Vec<u8>) -> Range<usize> {
    out.clear();
    out.push(RECORD);
    record.encode(out)
}

/// The payload that says that counts are published to another dashboard.
pub(super) fn encode_dashboard(id: Uuid) -> Vec<u8> {
    let mut out = vec![DASHBOARD];
    out.extend_from_slice(id.as_bytes());
    out
}

/// The payload that says how often the tables were written.
pub(super) fn encode_tables(generation: u64) -> Vec<u8> {
    let mut out = vec![TABLES];
    put(&mut out, generation);
    out
}

/// The letters as they are kept, in the order they came; `first` is the number of the first.
pub(super) fn saved<'a>(
    letters: impl Iterator<Item = &'a DeadLetter>,
    first: u64,
    at: UnixMs,
) -> Vec<SavedDeadLetter> {
    (first..)
        .zip(letters)
        .map(|(number, DeadLetter { nsqd, message, reason, size, body, .. })| SavedDeadLetter {
            number: number as i64,
            at,
            nsqd: nsqd.clone(),
            message_id: message.id().to_string(),
            reason: reason.as_str().to_owned(),
            size: *size as i64,
            body: body[..body.len().min(BODY_MAX)].to_owned(),
        })
        .collect()
}

/// Their payloads.
pub(super) fn encode_letters(letters: &[SavedDeadLetter]) -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for letter in letters {
        if frames.last().is_none_or(|frame| frame.len() > LETTERS_BYTES) {
            let mut frame = vec![LETTERS];
            put(&mut frame, letter.at.0 as u64);
            put(&mut frame, letter.number as u64);
            frames.push(frame);
        }
        let Some(frame) = frames.last_mut() else { continue };
        for bytes in [&letter.nsqd, &letter.message_id, &letter.reason] {
            put(frame, bytes.len() as u64);
            frame.extend_from_slice(bytes.as_bytes());
        }
        put(frame, letter.size as u64);
        put(frame, letter.body.len() as u64);
        frame.extend_from_slice(&letter.body);
    }
    frames
}

fn decode_letters(mut input: Input<'_>) -> Result<Vec<SavedDeadLetter>, Damaged> {
    let at = UnixMs(signed(input.number()?)?);
    let mut number = signed(input.number()?)?;
    let mut letters = Vec::new();
    while !input.0.is_empty() {
        let mut text = || {
            let bytes = input.bytes()?;
            String::from_utf8(bytes.to_owned()).map_err(|_| Damaged)
        };
        let (nsqd, message_id, reason) = (text()?, text()?, text()?);
        let size = signed(input.number()?)?;
        let body = input.bytes()?.to_owned();
        if reason.chars().count() > Rejection::MAX_LEN {
            return Err(Damaged);
        }
        letters.push(SavedDeadLetter { number, at, nsqd, message_id, reason, size, body });
        number = number.checked_add(1).ok_or(Damaged)?;
    }
    Ok(letters)
}

fn signed(number: u64) -> Result<i64, Damaged> {
    i64::try_from(number).map_err(|_| Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_letters() -> impl Strategy<Value = Vec<SavedDeadLetter>> {
        let letter = ("[a-z.:0-9]{0,30}", "[0-9a-f]{16}", ".{0,50}", 0usize..40_000);
        proptest::collection::vec(letter, 1..90).prop_map(|letters| {
            (5..)
                .zip(letters)
                .map(|(number, (nsqd, message_id, reason, size))| SavedDeadLetter {
                    number,
                    at: UnixMs(1_700_000_000_000),
                    nsqd,
                    message_id,
                    reason,
                    size: size as i64,
                    body: vec![number as u8; size.min(BODY_MAX)],
                })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn letters_come_back_in_frames_of_bounded_size(letters in any_letters()) {
            let frames = encode_letters(&letters);
            let mut back = Vec::new();
            for frame in &frames {
                prop_assert!(frame.len() < LETTERS_BYTES + 2 * BODY_MAX);
                let LedgerEntry::Letters(mut some) = LedgerEntry::decode(frame).unwrap() else {
                    panic!("other entry");
                };
                back.append(&mut some);
                // Every cut is damage, or fewer letters.
                prop_assert!(LedgerEntry::decode(&frame[..frame.len() - 1]).is_err());
            }
            prop_assert_eq!(back, letters);
        }

        #[test]
        fn any_bytes_are_an_entry_or_damaged(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = LedgerEntry::decode(&bytes);
        }
    }

    #[test]
    fn a_dashboard_comes_back() {
        let id = Uuid::from_u128(9);
        assert_eq!(LedgerEntry::decode(&encode_dashboard(id)), Ok(LedgerEntry::Dashboard(id)));
        assert_eq!(LedgerEntry::decode(&[3; 16]), Err(Damaged.into()));
        assert_eq!(LedgerEntry::decode(&[]), Err(Damaged.into()));
    }

    #[test]
    fn a_generation_comes_back() {
        for generation in [1, 300, u64::MAX] {
            let mut payload = encode_tables(generation);
            assert_eq!(LedgerEntry::decode(&payload), Ok(LedgerEntry::Tables(generation)));
            payload.push(0);
            assert_eq!(LedgerEntry::decode(&payload), Err(Damaged.into()));
        }
    }
}
