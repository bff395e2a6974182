//! What is left to read of a record's bytes (pure).

use std::ops::Range;

use crate::model::play::PlayIdentity;
use crate::model::varint;

/// The bytes are not what the ledger writes: they were changed behind its back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of the ledger is damaged")]
pub struct Damaged;

/// What is left to read.
pub(in crate::ledger) struct Input<'a>(pub(in crate::ledger) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(Damaged)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(in crate::ledger) fn number(&mut self) -> Result<u64, Damaged> {
        varint::take(&mut self.0).ok_or(Damaged)
    }

    /// A number of bytes, then the bytes.
    pub(in crate::ledger) fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let len = usize::try_from(self.number()?).map_err(|_| Damaged)?;
        self.slice(len)
    }

    /// So many bytes.
    pub(super) fn slice(&mut self, len: usize) -> Result<&'a [u8], Damaged> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Damaged)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A number that is small or just below 2^64, as the distance of two numbers is.
    pub(super) fn signed(&mut self) -> Result<u64, Damaged> {
        Ok(varint::unzigzag(self.number()?) as u64)
    }

    /// A number of things, then the things. Nothing is set aside for more than have come.
    pub(super) fn list<T, E: From<Damaged>>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        let count = self.number()?;
        let mut list = Vec::with_capacity((count as usize).min(self.0.len()).min(1024));
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }

    pub(super) fn runs(&mut self) -> Result<Vec<Range<u64>>, Damaged> {
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

    /// That all is read.
    pub(super) fn end(&self) -> Result<(), Damaged> {
        if self.0.is_empty() { Ok(()) } else { Err(Damaged) }
    }
}
