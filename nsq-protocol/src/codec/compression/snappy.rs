//! Snappy's framing format (pure).

use std::io::{self, Read};

use super::decompress_error::{DecompressError, SNAPPY_BLOCK};

/// Bytes of a snappy chunk's type and length.
const CHUNK_HEAD: usize = 4;

/// What stands in front of a data chunk's content, bytes: its checksum.
const CHECKSUM: usize = 4;

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
    pub(super) fn new() -> Self {
        Self {
            frames: snap::read::FrameDecoder::new(Chunks {
                buf: vec![0; SNAPPY_INPUT],
                start: 0,
                limit: 0,
                end: 0,
            }),
            skip: 0,
            identified: false,
        }
    }

    pub(super) fn space(&mut self) -> &mut [u8] {
        let chunks = self.frames.get_mut();
        if chunks.start == chunks.end || chunks.buf.len() - chunks.end < SNAPPY_ROOM {
            chunks.buf.copy_within(chunks.start..chunks.end, 0);
            (chunks.start, chunks.limit, chunks.end) = (0, 0, chunks.end - chunks.start);
        }
        &mut chunks.buf[chunks.end..]
    }

    pub(super) fn advance(&mut self, count: usize) {
        self.frames.get_mut().end += count;
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, DecompressError> {
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
