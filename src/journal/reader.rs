//! Reads a journal beside the one who writes it, or without one. Writes nothing.

use super::config::{JournalConfig, Position};
use super::disk::{Disk, read_whole};
use super::error::JournalError;
use super::frame::{FRAMES_AT, MARK_AT, MARK_LEN, Mark, NoHead, SegmentHead};
use super::scan::{Stop, scan};
use super::segment::{segment_name, segments};
use super::walk::{Cut, SEGMENT_MAX, walk};

/// Calls `each` with every whole frame from `from` on, while the journal may be written: the number behind the last. What
/// is no frame ends it, whatever it is, unless a mark says that the segment was whole up to a place behind it: that a
/// frame is missing is not told from one that does not exist yet.
///
/// # Errors
/// A segment is not there: its owner has given it up since `from` was read. Read that again, and begin anew: frames that
/// `each` has had are valid, but not all.
pub fn read(
    disk: &dyn Disk,
    from: Position,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), String>,
) -> Result<u64, JournalError> {
    let mut next = None;
    for number in from.segment.. {
        let (mut name, mut bytes) = read_segment(disk, number)?;
        if decode(&name, number, &bytes).is_err() {
            // Its mark may have been written at that moment; not twice.
            (name, bytes) = read_segment(disk, number)?;
        }
        let (head, mark) = decode(&name, number, &bytes)?;
        let damaged =
            |at, what| JournalError::Damaged { file: name.clone(), offset: at as u64, what };
        let (whole, limit) = match mark {
            Mark::Closed { end, .. } => (end, Some(end)),
            Mark::Sealed { end, .. } | Mark::Open { end, .. } => (end, None),
            Mark::Empty => (0, None),
        };
        let known = next;
        let scanned = scan(&bytes, head.seed(), known, limit, |at, frame| {
            if known.is_none() && at == FRAMES_AT && frame.number > from.number {
                return Err(damaged(at, "frames before it are needed".into()));
            }
            if frame.number < from.number {
                return Ok(());
            }
            each(frame.number, frame.payload).map_err(|what| damaged(at, what))
        })?;
        next = match (scanned.next, mark) {
            (None, Mark::Closed { next, .. }) => Some(next),
            (next, _) => next,
        };
        if (scanned.end as u64) < whole {
            let what = format!("its frames are whole up to here, and were up to {whole}");
            return Err(damaged(scanned.end, what));
        }
        if scanned.stop != Stop::End && limit.is_none() {
            break;
        }
    }
    Ok(next.unwrap_or(from.number).max(from.number))
}

/// How often a start may put another file in a segment's place while it is read: it does so once.
const READ_AGAIN: usize = 8;

/// The bytes of a segment, and its file's name. An owner may give it up meanwhile and make another one of its file, and a
/// start puts a new file in the place of a segment that nothing is in; in each the name goes first.
fn read_segment(disk: &dyn Disk, number: u64) -> Result<(String, Vec<u8>), JournalError> {
    let name = segment_name(number);
    for _ in 0..READ_AGAIN {
        let file = disk.open(&name).map_err(JournalError::io(&name, "opened"))?;
        let bytes = read_whole(&*file, SEGMENT_MAX).map_err(JournalError::io(&name, "read"))?;
        if disk.is_named(&name, &*file).map_err(JournalError::io(&name, "found"))? {
            return Ok((name, bytes));
        }
    }
    let gone = std::io::ErrorKind::NotFound.into();
    Err(JournalError::io(&name, "read")(gone))
}

/// The head and the mark of a segment.
fn decode(name: &str, number: u64, bytes: &[u8]) -> Result<(SegmentHead, Mark), JournalError> {
    let damaged = |offset: usize, what: &str| {
        let (file, what) = (name.to_owned(), what.to_owned());
        JournalError::Damaged { file, offset: offset as u64, what }
    };
    let head = SegmentHead::decode(bytes).map_err(|no| match no {
        NoHead::Damaged => damaged(0, "its head does not fit its checksum"),
        NoHead::Newer => damaged(0, "a newer playcounts has written it"),
    })?;
    if head.segment != number {
        return Err(damaged(0, "it is another segment under this name"));
    }
    let mark = bytes.get(MARK_AT..).and_then(|rest| rest.first_chunk::<MARK_LEN>());
    let mark = mark.and_then(|mark| Mark::decode(mark, head.seed()));
    let mark = mark.ok_or_else(|| damaged(MARK_AT, "its mark does not fit its checksum"))?;
    Ok((head, mark))
}

/// The head of any segment, which tells whose journal it is; `None` where there is none that can be read.
///
/// # Errors
/// The operating system's.
pub fn any_head(disk: &dyn Disk) -> Result<Option<SegmentHead>, JournalError> {
    for number in segments(disk)? {
        let name = segment_name(number);
        let file = disk.open(&name).map_err(JournalError::io(&name, "opened"))?;
        let bytes =
            read_whole(&*file, FRAMES_AT as u64).map_err(JournalError::io(&name, "read"))?;
        if let Ok(head) = SegmentHead::decode(&bytes) {
            return Ok(Some(head));
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
