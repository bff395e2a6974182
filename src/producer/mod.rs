//! The producer: makes plays and puts them on the queue. One thread for each producer, `produce-0` …; each has
//! an id of its own and numbers its plays densely. With an outbox they stay until every play is known to be counted,
//! and the thread `confirm` asks which are.

mod confirmations;
mod outbox;
mod pace;
mod popularity;
mod worker;

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use nsq_protocol::thread::{Crew, StopSource, stop_pair};
use nsq_protocol::{BodiesBuf, Producer, TopicName};
use uuid::Uuid;

use crate::model::config::Popularity;
use crate::model::video_id::VideoId;
use crate::runtime::links::Links;
use confirmations::Asker;
pub use confirmations::Confirmations;
use outbox::Outbox;
pub use outbox::copy::copy as copy_outbox;
pub use outbox::disk::DiskOutbox;
pub use outbox::disk::{
    accept_loss as accept_outbox_loss, examine as examine_outbox, exists as outbox_exists,
    read as read_outbox, remove as remove_outbox,
};
use outbox::spans::ProducerSpans;
pub use outbox::tables::RunIdentity;
use pace::Pace;
use popularity::Picker;
use worker::{Kept, Produced, ProducedTotals, Worker};

/// The most plays that an outbox holds, over all threads, unless said otherwise: 40 MB of memory.
pub const OUTBOX_MAX: u64 = 10_000_000;

/// How long a stop waits for nsqd's OK of what is on its way. Whoever stops us waits 10 s in all.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What to produce.
#[derive(Clone, Debug)]
pub struct ProductionConfig {
    /// Where the plays go.
    pub topic: TopicName,
    /// How many plays, over all threads.
    pub messages: u64,
    /// How many videos they are plays of.
    pub videos: usize,
    /// Producer threads.
    pub threads: NonZeroUsize,
    /// Plays a second over all threads; `None`: as fast as nsqd takes them.
    pub rate: Option<f64>,
    /// How the plays spread over the videos.
    pub popularity: Popularity,
}

/// How plays are kept until they are counted.
pub struct OutboxConfig {
    /// Who knows which are.
    pub confirmations: Confirmations,
    /// After how long what is not counted is published again.
    pub republish_after: Duration,
    /// The most plays in it, over all threads. When it is full the producer waits.
    pub max: u64,
    /// Where they are kept; `None`: in memory. Only for one thread.
    pub disk: Option<DiskOutbox>,
    /// Where it is told whether nsqd takes them, and whether there is room.
    pub links: Arc<Links>,
}

/// What was produced.
#[derive(Clone, Debug, PartialEq)]
pub struct ProductionReport {
    /// Plays that nsqd has acknowledged, those of earlier starts included.
    pub messages: u64,
    /// Those that it had acknowledged before this start.
    pub resumed: u64,
    /// Plays of each video; videos that got none are left out.
    pub counts: Vec<(VideoId, u64)>,
    /// From the first play to the last OK; with an outbox, until the last was confirmed.
    pub seconds: f64,
    /// Copies that were published again.
    pub republished: u64,
    /// Plays that are not known to be counted; `None` without an outbox.
    pub unconfirmed: Option<u64>,
    /// Plays that are counted as the producers' own and that they never made.
    pub foreign: u64,
}

/// Producer threads at work. Dropped without [`Production::join`], they stop.
pub struct Production {
    // The order in which a drop ends them: those that produce need nobody who asks.
    threads: Crew<Result<Produced>>,
    /// With an outbox.
    asker: Option<Crew<()>>,
    ask: Sender<()>,
    videos: Arc<[VideoId]>,
    done: Arc<ProducedTotals>,
    started: Instant,
    /// Disconnects when nsqd has acknowledged all.
    publishing: Receiver<()>,
    /// Disconnects when the last thread is done.
    running: Receiver<()>,
}

/// For the threads that publish. At its end they are told to stop, and the connections are closed under those that wait for an
/// nsqd which does not answer.
fn crew(
    stop: StopSource,
    running: Receiver<()>,
    connections: Arc<Producer>,
) -> Crew<Result<Produced>> {
    Crew::new(move || {
        drop(stop);
        // Disconnected once every thread has ended.
        if matches!(running.recv_timeout(STOP_WITHIN), Err(RecvTimeoutError::Timeout)) {
            log::warn!("nsqd does not answer: the last plays may or may not be there");
            // What is waited for ends, and is not sent again.
            let _ = connections.close(Duration::ZERO);
        }
    })
}

