//! The one thread that writes: updates into the log, then, some at a time, into the tables.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use foldhash::HashMap;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::audit;
use super::confirmed;
use super::history::{self, Keep};
use super::index::{Index, Told, Unfolded};
use super::{Job, Posted, State, now_ms};
use crate::model::unix_time::UnixMs;
use crate::model::video_count::VideoCount;
use crate::storage::failpoint;
use crate::wire::CountsUpdate;

/// The most updates in one transaction.
const GROUP_MAX: usize = 64;

/// The most processors a database knows: one for each ledger.
const PROCESSORS_MAX: i64 = 10_000;

/// How often changed videos are folded: the more of them at a time, the more share a page.
const FOLD_EVERY: Duration = Duration::from_secs(30);

/// So many changed videos are folded as soon as no update has come for [`QUIET`].
const FOLD_AT: usize = 200_000;

/// How long a burst of updates may pause: what is published at once is taken at once, and folded behind it.
const QUIET: Duration = Duration::from_millis(5);

/// How long the first change may wait, however many come: the log must not grow for ever.
const FOLD_LATEST: Duration = Duration::from_secs(120);

/// So many changed videos are folded whatever comes: about 80 MB, and up to 5 s to play again at a start.
const FOLD_MUST: usize = 1_000_000;

/// The most changed videos, when folding fails.
const UNFOLDED_MAX: usize = 2_000_000;

/// The pause behind a fold that failed.
const FOLD_AGAIN: Duration = Duration::from_secs(5);

/// Videos that one transaction folds: how long an update may wait, some 10 ms.
const SLICE: usize = 1_000;

/// A checkpoint after so many commits, of which a fold's counts as [`SLICE_COMMITS`]: at about 16 MB of WAL, which it
/// lets begin again. A snapshot that is read for long, such as a backup's, holds it up: then the WAL grows meanwhile.
const CHECKPOINT_AFTER: usize = 2_000;

/// A slice touches up to 3,000 pages, an update two.
const SLICE_COMMITS: usize = 400;

/// While there is nothing to fold, nothing is waited for but updates.
const IDLE: Duration = Duration::from_secs(3600);

/// A video in the log: id, plays, last_played_at (0: none), little-endian.
const ENTRY: usize = 32;

/// What is in the database.
pub(super) struct Loaded {
    pub(super) index: Index,
    pub(super) unfolded: Unfolded,
    pub(super) numbers: HashMap<Uuid, u32>,
}

/// Reads everything; the log is played over the table of counts.
pub(super) fn load(connection: &Connection) -> Result<Loaded> {
    // One snapshot: between two, a fold could move rows from the log to the table.
    let snapshot = connection.unchecked_transaction()?;
    let numbers = snapshot
        .prepare("SELECT processor, number FROM processors")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut failed = None;
    let mut statement = snapshot
        .prepare("SELECT video_id, processor, plays, updated_at, last_played_at FROM counts")?;
    let rows = statement
        .query_map([], |row| {
            let told = Told { processor: row.get(1)?, plays: row.get(2)? };
            Ok((row.get(0)?, told, row.get(3)?, row.get(4)?))
        })?
        .map_while(|row| row.map_err(|error| failed = Some(error)).ok());
    let mut index = Index::load(rows);
    if let Some(error) = failed {
        return Err(error).context("the counts cannot be read");
    }
    let mut unfolded = Unfolded::new();
    let mut statement =
        snapshot.prepare("SELECT at, processor, counts FROM log ORDER BY number")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (at, processor, counts): (i64, u32, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        for count in decode(&counts) {
            apply(&mut index, &mut unfolded, processor, &count, at);
        }
    }
    drop(rows);
    drop(statement);
    Ok(Loaded { index, unfolded, numbers })
}

