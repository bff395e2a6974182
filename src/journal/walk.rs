//! What a start finds in a journal: reads every segment, and says what is whole, what a crash has cut off, and what is
//! damage. Writes nothing.
//!
//! Every frame that was committed is there after a kill -9: a write goes to the system's cache at once. So within one
//! start of the machine only the last write can be cut short, and no whole frame may lie behind a gap. After another start
//! of the machine (a power loss) what was not synced may be missing in any pattern; but a frame that lies behind a gap and
//! says that the gap was synced, or a seal, which is written behind a sync, proves damage. Heads are on the disk before a
//! frame is written, so one that is damaged is always an error, as is a mark.

use std::fmt;

use super::config::{JournalConfig, OnDamage, Position};
use super::disk::{Disk, read_whole};
use super::error::JournalError;
use super::frame::{FRAMES_AT, Frame, MARK_AT, MARK_LEN, Mark, NoHead, SegmentHead};
use super::scan::{Scanned, Stop, look_behind, scan};
use super::segment::{segment_name, segments};

/// The most bytes of a segment that is read.
pub(super) const SEGMENT_MAX: u64 = 1 << 30;

/// What was cut off the end of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment's file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// How many bytes, as far as can be known; those of later segments included.
    pub bytes: u64,
    /// The number of the first frame that is gone.
    pub number: u64,
    /// Why.
    pub reason: CutReason,
}

/// Why something was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// A crash has left it unfinished: it was never committed, or not synced before a power loss.
    Crash,
    /// It is damage, and somebody has decided to go on without it.
    Decided,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, bytes, number, reason } = self;
        let why = match reason {
            CutReason::Crash => "a crash has left them unfinished",
            CutReason::Decided => "they are damaged, and were dropped as asked",
        };
        write!(
            f,
            "{bytes} bytes were cut off at byte {offset} of {file}, from frame {number} on: {why}"
        )
    }
}

/// What takes every frame: its number and its payload. Its error says what is wrong with it.
pub(super) type EachFrame<'a> = dyn FnMut(u64, &[u8]) -> Result<(), String> + 'a;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The segments that hold frames, or may, oldest first.
    pub(super) used: Vec<UsedSegment>,
    /// The number of the first frame that the tables do not have.
    pub(super) wanted: u64,
    /// The number of the next frame; `None`: no segment says so.
    pub(super) next: Option<u64>,
    /// A segment that was made ready and never written to: it follows the last of `used`.
    pub(super) unused: Option<SegmentHead>,
    /// Segments that are not needed, oldest first: from before the position.
    pub(super) old: Vec<u64>,
    /// Segments to drop, oldest first: behind a cut, or behind `unused`.
    pub(super) dropped: Vec<u64>,
    /// What was cut off.
    pub(super) cut: Option<Cut>,
}

/// A segment that holds frames, or may.
#[derive(Clone, Copy, Debug)]
pub(super) struct UsedSegment {
    pub(super) head: SegmentHead,
    /// The number of its first frame; of one without, the next.
    pub(super) first: u64,
    /// The offset behind its last frame, the end frame included.
    pub(super) end: usize,
    /// Whether the next segment goes on.
    pub(super) has_end: bool,
    /// What its mark says.
    pub(super) state: SegmentState,
}

/// What a segment's mark says about its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentState {
    /// Nothing: they may not be on the disk.
    Open,
    /// They were on the disk, the end maybe not.
    Sealed,
    /// That, with the end on the disk too: nothing is left to be done.
    Closed,
}

impl Walk {
    /// Whether the next segment continues the last one.
    fn goes_on(&self) -> bool {
        self.unused.is_none()
            && self.cut.is_none()
            && self.used.last().is_none_or(|last| last.has_end)
    }

    /// The lowest number that the next frame can have: where no segment says so, the tables have all before theirs.
    fn lowest_next(&self) -> u64 {
        self.next.unwrap_or(self.wanted)
    }

    /// Gives up the frames as well, where all that is left of them is older than what the tables have.
    fn without_too_old(mut self, from: Option<Position>) -> Self {
        if from.is_some_and(|from| self.lowest_next() < from.number) {
            let used = self.used.drain(..).map(|used| used.head.segment);
            self.dropped.splice(0..0, used);
            self.next = None;
        }
        self
    }

