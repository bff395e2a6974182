//! One producer: makes plays and publishes them, a window of MPUBs at a time; with an outbox, again and again until
//! they are known to be counted.

mod kept;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use crossbeam_channel::{Receiver, Sender, select};
use nsq_protocol::thread::StopToken;
use nsq_protocol::{BodiesBuf, Producer, Receipt, TopicName};
use uuid::Uuid;

use super::confirmations::{Asked, Confirmation};
use super::outbox::Outbox;
use super::outbox::batch::{PlayBatch, PublishOutcome};
use super::outbox::disk::DiskOutbox;
use super::outbox::spans::ProducerSpans;
use super::pace::Pace;
use super::popularity::Picker;
use crate::model::play::Play;
use crate::model::video_id::VideoId;
use crate::runtime::clock::unix_ns;
use crate::runtime::links::{Links, PartLink};
use crate::storage::failpoint;

/// Plays in one MPUB: about 80 KB, far below nsqd's limit of 5 MiB and enough to make a command's cost small.
const BATCH: u64 = 500;

/// MPUBs of one thread that await their OK: enough to keep nsqd busy while an answer travels.
const WINDOW: usize = 8;

/// How often the outbox is looked through for plays to publish again.
const TEND_EVERY: Duration = Duration::from_millis(50);

/// In so many answers plays must be told that a producer never made, before it takes another id: the dashboard has heard of
/// it by then.
const FOREIGN_HEARD: u32 = 3;

/// The pause when no nsqd takes a publish; it doubles with each failure in a row, up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(100);

/// The longest pause: how long an nsqd that is back may wait for its plays.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// What the producers of a run have done, together.
#[derive(Debug, Default)]
pub(super) struct ProducedTotals {
    /// Plays that nsqd has acknowledged, each once.
    pub(super) acknowledged: AtomicU64,
    /// Those of them that an earlier start has published.
    pub(super) resumed: AtomicU64,
    /// Copies of plays that were published again.
    pub(super) republished: AtomicU64,
    /// Plays that are counted and that nobody of them has made.
    pub(super) foreign: AtomicU64,
}

/// Where plays stay until they are known to be counted.
pub(super) struct Kept {
    outbox: Outbox,
    /// Whose it is and what is in it, for who asks.
    asked: Arc<Asked>,
    disk: Option<DiskOutbox>,
    /// The most plays in it.
    max: u64,
    /// What is known to be counted.
    answers: Receiver<Confirmation>,
    tended_at: Instant,
    /// Failures to publish, in a row, and when to try again.
    failures: u32,
    retry_at: Instant,
    is_full: bool,
    /// Somebody has answered which plays are counted.
    heard: bool,
    /// It goes on where an earlier start has ended, and nobody has answered yet.
    is_resumed: bool,
    /// In how many answers there were plays under its id that it never made.
    foreign_heard: u32,
    /// Where it is told whether nsqd takes plays, and whether there is room.
    links: Arc<Links>,
}

pub(super) struct Worker {
    /// Whose its plays are, and under which numbers they are published.
    pub(super) producers: ProducerSpans,
    pub(super) topic: TopicName,
    /// How many plays, those of earlier starts included.
    pub(super) messages: u64,
    /// The number of the next.
    pub(super) next: u64,
    /// The number of this start's first.
    pub(super) start: u64,
    pub(super) pace: Pace,
    pub(super) picker: Picker,
    pub(super) videos: Arc<[VideoId]>,
    /// Plays of each video.
    pub(super) counts: Vec<u64>,
    pub(super) producer: Arc<Producer>,
    pub(super) kept: Option<Kept>,
    pub(super) window: VecDeque<PendingPublish>,
    /// A buffer to use again.
    pub(super) buffer: BodiesBuf,
    pub(super) done: Arc<ProducedTotals>,
    pub(super) stop: StopToken,
    /// Dropped when nsqd has acknowledged all.
    pub(super) publishing: Option<Sender<()>>,
    /// Dropped at the end.
    pub(super) _running: Sender<()>,
}

/// An MPUB that awaits its OK.
pub(super) struct PendingPublish {
    receipt: Receipt<BodiesBuf>,
    first: u64,
    /// Plays that no OK has come for before.
    fresh: u64,
}

/// What one producer did.
pub(super) struct Produced {
    /// Plays over all starts that nsqd has acknowledged: those with a number below.
    pub(super) acknowledged: u64,
    /// Plays of each video, over all starts.
    pub(super) counts: Vec<u64>,
    /// Plays that are not known to be counted; `None` without an outbox.
    pub(super) unconfirmed: Option<u64>,
}

impl Worker {
    /// What it shares with who asks for it, if it has an outbox.
    pub(super) fn asked(&self) -> Option<Arc<Asked>> {
        self.kept.as_ref().map(|kept| kept.asked.clone())
    }

