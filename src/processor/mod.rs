//! The processor: consumer → workers → ledger → sharded map → publisher.
//!
//! Threads: the consumer's own; `worker-0` …, which decode and, one at a time, commit, count and finish the messages;
//! `ledger`, which does the ledger's upkeep, such as checkpoints, where no commit waits for it; `publisher`, the timer thread
//! that tells the dashboard what changed, and `publisher-2` … for more dashboards; and for a moment `neighbours`, which looks who
//! else reads the channel. A message is finished once what it brought is durable; the map holds committed counts only, and only
//! they are published.

mod claim;
mod commit;
mod connect;
mod dead;
mod decode;
mod letters;
mod notes;
mod publication;
mod publisher;
mod publishers;
mod report;
mod report_post;
mod stats;
mod takeovers;
mod titles;
mod wake;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Error, Result};
use crossbeam_channel::{Receiver, bounded};
use nsq_protocol::thread::{Crew, StopSource, stop_pair};
use nsq_protocol::{Consumer, ConsumerConfig, Oversized};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::ledger::{BODY_MAX, Counters, Ledger};
use crate::model::counts::{ShardedCounts, Totals};
use crate::model::dashboard_index::DashboardIndex;
use crate::model::play::PlayShape;
use crate::model::time_window::TimeWindow;
use crate::model::video_id::VideoId;
use crate::model::words::{many, of_number};
use crate::nsqd::consumers;
use crate::nsqd::neighbours::Neighbours;
use crate::nsqd::waiting::StartWait;
use crate::runtime::links::{Links, PartLink};
use crate::storage::data_dir::Lock;
use crate::wire::client::DashboardClient;
use crate::wire::{Confirmed, ConsumptionTimes};
use claim::Claims;
pub use claim::OnLoss;
use commit::{Committer, SharedLedger};
use connect::Connecting;
pub use dead::{DeadProcessor, PublishedForDead, ToldOfDead};
use decode::{DecodeWorker, ReadsBodies};
pub use publisher::DashboardReport;
use publisher::SharedParts;
use publishers::{Publishers, PublishersConfig};
use report::ReportedConsumer;
pub use stats::Progress;
use stats::Stats;
use takeovers::Takeovers;
use titles::PlayTitles;
use wake::wake_publishers;

/// How long a stop waits for what is in flight to be committed and finished, and for an nsqd to take the answers. One that
/// hangs must not keep the counts from being published; what it does not hear, it delivers again.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What to process, and where the counts go.
pub struct ProcessorConfig {
    /// Where the plays come from. The ledger is added to its user agent.
    pub consumer: ConsumerConfig,
    /// How long its start waits for an nsqd.
    pub wait: StartWait,
    /// How to look whether another processor reads the channel, beside which this one must not start; `None`: it may.
    pub neighbours: Option<Neighbours>,
    /// Worker threads.
    pub threads: NonZeroUsize,
    /// Which times of plays are believed.
    pub time_window: TimeWindow,
    /// What bodies look like.
    pub shape: PlayShape,
    /// How often a video with `realtime_below` plays or more is published; more than zero.
    pub update_interval: Duration,
    /// Up to how many plays a video is published at each change.
    pub realtime_below: u64,
    /// Where the counts go: 1 to [`DashboardIndex::MAX`](crate::model::dashboard_index::DashboardIndex::MAX) dashboards, each
    /// of which is told all.
    pub dashboards: Vec<DashboardClient>,
    /// Signals on [`Processor::reached`] once the ledger holds that many messages, counted or rejected.
    pub target: Option<u64>,
    /// Where the counts are kept.
    pub ledger: Box<dyn Ledger>,
    /// What to do when a dashboard knows of more plays than the ledger holds.
    pub on_loss: OnLoss,
    /// The right to be the one processor on its data directory.
    pub lock: Lock,
    /// Where it is told which of what it depends on is there.
    pub links: Arc<Links>,
}

