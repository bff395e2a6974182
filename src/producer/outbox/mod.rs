//! A producer's outbox: the plays that it has published, or is about to, and that no ledger is known to hold.
//!
//! What an nsqd loses when it is killed is in here still, and is published again (pure: `now` is an argument; `disk`
//! keeps the same in files, so that a killed producer goes on where it was: `entry` is a frame of its journal, `tables`
//! what was moved out of it by `upkeep`, `contents` both together, `copy` a copy of it, `spans`
//! whose the plays are).
//!
//! In memory a play costs 4 bytes, and each batch of them about 100.

pub(super) mod batch;
mod contents;
pub(super) mod copy;
pub(super) mod disk;
mod entry;
pub(super) mod spans;
pub(super) mod tables;
mod upkeep;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use batch::{PlayBatch, PublishOutcome};

use crate::model::seq_set::SeqSet;
use crate::wire::Confirmed;

/// Each time a play was published again in vain the wait doubles, this often at most: the copies of a play that only
/// waits in a long queue stay few.
const DOUBLINGS: u32 = 5;

/// What one producer must be able to publish again.
#[derive(Debug)]
pub(super) struct Outbox {
    /// By number; a batch is here until all before it, and all of it, is counted for good.
    batches: VecDeque<PlayBatch>,
    /// What is known to be counted.
    confirmed: SeqSet,
    republish_after: Duration,
    plays: u64,
    /// All batches that start below are acknowledged or counted.
    open_from: u64,
    /// When something was last newly counted, or nobody was there to count it.
    quiet_since: Instant,
    /// When somebody who counts was last known to be there.
    attended_since: Instant,
}

impl Outbox {
    /// An empty one. What is not confirmed within `republish_after` is published again.
    pub(super) fn new(republish_after: Duration, now: Instant) -> Self {
        Self {
            batches: VecDeque::new(),
            confirmed: SeqSet::new(),
            republish_after,
            plays: 0,
            open_from: 0,
            quiet_since: now,
            attended_since: now,
        }
    }

    /// Takes a batch, to be published next. Batches come in order.
    pub(super) fn push(&mut self, batch: PlayBatch) {
        self.plays += batch.videos.len() as u64;
        self.batches.push_back(batch);
    }

    /// Every play with a number below was counted for good before this start.
    pub(super) fn forgotten(&mut self, below: u64) {
        self.confirmed.insert_run(0..below);
    }

    /// Takes a batch of an earlier start, which nsqd may have.
    pub(super) fn restore(&mut self, mut batch: PlayBatch, outcome: PublishOutcome, now: Instant) {
        batch.published = 1;
        batch.sent_at = outcome.sent_at(now);
        batch.acknowledged = outcome == PublishOutcome::Acknowledged;
        self.push(batch);
    }

    /// Plays that are held.
    pub(super) fn plays(&self) -> u64 {
        self.plays
    }

    /// Plays that are held and not known to be counted.
    pub(super) fn unconfirmed(&self) -> u64 {
        self.batches.iter().map(|batch| self.missing(batch).count() as u64).sum()
    }

    /// The numbers of a batch that are not known to be counted.
    pub(super) fn missing(&self, batch: &PlayBatch) -> impl Iterator<Item = u64> {
        (batch.first..batch.end()).filter(|seq| !self.confirmed.contains(*seq))
    }

    /// The batch that starts with `first`.
    pub(super) fn batch(&self, first: u64) -> Option<&PlayBatch> {
        self.place(first).map(|index| &self.batches[index])
    }

    fn place(&self, first: u64) -> Option<usize> {
        self.batches.binary_search_by_key(&first, |batch| batch.first).ok()
    }

    /// The number of the first play that nsqd has not acknowledged and nobody has counted; `next` if there is none.
    pub(super) fn unacknowledged(&mut self, next: u64) -> u64 {
        let from = self.batches.partition_point(|batch| batch.first < self.open_from);
        let open = |batch: &&PlayBatch| !batch.acknowledged && self.missing(batch).next().is_some();
        // What is acknowledged stays so: none is looked at twice.
        self.open_from = self.batches.range(from..).find(open).map_or(next, |batch| batch.first);
        self.open_from
    }

    /// It is on its way.
    pub(super) fn publishing(&mut self, first: u64, now: Instant) {
        let Some(index) = self.place(first) else { return };
        let batch = &mut self.batches[index];
        batch.published = batch.published.saturating_add(1);
        batch.sent_at = Some(now);
    }

    /// nsqd has acknowledged it, or did not take it. It may be gone: counted before its OK came.
    pub(super) fn published(&mut self, first: u64, outcome: PublishOutcome, now: Instant) {
        let Some(index) = self.place(first) else { return };
        let batch = &mut self.batches[index];
        batch.sent_at = outcome.sent_at(now);
        batch.acknowledged |= outcome == PublishOutcome::Acknowledged;
        batch.overtaken_at = None;
    }

    /// There is nobody who counts: until now no time has passed.
    pub(super) fn nobody_counts(&mut self, now: Instant) {
        (self.quiet_since, self.attended_since) = (now, now);
    }

