//! The dashboard's counts: in memory to be read, in files to be kept. Knows nothing of HTTP.
//!
//! An update is a frame of the journal, committed before it is answered; updates that wait at the same time share a commit.
//! Then it is in the [`index`], from which every list is answered without a file. A `checkpoint` writes what has changed
//! into SQLite's tables, a slice at a time, in the order of the ids; then the journal forgets it.
//!
//! Here is what the store's callers ask, on their threads. `dash-store` commits updates (`writer`) and waits for the journal
//! only; `dash-checkpoint` writes the tables (`checkpointer`); history is read over connections that are lent out one at a
//! time (`readers`).

mod accept;
mod actions;
mod catalog;
mod catalog_change;
mod catalog_tables;
mod change;
mod checkpoint;
mod checkpointer;
mod confirmed;
mod copy;
mod database;
mod history;
mod identity;
mod index;
mod job;
mod ledgers;
mod list;
mod memory;
mod migrate;
mod over_time;
mod owner;
mod payload;
mod pending;
mod period;
mod plays;
mod points;
mod rank;
mod readers;
mod row;
mod search;
mod state;
mod tables;
mod titles;
mod top;
mod videos;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use foldhash::HashMap;
use nsq_protocol::thread::Crew;
use parking_lot::{Mutex, RwLock};
use rusqlite::Connection;
use uuid::Uuid;

use crate::journal::{Cut, JournalOwner};
use crate::model::counts::Totals;
use crate::model::unix_time::UnixMs;
use crate::model::video_id::VideoId;
use crate::runtime::clock::unix_ms;
use crate::storage::boot::boot_id;
use crate::storage::in_place::FilesInPlace;
use crate::wire::{Confirmed, ConfirmedUpdate, CountsUpdate, LedgerClaim, Visibility};
use checkpoint::Checkpoints;
use checkpointer::Checkpointer;
use database::{FILE, OpenedFiles};
use job::{ClaimJob, Job, Posted, PostedTask, Reply, Stored, Task};
use memory::Memory;
use pending::Minutes;
use readers::Readers;
use state::StoreState;
use top::TopQuery;
use writer::{REFUSAL_SHOWN, Writer};

pub(super) use accept::accept_loss;
pub(super) use actions::LoggedAction;
pub(super) use catalog::CatalogSums;
pub use copy::ExaminedCounts;
pub(super) use copy::{backup, examine, read_counts};
pub(super) use database::remove;
pub(super) use history::BUCKETS_MAX;
pub(super) use job::{CatalogWrite, NotStored};
pub(super) use list::{Column, Cursor, LIST_MAX, ListQuery, Page, ShownVideo, VideoRow};
pub(super) use owner::{check_disposable, owner};
pub use period::Keep;
pub(super) use period::{Period, Scale};
pub(super) use plays::PlaysBetween;
pub(super) use points::{MinutePoint, Points};
pub(super) use row::DamagedTable;
pub(super) use search::Search;
pub(super) use top::{Top, TopOrder, TopVideo};

/// Updates that wait for the writer. Each HTTP worker waits with one, so this is never full.
const JOBS: usize = 256;

/// How long a call here waits in all: for the writer, for a connection, for a lock. No HTTP call makes more than two
/// of them, so that its client hears the reason before the server gives up on the answer; and a processor, whose client
/// waits 8 s, hears it too.
pub(super) const WAIT: Duration = Duration::from_secs(6);

/// Pending videos that are copied at a time: less than a ms, in which an update may wait.
const COPY: usize = 5_000;

/// Where the threads are asked. Both end when nobody can ask them any more: `dash-store` first, which holds an end of the
/// other's.
struct Inboxes {
    jobs: Mutex<Option<Sender<Posted>>>,
    tasks: Mutex<Option<Sender<PostedTask>>>,
}

/// The open database.
pub(super) struct Store {
    inboxes: Arc<Inboxes>,
    readers: Readers,
    state: Arc<StoreState>,
    keep: Keep,
    cut: Option<Cut>,
    // [`WAIT`]; less in tests.
    wait: Duration,
    threads: Mutex<Option<Crew<()>>>,
}

