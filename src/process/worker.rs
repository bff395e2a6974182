//! A worker thread: takes batches of messages, decodes the plays, counts them, and only then finishes the messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use foldhash::fast::RandomState;
use nsq_protocol::{Batch, Batches};
use uuid::Uuid;

use super::stats::Stats;
use crate::counts::ShardedCounts;
use crate::play::{Play, Rejection};
use crate::produce::unix_time_ns;

pub(super) struct Worker {
    index: usize,
    batches: Batches,
    counts: Arc<ShardedCounts>,
    stats: Arc<Stats>,
    /// Wakes the publisher when a video became due; has room for one.
    wake: Sender<()>,
    /// One batch's plays of each video, with the newest enqueue time in ms: one lock a video, not one a play.
    plays: HashMap<Uuid, (u64, u64), RandomState>,
    /// Enqueue times of one batch, in ns.
    enqueued_at: Vec<u64>,
}

impl Worker {
    pub(super) fn new(
        index: usize,
        batches: Batches,
        counts: Arc<ShardedCounts>,
        stats: Arc<Stats>,
        wake: Sender<()>,
    ) -> Self {
        Self {
            index,
            batches,
            counts,
            stats,
            wake,
            plays: HashMap::default(),
            enqueued_at: Vec::new(),
        }
    }

    /// Runs until the consumer has stopped and the last batch is counted.
    pub(super) fn run(mut self) {
        while let Some(batch) = self.batches.recv() {
            self.count(&batch);
            let messages = batch.len() as u64;
            batch.finish();
            self.stats.received(messages);
        }
    }

    fn count(&mut self, batch: &Batch) {
        let received_at = Instant::now();
        let (mut counted, mut rejected, mut last_rejection) = (0, 0, None);
        for message in batch.iter() {
            match Play::decode(message.body) {
                Ok(play) => {
                    counted += 1;
                    let (plays, newest) = self.plays.entry(play.video_id).or_default();
                    *plays += 1;
                    if let Some(enqueued_at_ns) = play.enqueued_at_ns {
                        *newest = (*newest).max(enqueued_at_ns / 1_000_000);
                        self.enqueued_at.push(enqueued_at_ns);
                    }
                }
                Err(rejection) => {
                    rejected += 1;
                    self.log_rejection(&rejection);
                    last_rejection = Some((received_at, rejection));
                }
            }
        }
        let mut due = false;
        for (video_id, (plays, newest)) in self.plays.drain() {
            due |= self.counts.add(video_id, plays, (newest > 0).then_some(newest));
        }
        if due {
            // A full channel says it already.
            let _ = self.wake.try_send(());
        }
        let counted_at = unix_time_ns();
        let mut stats = self.stats.worker(self.index).lock();
        stats.counted += counted;
        stats.rejected += rejected;
        stats.last_rejection = last_rejection.or(stats.last_rejection.take());
        stats.first.get_or_insert(received_at);
        stats.last = Some(Instant::now());
        for enqueued_at_ns in self.enqueued_at.drain(..) {
            // A producer's clock may run ahead of ours.
            stats.record_time(counted_at.saturating_sub(enqueued_at_ns) / 1000);
        }
    }

    fn log_rejection(&self, rejection: &Rejection) {
        log::info!("a message body is no play: {rejection}");
    }
}
