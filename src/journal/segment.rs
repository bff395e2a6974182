//! A segment's file: its name, its mark, and how it gets to the disk.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::{Disk, DiskFile, read_whole, write_all};
use super::error::JournalError;
use super::frame::{FRAME_LEN, FRAMES_AT, Frame, MARK_AT, MARK_LEN, Mark, SegmentHead};
use super::scan::scan;

/// What ends the name of a segment.
const SUFFIX: &str = ".segment";

/// A segment that is open.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) number: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) seed: u32,
    /// A sync of it has failed, or may have: then the system may hold what it has never written, and say the next time
    /// that all is on the disk. Only writing it again helps.
    is_doubtful: Arc<AtomicBool>,
}

/// A segment that has an end and is not known to be on the disk.
#[derive(Clone)]
pub(super) struct ClosedSegment {
    pub(super) segment: Segment,
    /// The offset behind its end.
    pub(super) end: u64,
    /// The number of the next segment's first frame.
    pub(super) next: u64,
}

impl Segment {
    /// A segment that has this head.
    pub(super) fn new(head: &SegmentHead, file: Arc<dyn DiskFile>) -> Self {
        let is_doubtful = Arc::default();
        let (number, seed) = (head.segment, head.seed());
        Self { name: segment_name(number), number, file, seed, is_doubtful }
    }

    /// Opens a segment of an earlier start that has this head.
    pub(super) fn open(disk: &dyn Disk, head: &SegmentHead) -> Result<Self, JournalError> {
        let name = segment_name(head.segment);
        let file = disk.open(&name).map_err(JournalError::io(&name, "opened"))?;
        Ok(Self::new(head, file))
    }

    /// Takes note that a sync of it has failed, or may have.
    pub(super) fn doubt(&self) {
        self.is_doubtful.store(true, Ordering::SeqCst);
    }

    /// Whether a sync of it has failed, or may have.
    pub(super) fn is_doubtful(&self) -> bool {
        self.is_doubtful.load(Ordering::SeqCst)
    }

    /// Writes the mark.
    pub(super) fn write_mark(&self, mark: Mark) -> Result<(), JournalError> {
        let bytes: [u8; MARK_LEN] = mark.encode(self.seed);
        write_all(&*self.file, &bytes, MARK_AT as u64)
            .map_err(JournalError::io(&self.name, "written"))
    }

    /// Writes the end behind the last frame: what follows is in the next segment, which must be there.
    pub(super) fn write_end(
        &self,
        offset: u64,
        next: u64,
        synced_below: u64,
    ) -> Result<(), JournalError> {
        let mut bytes = Vec::with_capacity(2 * FRAME_LEN);
        Frame { number: next, synced_below, payload: &[] }.encode(self.seed, &mut bytes);
        bytes.extend_from_slice(&[0; FRAME_LEN]);
        write_all(&*self.file, &bytes, offset).map_err(JournalError::io(&self.name, "written"))
    }

    /// Returns when all that was written is on the disk.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        let act = "written to the disk";
        if self.is_doubtful() {
            let source = std::io::Error::other("an earlier try has failed");
            return Err(JournalError::io(&self.name, act)(source));
        }
        let done = self.file.sync();
        if done.is_err() {
            self.doubt();
        }
        done.map_err(JournalError::io(&self.name, act))
    }

    /// Gets all up to `end` to the disk, and a mark that says so and that the next segment, which must be there, goes on
    /// with frame `next`. Segments before it must have been settled. May be done again.
    pub(super) fn settle(&self, end: u64, next: u64) -> Result<(), JournalError> {
        if self.is_doubtful() {
            self.write_again(end)?;
            self.is_doubtful.store(false, Ordering::SeqCst);
        }
        self.sync()?;
        self.write_mark(Mark::Closed { end, next })?;
        // What follows must not be on the disk without it: what lies behind `end` would count again.
        self.sync()
    }

    /// Writes the frames up to `end` once more.
    fn write_again(&self, end: u64) -> Result<(), JournalError> {
        let bytes = read_whole(&*self.file, end).map_err(JournalError::io(&self.name, "read"))?;
        let Ok(found) = scan::<Infallible>(&bytes, self.seed, None, Some(end), |_, _| Ok(()));
        if found.end as u64 != end {
            return Err(JournalError::Damaged {
                file: self.name.clone(),
                offset: found.end as u64,
                what: format!("what was written up to {end} cannot be read again"),
            });
        }
        write_all(&*self.file, &bytes[FRAMES_AT..], FRAMES_AT as u64)
            .map_err(JournalError::io(&self.name, "written"))?;
        self.write_mark(Mark::OPEN)
    }
}

impl ClosedSegment {
    /// See [`Segment::settle`]. One that was given up meanwhile is left alone: its file may be another segment.
    pub(super) fn settle(&self, disk: &dyn Disk) -> Result<(), JournalError> {
        let Self { segment, end, next } = self;
        let is_named = disk.is_named(&segment.name, &*segment.file);
        match is_named.map_err(JournalError::io(&segment.name, "found"))? {
            true => segment.settle(*end, *next),
            false => segment.sync(),
        }
    }
}

/// The numbers of the segments that are there, in their order.
///
/// # Errors
/// The operating system's.
pub fn segments(disk: &dyn Disk) -> Result<Vec<u64>, JournalError> {
    let names = disk.list().map_err(JournalError::io("the journal's directory", "read"))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Up to where there is something in a segment, in bytes, as far as the file system can tell; 0 where it is missing.
///
/// # Errors
/// The operating system's.
pub fn segment_data(disk: &dyn Disk, number: u64) -> Result<u64, JournalError> {
    let name = segment_name(number);
    match disk.open(&name).and_then(|file| file.data_end()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        end => end.map_err(JournalError::io(&name, "read")),
    }
}

/// The name of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:010}{SUFFIX}")
}

/// The number of the segment with that name; `None`: it is none.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}
