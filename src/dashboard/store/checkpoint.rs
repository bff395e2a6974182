//! Checkpoints: what has changed goes from memory into the tables of counts and of history, some videos at a time, and
//! then the log that had it goes. Says when, too. Runs on the writer's thread, between commits.
//!
//! SQLite's own checkpoint, which writes the WAL back into the database, is called the WAL checkpoint here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

use super::index::ProcessorCount;
use super::pending::Minutes;
use super::period::Keep;
use super::state::StoreState;
use super::{database, history, log as update_log, points};
use crate::runtime::clock::unix_ms;
use crate::storage::failpoint;

/// How often changed videos are checkpointed: the more of them at a time, the more share a page.
const EVERY: Duration = Duration::from_secs(30);

/// So many changed videos are checkpointed as soon as no update has come for [`QUIET`].
const VIDEOS_DUE: usize = 200_000;

/// How long a burst of updates may pause: what is published at once is taken at once, and checkpointed behind it.
const QUIET: Duration = Duration::from_millis(5);

/// How long the first change may wait, however many come: the log must not grow for ever.
const LATEST: Duration = Duration::from_secs(120);

/// So many changed videos are checkpointed whatever comes: about 80 MB, and up to 5 s to play again at a start.
const VIDEOS_OVERDUE: usize = 1_000_000;

/// The most changed videos, when checkpoints fail.
const VIDEOS_MAX: usize = 2_000_000;

/// The pause behind a checkpoint that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// Videos that one transaction checkpoints: how long an update may wait, some 10 ms.
const SLICE: usize = 1_000;

/// A WAL checkpoint after so many commits, of which a slice's counts as [`SLICE_COMMITS`]: at about 16 MB of WAL, which
/// it lets begin again. A snapshot that is read for long, such as a backup's, holds it up: then the WAL grows meanwhile.
const WAL_CHECKPOINT_AFTER: usize = 2_000;

/// A slice touches up to 3,000 pages, an update two.
const SLICE_COMMITS: usize = 400;

/// While there is nothing to checkpoint, nothing is waited for but updates.
const IDLE: Duration = Duration::from_secs(3600);

/// Whether updates are coming in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    /// One has just come.
    Busy,
    /// None has come for as long as [`Checkpoints::pause`] said.
    Quiet,
}

/// A checkpoint in progress.
struct CheckpointProgress {
    // The log up to here is not needed behind it.
    up_to: i64,
    // The last video that the tables have.
    last: Option<Uuid>,
}

/// When there is a checkpoint, and how far the present one is.
pub(super) struct Checkpoints {
    state: Arc<StoreState>,
    keep: Keep,
    current: Option<CheckpointProgress>,
    // When the next one may begin, and when it must, whatever comes.
    next_at: Instant,
    latest_at: Instant,
    // Whether there may be history that is too old.
    to_prune: bool,
    // Since the last WAL checkpoint.
    commits: usize,
}

impl Checkpoints {
    /// The first one begins at once: what a killed dashboard has left need not be played again at the next start.
    pub(super) fn new(state: Arc<StoreState>, keep: Keep) -> Self {
        let next_at = Instant::now();
        let latest_at = next_at + LATEST;
        Self { state, keep, current: None, next_at, latest_at, to_prune: true, commits: 0 }
    }

    /// How long the next update may be waited for.
    pub(super) fn pause(&self) -> Duration {
        if self.current.is_some() || self.to_prune {
            return QUIET;
        }
        match self.state.pending.read().len() {
            0 => IDLE,
            VIDEOS_DUE.. if self.state.checkpoint_failure.lock().is_none() => QUIET,
            _ => self.next_at.saturating_duration_since(Instant::now()).max(QUIET),
        }
    }

    /// Whether there is room for more changes.
    ///
    /// # Errors
    /// Why the newest checkpoint failed, when too much waits for it.
    pub(super) fn check_room(&self) -> Result<()> {
        if let Some(reason) = &*self.state.checkpoint_failure.lock()
            && self.state.pending.read().len() > VIDEOS_MAX
        {
            bail!("{reason}");
        }
        Ok(())
    }

    /// Notes a commit of the writer.
    pub(super) fn committed(&mut self) {
        self.commits += 1;
    }

    /// Notes the first change since a checkpoint.
    pub(super) fn begin_waiting(&mut self) {
        self.latest_at = Instant::now() + LATEST;
    }

