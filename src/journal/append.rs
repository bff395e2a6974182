//! The journal as its owner writes it: frames gather in a buffer, a commit is one write.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::config::{JournalConfig, Position, SyncPolicy};
use super::disk::{Disk, write_all};
use super::error::JournalError;
use super::frame::{FRAME_LEN, FRAMES_AT, Frame, Mark};
use super::prepare::NextSegment;
use super::segment::{ClosedSegment, Segment};

/// A buffer with more room than this gives it back: a broker has thousands of journals.
const BUFFER_KEEP: usize = 256 << 10;

/// A journal that is written.
pub struct Journal {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) config: JournalConfig,
    /// Every segment from the oldest that is needed to the present one, with the number of its first frame.
    pub(super) segments: VecDeque<(Segment, u64)>,
    /// The next segment.
    pub(super) ahead: Arc<NextSegment>,
    /// Held while an upkeep is run: there may be several. True once the journal
    /// has ended: the files may be somebody else's.
    pub(super) upkeep: Arc<Mutex<bool>>,
    /// Segments that have an end and are not known to be on the disk.
    pub(super) closed: Vec<ClosedSegment>,
    /// Numbers of segments that nobody needs and that are still there, oldest first.
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

    /// Bytes of its files, the segment that is made ready included.
    pub fn size(&self) -> u64 {
        (self.segments.len() as u64 + 1) * self.config.segment_bytes
    }

    /// Appends a frame to the buffer; its number. It is durable after the next [`Journal::commit`].
    ///
    /// # Errors
    /// The payload is empty or too large: nothing has changed. Or the buffer was full, and could not be written: then all
    /// that was appended since the last commit is gone.
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
        let seed = self.current().seed;
        Frame { number, synced_below: self.synced, payload }.encode(seed, &mut self.buffer);
        self.next += 1;
        Ok(number)
    }

    /// Makes what was appended durable. After an error nothing of it is: it is not there after a start, or not to be
    /// relied on, and its numbers are given again.
    ///
    /// # Errors
    /// The operating system's; or the files were removed or covered. Also where an append or a commit before has failed
    /// and nothing was appended since: what it was to make durable is gone.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        if self.has_failed {
            return Err(JournalError::Io {
                file: self.current().name.clone(),
                act: "written",
                source: std::io::Error::other("what was appended is gone: an earlier try failed"),
            });
        }
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

    /// Nobody needs what is before this position: its segments are given up with the next [`Upkeep`](super::Upkeep). To be
    /// called when the tables, which have it instead, are on the disk.
    pub fn release(&mut self, before: Position) {
        let before = before.segment.min(self.committed.2);
        while self.segments.front().is_some_and(|(oldest, _)| oldest.number < before) {
            let oldest = self.segments.pop_front();
            self.released.extend(oldest.map(|(oldest, _)| oldest.number));
        }
        // Its file may soon be another segment.
        self.closed.retain(|closed| closed.segment.number >= before);
    }

    /// Holds no segment open but those that it still needs itself: the others stay, to be read from, until
    /// [`Journal::give_up`].
    pub fn detach(&mut self) {
        let before = self.committed.2;
        while self.segments.front().is_some_and(|(oldest, _)| oldest.number < before) {
            self.segments.pop_front();
        }
    }

    /// Nobody needs this segment, which was detached, any more: it goes with the next [`Upkeep`](super::Upkeep).
    pub fn give_up(&mut self, segment: u64) {
        self.closed.retain(|closed| closed.segment.number != segment);
        self.released.push(segment);
    }

    /// Whether there are segments that go with the next [`Upkeep`](super::Upkeep).
    pub fn has_given_up(&self) -> bool {
        !self.released.is_empty()
    }

    /// The number of the segment that is written to, and bytes of it that are.
    pub fn place(&self) -> (u64, u64) {
        (self.current().number, self.offset)
    }

    /// Looks whether every segment that is needed still has its name: some microseconds. A commit looks at its own.
    ///
    /// # Errors
    /// One has not: the directory was removed or covered, or a file in it.
    pub fn check_in_place(&self) -> Result<(), JournalError> {
        self.segments.iter().try_for_each(|(segment, _)| check_named(&*self.disk, segment))
    }

    pub(super) fn current(&self) -> &Segment {
        // There is one from the start on, and `release` leaves the last.
        &self.segments[self.segments.len() - 1].0
    }

    /// Writes the buffer to the present segment.
    pub(super) fn write_out(&mut self) -> Result<(), JournalError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let current = &self.segments[self.segments.len() - 1].0;
        check_named(&*self.disk, current)?;
        if !self.mark.is_open() {
            let mark = self.mark.opened();
            current.write_mark(mark)?;
            self.mark = mark;
        }
        let frames = self.buffer.len() as u64;
        // Zeros behind the last frame, so that a start can tell its end from a frame that was cut short.
        self.buffer.extend_from_slice(&[0; FRAME_LEN]);
        write_all(&*current.file, &self.buffer, self.offset)
            .map_err(JournalError::io(&current.name, "written"))?;
        self.offset += frames;
        self.written += frames;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEEP);
        Ok(())
    }

    /// Ends the present segment and goes on in the next.
    pub(super) fn switch(&mut self) -> Result<(), JournalError> {
        let current = self.current().clone();
        let ahead = Arc::clone(&self.ahead);
        let mut ahead = ahead.lock();
        // Mostly it is, unless nobody had the time.
        let next = ahead.make_ready()?.clone();
        current.write_end(self.offset, self.next, self.synced)?;
        if self.config.sync == SyncPolicy::Power {
            current.sync()?;
            self.synced = self.next;
        }
        ahead.advance();
        let end = self.offset + FRAME_LEN as u64;
        self.closed.push(ClosedSegment { segment: current, end, next: self.next });
        self.begin(next);
        if self.committed.0 == self.next {
            self.committed = (self.next, self.offset, self.current().number);
        }
        Ok(())
    }

    /// Goes on in a segment that is new.
    fn begin(&mut self, segment: Segment) {
        self.segments.push_back((segment, self.next));
        (self.offset, self.mark) = (FRAMES_AT as u64, Mark::Empty);
    }

    /// Notes a failure: what waits is forgotten.
    pub(super) fn note<T>(&mut self, result: Result<T, JournalError>) -> Result<T, JournalError> {
        if result.is_err() {
            self.has_failed = true;
            self.buffer.clear();
            self.next = self.committed.0;
        }
        result
    }

    /// After a failure: nothing behind the last committed frame counts, so the journal goes on in another segment.
    ///
    /// What the failed commit has left may be there after a start until the mark is written that closes its segment, and
    /// nothing is written elsewhere before. Segments that it had reached into are replaced before that, the last first.
    pub(super) fn heal(&mut self) -> Result<(), JournalError> {
        if !self.has_failed {
            return Ok(());
        }
        let (next, offset, segment) = self.committed;
        let kept = self.segments.partition_point(|(one, _)| one.number <= segment);
        let committed = self.segments[kept - 1].0.clone();
        // Not into another directory that covers this one.
        check_named(&*self.disk, &committed)?;
        // One without a committed frame is replaced itself: a disk that stays broken must not make more and more.
        let is_empty = offset == FRAMES_AT as u64;
        let fresh = self.ahead.lock().replace(segment + u64::from(!is_empty))?;
        if !is_empty {
            let before = self.closed.iter().filter(|closed| closed.segment.number < segment);
            for closed in before {
                closed.settle(&*self.disk)?;
            }
            committed.settle(offset, next)?;
            self.synced = next;
        }
        self.segments.truncate(kept - usize::from(is_empty));
        self.closed.retain(|closed| is_empty && closed.segment.number < segment);
        (self.next, self.synced) = (next, self.synced.min(next));
        self.begin(fresh);
        self.has_failed = false;
        self.committed = (self.next, self.offset, self.current().number);
        Ok(())
    }
}

/// Whether the segment's name still leads to it: what is written to a directory that was removed or covered is lost.
fn check_named(disk: &dyn Disk, segment: &Segment) -> Result<(), JournalError> {
    let is_named = disk.is_named(&segment.name, &*segment.file);
    match is_named.map_err(JournalError::io(&segment.name, "found"))? {
        true => Ok(()),
        false => Err(JournalError::Gone { file: segment.name.clone() }),
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
