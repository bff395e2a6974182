//! Checkpoints: what has changed goes from memory into the tables, a slice at a time, and then the journal may forget it.
//! Says when, too. Runs on `dash-checkpoint`, for which no update ever waits.
//!
//! A slice is taken out of memory in a moment, and written without any lock. It stays pending, for those who read history,
//! until it is committed. Played again over tables that have some slices and not others, the journal changes nothing:
//! counts only grow, and a video's history is written in the transaction that writes its count.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use rusqlite::Connection;
use uuid::Uuid;

use super::catalog::{self, CatalogKey};
use super::database::CommitSync;
use super::identity::{CountSums, TablesIdentity};
use super::job::Reply;
use super::pending::ClearedTables;
use super::state::StoreState;
use super::{catalog_tables, confirmed, database, ledgers, tables};
use crate::journal::{JournalError, Position, Sync};
use crate::model::video_id::VideoId;
use crate::storage::failpoint;

/// A checkpoint begins when the journal has grown by so much since the last: what changes often is written once.
const JOURNAL_BYTES: u64 = 64 << 20;

/// So long after the last one a checkpoint begins whatever has changed: so old is what a start plays again.
const EVERY: Duration = Duration::from_secs(300);

/// So many changed videos begin one: about 80 MB of memory.
const VIDEOS_OVERDUE: usize = 1_000_000;

/// The pause behind a checkpoint that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// Videos, or producers, of a slice: an update waits while one is taken out of memory, for less than a ms.
const SLICE: usize = 500;

/// Slices that one transaction writes, in some 100 ms: who asks for a rare task waits for one.
const SLICES: usize = 8;

/// The WAL goes back into the database after so many transactions, each of up to 12,000 pages. A snapshot that is read for long, such
/// as a backup's, holds it up: then the WAL grows meanwhile.
const WAL_CHECKPOINT_AFTER: usize = 6;

/// How far a checkpoint is.
#[derive(Clone, Copy, Debug)]
enum CheckpointStage {
    /// The tables have the videos up to this one.
    Videos(Option<VideoId>),
    /// They have all videos, and the producers up to this one.
    Producers(Option<Uuid>),
    /// They have all of both, and the catalog up to this row.
    Catalog(Option<CatalogKey>),
}

/// A checkpoint in progress.
#[derive(Clone, Copy, Debug)]
struct CheckpointProgress {
    // The tables have every change before this number when it is done.
    next: u64,
    stage: CheckpointStage,
}

/// When there is a checkpoint, and how far the present one is.
pub(super) struct Checkpoints {
    state: Arc<StoreState>,
    /// The connection that writes.
    pub(super) connection: Connection,
    identity: TablesIdentity,
    current: Option<CheckpointProgress>,
    // When the next one begins whatever has changed; and not before, after one that failed.
    next_at: Instant,
    not_before: Instant,
    // What the journal had written when the last one began.
    begun_at: u64,
    // Since the WAL went back.
    commits: usize,
}

impl Checkpoints {
    /// The first one begins at once: what a killed dashboard has left need not be played again at the next start.
    pub(super) fn new(
        state: Arc<StoreState>,
        connection: Connection,
        identity: TablesIdentity,
    ) -> Self {
        let now = Instant::now();
        Self {
            state,
            connection,
            identity,
            current: None,
            next_at: now,
            not_before: now,
            begun_at: 0,
            commits: 0,
        }
    }

    /// Whether there is something to write now.
    pub(super) fn is_due(&self) -> bool {
        let now = Instant::now();
        if now < self.not_before {
            return false;
        }
        let of_catalog = self.state.index.read().catalog().waiting();
        let pending = self.state.pending.read();
        let is_urgent = self.current.is_some()
            || of_catalog >= catalog::CHANGED_OVERDUE
            || pending.cleared().is_some()
            || pending.len() >= VIDEOS_OVERDUE;
        drop(pending);
        let is_urgent =
            is_urgent || self.state.confirmed.read().waiting() >= confirmed::CHANGED_OVERDUE;
        let grown = self.state.journal.lock().written().saturating_sub(self.begun_at);
        is_urgent || (self.has_news() && (now >= self.next_at || grown >= JOURNAL_BYTES))
    }

    /// Whether the journal has anything that the tables do not have.
    fn has_news(&self) -> bool {
        let position = self.identity.position.map_or(0, |position| position.number);
        self.state.applied.load(Ordering::Acquire) > position
    }

    /// Writes one slice; whether it could.
    pub(super) fn advance(&mut self) -> Reply {
        let done = self.step().map_err(|error| {
            let error = self.state.cause(error);
            let reason: Arc<str> = format!("the counts cannot be put in order: {error:#}").into();
            log::error!("{reason}");
            reason
        });
        if done.is_err() {
            self.current = None;
            self.not_before = Instant::now() + AGAIN;
        }
        *self.state.checkpoint_failure.lock() = done.clone().err();
        done
    }