impl Store {
    /// Opens the files of that owner in `directory`, made if missing, with `readers` connections to read.
    ///
    /// # Errors
    /// One line with the way out: a file is broken, of somebody else, missing, or of a newer version; or a thread is
    /// refused.
    pub(super) fn open(
        directory: &Path,
        owner: JournalOwner,
        readers: usize,
        keep: Keep,
    ) -> Result<Self> {
        owner::check_owner(directory, owner)?;
        let OpenedFiles { connection, identity, memory, journal, next, cut } =
            database::open(directory, owner, boot_id())?;
        if let Some(cut) = &cut {
            log::warn!("the dashboard's journal: {cut}");
        }
        let Memory { id, index, pending, processors, confirmed, ledgers } = memory;
        let state = Arc::new(StoreState {
            id: Mutex::new(id),
            index: RwLock::new(index),
            pending: RwLock::new(pending),
            confirmed: RwLock::new(confirmed),
            ledgers: RwLock::new(ledgers),
            tables: RwLock::new(()),
            journal: Mutex::new(journal),
            files: FilesInPlace::of_database(&directory.join(FILE))?,
            applied: AtomicU64::new(next),
            revision: AtomicU64::default(),
            commit_failure: Mutex::default(),
            refused: Mutex::default(),
            checkpoint_failure: Mutex::default(),
            damage: Mutex::default(),
        });
        let readers = Readers::open(&directory.join(FILE), readers)?;
        let writer = Writer::new(Arc::clone(&state), processors);
        let checkpoints = Checkpoints::new(Arc::clone(&state), connection, identity);
        let checkpointer = Checkpointer::new(Arc::clone(&state), keep, checkpoints);
        let (inboxes, threads) = start(writer, checkpointer)?;
        Ok(Self {
            inboxes,
            readers,
            state,
            keep,
            cut,
            wait: WAIT,
            threads: Mutex::new(Some(threads)),
        })
    }

    /// Merges an update; returns after the commit.
    pub(super) fn merge(&self, update: CountsUpdate) -> Stored {
        self.commit(Job::Counts(Box::new(update)))
    }

    /// Merges what a processor has counted of producers' plays; returns after the commit.
    pub(super) fn confirm(&self, update: ConfirmedUpdate) -> Stored {
        self.commit(Job::Confirmed(update))
    }

    /// Notes which ledger a processor counts in, after a comparison with what is known of it; returns after the commit.
    /// `Err(Ok(plays))`: it is known to hold so many plays, which is more than it says, and nothing is noted.
    pub(super) fn claim(&self, claim: LedgerClaim) -> Result<Uuid, Result<u64, NotStored>> {
        let (refused, known) = bounded(1);
        let stored = self.commit(Job::Claim(ClaimJob { claim, refused })).map_err(Err)?;
        known.try_recv().map_or(Ok(stored), |known| Err(Ok(known)))
    }

    /// The life of the ledger that a processor has said to count in; `None`: it has not.
    pub(super) fn ledger_life(&self, processor: &Uuid) -> Option<Uuid> {
        self.state.ledgers.read().life(processor)
    }

    /// Keeps a minute of the charts.
    pub(super) fn add_point(&self, point: MinutePoint) -> Reply {
        self.write(Task::Point(point))
    }

    /// Adds a line to the action log.
    pub(super) fn log_action(&self, line: LoggedAction) -> Reply {
        self.write(Task::Action(line))
    }

    /// Forgets every count and processor.
    pub(super) fn clear(&self) -> Stored {
        self.commit(Job::Clear)
    }

    /// The newest lines of the action log, newest first.
    pub(super) fn actions(&self) -> Result<Vec<LoggedAction>> {
        self.read(actions::newest)
    }

    /// Which plays of a producer are counted for good; none of one that nobody has told of.
    ///
    /// # Errors
    /// The table cannot be read, where it must be.
    pub(super) fn confirmed(&self, producer: &Uuid) -> Result<Confirmed> {
        if let Some(whole) = self.state.confirmed.read().whole(producer) {
            return Ok(whole);
        }
        let id = self.id();
        let (in_memory, row) = self.read_history(
            || {
                let is_cleared = self.state.pending.read().cleared().is_some();
                (is_cleared, self.state.confirmed.read().of(producer))
            },
            |snapshot, in_memory| Ok((in_memory, confirmed::row(snapshot, producer)?)),
        )?;
        let Some(row) = row else { return Ok(in_memory) };
        let all = row.confirmed().union(&in_memory);
        let mut known = self.state.confirmed.write();
        // A reset gives the database another id before it forgets.
        if self.id() == id {
            known.remember(*producer, row);
        }
        Ok(all)
    }

