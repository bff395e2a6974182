//! The one thread that writes, `dash-store`: it commits what waits together and answers; between commits it goes on with
//! checkpoints.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use foldhash::HashMap;
use rusqlite::{Connection, Transaction};
use uuid::Uuid;

use super::checkpoint::{Checkpoints, Traffic};
use super::index::{self, Index};
use super::job::{Job, Posted};
use super::period::Keep;
use super::state::StoreState;
use super::{actions, confirmed, database, log as update_log, points};
use crate::model::unix_time::UnixMs;
use crate::runtime::clock::unix_ms;
use crate::storage::failpoint;
use crate::wire::CountsUpdate;

/// The most updates in one transaction.
const GROUP_MAX: usize = 64;

/// The database, as its writer has it.
pub(super) struct Writer {
    connection: Connection,
    state: Arc<StoreState>,
    // Each processor's number in the database.
    numbers: HashMap<Uuid, u32>,
    checkpoints: Checkpoints,
}

impl Writer {
    /// A writer that knows those processors.
    pub(super) fn new(
        connection: Connection,
        state: Arc<StoreState>,
        numbers: HashMap<Uuid, u32>,
        keep: Keep,
    ) -> Self {
        let checkpoints = Checkpoints::new(Arc::clone(&state), keep);
        Self { connection, state, numbers, checkpoints }
    }

    /// Takes what waits, until nobody can ask any more; then writes all that no checkpoint has written.
    pub(super) fn run(mut self, inbox: &Receiver<Posted>) {
        loop {
            let traffic = match inbox.recv_timeout(self.checkpoints.pause()) {
                Ok(first) => {
                    self.take(first, inbox);
                    Traffic::Busy
                }
                Err(RecvTimeoutError::Timeout) => Traffic::Quiet,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            self.checkpoints.advance(&mut self.connection, traffic);
        }
        self.checkpoints.finish(&mut self.connection);
    }

    /// Commits what waits, and answers.
    fn take(&mut self, first: Posted, inbox: &Receiver<Posted>) {
        let mut group = vec![first];
        // Clearing ends a group: what comes behind it begins with nothing.
        while group.len() < GROUP_MAX
            && !matches!(group.last(), Some((Job::Clear, _)))
            && let Ok(next) = inbox.try_recv()
        {
            group.push(next);
        }
        let reply = match self.commit(&group) {
            Ok(()) => {
                *self.state.commit_failure.lock() = None;
                if group.iter().any(|(job, _)| matches!(job, Job::Probe)) {
                    self.checkpoints.retry(&mut self.connection);
                }
                Ok(())
            }
            Err(error) => {
                let reason: Arc<str> = format!("the counts cannot be stored: {error:#}").into();
                log::error!("{reason}");
                *self.state.commit_failure.lock() = Some(Arc::clone(&reason));
                Err(reason)
            }
        };
        for (_, caller) in group {
            // A caller that gave up waiting will send again.
            let _ = caller.try_send(reply.clone());
        }
    }

    fn commit(&mut self, group: &[Posted]) -> Result<()> {
        self.checkpoints.check_room()?;
        let news: Vec<&CountsUpdate> = group
            .iter()
            .filter_map(|(job, _)| match job {
                Job::Counts(update) if self.is_news(update) => Some(update),
                _ => None,
            })
            .collect();
        let is_more = group.iter().any(|(job, _)| !matches!(job, Job::Counts(_)));
        if news.is_empty() && !is_more {
            return Ok(());
        }
        let transaction = database::begin(&mut self.connection)?;
        let now = unix_ms();
        let added = append_all(&transaction, &self.numbers, &news, now)?;
        let cleared = write_others(&transaction, group, now)?;
        failpoint::hit("dashboard-before-commit");
        transaction.commit()?;
        failpoint::hit("dashboard-after-commit");
        self.checkpoints.committed();
        self.numbers.extend(added);
        let has_changed = match cleared {
            Some(id) => {
                self.clear(id);
                true
            }
            None => self.apply(&news, now),
        };
        if has_changed {
            self.state.revision.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    fn is_news(&self, update: &CountsUpdate) -> bool {
        let Some(number) = self.numbers.get(&update.processor) else { return true };
        let index = self.state.index.read();
        update.counts.iter().any(|count| index.is_news(*number, count))
    }

    /// Shows what is committed; whether any count has changed.
    fn apply(&mut self, news: &[&CountsUpdate], now: UnixMs) -> bool {
        if news.is_empty() {
            return false;
        }
        let (mut index, mut pending) = (self.state.index.write(), self.state.pending.write());
        if pending.is_empty() {
            self.checkpoints.begin_waiting();
        }
        let mut has_changed = false;
        for update in news {
            let Some(number) = self.numbers.get(&update.processor) else { continue };
            for count in &update.counts {
                has_changed |= index::apply(&mut index, &mut pending, *number, count, now);
            }
        }
        has_changed
    }

    /// Forgets every count: the tables are empty.
    fn clear(&mut self, id: Uuid) {
        *self.state.id.lock() = id;
        *self.state.index.write() = Index::default();
        self.state.pending.write().clear();
        self.numbers.clear();
        self.checkpoints.cleared();
    }
}

/// Appends the updates to the log; returns the numbers of processors that are new.
fn append_all(
    transaction: &Transaction<'_>,
    numbers: &HashMap<Uuid, u32>,
    news: &[&CountsUpdate],
    now: UnixMs,
) -> Result<Vec<(Uuid, u32)>> {
    let mut added: Vec<(Uuid, u32)> = Vec::new();
    for update in news {
        let known = numbers.get(&update.processor).copied().or_else(|| {
            added.iter().find(|(id, _)| *id == update.processor).map(|(_, number)| *number)
        });
        let number = match known {
            Some(number) => number,
            None => {
                let number = database::add_processor(transaction, update.processor)?;
                added.push((update.processor, number));
                number
            }
        };
        update_log::append(transaction, now, number, &update.counts)?;
    }
    Ok(added)
}

/// Does what is no update of counts; returns the id that the database has after a reset.
fn write_others(
    transaction: &Transaction<'_>,
    group: &[Posted],
    now: UnixMs,
) -> Result<Option<Uuid>> {
    let mut cleared = None;
    for (job, _) in group {
        match job {
            Job::Counts(_) => {}
            Job::Confirmed(update) => {
                confirmed::merge_all(transaction, &update.producers, now.0)?;
            }
            Job::Point(point) => points::add(transaction, point)?,
            Job::Action(line) => actions::add(transaction, line)?,
            Job::Clear => {
                let id = Uuid::new_v4();
                database::clear(transaction, id)?;
                cleared = Some(id);
            }
            Job::Probe => {
                transaction.execute("UPDATE identity SET only = 1", [])?;
            }
        }
    }
    Ok(cleared)
}
