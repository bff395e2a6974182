//! A dead letter as it is kept: a body that was no play, with the reason, to be looked at and sent again (pure).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::model::plain_text::PlainText;
use crate::model::unix_time::UnixMs;

/// Dead letters that are kept, of all that there ever were the newest: what a mistake in the options rejects of a busy queue before
/// somebody sees it. On disk some 40 MB where bodies have 300 bytes.
pub const DEAD_LETTERS_MAX: i64 = 100_000;

/// The most of one body that is kept, in bytes: with [`DEAD_LETTERS_MAX`] at most 1.6 GB on disk, where all are so large.
pub(crate) const BODY_MAX: usize = 16 * 1024;

/// Dead letters that one body becomes, each with an element of its array or several; the last one has all others. So one
/// message pushes out at most a thousandth of the dead letters that are kept.
pub(crate) const LETTERS_OF_MESSAGE: usize = 100;

/// The most of a body in one line, in characters.
const SHOWN_MAX: usize = 80;

/// Keeps an element of an array as an array of its own, which can be read, and sent, as it is: its size, and its beginning.
pub(crate) fn array_of(element: &[u8]) -> (usize, Vec<u8>) {
    let start = &element[..element.len().min(BODY_MAX)];
    (element.len() + 2, [b"[", start, b"]"].concat())
}

/// Whether an array that is kept has room for one more element, whole.
pub(crate) fn has_room(body: &[u8], element: &[u8]) -> bool {
    body.len() + element.len() < BODY_MAX
}

/// Appends an element to an array that is kept: to its size, and to its body where that has room. By how much the body has
/// grown.
pub(crate) fn append_element(size: &mut usize, body: &mut Vec<u8>, element: &[u8]) -> usize {
    // Without the closing bracket, and with a comma.
    let more = element.len() + 1;
    *size += more;
    if !has_room(body, element) || body.pop_if(|last| *last == b']').is_none() {
        return 0;
    }
    body.extend_from_slice(&[b",", element, b"]"].concat());
    more
}

/// A dead letter as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedDeadLetter {
    /// 1, 2, … in the order of the ledger.
    pub number: i64,
    /// When it was kept.
    pub at: UnixMs,
    /// The address of the nsqd it came from.
    pub nsqd: String,
    /// Its message's ID there.
    pub message_id: String,
    /// Why it is no play. May quote what a stranger sent.
    pub reason: String,
    /// Bytes of the whole body.
    pub size: i64,
    /// The body, cut to 16 KiB.
    pub body: Vec<u8>,
}

impl SavedDeadLetter {
    /// Whether all of the body is kept.
    pub fn is_whole(&self) -> bool {
        i64::try_from(self.body.len()).is_ok_and(|kept| kept == self.size)
    }
}

/// Numbers of letters that are gone, because their plays are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GoneLetters(BTreeMap<u64, u64>);

impl GoneLetters {
    /// Adds those of a record; each goes once.
    pub(super) fn add(&mut self, runs: &[Range<u64>]) {
        self.0.extend(runs.iter().map(|run| (run.start, run.end)));
    }

    /// Whether a letter is among them.
    pub(super) fn has(&self, letter: &SavedDeadLetter) -> bool {
        let number = letter.number.unsigned_abs();
        self.0.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, as runs, ascending: the first and the one behind the last.
    pub(super) fn runs(&self) -> impl Iterator<Item = [i64; 2]> {
        self.0.iter().map(|(start, end)| [start.cast_signed(), end.cast_signed()])
    }
}

/// One line, whatever a stranger sent.
impl fmt::Display for SavedDeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, at, nsqd, message_id, reason, size, body } = self;
        let start: String = String::from_utf8_lossy(body).chars().take(SHOWN_MAX).collect();
        let (nsqd, message_id) = (PlainText::Line(nsqd), PlainText::Line(message_id));
        let reason = PlainText::Line(reason);
        write!(f, "{number} {} {nsqd} {message_id} {size} bytes: {reason}: {start:?}", at.0)
    }
}

impl Serialize for SavedDeadLetter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("SavedDeadLetter", 7)?;
        object.serialize_field("number", &self.number)?;
        object.serialize_field("at", &self.at)?;
        object.serialize_field("nsqd", &self.nsqd)?;
        object.serialize_field("message_id", &self.message_id)?;
        object.serialize_field("reason", &self.reason)?;
        object.serialize_field("size", &self.size)?;
        match std::str::from_utf8(&self.body) {
            Ok(text) => object.serialize_field("body", text)?,
            Err(_) => object.serialize_field("body_base64", &BASE64_STANDARD.encode(&self.body))?,
        }
        object.end()
    }
}
