//! What is wrong with compressed bytes (pure).

/// The most that a snappy chunk decodes to, bytes; the format's own limit.
pub(super) const SNAPPY_BLOCK: usize = 64 << 10;

/// Why compressed bytes of the peer cannot be read.
///
/// # Example
/// ```
/// use nsq_protocol::{DecompressError, Error};
///
/// /// Whether an nsqd sent bytes that its compression does not allow, or a network changed them.
/// fn is_damaged(error: &Error) -> bool {
///     matches!(error, Error::Decompress { source: DecompressError::Damaged { .. }, .. })
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecompressError {
    /// The stream does not begin with snappy's identifier.
    #[error("the snappy stream begins with the chunk type {kind:#04x}, not with its identifier")]
    NoIdentifier {
        /// What came instead.
        kind: u8,
    },
    /// A chunk of a type that a decoder must not skip.
    #[error("a snappy chunk of the unknown type {kind:#04x}")]
    UnknownChunk {
        /// Its type.
        kind: u8,
    },
    /// A chunk whose length its type does not allow. It was not waited for.
    #[error("a snappy chunk of type {kind:#04x} with {len} bytes: {min} to {max} are allowed")]
    ChunkLength {
        /// Its type.
        kind: u8,
        /// What was announced.
        len: usize,
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// The bytes are not what the format allows, or a checksum does not match.
    #[error("damaged {format} data: {detail}")]
    Damaged {
        /// "snappy" or "deflate".
        format: &'static str,
        /// The decoder's words.
        detail: String,
    },
    /// The deflate stream says that it is over, while the connection goes on.
    #[error("the deflate stream ends before the connection does")]
    Ended,
}