    /// A segment that is damaged keeps the frames before that, and ends there, whatever its mark says; `false`: it has
    /// none. `next` was the next frame's number before it.
    fn keep_begun(&mut self, number: u64, next: Option<u64>) -> bool {
        let Some(begun) = self.used.last_mut().filter(|used| used.head.segment == number) else {
            return false;
        };
        if begun.end == FRAMES_AT {
            self.used.pop();
            self.next = next;
            return false;
        }
        (begun.state, begun.has_end) = (SegmentState::Open, false);
        true
    }

    /// Notes what is cut off; the first place is where.
    fn cut(&mut self, file: &str, offset: usize, bytes: usize, reason: CutReason) {
        let number = self.lowest_next();
        let none = Cut { file: file.to_owned(), offset: offset as u64, bytes: 0, number, reason };
        self.cut.get_or_insert(none).bytes += bytes as u64;
    }
}

/// Reads the journal from `from` on, which is `None` for one that is new. Calls `each` with every frame's number and
/// payload.
pub(super) fn walk(
    disk: &dyn Disk,
    config: &JournalConfig,
    from: Option<Position>,
    each: &mut EachFrame<'_>,
) -> Result<Walk, JournalError> {
    let first = from.map_or(0, |from| from.segment);
    let (old, mut needed): (Vec<u64>, Vec<u64>) =
        segments(disk)?.into_iter().partition(|number| *number < first);
    let wanted = from.map_or(1, |from| from.number);
    let mut walk = Walk { wanted, old, ..Walk::default() };
    let mut lost = None;
    if let Some(missing) = from.and_then(|from| missing(&needed, from)) {
        if config.on_damage == OnDamage::Refuse {
            let what = "it is among those that hold what the tables do not have".into();
            return Err(JournalError::Missing { file: segment_name(missing), what });
        }
        let behind = needed.partition_point(|number| *number < missing);
        walk.dropped = needed.split_off(behind);
        lost = Some(missing);
    }
    for (index, number) in needed.iter().enumerate() {
        let known = walk.next;
        match step(disk, config, *number, &mut walk, each) {
            Err(JournalError::Damaged { file, offset, .. })
                if config.on_damage == OnDamage::Cut =>
            {
                let kept = walk.keep_begun(*number, known);
                walk.cut(&file, offset as usize, 0, CutReason::Decided);
                walk.dropped.splice(0..0, needed[index + usize::from(kept)..].iter().copied());
                return Ok(walk.without_too_old(from));
            }
            result => result?,
        }
    }
    if let Some(missing) = lost.filter(|_| walk.cut.is_none()) {
        walk.cut(&segment_name(missing), 0, 0, CutReason::Decided);
        return Ok(walk.without_too_old(from));
    }
    check_all(&mut walk, config, from)?;
    Ok(walk.without_too_old(from))
}

/// The number of a segment that must be there and is not.
fn missing(needed: &[u64], from: Position) -> Option<u64> {
    let last = needed.last().copied().unwrap_or(from.segment);
    (from.segment..=last)
        .zip(0..)
        .find(|(want, at)| needed.get(*at) != Some(want))
        .map(|(want, _)| want)
}

/// Reads one segment.
fn step(
    disk: &dyn Disk,
    config: &JournalConfig,
    number: u64,
    walk: &mut Walk,
    each: &mut EachFrame<'_>,
) -> Result<(), JournalError> {
    let name = segment_name(number);
    let file = disk.open(&name).map_err(JournalError::io(&name, "opened"))?;
    let bytes = read_whole(&*file, SEGMENT_MAX).map_err(JournalError::io(&name, "read"))?;
    let head = check_head(&name, number, &bytes, config)?;
    let mark = bytes[MARK_AT..].first_chunk::<MARK_LEN>();
    let mark = mark.and_then(|mark| Mark::decode(mark, head.seed()));
    let mark = mark.ok_or_else(|| damaged(&name, MARK_AT, "its mark does not fit its checksum"))?;
    let opened = OpenedSegment { name, bytes, head, mark };
    match walk.goes_on() {
        true => take(&opened, config, walk, each),
        false => drop_behind(&opened, config, walk),
    }
}

/// A segment that is read.
struct OpenedSegment {
    name: String,
    bytes: Vec<u8>,
    head: SegmentHead,
    mark: Mark,
}