    /// Takes what is counted for good, as of `now`; the batches that need not be kept any longer.
    pub(super) fn confirm(&mut self, told: &Confirmed, now: Instant) -> Vec<PlayBatch> {
        let before: u64 = self.confirmed.runs().map(|run| run.end - run.start).sum();
        self.confirmed.insert_run(0..told.watermark);
        for [start, end] in &told.above {
            self.confirmed.insert_run(*start..*end);
        }
        let after: u64 = self.confirmed.runs().map(|run| run.end - run.start).sum();
        if after > before {
            self.quiet_since = now;
        }
        let watermark = self.confirmed.watermark();
        let kept = self.batches.partition_point(|batch| batch.end() <= watermark);
        let gone: Vec<PlayBatch> = self.batches.drain(..kept).collect();
        self.plays -= gone.iter().map(|batch| batch.videos.len() as u64).sum::<u64>();
        let newest = self.confirmed.runs().last().map_or(0, |run| run.end);
        for batch in self.batches.iter_mut().take_while(|batch| batch.first < newest) {
            batch.overtaken_at.get_or_insert(now);
        }
        gone
    }

    /// The first number of the first batch that must be published now, if one must.
    ///
    /// A batch must when nsqd did not take it; when later plays are counted and some of it is not, for
    /// `republish_after`; or when nothing at all was newly counted for that long.
    pub(super) fn next_due(&self, now: Instant) -> Option<u64> {
        self.batches.iter().find(|batch| self.is_due(batch, now)).map(|batch| batch.first)
    }

