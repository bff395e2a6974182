//! The commit: what the workers have decoded goes into the ledger, and only then is it counted in the map, and only then
//! are the messages finished.
//!
//! One thread at a time commits: a worker that finds nobody at it, for all whose batches wait. So a single message is
//! committed at once and without waking another thread, and a commit that takes long makes the next one larger.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, bounded};
use nsq_protocol::Batch;
use nsq_protocol::thread::StopToken;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::notes::BodyNotes;
use super::stats::Stats;
use super::wake::Wake;
use crate::ledger::{Arrivals, Committed, Ledger, NextUpkeep};
use crate::model::counts::ShardedCounts;
use crate::runtime::clock::unix_ns;
use crate::storage::failpoint;

/// Messages in one commit, at most; and one batch more.
const GROUP_MAX: usize = 10_000;

/// How often the ledger is asked what there is to do. A second without work is sealed.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Batches that wait for the one who commits. Full: the workers wait, then the consumer's connections, and RDY falls.
const WAITING_MAX: usize = 64;

/// The ledger, as the threads share it. The lock is held for a commit: what one may see is always durable.
pub(super) type SharedLedger = Arc<Mutex<Box<dyn Ledger>>>;

/// A batch with what its messages hold. Dropped, it gives the messages back to nsqd.
pub(super) struct Decoded {
    pub(super) batch: Batch,
    pub(super) arrivals: Arrivals,
    pub(super) received_at: Instant,
}

pub(super) struct Committer {
    waiting: (Sender<Decoded>, Receiver<Decoded>),
    /// Held by who commits: whoever finds it taken leaves the batch to the holder.
    turn: Mutex<()>,
    ledger: SharedLedger,
    /// Notified when a part of the upkeep is done.
    upkept: Condvar,
    counts: Arc<ShardedCounts>,
    stats: Arc<Stats>,
    wake: Wake,
    has_failed: AtomicBool,
    /// Says that nothing is counted any more; has room for one.
    failed: Sender<()>,
}

impl Committer {
    pub(super) fn new(
        ledger: SharedLedger,
        counts: Arc<ShardedCounts>,
        stats: Arc<Stats>,
        wake: Wake,
        failed: Sender<()>,
    ) -> Self {
        let (waiting, turn) = (bounded(WAITING_MAX), Mutex::new(()));
        let has_failed = AtomicBool::new(false);
        let upkept = Condvar::new();
        Self { waiting, turn, ledger, upkept, counts, stats, wake, has_failed, failed }
    }

    /// Notes what a batch's bodies had.
    pub(super) fn note(&self, notes: BodyNotes) {
        if !notes.is_empty() {
            self.stats.note(notes);
        }
    }

    /// Commits a batch, or leaves it to the thread that is committing. After a failure it finishes nothing: every batch
    /// goes back to nsqd.
    pub(super) fn put(&self, decoded: Decoded) {
        self.stats.received(decoded.batch.len());
        // Cannot fail, both ends are held here; and if it must wait, somebody is taking what waits.
        let _ = self.waiting.0.send(decoded);
        self.commit_waiting();
    }

    fn commit_waiting(&self) {
        loop {
            // Who has put a batch there and finds the turn taken, and who gives the turn back and finds no batch, must
            // not both miss the other: each writes, then reads what the other wrote.
            fence(Ordering::SeqCst);
            if self.waiting.1.is_empty() {
                return;
            }
            let Some(_turn) = self.turn.try_lock() else { return };
            while let Ok(first) = self.waiting.1.try_recv() {
                // Otherwise it is dropped, which gives its messages back.
                if !self.has_failed.load(Ordering::Relaxed)
                    && let Err(error) = self.commit(first)
                {
                    self.fail(&error);
                }
            }
        }
    }

    /// Does the ledger's upkeep, such as checkpoints, until stopped. No commit waits for it.
    pub(super) fn run_upkeep(&self, stop: &StopToken) {
        let mut pause = UPKEEP_EVERY;
        while !stop.wait(pause) {
            let began = Instant::now();
            match self.upkeep(began) {
                Ok(NextUpkeep::Later) => pause = UPKEEP_EVERY,
                Ok(NextUpkeep::Now) => pause = Duration::ZERO,
                // The disk and the processors are left to the commits for as long as it took.
                Ok(NextUpkeep::Soon) => pause = began.elapsed().min(UPKEEP_EVERY),
                Err(error) => {
                    self.fail(&error);
                    return;
                }
            }
        }
    }

