//! Opens a journal to write: after a walk through it, what was there is closed, and a new segment is begun.

use std::collections::VecDeque;
use std::sync::Arc;

use super::append::Journal;
use super::config::{JournalConfig, Position};
use super::disk::{Disk, write_all};
use super::error::JournalError;
use super::frame::{FRAME_LEN, FRAMES_AT, Mark, SegmentHead};
use super::segment::{Segment, give_up, prepare};
use super::walk::{Cut, EachFrame, UsedSegment, Walk, walk};

impl Journal {
    /// Opens a journal, made if `from` is `None`, and calls `each` with every frame from that position on: its number and
    /// its payload. What it returns as an error is damage. Returns what was cut off the end, too.
    ///
    /// # Errors
    /// As [`JournalError`] says: nothing is changed then.
    pub fn open(
        disk: Arc<dyn Disk>,
        config: JournalConfig,
        from: Option<Position>,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), String>,
    ) -> Result<(Self, Option<Cut>), JournalError> {
        open(disk, config, from, &mut each)
    }
}

/// See [`Journal::open`].
fn open(
    disk: Arc<dyn Disk>,
    config: JournalConfig,
    from: Option<Position>,
    each: &mut EachFrame<'_>,
) -> Result<(Journal, Option<Cut>), JournalError> {
    let Walk { used, next, unused, old, dropped, cut } = walk(&*disk, &config, from, each)?;
    let wanted = from.map_or(1, |from| from.number);
    let next = next.unwrap_or(wanted).max(wanted);
    // The last first, so that those that are left always follow each other.
    for number in dropped.iter().rev() {
        give_up(&*disk, *number)?;
    }
    let last = used.last().copied();
    let current = match unused {
        Some(head) => take_over(&*disk, &config, &head)?,
        None => {
            let number =
                last.map_or(from.map_or(1, |from| from.segment), |last| last.head.segment + 1);
            prepare(&*disk, &config, number)?
        }
    };
    if let Some(last) = last.filter(|last| !last.has_end) {
        close(&*disk, &last, next)?;
    }
    let mut segments = VecDeque::with_capacity(used.len() + 1);
    for UsedSegment { head, first, .. } in &used {
        segments.push_back((Segment::open(&*disk, head)?, *first));
    }
    let committed = (next, FRAMES_AT as u64, current.number);
    segments.push_back((current, next));
    let journal = Journal {
        disk,
        config,
        segments,
        prepared: None,
        closed: Vec::new(),
        released: old,
        mark: Mark::Empty,
        offset: FRAMES_AT as u64,
        next,
        // What was there is on the disk now.
        synced: next,
        committed,
        buffer: Vec::new(),
        written: 0,
        has_failed: false,
    };
    Ok((journal, cut))
}

/// A segment that was made ready in an earlier start becomes one of this start.
fn take_over(
    disk: &dyn Disk,
    config: &JournalConfig,
    old: &SegmentHead,
) -> Result<Segment, JournalError> {
    let segment = Segment::open(disk, old)?;
    let head = SegmentHead { size: old.size, ..config.head(old.segment, old.draw) };
    // Within one sector, which is written whole or not at all.
    write_all(&*segment.file, &head.encode(), 0)
        .map_err(JournalError::io(&segment.name, "written"))?;
    segment.sync()?;
    Ok(segment)
}

/// Ends the segment that an earlier start wrote to: all in it is on the disk, and what lies behind does not count.
fn close(disk: &dyn Disk, last: &UsedSegment, next: u64) -> Result<(), JournalError> {
    let segment = Segment::open(disk, &last.head)?;
    segment.write_end(last.end as u64, next, next)?;
    segment.sync()?;
    segment.write_mark(Mark::Sealed { end: (last.end + FRAME_LEN) as u64, next })?;
    segment.sync()
}
