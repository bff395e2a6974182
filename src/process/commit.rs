//! The ledger thread: commits what the workers have decoded, and only then counts it in the map and finishes the
//! messages.
//!
//! All that waits goes into one commit, so that a commit that takes long makes the next one larger, and a single
//! message is committed at once.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use parking_lot::Mutex;

use super::stats::Stats;
use super::worker::Decoded;
use crate::counts::ShardedCounts;
use crate::failpoint;
use crate::ledger::{Arrivals, Committed, Ledger};

/// Messages in one commit, at most; and one batch more.
const GROUP_MAX: usize = 10_000;

/// The ledger, as the threads share it. The lock is held for a commit: what one may see is always durable.
pub(super) type SharedLedger = Arc<Mutex<Box<dyn Ledger>>>;

pub(super) struct Committer {
    pub(super) inbox: Receiver<Decoded>,
    pub(super) ledger: SharedLedger,
    pub(super) counts: Arc<ShardedCounts>,
    pub(super) stats: Arc<Stats>,
    /// Wakes the publisher when something is to be told; has room for one.
    pub(super) wake: Sender<()>,
    /// Says that nothing is counted any more; has room for one.
    pub(super) failed: Sender<()>,
}

impl Committer {
    /// Runs until the last worker is gone. After a failure it finishes nothing: every batch goes back to nsqd.
    pub(super) fn run(mut self) {
        if let Err(error) = self.commit_all() {
            let reason = format!("{error:#}");
            log::error!("nothing is counted any more: {reason}");
            self.stats.fail(&reason);
            // Room for one, and this is said once.
            let _ = self.failed.try_send(());
            // Each is dropped, which gives its messages back.
            self.inbox.iter().for_each(drop);
        }
    }

    fn commit_all(&mut self) -> Result<()> {
        let mut tidy_at = Instant::now();
        loop {
            let idle = match self.inbox.recv_deadline(tidy_at) {
                Ok(first) => {
                    self.commit(first)?;
                    false
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let now = Instant::now();
            if idle || now >= tidy_at {
                tidy_at = self.ledger.lock().tidy(now, idle)?;
            }
        }
    }

    /// Commits a batch and those that wait behind it.
    fn commit(&mut self, first: Decoded) -> Result<()> {
        let received_at = first.received_at;
        let mut messages = first.batch.len();
        let mut batches = vec![first.batch];
        let mut arrivals = vec![first.arrivals];
        while messages < GROUP_MAX
            && let Ok(next) = self.inbox.try_recv()
        {
            messages += next.batch.len();
            batches.push(next.batch);
            arrivals.push(next.arrivals);
        }
        let committed = self.ledger.lock().commit(&mut arrivals)?;
        self.show(&committed);
        let half = batches.len() / 2;
        for (index, batch) in batches.into_iter().enumerate() {
            if index == half {
                failpoint::hit("ledger-mid-fins");
            }
            batch.finish();
        }
        self.note(&committed, &arrivals, received_at);
        Ok(())
    }

    /// Makes what is committed visible.
    fn show(&self, committed: &Committed) {
        for growth in &committed.grown {
            let last_played_at = (growth.last_played_at > 0).then_some(growth.last_played_at);
            self.counts.add(growth.video_id, growth.plays, last_played_at);
        }
        if !committed.grown.is_empty() {
            // A full channel says it already.
            let _ = self.wake.try_send(());
        }
    }

    /// `arrivals` holds only what was new.
    fn note(&self, committed: &Committed, arrivals: &[Arrivals], received_at: Instant) {
        let plays = arrivals.iter().flat_map(|arrivals| &arrivals.plays);
        let enqueued_at_ns = plays.filter_map(|(play, _)| play.enqueued_at_ns);
        let rejection = arrivals.iter().rev().find_map(|arrivals| arrivals.rejected.last());
        let rejection = rejection.map(|letter| &letter.reason);
        self.stats.committed(&committed.counters, enqueued_at_ns, rejection, received_at);
    }
}
