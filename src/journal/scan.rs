//! Reads the frames of one segment, and looks behind the last one for what tells a crash from damage (pure).

use std::ops::ControlFlow;

use super::frame::{FRAME_LEN, FRAMES_AT, Frame};

/// The most that is checksummed while a segment is searched for frames behind a gap, in bytes: many times a segment, and
/// less than a second. What a stranger has put into payloads must not make it endless.
const SEARCH_MAX: usize = 1 << 30;

/// Zeros that are skipped at once.
const BLOCK: usize = 4096;

/// How far behind a gap the numbers of frames may lie.
const NUMBERS_MAX: u64 = 1 << 32;

/// Why the frames of a segment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The segment's end: its last frame says so.
    End,
    /// What follows is no frame.
    NoFrame,
    /// The frame that follows has another number than the next.
    Jump(u64),
    /// Here the caller wanted it to end.
    Limit,
}

/// The frames of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Behind the last frame, the segment's end included.
    pub(super) end: usize,
    /// The number of the frame that follows; `None`: there was none, and it is not known.
    pub(super) next: Option<u64>,
    pub(super) stop: Stop,
}

/// Calls `each` with every frame and its offset, up to `limit`. `next` is the number of the first, if it is known.
pub(super) fn scan<E>(
    bytes: &[u8],
    seed: u32,
    mut next: Option<u64>,
    limit: Option<u64>,
    mut each: impl FnMut(usize, Frame<'_>) -> Result<(), E>,
) -> Result<Scanned, E> {
    let mut end = FRAMES_AT;
    let stop = loop {
        if limit == Some(end as u64) {
            break Stop::Limit;
        }
        let Some(frame) = bytes.get(end..).and_then(|rest| Frame::decode(rest, seed)) else {
            break Stop::NoFrame;
        };
        if next.is_some_and(|next| next != frame.number) {
            break Stop::Jump(frame.number);
        }
        next = Some(frame.number);
        let at = end;
        end += frame.size();
        if frame.payload.is_empty() {
            break Stop::End;
        }
        each(at, frame)?;
        next = frame.number.checked_add(1);
    };
    Ok(Scanned { end, next, stop })
}

/// What lies behind the last frame of a segment that has no end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Behind {
    /// Bytes that were written and are no frames that follow; 0: the segment ends in order.
    pub(super) torn: usize,
    /// There are whole frames behind a gap.
    pub(super) has_frames: bool,
    /// They say that all below this number was on the disk.
    pub(super) synced_below: u64,
}

/// Looks behind the last frame, whose number is `next - 1`.
pub(super) fn look_behind(bytes: &[u8], seed: u32, end: usize, next: u64) -> Behind {
    let rest = bytes.get(end..).unwrap_or_default();
    let mut behind = Behind::default();
    // Behind the last frame zeros are written with it.
    if rest.iter().take(FRAME_LEN).any(|byte| *byte != 0) {
        let claimed = Frame::claimed_len(rest).unwrap_or(0);
        behind.torn = (FRAME_LEN + claimed).min(rest.len());
    }
    let (mut at, mut budget) = (0, SEARCH_MAX);
    while at + FRAME_LEN <= rest.len() {
        if rest[at..].first_chunk::<BLOCK>().is_some_and(|block| *block == [0; BLOCK]) {
            // A head that is all zeros has the number 0, which no frame has.
            at += BLOCK - FRAME_LEN;
            continue;
        }
        match find(&rest[at..], seed, next, &mut budget) {
            ControlFlow::Continue(()) => at += 1,
            ControlFlow::Break(Some(frame)) => {
                behind.has_frames = true;
                behind.synced_below = behind.synced_below.max(frame.synced_below);
                at += frame.size();
                behind.torn = behind.torn.max(at);
            }
            // Nobody knows: then it is taken for damage.
            ControlFlow::Break(None) => {
                return Behind { torn: rest.len(), has_frames: true, synced_below: u64::MAX };
            }
        }
    }
    behind
}

/// Whether a frame with a number of `next` or more starts here; a break without one: the budget is spent.
fn find<'a>(
    rest: &'a [u8],
    seed: u32,
    next: u64,
    budget: &mut usize,
) -> ControlFlow<Option<Frame<'a>>> {
    let plausible = Frame::claimed_number(rest)
        .is_some_and(|number| number >= next && number - next < NUMBERS_MAX);
    let Some(len) = Frame::claimed_len(rest).filter(|_| plausible) else {
        return ControlFlow::Continue(());
    };
    match budget.checked_sub(FRAME_LEN + len) {
        Some(left) => *budget = left,
        None => return ControlFlow::Break(None),
    }
    match Frame::decode(rest, seed) {
        Some(frame) => ControlFlow::Break(Some(frame)),
        None => ControlFlow::Continue(()),
    }
}
