//! What a video is known by: a GUID, or any text of its site's (pure but for `long_texts`, which keeps each long text once
//! in a process).
//!
//! A [`VideoId`] is 16 bytes, is copied and compared without a look at anything else, and takes no allocation: a GUID, or a
//! text of up to 15 bytes (YouTube's 11 characters, Wistia's 10, most numbers), stands in it as it is. A longer text is kept
//! once a process for ever, which costs its bytes and some 30 more.

pub mod bytes;
mod long_texts;
mod serde_text;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use uuid::Uuid;

/// Which video: a GUID, or a text of 1 to [`VideoId::MAX_LEN`] bytes of UTF-8 without control characters.
///
/// A text that spells a GUID (with hyphens or without, in upper case, in braces, as a URN) is that GUID, and is shown with
/// hyphens in lower case. All other texts are equal only where all their bytes are: no case is folded, nothing trimmed.
///
/// The order is that of the texts that are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VideoId([u8; 16]);

/// The last byte of a [`VideoId`], its kind, is byte 8 of a GUID, whose three highest bits say of which variant that is. None
/// has all three of them: from here on it is the kind of a text of 0 to 15 bytes, which stands before it with zeros behind. A
/// GUID that has such a byte is kept as a text.
const SHORT: u8 = 0xe0;

/// The kind of a text whose number among the long ones stands in the first four bytes.
const LONG: u8 = 0xf0;

/// Why a text is no video id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoVideoId {
    /// It is empty.
    #[error("a video id has at least one character")]
    Empty,
    /// It is too long: so many bytes.
    #[error("a video id has at most {max} bytes, not {0}", max = VideoId::MAX_LEN)]
    TooLong(usize),
    /// It has a control character, such as a line's end: at which byte.
    #[error("a video id has no control characters; there is one at byte {0}")]
    Control(usize),
    /// It is no UTF-8: from which byte on.
    #[error("a video id is UTF-8; it is none at byte {0}")]
    NotUtf8(usize),
}

/// An id as it stands in a [`VideoId`].
enum Form<'a> {
    Guid(Uuid),
    Text(&'a str),
}

/// A hyphenated GUID: room for any.
type GuidText = [u8; uuid::fmt::Hyphenated::LENGTH];

impl VideoId {
    /// The longest, in bytes of UTF-8.
    pub const MAX_LEN: usize = 128;

    /// The longest text that stands in a [`VideoId`] as it is.
    const SHORT_MAX: usize = 15;

    /// The GUID of zeros.
    pub const NIL: Self = Self([0; 16]);

    /// The id that a text says.
    ///
    /// # Errors
    /// [`NoVideoId`]: it is none.
    pub fn parse(text: &str) -> Result<Self, NoVideoId> {
        match Self::find_guid(text) {
            Some(guid) => Ok(guid.into()),
            None => Self::of_text(text),
        }
    }

    /// As [`VideoId::parse`], of bytes that are perhaps no UTF-8.
    ///
    /// # Errors
    /// [`NoVideoId`].
    pub fn parse_bytes(text: &[u8]) -> Result<Self, NoVideoId> {
        let text = str::from_utf8(text).map_err(|error| NoVideoId::NotUtf8(error.valid_up_to()))?;
        Self::parse(text)
    }

    /// As [`VideoId::parse`] for who only looks something up: a long text that no part of this process has come across yet
    /// is `None`, and is not kept.
    ///
    /// # Errors
    /// [`NoVideoId`].
    pub fn find(text: &str) -> Result<Option<Self>, NoVideoId> {
        match Self::find_guid(text) {
            Some(guid) if is_plain(&guid) => Ok(Some(guid.into())),
            Some(guid) => Ok(long_texts::find(guid_text(&guid, &mut [0; 36])).map(Self::long)),
            None => {
                check(text)?;
                Ok(Self::short(text).or_else(|| long_texts::find(text).map(Self::long)))
            }
        }
    }

    /// A GUID's bits, as [`Uuid::from_u128`] takes them: for tests and simulations.
    pub fn from_u128(bits: u128) -> Self {
        Uuid::from_u128(bits).into()
    }

    /// The GUID that a text spells in one of its ways.
    pub fn find_guid(text: &str) -> Option<Uuid> {
        // The shortest spelling; most other texts are shorter.
        if text.len() < uuid::fmt::Simple::LENGTH { None } else { Uuid::try_parse(text).ok() }
    }

    /// A text that spells no GUID.
    fn of_text(text: &str) -> Result<Self, NoVideoId> {
        check(text)?;
        Ok(Self::short(text).unwrap_or_else(|| Self::long(long_texts::number(text))))
    }

