//! The processor: consumer → workers → sharded map → publisher.
//!
//! Threads: the consumer's own, `worker-0` … that decode and count, and `publisher`, the timer thread that tells
//! the dashboard what changed. Counts, and which plays are counted, live in memory: a message is finished once it is
//! counted, and what was counted but not published is lost with the process (the durable ledger will change that).

mod publish;
mod stats;
mod worker;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, bounded};
use foldhash::fast::RandomState;
use nsq_protocol::thread::{OwnedThread, StopSource, stop_pair};
use nsq_protocol::{Consumer, ConsumerConfig};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::api::ConsumptionTimes;
use crate::counts::{ShardedCounts, Totals};
use crate::dashboard_client::DashboardClient;
use crate::data_dir::Lock;
use crate::ledger::Dedupe;
use publish::{PublishReport, Publisher};
pub use stats::Progress;
use stats::Stats;
use worker::Worker;

/// What to process, and where the counts go.
#[derive(Debug)]
pub struct ProcessorConfig {
    /// Where the plays come from.
    pub consumer: ConsumerConfig,
    /// Worker threads.
    pub threads: NonZeroUsize,
    /// How often a video with `realtime_below` plays or more is published.
    pub update_interval: Duration,
    /// Up to how many plays a video is published at each change.
    pub realtime_below: u64,
    /// Where the counts go.
    pub dashboard: DashboardClient,
    /// Signals on [`Processor::reached`] once that many messages were consumed.
    pub target: Option<u64>,
    /// The right to be the one processor on its data directory.
    pub lock: Lock,
}

/// What a processor did from its start to its end.
#[derive(Clone, Debug, Default)]
pub struct ProcessorReport {
    /// Messages consumed, each once: counted + rejected.
    pub consumed: u64,
    /// Plays counted.
    pub counted: u64,
    /// Plays that had been counted before.
    pub duplicates: u64,
    /// Plays without an identity, which only the newest messages' IDs protect from being counted twice.
    pub unidentified: u64,
    /// Bodies that were no play.
    pub rejected: u64,
    /// Videos with at least one play.
    pub videos: u64,
    /// From the first message to the last one counted.
    pub seconds: f64,
    /// From enqueued to counted; `None` without a play that said when it was enqueued.
    pub consumption_ms: Option<ConsumptionTimes>,
    /// Messages that the dashboard took, each with at most 20 counts.
    pub published_messages: u64,
    /// Videos whose newest count the dashboard did not take; 0 unless it was away to the end.
    pub unpublished_videos: usize,
    /// Why not.
    pub publish_error: Option<String>,
}

/// A processor at work. Dropped without [`Processor::stop`], it ends the same way and reports nothing.
pub struct Processor {
    // The order of the fields is the order in which a drop ends them; each must end before the next is joined.
    consumer: Consumer,
    workers: Vec<OwnedThread<()>>,
    stop_publisher: StopSource,
    publisher: OwnedThread<PublishReport>,
    dedupe: Arc<Mutex<Dedupe>>,
    counts: Arc<ShardedCounts>,
    stats: Arc<Stats>,
    reached: Receiver<()>,
    _lock: Lock,
}

impl Processor {
    /// Connects to every nsqd and starts the threads.
    ///
    /// # Errors
    /// When no nsqd answers as one, or the operating system refuses a thread.
    pub fn start(config: ProcessorConfig) -> Result<Self> {
        let counts = Arc::new(ShardedCounts::new(config.realtime_below));
        let (reached_tx, reached) = bounded(1);
        let stats = Arc::new(Stats::new(config.threads, config.target, reached_tx));
        // One slot is all it takes: "something became due" need not be said twice.
        let (wake_tx, wake) = bounded(1);
        let (stop_publisher, stop) = stop_pair();
        let publisher = Publisher::new(publish::PublisherConfig {
            processor: Uuid::new_v4(),
            dashboard: config.dashboard,
            update_interval: config.update_interval,
            counts: counts.clone(),
            stats: stats.clone(),
            wake,
            stop,
        });
        let consumer = Consumer::start(config.consumer)?;
        let publisher = OwnedThread::spawn("publisher", move || publisher.run())
            .context("cannot start the publisher thread")?;
        let dedupe = Arc::new(Mutex::new(Dedupe::new()));
        let mut processor = Self {
            consumer,
            workers: Vec::new(),
            stop_publisher,
            publisher,
            dedupe,
            counts,
            stats,
            reached,
            _lock: config.lock,
        };
        let shared = worker::Shared {
            dedupe: processor.dedupe.clone(),
            counts: processor.counts.clone(),
            stats: processor.stats.clone(),
            wake: wake_tx,
            hasher: RandomState::default(),
        };
        for index in 0..config.threads.get() {
            let batches = processor.consumer.batches();
            let worker = Worker::new(index, batches, shared.clone());
            let worker = OwnedThread::spawn(&format!("worker-{index}"), move || worker.run())
                .context("cannot start a worker thread")?;
            processor.workers.push(worker);
        }
        Ok(processor)
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.stats.progress()
    }

    /// How much is counted.
    pub fn totals(&self) -> Totals {
        self.counts.totals()
    }

    /// Gets one message once the target was consumed.
    pub fn reached(&self) -> &Receiver<()> {
        &self.reached
    }

    /// Stops in order: the consumer takes no more and answers what it holds, the workers count it, the publisher
    /// sends the last batches. Returns every video's plays with the report.
    pub fn stop(self) -> (ProcessorReport, Vec<(Uuid, u64)>) {
        let Self {
            consumer,
            workers,
            publisher,
            stop_publisher,
            dedupe,
            counts,
            stats,
            reached: _,
            _lock,
        } = self;
        // 1. CLS; what is in flight still reaches the workers, which end with the last batch.
        consumer.stop();
        workers.into_iter().for_each(OwnedThread::join);
        drop(consumer);
        // 2. All is counted: the last batches.
        drop(stop_publisher);
        let published = publisher.join();
        let progress = stats.progress();
        let report = ProcessorReport {
            consumed: progress.consumed(),
            counted: progress.counted,
            duplicates: progress.duplicates,
            unidentified: dedupe.lock().by_message_only(),
            rejected: progress.rejected,
            videos: counts.totals().videos,
            seconds: progress.seconds,
            consumption_ms: stats.consumption_times(),
            published_messages: published.messages,
            unpublished_videos: counts.unpublished(),
            publish_error: published.error,
        };
        (report, counts.all())
    }
}
