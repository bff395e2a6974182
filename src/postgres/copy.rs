//! Rows for `COPY … FROM STDIN (FORMAT binary)`: the cheapest way to bring many of them. (pure)

/// What begins such data: its mark, no flags, and no extension.
const HEAD: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What ends it, in place of a row's number of columns: -1.
const END: &[u8; 2] = b"\xff\xff";

/// One value of a row. The table's column must have that very type: nothing is converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyValue<'a> {
    /// int2
    Int2(i16),
    /// int4
    Int4(i32),
    /// bytea; less than 2 GiB, and what is queued at once is far less.
    Bytes(&'a [u8]),
}

/// Rows to be copied into a table, for [`PgConnection::copy`](super::PgConnection::copy).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyRows {
    bytes: Vec<u8>,
}

impl CopyRows {
    /// None yet, and room for `bytes` of them.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut all = Vec::with_capacity(HEAD.len() + bytes);
        all.extend_from_slice(HEAD);
        Self { bytes: all }
    }

    /// Adds a row: a value for each column that the statement names.
    pub fn push<const COLUMNS: usize>(&mut self, row: [CopyValue<'_>; COLUMNS]) {
        const { assert!(COLUMNS <= i16::MAX as usize) };
        let out = &mut self.bytes;
        out.extend_from_slice(&(COLUMNS as i16).to_be_bytes());
        for value in row {
            match value {
                CopyValue::Int2(value) => put(&value.to_be_bytes(), out),
                CopyValue::Int4(value) => put(&value.to_be_bytes(), out),
                CopyValue::Bytes(value) => put(value, out),
            }
        }
    }

    /// Bytes that are sent of them.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + END.len()
    }

    /// All of them, and their end.
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        [&self.bytes, END]
    }
}

fn put(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(value.len() as i32).to_be_bytes());
    out.extend_from_slice(value);
}
