//! Snappy and deflate, both ways: bytes go in, bytes come out, with a limit on everything that is kept (pure).
//!
//! What is decoded is handed out at once, never kept back until more comes; what is written is flushed with each
//! write, so that the peer can decode all of it. The decoded stream can be far longer than the coded one, but it
//! leaves here piece by piece, into the frame decoder, which refuses a frame over its own limit.

pub(crate) mod decompress_error;
#[cfg(feature = "deflate")]
mod deflate;
#[cfg(feature = "snappy")]
mod snappy;

#[cfg(feature = "snappy")]
use std::io::Write as _;

use self::decompress_error::{DecompressError, SNAPPY_BLOCK};
#[cfg(feature = "deflate")]
use self::deflate::{InflateDecoder, deflate_all};
#[cfg(feature = "snappy")]
use self::snappy::SnappyDecoder;

/// How a connection is compressed, each way on its own.
///
/// # Example
/// ```
/// use nsq_protocol::{Compression, ProducerConfig};
///
/// let config = ProducerConfig::new().nsqd("127.0.0.1:4150").compression(Compression::Snappy);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Snappy's framing format: cheap, about half the bytes of text.
    #[cfg(feature = "snappy")]
    Snappy,
    /// Raw deflate (RFC 1951): fewer bytes for more work.
    #[cfg(feature = "deflate")]
    Deflate {
        /// 1 (fast) to 9 (small); nsqd lowers it to its `--max-deflate-level`, 6 by default.
        level: u8,
    },
}

impl Compression {
    /// The level of deflate; `None` for another compression.
    pub(crate) fn deflate_level(self) -> Option<u8> {
        match self {
            #[cfg(feature = "deflate")]
            Self::Deflate { level } => Some(level),
            _ => None,
        }
    }

    /// Whether it is snappy.
    pub(crate) fn is_snappy(self) -> bool {
        match self {
            #[cfg(feature = "snappy")]
            Self::Snappy => true,
            _ => false,
        }
    }
}

/// The most that [`Compressor::pack`] takes at once, bytes: a snappy block.
pub(crate) const PACK_MAX: usize = SNAPPY_BLOCK;

/// One direction of a connection: compressed bytes in, plain bytes out.
pub(crate) enum Decompressor {
    #[cfg(feature = "snappy")]
    Snappy(SnappyDecoder),
    #[cfg(feature = "deflate")]
    Deflate(InflateDecoder),
}

#[cfg_attr(
    not(any(feature = "snappy", feature = "deflate")),
    allow(unused_variables, reason = "there is none")
)]
impl Decompressor {
    #[cfg(feature = "snappy")]
    pub(crate) fn snappy() -> Self {
        Self::Snappy(SnappyDecoder::new())
    }

    #[cfg(feature = "deflate")]
    pub(crate) fn deflate() -> Self {
        Self::Deflate(InflateDecoder::new())
    }

    /// Where the next coded bytes belong, never empty once [`Decompressor::read`] gave 0.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        match *self {
            #[cfg(feature = "snappy")]
            Self::Snappy(ref mut snappy) => snappy.space(),
            #[cfg(feature = "deflate")]
            Self::Deflate(ref mut deflate) => deflate.space(),
        }
    }

    /// Says that `count` bytes were written to the front of [`Decompressor::space`].
    pub(crate) fn advance(&mut self, count: usize) {
        match *self {
            #[cfg(feature = "snappy")]
            Self::Snappy(ref mut snappy) => snappy.advance(count),
            #[cfg(feature = "deflate")]
            Self::Deflate(ref mut deflate) => deflate.advance(count),
        }
    }

    /// Decoded bytes; 0 when more coded ones are needed. `out` must not be empty.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<usize, DecompressError> {
        match *self {
            #[cfg(feature = "snappy")]
            Self::Snappy(ref mut snappy) => snappy.read(out),
            #[cfg(feature = "deflate")]
            Self::Deflate(ref mut deflate) => deflate.read(out),
        }
    }
}

/// The other direction: plain bytes in, compressed bytes out.
pub(crate) enum Compressor {
    #[cfg(feature = "snappy")]
    Snappy(Box<snap::write::FrameEncoder<Vec<u8>>>),
    #[cfg(feature = "deflate")]
    Deflate(flate2::Compress, Vec<u8>),
}

#[cfg_attr(
    not(feature = "deflate"),
    allow(unused_variables, reason = "snappy is always flushed, and nothing codes nothing")
)]
impl Compressor {
    #[cfg(feature = "snappy")]
    pub(crate) fn snappy() -> Self {
        Self::Snappy(Box::new(snap::write::FrameEncoder::new(Vec::new())))
    }

    /// `level` is 1 to 9.
    #[cfg(feature = "deflate")]
    pub(crate) fn deflate(level: u8) -> Self {
        let level = flate2::Compression::new(u32::from(level.clamp(1, 9)));
        Self::Deflate(flate2::Compress::new(level, false), Vec::new())
    }

    /// Codes `part`, at most [`PACK_MAX`] bytes; with `flush`, so that the peer can decode all of it. The snappy
    /// identifier comes with the first chunk: some peers mishandle a read that decodes to nothing.
    pub(crate) fn pack(&mut self, part: &[u8], flush: bool) -> std::io::Result<&[u8]> {
        debug_assert!(part.len() <= PACK_MAX, "{} bytes at once", part.len());
        match *self {
            #[cfg(feature = "snappy")]
            Self::Snappy(ref mut frames) => {
                frames.get_mut().clear();
                frames.write_all(part)?;
                frames.flush()?;
                Ok(frames.get_ref())
            }
            #[cfg(feature = "deflate")]
            Self::Deflate(ref mut deflate, ref mut out) => {
                out.clear();
                deflate_all(deflate, part, flush, out)?;
                Ok(out)
            }
        }
    }
}

/// For the fuzz targets: decodes a snappy stream that comes in slices of at most `step` bytes into a buffer of
/// `room` bytes, until it is used up or `limit` bytes came out.
#[cfg(feature = "unstable-internals")]
pub fn fuzz_snappy(
    wire: &[u8],
    step: usize,
    room: usize,
    limit: usize,
) -> Result<Vec<u8>, DecompressError> {
    decode(Decompressor::snappy(), wire, step, room, limit)
}

/// As [`fuzz_snappy`], for deflate.
#[cfg(feature = "unstable-internals")]
pub fn fuzz_deflate(
    wire: &[u8],
    step: usize,
    room: usize,
    limit: usize,
) -> Result<Vec<u8>, DecompressError> {
    decode(Decompressor::deflate(), wire, step, room, limit)
}

#[cfg(feature = "unstable-internals")]
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