fn check_head(
    name: &str,
    number: u64,
    bytes: &[u8],
    config: &JournalConfig,
) -> Result<SegmentHead, JournalError> {
    let foreign = |what: String| JournalError::Foreign { file: name.to_owned(), what };
    let head = match SegmentHead::decode(bytes) {
        Ok(head) => head,
        Err(NoHead::Damaged) => return Err(damaged(name, 0, "its head does not fit its checksum")),
        Err(NoHead::Newer) => return Err(foreign("of a newer playcounts".into())),
    };
    if (head.kind, head.owner) != (config.kind, config.owner) {
        return Err(foreign(format!("{} of {}", head.kind, head.owner)));
    }
    if head.life != config.life {
        return Err(foreign("of other files than those beside it".into()));
    }
    if head.segment != number {
        return Err(foreign(format!("segment {} under another name", head.segment)));
    }
    if bytes.len() as u64 != head.size || bytes.len() < FRAMES_AT {
        let what = format!("it ends here, and must have {} bytes", head.size);
        return Err(damaged(name, bytes.len(), &what));
    }
    Ok(head)
}

fn damaged(name: &str, offset: usize, what: &str) -> JournalError {
    JournalError::Damaged { file: name.to_owned(), offset: offset as u64, what: what.to_owned() }
}

/// Takes the frames of a segment that follows those before it.
fn take(
    opened: &OpenedSegment,
    config: &JournalConfig,
    walk: &mut Walk,
    each: &mut EachFrame<'_>,
) -> Result<(), JournalError> {
    let OpenedSegment { name, bytes, head, mark } = opened;
    let wanted = walk.wanted;
    let limit = match mark {
        Mark::Closed { end, .. } => Some(*end),
        Mark::Empty | Mark::Open { .. } | Mark::Sealed { .. } => None,
    };
    let known = walk.next;
    let mut last = UsedSegment {
        head: *head,
        first: known.unwrap_or(wanted),
        end: FRAMES_AT,
        has_end: false,
        state: SegmentState::Open,
    };
    walk.used.push(last);
    let mut first = known;
    let scanned = scan(bytes, head.seed(), known, limit, |at, frame: Frame<'_>| {
        if *first.get_or_insert(frame.number) > wanted && known.is_none() {
            let what = format!("its first frame is {}, and {wanted} is needed", frame.number);
            return Err(damaged(name, FRAMES_AT, &what));
        }
        if frame.number >= wanted {
            each(frame.number, frame.payload).map_err(|what| damaged(name, at, &what))?;
        }
        last.end = at + frame.size();
        walk.next = frame.number.checked_add(1);
        Ok(())
    });
    last.first = first.unwrap_or(wanted);
    if let Some(used) = walk.used.last_mut() {
        *used = last;
    }
    let mut scanned = scanned?;
    if let Mark::Sealed { end, next } | Mark::Closed { end, next } = mark
        && *end == scanned.end as u64
    {
        scanned.next = scanned.next.or(Some(*next));
    }
    walk.next = scanned.next;
    if walk.next.is_some_and(|next| next > wanted) && first.is_none() && known.is_none() {
        let what = format!("it has no frames any more, and {wanted} is needed");
        return Err(damaged(name, FRAMES_AT, &what));
    }
    judge(opened, scanned, config, walk)
}

/// Says whether a segment ends in order, by a crash, or by damage.
fn judge(
    opened: &OpenedSegment,
    scanned: Scanned,
    config: &JournalConfig,
    walk: &mut Walk,
) -> Result<(), JournalError> {
    let OpenedSegment { name, bytes, head, mark } = opened;
    let Scanned { end, stop, .. } = scanned;
    if let Some(used) = walk.used.last_mut() {
        (used.end, used.has_end) = (end, stop == Stop::End);
    }
    if let Stop::Jump(number) = stop {
        let what = format!("frame {number} lies where {} must be", walk.lowest_next());
        return Err(damaged(name, end, &what));
    }
    let state = check_mark(opened, end, walk)?;
    if let Some(used) = walk.used.last_mut() {
        // Without its mark the end is all that says so: where there is none, the mark may be in the cache only.
        let is_closed = state == SegmentState::Closed;
        used.state = if is_closed && !used.has_end { SegmentState::Sealed } else { state };
        used.has_end |= is_closed;
        if used.has_end {
            return Ok(());
        }
    }
    let behind = look_behind(bytes, head.seed(), end, walk.lowest_next());
    if behind.has_frames && is_this_boot(head, config) {
        return Err(damaged(name, end, "whole frames lie behind what is none"));
    }
    if behind.synced_below > walk.lowest_next() {
        let what = "a frame behind it says that what was here was on the disk";
        return Err(damaged(name, end, what));
    }
    // Behind a seal nothing needs to have been written; what is no frame is none that was committed.
    if behind.has_frames || (behind.torn > 0 && state == SegmentState::Open) {
        walk.cut(name, end, behind.torn, CutReason::Crash);
    } else if *mark == Mark::Empty && end == FRAMES_AT {
        walk.used.pop();
        walk.unused = Some(*head);
    }
    Ok(())
}