fn apply(
    index: &mut Index,
    unfolded: &mut Unfolded,
    number: u32,
    count: &VideoCount,
    at: i64,
) -> bool {
    let Some(delta) = index.apply(number, count, at) else { return false };
    let minutes = unfolded.entry(count.video_id).or_default();
    let minute = at.div_euclid(60_000);
    match minutes.last_mut() {
        _ if delta == 0 => {}
        Some((last, plays)) if *last == minute => *plays = plays.saturating_add(delta),
        // Most have one: room for four, as `push` makes, would be most of what a changed video costs.
        _ => {
            minutes.reserve_exact(1);
            minutes.push((minute, delta));
        }
    }
    true
}

fn encode(counts: &[VideoCount]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(counts.len() * ENTRY);
    for count in counts {
        bytes.extend(count.video_id.as_bytes());
        bytes.extend(count.plays.to_le_bytes());
        bytes.extend(count.last_played_at.map_or(0, |at| at.0).to_le_bytes());
    }
    bytes
}

fn decode(bytes: &[u8]) -> impl Iterator<Item = VideoCount> {
    bytes.chunks_exact(ENTRY).map(|entry| {
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&entry[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let mut id = [0; 16];
        id.copy_from_slice(&entry[..16]);
        VideoCount {
            video_id: Uuid::from_bytes(id),
            plays: number(16),
            last_played_at: Some(UnixMs(number(24) as i64)).filter(|time| time.0 > 0),
        }
    })
}

/// A fold in progress.
struct Fold {
    // The log up to here is not needed behind it.
    up_to: i64,
    // The last video folded.
    at: Option<Uuid>,
}

pub(super) struct Writer {
    connection: Connection,
    state: Arc<State>,
    numbers: HashMap<Uuid, u32>,
    keep: Keep,
    fold: Option<Fold>,
    fold_at: Instant,
    must_at: Instant,
    to_prune: bool,
    // Since the last checkpoint.
    commits: usize,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        state: Arc<State>,
        numbers: HashMap<Uuid, u32>,
        keep: Keep,
    ) -> Self {
        // What a killed dashboard has left is folded at once, so that the next start need not play it again.
        let fold_at = Instant::now();
        let must_at = fold_at + FOLD_LATEST;
        let (fold, to_prune, commits) = (None, true, 0);
        Self { connection, state, numbers, keep, fold, fold_at, must_at, to_prune, commits }
    }

    /// Takes what waits, commits it together, then answers; folds between.
    pub(super) fn run(mut self, inbox: &Receiver<Posted>) {
        loop {
            let is_quiet = match inbox.recv_timeout(self.pause()) {
                Ok(first) => {
                    self.take(first, inbox);
                    false
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            self.tidy(is_quiet);
        }
        while !self.state.unfolded.read().is_empty() || self.fold.is_some() {
            if !self.fold_some() {
                break;
            }
        }
    }

    /// How long the next update may be waited for.
    fn pause(&self) -> Duration {
        if self.fold.is_some() || self.to_prune {
            return QUIET;
        }
        match self.state.unfolded.read().len() {
            0 => IDLE,
            FOLD_AT.. if self.state.fold_failure.lock().is_none() => QUIET,
            _ => self.fold_at.saturating_duration_since(Instant::now()).max(QUIET),
        }
    }

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
                *self.state.failure.lock() = None;
                let is_probe = group.iter().any(|(job, _)| matches!(job, Job::Probe));
                if is_probe && self.state.fold_failure.lock().is_some() {
                    self.fold_some();
                }
                Ok(())
            }
            Err(error) => {
                let reason: Arc<str> = format!("the counts cannot be stored: {error:#}").into();
                log::error!("{reason}");
                *self.state.failure.lock() = Some(Arc::clone(&reason));
                Err(reason)
            }
        };
        for (_, caller) in group {
            // A caller that gave up waiting will send again.
            let _ = caller.try_send(reply.clone());
        }
    }

    fn commit(&mut self, group: &[Posted]) -> Result<()> {
        if let Some(reason) = &*self.state.fold_failure.lock()
            && self.state.unfolded.read().len() > UNFOLDED_MAX
        {
            bail!("{reason}");
        }
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
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let now = now_ms();
        let mut added = Vec::new();
        for update in &news {
            let known = self.numbers.get(&update.processor).copied().or_else(|| {
                added.iter().find(|(id, _)| *id == update.processor).map(|(_, number)| *number)
            });
            let number = match known {
                Some(number) => number,
                None => {
                    let number = add_processor(&transaction, update.processor)?;
                    added.push((update.processor, number));
                    number
                }
            };
            transaction
                .prepare_cached("INSERT INTO log (at, processor, counts) VALUES (?1, ?2, ?3)")?
                .execute(params![now, number, encode(&update.counts)])?;
        }
        let mut cleared = None;
        for (job, _) in group {
            match job {
                Job::Counts(_) => {}
                Job::Confirmed(update) => {
                    confirmed::merge_all(&transaction, &update.producers, now)?
                }
                Job::Point(point) => history::add_point(&transaction, point)?,
                Job::Audit(line) => audit::add(&transaction, line)?,
                Job::Clear => {
                    let id = Uuid::new_v4();
                    clear(&transaction, id)?;
                    cleared = Some(id);
                }
                Job::Probe => {
                    transaction.execute("UPDATE identity SET only = 1", [])?;
                }
            }
        }
        failpoint::hit("dashboard-before-commit");
        transaction.commit()?;
        failpoint::hit("dashboard-after-commit");
        self.commits += 1;
        self.numbers.extend(added);
        let mut changed = cleared.is_some();
        if let Some(id) = cleared {
            *self.state.id.lock() = id;
            *self.state.index.write() = Index::default();
            self.state.unfolded.write().clear();
            self.numbers.clear();
            self.fold = None;
        } else if !news.is_empty() {
            let (mut index, mut unfolded) = (self.state.index.write(), self.state.unfolded.write());
            if unfolded.is_empty() {
                self.must_at = Instant::now() + FOLD_LATEST;
            }
            for update in news {
                let Some(number) = self.numbers.get(&update.processor) else { continue };
                for count in &update.counts {
                    changed |= apply(&mut index, &mut unfolded, *number, count, now);
                }
            }
        }
        if changed {
            self.state.revision.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    fn is_news(&self, update: &CountsUpdate) -> bool {
        let Some(number) = self.numbers.get(&update.processor) else { return true };
        let index = self.state.index.read();
        update.counts.iter().any(|count| index.is_news(*number, count))
    }

    /// Folds, or removes, a little, if it is time and either quiet or late; and lets the WAL begin again.
    fn tidy(&mut self, is_quiet: bool) {
        if self.commits >= CHECKPOINT_AFTER {
            self.commits = 0;
            let done = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            if let Err(error) = done {
                log::warn!("the WAL cannot be written back: {error}");
            }
        }
        let unfolded = self.state.unfolded.read().len();
        let now = Instant::now();
        let is_due = self.fold.is_some()
            || (unfolded > 0 && now >= self.fold_at)
            || (unfolded >= FOLD_AT && self.state.fold_failure.lock().is_none());
        let must_be = unfolded >= FOLD_MUST || now >= self.must_at;
        if is_due && (is_quiet || must_be) {
            self.fold_some();
        } else if self.to_prune {
            self.to_prune = self.prune().unwrap_or_else(|error| {
                log::warn!("old history cannot be removed: {error:#}");
                false
            });
        }
    }

    /// Folds one slice; whether it could.
    fn fold_some(&mut self) -> bool {
        match self.fold_slice() {
            Ok(()) => {
                *self.state.fold_failure.lock() = None;
                true
            }
            Err(error) => {
                let reason: Arc<str> =
                    format!("the counts cannot be put in order: {error:#}").into();
                log::error!("{reason}");
                *self.state.fold_failure.lock() = Some(reason);
                self.fold = None;
                self.fold_at = Instant::now() + FOLD_AGAIN;
                false
            }
        }
    }

    fn fold_slice(&mut self) -> Result<()> {
        let fold = match &mut self.fold {
            Some(fold) => fold,
            none => {
                let up_to = self.connection.query_row(
                    "SELECT coalesce(max(number), 0) FROM log",
                    [],
                    |row| row.get(0),
                )?;
                none.insert(Fold { up_to, at: None })
            }
        };
        let from = fold.at.map_or(Bound::Unbounded, Bound::Excluded);
        let slice: Vec<(Uuid, Vec<(i64, i64)>)> = {
            let unfolded = self.state.unfolded.read();
            let next = unfolded.range((from, Bound::Unbounded)).take(SLICE);
            next.map(|(id, minutes)| (*id, minutes.clone())).collect()
        };
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let Some((last, _)) = slice.last() else {
            // Every video of these rows has been folded since.
            transaction.execute("DELETE FROM log WHERE number <= ?1", [fold.up_to])?;
            transaction.commit()?;
            self.fold = None;
            self.fold_at = Instant::now() + FOLD_EVERY;
            self.must_at = Instant::now() + FOLD_LATEST;
            self.to_prune = true;
            return Ok(());
        };
        for (id, minutes) in &slice {
            let (video, told) = {
                let index = self.state.index.read();
                (index.video(id).context("a changed video is not known")?, index.told(id))
            };
            for Told { processor, plays } in told {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO counts VALUES (?1, ?2, ?3, ?4, ?5)")?
                    .execute(params![
                        id,
                        processor,
                        plays,
                        video.updated_at,
                        video.last_played_at.unwrap_or(0)
                    ])?;
            }
            for (minute, plays) in minutes {
                history::add(&transaction, id, *minute, *plays)?;
            }
        }
        failpoint::hit("dashboard-before-fold-commit");
        let mut unfolded = self.state.unfolded.write();
        transaction.commit()?;
        failpoint::hit("dashboard-after-fold-commit");
        for (id, _) in &slice {
            unfolded.remove(id);
        }
        fold.at = Some(*last);
        self.commits += SLICE_COMMITS;
        Ok(())
    }

    /// Removes some history that is too old; whether there is more.
    fn prune(&mut self) -> Result<bool> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let is_more = history::prune(&transaction, self.keep, now_ms())?;
        transaction.commit()?;
        Ok(is_more)
    }
}

