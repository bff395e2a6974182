//! What is read of a frame's payload, piece by piece (pure). `change` and `catalog_change` say what stands there.

use uuid::Uuid;

use crate::model::varint;

/// What is left of a payload. Whatever it holds, reading it takes no more memory than a few times its length.
pub(super) struct Rest<'a>(pub(super) &'a [u8]);

impl<'a> Rest<'a> {
    /// The next bytes; `None` where there are fewer.
    pub(super) fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next varint.
    pub(super) fn number(&mut self) -> Option<u64> {
        varint::take(&mut self.0)
    }

    /// The next 16 bytes as an id.
    pub(super) fn id(&mut self) -> Option<Uuid> {
        Uuid::from_slice(self.take(16)?).ok()
    }
}
