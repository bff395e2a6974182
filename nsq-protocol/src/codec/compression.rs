//! Snappy and deflate, both ways: bytes go in, bytes come out, with a limit on everything that is kept (pure).
//!
//! What is decoded is handed out at once, never kept back until more comes; what is written is flushed with each
//! write, so that the peer can decode all of it. The decoded stream can be far longer than the coded one, but it
//! leaves here piece by piece, into the frame decoder, which refuses a frame over its own limit.

use std::io::{self, Read, Write};

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

/// How a connection is compressed, each way on its own.
///
/// # Example
/// ```
/// use nsq_protocol::{Compression, ProducerConfig};
///
/// let mut config = ProducerConfig::new().nsqd("127.0.0.1:4150");
/// config.connection.compression = Compression::Snappy;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Snappy's framing format: cheap, about half the bytes of text.
    Snappy,
    /// Raw deflate (RFC 1951): fewer bytes for more work.
    Deflate {
        /// 1 (fast) to 9 (small); nsqd lowers it to its `--max-deflate-level`, 6 by default.
        level: u8,
    },
}

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

/// Bytes of a snappy chunk's type and length.
const CHUNK_HEAD: usize = 4;

/// What stands in front of a data chunk's content, bytes: its checksum.
const CHECKSUM: usize = 4;

/// The most that a snappy chunk decodes to, bytes; the format's own limit.
const SNAPPY_BLOCK: usize = 64 << 10;

/// The longest compressed chunk, bytes: what a block that does not compress can grow to.
const SNAPPY_COMPRESSED: usize = 76_490;

/// The longest uncompressed chunk, bytes.
const SNAPPY_PLAIN: usize = SNAPPY_BLOCK + CHECKSUM;

/// Snappy's identifier without its head, bytes.
const SNAPPY_IDENTIFIER: usize = 6;

/// Coded snappy bytes that are kept: a whole chunk, and room for a good read behind it.
const SNAPPY_INPUT: usize = 128 << 10;

/// Below this room for a read, what is kept moves to the front.
const SNAPPY_ROOM: usize = 16 << 10;

/// Coded deflate bytes that are kept: one read.
const DEFLATE_INPUT: usize = 32 << 10;

/// The most that [`Compressor::pack`] takes at once, bytes: a snappy block.
pub(crate) const PACK_MAX: usize = SNAPPY_BLOCK;

/// Room that is made for coded bytes at a time; well over the few bytes that zlib wants for a flush.
const PACK_ROOM: usize = 16 << 10;

/// One direction of a connection: compressed bytes in, plain bytes out.
pub(crate) enum Decompressor {
    Snappy(SnappyDecoder),
    Deflate(InflateDecoder),
}

impl Decompressor {
    pub(crate) fn snappy() -> Self {
        Self::Snappy(SnappyDecoder {
            frames: snap::read::FrameDecoder::new(Chunks {
                buf: vec![0; SNAPPY_INPUT],
                start: 0,
                limit: 0,
                end: 0,
            }),
            skip: 0,
            identified: false,
        })
    }

    pub(crate) fn deflate() -> Self {
        Self::Deflate(InflateDecoder {
            inflate: Decompress::new(false),
            buf: vec![0; DEFLATE_INPUT],
            start: 0,
            end: 0,
        })
    }

    /// Where the next coded bytes belong, never empty once [`Decompressor::read`] gave 0.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        match self {
            Self::Snappy(snappy) => snappy.space(),
            Self::Deflate(deflate) => {
                // `read` asks for more only when it has used up everything.
                (deflate.start, deflate.end) = (0, 0);
                &mut deflate.buf
            }
        }
    }

    /// Says that `count` bytes were written to the front of [`Decompressor::space`].
    pub(crate) fn advance(&mut self, count: usize) {
        match self {
            Self::Snappy(snappy) => snappy.frames.get_mut().end += count,
            Self::Deflate(deflate) => deflate.end += count,
        }
    }

    /// Decoded bytes; 0 when more coded ones are needed. `out` must not be empty.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<usize, DecompressError> {
        match self {
            Self::Snappy(snappy) => snappy.read(out),
            Self::Deflate(deflate) => deflate.read(out),
        }
    }
}