    /// Notes that the tables are empty now.
    pub(super) fn cleared(&mut self) {
        self.current = None;
    }

    /// Goes on with a checkpoint, or removes old history, a little, if it is time and either quiet or late; and lets the
    /// WAL begin again.
    pub(super) fn advance(&mut self, connection: &mut Connection, traffic: Traffic) {
        if self.commits >= WAL_CHECKPOINT_AFTER {
            self.commits = 0;
            let done = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            if let Err(error) = done {
                log::warn!("the WAL cannot be written back: {error}");
            }
        }
        let pending = self.state.pending.read().len();
        let now = Instant::now();
        let is_due = self.current.is_some()
            || (pending > 0 && now >= self.next_at)
            || (pending >= VIDEOS_DUE && self.state.checkpoint_failure.lock().is_none());
        let is_overdue = pending >= VIDEOS_OVERDUE || now >= self.latest_at;
        if is_due && (traffic == Traffic::Quiet || is_overdue) {
            self.slice(connection);
        } else if self.to_prune {
            self.to_prune = self.prune(connection).unwrap_or_else(|error| {
                log::warn!("old history cannot be removed: {error:#}");
                false
            });
        }
    }

    /// Writes all that waits, as far as it can.
    pub(super) fn finish(&mut self, connection: &mut Connection) {
        while !self.state.pending.read().is_empty() || self.current.is_some() {
            if !self.slice(connection) {
                break;
            }
        }
    }

    /// Tries again, if the newest checkpoint failed.
    pub(super) fn retry(&mut self, connection: &mut Connection) {
        if self.state.checkpoint_failure.lock().is_some() {
            self.slice(connection);
        }
    }

    /// Writes one slice; whether it could.
    fn slice(&mut self, connection: &mut Connection) -> bool {
        match self.write_slice(connection) {
            Ok(()) => {
                *self.state.checkpoint_failure.lock() = None;
                true
            }
            Err(error) => {
                let reason: Arc<str> =
                    format!("the counts cannot be put in order: {error:#}").into();
                log::error!("{reason}");
                *self.state.checkpoint_failure.lock() = Some(reason);
                self.current = None;
                self.next_at = Instant::now() + AGAIN;
                false
            }
        }
    }

    fn write_slice(&mut self, connection: &mut Connection) -> Result<()> {
        let progress = match &mut self.current {
            Some(progress) => progress,
            none => none
                .insert(CheckpointProgress { up_to: update_log::newest(connection)?, last: None }),
        };
        let slice = self.state.pending.read().slice(progress.last, SLICE);
        let transaction = database::begin(connection)?;
        let Some((last, _)) = slice.last() else {
            // The tables have every video of these rows now.
            update_log::remove(&transaction, progress.up_to)?;
            transaction.commit()?;
            self.current = None;
            self.next_at = Instant::now() + EVERY;
            self.latest_at = Instant::now() + LATEST;
            self.to_prune = true;
            return Ok(());
        };
        for (id, minutes) in &slice {
            write_video(&transaction, &self.state, id, minutes)?;
        }
        failpoint::hit("dashboard-before-checkpoint-commit");
        let mut pending = self.state.pending.write();
        transaction.commit()?;
        failpoint::hit("dashboard-after-checkpoint-commit");
        for (id, _) in &slice {
            pending.remove(id);
        }
        progress.last = Some(*last);
        self.commits += SLICE_COMMITS;
        Ok(())
    }

    /// Removes some history that is too old; whether there is more.
    fn prune(&mut self, connection: &mut Connection) -> Result<bool> {
        let transaction = database::begin(connection)?;
        let now = unix_ms();
        let is_more = history::prune(&transaction, self.keep, now)?;
        points::prune(&transaction, self.keep, now)?;
        transaction.commit()?;
        Ok(is_more)
    }
}

/// Writes a video's counts and its newest history.
fn write_video(
    transaction: &Transaction<'_>,
    state: &StoreState,
    id: &Uuid,
    minutes: &Minutes,
) -> Result<()> {
    let (video, counts) = {
        let index = state.index.read();
        (index.video(id).context("a changed video is not known")?, index.processor_counts(id))
    };
    let last_played_at = video.last_played_at.map_or(0, |at| at.0);
    for ProcessorCount { processor, plays } in counts {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO counts VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![id, processor, plays, video.updated_at.0, last_played_at])?;
    }
    for (minute, plays) in minutes {
        history::add(transaction, id, *minute, *plays)?;
    }
    Ok(())
}
