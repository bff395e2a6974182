//! The dashboard's counts: in memory to be read, in SQLite to be kept. Knows nothing of HTTP.
//!
//! An update is one row of a `log`, committed before it is answered; updates that wait at the same time share a
//! transaction. Then it is in the [`index`], from which every list is answered without SQLite. Every half minute a
//! `checkpoint` writes the videos that changed into the table of counts and the history, in the order of their ids, some
//! at a time. Played again over what the tables have, the log changes nothing: counts only grow, and history is written
//! in the transaction that writes the count.
//!
//! Here is what the store's callers ask, on their threads. One thread, `dash-store`, writes (`writer`); history is read
//! over connections that are lent out one at a time (`readers`).

mod actions;
mod checkpoint;
mod confirmed;
mod database;
mod history;
mod index;
mod job;
mod list;
mod log;
mod pending;
mod period;
mod points;
mod rank;
mod readers;
mod state;
mod top;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam_channel::{Sender, bounded};
use nsq_protocol::thread::OwnedThread;
use parking_lot::{Mutex, RwLock};
use rusqlite::Connection;
use uuid::Uuid;

use crate::model::counts::Totals;
use crate::model::unix_time::UnixMs;
use crate::runtime::clock::unix_ms;
use crate::wire::{Confirmed, ConfirmedUpdate, CountsUpdate};
use database::{FILE, read_id};
use job::{Job, Posted, Reply};
use log::Loaded;
use pending::PendingHistory;
use readers::Readers;
use state::StoreState;
use top::TopQuery;
use writer::Writer;

pub(super) use actions::LoggedAction;
pub(super) use database::{backup, read_counts, remove};
pub(super) use history::BUCKETS_MAX;
pub(super) use list::{Column, Cursor, LIST_MAX, ListQuery, Page, VideoRow};
pub use period::Keep;
pub(super) use period::{Period, Scale};
pub(super) use points::{MinutePoint, Points};
pub(super) use top::{Top, TopVideo};

/// Updates that wait for the writer. Each HTTP worker waits with one, so this is never full.
const JOBS: usize = 256;

/// How long a call here waits in all: for the writer, for a connection, for a lock. No HTTP call makes more than two
/// of them, so that its client hears the reason before the server gives up on the answer; and a processor, whose client
/// waits 10 s, hears it too.
pub(super) const WAIT: Duration = Duration::from_secs(8);

/// A reset waits so many times as long: it empties every table.
const CLEAR_WAITS: u32 = 2;

/// The open database.
pub(super) struct Store {
    jobs: Mutex<Option<Sender<Posted>>>,
    readers: Readers,
    state: Arc<StoreState>,
    keep: Keep,
    // [`WAIT`]; less in tests.
    wait: Duration,
    writer: Mutex<Option<OwnedThread<()>>>,
}