/// Whole snappy chunks for the frame decoder, which would lose its place inside of one.
struct Chunks {
    buf: Vec<u8>,
    start: usize,
    /// The end of the last whole chunk that may be decoded.
    limit: usize,
    end: usize,
}

impl Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = (self.limit - self.start).min(out.len());
        out[..count].copy_from_slice(&self.buf[self.start..self.start + count]);
        self.start += count;
        Ok(count)
    }
}

pub(crate) struct SnappyDecoder {
    /// Checks identifier and checksums.
    frames: snap::read::FrameDecoder<Chunks>,
    /// Bytes of a skippable chunk still to come.
    skip: usize,
    identified: bool,
}

impl SnappyDecoder {
    fn space(&mut self) -> &mut [u8] {
        let chunks = self.frames.get_mut();
        if chunks.start == chunks.end || chunks.buf.len() - chunks.end < SNAPPY_ROOM {
            chunks.buf.copy_within(chunks.start..chunks.end, 0);
            (chunks.start, chunks.limit, chunks.end) = (0, 0, chunks.end - chunks.start);
        }
        &mut chunks.buf[chunks.end..]
    }

    fn read(&mut self, out: &mut [u8]) -> Result<usize, DecompressError> {
        loop {
            let damaged = |error: io::Error| DecompressError::Damaged {
                format: "snappy",
                detail: error.to_string(),
            };
            let count = self.frames.read(out).map_err(damaged)?;
            if count > 0 || !self.next_chunk()? {
                return Ok(count);
            }
        }
    }

    /// Lets the frame decoder see one chunk more, once all of it is there.
    fn next_chunk(&mut self) -> Result<bool, DecompressError> {
        let chunks = self.frames.get_mut();
        loop {
            let skipped = self.skip.min(chunks.end - chunks.start);
            chunks.start += skipped;
            chunks.limit = chunks.start;
            self.skip -= skipped;
            let Some(&[kind, l0, l1, l2]) = chunks.buf[chunks.start..chunks.end].first_chunk()
            else {
                return Ok(false);
            };
            let len = u32::from_le_bytes([l0, l1, l2, 0]) as usize;
            if !self.identified && kind != 0xff {
                return Err(DecompressError::NoIdentifier { kind });
            }
            let (min, max) = match kind {
                0x00 => (CHECKSUM, SNAPPY_COMPRESSED),
                0x01 => (CHECKSUM, SNAPPY_PLAIN),
                0xff => (SNAPPY_IDENTIFIER, SNAPPY_IDENTIFIER),
                0x80..=0xfe => {
                    chunks.start += CHUNK_HEAD;
                    self.skip = len;
                    continue;
                }
                kind => return Err(DecompressError::UnknownChunk { kind }),
            };
            if !(min..=max).contains(&len) {
                return Err(DecompressError::ChunkLength { kind, len, min, max });
            }
            // Its content is checked by the frame decoder.
            self.identified = true;
            let limit = chunks.start + CHUNK_HEAD + len;
            if limit > chunks.end {
                return Ok(false);
            }
            chunks.limit = limit;
            return Ok(true);
        }
    }
}

