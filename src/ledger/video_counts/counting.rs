//! The second step of a commit: what was classified is counted (pure).

use super::VideoCounts;
use crate::ledger::commit::{ArrivedPlay, Committed, Noticed, VideoDelta};
use crate::ledger::counters::Counters;
use crate::ledger::dedupe::{Learned, Seen};
use crate::ledger::record::{Delta, Record};
use crate::ledger::retry::RetriedPlay;
use crate::model::video_id::VideoId;

/// What a commit has counted, and the ledger's tables or files are to hold.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Counted {
    pub(in crate::ledger) record: Record,
    /// By how much each video's count grows; the numbers stand in it once that is durable.
    pub(in crate::ledger) video_deltas: Vec<VideoDelta>,
    /// What else was seen.
    pub(in crate::ledger) noticed: Noticed,
}

impl From<Counted> for Committed {
    fn from(counted: Counted) -> Self {
        let Counted { record, video_deltas, noticed } = counted;
        Self { counters: record.counters, video_deltas, noticed }
    }
}

/// Counts the arrivals of one commit, in the order they came.
#[derive(Debug)]
pub(in crate::ledger) struct Counting<'a> {
    counts: &'a mut VideoCounts,
    counted: Counted,
}

impl VideoCounts {
    /// Begins to count a commit's arrivals.
    pub(in crate::ledger) fn count(&mut self) -> Counting<'_> {
        let record = Record { first_video: self.entries.len() as u32, ..Record::default() };
        Counting { counts: self, counted: Counted { record, ..Counted::default() } }
    }

    /// What was counted is durable: the videos grow by it.
    pub(in crate::ledger) fn apply(&mut self, counted: &mut Counted) {
        for (delta, video) in counted.record.deltas.iter().zip(&mut counted.video_deltas) {
            self.grow(delta);
            (video.plays, video.last_played_at) = (delta.plays, delta.last_played_at);
        }
        self.counters.add(&counted.record.counters);
    }

    /// What was counted last is not durable and never will be: as if it had not come. Nothing else was counted since.
    #[cfg_attr(
        not(any(test, feature = "postgres")),
        allow(dead_code, reason = "for a ledger whose commit may be refused")
    )]
    pub(in crate::ledger) fn withdraw(&mut self, counted: &Counted) {
        let videos = counted.record.first_video;
        self.ids.forget_from(videos);
        self.entries.truncate(videos as usize);
        self.changed.truncate(videos);
    }
}

impl Counting<'_> {
    /// Counts a play that was seen so; true if it is new. `has_forgotten` says whether a ledger that has taken so many messages
    /// may have forgotten that it has seen this one.
    pub(in crate::ledger) fn play(
        &mut self,
        arrived: &ArrivedPlay,
        seen: Seen,
        has_forgotten: impl FnOnce(u64) -> bool,
    ) -> bool {
        let is_new = self.counted.record.counters.count(seen, &arrived.play);
        if is_new {
            self.add(arrived.play.video_id, arrived.played_at_ns);
        }
        self.notice(arrived, seen, has_forgotten);
        is_new
    }

    /// Counts a dead letter, fresh or a repeat.
    pub(in crate::ledger) fn letter(&mut self, is_fresh: bool) {
        let counters = &mut self.counted.record.counters;
        counters.rejected += u64::from(is_fresh);
        counters.duplicates += u64::from(!is_fresh);
    }

    /// Counts a play of a dead letter that goes with this commit.
    pub(in crate::ledger) fn retried(&mut self, retried: &RetriedPlay, seen: Seen) {
        if self.counted.record.counters.count(seen, &retried.play) {
            self.add(retried.play.video_id, retried.played_at_ns);
        }
    }

    /// All of it; `learned` is what the record says of plays that are counted now.
    pub(in crate::ledger) fn end(mut self, learned: Learned) -> Counted {
        self.counted.record.learned = learned;
        self.counted
    }

    /// Adds one play to the commit's deltas.
    fn add(&mut self, video_id: VideoId, played_at_ns: u64) {
        let Self { counts, counted: Counted { record, video_deltas, .. } } = self;
        let number = counts.number(video_id, &mut record.new_videos);
        let last_played_at = played_at_ns / 1_000_000;
        let entry = &mut counts.entries[number as usize];
        let slot = entry.slot as usize;
        match record.deltas.get_mut(slot).filter(|delta| delta.number == number) {
            Some(delta) => {
                delta.plays += 1;
                delta.last_played_at = delta.last_played_at.max(last_played_at);
            }
            None => {
                entry.slot = record.deltas.len() as u32;
                record.deltas.push(Delta { number, plays: 1, last_played_at });
                video_deltas.push(VideoDelta { video_id, plays: 0, last_played_at: 0 });
            }
        }
    }

    /// Notes what else a play tells.
    fn notice(
        &mut self,
        arrived: &ArrivedPlay,
        seen: Seen,
        has_forgotten: impl FnOnce(u64) -> bool,
    ) {
        let is_first = arrived.attempts <= 1;
        let (other_video, unproven) = match seen {
            Seen::New | Seen::Duplicate => return,
            Seen::NewByMessage => {
                let is_unknown = !is_first && has_forgotten(self.messages());
                self.counted.noticed.redelivered_unknown += u64::from(is_unknown);
                return;
            }
            Seen::Conflicting => (1, 0),
            // A message that comes again, and what its producer says it has sent before, is a copy.
            Seen::UnprovenDuplicate if is_first && !arrived.play.resent => (0, 1),
            Seen::UnprovenDuplicate => return,
        };
        if let Some(identity) = arrived.play.identity {
            let reused = self.counted.noticed.reused.entry(identity.producer).or_default();
            reused.other_video += other_video;
            reused.unproven += unproven;
        }
    }

    /// Messages that were to be remembered since the ledger was made, those of this commit included.
    fn messages(&self) -> u64 {
        let all = |counters: &Counters| counters.by_message.saturating_add(counters.rejected);
        all(&self.counts.counters).saturating_add(all(&self.counted.record.counters))
    }
}
