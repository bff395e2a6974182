//! Reads the frames of one segment, and looks behind the last one for what tells a crash from damage (pure).

use super::frame::{FRAME_LEN, FRAMES_AT, Frame};

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
        behind.torn = Frame::claimed_size(rest, seed).unwrap_or(FRAME_LEN).min(rest.len());
    }
    let mut at = 0;
    while at + FRAME_LEN <= rest.len() {
        if rest[at..].first_chunk::<BLOCK>().is_some_and(|block| *block == [0; BLOCK]) {
            // A head that is all zeros has the number 0, which no frame has.
            at += BLOCK - FRAME_LEN;
            continue;
        }
        match find(&rest[at..], seed, next) {
            None => at += 1,
            Some(frame) => {
                behind.has_frames = true;
                behind.synced_below = behind.synced_below.max(frame.synced_below);
                at += frame.size();
                behind.torn = behind.torn.max(at);
            }
        }
    }
    behind
}

/// The frame that starts here, if its number is `next` or more.
fn find(rest: &[u8], seed: u32, next: u64) -> Option<Frame<'_>> {
    // Cheap, and nearly always enough.
    let number = Frame::claimed_number(rest)?;
    let is_plausible = number >= next && number - next < NUMBERS_MAX;
    is_plausible.then(|| Frame::decode(rest, seed)).flatten()
}
