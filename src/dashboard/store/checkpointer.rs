//! The thread that writes the tables, `dash-checkpoint`: checkpoints, the rare tasks that a caller waits for, the removal of
//! old history, and once a second what the journal needs. No update waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::checkpoint::{Checkpoints, upkeep};
use super::job::{PostedTask, Reply, Task};
use super::period::Keep;
use super::state::StoreState;
use super::writer::CANNOT_STORE;
use super::{actions, database, history, points};
use crate::journal::Sync;
use crate::runtime::clock::unix_ms;
use crate::runtime::priority::yield_to_others;

/// How often the journal is looked after, and whether a checkpoint is due.
const TICK: Duration = Duration::from_secs(1);

/// How long the checkpoint at the end may take: what it does not write, the next start reads from the journal. A million
/// changed videos would take half a minute, and whoever stops us waits 10 s in all.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

/// How often there may be history that is too old.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Who writes the tables.
pub(super) struct Checkpointer {
    state: Arc<StoreState>,
    keep: Keep,
    checkpoints: Checkpoints,
    next_tick: Instant,
    next_prune: Instant,
    // The number of the next change at the last tick.
    seen: u64,
    // Why the newest upkeep failed: it is said once.
    upkeep_failure: Option<String>,
}

impl Checkpointer {
    /// One that goes on with these checkpoints.
    pub(super) fn new(state: Arc<StoreState>, keep: Keep, checkpoints: Checkpoints) -> Self {
        let now = Instant::now();
        Self {
            state,
            keep,
            checkpoints,
            next_tick: now,
            next_prune: now,
            seen: 0,
            upkeep_failure: None,
        }
    }

    /// Goes on until nobody can ask any more; then writes all that the tables do not have, and closes the files.
    pub(super) fn run(mut self, inbox: &Receiver<PostedTask>) {
        yield_to_others();
        let mut next_at = Instant::now();
        loop {
            let pause = next_at.saturating_duration_since(Instant::now());
            match inbox.recv_timeout(pause) {
                Ok((task, caller)) => {
                    // A caller that gave up waiting will ask again.
                    let _ = caller.try_send(self.answer(&task));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let began = Instant::now();
            let is_more = self.advance();
            let now = Instant::now();
            // The disk and the processors are left to the updates for as long as it took.
            next_at = if is_more { now + (now - began).min(TICK) } else { self.next_tick };
        }
        if self.checkpoints.finish(Some(Instant::now() + CLOSE_WITHIN)).is_ok()
            && let Err(error) = self.checkpoints.close()
        {
            log::error!("the dashboard's files are not closed in order: {error:#}");
        }
    }

    /// Does a little of what is due; whether there is more.
    fn advance(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.look_for_files();
            self.look_after_journal();
        }
        if self.checkpoints.is_due() {
            // Why it fails is in the state, and said in the log.
            return self.checkpoints.advance().is_ok();
        }
        if now >= self.next_prune {
            let is_more = self.prune().unwrap_or_else(|error| {
                log::warn!("old history cannot be removed: {error:#}");
                false
            });
            if !is_more {
                self.next_prune = now + PRUNE_EVERY;
                self.checkpoints.write_back();
            }
            return is_more;
        }
        false
    }

    /// Turns health red where files are gone, though nobody stores anything; its next question tries again.
    fn look_for_files(&self) {
        let Err(error) = self.state.check_in_place() else { return };
        let mut failure = self.state.commit_failure.lock();
        if failure.is_none() {
            let reason = format!("{CANNOT_STORE}{error:#}");
            log::error!("{reason}");
            *failure = Some(reason.into());
        }
    }

    fn look_after_journal(&mut self) {
        let next = self.state.applied.load(Ordering::Acquire);
        // A second without a change: all gets to the disk, and is sealed.
        let sync = if next == self.seen { Sync::All } else { Sync::Closed };
        self.seen = next;
        let failure = upkeep(&self.state, sync).err();
        let failure = failure.map(|error| format!("{:#}", anyhow::Error::from(error)));
        if let Some(reason) = failure.as_ref().filter(|_| failure != self.upkeep_failure) {
            log::warn!("the journal cannot be looked after: {reason}");
        }
        self.upkeep_failure = failure;
    }

    /// Does a task.
    fn answer(&mut self, task: &Task) -> Reply {
        match task {
            Task::Point(point) => self.write(|transaction| points::add(transaction, point)),
            Task::Action(line) => self.write(|transaction| actions::add(transaction, line)),
            Task::Probe => {
                self.write(|transaction| {
                    transaction.execute("UPDATE identity SET only = 1", [])?;
                    Ok(())
                })?;
                self.checkpoints.advance()
            }
            #[cfg(test)]
            Task::Checkpoint => self.checkpoints.finish(None),
            #[cfg(test)]
            Task::Hold(begun, end) => {
                begun.send(()).map_err(|_| "nobody waits")?;
                let _ = end.recv();
                Ok(())
            }
        }
    }

    fn write(&mut self, act: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<()>) -> Reply {
        let done = (|| {
            let transaction = database::begin(&mut self.checkpoints.connection)?;
            act(&transaction)?;
            anyhow::Ok(transaction.commit()?)
        })();
        let done = done.map_err(|error| {
            let error = self.state.cause(error);
            let reason: Arc<str> = format!("the database cannot be written: {error:#}").into();
            log::error!("{reason}");
            reason
        });
        if done.is_err() {
            *self.state.checkpoint_failure.lock() = done.clone().err();
        }
        done
    }

    /// Removes some history that is too old; whether there is more.
    fn prune(&mut self) -> Result<bool> {
        let transaction = database::begin(&mut self.checkpoints.connection)?;
        let now = unix_ms();
        let is_more = history::prune(&transaction, self.keep, now)?;
        points::prune(&transaction, self.keep, now)?;
        transaction.commit()?;
        Ok(is_more)
    }
}