    fn short(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        bytes[..Self::SHORT_MAX].get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        bytes[15] = SHORT + text.len() as u8;
        Some(Self(bytes))
    }

    fn long(number: u32) -> Self {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        bytes[15] = LONG;
        Self(bytes)
    }

    fn kind(&self) -> u8 {
        self.0[15]
    }

    fn form(&self) -> Form<'_> {
        if let Some(text) = self.long_text() {
            return Form::Text(text);
        }
        match self.kind() {
            kind @ SHORT.. => {
                let len = usize::from(kind - SHORT).min(Self::SHORT_MAX);
                // Made of a text, so it is one.
                Form::Text(str::from_utf8(&self.0[..len]).unwrap_or_default())
            }
            _ => Form::Guid(Uuid::from_u128(turned(self.0, 56))),
        }
    }

    /// The text, where it is one of the long ones.
    fn long_text(&self) -> Option<&'static str> {
        let [a, b, c, d, ..] = self.0;
        (self.kind() == LONG).then(|| long_texts::text(u32::from_le_bytes([a, b, c, d])))
    }

    /// The GUID, where it is one.
    pub fn guid(&self) -> Option<Uuid> {
        match self.form() {
            Form::Guid(guid) => Some(guid),
            Form::Text(text) => Self::find_guid(text),
        }
    }

    /// Does something with the text that is shown.
    pub fn with_text<R>(&self, of: impl FnOnce(&str) -> R) -> R {
        match self.form() {
            Form::Guid(guid) => of(guid_text(&guid, &mut [0; 36])),
            Form::Text(text) => of(text),
        }
    }

    /// Compares the text that is shown with another, as the order of ids does.
    pub fn cmp_text(&self, other: &str) -> Ordering {
        self.with_text(|text| text.cmp(other))
    }

    /// Whether the text that is shown starts so.
    pub fn starts_with(&self, start: &str) -> bool {
        self.with_text(|text| text.starts_with(start))
    }
}

/// Whether a GUID stands in an id as it is: all that are of a variant known today.
fn is_plain(guid: &Uuid) -> bool {
    guid.as_bytes()[8] < SHORT
}

fn guid_text<'a>(guid: &Uuid, room: &'a mut GuidText) -> &'a str {
    guid.hyphenated().encode_lower(room)
}

fn check(text: &str) -> Result<(), NoVideoId> {
    if text.is_empty() {
        return Err(NoVideoId::Empty);
    }
    if text.len() > VideoId::MAX_LEN {
        return Err(NoVideoId::TooLong(text.len()));
    }
    match text.char_indices().find(|(_, character)| character.is_control()) {
        Some((at, _)) => Err(NoVideoId::Control(at)),
        None => Ok(()),
    }
}

/// The bytes with the last 8 of them turned to the left by so many bits: by 8 a GUID's byte 8 comes last, by 56 it goes back.
fn turned(bytes: [u8; 16], bits: u32) -> u128 {
    let all = u128::from_be_bytes(bytes);
    let last = (all as u64).rotate_left(bits);
    (all >> 64 << 64) | u128::from(last)
}

impl From<Uuid> for VideoId {
    fn from(guid: Uuid) -> Self {
        if is_plain(&guid) {
            Self(turned(guid.into_bytes(), 8).to_be_bytes())
        } else {
            Self::long(long_texts::number(guid_text(&guid, &mut [0; 36])))
        }
    }
}

impl FromStr for VideoId {
    type Err = NoVideoId;
    fn from_str(text: &str) -> Result<Self, NoVideoId> {
        Self::parse(text)
    }
}

impl fmt::Display for VideoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.pad(text))
    }
}

impl fmt::Debug for VideoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl Hash for VideoId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // At once, without the length that an array says first.
        state.write_u128(u128::from_ne_bytes(self.0));
    }
}

impl Ord for VideoId {
    fn cmp(&self, other: &Self) -> Ordering {
        let sort = |id: &Self| (id.kind() >= SHORT, id.kind() == LONG);
        match (sort(self), sort(other)) {
            ((false, _), (false, _)) => turned(self.0, 56).cmp(&turned(other.0, 56)),
            // No text has a zero, so that what is behind the shorter one is below all.
            ((true, false), (true, false)) => self.0.cmp(&other.0),
            _ if self == other => Ordering::Equal,
            _ => other.with_text(|other| self.cmp_text(other)),
        }
    }
}

impl PartialOrd for VideoId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
