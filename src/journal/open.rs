//! Opens a journal to write: after a walk through it, what was there is closed, and a new segment is begun.
//!
//! In an order that may be cut short anywhere: segments behind a cut go, the last first; the new segment is made ready;
//! then the old ones are written again and closed, the oldest first.

use std::collections::VecDeque;
use std::sync::Arc;

use super::append::Journal;
use super::config::{JournalConfig, Position};
use super::disk::{Disk, Zeros};
use super::error::JournalError;
use super::frame::{FRAMES_AT, Mark};
use super::prepare::{NextSegment, give_up, prepare};
use super::segment::{Segment, segment_name};
use super::walk::{Cut, EachFrame, SegmentState, Walk, walk};

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
        open(disk, config, from, u64::MAX, &mut each)
    }

    /// As [`Journal::open`], and segments from number `keep` on stay, though they are older than the position: whoever
    /// reads from them gives them up by [`Journal::give_up`].
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_keeping(
        disk: Arc<dyn Disk>,
        config: JournalConfig,
        from: Option<Position>,
        keep: u64,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), String>,
    ) -> Result<(Self, Option<Cut>), JournalError> {
        open(disk, config, from, keep, &mut each)
    }
}

/// See [`Journal::open`].
fn open(
    disk: Arc<dyn Disk>,
    config: JournalConfig,
    from: Option<Position>,
    keep: u64,
    each: &mut EachFrame<'_>,
) -> Result<(Journal, Option<Cut>), JournalError> {
    let found = walk(&*disk, &config, from, each)?;
    let Walk { used, wanted, next, unused, mut old, dropped, cut } = found;
    old.retain(|number| *number < keep);
    let next = next.unwrap_or(wanted).max(wanted);
    // The last first, and each name gone before the next: those that are left always follow each other.
    for number in dropped.iter().rev() {
        give_up(&*disk, *number)?;
        disk.sync_names().map_err(JournalError::io(&segment_name(*number), "removed"))?;
    }
    let number = match (unused, used.last()) {
        // A new one in its place, not itself: what a power loss has left in it must not come back behind new frames.
        (Some(unused), _) => unused.segment,
        (None, Some(last)) => last.head.segment + 1,
        (None, None) => from.map_or(1, |from| from.segment),
    };
    let current = prepare(&*disk, &config, number)?;
    let ahead = NextSegment::new(Arc::clone(&disk), config, number + 1);
    if config.zeros() == Zeros::Written {
        // Its zeros go to the disk before a commit can wait behind them.
        ahead.lock().make_ready()?;
    }
    let mut segments = VecDeque::with_capacity(used.len() + 1);
    for (index, one) in used.iter().enumerate() {
        let segment = Segment::open(&*disk, &one.head)?;
        if one.state == SegmentState::Open {
            segment.doubt();
        }
        if one.state != SegmentState::Closed {
            let next = used.get(index + 1).map_or(next, |next| next.first);
            segment.settle(one.end as u64, next)?;
        }
        segments.push_back((segment, one.first));
    }
    let committed = (next, FRAMES_AT as u64, current.number);
    segments.push_back((current, next));
    let journal = Journal {
        ahead: Arc::new(ahead),
        upkeep: Arc::default(),
        disk,
        config,
        segments,
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
