//! The journal as its owner writes it: frames gather in a buffer, a commit is one write.

use std::collections::VecDeque;
use std::sync::Arc;

use super::config::{JournalConfig, Position, SyncPolicy};
use super::disk::{Disk, write_all};
use super::error::JournalError;
use super::frame::{FRAME_LEN, FRAMES_AT, Frame, Mark};
use super::segment::{ClosedSegment, Segment, prepare};

/// A journal that is written.
pub struct Journal {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) config: JournalConfig,
    /// Every segment from the oldest that is needed to the present one, with the number of its first frame.
    pub(super) segments: VecDeque<(Segment, u64)>,
    /// The next segment, made ready.
    pub(super) prepared: Option<Segment>,
    /// Segments that have an end and are not known to be on the disk.
    pub(super) closed: Vec<ClosedSegment>,
    /// Numbers of segments that nobody needs, oldest first.
    pub(super) released: Vec<u64>,
    /// The mark of the present segment.
    pub(super) mark: Mark,
    /// Where the next write to it goes.
    pub(super) offset: u64,
    /// The number of the next frame.
    pub(super) next: u64,
    /// All below are on the disk.
    pub(super) synced: u64,
    /// What `next` and `offset` were at the newest commit, and the segment's number.
    pub(super) committed: (u64, u64, u64),
    /// Frames that wait for a commit.
    pub(super) buffer: Vec<u8>,
    /// Bytes of frames since it was opened.
    pub(super) written: u64,
    /// The newest commit failed: what lies behind the last committed frame is not to be trusted.
    pub(super) has_failed: bool,
}

impl Journal {
    /// The number of the frame that is appended next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Where a start must read from to get the frames from `number` on; at most the next one's.
    pub fn position(&self, number: u64) -> Position {
        let at = self.segments.partition_point(|(_, first)| *first <= number);
        let segment = self.segments.get(at.saturating_sub(1)).map_or(0, |(found, _)| found.number);
        Position { segment, number }
    }

    /// Bytes of frames that were written since it was opened.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes of its files.
    pub fn size(&self) -> u64 {
        let segments = self.segments.len() + usize::from(self.prepared.is_some());
        segments as u64 * self.config.segment_bytes
    }

    /// Appends a frame to the buffer; its number. It is durable after the next [`Journal::commit`].
    ///
    /// # Errors
    /// The payload is empty or too large; or the buffer was full, and could not be written.
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, JournalError> {
        let (bytes, most) = (payload.len(), self.config.payload_max());
        if bytes == 0 || bytes > most {
            return Err(JournalError::TooLarge { bytes, most });
        }
        self.heal()?;
        // Behind it there must be room for the end, and for the zeros.
        let needed = self.buffer.len() + FRAME_LEN + bytes + 2 * FRAME_LEN;
        if self.offset + needed as u64 > self.config.segment_bytes {
            let done = self.write_out().and_then(|()| self.switch());
            self.note(done)?;
        }
        let number = self.next;
        let frame = Frame { number, synced_below: self.synced, payload };
        frame.encode(self.current().seed, &mut self.buffer);
        self.next += 1;
        Ok(number)
    }