/// Compares a segment's frames, which end at `end`, with its mark.
fn check_mark(
    opened: &OpenedSegment,
    end: usize,
    walk: &Walk,
) -> Result<SegmentState, JournalError> {
    let end = end as u64;
    let (marked, next, state) = match opened.mark {
        Mark::Empty => return Ok(SegmentState::Open),
        Mark::Open { end: sealed, .. } if sealed <= end => return Ok(SegmentState::Open),
        // A power loss may have taken the mark that was written before the frames behind a seal.
        Mark::Sealed { end: sealed, .. } if sealed < end => return Ok(SegmentState::Open),
        Mark::Open { end, next } => (end, next, SegmentState::Open),
        Mark::Sealed { end, next } => (end, next, SegmentState::Sealed),
        Mark::Closed { end, next } => (end, next, SegmentState::Closed),
    };
    if (marked, Some(next)) == (end, walk.next) {
        return Ok(state);
    }
    let what = format!("its frames are whole up to here, and were up to {marked}");
    Err(damaged(&opened.name, end as usize, &what))
}

fn is_this_boot(head: &SegmentHead, config: &JournalConfig) -> bool {
    head.boot == config.boot && !config.boot.is_nil()
}

/// A segment behind one that has no end: it was never written to, or is lost with what is before it.
fn drop_behind(
    opened: &OpenedSegment,
    config: &JournalConfig,
    walk: &mut Walk,
) -> Result<(), JournalError> {
    let OpenedSegment { name, bytes, head, mark } = opened;
    let behind = look_behind(bytes, head.seed(), FRAMES_AT, walk.lowest_next());
    let is_used = *mark != Mark::Empty || behind.has_frames;
    // Where the frames stop: in one that looks as if it was never written to, or behind the last.
    let gap = match (walk.unused, walk.used.last()) {
        (Some(unused), _) => Some((unused, FRAMES_AT)),
        (None, last) => last.map(|last| (last.head, last.end)),
    };
    if let Some((before, end)) = gap.filter(|_| is_used) {
        let gap = segment_name(before.segment);
        // Within one start of the machine the end is there before the next segment is written to; and a mark says that
        // one is on the disk only after those before it are.
        let was_synced = matches!(mark, Mark::Sealed { .. } | Mark::Closed { .. })
            || behind.synced_below > walk.lowest_next()
            || is_this_boot(&before, config);
        if was_synced {
            let what = format!("its frames stop here, and {name} goes on");
            return Err(damaged(&gap, end, &what));
        }
        walk.cut(&gap, end, behind.torn, CutReason::Crash);
    }
    if !is_used && walk.cut.is_none() && walk.unused.is_none() {
        walk.unused = Some(*head);
    } else {
        walk.dropped.push(head.segment);
    }
    Ok(())
}

/// Checks what can only be said when all is read.
fn check_all(
    walk: &mut Walk,
    config: &JournalConfig,
    from: Option<Position>,
) -> Result<(), JournalError> {
    let Some(last) = walk.used.last().copied() else { return Ok(()) };
    let name = segment_name(last.head.segment);
    let Some(from) = from else {
        let what = "of tables that are not there, or are older than it".into();
        return Err(JournalError::Foreign { file: name, what });
    };
    let is_decided = config.on_damage == OnDamage::Cut;
    if last.has_end && walk.unused.is_none() {
        let file = segment_name(last.head.segment + 1);
        if is_decided {
            walk.cut(&file, 0, 0, CutReason::Decided);
            return Ok(());
        }
        return Err(JournalError::Missing { file, what: format!("{name} says that it follows") });
    }
    if walk.lowest_next() < from.number && !is_decided {
        let what = format!("it ends before frame {}, which the tables have", from.number);
        return Err(damaged(&name, last.end, &what));
    }
    Ok(())
}
