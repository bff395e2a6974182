//! The commit: what the workers have decoded goes into the ledger, and only then is it counted in the map, and only then
//! are the messages finished.
//!
//! One thread at a time commits: a worker that finds nobody at it, for all whose batches wait. So a single message is
//! committed at once and without waking another thread, and a commit that takes long makes the next one larger.
//!
//! While the ledger is away the one who commits tries the same batches again and again, until it is back or the processor
//! stops: nothing is finished meanwhile, the others' batches wait, and RDY falls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, bounded};
use nsq_protocol::Batch;
use nsq_protocol::thread::StopToken;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::notes::BodyNotes;
use super::stats::{LedgerUse, Stats};
use super::titles::{PlayTitles, TitleNotes};
use super::wake::Wake;
use crate::ledger::{Arrivals, Committed, Ledger, LedgerAway, LedgerFenced, NextUpkeep};
use crate::model::counts::ShardedCounts;
use crate::runtime::clock::unix_ns;
use crate::runtime::watchdog::Work;
use crate::storage::failpoint;

/// How often the ledger is asked what there is to do. A second without work is sealed.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Batches that wait for the one who commits. Full: the workers wait, then the consumer's connections, and RDY falls.
const WAITING_MAX: usize = 64;

/// The pause behind the first try that finds the ledger away; it doubles with each, up to [`AWAY_PAUSE_MAX`].
const AWAY_PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest: how long counting may lie still when the ledger is back.
const AWAY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The ledger, as the threads share it. The lock is held for a commit: what one may see is always durable.
pub(super) type SharedLedger = Arc<Mutex<Box<dyn Ledger>>>;

/// A batch with what its messages hold. Dropped, it gives the messages back to nsqd.
pub(super) struct Decoded {
    /// `None`: more of the same batch follows, with which it is finished, or given back.
    pub(super) batch: Option<Batch>,
    pub(super) arrivals: Arrivals,
    pub(super) received_at: Instant,
}

pub(super) struct Committer {
    waiting: (Sender<Decoded>, Receiver<Decoded>),
    /// Held by who commits: whoever finds it taken leaves the batch to the holder.
    turn: Mutex<()>,
    ledger: SharedLedger,
    /// Plays and dead letters in one commit, at most; and one batch more.
    group_max: usize,
    /// Notified when a part of the upkeep is done.
    upkept: Condvar,
    counts: Arc<ShardedCounts>,
    stats: Arc<Stats>,
    titles: Arc<PlayTitles>,
    wake: Wake,
    /// Nothing more is committed: every batch goes back to nsqd.
    has_ended: AtomicBool,
    /// Ends the wait for a ledger that is away.
    stop: StopToken,
    /// Says that nothing is counted any more; has room for one.
    failed: Sender<()>,
    /// A try to commit, which must come to an end. Neither the pause between two is, nor a checkpoint: a slow disk may take
    /// minutes for one, and whoever is killed in it begins it again.
    work: Arc<Work>,
}

impl Committer {
    pub(super) fn new(
        ledger: SharedLedger,
        counts: Arc<ShardedCounts>,
        stats: Arc<Stats>,
        titles: Arc<PlayTitles>,
        wake: Wake,
        failed: Sender<()>,
        stop: StopToken,
    ) -> Self {
        let group_max = ledger.lock().group_max();
        Self {
            waiting: bounded(WAITING_MAX),
            turn: Mutex::new(()),
            ledger,
            group_max,
            upkept: Condvar::new(),
            counts,
            stats,
            titles,
            wake,
            has_ended: AtomicBool::new(false),
            stop,
            failed,
            work: Work::new("a commit to the ledger"),
        }
    }

    /// Notes what a batch's bodies had.
    pub(super) fn note(&self, notes: BodyNotes, titles: &TitleNotes) {
        self.titles.add(titles);
        if !notes.is_empty() {
            self.stats.note(notes);
        }
    }

