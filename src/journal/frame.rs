//! The bytes of a segment: its head, its mark, and frames (pure). All numbers are little-endian.

use std::fmt;

use uuid::Uuid;

/// Where the frames begin: behind the first page, which has the head and, in a sector of its own, the mark.
pub(super) const FRAMES_AT: usize = 4096;

/// Where the mark stands.
pub(super) const MARK_AT: usize = 512;

/// Bytes of a mark.
pub(super) const MARK_LEN: usize = 28;

/// Bytes of a frame before its payload.
pub(super) const FRAME_LEN: usize = 24;

/// What the first bytes of a segment are.
const MAGIC: [u8; 8] = *b"PLAYJRNL";

/// The format of what follows.
const VERSION: u32 = 1;

/// Bytes of a head.
const HEAD_LEN: usize = 84;

/// Whose journal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum JournalKind {
    /// A processor's records.
    Ledger = 1,
    /// A producer's batches.
    Outbox = 2,
    /// A dashboard's updates.
    Dashboard = 3,
    /// The messages of a broker's topic.
    Topic = 4,
}

impl JournalKind {
    const ALL: [Self; 4] = [Self::Ledger, Self::Outbox, Self::Dashboard, Self::Topic];
}

impl fmt::Display for JournalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ledger => "a ledger's journal",
            Self::Outbox => "an outbox's journal",
            Self::Dashboard => "a dashboard's journal",
            Self::Topic => "a topic's journal",
        })
    }
}

/// Who made the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum JournalOwner {
    /// A command that keeps its counts.
    Part = 0,
    /// A simulation (`run`), which may throw them away.
    Simulation = 1,
}

impl fmt::Display for JournalOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Part => "a part of its own",
            Self::Simulation => "a simulation (`run`)",
        })
    }
}

/// The head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    /// Whose journal it is.
    pub kind: JournalKind,
    /// Who made it.
    pub owner: JournalOwner,
    /// Drawn when the files of a data directory are made, and when a backup of them is put back.
    pub life: Uuid,
    /// The start of the machine in which the segment was begun; nil: not known.
    pub boot: Uuid,
    /// The segment's number: 1, 2, 3, …
    pub segment: u64,
    /// Bytes of the file.
    pub size: u64,
    /// Drawn when the segment is made ready: the checksums of its frames begin with it, so that a segment of the same
    /// number that was given up is another one.
    pub draw: Uuid,
}

/// Why bytes are no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// The checksum does not fit, or it is something else.
    Damaged,
    /// A newer playcounts has written it.
    Newer,
}

impl SegmentHead {
    /// The head's bytes.
    pub(super) fn encode(&self) -> [u8; HEAD_LEN] {
        let mut bytes = [0; HEAD_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12] = self.kind as u8;
        bytes[13] = self.owner as u8;
        bytes[16..32].copy_from_slice(self.life.as_bytes());
        bytes[32..48].copy_from_slice(self.boot.as_bytes());
        bytes[48..56].copy_from_slice(&self.segment.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.size.to_le_bytes());
        bytes[64..80].copy_from_slice(self.draw.as_bytes());
        let checksum = crc32c::crc32c(&bytes[..HEAD_LEN - 4]);
        bytes[HEAD_LEN - 4..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the head of a segment.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NoHead> {
        let head = bytes.first_chunk::<HEAD_LEN>().ok_or(NoHead::Damaged)?;
        if head[..8] != MAGIC || crc32c::crc32c(&head[..HEAD_LEN - 4]) != u32_at(head, HEAD_LEN - 4)
        {
            return Err(NoHead::Damaged);
        }
        let kind = JournalKind::ALL.into_iter().find(|kind| *kind as u8 == head[12]);
        let owner = match head[13] {
            0 => Some(JournalOwner::Part),
            1 => Some(JournalOwner::Simulation),
            _ => None,
        };
        let (VERSION, Some(kind), Some(owner)) = (u32_at(head, 8), kind, owner) else {
            return Err(NoHead::Newer);
        };
        let (life, boot) = (uuid_at(head, 16), uuid_at(head, 32));
        let (segment, size) = (u64_at(head, 48), u64_at(head, 56));
        let draw = uuid_at(head, 64);
        Ok(Self { kind, owner, life, boot, segment, size, draw })
    }

    /// With what the checksums of the segment's mark and frames begin.
    pub(super) fn seed(&self) -> u32 {
        let mut bytes = [0; 40];
        bytes[..16].copy_from_slice(self.life.as_bytes());
        bytes[16..32].copy_from_slice(self.draw.as_bytes());
        bytes[32..].copy_from_slice(&self.segment.to_le_bytes());
        crc32c::crc32c(&bytes)
    }
}

/// How far a segment is known to be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// No frame was written to it yet.
    Empty,
    /// Frames are being written. As sealed for those up to `end`; 0: nothing is known of any.
    Open {
        /// The offset behind the last frame that was on the disk before this was written.
        end: u64,
        /// The number of the frame that follows it.
        next: u64,
    },
    /// All up to `end` was on the disk before this was written. Frames may follow it, where a power loss has taken the
    /// mark that was written before them.
    Sealed {
        /// The offset behind the last frame.
        end: u64,
        /// The number of the frame that follows, here or in the next segment.
        next: u64,
    },
    /// As sealed, and for good: nothing behind `end` counts, and what follows is in the next segment, which is there.
    Closed {
        /// The offset behind the last frame.
        end: u64,
        /// The number of the next segment's first frame.
        next: u64,
    },
}

impl Mark {
    /// Frames are being written, and nothing is known of any.
    pub(super) const OPEN: Self = Self::Open { end: 0, next: 0 };

