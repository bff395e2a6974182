//! What a journal needs and no commit should wait for. Taken from the journal while it is held, done while it is not.

use std::sync::Arc;

use parking_lot::Mutex;

use super::append::Journal;
use super::disk::Disk;
use super::error::JournalError;
use super::frame::Mark;
use super::prepare::NextSegment;
use super::segment::{ClosedSegment, Segment};

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
    ahead: Arc<NextSegment>,
    turn: Arc<Mutex<bool>>,
    closed: Vec<ClosedSegment>,
    current: Option<Segment>,
    /// What is on the disk when all of it is done.
    synced: u64,
    released: Vec<u64>,
    /// Why it cannot be done.
    failed: Option<JournalError>,
}

/// What was done.
#[must_use = "the journal must be told"]
pub struct UpkeepDone {
    /// All below is on the disk.
    synced: u64,
    closed: Vec<ClosedSegment>,
    released: Vec<u64>,
    /// Why files could not be made ready or given up: nothing depends on that.
    failed: Option<JournalError>,
}

impl Journal {
    /// What is to be done where no commit waits for it: to make the next segment ready, to give up what was released, to
    /// get closed segments to the disk; and, with `sync`, all that is committed. `None`: nothing. One that is not run, or
    /// fails, is to be done again by the next.
    pub fn upkeep(&mut self, sync: Sync) -> Option<Upkeep> {
        let failed = match sync {
            Sync::All => self.mend_doubt().err(),
            Sync::Closed => None,
        };
        Upkeep::of(self, sync, failed)
    }

    /// Takes note of what was done. Where nothing was committed since, all is on the disk, and a mark seals it.
    ///
    /// # Errors
    /// The mark cannot be written, or a file not be made ready or given up. The journal can go on, and all that was
    /// committed before [`Journal::upkeep`] is on the disk as asked.
    pub fn upkept(&mut self, done: UpkeepDone) -> Result<(), JournalError> {
        let UpkeepDone { synced, closed, released, failed } = done;
        self.synced = self.synced.max(synced);
        let settled = closed.last().map_or(0, |closed| closed.segment.number);
        self.closed.retain(|closed| closed.segment.number > settled);
        self.released.retain(|number| !released.contains(number));
        self.seal()?;
        failed.map_or(Ok(()), Err)
    }

    /// Takes the files away by `take`, while no upkeep works on them. If that succeeds none ever does again, also none that waits to
    /// be run; and nothing is to be appended.
    ///
    /// # Errors
    /// Those of `take`: nothing has changed.
    pub fn end<E>(&self, take: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut has_ended = self.upkeep.lock();
        take()?;
        *has_ended = true;
        Ok(())
    }

    /// Gets everything to the disk and seals it. Nothing is to be appended behind it, though it may be.
    ///
    /// # Errors
    /// As [`Journal::commit`].
    pub fn close(&mut self) -> Result<(), JournalError> {
        self.heal()?;
        self.commit()?;
        let done = match self.upkeep(Sync::All) {
            Some(upkeep) => self.upkept(upkeep.run()?),
            None => Ok(()),
        };
        self.current().sync()?;
        done
    }

    /// Writes a seal, if all is on the disk and there is none.
    fn seal(&mut self) -> Result<(), JournalError> {
        if !self.mark.is_open() || self.synced < self.next || self.has_failed {
            return Ok(());
        }
        // Even if it fails: it may be there.
        self.mark = Mark::Sealed { end: self.offset, next: self.next };
        self.current().write_mark(self.mark)
    }

    /// After a sync of the present segment that failed: it is settled, and the journal goes on in another. Not within a
    /// group.
    fn mend_doubt(&mut self) -> Result<(), JournalError> {
        let (next, _, number) = self.committed;
        let is_doubtful = self
            .segments
            .iter()
            .any(|(segment, _)| segment.number == number && segment.is_doubtful());
        if is_doubtful && self.next == next {
            self.has_failed = true;
            return self.heal();
        }
        Ok(())
    }
}

impl Upkeep {
    fn of(journal: &mut Journal, sync: Sync, failed: Option<JournalError>) -> Option<Self> {
        let (committed, _, number) = journal.committed;
        // Not one that holds frames of a commit that may yet fail: it is closed somewhere else then.
        let closed = journal.closed.iter().filter(|closed| closed.next <= committed);
        let closed: Vec<_> = closed.cloned().collect();
        let settled = closed.last().map_or(journal.synced, |closed| closed.next);
        let is_open = number != journal.current().number || journal.mark.is_open();
        let is_behind = journal.synced.max(settled) < committed;
        let all = sync == Sync::All && is_open;
        let current = journal.segments.iter().find(|(segment, _)| segment.number == number);
        let current = current.filter(|_| all && is_behind).map(|(segment, _)| segment.clone());
        let is_ready = journal.ahead.is_ready();
        if closed.is_empty() && journal.released.is_empty() && !all && is_ready && failed.is_none()
        {
            return None;
        }
        Some(Self {
            disk: Arc::clone(&journal.disk),
            ahead: Arc::clone(&journal.ahead),
            turn: Arc::clone(&journal.upkeep),
            closed,
            synced: if current.is_some() { committed } else { settled },
            current,
            released: journal.released.clone(),
            failed,
        })
    }

    /// Does it: some syncs and writes, each as long as the disk takes. Only one at a time.
    ///
    /// # Errors
    /// The operating system's: what was committed is not known to be on the disk. The journal can go on without it.
    pub fn run(mut self) -> Result<UpkeepDone, JournalError> {
        let turn = Arc::clone(&self.turn);
        let has_ended = turn.lock();
        if *has_ended {
            let (closed, released) = (Vec::new(), Vec::new());
            return Ok(UpkeepDone { synced: 0, closed, released, failed: None });
        }
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        for closed in &self.closed {
            closed.settle(&*self.disk)?;
        }
        if let Some(current) = &self.current {
            current.sync()?;
        }
        let failed = self.tidy_files().err();
        let Self { synced, closed, released, .. } = self;
        let released = if failed.is_some() { Vec::new() } else { released };
        Ok(UpkeepDone { synced, closed, released, failed })
    }

    /// Gives up what was released, and makes the next segment ready.
    fn tidy_files(&self) -> Result<(), JournalError> {
        let mut ahead = self.ahead.lock();
        for number in &self.released {
            ahead.give_up(*number)?;
        }
        ahead.make_ready().map(|_| ())
    }
}