fn add_processor(transaction: &Transaction<'_>, processor: Uuid) -> Result<u32> {
    let count: i64 =
        transaction.query_row("SELECT count(*) FROM processors", [], |row| row.get(0))?;
    if count >= PROCESSORS_MAX {
        bail!("{PROCESSORS_MAX} processors are known already; reset the dashboard");
    }
    transaction.execute("INSERT INTO processors (processor) VALUES (?1)", [processor])?;
    Ok(u32::try_from(transaction.last_insert_rowid())?)
}

/// Empties the database and gives it another id. The audit and the charts tell of time, not of counts.
fn clear(transaction: &Transaction<'_>, id: Uuid) -> Result<()> {
    transaction.execute_batch(
        "DELETE FROM log; DELETE FROM counts; DELETE FROM history_minute; DELETE FROM history_hour;
         DELETE FROM history_day; DELETE FROM processors; DELETE FROM confirmed;",
    )?;
    transaction.execute("UPDATE identity SET dashboard = ?1", [id])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_holds_what_was_told() {
        let count = |id, plays, last_played_at| VideoCount {
            video_id: Uuid::from_u128(id),
            plays,
            last_played_at,
        };
        let counts = [count(1, 0, None), count(u128::MAX, crate::wire::MAX_PLAYS, Some(UnixMs(7)))];
        assert!(decode(&encode(&counts)).eq(counts));
    }
}