/// What a processor did from its start to its end.
#[derive(Clone, Debug, Default)]
pub struct ProcessorReport {
    /// Messages consumed, each once: counted + rejected.
    pub consumed: u64,
    /// By outcome.
    pub counters: Counters,
    /// What the ledger holds, counted or rejected: `consumed`, and what earlier starts have left.
    pub in_ledger: u64,
    /// Videos with at least one play.
    pub videos: u64,
    /// From the first message to the last one counted.
    pub seconds: f64,
    /// From enqueued to counted; `None` without a play whose time is believed.
    pub consumption_ms: Option<ConsumptionTimes>,
    /// What each dashboard was told, in the order of [`ProcessorConfig::dashboards`].
    pub dashboards: Vec<DashboardReport>,
    /// Why it stopped counting by itself: the ledger could not be written.
    pub failure: Option<String>,
    /// It stopped because another processor has taken over what it counted under: it may start again.
    pub is_fenced: bool,
}

impl ProcessorReport {
    /// Messages with counts that all dashboards took.
    pub fn published_messages(&self) -> u64 {
        self.dashboards.iter().map(|dashboard| dashboard.published_messages).sum()
    }

    /// Which dashboards lack counts, and why, in one line; `None`: none does.
    pub fn unpublished(&self) -> Option<String> {
        let lacks = |dashboard: &DashboardReport| {
            let DashboardReport { url, unpublished_videos, error, .. } = dashboard;
            let error = error.as_ref()?;
            let number = *unpublished_videos as u64;
            if number == 0 {
                return Some(format!("{url} was not told of all producers: {error}"));
            }
            let (videos, are) = (many(number, "video"), of_number(number, "is", "are"));
            Some(format!("{videos} {are} not yet published to {url}: {error}"))
        };
        let all: Vec<String> = self.dashboards.iter().filter_map(lacks).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// A processor at work. Dropped without [`Processor::stop`], it ends the same way and reports nothing.
pub struct Processor {
    // The order of the fields is the order in which a drop ends them, each crew before the next: what the workers commit
    // is still checkpointed and published.
    /// End when the consumer's batches end.
    workers: Crew<()>,
    upkeep: Crew<()>,
    publishers: Publishers,
    consumer: Arc<Consumer>,
    ledger: SharedLedger,
    counts: Arc<ShardedCounts>,
    stats: Arc<Stats>,
    reached: Receiver<()>,
    failed: Receiver<()>,
    yielded: Receiver<Error>,
    _neighbours: Option<Crew<()>>,
    _lock: Lock,
}

impl Processor {
    /// Takes over the ledger's counts, has every dashboard compare them with what it knows, if it answers, connects to every nsqd
    /// and starts the threads. While no nsqd is there it waits, and tells the dashboards so.
    ///
    /// # Errors
    /// When the ledger is older than what a dashboard knows of it; no nsqd answers as one, or none in time; another processor
    /// reads the channel; or the operating system refuses a thread.
    pub fn start(config: ProcessorConfig) -> Result<Self> {
        let ProcessorConfig { mut ledger, consumer, wait, neighbours, dashboards, links, .. } =
            config;
        let counts = counts_of(&mut *ledger, config.realtime_below, dashboards.len());
        let (update_interval, threads) = (config.update_interval, config.threads);
        let ((reached_tx, reached), (failed_tx, failed)) = (bounded(1), bounded(1));
        let (before, dashboards_len) = (ledger.counters(), dashboards.len());
        let stats = Stats::new(before, config.target, reached_tx, dashboards_len, links.clone());
        let stats = Arc::new(stats);
        let (wake, woken) = wake_publishers(dashboards.len());
        let (processor, first_version) = (ledger.processor(), ledger.first_version());
        let (life, on_channel) = (ledger.life(), ledger.on_channel());
        let consumer = consumer_of(consumer, &on_channel);
        let claim = |_: &_| Claims::new(processor, life, config.on_loss, counts.clone());
        let claims = claim::at_start(dashboards.iter().map(claim).collect(), dashboards)?;
        let ledger: SharedLedger = Arc::new(Mutex::new(ledger));
        let (stop_commits, commits_stop) = stop_pair();
        let titles = Arc::new(PlayTitles::new(dashboards_len));
        let committer = Arc::new(Committer::new(
            ledger.clone(),
            counts.clone(),
            stats.clone(),
            titles.clone(),
            wake.clone(),
            failed_tx.clone(),
            commits_stop,
        ));
        let reported = Arc::new(ReportedConsumer::new(&consumer));
        let parts = SharedParts::new(&ledger, &stats, &reported, &links, failed_tx);
        let publishing =
            PublishersConfig { claims, first_version, update_interval, titles, parts, wake, woken };
        let mut publishers = Publishers::new(publishing);
        let mut connecting = Connecting { on_channel, consumer, wait, neighbours };
        // Before the wait for an nsqd, in which a shared ledger's lease must not run out.
        let upkeep = start_upkeep(&committer, Takeovers::new(life, publishers.dead()))?;
        let consumer = connect(&mut connecting, &reported, &links, &mut publishers)?;
        // A refused thread drops the crews before it, each of which ends its threads first. The publishers come last, unless
        // they had to tell that the start waits: they would spend their last tries on a dashboard that is away.
        let reads = ReadsBodies { shape: config.shape, window: config.time_window };
        let workers = start_workers(threads, &reads, &consumer, &committer, stop_commits)?;
        let (neighbours, yielded) = connecting.look_again()?;
        publishers.start()?;
        Ok(Self {
            workers,
            upkeep,
            publishers,
            consumer,
            ledger,
            counts,
            stats,
            reached,
            failed,
            yielded,
            _neighbours: neighbours,
            _lock: config.lock,
        })
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.stats.progress()
    }

    /// How much is counted.
    pub fn totals(&self) -> Totals {
        self.counts.totals()
    }

    /// Gets one message once the target is reached.
    pub fn reached(&self) -> &Receiver<()> {
        &self.reached
    }

    /// Gets one message when the ledger cannot be written: nothing is counted any more, and it should be stopped.
    pub fn failed(&self) -> &Receiver<()> {
        &self.failed
    }

    /// Gets the reason when it must make way for another processor, which has come to the channel at the same time: it
    /// should be stopped.
    pub fn yielded(&self) -> &Receiver<Error> {
        &self.yielded
    }

    /// Answers which plays of a producer are counted for good, for as long as it is kept; an error where the ledger cannot be
    /// asked.
    pub fn confirmations(&self) -> impl Fn(&Uuid) -> Result<Confirmed> + Send + Sync + 'static {
        let ledger = self.ledger.clone();
        move |producer| ledger.lock().confirmed(producer)
    }

    /// Has every dashboard told of what a dead processor has counted, under that one's id, for as long as what is returned is
    /// kept. No message tells more of it than of this processor's own counts, and a dashboard that is away keeps no other waiting.
    ///
    /// Its producers' plays are not told of: who counts them again as repeats tells that they are counted.
    pub fn publish_for(&self, dead: DeadProcessor) -> PublishedForDead {
        self.publishers.publish_for(dead)
    }

    /// Stops in order: the consumer takes no more and answers what it holds, the workers decode and commit it, the
    /// publishers send the last batches. Returns every video's plays with the report.
    pub fn stop(self) -> (ProcessorReport, Vec<(VideoId, u64)>) {
        let Self {
            workers,
            upkeep,
            publishers,
            consumer,
            ledger,
            counts,
            stats,
            reached: _,
            failed: _,
            yielded: _,
            _neighbours,
            _lock,
        } = self;
        publishers.stop_begins();
        // 1. CLS; what is in flight still reaches the workers, which end when the last batch is committed.
        workers.stop();
        upkeep.stop();
        drop(consumer);
        // 2. All is counted: the last batches.
        let dashboards = publishers.stop();
        // 3. What was published, so that the next start does not tell it again.
        for dashboard in DashboardIndex::all(dashboards.len()) {
            if counts.unpublished(dashboard) == 0 {
                ledger.lock().told_all(dashboard);
            }
        }
        // Of one that is away the lease runs out by itself.
        let closed = if stats.is_ledger_away() { Ok(()) } else { ledger.lock().close() };
        if let Err(error) = closed {
            log::warn!("the next start will publish again what was published: {error:#}");
        }
        let progress = stats.progress();
        let in_ledger = ledger.lock().counters();
        let report = ProcessorReport {
            consumed: progress.consumed(),
            counters: progress.counters,
            in_ledger: in_ledger.counted + in_ledger.rejected,
            videos: counts.totals().videos,
            seconds: progress.seconds,
            consumption_ms: stats.consumption_times(),
            dashboards,
            failure: stats.failure(),
            is_fenced: stats.is_fenced(),
        };
        (report, counts.all())
    }
}

/// Connects; while no nsqd is there the publishers tell the dashboards so.
fn connect(
    connecting: &mut Connecting,
    reported: &ReportedConsumer,
    links: &Links,
    publishers: &mut Publishers,
) -> Result<Arc<Consumer>> {
    let consumer = connecting.connect(|reason| {
        links.away(PartLink::Start, reason);
        reported.waits(reason);
        Ok(publishers.start()?)
    })?;
    links.there(PartLink::Start);
    links.ask(report::links_of(&consumer));
    reported.started(&consumer);
    Ok(consumer)
}

/// The workers end when the consumer's batches do, that is when it stops; `stop_commits` ends their wait for a ledger that is
/// away.
fn start_workers(
    threads: NonZeroUsize,
    reads: &ReadsBodies,
    consumer: &Arc<Consumer>,
    committer: &Arc<Committer>,
    stop_commits: StopSource,
) -> Result<Crew<()>> {
    let mut workers = Crew::new({
        let consumer = consumer.clone();
        move || {
            drop(stop_commits);
            consumer.stop();
        }
    });
    for index in 0..threads.get() {
        let (batches, committer) = (consumer.batches(), committer.clone());
        let mut worker = DecodeWorker::new(reads, committer);
        workers.spawn(&format!("worker-{index}"), move || worker.run(&batches))?;
    }
    Ok(workers)
}

/// The map, as the ledger has it, which is told how many dashboards there are.
fn counts_of(
    ledger: &mut dyn Ledger,
    realtime_below: u64,
    dashboards: usize,
) -> Arc<ShardedCounts> {
    ledger.publish_to(dashboards);
    let counts = ShardedCounts::for_dashboards(realtime_below, dashboards);
    ledger.videos().into_iter().for_each(|video| counts.restore(video));
    Arc::new(counts)
}

/// What the consumer of a processor is besides what its user has set.
fn consumer_of(consumer: ConsumerConfig, on_channel: &Uuid) -> ConsumerConfig {
    let stop_timeout = consumer.get_stop_timeout().min(ANSWER_WITHIN);
    let agent = consumers::user_agent(consumer.get_user_agent(), on_channel);
    // As much as is kept of a dead letter.
    let oversized = Oversized::HandOver { kept: BODY_MAX };
    consumer.stop_timeout(stop_timeout).oversized(oversized).user_agent(agent)
}

fn start_upkeep(committer: &Arc<Committer>, mut takeovers: Takeovers) -> Result<Crew<()>> {
    let (source, stop) = stop_pair();
    let mut upkeep = Crew::stopped_by(source);
    let committer = committer.clone();
    let run = move || committer.run_upkeep(&stop, |ledger| takeovers.look(ledger));
    upkeep.spawn("ledger", run)?;
    Ok(upkeep)
}
