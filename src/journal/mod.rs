//! One append-only, checksummed log in segments: under the ledger's records, the producer's batches, the dashboard's
//! updates, the messages of a broker's topics. Holds no thread and no clock: whoever appends commits, and what may take long is an [`Upkeep`], which its
//! owner runs where no commit waits for it.
//!
//! ```text
//! DIRECTORY/0000000007.segment   head: magic, version, kind, owner, life, boot, segment's number, its size, CRC-32C
//!                                mark, in a sector of its own: empty, open, or sealed up to an offset
//!                                frames: CRC-32C, length, number, synced below, payload … and zeros behind the last
//! DIRECTORY/spare-3              a segment that is not needed any more, to be used again
//! ```
//!
//! Frames are numbered 1, 2, 3, … through all segments. A frame's checksum begins with the journal's life and the
//! segment's number, so that what a used-again file held before is never taken for a frame. "Synced below" is the number
//! below which all was known to be on the disk when the frame was written.
//!
//! What a start takes for granted, and what it refuses, is in `walk`. In short: a tail is cut only where a crash can have
//! left it, and it is said how much; everything else that does not check out is an error with file and offset.
//!
//! A frame costs 24 bytes beside its payload; a journal in memory what waits for its commit, at most one segment.

mod append;
mod config;
mod cursor;
mod disk;
mod error;
mod frame;
mod open;
mod prepare;
mod reader;
mod scan;
mod segment;
mod upkeep;
mod walk;

#[cfg(test)]
pub(crate) mod tests;

pub use append::Journal;
pub use config::{JournalConfig, OnDamage, Position, SEGMENT_BYTES, SyncPolicy};
pub use cursor::{FrameReader, FrameStep};
pub use disk::{Disk, DiskFile, FsDisk, Zeros, remove};
pub use error::JournalError;
pub use frame::{JournalKind, JournalOwner, SegmentHead};
pub use reader::{any_head, examine, read};
pub use segment::{segment_data, segments};
pub use upkeep::{Sync, Upkeep, UpkeepDone};
pub use walk::{Cut, CutReason};