impl Production {
    /// Starts the threads; `producer` is shared by them.
    ///
    /// # Errors
    /// The operating system's, when it refuses a thread.
    pub fn start(
        config: &ProductionConfig,
        producer: &Arc<Producer>,
        outbox: Option<OutboxConfig>,
    ) -> Result<Self> {
        let threads = config.threads.get() as u64;
        let (confirmations, mut disk, kept) = match outbox {
            Some(OutboxConfig { confirmations, republish_after, max, disk, links }) => {
                (Some(confirmations), disk, Some((republish_after, max / threads, links)))
            }
            None => (None, None, None),
        };
        let drawn = || (0..config.videos).map(|_| Uuid::new_v4().into()).collect();
        let videos: Arc<[VideoId]> =
            disk.as_ref().map_or_else(drawn, |disk| disk.videos.clone().into());
        let done = Arc::new(ProducedTotals::default());
        let (stop, stopped) = stop_pair();
        let (is_publishing, publishing) = bounded(0);
        let (is_running, running) = bounded(0);
        let (mut askers, mut workers) = (Vec::new(), Vec::new());
        let now = Instant::now();
        for index in 0..threads {
            let mut worker = Worker {
                producers: ProducerSpans::one(Uuid::new_v4()),
                topic: config.topic,
                messages: config.messages / threads + u64::from(index < config.messages % threads),
                next: 0,
                start: 0,
                pace: Pace::new(config.rate.map(|rate| rate / threads as f64), now),
                picker: Picker::new(config.popularity, videos.len()),
                videos: videos.clone(),
                counts: vec![0; videos.len()],
                producer: producer.clone(),
                kept: None,
                window: VecDeque::new(),
                buffer: BodiesBuf::new(),
                done: done.clone(),
                stop: stopped.clone(),
                publishing: Some(is_publishing.clone()),
                _running: is_running.clone(),
            };
            if let Some((republish_after, max, links)) = &kept {
                let (answer, answers) = bounded(1);
                let outbox = Outbox::new(*republish_after, now);
                let kept = Kept::new(outbox, *max, answers, links.clone(), now);
                worker.keep(kept, disk.take(), now);
                askers.extend(worker.asked().map(|asked| Asker { asked, answer }));
            }
            workers.push(worker);
        }
        let (ask, asked) = bounded(1);
        let asker = confirmations
            .map(|all| confirmations::start(all, askers, asked, stopped))
            .transpose()?;
        // Behind the asker: a refused thread drops those before it, each crew ending its threads first.
        drop(is_running);
        let mut threads = crew(stop, running.clone(), producer.clone());
        for (index, worker) in workers.into_iter().enumerate() {
            threads.spawn(&format!("produce-{index}"), move || worker.run())?;
        }
        let started = Instant::now();
        Ok(Self { threads, asker, ask, videos, done, started, publishing, running })
    }

    /// Plays that nsqd has acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.done.acknowledged.load(Ordering::Relaxed)
    }

    /// Disconnects when nsqd has acknowledged all, or a thread has failed and the others are done.
    pub fn publishing(&self) -> &Receiver<()> {
        &self.publishing
    }

    /// Disconnects when all is produced and, with an outbox, confirmed; or a thread has failed and the others are done.
    pub fn running(&self) -> &Receiver<()> {
        &self.running
    }

    /// Asks now which plays are counted: some probably are.
    pub fn check_now(&self) {
        // Full: it will.
        let _ = self.ask.try_send(());
    }

    /// Waits for the threads to be done.
    ///
    /// # Errors
    /// The first thread's that could not publish, or not keep what it publishes.
    pub fn join(self) -> Result<ProductionReport> {
        self.report(Crew::join)
    }

    /// Makes no further play, waits for the OK of those on their way, and reports what was produced.
    ///
    /// # Errors
    /// As [`Production::join`].
    pub fn stop(self) -> Result<ProductionReport> {
        self.report(Crew::stop)
    }

    /// Lets the producing threads end, then the asking one; what was produced.
    fn report(
        self,
        end: impl FnOnce(Crew<Result<Produced>>) -> Vec<Result<Produced>>,
    ) -> Result<ProductionReport> {
        let Self { threads, asker, videos, done, started, .. } = self;
        let mut counts = vec![0; videos.len()];
        let (mut messages, mut unconfirmed) = (0, None);
        let results = end(threads);
        asker.map(Crew::stop);
        for result in results {
            let produced = result?;
            messages += produced.acknowledged;
            counts.iter_mut().zip(produced.counts).for_each(|(sum, count)| *sum += count);
            if let Some(plays) = produced.unconfirmed {
                *unconfirmed.get_or_insert(0) += plays;
            }
        }
        let counts = videos.iter().copied().zip(counts).filter(|(_, count)| *count > 0).collect();
        let republished = done.republished.load(Ordering::Relaxed);
        let foreign = done.foreign.load(Ordering::Relaxed);
        let seconds = started.elapsed().as_secs_f64();
        let resumed = done.resumed.load(Ordering::Relaxed);
        Ok(ProductionReport {
            messages,
            resumed,
            counts,
            seconds,
            republished,
            unconfirmed,
            foreign,
        })
    }
}
