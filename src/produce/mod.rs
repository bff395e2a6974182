//! The producer: makes plays and puts them on the queue. One thread for each producer, `produce-0` …; each has
//! an id of its own and numbers its plays densely.

mod pace;
mod popularity;

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use nsq_protocol::thread::{OwnedThread, StopSource, StopToken, stop_pair};
use nsq_protocol::{BodiesBuf, Producer, Receipt, TopicName};
use uuid::Uuid;

use crate::config::Popularity;
use crate::play::{Play, PlayIdentity};
use pace::Pace;
use popularity::Picker;

/// Plays in one MPUB: about 80 KB, far below nsqd's limit of 5 MiB and enough to make a command's cost small.
const BATCH: u64 = 500;

/// MPUBs of one thread that await their OK: enough to keep nsqd busy while an answer travels.
const WINDOW: usize = 8;

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

/// What was produced, all of it acknowledged by nsqd.
#[derive(Clone, Debug, PartialEq)]
pub struct ProductionReport {
    /// Plays put on the queue.
    pub messages: u64,
    /// Plays of each video; videos that got none are left out.
    pub counts: Vec<(Uuid, u64)>,
    /// From the first play to the last OK.
    pub seconds: f64,
}

/// Producer threads at work. Dropped without [`Production::join`], they stop.
pub struct Production {
    // Before the threads: a drop must ask them to stop before it joins them.
    stop: StopSource,
    threads: Vec<OwnedThread<Result<Vec<u64>>>>,
    videos: Arc<[Uuid]>,
    acknowledged: Arc<AtomicU64>,
    started: Instant,
    /// Disconnects when the last thread is done.
    running: Receiver<()>,
}

impl Production {
    /// Starts the threads; `producer` is shared by them.
    ///
    /// # Errors
    /// The operating system's, when it refuses a thread.
    pub fn start(config: &ProductionConfig, producer: &Arc<Producer>) -> Result<Self> {
        let videos: Arc<[Uuid]> = (0..config.videos).map(|_| Uuid::new_v4()).collect();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (stop, token) = stop_pair();
        let (alive, running) = bounded(0);
        let threads = config.threads.get() as u64;
        let threads = (0..threads)
            .map(|index| {
                let share =
                    config.messages / threads + u64::from(index < config.messages % threads);
                let worker = Worker {
                    topic: config.topic,
                    messages: share,
                    pace: Pace::new(config.rate.map(|rate| rate / threads as f64), Instant::now()),
                    picker: Picker::new(config.popularity, videos.len()),
                    videos: videos.clone(),
                    producer: producer.clone(),
                    acknowledged: acknowledged.clone(),
                    stop: token.clone(),
                    _alive: alive.clone(),
                };
                OwnedThread::spawn(&format!("produce-{index}"), move || worker.run())
            })
            .collect::<Result<_, _>>()
            .context("cannot start a producer thread")?;
        Ok(Self { threads, videos, acknowledged, started: Instant::now(), stop, running })
    }

    /// Plays that nsqd has acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Disconnects when all is produced, or a thread has failed and the others are done: `select!` on it.
    pub fn running(&self) -> &Receiver<()> {
        &self.running
    }

    /// Waits for the threads to have produced all.
    ///
    /// # Errors
    /// The first thread's that could not publish.
    pub fn join(self) -> Result<ProductionReport> {
        let Self { threads, videos, acknowledged, started, stop, running: _ } = self;
        let mut counts = vec![0; videos.len()];
        let results: Vec<_> = threads.into_iter().map(OwnedThread::join).collect();
        drop(stop);
        for result in results {
            counts.iter_mut().zip(result?).for_each(|(sum, count)| *sum += count);
        }
        let counts = videos.iter().copied().zip(counts).filter(|(_, count)| *count > 0).collect();
        let messages = acknowledged.load(Ordering::Relaxed);
        Ok(ProductionReport { messages, counts, seconds: started.elapsed().as_secs_f64() })
    }

    /// Makes no further play, waits for the OK of those on their way, and reports what was produced.
    ///
    /// # Errors
    /// As [`Production::join`].
    pub fn stop(mut self) -> Result<ProductionReport> {
        let (source, _) = stop_pair();
        drop(std::mem::replace(&mut self.stop, source));
        self.join()
    }
}

/// One producer thread.
struct Worker {
    topic: TopicName,
    messages: u64,
    pace: Pace,
    picker: Picker,
    videos: Arc<[Uuid]>,
    producer: Arc<Producer>,
    acknowledged: Arc<AtomicU64>,
    stop: StopToken,
    _alive: Sender<()>,
}

impl Worker {
    /// Produces its share; how many plays of each video.
    fn run(mut self) -> Result<Vec<u64>> {
        let id = Uuid::new_v4();
        let mut counts = vec![0; self.videos.len()];
        let mut window = VecDeque::with_capacity(WINDOW);
        let mut seq = 0;
        while seq < self.messages {
            let wait = self.pace.wait(Instant::now(), seq);
            if !wait.is_zero() {
                // The plays on their way are acknowledged while there is time for it.
                self.confirm(&mut window, 0)?;
            }
            if self.stop.wait(wait) {
                break;
            }
            let batch = self.pace.due(Instant::now(), seq).clamp(1, BATCH).min(self.messages - seq);
            // First, so that a play's enqueue time does not include the wait for room.
            let mut bodies = self.confirm(&mut window, WINDOW - 1)?;
            bodies.clear();
            let enqueued_at_ns = unix_time_ns();
            for seq in seq..seq + batch {
                let video = self.picker.pick();
                counts[video] += 1;
                let identity = Some(PlayIdentity { producer: id, seq });
                let play = Play {
                    video_id: self.videos[video],
                    enqueued_at_ns: Some(enqueued_at_ns),
                    identity,
                    resent: false,
                };
                bodies.push_with(|out| play.encode(out));
            }
            let receipt = self
                .producer
                .submit_many(&self.topic, bodies)
                .map_err(|unpublished| unpublished.error)?;
            window.push_back((receipt, batch));
            seq += batch;
        }
        self.confirm(&mut window, 0)?;
        Ok(counts)
    }

    /// Waits for the oldest MPUBs until at most `left` await their OK. Returns a buffer to use again.
    fn confirm(
        &self,
        window: &mut VecDeque<(Receipt<BodiesBuf>, u64)>,
        left: usize,
    ) -> Result<BodiesBuf> {
        let mut buffer = BodiesBuf::new();
        while window.len() > left {
            let Some((receipt, plays)) = window.pop_front() else { break };
            buffer = receipt.wait().map_err(|unpublished| unpublished.error)?;
            self.acknowledged.fetch_add(plays, Ordering::Relaxed);
        }
        Ok(buffer)
    }
}

/// Now, in ns since the Unix epoch; 0 on a clock set before it.
pub fn unix_time_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
