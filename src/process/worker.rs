//! A worker thread: takes batches of messages, decodes the plays, counts those that are new, and only then finishes
//! the messages.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use foldhash::fast::RandomState;
use nsq_protocol::{Batch, Batches};
use parking_lot::Mutex;
use uuid::Uuid;

use super::stats::Stats;
use crate::counts::ShardedCounts;
use crate::ledger::{Dedupe, MessageKey, Seen};
use crate::play::Play;
use crate::produce::unix_time_ns;

/// What the workers share.
#[derive(Clone)]
pub(super) struct Shared {
    /// Which plays are counted. Locked once a batch.
    pub(super) dedupe: Arc<Mutex<Dedupe>>,
    pub(super) counts: Arc<ShardedCounts>,
    pub(super) stats: Arc<Stats>,
    /// Wakes the publisher when a video became due; has room for one.
    pub(super) wake: Sender<()>,
    /// Tells nsqds apart.
    pub(super) hasher: RandomState,
}

pub(super) struct Worker {
    index: usize,
    batches: Batches,
    shared: Shared,
    /// One batch's plays: all of them, then the new ones.
    decoded: Vec<(Play, MessageKey)>,
    /// Their number for each video, with the newest enqueue time in ms: one lock a video, not one a play.
    plays: HashMap<Uuid, (u64, u64), RandomState>,
}

impl Worker {
    pub(super) fn new(index: usize, batches: Batches, shared: Shared) -> Self {
        Self { index, batches, shared, decoded: Vec::new(), plays: HashMap::default() }
    }

    /// Runs until the consumer has stopped and the last batch is counted.
    pub(super) fn run(mut self) {
        while let Some(batch) = self.batches.recv() {
            let messages = self.count(&batch);
            batch.finish();
            self.shared.stats.consumed(messages);
        }
    }

    /// Counts a batch; how many of its messages were no duplicates.
    fn count(&mut self, batch: &Batch) -> u64 {
        let received_at = Instant::now();
        let nsqd = self.shared.hasher.hash_one(batch.nsqd());
        let mut last_rejection = None;
        let mut rejected = 0;
        for message in batch.iter() {
            match Play::decode(message.body) {
                Ok(play) => self.decoded.push((play, MessageKey { nsqd, id: message.id })),
                Err(rejection) => {
                    rejected += 1;
                    log::info!("a message body is no play: {rejection}");
                    last_rejection = Some((received_at, rejection));
                }
            }
        }
        let decoded = self.decoded.len();
        {
            let mut dedupe = self.shared.dedupe.lock();
            self.decoded
                .retain(|(play, message)| dedupe.insert(play.identity, *message) == Seen::New);
        }
        let counted = self.decoded.len();
        let due = self.add_to_counts();
        if due {
            // A full channel says it already.
            let _ = self.shared.wake.try_send(());
        }
        let counted_at = unix_time_ns();
        let mut stats = self.shared.stats.worker(self.index).lock();
        stats.counted += counted as u64;
        stats.duplicates += (decoded - counted) as u64;
        stats.rejected += rejected;
        stats.last_rejection = last_rejection.or(stats.last_rejection.take());
        stats.first.get_or_insert(received_at);
        stats.last = Some(Instant::now());
        for (play, _) in self.decoded.drain(..) {
            if let Some(enqueued_at_ns) = play.enqueued_at_ns {
                // A producer's clock may run ahead of ours.
                stats.record_time(counted_at.saturating_sub(enqueued_at_ns) / 1000);
            }
        }
        counted as u64 + rejected
    }

    /// Adds the decoded plays to the map; true if a video became due.
    fn add_to_counts(&mut self) -> bool {
        for (play, _) in &self.decoded {
            let (plays, newest) = self.plays.entry(play.video_id).or_default();
            *plays += 1;
            *newest = (*newest).max(play.enqueued_at_ns.unwrap_or(0) / 1_000_000);
        }
        let mut due = false;
        for (video_id, (plays, newest)) in self.plays.drain() {
            due |= self.shared.counts.add(video_id, plays, (newest > 0).then_some(newest));
        }
        due
    }
}