impl Store {
    /// Opens the database in `directory`, made if missing, with `readers` connections to read.
    ///
    /// # Errors
    /// One line with the way out: the file is broken, of somebody else, or of a newer version; or a thread is refused.
    pub(super) fn open(directory: &Path, readers: usize, keep: Keep) -> Result<Self> {
        let file = directory.join(FILE);
        let connection = database::open(&file)?;
        let Loaded { index, pending, numbers } = log::load(&connection)?;
        let state = Arc::new(StoreState {
            id: Mutex::new(read_id(&connection)?),
            index: RwLock::new(index),
            pending: RwLock::new(pending),
            ..StoreState::default()
        });
        let readers = Readers::open(&file, readers)?;
        let (jobs, inbox) = bounded(JOBS);
        let writer = {
            let writer = Writer::new(connection, Arc::clone(&state), numbers, keep);
            OwnedThread::spawn("dash-store", move || writer.run(&inbox))?
        };
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            readers,
            state,
            keep,
            wait: WAIT,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Merges an update; returns after the commit.
    pub(super) fn merge(&self, update: CountsUpdate) -> Reply {
        self.write(Job::Counts(update), self.deadline())
    }

    /// Merges what a processor has counted of producers' plays; returns after the commit.
    pub(super) fn confirm(&self, update: ConfirmedUpdate) -> Reply {
        self.write(Job::Confirmed(update), self.deadline())
    }

    /// Keeps a minute of the charts.
    pub(super) fn add_point(&self, point: MinutePoint) -> Reply {
        self.write(Job::Point(point), self.deadline())
    }

    /// Adds a line to the action log.
    pub(super) fn log_action(&self, line: LoggedAction) -> Reply {
        self.write(Job::Action(line), self.deadline())
    }

    /// Forgets every count and processor.
    pub(super) fn clear(&self) -> Reply {
        self.write(Job::Clear, Instant::now() + self.wait * CLEAR_WAITS)
    }

    /// The newest lines of the action log, newest first.
    pub(super) fn actions(&self) -> Result<Vec<LoggedAction>> {
        self.read(actions::newest)
    }

    /// Which plays of a producer are counted for good; none of one that nobody has told of.
    pub(super) fn confirmed(&self, producer: &Uuid) -> Result<Confirmed> {
        self.read(|connection| confirmed::read(connection, producer))
    }

    /// Which database this is: another one after each reset.
    pub(super) fn id(&self) -> Uuid {
        *self.state.id.lock()
    }

    /// Whether counts can be stored and read; if not, why.
    pub(super) fn health(&self) -> Reply {
        let deadline = self.deadline();
        if self.state.has_failed() {
            self.write(Job::Probe, deadline)?;
        }
        if let Some(reason) = &*self.state.checkpoint_failure.lock() {
            return Err(Arc::clone(reason));
        }
        let read = self.readers.read(deadline, read_id);
        read.map(|_| ()).map_err(|error| format!("{error:#}").into())
    }

    /// The sums after the newest commit.
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

    /// One video, and its place by plays: 1 for the most.
    pub(super) fn video(&self, id: Uuid) -> Option<(VideoRow, u64)> {
        let index = self.state.index.read();
        let video = index.video(&id)?;
        let rank = index.rank(&video);
        Some((video, rank))
    }

    /// Every video's plays, ordered by id.
    pub(super) fn counts(&self) -> Vec<(Uuid, u64)> {
        self.state.index.read().counts()
    }

    /// A video's plays in each bucket of a period that has any: (its start, plays), oldest first.
    pub(super) fn series(
        &self,
        id: Uuid,
        scale: Scale,
        period: Period,
    ) -> Result<Vec<(UnixMs, i64)>> {
        self.read_history(
            |pending| pending.of(&id),
            |snapshot, own| history::series(snapshot, &own, &id, scale, period),
        )
    }

    /// The buckets from the oldest that is kept to the present one.
    pub(super) fn kept(&self, scale: Scale) -> Result<Period> {
        self.read(|connection| history::kept(connection, scale, unix_ms()))
    }

    /// Since when plays by `scale` are all kept; 0: for ever.
    pub(super) fn kept_from(&self, scale: Scale) -> UnixMs {
        scale.oldest(self.keep, unix_ms()).map_or(UnixMs(0), |oldest| scale.start(oldest))
    }

    /// The finest scale that is kept for all of `from` to `to` and has at most `buckets_max` buckets.
    pub(super) fn scale_for(&self, from: UnixMs, to: UnixMs, buckets_max: i64) -> Scale {
        period::scale_for(self.keep, unix_ms(), from, to, buckets_max)
    }

    /// The most played videos of a period.
    pub(super) fn top(&self, scale: Scale, period: Period, limit: usize) -> Result<Top> {
        let query = TopQuery { scale, period, limit, keep: self.keep, now: unix_ms() };
        self.read_history(PendingHistory::all, |snapshot, pending| {
            top::top(snapshot, &pending, query)
        })
    }

    /// The charts from `from` to `to`.
    pub(super) fn points(&self, from: UnixMs, to: UnixMs) -> Result<Points> {
        self.read(|connection| points::points(connection, from, to))
    }

    /// Until when a call that begins now may wait.
    fn deadline(&self) -> Instant {
        Instant::now() + self.wait
    }

    fn write(&self, job: Job, deadline: Instant) -> Reply {
        let jobs = self.jobs.lock().clone().ok_or("the store is closed")?;
        let (reply, answer) = bounded(1);
        jobs.send_deadline((job, reply), deadline)
            .map_err(|_| "the store takes no more updates")?;
        answer.recv_deadline(deadline).map_err(|_| "the store did not answer in time")?
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.readers.read(self.deadline(), query)
    }

    /// Reads history: what `pick` takes of what no checkpoint has written, and a snapshot of the tables of the same
    /// moment.
    fn read_history<P, T>(
        &self,
        pick: impl FnOnce(&PendingHistory) -> P,
        query: impl FnOnce(&Connection, P) -> Result<T>,
    ) -> Result<T> {
        let deadline = self.deadline();
        self.readers.read(deadline, |connection| {
            let pending =
                self.state.pending.try_read_until(deadline).context("the store is busy writing")?;
            let snapshot = connection.unchecked_transaction()?;
            // A transaction begins with its first read.
            read_id(&snapshot)?;
            let picked = pick(&pending);
            drop(pending);
            query(&snapshot, picked)
        })
    }

    /// Lets the updates that wait go in, writes a last checkpoint and closes the files. Later calls do nothing.
    pub(super) fn shutdown(&self) {
        drop(self.jobs.lock().take());
        // SQLite writes the WAL back into the database when the last connection closes: the writer's.
        self.readers.close();
        if let Some(writer) = self.writer.lock().take() {
            writer.join();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shutdown();
    }
}