    fn upkeep(&self, now: Instant) -> Result<NextUpkeep> {
        let work = self.ledger.lock().upkeep(now);
        match work {
            Some(work) => {
                let done = work.run()?;
                let next = self.ledger.lock().upkept(done);
                self.upkept.notify_all();
                next
            }
            None => Ok(NextUpkeep::Later),
        }
    }

    fn fail(&self, error: &anyhow::Error) {
        if self.has_failed.swap(true, Ordering::Relaxed) {
            return;
        }
        let reason = format!("{error:#}");
        log::error!("nothing is counted any more: {reason}");
        self.stats.fail(&reason);
        // Room for one, and this is said once.
        let _ = self.failed.try_send(());
    }

    /// Commits a batch and those that wait behind it.
    fn commit(&self, first: Decoded) -> Result<()> {
        let received_at = first.received_at;
        let mut messages = first.batch.len();
        let mut batches = vec![first.batch];
        let mut arrivals = vec![first.arrivals];
        while messages < GROUP_MAX
            && let Ok(next) = self.waiting.1.try_recv()
        {
            messages += next.batch.len();
            batches.push(next.batch);
            arrivals.push(next.arrivals);
        }
        let began = Instant::now();
        let committed = self.ready_ledger().commit(&mut arrivals)?;
        let took = began.elapsed();
        let is_due = self.add_to_counts(&committed);
        // Not behind what follows, which wakes others: the publisher, and by the FINs nsqd.
        let counted_at_ns = unix_ns();
        if !committed.video_deltas.is_empty() {
            match is_due {
                true => self.wake.video_became_due(),
                false => self.wake.plays_committed(),
            }
        }
        let half = batches.len() / 2;
        for (index, batch) in batches.into_iter().enumerate() {
            if index == half {
                failpoint::hit("ledger-mid-fins");
            }
            batch.finish();
        }
        self.update_stats(&committed, took, &arrivals, received_at, counted_at_ns);
        Ok(())
    }

    /// The ledger, when it is not behind with its checkpoints: new producers that come faster than they can be written
    /// would fill the memory. Meanwhile batches wait, and RDY falls.
    fn ready_ledger(&self) -> MutexGuard<'_, Box<dyn Ledger>> {
        let mut ledger = self.ledger.lock();
        while ledger.is_behind() && !self.has_failed.load(Ordering::Relaxed) {
            // The upkeep says when a part is done; should it have ended meanwhile, nobody does.
            self.upkept.wait_for(&mut ledger, UPKEEP_EVERY);
        }
        ledger
    }

    /// Makes what is committed visible; whether a video is due to be published by it.
    fn add_to_counts(&self, committed: &Committed) -> bool {
        let mut is_due = false;
        for delta in &committed.video_deltas {
            let last_played_at = (delta.last_played_at > 0).then_some(delta.last_played_at);
            is_due |= self.counts.add(delta.video_id, delta.plays, last_played_at);
        }
        is_due
    }

    /// `arrivals` holds only what was new.
    fn update_stats(
        &self,
        committed: &Committed,
        took: Duration,
        arrivals: &[Arrivals],
        received_at: Instant,
        counted_at_ns: u64,
    ) {
        let plays = arrivals.iter().flat_map(|arrivals| &arrivals.plays);
        let waited_from_ns = plays.filter_map(|arrived| arrived.waited_from_ns);
        let rejection = arrivals.iter().rev().find_map(|arrivals| arrivals.rejected.last());
        let rejection = rejection.map(|letter| &letter.reason);
        // Ours may have been set back.
        let times_ns = waited_from_ns.map(|from| counted_at_ns.saturating_sub(from));
        self.stats.committed(took, committed, times_ns, rejection, received_at);
    }
}

#[cfg(test)]
mod tests;
