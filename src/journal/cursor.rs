//! Reads single segments beside the one who writes them, a piece at a time: for whoever keeps in a journal what is too much
//! for memory. Writes nothing.

use std::sync::Arc;

use super::disk::{Disk, DiskFile, read_full};
use super::error::JournalError;
use super::frame::{FRAME_LEN, FRAMES_AT, Frame, MARK_AT, MARK_LEN, Mark, SegmentHead};
use super::segment::segment_name;

/// Bytes that are read at a time; a frame that is larger is read whole.
const READ: usize = 256 << 10;

/// The frames of one segment, in their order, from some offset on.
pub struct FrameReader {
    file: Arc<dyn DiskFile>,
    name: String,
    seed: u32,
    size: u64,
    /// Nothing behind it counts.
    limit: u64,
    /// Where in the file `bytes[from..]` begins.
    at: u64,
    bytes: Vec<u8>,
    from: usize,
}

/// What follows in a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum FrameStep<'a> {
    /// A frame: its offset, its number, its payload.
    Frame(u64, u64, &'a [u8]),
    /// The segment's end: the next one goes on.
    End,
    /// No frame: nothing was written yet, or it is damaged.
    Nothing,
}

impl FrameReader {
    /// Opens a segment to read its frames from the one at `offset` on, 0: the first.
    ///
    /// # Errors
    /// It is not there, it cannot be read, or it is no segment of that number.
    pub fn open(disk: &dyn Disk, segment: u64, offset: u64) -> Result<Self, JournalError> {
        let name = segment_name(segment);
        let file = disk.open(&name).map_err(JournalError::io(&name, "opened"))?;
        let mut page = vec![0; FRAMES_AT];
        let read = read_full(&*file, &mut page, 0).map_err(JournalError::io(&name, "read"))?;
        let damaged = |offset: usize, what: &str| JournalError::Damaged {
            file: name.clone(),
            offset: offset as u64,
            what: what.to_owned(),
        };
        let head = SegmentHead::decode(&page[..read])
            .ok()
            .filter(|head| head.segment == segment)
            .ok_or_else(|| damaged(0, "its head does not fit"))?;
        let mark = page[MARK_AT..].first_chunk::<MARK_LEN>();
        let mark = mark.and_then(|mark| Mark::decode(mark, head.seed()));
        let limit = match mark {
            // What a commit has left that failed may lie behind it.
            Some(Mark::Closed { end, .. }) => end,
            // One that is being written at this moment limits nothing: it is no closed one.
            _ => u64::MAX,
        };
        let at = offset.max(FRAMES_AT as u64);
        Ok(Self {
            file,
            seed: head.seed(),
            size: head.size,
            limit,
            name,
            at,
            bytes: Vec::new(),
            from: 0,
        })
    }

    /// The offset of the frame that follows.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// The next frame.
    ///
    /// # Errors
    /// The operating system's.
    pub fn step(&mut self) -> Result<FrameStep<'_>, JournalError> {
        if self.at >= self.limit {
            return Ok(FrameStep::End);
        }
        if self.bytes.len() - self.from < FRAME_LEN {
            self.fill(READ)?;
        }
        let mut size = None;
        if let Some(claimed) = Frame::whole_size(&self.bytes[self.from..], self.seed) {
            if self.bytes.len() - self.from < claimed {
                self.fill(claimed.max(READ))?;
            }
            let frame = Frame::decode(&self.bytes[self.from..], self.seed);
            size = frame.map(|frame| (frame.size(), frame.payload.is_empty()));
        }
        let Some((size, is_end)) = size else { return Ok(FrameStep::Nothing) };
        if is_end {
            return Ok(FrameStep::End);
        }
        let (offset, start) = (self.at, self.from);
        self.at += size as u64;
        self.from += size;
        // Decoded above: here only its parts are named, behind the borrow.
        let number = Frame::claimed_number(&self.bytes[start..]).unwrap_or_default();
        Ok(FrameStep::Frame(offset, number, &self.bytes[start + FRAME_LEN..start + size]))
    }

    /// Reads on, so that `wanted` bytes are there if the file has them.
    fn fill(&mut self, wanted: usize) -> Result<(), JournalError> {
        self.bytes.drain(..self.from);
        self.from = 0;
        let have = self.bytes.len();
        let left = self.size.saturating_sub(self.at + have as u64);
        let more = wanted.saturating_sub(have).min(usize::try_from(left).unwrap_or(usize::MAX));
        self.bytes.resize(have + more, 0);
        let read = read_full(&*self.file, &mut self.bytes[have..], self.at + have as u64)
            .map_err(JournalError::io(&self.name, "read"))?;
        self.bytes.truncate(have + read);
        Ok(())
    }
}
