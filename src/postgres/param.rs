//! Values of statements, in PostgreSQL's binary form. (pure)

use bytes::{BufMut, BytesMut};
use postgres_protocol::{IsNull, Oid};
use uuid::Uuid;

/// PostgreSQL's numbers for its types, as in `pg_type`.
pub(super) mod oid {
    use postgres_protocol::Oid;
    pub(crate) const BOOL: Oid = 16;
    pub(crate) const BYTEA: Oid = 17;
    pub(crate) const NAME: Oid = 19;
    pub(crate) const INT8: Oid = 20;
    pub(crate) const INT2: Oid = 21;
    pub(crate) const INT4: Oid = 23;
    pub(crate) const TEXT: Oid = 25;
    pub(crate) const OID: Oid = 26;
    pub(crate) const BYTEA_ARRAY: Oid = 1001;
    pub(crate) const INT8_ARRAY: Oid = 1016;
    pub(crate) const VARCHAR: Oid = 1043;
    pub(crate) const UUID: Oid = 2950;
    pub(crate) const UUID_ARRAY: Oid = 2951;
}

/// One value of a statement. The server is told its type: where SQL wants another, it needs a cast (`$1::text::inet`).
#[derive(Clone, Copy, Debug)]
pub enum Param<'a> {
    /// NULL, of the type that the statement wants.
    Null,
    /// bool
    Bool(bool),
    /// int8
    Int(i64),
    /// text; without a zero byte, which the server refuses.
    Text(&'a str),
    /// bytea
    Bytes(&'a [u8]),
    /// uuid
    Uuid(Uuid),
    /// int8[], with one dimension.
    Ints(&'a [i64]),
    /// bytea[], with one dimension.
    ByteArrays(&'a [&'a [u8]]),
    /// uuid[], with one dimension.
    Uuids(&'a [Uuid]),
}

impl Param<'_> {
    /// The type that the server is told; 0 leaves it to the statement.
    pub(super) fn oid(&self) -> Oid {
        match self {
            Self::Null => 0,
            Self::Bool(_) => oid::BOOL,
            Self::Int(_) => oid::INT8,
            Self::Text(_) => oid::TEXT,
            Self::Bytes(_) => oid::BYTEA,
            Self::Uuid(_) => oid::UUID,
            Self::Ints(_) => oid::INT8_ARRAY,
            Self::ByteArrays(_) => oid::BYTEA_ARRAY,
            Self::Uuids(_) => oid::UUID_ARRAY,
        }
    }

    /// Bytes that [`Param::put`] writes, at most: so that a large one is refused before it is copied.
    pub(super) fn size(&self) -> usize {
        let array = |count: usize, element: usize| 20 + count.saturating_mul(4 + element);
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Int(_) => 8,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Uuid(_) => 16,
            Self::Ints(all) => array(all.len(), 8),
            Self::Uuids(all) => array(all.len(), 16),
            Self::ByteArrays(all) => {
                all.iter().map(|bytes| bytes.len()).sum::<usize>() + array(all.len(), 0)
            }
        }
    }

    /// Writes the value, without its length.
    pub(super) fn put(&self, out: &mut BytesMut) -> IsNull {
        match self {
            Self::Null => return IsNull::Yes,
            Self::Bool(value) => out.put_u8(u8::from(*value)),
            Self::Int(value) => out.put_i64(*value),
            Self::Text(text) => out.put_slice(text.as_bytes()),
            Self::Bytes(bytes) => out.put_slice(bytes),
            Self::Uuid(id) => out.put_slice(id.as_bytes()),
            Self::Ints(all) => {
                put_array(oid::INT8, all.iter().map(|value| value.to_be_bytes()), out)
            }
            Self::ByteArrays(all) => put_array(oid::BYTEA, all.iter(), out),
            Self::Uuids(all) => put_array(oid::UUID, all.iter().map(Uuid::as_bytes), out),
        }
        IsNull::No
    }
}

/// An array of one dimension, or of none where it is empty.
fn put_array<T: AsRef<[u8]>>(
    element: Oid,
    all: impl ExactSizeIterator<Item = T>,
    out: &mut BytesMut,
) {
    let count = all.len();
    out.put_i32(i32::from(count > 0));
    // No element is NULL.
    out.put_i32(0);
    out.put_u32(element);
    if count > 0 {
        // Less than 2³¹, or the size would have been refused.
        out.put_i32(count as i32);
        out.put_i32(1);
    }
    for value in all {
        let value = value.as_ref();
        out.put_i32(value.len() as i32);
        out.put_slice(value);
    }
}
