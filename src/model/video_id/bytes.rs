//! A video's id in files, in the shared ledger and on the wire between them (pure): a GUID is its 16 bytes, any other text
//! its UTF-8, with zeros behind it up to 17 bytes. No text has a zero in it, and none is 16 bytes long, so that the two are
//! told apart by their length, and texts keep their order.

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use uuid::Uuid;

use super::{Form, VideoId};

/// The fewest bytes of a text: one more than a GUID has.
const TEXT_MIN: usize = 17;

/// An id's bytes, by reference where they are long.
#[derive(Clone, Copy, Debug)]
pub struct IdBytes {
    room: [u8; TEXT_MIN],
    len: usize,
    long: Option<&'static str>,
}

impl AsRef<[u8]> for IdBytes {
    fn as_ref(&self) -> &[u8] {
        match self.long {
            Some(text) => text.as_bytes(),
            None => &self.room[..self.len],
        }
    }
}

impl std::ops::Deref for IdBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

impl VideoId {
    /// As it lies in files: a GUID's 16 bytes, or 17 to [`VideoId::MAX_LEN`].
    pub fn to_bytes(&self) -> IdBytes {
        let mut room = [0; TEXT_MIN];
        let (len, long) = match self.form() {
            Form::Guid(guid) => {
                room[..16].copy_from_slice(guid.as_bytes());
                (16, None)
            }
            Form::Text(text) => match self.long_text() {
                // One of the few GUIDs that are kept as texts.
                Some(long) if let Some(guid) = Self::find_guid(long) => {
                    room[..16].copy_from_slice(guid.as_bytes());
                    (16, None)
                }
                Some(long) if long.len() >= TEXT_MIN => (long.len(), Some(long)),
                _ => {
                    room[..text.len()].copy_from_slice(text.as_bytes());
                    (TEXT_MIN, None)
                }
            },
        };
        IdBytes { room, len, long }
    }

    /// Reads what [`VideoId::to_bytes`] gave, and nothing else: `None` is damage.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if let Ok(guid) = Uuid::from_slice(bytes) {
            return Some(guid.into());
        }
        let end = match bytes.len() {
            TEXT_MIN => bytes.iter().rposition(|byte| *byte != 0)? + 1,
            18..=Self::MAX_LEN => bytes.len(),
            _ => return None,
        };
        let text = str::from_utf8(&bytes[..end]).ok()?;
        if Self::find_guid(text).is_some() { None } else { Self::of_text(text).ok() }
    }
}

impl ToSql for VideoId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.to_bytes().to_vec()))
    }
}

impl FromSql for VideoId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        Self::from_bytes(bytes).ok_or_else(|| {
            let what = format!("a video id of {} bytes that is none", bytes.len());
            FromSqlError::Other(what.into())
        })
    }
}
