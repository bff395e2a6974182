//! Raw deflate (pure).

use std::io;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::decompress_error::DecompressError;

/// Coded deflate bytes that are kept: one read.
const DEFLATE_INPUT: usize = 32 << 10;

/// Room that is made for coded bytes at a time; well over the few bytes that zlib wants for a flush.
const PACK_ROOM: usize = 16 << 10;

pub(crate) struct InflateDecoder {
    inflate: Decompress,
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl InflateDecoder {
    pub(super) fn new() -> Self {
        Self { inflate: Decompress::new(false), buf: vec![0; DEFLATE_INPUT], start: 0, end: 0 }
    }

    pub(super) fn space(&mut self) -> &mut [u8] {
        // `read` asks for more only when it has used up everything.
        (self.start, self.end) = (0, 0);
        &mut self.buf
    }

    pub(super) fn advance(&mut self, count: usize) {
        self.end += count;
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, DecompressError> {
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

pub(super) fn deflate_all(
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