    /// Whether frames are being written.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// The mark of a segment that frames are about to be written to.
    pub(super) fn opened(self) -> Self {
        match self {
            Self::Empty => Self::OPEN,
            Self::Open { end, next } | Self::Sealed { end, next } | Self::Closed { end, next } => {
                Self::Open { end, next }
            }
        }
    }

    /// The mark's bytes.
    pub(super) fn encode(self, seed: u32) -> [u8; MARK_LEN] {
        let (state, end, next) = match self {
            Self::Empty => (1u64, 0, 0),
            Self::Open { end, next } => (2, end, next),
            Self::Sealed { end, next } => (3, end, next),
            Self::Closed { end, next } => (4, end, next),
        };
        let mut bytes = [0; MARK_LEN];
        bytes[..8].copy_from_slice(&state.to_le_bytes());
        bytes[8..16].copy_from_slice(&end.to_le_bytes());
        bytes[16..24].copy_from_slice(&next.to_le_bytes());
        let checksum = crc32c::crc32c_append(seed, &bytes[..24]);
        bytes[24..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the mark of a segment; `None` where it is damaged.
    pub(super) fn decode(bytes: &[u8; MARK_LEN], seed: u32) -> Option<Self> {
        if crc32c::crc32c_append(seed, &bytes[..24]) != u32_at(bytes, 24) {
            return None;
        }
        match (u64_at(bytes, 0), u64_at(bytes, 8), u64_at(bytes, 16)) {
            (1, 0, 0) => Some(Self::Empty),
            (2, end, next) => Some(Self::Open { end, next }),
            (3, end, next) => Some(Self::Sealed { end, next }),
            (4, end, next) => Some(Self::Closed { end, next }),
            _ => None,
        }
    }
}

/// One frame as it lies in a segment. An empty payload is the segment's end: the frame with this number is the first
/// one of the next segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) number: u64,
    pub(super) synced_below: u64,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Appends the frame's bytes. Its head has a checksum of its own: so a frame is searched for at every byte, whatever
    /// strangers have put into payloads, without reading what a false head says is its payload.
    pub(super) fn encode(&self, seed: u32, out: &mut Vec<u8>) {
        let start = out.len();
        // How far it is synced is told backwards. Saturated, it says less than is true, which is safe.
        let unsynced = self.number.saturating_sub(self.synced_below);
        let unsynced = u32::try_from(unsynced).unwrap_or(u32::MAX);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&unsynced.to_le_bytes());
        let of_head = crc32c::crc32c_append(seed, &out[start + 4..]);
        out.extend_from_slice(&of_head.to_le_bytes());
        out.extend_from_slice(self.payload);
        let checksum = crc32c::crc32c_append(of_head, &out[start + 20..]);
        out[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads the frame at the start of `bytes`; `None` where there is none, or it is damaged.
    pub(super) fn decode(bytes: &'a [u8], seed: u32) -> Option<Self> {
        let of_head = Self::decode_head(bytes, seed)?;
        let len = u32_at(bytes, 4) as usize;
        let payload = bytes[FRAME_LEN..].get(..len)?;
        let checksum = crc32c::crc32c_append(of_head, &bytes[20..FRAME_LEN + len]);
        if checksum != u32_at(bytes, 0) {
            return None;
        }
        let number = u64_at(bytes, 8);
        let synced_below = number.saturating_sub(u32_at(bytes, 16).into());
        Some(Self { number, synced_below, payload })
    }

    /// The checksum of a head that is whole.
    fn decode_head(bytes: &[u8], seed: u32) -> Option<u32> {
        let head = bytes.first_chunk::<FRAME_LEN>()?;
        let of_head = crc32c::crc32c_append(seed, &head[4..20]);
        (of_head == u32_at(head, 20)).then_some(of_head)
    }

    /// Bytes of the frame as a whole.
    pub(super) fn size(&self) -> usize {
        FRAME_LEN + self.payload.len()
    }

    /// Bytes that a frame has whose head is whole, if its payload is not; at most those that are there.
    pub(super) fn claimed_size(bytes: &[u8], seed: u32) -> Option<usize> {
        Some(Self::whole_size(bytes, seed)?.min(bytes.len()))
    }

    /// Bytes of a frame whose head is whole, whether or not they are there.
    pub(super) fn whole_size(bytes: &[u8], seed: u32) -> Option<usize> {
        Self::decode_head(bytes, seed)?;
        Some(FRAME_LEN + u32_at(bytes, 4) as usize)
    }

    /// What the bytes say is the number.
    pub(super) fn claimed_number(bytes: &[u8]) -> Option<u64> {
        Some(u64_at(bytes.first_chunk::<FRAME_LEN>()?, 8))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

fn uuid_at(bytes: &[u8], at: usize) -> Uuid {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[at..at + 16]);
    Uuid::from_bytes(id)
}
