//! What the outbox's journal needs beside its commits, on a thread of its own, `outbox`: it gets segments ready and to the
//! disk, and moves what they hold into the tables. No publish waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nsq_protocol::thread::StopToken;
use parking_lot::Mutex;

use super::contents::OutboxChanges;
use super::tables::{CANNOT_WRITE, OutboxTables};
use crate::journal::{self, Disk, Journal, Position, SEGMENT_BYTES, Sync};
use crate::storage::failpoint;
use crate::storage::in_place::FilesInPlace;

/// How large things may grow, and how long they may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutboxLimits {
    /// Bytes of a segment.
    pub(super) segment_bytes: u64,
    /// Bytes of whole segments at which a checkpoint is due.
    pub(super) checkpoint_bytes: u64,
    /// The longest that a change waits for a checkpoint.
    pub(super) checkpoint_every: Duration,
    /// Plays that came or went of one transaction of a checkpoint.
    pub(super) slice_plays: u64,
    /// How often the thread looks what there is to do.
    pub(super) tick: Duration,
}

impl OutboxLimits {
    /// Four segments are read in less than a second at a start. A play is some bytes here and 4 KB in a table's page, so
    /// checkpoints are rare; a slice is some MB of memory and of SQLite's WAL.
    pub(super) const DEFAULT: Self = Self {
        segment_bytes: SEGMENT_BYTES,
        checkpoint_bytes: 4 * SEGMENT_BYTES,
        checkpoint_every: Duration::from_secs(300),
        slice_plays: 1_000_000,
        tick: Duration::from_secs(1),
    };
}

/// What those who commit and the thread share.
pub(super) struct SharedJournal {
    pub(super) journal: Journal,
    /// The tables' files: a batch is kept, and the thread goes on, only while they are where they were.
    pub(super) files: FilesInPlace,
    /// A commit has failed: nothing is certain but what the files say.
    pub(super) has_failed: bool,
    /// The first reason why nothing more is kept: of a commit, or of the thread, which has ended with it. It stays the one that
    /// is told: with the thread its tables were closed, and what SQLite has removed then is not missed.
    pub(super) failure: Option<anyhow::Error>,
}

impl SharedJournal {
    /// Whether anything may be kept still.
    ///
    /// # Errors
    /// The first reason why not.
    pub(super) fn check_failed(&self) -> Result<()> {
        self.failure.as_ref().map_or(Ok(()), |error| Err(anyhow!("{error:#}")))
    }

    /// Looks whether all files are where they were opened.
    ///
    /// # Errors
    /// One is not.
    pub(super) fn check_in_place(&self) -> Result<()> {
        self.journal.check_in_place().context(CANNOT_WRITE)?;
        self.files.check().context(CANNOT_WRITE)
    }
}

/// What the thread has.
pub(super) struct OutboxUpkeep {
    pub(super) shared: Arc<Mutex<SharedJournal>>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) tables: OutboxTables,
    pub(super) limits: OutboxLimits,
    /// Where the journal goes on from the tables.
    pub(super) position: Position,
    /// What is in the tables, and nothing else.
    pub(super) unchanged: OutboxChanges,
}

impl OutboxUpkeep {
    /// Looks after the journal until `stop`; then moves all that is left into the tables.
    pub(super) fn run(mut self, stop: &StopToken) {
        let done = self.look_after(stop);
        let mut shared = self.shared.lock();
        // Files that are gone are the cause, whatever has come upon it.
        let done = done.map_err(|error| shared.check_in_place().err().unwrap_or(error));
        // After a failed commit its reason is the one to tell.
        if shared.failure.is_none() {
            shared.failure = done.err();
        }
    }

    fn look_after(&mut self, stop: &StopToken) -> Result<()> {
        let (mut began_at, mut seen) = (Instant::now(), 0);
        // Beside what waits there are the present segment and the next. Starts count as well: a journal that is killed again
        // and again must not grow without end.
        let OutboxLimits { segment_bytes, checkpoint_bytes, .. } = self.limits;
        let large = checkpoint_bytes + 2 * segment_bytes;
        while !stop.wait(self.limits.tick) {
            let mut shared = self.shared.lock();
            shared.check_in_place()?;
            let next = shared.journal.next();
            let is_quiet = std::mem::replace(&mut seen, next) == next;
            let is_large = shared.journal.size() >= large;
            let is_old = began_at.elapsed() >= self.limits.checkpoint_every;
            if is_large || is_old && next > self.position.number {
                drop(shared);
                self.checkpoint()?;
                began_at = Instant::now();
                shared = self.shared.lock();
            }
            let sync = if is_quiet { Sync::All } else { Sync::Closed };
            let upkeep = shared.journal.upkeep(sync);
            drop(shared);
            self.do_upkeep(upkeep)?;
        }
        self.checkpoint()?;
        let mut shared = self.shared.lock();
        if shared.has_failed { Ok(()) } else { shared.journal.close().context(CANNOT_WRITE) }
    }

    fn do_upkeep(&self, upkeep: Option<journal::Upkeep>) -> Result<()> {
        let Some(upkeep) = upkeep else { return Ok(()) };
        let done = upkeep.run().context(CANNOT_WRITE)?;
        self.shared.lock().journal.upkept(done).context(CANNOT_WRITE)
    }

    /// Moves all that is committed into the tables: reads it from the journal, as a start would.
    fn checkpoint(&mut self) -> Result<()> {
        let (next, upkeep) = {
            let mut shared = self.shared.lock();
            if shared.has_failed {
                return Ok(());
            }
            (shared.journal.next(), shared.journal.upkeep(Sync::All))
        };
        // The tables must not be ahead of what is on the disk.
        self.do_upkeep(upkeep)?;
        if next == self.position.number {
            return Ok(());
        }
        let (mut changes, mut written) = (self.unchanged.clone(), Ok(()));
        let (disk, from) = (Arc::clone(&self.disk), self.position);
        let read = journal::read(&*disk, from, |number, payload| {
            // What came since may not be on the disk yet.
            if number >= next {
                return Ok(());
            }
            changes.apply(payload)?;
            if changes.plays >= self.limits.slice_plays {
                written = self.write(&mut changes, number + 1);
                written.as_ref().map_err(|_| "what it says cannot be written".to_owned())?;
            }
            Ok(())
        });
        written?;
        if read? < next {
            return Err(anyhow!("frames before {next} are not in the journal any more"));
        }
        self.write(&mut changes, next)?;
        failpoint::hit("outbox-after-checkpoint");
        self.shared.lock().journal.release(self.position);
        Ok(())
    }

    /// Writes a slice, after which the journal goes on with the frame `next`.
    fn write(&mut self, changes: &mut OutboxChanges, next: u64) -> Result<()> {
        let position = self.shared.lock().journal.position(next);
        self.tables.write(changes, position)?;
        self.position = position;
        self.unchanged = changes.after();
        changes.clone_from(&self.unchanged);
        Ok(())
    }
}