    /// Below which number all plays of a producer are counted for good, at least: what is in memory is asked alone.
    pub(super) fn confirmed_at_least(&self, producer: &Uuid) -> u64 {
        self.state.confirmed.read().of(producer).watermark
    }

    /// Why counts were refused within the last minute, if any were: whoever told them tells them again.
    pub(super) fn refused(&self) -> Option<String> {
        let refused = self.state.refused.lock();
        let recent = refused.as_ref().filter(|(_, at)| at.elapsed() < REFUSAL_SHOWN);
        recent.map(|(reason, _)| reason.to_string())
    }

    /// Which database this is: another one after each reset.
    pub(super) fn id(&self) -> Uuid {
        *self.state.id.lock()
    }

    /// Whether counts can be stored and read; if not, why.
    pub(super) fn health(&self) -> Reply {
        if self.state.commit_failure.lock().is_some() {
            self.commit(Job::Probe)?;
        }
        if self.state.checkpoint_failure.lock().is_some() {
            self.write(Task::Probe)?;
        }
        if let Some(reason) = &*self.state.damage.lock() {
            return Err(Arc::clone(reason));
        }
        self.read(identity::read).map(drop).map_err(|error| format!("{error:#}").into())
    }

    /// What the start has cut off the journal: what a crash had left unfinished.
    pub(super) fn cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    /// The sums after the newest commit, of all videos but those that are deleted.
    pub(super) fn totals(&self) -> Totals {
        self.state.index.read().totals()
    }

    /// Differs from its value of before if any count may have changed.
    pub(super) fn revision(&self) -> u64 {
        self.state.revision.load(Ordering::Acquire)
    }

    /// A page of videos.
    pub(super) fn list(&self, query: &ListQuery) -> Page {
        self.state.index.read().list(query)
    }

    /// Every video's plays as they were counted, ordered by id.
    pub(super) fn counts(&self) -> Vec<(VideoId, u64)> {
        self.state.index.read().counts()
    }

    /// A video's plays in each bucket of a period that has any: (its start, plays), oldest first.
    pub(super) fn series(
        &self,
        id: VideoId,
        scale: Scale,
        period: Period,
    ) -> Result<Vec<(UnixMs, i64)>> {
        self.read_history(
            || self.pending_of(&id),
            |snapshot, own| history::series(snapshot, &own, &id, scale, period),
        )
    }

    /// The buckets from the oldest that is kept to the present one.
    pub(super) fn kept(&self, scale: Scale) -> Result<Period> {
        let nothing = || (self.state.pending.read().cleared().is_some(), ());
        self.read_history(nothing, |snapshot, ()| history::kept(snapshot, scale, unix_ms()))
    }

    /// The finest scale that is kept for all of `from` to `to` and has at most `buckets_max` buckets.
    pub(super) fn scale_for(&self, from: UnixMs, to: UnixMs, buckets_max: i64) -> Scale {
        period::scale_for(self.keep, unix_ms(), from, to, buckets_max)
    }

    /// The most played videos of a period, without titles, and without those that are not shown.
    fn top_of_history(
        &self,
        scale: Scale,
        period: Period,
        (order, limit): (TopOrder, usize),
        unshown: &HashMap<VideoId, Visibility>,
    ) -> Result<Top> {
        let known_from = self.known_from(scale)?;
        let query = TopQuery { scale, period, order, limit, known_from, now: unix_ms(), unshown };
        self.read_history(
            || self.pending_of_all(),
            |snapshot, pending| top::top(snapshot, &pending, query),
        )
    }

    /// The charts from `from` to `to`.
    pub(super) fn points(&self, from: UnixMs, to: UnixMs) -> Result<Points> {
        self.read(|connection| points::points(connection, from, to))
    }

    /// Until when a call that begins now may wait.
    fn deadline(&self) -> Instant {
        Instant::now() + self.wait
    }

