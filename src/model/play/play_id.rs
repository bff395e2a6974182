//! What a site calls a play (pure).

use sha2::{Digest, Sha256};

use super::value::{self, NoId};

/// A play's id as its site gives it, by 120 bits of its SHA-256: who knows many ids still finds no two that are taken for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SitePlayId([u8; 15]);

/// Why a value is no id of a play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoSitePlayId {
    /// It is no text and no whole number.
    #[error("{0}")]
    Value(#[from] NoId),
    /// It is empty.
    #[error("a play's id has at least one character")]
    Empty,
    /// It is too long: so many bytes.
    #[error("a play's id has at most {max} bytes, not {0}", max = SitePlayId::MAX_LEN)]
    TooLong(usize),
}

impl SitePlayId {
    /// The longest, in bytes of UTF-8.
    pub const MAX_LEN: usize = 128;

    /// Of the JSON of an id.
    pub(super) fn read(raw: &[u8]) -> Result<Self, NoSitePlayId> {
        let text = value::id_text(raw)?;
        match text.len() {
            0 => Err(NoSitePlayId::Empty),
            1..=Self::MAX_LEN => Ok(Self::of(&text)),
            len => Err(NoSitePlayId::TooLong(len)),
        }
    }

    /// Of an id's text.
    pub fn of(text: &[u8]) -> Self {
        let hash = Sha256::digest(text);
        let mut bytes = [0; 15];
        bytes.copy_from_slice(&hash[..15]);
        Self(bytes)
    }

    /// The bits.
    pub fn as_bytes(&self) -> &[u8; 15] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written in ledgers: the same for ever.
    #[test]
    fn it_is_the_start_of_sha_256() {
        let id = SitePlayId::of(b"abc");
        let want = [
            0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae,
            0x22,
        ];
        assert_eq!(id.as_bytes(), &want);
    }
}