    /// Keeps what it publishes, and goes on where an earlier start has ended.
    pub(super) fn keep(&mut self, mut kept: Kept, disk: Option<DiskOutbox>, now: Instant) {
        if let Some(mut disk) = disk {
            self.producers = disk.producers().clone();
            self.counts = std::mem::take(&mut disk.counts);
            (self.start, self.next) = (disk.next, disk.next);
            self.done.acknowledged.fetch_add(disk.acknowledged, Ordering::Relaxed);
            self.done.resumed.fetch_add(disk.acknowledged, Ordering::Relaxed);
            // What an earlier id has made is gone, and nobody tells it of the present one.
            kept.outbox.forgotten(disk.batches.front().map_or(disk.next, |batch| batch.first));
            for batch in std::mem::take(&mut disk.batches) {
                let outcome = if batch.end() <= disk.acknowledged {
                    PublishOutcome::Acknowledged
                } else {
                    PublishOutcome::NotTaken
                };
                kept.outbox.restore(batch, outcome, now);
            }
            kept.is_resumed = disk.next > 0;
            kept.disk = Some(disk);
        }
        *kept.asked.producers.lock() = self.producers.clone();
        self.kept = Some(kept);
    }

    /// Produces its share, and stays until all is confirmed, if there is an outbox.
    pub(super) fn run(mut self) -> Result<Produced> {
        // A start that goes on must know whether numbers of its next plays are counted already: somebody else has made
        // plays under its id, or its outbox is older than what was published from it.
        while self.start > 0 && self.kept.as_ref().is_some_and(|kept| !kept.heard) {
            if self.wait_for_answer()? {
                return self.end();
            }
        }
        while self.next < self.messages {
            let sent = self.next - self.start;
            let wait = self.pace.wait(Instant::now(), sent).max(self.pause());
            if !wait.is_zero() {
                // The plays on their way are acknowledged while there is time for it.
                self.settle(0)?;
            }
            if self.stop.wait(wait.min(TEND_EVERY)) {
                return self.end();
            }
            self.tend()?;
            if wait > TEND_EVERY {
                continue;
            }
            let room = if self.is_renaming()? { 0 } else { self.room() };
            if room == 0 || !self.pause().is_zero() {
                if self.wait_for_answer()? {
                    return self.end();
                }
                continue;
            }
            let sent = self.next - self.start;
            let due = self.pace.due(Instant::now(), sent).clamp(1, BATCH);
            self.produce(due.min(room).min(self.messages - self.next))?;
        }
        loop {
            self.settle(0)?;
            if self.unacknowledged() == self.next {
                self.publishing = None;
            }
            let is_empty = self.kept.as_ref().is_none_or(|kept| kept.outbox.plays() == 0);
            if is_empty || self.wait_for_answer()? {
                return self.end();
            }
            self.tend()?;
        }
    }

    fn end(mut self) -> Result<Produced> {
        self.settle(0)?;
        let unconfirmed = self.kept.as_ref().map(|kept| kept.outbox.unconfirmed());
        let acknowledged = self.unacknowledged();
        if let Some(disk) = self.kept.as_mut().and_then(|kept| kept.disk.take()) {
            disk.close()?;
        }
        Ok(Produced { acknowledged, counts: self.counts, unconfirmed })
    }

    /// For how many more plays there is room in its outbox.
    fn room(&mut self) -> u64 {
        self.kept.as_mut().map_or(u64::MAX, Kept::room)
    }

    /// Whether it must make no play now: plays are counted under its id that it never made, and more may come, so that its
    /// own with those numbers would be dropped as repeats. Those that it has made are waited for; the next ones are made
    /// under another id, which nobody knows. They go on in number, so that all are told apart by it.
    fn is_renaming(&mut self) -> Result<bool> {
        let Some(kept) = &mut self.kept else { return Ok(false) };
        if kept.foreign_heard == 0 {
            return Ok(false);
        }
        if kept.foreign_heard < FOREIGN_HEARD || kept.outbox.plays() > 0 {
            return Ok(true);
        }
        let id = Uuid::new_v4();
        if let Some(disk) = &mut kept.disk {
            disk.rename(self.next, id)?;
        }
        log::warn!(
            "producer {} goes on as {id}, from play {} on",
            self.producers.present(),
            self.next
        );
        self.producers.begin(id, self.next);
        self.producers.forget(self.next);
        kept.renamed(&self.producers);
        Ok(false)
    }

    /// The number of the first play that nsqd has not acknowledged, nothing being on its way.
    fn unacknowledged(&mut self) -> u64 {
        let next = self.next;
        self.kept.as_mut().map_or(next, |kept| kept.outbox.unacknowledged(next))
    }

    /// Makes plays, keeps them and publishes them.
    fn produce(&mut self, plays: u64) -> Result<()> {
        // First, so that a play's enqueue time does not include the wait for room.
        self.settle(WINDOW - 1)?;
        let pick = |_| {
            let video = self.picker.pick();
            self.counts[video] += 1;
            video as u32
        };
        let videos = (0..plays).map(pick).collect();
        let batch = PlayBatch::new(self.next, unix_ns(), videos);
        self.next = batch.end();
        let bodies = self.encode(&batch, batch.first..batch.end(), false);
        let first = batch.first;
        if let Some(Kept { outbox, disk, .. }) = &mut self.kept {
            if let Some(disk) = disk {
                disk.keep(&batch, outbox.unacknowledged(first))?;
                failpoint::hit("outbox-after-write");
            }
            outbox.push(batch);
            outbox.publishing(first, Instant::now());
        }
        self.submit(bodies, first, plays)
    }

