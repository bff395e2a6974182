//! How a journal is opened (pure).

use uuid::Uuid;

use super::disk::Zeros;
use super::frame::{FRAME_LEN, FRAMES_AT, JournalKind, JournalOwner, SegmentHead};
use crate::model::config::Durability;

/// Bytes of a segment: some minutes of a busy site, and what a start can read in a few milliseconds.
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// What a committed frame survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// The end of the process, by kill -9 too.
    Process,
    /// A power loss: one fdatasync a commit.
    Power,
}

impl From<Durability> for SyncPolicy {
    fn from(durability: Durability) -> Self {
        match durability {
            // Less than the process nothing on disk can survive.
            Durability::None | Durability::Process => Self::Process,
            Durability::Power => Self::Power,
        }
    }
}

/// What a start does with a journal that is damaged where no crash can have done it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// Refuses it.
    Refuse,
    /// Keeps what is before the damage and drops what is behind it: somebody has decided so.
    Cut,
}

/// How a journal is opened.
#[derive(Clone, Copy, Debug)]
pub struct JournalConfig {
    /// Whose journal it is.
    pub kind: JournalKind,
    /// Who made it.
    pub owner: JournalOwner,
    /// Of the files that it belongs to: as in [`SegmentHead::life`].
    pub life: Uuid,
    /// The present start of the machine; nil: not known, and then never the one of before.
    pub boot: Uuid,
    /// What a committed frame survives.
    pub sync: SyncPolicy,
    /// Bytes of a new segment; [`SEGMENT_BYTES`], less in tests, at least 8 KiB.
    pub segment_bytes: u64,
    /// What to do with damage.
    pub on_damage: OnDamage,
}

/// A place in a journal: a start reads from here what its tables do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The segment that holds the frame, or will; it and all behind it must be there.
    pub segment: u64,
    /// The frame's number.
    pub number: u64,
}

impl JournalConfig {
    /// The head of a segment that is begun now.
    pub(super) fn head(&self, segment: u64, draw: Uuid) -> SegmentHead {
        let Self { kind, owner, life, boot, segment_bytes: size, .. } = *self;
        SegmentHead { kind, owner, life, boot, segment, size, draw }
    }

    /// How a new file gets its zeros: where every commit waits for the disk, they are written before.
    pub(super) fn zeros(&self) -> Zeros {
        match (self.kind, self.sync) {
            // A broker has one for each of thousands of topics.
            (JournalKind::Topic, _) => Zeros::Sparse,
            (_, SyncPolicy::Process) => Zeros::Reserved,
            (_, SyncPolicy::Power) => Zeros::Written,
        }
    }

    /// The most bytes of one payload: what a segment holds beside its head, the frame's own, the end and the zeros.
    pub fn payload_max(&self) -> usize {
        self.segment_bytes as usize - FRAMES_AT - 3 * FRAME_LEN
    }
}