    /// Commits a batch, or leaves it to the thread that is committing. After a failure, and behind a stop that found the ledger
    /// away, it finishes nothing: every batch goes back to nsqd.
    pub(super) fn put(&self, decoded: Decoded) {
        self.stats.received(decoded.arrivals.len());
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
                if !self.has_ended.load(Ordering::Relaxed)
                    && let Err(error) = self.commit(first)
                {
                    self.fail(&error);
                }
            }
        }
    }

    /// Does the ledger's upkeep, such as checkpoints, until stopped; behind each part `look` is given the ledger. No commit
    /// waits for it.
    pub(super) fn run_upkeep(&self, stop: &StopToken, mut look: impl FnMut(&mut dyn Ledger)) {
        let mut pause = UPKEEP_EVERY;
        while !stop.wait(pause) {
            let began = Instant::now();
            let done = self.upkeep(began);
            look(&mut **self.ledger.lock());
            match done {
                Ok(NextUpkeep::Later) => pause = UPKEEP_EVERY,
                Ok(NextUpkeep::Now) => pause = Duration::ZERO,
                // The disk and the processors are left to the commits for as long as it took.
                Ok(NextUpkeep::Soon) => pause = began.elapsed().min(UPKEEP_EVERY),
                Err(error) => match LedgerAway::of(&error) {
                    Some(reason) => {
                        self.stats.ledger_is_away(LedgerUse::Upkeep, &reason);
                        pause = UPKEEP_EVERY;
                    }
                    None => {
                        self.fail(&error);
                        return;
                    }
                },
            }
        }
    }

    fn upkeep(&self, now: Instant) -> Result<NextUpkeep> {
        let work = {
            let mut ledger = self.ledger.lock();
            if self.stop.is_stopped() && self.stats.is_ledger_away() {
                // It would be waited for again.
                return Ok(NextUpkeep::Later);
            }
            ledger.upkeep(now)
        };
        match work {
            Some(work) => {
                let done = work.run()?;
                let next = self.ledger.lock().upkept(done);
                self.upkept.notify_all();
                let next = next?;
                self.stats.ledger_is_there(LedgerUse::Upkeep);
                Ok(next)
            }
            None => Ok(NextUpkeep::Later),
        }
    }

    fn fail(&self, error: &anyhow::Error) {
        if self.has_ended.swap(true, Ordering::Relaxed) {
            return;
        }
        if error.is::<LedgerFenced>() {
            self.stats.fenced();
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
        let mut came = first.arrivals.len();
        let mut batches = vec![first.batch];
        let mut arrivals = vec![first.arrivals];
        while came < self.group_max
            && let Ok(next) = self.waiting.1.try_recv()
        {
            came += next.arrivals.len();
            batches.push(next.batch);
            arrivals.push(next.arrivals);
        }
        // Otherwise the batches are dropped, which gives their messages back.
        let Some((committed, took)) = self.commit_group(&mut arrivals)? else { return Ok(()) };
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
            batch.into_iter().for_each(Batch::finish);
        }
        self.update_stats(&committed, took, &arrivals, received_at, counted_at_ns);
        Ok(())
    }

    /// Commits, and tries again while the ledger is away; how long the commit took. `None`: it was away until the processor
    /// stopped, or until the upkeep failed.
    fn commit_group(&self, arrivals: &mut [Arrivals]) -> Result<Option<(Committed, Duration)>> {
        let mut pause = AWAY_PAUSE_MIN;
        loop {
            let began = Instant::now();
            // The lock is held for the commit and not for the pause: the publisher goes on.
            let committed = self.try_commit(arrivals);
            let error = match committed {
                Ok(committed) => return Ok(Some((committed, began.elapsed()))),
                Err(error) => error,
            };
            if LedgerAway::of(&error).is_none() {
                return Err(error);
            }
            // Many processors must not come back in step.
            let is_stopped = self.stop.wait(pause.mul_f64(rand::random_range(0.75..1.0)));
            if is_stopped && !self.has_ended.swap(true, Ordering::Relaxed) {
                log::warn!(
                    "stopped while the ledger is away: what is not counted goes back to nsqd"
                );
            }
            if self.has_ended.load(Ordering::Relaxed) {
                return Ok(None);
            }
            pause = (pause * 2).min(AWAY_PAUSE_MAX);
        }
    }

    fn try_commit(&self, arrivals: &mut [Arrivals]) -> Result<Committed> {
        let mut ledger = self.ready_ledger();
        let _begun = self.work.begin();
        let committed = ledger.commit(arrivals);
        // Before the lock is given back: whoever gets it next knows.
        if let Some(reason) = committed.as_ref().err().and_then(LedgerAway::of) {
            self.stats.ledger_is_away(LedgerUse::Commit, &reason);
        }
        committed
    }

    /// The ledger, when it is not behind with its checkpoints: new producers that come faster than they can be written
    /// would fill the memory. Meanwhile batches wait, and RDY falls.
    fn ready_ledger(&self) -> MutexGuard<'_, Box<dyn Ledger>> {
        let mut ledger = self.locked_ledger();
        while ledger.is_behind() && !self.has_ended.load(Ordering::Relaxed) {
            // The upkeep says when a part is done; should it have ended meanwhile, nobody does.
            self.upkept.wait_for(&mut ledger, UPKEEP_EVERY);
        }
        ledger
    }

    /// The ledger, which nobody keeps for long.
    fn locked_ledger(&self) -> MutexGuard<'_, Box<dyn Ledger>> {
        let _begun = self.work.begin();
        self.ledger.lock()
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
        let rejected = arrivals.iter().flat_map(|arrivals| &arrivals.rejected);
        // Ours may have been set back.
        let times_ns = waited_from_ns.map(|from| counted_at_ns.saturating_sub(from));
        self.stats.committed(took, committed, times_ns, rejected, received_at);
    }
}

#[cfg(test)]
mod tests;