    /// The bodies of some of a batch's plays.
    fn encode(
        &mut self,
        batch: &PlayBatch,
        seqs: impl Iterator<Item = u64>,
        resent: bool,
    ) -> BodiesBuf {
        let mut bodies = std::mem::take(&mut self.buffer);
        bodies.clear();
        for seq in seqs {
            let play = Play {
                video_id: self.videos[batch.videos[(seq - batch.first) as usize] as usize],
                enqueued_at_ns: Some(batch.enqueued_at_ns),
                identity: Some(self.producers.identity(seq)),
                resent,
            };
            bodies.push_with(|out| play.encode(out));
        }
        bodies
    }

    fn submit(&mut self, bodies: BodiesBuf, first: u64, fresh: u64) -> Result<()> {
        match self.producer.submit_many(&self.topic, bodies) {
            Ok(receipt) => {
                self.window.push_back(PendingPublish { receipt, first, fresh });
                Ok(())
            }
            Err(unpublished) => self.failed(first, (*unpublished.error).into()),
        }
    }

    /// Waits for the oldest MPUBs until at most `left` await their OK.
    fn settle(&mut self, left: usize) -> Result<()> {
        while self.window.len() > left {
            let Some(PendingPublish { receipt, first, fresh }) = self.window.pop_front() else {
                break;
            };
            match receipt.wait() {
                Ok(buffer) => {
                    self.buffer = buffer;
                    self.done.acknowledged.fetch_add(fresh, Ordering::Relaxed);
                    if let Some(kept) = &mut self.kept {
                        kept.outbox.published(first, PublishOutcome::Acknowledged, Instant::now());
                        kept.recovered();
                    }
                }
                Err(unpublished) => self.failed(first, (*unpublished.error).into())?,
            }
        }
        Ok(())
    }

    /// An MPUB was not taken: it stays in the outbox; without one it is the end.
    fn failed(&mut self, first: u64, error: anyhow::Error) -> Result<()> {
        let Some(kept) = &mut self.kept else { return Err(error) };
        kept.outbox.published(first, PublishOutcome::NotTaken, Instant::now());
        kept.back_off(&error);
        Ok(())
    }

    /// How long to wait for nsqd to be well again.
    fn pause(&self) -> Duration {
        let retry_at = self.kept.as_ref().map(|kept| kept.retry_at);
        retry_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
    }

    /// Takes the answers that have come, and publishes again what must be, from time to time.
    fn tend(&mut self) -> Result<()> {
        let Some(kept) = &mut self.kept else { return Ok(()) };
        kept.take_answers(self.next, &self.done)?;
        if kept.tended_at.elapsed() < TEND_EVERY {
            return Ok(());
        }
        kept.tended_at = Instant::now();
        self.publish_due()
    }

    /// Publishes what must be published again, until nsqd does not take it.
    fn publish_due(&mut self) -> Result<()> {
        let is_due = |kept: &Kept| kept.outbox.next_due(Instant::now()).is_some();
        if self.kept.as_ref().is_some_and(is_due) {
            // Whether the first copies were taken must be known before there are second ones.
            self.settle(0)?;
        }
        while self.pause().is_zero() {
            self.settle(WINDOW - 1)?;
            let Some(kept) = &mut self.kept else { return Ok(()) };
            let now = Instant::now();
            let due = kept.outbox.next_due(now).and_then(|first| kept.outbox.batch(first).cloned());
            let Some(batch) = due else { return Ok(()) };
            let missing: Vec<u64> = kept.outbox.missing(&batch).collect();
            kept.outbox.publishing(batch.first, now);
            self.done.republished.fetch_add(missing.len() as u64, Ordering::Relaxed);
            let fresh = if batch.is_acknowledged() { 0 } else { batch.videos.len() as u64 };
            let bodies = self.encode(&batch, missing.into_iter(), true);
            self.submit(bodies, batch.first, fresh)?;
        }
        Ok(())
    }

    /// Waits for an answer, at most [`TEND_EVERY`]; true if it must stop.
    fn wait_for_answer(&mut self) -> Result<bool> {
        let Some(kept) = &mut self.kept else { return Ok(self.stop.wait(TEND_EVERY)) };
        let answer = select! {
            recv(self.stop.channel()) -> _ => return Ok(true),
            recv(kept.answers) -> answer => answer,
            default(TEND_EVERY) => return Ok(false),
        };
        match answer {
            Ok(answer) => kept.take(&answer, self.next, &self.done).map(|()| false),
            // Nobody asks any more.
            Err(_) => Ok(self.stop.wait(TEND_EVERY)),
        }
    }
}