    /// Makes what was appended durable. After an error nothing of it is: it is not there after a start, or not to be
    /// relied on, and its numbers are given again.
    ///
    /// # Errors
    /// The operating system's; or the files were removed or covered.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        self.heal()?;
        let done = self.write_out().and_then(|()| match self.config.sync {
            SyncPolicy::Power if self.synced < self.next => {
                self.current().sync()?;
                self.synced = self.next;
                Ok(())
            }
            _ => Ok(()),
        });
        self.note(done)?;
        self.committed = (self.next, self.offset, self.current().number);
        Ok(())
    }

    /// Appends a frame and commits; its number.
    ///
    /// # Errors
    /// As the two.
    pub fn put(&mut self, payload: &[u8]) -> Result<u64, JournalError> {
        let number = self.append(payload)?;
        self.commit()?;
        Ok(number)
    }

    /// Nobody needs what is before this position: its segments are given up with the next [`Upkeep`]. To be called when
    /// the tables, which have it instead, are on the disk.
    pub fn release(&mut self, before: Position) {
        while self.segments.front().is_some_and(|(oldest, _)| oldest.number < before.segment)
            && self.segments.len() > 1
        {
            let oldest = self.segments.pop_front();
            self.released.extend(oldest.map(|(oldest, _)| oldest.number));
        }
    }

    pub(super) fn current(&self) -> &Segment {
        // There is one from the start on, and `release` leaves the last.
        &self.segments[self.segments.len() - 1].0
    }

    /// Writes the buffer to the present segment.
    fn write_out(&mut self) -> Result<(), JournalError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.check_name()?;
        let current = self.current().clone();
        if self.mark != Mark::Open {
            // Before the frames: what lies behind a seal does not count.
            current.write_mark(Mark::Open)?;
            self.mark = Mark::Open;
        }
        let frames = self.buffer.len() as u64;
        // Zeros behind the last frame, so that a start can tell its end from a frame that was cut short.
        self.buffer.extend_from_slice(&[0; FRAME_LEN]);
        write_all(&*current.file, &self.buffer, self.offset)
            .map_err(JournalError::io(&current.name, "written"))?;
        self.offset += frames;
        self.written += frames;
        self.buffer.clear();
        Ok(())
    }

    /// Goes on if the present segment is still the file that its name leads to.
    fn check_name(&self) -> Result<(), JournalError> {
        let Segment { name, file, .. } = self.current();
        match self.disk.is_named(name, &**file).map_err(JournalError::io(name, "found"))? {
            true => Ok(()),
            false => Err(JournalError::Gone { file: name.clone() }),
        }
    }

    /// Ends the present segment and goes on in the next.
    fn switch(&mut self) -> Result<(), JournalError> {
        let current = self.current().clone();
        let next = match self.prepared.take() {
            Some(prepared) => prepared,
            // Nobody has made it ready in time.
            None => prepare(&*self.disk, &self.config, current.number + 1)?,
        };
        current.write_end(self.offset, self.next, self.synced)?;
        if self.config.sync == SyncPolicy::Power {
            current.sync()?;
            self.synced = self.next;
        }
        let end = self.offset + FRAME_LEN as u64;
        self.closed.push(ClosedSegment { segment: current, end, next: self.next });
        self.segments.push_back((next, self.next));
        (self.offset, self.mark) = (FRAMES_AT as u64, Mark::Empty);
        Ok(())
    }

    /// Notes a failure: what waits is forgotten.
    fn note<T>(&mut self, result: Result<T, JournalError>) -> Result<T, JournalError> {
        if result.is_err() {
            self.has_failed = true;
            self.buffer.clear();
        }
        result
    }

    /// After a failure: nothing behind the last committed frame counts, so the journal goes on in another segment. What
    /// fsync has said once it need not say again.
    fn heal(&mut self) -> Result<(), JournalError> {
        if !self.has_failed {
            return Ok(());
        }
        // Or the next segment would be begun in a directory that is another one.
        self.check_name()?;
        let (next, offset, segment) = self.committed;
        if self.current().number != segment {
            // The failed commit had reached into another segment already. No commit of ours that goes on is so large.
            return Err(JournalError::Io {
                file: self.current().name.clone(),
                act: "gone on with",
                source: std::io::Error::other("a commit over two segments has failed before"),
            });
        }
        (self.next, self.offset) = (next, offset);
        self.synced = self.synced.min(next);
        self.switch()?;
        self.has_failed = false;
        self.committed = (self.next, self.offset, self.current().number);
        Ok(())
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("next", &self.next)
            .field("synced", &self.synced)
            .field("offset", &self.offset)
            .field("segments", &self.segments.len())
            .finish_non_exhaustive()
    }
}