    /// Writes all that waits, or as much as can be written until then: the rest stays in the journal.
    pub(super) fn finish(&mut self, deadline: Option<Instant>) -> Reply {
        while self.current.is_some()
            || self.has_news()
            || self.state.pending.read().cleared().is_some()
        {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(());
            }
            self.advance()?;
        }
        Ok(())
    }

    /// Says that the files are closed in order. Nothing is to be committed behind it.
    pub(super) fn close(mut self) -> Result<()> {
        self.state.journal.lock().close()?;
        self.identity.closed = Some(true);
        database::sync_commits(&self.connection, CommitSync::Each)?;
        self.identity.write(&self.connection)
    }

    fn step(&mut self) -> Result<()> {
        let cleared = self.state.pending.read().cleared();
        if let Some(cleared) = cleared {
            self.current = None;
            self.clear(cleared)?;
            self.count_commit();
            return Ok(());
        }
        let progress = match self.current {
            Some(progress) => progress,
            None => self.begin()?,
        };
        let next = match progress.stage {
            CheckpointStage::Videos(after) => match self.write_videos(after)? {
                Some(last) => Some(CheckpointStage::Videos(Some(last))),
                None => Some(CheckpointStage::Producers(None)),
            },
            CheckpointStage::Producers(after) => match self.write_producers(after)? {
                Some(last) => Some(CheckpointStage::Producers(Some(last))),
                None => Some(CheckpointStage::Catalog(None)),
            },
            CheckpointStage::Catalog(after) => match self.write_catalog(after)? {
                Some(last) => Some(CheckpointStage::Catalog(Some(last))),
                None => {
                    self.end(progress.next)?;
                    None
                }
            },
        };
        self.current = next.map(|stage| CheckpointProgress { stage, ..progress });
        // The end of one has written it back.
        if self.current.is_some() {
            self.count_commit();
        }
        Ok(())
    }

    /// Counts the transaction of a step, and lets the WAL go back after some.
    fn count_commit(&mut self) {
        self.commits += 1;
        if self.commits >= WAL_CHECKPOINT_AFTER {
            self.write_back();
        }
    }

    /// Gets all that is in memory to the disk: the tables are never ahead of the journal there.
    fn begin(&mut self) -> Result<CheckpointProgress> {
        database::sync_commits(&self.connection, CommitSync::WithTheWal)?;
        let next = self.state.applied.load(Ordering::Acquire);
        self.begun_at = self.state.journal.lock().written();
        sync_journal(&self.state)?;
        Ok(CheckpointProgress { next, stage: CheckpointStage::Videos(None) })
    }

    /// Writes videos behind `after`; the last of them, or `None`: there are no more.
    fn write_videos(&mut self, after: Option<VideoId>) -> Result<Option<VideoId>> {
        match self.try_write_videos(after) {
            Ok((last, identity)) => {
                self.identity = identity;
                Ok(last)
            }
            Err(error) => {
                self.state.pending.write().undo_slices();
                self.state.ledgers.write().give_back();
                Err(error)
            }
        }
    }

    fn try_write_videos(
        &mut self,
        mut after: Option<VideoId>,
    ) -> Result<(Option<VideoId>, TablesIdentity)> {
        let mut identity = self.identity.clone();
        let mut sums = identity.sums();
        let transaction = database::begin(&mut self.connection)?;
        for _ in 0..SLICES {
            let (slice, videos) = {
                let index = self.state.index.read();
                let mut pending = self.state.pending.write();
                if pending.cleared().is_some() {
                    // The next step is the reset.
                    after = Some(VideoId::NIL);
                    break;
                }
                let slice = pending.begin_slice(after, SLICE);
                let videos = index.of_slice(&slice);
                (slice, videos)
            };
            tables::write_slice(&transaction, &slice, &videos, &mut sums)?;
            after = slice.videos.last().map(|(id, _)| *id);
            if after.is_none() {
                break;
            }
        }
        // Behind the counts: what is forgotten there is said here.
        if let Some(changed) = self.state.ledgers.write().take_changed() {
            ledgers::write(&transaction, &changed)?;
        }
        identity.id = *self.state.id.lock();
        identity.set_sums(sums);
        identity.write(&transaction)?;
        failpoint::hit("dashboard-before-checkpoint-commit");
        let tables = self.state.tables.write();
        transaction.commit()?;
        failpoint::hit("dashboard-after-checkpoint-commit");
        let done = self.state.pending.write().end_slices();
        drop((tables, done));
        Ok((after, identity))
    }

    /// Writes producers behind `after`; the last of them, or `None`: there are no more.
    fn write_producers(&mut self, after: Option<Uuid>) -> Result<Option<Uuid>> {
        let (is_forgotten, taken) = {
            let pending = self.state.pending.read();
            if pending.cleared().is_some() {
                // The next step is the reset.
                return Ok(Some(Uuid::nil()));
            }
            let mut confirmed = self.state.confirmed.write();
            (confirmed.take_forgotten(), confirmed.take_changed(after, SLICE))
        };
        let last = taken.keys().next_back().copied();
        if last.is_none() && !is_forgotten {
            return Ok(None);
        }
        let written = (|| {
            let transaction = database::begin(&mut self.connection)?;
            if is_forgotten {
                confirmed::empty(&transaction)?;
            }
            confirmed::write(&transaction, &taken)?;
            anyhow::Ok(transaction.commit()?)
        })();
        if let Err(error) = written {
            self.state.confirmed.write().give_back();
            return Err(error);
        }
        self.state.confirmed.write().written();
        Ok(last)
    }

    /// Writes rows of the catalog behind `after`; the last of them, or `None`: there are no more.
    fn write_catalog(&mut self, after: Option<CatalogKey>) -> Result<Option<CatalogKey>> {
        let taken = {
            let mut index = self.state.index.write();
            if self.state.pending.read().cleared().is_some() {
                // The next step is the reset.
                return Ok(Some(CatalogKey::Import(Uuid::max())));
            }
            index.catalog_mut().take_changed(after, SLICE)
        };
        let Some((last, _)) = taken.last() else { return Ok(None) };
        let written = (|| {
            let mut identity = self.identity.clone();
            let mut sums = identity.sums();
            let transaction = database::begin(&mut self.connection)?;
            catalog_tables::write(&transaction, &taken, &mut sums)?;
            // An import that is gone from its table is one whose counts are forgotten.
            if let Some(changed) = self.state.ledgers.write().take_changed() {
                ledgers::write(&transaction, &changed)?;
            }
            identity.set_sums(sums);
            identity.write(&transaction)?;
            transaction.commit()?;
            anyhow::Ok(identity)
        })();
        match written {
            Ok(identity) => {
                self.identity = identity;
                self.state.index.write().catalog_mut().written();
                Ok(Some(*last))
            }
            Err(error) => {
                self.state.index.write().catalog_mut().give_back();
                self.state.ledgers.write().give_back();
                Err(error)
            }
        }
    }

    /// Notes that the tables have every change before `next`, and lets the journal forget them.
    fn end(&mut self, next: u64) -> Result<()> {
        let position = self.state.journal.lock().position(next);
        let identity = TablesIdentity { position: Some(position), ..self.identity.clone() };
        database::sync_commits(&self.connection, CommitSync::Each)?;
        identity.write(&self.connection)?;
        database::sync_commits(&self.connection, CommitSync::WithTheWal)?;
        self.release(identity, position);
        self.next_at = Instant::now() + EVERY;
        self.write_back();
        Ok(())
    }

    /// Lets SQLite's WAL go back into the database, so that it begins again: between transactions, where nobody waits.
    pub(super) fn write_back(&mut self) {
        self.commits = 0;
        let done = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = done {
            log::warn!("the WAL cannot be written back: {error}");
        }
    }

    /// Empties the tables, as of a reset.
    fn clear(&mut self, cleared: ClearedTables) -> Result<()> {
        sync_journal(&self.state)?;
        let position = self.state.journal.lock().position(cleared.next);
        let mut identity = self.identity.clone();
        (identity.id, identity.position) = (cleared.id, Some(position));
        database::sync_commits(&self.connection, CommitSync::Each)?;
        // The frames that are given up with it may be all that says of titles.
        let taken = self.state.index.write().catalog_mut().take_changed(None, usize::MAX);
        let state = Arc::clone(&self.state);
        let written = (|| {
            let mut sums = CountSums { catalog: identity.sums().catalog, ..CountSums::default() };
            let transaction = database::begin(&mut self.connection)?;
            tables::clear(&transaction)?;
            catalog_tables::write(&transaction, &taken, &mut sums)?;
            identity.set_sums(sums);
            identity.write(&transaction)?;
            let tables = state.tables.write();
            transaction.commit()?;
            anyhow::Ok(tables)
        })();
        let tables = match written {
            Ok(tables) => tables,
            Err(error) => {
                self.state.index.write().catalog_mut().give_back();
                return Err(error);
            }
        };
        self.state.index.write().catalog_mut().written();
        self.state.pending.write().tables_cleared(cleared);
        // Those that were claimed since the reset.
        self.state.ledgers.write().give_back();
        drop(tables);
        database::sync_commits(&self.connection, CommitSync::WithTheWal)?;
        self.release(identity, position);
        Ok(())
    }

    fn release(&mut self, identity: TablesIdentity, position: Position) {
        self.identity = identity;
        self.state.journal.lock().release(position);
    }
}

/// Gets all that is in memory to the disk.
pub(super) fn sync_journal(state: &StoreState) -> Result<(), JournalError> {
    // One that has failed says so: the next update tries to go on in another segment, and what is before it is not synced.
    state.journal.lock().commit()?;
    upkeep(state, Sync::All)
}

/// Does what the journal needs and no commit should wait for.
pub(super) fn upkeep(state: &StoreState, sync: Sync) -> Result<(), JournalError> {
    let work = state.journal.lock().upkeep(sync);
    let Some(work) = work else { return Ok(()) };
    let done = work.run()?;
    state.journal.lock().upkept(done)
}