pub(crate) struct InflateDecoder {
    inflate: Decompress,
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl InflateDecoder {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, DecompressError> {
        loop {
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            // Also without input: what did not fit into the last `out` is inside the decoder.
            let status = self
                .inflate
                .decompress(&self.buf[self.start..self.end], out, FlushDecompress::Sync)
                .map_err(|error| damaged_deflate(error.to_string()))?;
            let read = (self.inflate.total_in() - read) as usize;
            self.start += read;
            let written = (self.inflate.total_out() - written) as usize;
            if written > 0 {
                return Ok(written);
            }
            if status == Status::StreamEnd {
                return Err(DecompressError::Ended);
            }
            if self.start == self.end {
                return Ok(0);
            }
            if read == 0 {
                return Err(damaged_deflate("the decoder does not go on".to_owned()));
            }
        }
    }
}

fn damaged_deflate(detail: String) -> DecompressError {
    DecompressError::Damaged { format: "deflate", detail }
}

/// The other direction: plain bytes in, compressed bytes out.
pub(crate) enum Compressor {
    Snappy(Box<snap::write::FrameEncoder<Vec<u8>>>),
    Deflate(Compress, Vec<u8>),
}

impl Compressor {
    pub(crate) fn snappy() -> Self {
        Self::Snappy(Box::new(snap::write::FrameEncoder::new(Vec::new())))
    }

    /// `level` is 1 to 9.
    pub(crate) fn deflate(level: u8) -> Self {
        let level = flate2::Compression::new(u32::from(level.clamp(1, 9)));
        Self::Deflate(Compress::new(level, false), Vec::new())
    }

    /// Codes `part`, at most [`PACK_MAX`] bytes; with `flush`, so that the peer can decode all of it. The snappy
    /// identifier comes with the first chunk: some peers mishandle a read that decodes to nothing.
    pub(crate) fn pack(&mut self, part: &[u8], flush: bool) -> io::Result<&[u8]> {
        debug_assert!(part.len() <= PACK_MAX, "{} bytes at once", part.len());
        match self {
            Self::Snappy(frames) => {
                frames.get_mut().clear();
                frames.write_all(part)?;
                frames.flush()?;
                Ok(frames.get_ref())
            }
            Self::Deflate(deflate, out) => {
                out.clear();
                deflate_all(deflate, part, flush, out)?;
                Ok(out)
            }
        }
    }
}

fn deflate_all(
    deflate: &mut Compress,
    mut part: &[u8],
    flush: bool,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let flush = if flush { FlushCompress::Sync } else { FlushCompress::None };
    loop {
        out.reserve(PACK_ROOM);
        let before = deflate.total_in();
        deflate.compress_vec(part, out, flush).map_err(io::Error::other)?;
        part = &part[(deflate.total_in() - before) as usize..];
        // Room left over: the coder had nothing more to say.
        if part.is_empty() && out.len() < out.capacity() {
            return Ok(());
        }
    }
}

/// For the fuzz targets: decodes a snappy stream that comes in slices of at most `step` bytes into a buffer of
/// `room` bytes, until it is used up or `limit` bytes came out.
#[doc(hidden)]
pub fn fuzz_snappy(
    wire: &[u8],
    step: usize,
    room: usize,
    limit: usize,
) -> Result<Vec<u8>, DecompressError> {
    decode(Decompressor::snappy(), wire, step, room, limit)
}

/// As [`fuzz_snappy`], for deflate.
#[doc(hidden)]
pub fn fuzz_deflate(
    wire: &[u8],
    step: usize,
    room: usize,
    limit: usize,
) -> Result<Vec<u8>, DecompressError> {
    decode(Decompressor::deflate(), wire, step, room, limit)
}

fn decode(
    mut decompressor: Decompressor,
    wire: &[u8],
    step: usize,
    room: usize,
    limit: usize,
) -> Result<Vec<u8>, DecompressError> {
    let (mut plain, mut out) = (Vec::new(), vec![0; room.max(1)]);
    for mut part in wire.chunks(step.max(1)) {
        while !part.is_empty() {
            let space = decompressor.space();
            let count = space.len().min(part.len());
            assert!(count > 0, "room for more was promised");
            space[..count].copy_from_slice(&part[..count]);
            decompressor.advance(count);
            part = &part[count..];
            loop {
                let count = decompressor.read(&mut out)?;
                plain.extend_from_slice(&out[..count]);
                if count == 0 {
                    break;
                }
                if plain.len() >= limit {
                    return Ok(plain);
                }
            }
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests;
