//! Reads a journal beside the one who writes it, or without one. Writes nothing.

use super::config::{JournalConfig, Position};
use super::disk::{Disk, read_whole};
use super::error::JournalError;
use super::frame::{FRAMES_AT, JournalOwner, NoHead, SegmentHead};
use super::scan::{Stop, scan};
use super::segment::{segment_name, segment_number};
use super::walk::{Cut, walk};

/// The most bytes of a segment that is read.
const SEGMENT_MAX: u64 = 1 << 30;

/// Calls `each` with every whole frame from `from` on, while the journal may be written: the number behind the last. What
/// is no frame ends it, whatever it is; that a frame is missing is not told from one that does not exist yet.
///
/// # Errors
/// A segment is not there: its owner has given it up since `from` was read. Read that again.
pub fn read(
    disk: &dyn Disk,
    from: Position,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), String>,
) -> Result<u64, JournalError> {
    let mut next = None;
    for number in from.segment.. {
        let name = segment_name(number);
        let file = disk.open(&name).map_err(JournalError::io(&name, "opened"))?;
        let bytes = read_whole(&*file, SEGMENT_MAX).map_err(JournalError::io(&name, "read"))?;
        let head = SegmentHead::decode(&bytes).map_err(|no| {
            let what = match no {
                NoHead::Damaged => "its head does not fit its checksum",
                NoHead::Newer => "a newer playcounts has written it",
            };
            JournalError::Damaged { file: name.clone(), offset: 0, what: what.into() }
        })?;
        let scanned = scan(&bytes, head.seed(), next, None, |at, frame| {
            let refused =
                |what| JournalError::Damaged { file: name.clone(), offset: at as u64, what };
            if next.is_none() && at == FRAMES_AT && frame.number > from.number {
                return Err(refused("frames before it are needed".into()));
            }
            if frame.number < from.number {
                return Ok(());
            }
            each(frame.number, frame.payload).map_err(refused)
        })?;
        next = scanned.next;
        if scanned.stop != Stop::End {
            break;
        }
    }
    Ok(next.unwrap_or(from.number).max(from.number))
}

/// Who made the journal; `None` where there is no segment, or none with a head that can be read.
///
/// # Errors
/// The operating system's.
pub fn owner(disk: &dyn Disk) -> Result<Option<JournalOwner>, JournalError> {
    let names = disk.list().map_err(JournalError::io("the journal's directory", "read"))?;
    for name in names.iter().filter(|name| segment_number(name).is_some()) {
        let file = disk.open(name).map_err(JournalError::io(name, "opened"))?;
        let bytes = read_whole(&*file, FRAMES_AT as u64).map_err(JournalError::io(name, "read"))?;
        if let Ok(head) = SegmentHead::decode(&bytes) {
            return Ok(Some(head.owner));
        }
    }
    Ok(None)
}

/// Looks at a journal as a start would, and changes nothing: the number of the next frame, and what would be cut off.
///
/// # Errors
/// As [`Journal::open`](super::Journal::open).
pub fn examine(
    disk: &dyn Disk,
    config: &JournalConfig,
    from: Option<Position>,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), String>,
) -> Result<(u64, Option<Cut>), JournalError> {
    let found = walk(disk, config, from, &mut each)?;
    let wanted = from.map_or(1, |from| from.number);
    Ok((found.next.unwrap_or(wanted).max(wanted), found.cut))
}