    fn commit(&self, job: Job) -> Stored {
        let deadline = self.deadline();
        let inbox = self.inboxes.jobs.lock().clone().ok_or("the store is closed")?;
        let (reply, answer) = bounded(1);
        inbox
            .send_deadline((job, reply), deadline)
            .map_err(|_| "the store takes no more updates")?;
        answer.recv_deadline(deadline).map_err(|_| "the store did not answer in time")?
    }

    fn write(&self, task: Task) -> Reply {
        let deadline = self.deadline();
        let inbox = self.inboxes.tasks.lock().clone().ok_or("the store is closed")?;
        let (reply, answer) = bounded(1);
        inbox
            .send_deadline((task, reply), deadline)
            .map_err(|_| "the store's tables take no more")?;
        answer.recv_deadline(deadline).map_err(|_| "the store's tables did not answer in time")?
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let read = self.readers.read(self.deadline(), query);
        if let Err(error) = &read
            && error.is::<DamagedTable>()
        {
            self.state.damage.lock().get_or_insert_with(|| format!("{error:#}").into());
        }
        read
    }

    /// Reads history: what `pick` takes of what no checkpoint has written, and a snapshot of the tables of the same
    /// moment. `pick` says, too, whether a reset has left the tables to be emptied: then they count as empty.
    fn read_history<P, T>(
        &self,
        pick: impl FnOnce() -> (bool, P),
        query: impl FnOnce(&Connection, P) -> Result<T>,
    ) -> Result<T> {
        let deadline = self.deadline();
        self.read(|connection| {
            let tables =
                self.state.tables.try_read_until(deadline).context("the store is busy writing")?;
            let snapshot = connection.unchecked_transaction()?;
            // A transaction begins with its first read.
            identity::read(&snapshot)?;
            let (is_cleared, picked) = pick();
            drop(tables);
            if is_cleared {
                return query(&database::empty()?, picked);
            }
            query(&snapshot, picked)
        })
    }

    /// One video's plays that the tables do not have; before it whether the tables are to be emptied.
    fn pending_of(&self, id: &VideoId) -> (bool, Minutes) {
        let pending = self.state.pending.read();
        (pending.cleared().is_some(), pending.of(id))
    }

    /// The same of every video: (video, minute, plays). Some at a time, so that no update waits for all of it.
    fn pending_of_all(&self) -> (bool, Vec<(VideoId, i64, i64)>) {
        let (mut all, mut after, mut resets) = (Vec::new(), None, None);
        loop {
            let pending = self.state.pending.read();
            if resets.is_some_and(|resets| resets != pending.resets()) {
                (after, resets) = (None, None);
                all.clear();
                continue;
            }
            resets = Some(pending.resets());
            after = pending.copy(after, COPY, &mut all);
            if after.is_none() {
                return (pending.cleared().is_some(), all);
            }
        }
    }

    /// Lets the updates that wait go in, writes a last checkpoint and closes the files. Later calls do nothing.
    pub(super) fn shutdown(&self) {
        // SQLite writes the WAL back into the database when the last connection closes: `dash-checkpoint`'s.
        self.readers.close();
        if let Some(threads) = self.threads.lock().take() {
            threads.stop();
        }
    }
}

/// Starts the two threads.
fn start(writer: Writer, checkpointer: Checkpointer) -> Result<(Arc<Inboxes>, Crew<()>)> {
    let (jobs, job_inbox): (_, Receiver<Posted>) = bounded(JOBS);
    let (tasks, task_inbox) = bounded(JOBS);
    let until_the_last_update = tasks.clone();
    let inboxes =
        Arc::new(Inboxes { jobs: Mutex::new(Some(jobs)), tasks: Mutex::new(Some(tasks)) });
    let closed = Arc::clone(&inboxes);
    let mut threads = Crew::new(move || {
        drop(closed.jobs.lock().take());
        drop(closed.tasks.lock().take());
    });
    threads.spawn("dash-checkpoint", move || checkpointer.run(&task_inbox))?;
    threads.spawn("dash-store", move || {
        writer.run(&job_inbox);
        drop(until_the_last_update);
    })?;
    Ok((inboxes, threads))
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shutdown();
    }
}
