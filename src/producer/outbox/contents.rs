//! What an outbox holds: what its tables say, and what the frames of its journal have changed since (pure).

use std::collections::{HashMap, VecDeque};

use anyhow::{Result, bail};
use uuid::Uuid;

use super::batch::PlayBatch;
use super::entry::{self, OutboxEntry};
use super::spans::ProducerSpans;
use crate::model::video_id::VideoId;

/// What an outbox holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OutboxContents {
    /// Whose plays these are, at first.
    pub(super) producer: Uuid,
    /// Under which ids it went on, each with the number of its first play; in order.
    pub(super) later: Vec<(u64, Uuid)>,
    /// The run's videos, by their numbers.
    pub(super) videos: Vec<VideoId>,
    /// Plays of each video that are gone: every play with a number below [`OutboxContents::below`].
    pub(super) gone: Vec<u64>,
    /// Plays that are gone.
    pub(super) below: u64,
    /// nsqd has acknowledged every play with a number below.
    pub(super) acknowledged: u64,
    /// The number of the next play.
    pub(super) next: u64,
    /// What is held, by number, without gaps from `below` to `next`.
    pub(super) batches: VecDeque<PlayBatch>,
}

/// What frames have changed in an outbox.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OutboxChanges {
    videos: usize,
    /// Every play with a number below is gone.
    pub(super) below: u64,
    /// As in [`OutboxContents`].
    pub(super) acknowledged: u64,
    /// As in [`OutboxContents`].
    pub(super) next: u64,
    /// Ids that came.
    pub(super) later: Vec<(u64, Uuid)>,
    /// Batches that came, those that are gone again left out.
    pub(super) kept: VecDeque<PlayBatch>,
    /// Plays of each video in batches that came and are gone again.
    pub(super) gone: HashMap<u32, u64>,
    /// Plays that came, with those that are gone again.
    pub(super) plays: u64,
}

impl OutboxContents {
    /// Whose the plays are that are held, and the next ones.
    pub(super) fn producers(&self) -> ProducerSpans {
        ProducerSpans::new(self.producer, &self.later, self.below)
    }

    /// Plays of each video, gone and held.
    pub(super) fn counts(&self) -> Vec<u64> {
        let mut counts = self.gone.clone();
        for video in self.batches.iter().flat_map(|batch| &batch.videos) {
            counts[*video as usize] += 1;
        }
        counts
    }

    /// Nothing has changed yet.
    pub(super) fn unchanged(&self) -> OutboxChanges {
        let Self { below, acknowledged, next, .. } = *self;
        OutboxChanges::new(self.videos.len(), below, acknowledged, next)
    }

    /// Takes over what has changed since.
    ///
    /// # Errors
    /// It does not fit.
    pub(super) fn take(&mut self, changes: OutboxChanges) -> Result<()> {
        let held = self.batches.partition_point(|batch| batch.end() <= changes.below);
        for video in self.batches.drain(..held).flat_map(|batch| batch.videos) {
            self.gone[video as usize] += 1;
        }
        for (video, plays) in changes.gone {
            self.gone[video as usize] += plays;
        }
        self.batches.extend(changes.kept);
        self.later.extend(changes.later);
        (self.below, self.acknowledged, self.next) =
            (changes.below, changes.acknowledged, changes.next);
        self.check()
    }

    /// Checks that all plays are there, each once.
    ///
    /// # Errors
    /// Which is not.
    pub(super) fn check(&self) -> Result<()> {
        let mut next = self.below;
        for batch in &self.batches {
            if batch.first != next {
                bail!("play {next} is missing, the next is {}", batch.first);
            }
            next = batch.end();
            let is_known = |video: &u32| (*video as usize) < self.videos.len();
            if !batch.videos.iter().all(is_known) {
                bail!("a play of a video that is none of the run's");
            }
        }
        let is_sorted = self.later.is_sorted_by_key(|(first, _)| *first);
        if !is_sorted || self.later.last().is_some_and(|(first, _)| *first > self.next) {
            bail!("its producer's ids are out of order");
        }
        let gone: u64 = self.gone.iter().sum();
        if gone != self.below {
            bail!("its videos have {gone} plays that are gone, and must have {}", self.below);
        }
        if next != self.next || self.acknowledged > next {
            let Self { next: wanted, acknowledged, .. } = self;
            bail!("its plays end at {next}; {wanted} were made, and {acknowledged} acknowledged");
        }
        Ok(())
    }
}

impl OutboxChanges {
    fn new(videos: usize, below: u64, acknowledged: u64, next: u64) -> Self {
        let (later, kept, gone) = (Vec::new(), VecDeque::new(), HashMap::new());
        Self { videos, below, acknowledged, next, later, kept, gone, plays: 0 }
    }

    /// None, after these were written to the tables.
    pub(super) fn after(&self) -> Self {
        Self::new(self.videos, self.below, self.acknowledged, self.next)
    }

    /// Takes the next frame's payload.
    ///
    /// # Errors
    /// What is wrong with it: it is no entry, or does not follow those before it.
    pub(super) fn apply(&mut self, payload: &[u8]) -> Result<(), String> {
        match entry::decode(payload).ok_or("it is no entry of an outbox")? {
            OutboxEntry::Kept { batch, acknowledged } => self.keep(batch, acknowledged),
            OutboxEntry::Forgotten { below } => self.forget(below),
            OutboxEntry::Renamed { first, producer } => self.rename(first, producer),
        }
    }

    fn rename(&mut self, first: u64, producer: Uuid) -> Result<(), String> {
        let Self { next, below, .. } = *self;
        if first != next || below != next {
            return Err(format!("another id from play {first} on, of plays {below} to {next}"));
        }
        self.later.push((first, producer));
        Ok(())
    }

    fn keep(&mut self, batch: PlayBatch, acknowledged: u64) -> Result<(), String> {
        if batch.first != self.next {
            return Err(format!("play {} is missing, the next is {}", self.next, batch.first));
        }
        if acknowledged > batch.first {
            let first = batch.first;
            return Err(format!("play {acknowledged} is acknowledged, and {first} not made yet"));
        }
        if batch.videos.iter().any(|video| *video as usize >= self.videos) {
            return Err("a play of a video that is none of the run's".into());
        }
        self.acknowledged = self.acknowledged.max(acknowledged);
        self.next = batch.end();
        self.plays += batch.videos.len() as u64;
        self.kept.push_back(batch);
        Ok(())
    }

    fn forget(&mut self, below: u64) -> Result<(), String> {
        if below > self.next || below < self.below {
            let Self { next, below: gone, .. } = self;
            return Err(format!("what ends at {below} is gone, of plays {gone} to {next}"));
        }
        let gone = self.kept.partition_point(|batch| batch.end() <= below);
        for video in self.kept.drain(..gone).flat_map(|batch| batch.videos) {
            *self.gone.entry(video).or_default() += 1;
        }
        if self.kept.front().is_some_and(|batch| batch.first < below) {
            return Err(format!("no batch ends at {below}"));
        }
        self.below = below;
        // What is counted was published, whatever nsqd has said.
        self.acknowledged = self.acknowledged.max(below);
        Ok(())
    }
}
