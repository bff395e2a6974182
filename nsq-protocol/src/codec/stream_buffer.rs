//! The buffer between a socket and a decoder: bytes go in behind, whole frames or commands come out in front (pure).

/// Bytes of a stream that are read but not yet decoded.
///
/// A buffer of `at_rest` bytes; something larger grows it, for as long as that is being read.
#[derive(Debug)]
pub(crate) struct StreamBuffer {
    /// All initialised, because a socket reads into it; the bytes not yet decoded lie in `start..end`.
    buf: Vec<u8>,
    start: usize,
    end: usize,
    at_rest: usize,
}

impl StreamBuffer {
    /// An empty buffer.
    pub(crate) fn new(at_rest: usize) -> Self {
        Self { buf: vec![0; at_rest], start: 0, end: 0, at_rest }
    }

    /// Changes the size at rest; a larger one at once.
    pub(crate) fn set_at_rest(&mut self, bytes: usize) {
        self.at_rest = bytes;
        if self.buf.len() < bytes {
            self.buf.resize(bytes, 0);
        }
    }

    /// Where the next bytes belong: never empty, at most the rest of what `wanted` bytes from the first undecoded one on are, or
    /// what a buffer at rest holds. So what comes behind something large is never much, whatever the peer sends.
    pub(crate) fn space(&mut self, wanted: usize) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buf.len() > self.at_rest {
                self.buf = vec![0; self.at_rest];
            }
        }
        // A read into the last few bytes of the buffer would be a system call for little.
        let least = (self.at_rest / 4).max(1);
        if self.start + wanted.max(least) > self.buf.len() || self.end == self.buf.len() {
            self.buf.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.buf.len() - self.end < least {
                // It grows by what has come, not by what is announced: a few bytes cost no megabytes.
                let most = wanted.max(self.end + self.at_rest);
                self.buf.resize(most.min(2 * self.buf.len()).max(self.end + 1), 0);
            }
        }
        let until = (self.start + wanted).max(self.end + self.at_rest);
        let until = until.min(self.buf.len());
        &mut self.buf[self.end..until]
    }

    /// Says that `count` bytes were written to the front of the space; panics where it has fewer.
    #[track_caller]
    pub(crate) fn advance(&mut self, count: usize) {
        let space = self.buf.len() - self.end;
        assert!(count <= space, "advanced by {count} bytes in a space of {space}");
        self.end += count;
    }

    /// Adds `bytes` as a socket would, a read at a time; `wanted` tells from what is pending how much each needs.
    pub(crate) fn push(&mut self, mut bytes: &[u8], wanted: impl Fn(&[u8]) -> usize) {
        while !bytes.is_empty() {
            let space = self.space(wanted(self.pending()));
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.advance(count);
            bytes = &bytes[count..];
        }
    }

    /// The bytes not yet decoded.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Takes `count` of the pending bytes away and returns them.
    pub(crate) fn take(&mut self, count: usize) -> &[u8] {
        let start = self.start;
        self.start = (start + count).min(self.end);
        &self.buf[start..self.start]
    }

    /// Bytes that it costs now.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.buf.len()
    }
}