    fn is_due(&self, batch: &PlayBatch, now: Instant) -> bool {
        let Some(sent_at) = batch.sent_at else { return self.missing(batch).next().is_some() };
        let since =
            batch.overtaken_at.unwrap_or(self.quiet_since).max(sent_at).max(self.attended_since);
        let doublings = batch.published.saturating_sub(1).min(DOUBLINGS);
        now.saturating_duration_since(since) >= self.republish_after * 2u32.pow(doublings)
            && self.missing(batch).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const AFTER: Duration = Duration::from_secs(30);

    fn confirmed(watermark: u64, above: &[[u64; 2]]) -> Confirmed {
        Confirmed { watermark, above: above.to_vec() }
    }

    /// An outbox with two batches of ten plays, acknowledged at once.
    fn two_batches(now: Instant) -> Outbox {
        let mut outbox = Outbox::new(AFTER, now);
        for first in [0, 10] {
            outbox.push(PlayBatch::new(first, 1, vec![0; 10].into()));
            assert_eq!(outbox.next_due(now), Some(first));
            outbox.publishing(first, now);
            outbox.published(first, PublishOutcome::Acknowledged, now);
        }
        outbox
    }

    #[test]
    fn a_hole_is_published_again_after_its_time() {
        let start = Instant::now();
        let mut outbox = two_batches(start);
        let told = confirmed(3, &[[5, 20]]);
        assert!(outbox.confirm(&told, start + AFTER / 2).is_empty());
        assert_eq!(outbox.next_due(start + AFTER), None, "overtaken half that time ago");
        let late = start + AFTER * 3 / 2;
        assert_eq!(outbox.next_due(late), Some(0));
        assert_eq!(outbox.missing(outbox.batch(0).unwrap()).collect::<Vec<_>>(), [3, 4]);
        outbox.publishing(0, late);
        outbox.published(0, PublishOutcome::Acknowledged, late);
        outbox.confirm(&told, late);
        assert_eq!(outbox.next_due(late + AFTER), None, "the second time it waits twice as long");
        assert_eq!(outbox.next_due(late + 2 * AFTER), Some(0));
        assert_eq!(outbox.confirm(&confirmed(20, &[]), late).len(), 2);
        assert_eq!(
            (outbox.plays(), outbox.unconfirmed(), outbox.next_due(late + AFTER)),
            (0, 0, None)
        );
    }

    #[test]
    fn while_others_are_counted_the_rest_of_the_queue_waits() {
        let start = Instant::now();
        let mut outbox = two_batches(start);
        for step in 1..10 {
            let now = start + AFTER * step / 2;
            outbox.confirm(&confirmed(step.into(), &[]), now);
            // PlayBatch 0 is overtaken by its own plays: what is missing of it is due after a while, not before.
            assert_eq!(outbox.next_due(now), (step > 2).then_some(0), "{step}");
        }
        let now = start + AFTER * 9 / 2;
        outbox.confirm(&confirmed(10, &[]), now);
        assert_eq!(outbox.next_due(now + AFTER / 2), None);
        assert_eq!(outbox.next_due(now + AFTER), Some(10));
    }

    #[test]
    fn without_anybody_who_counts_no_time_passes() {
        let start = Instant::now();
        let mut outbox = two_batches(start);
        let away = start + 100 * AFTER;
        outbox.nobody_counts(away);
        outbox.confirm(&confirmed(0, &[]), away);
        assert_eq!(outbox.next_due(away + AFTER / 2), None);
        outbox.confirm(&confirmed(0, &[]), away + AFTER / 2);
        assert_eq!(outbox.next_due(away + AFTER), Some(0));
    }

    #[test]
    fn what_nsqd_did_not_take_is_due_at_once() {
        let start = Instant::now();
        let mut outbox = two_batches(start);
        outbox.push(PlayBatch::new(20, 1, vec![0; 5].into()));
        outbox.publishing(20, start);
        assert_eq!((outbox.next_due(start), outbox.unacknowledged(25)), (None, 20));
        outbox.published(20, PublishOutcome::NotTaken, start);
        assert_eq!((outbox.next_due(start), outbox.unacknowledged(25)), (Some(20), 20));
        outbox.published(20, PublishOutcome::Acknowledged, start);
        assert_eq!((outbox.next_due(start), outbox.unacknowledged(25)), (None, 25));
        outbox.restore(
            PlayBatch::new(25, 1, vec![0; 5].into()),
            PublishOutcome::Acknowledged,
            start,
        );
        assert_eq!((outbox.next_due(start), outbox.unacknowledged(30)), (None, 30));
        outbox.restore(PlayBatch::new(30, 1, vec![0; 5].into()), PublishOutcome::NotTaken, start);
        assert_eq!((outbox.next_due(start), outbox.unacknowledged(35)), (Some(30), 30));
        // Counted without an OK: there is nothing to publish.
        outbox.confirm(&confirmed(0, &[[30, 35]]), start);
        assert_eq!((outbox.next_due(start), outbox.unacknowledged(35)), (None, 35));
    }

    #[derive(Clone, Debug)]
    enum OutboxStep {
        Push(usize),
        Confirm { watermark: u64, above: Vec<(u64, u64)> },
        Publish { acknowledged: bool },
        Wait(u32),
    }

    fn any_step() -> impl Strategy<Value = OutboxStep> {
        let above = proptest::collection::vec((0u64..300, 1u64..30), 0..4);
        prop_oneof![
            4 => (1usize..40).prop_map(OutboxStep::Push),
            3 => (0u64..200, above).prop_map(|(watermark, above)| OutboxStep::Confirm { watermark, above }),
            3 => any::<bool>().prop_map(|acknowledged| OutboxStep::Publish { acknowledged }),
            2 => (0u32..100).prop_map(OutboxStep::Wait),
        ]
    }

    proptest! {
        #[test]
        fn exactly_what_is_not_confirmed_can_be_published_again(
            steps in proptest::collection::vec(any_step(), 1..60)
        ) {
            let mut now = Instant::now();
            let mut outbox = Outbox::new(AFTER, now);
            let (mut next, mut counted) = (0u64, BTreeSet::new());
            let mut kept = BTreeMap::new();
            for step in steps {
                match step {
                    OutboxStep::Push(len) => {
                        outbox.push(PlayBatch::new(next, 1, vec![0; len].into()));
                        kept.insert(next, len as u64);
                        next += len as u64;
                    }
                    OutboxStep::Confirm { watermark, above } => {
                        let told = confirmed(watermark.min(next), &above
                            .iter()
                            .map(|(start, len)| [*start.min(&next), (start + len).min(next)])
                            .collect::<Vec<_>>());
                        counted.extend(0..told.watermark);
                        told.above.iter().for_each(|[start, end]| counted.extend(*start..*end));
                        for gone in outbox.confirm(&told, now) {
                            prop_assert_eq!(kept.remove(&gone.first), Some(gone.videos.len() as u64));
                            prop_assert!((gone.first..gone.end()).all(|seq| counted.contains(&seq)));
                        }
                    }
                    OutboxStep::Publish { acknowledged } => {
                        if let Some(first) = outbox.next_due(now) {
                            let missing: Vec<_> = outbox.missing(outbox.batch(first).unwrap()).collect();
                            prop_assert!(!missing.is_empty());
                            prop_assert!(missing.iter().all(|seq| !counted.contains(seq)));
                            outbox.publishing(first, now);
                            let outcome = if acknowledged {
                                PublishOutcome::Acknowledged
                            } else {
                                PublishOutcome::NotTaken
                            };
                            outbox.published(first, outcome, now);
                        }
                    }
                    OutboxStep::Wait(seconds) => now += Duration::from_secs(seconds.into()),
                }
                let unconfirmed = (0..next).filter(|seq| !counted.contains(seq)).count() as u64;
                prop_assert_eq!(outbox.unconfirmed(), unconfirmed);
                prop_assert_eq!(outbox.plays(), kept.values().sum::<u64>());
            }
            // With patience all of it comes again.
            let mut again = BTreeSet::new();
            for _ in 0..kept.len() {
                now += AFTER * 2u32.pow(DOUBLINGS);
                while let Some(first) = outbox.next_due(now) {
                    again.extend(outbox.missing(outbox.batch(first).unwrap()));
                    outbox.publishing(first, now);
                    outbox.published(first, PublishOutcome::Acknowledged, now);
                }
            }
            prop_assert_eq!(again, (0..next).filter(|seq| !counted.contains(seq)).collect::<BTreeSet<_>>());
        }
    }
}
