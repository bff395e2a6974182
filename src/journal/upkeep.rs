//! What a journal needs and no commit should wait for. Taken from the journal while it is held, done while it is not.

use std::sync::Arc;

use super::append::Journal;
use super::config::JournalConfig;
use super::disk::Disk;
use super::error::JournalError;
use super::frame::Mark;
use super::segment::{ClosedSegment, Segment, give_up, prepare};

/// How much an [`Upkeep`] gets to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// All that is committed: before tables that build on it are written, and when there is nothing else to do.
    All,
    /// Only segments that have an end.
    Closed,
}

/// What is to be done: see [`Journal::upkeep`].
#[must_use = "it does nothing until it is run"]
pub struct Upkeep {
    disk: Arc<dyn Disk>,
    config: JournalConfig,
    closed: Vec<ClosedSegment>,
    current: Option<Segment>,
    /// What is on the disk when all of it is done.
    synced: u64,
    released: Vec<u64>,
    prepare: Option<u64>,
}

/// What was done.
#[must_use = "the journal must be told"]
pub struct UpkeepDone {
    /// All below is on the disk.
    pub(super) synced: u64,
    pub(super) prepared: Option<Segment>,
}

impl Journal {
    /// What is to be done where no commit waits for it: to make the next segment ready, to give up what was released, to
    /// get closed segments to the disk; and, with `sync`, all that is committed. `None`: nothing.
    pub fn upkeep(&mut self, sync: Sync) -> Option<Upkeep> {
        Upkeep::of(self, sync)
    }

    /// Takes note of what was done. Where nothing was committed since, all is on the disk, and a mark seals it.
    ///
    /// # Errors
    /// The mark cannot be written.
    pub fn upkept(&mut self, done: UpkeepDone) -> Result<(), JournalError> {
        self.synced = self.synced.max(done.synced);
        if let Some(prepared) = done.prepared {
            self.prepared = Some(prepared);
        }
        self.seal()
    }

    /// Gets everything to the disk and seals it. Nothing is to be appended behind it, though it may be.
    ///
    /// # Errors
    /// As [`Journal::commit`].
    pub fn close(&mut self) -> Result<(), JournalError> {
        self.commit()?;
        if let Some(upkeep) = self.upkeep(Sync::All) {
            let done = upkeep.run()?;
            self.upkept(done)?;
        }
        self.current().sync()
    }

    /// Writes a seal, if all is on the disk and there is none.
    fn seal(&mut self) -> Result<(), JournalError> {
        if self.mark != Mark::Open || self.synced < self.next || self.has_failed {
            return Ok(());
        }
        let mark = Mark::Sealed { end: self.offset, next: self.next };
        self.current().write_mark(mark)?;
        self.mark = mark;
        Ok(())
    }
}

impl Upkeep {
    fn of(journal: &mut Journal, sync: Sync) -> Option<Self> {
        let current = journal.current();
        let first = journal.segments.back().map_or(0, |(_, first)| *first);
        let (committed, ..) = journal.committed;
        let is_open = journal.mark == Mark::Open;
        let to_sync = sync == Sync::All && is_open && !journal.has_failed;
        let prepare = journal.prepared.is_none().then_some(current.number + 1);
        let nothing_else = journal.closed.is_empty() && journal.released.is_empty();
        if nothing_else && !to_sync && prepare.is_none() {
            return None;
        }
        Some(Self {
            disk: Arc::clone(&journal.disk),
            config: journal.config,
            current: to_sync.then(|| current.clone()),
            closed: std::mem::take(&mut journal.closed),
            synced: if to_sync { committed } else { first },
            released: std::mem::take(&mut journal.released),
            prepare,
        })
    }

    /// Does it: some syncs and writes, each as long as the disk takes.
    ///
    /// # Errors
    /// The operating system's. The journal can go on without it.
    pub fn run(self) -> Result<UpkeepDone, JournalError> {
        let disk = &*self.disk;
        for ClosedSegment { segment, end, next } in &self.closed {
            segment.sync()?;
            segment.write_mark(Mark::Sealed { end: *end, next: *next })?;
        }
        if let Some(current) = &self.current {
            current.sync()?;
        }
        // The oldest first: those that are left must follow each other.
        for number in &self.released {
            give_up(disk, *number)?;
        }
        let prepared =
            self.prepare.map(|number| prepare(disk, &self.config, number)).transpose()?;
        Ok(UpkeepDone { synced: self.synced, prepared })
    }
}
