//! The check of a ledger against what its producers say they have published (pure).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;

use uuid::Uuid;

use super::snapshot::Snapshot;
use crate::model::attempted::Attempted;
use crate::model::video_id::VideoId;

/// How a ledger and its producers compare. Plays without an identity are not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntegrityCheck {
    /// Plays that the producers have published, or were about to.
    pub attempted: u64,
    /// Plays that are counted, by identity.
    pub counted: u64,
    /// Plays that nsqd has acknowledged and that are not counted.
    pub lost: u64,
    /// Plays that are counted and that no producer knows of.
    pub phantom: u64,
    /// Plays by which the videos' counts are higher than the counted plays account for.
    pub double: u64,
    /// Plays that were counted from a copy that was published again.
    pub recovered: u64,
    /// Copies that were not counted again.
    pub duplicates: u64,
}

impl IntegrityCheck {
    /// Compares them. `producers` must be all that have ever published to the ledger's queue.
    pub fn new(ledger: &Snapshot, producers: &[Attempted]) -> Self {
        let known: HashMap<Uuid, Range<u64>> = producers.iter().flat_map(Attempted::ids).collect();
        let counted: HashMap<Uuid, Vec<Range<u64>>> =
            ledger.producers.iter().map(|(id, set)| (*id, set.runs().collect())).collect();
        let mut check = Self {
            attempted: producers.iter().map(|attempted| attempted.plays).sum(),
            recovered: ledger.counters.recovered,
            duplicates: ledger.counters.duplicates,
            ..Self::default()
        };
        for (id, runs) in &counted {
            let attempted = known.get(id).cloned().unwrap_or_default();
            let all = size(runs, &(0..u64::MAX));
            check.counted += all;
            check.phantom += all - size(runs, &attempted);
        }
        for attempted in producers {
            for (id, Range { start, end }) in attempted.ids() {
                let runs = counted.get(&id).map_or(&[][..], Vec::as_slice);
                let acknowledged = start..end.min(attempted.acknowledged).max(start);
                let published = acknowledged.end - acknowledged.start;
                check.lost += published - size(runs, &acknowledged);
            }
        }
        check.double = excess(ledger, producers, check.counted);
        check
    }

    /// Whether every acknowledged play is counted once, and nothing else.
    pub fn is_exact(&self) -> bool {
        self.lost + self.phantom + self.double == 0
    }
}

impl fmt::Display for IntegrityCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempted, counted, lost, phantom, double, recovered, duplicates } = self;
        write!(
            f,
            "attempted {attempted}, counted {counted}: lost {lost}, phantom {phantom}, double {double}; \
             recovered {recovered}, duplicates dropped {duplicates}"
        )
    }
}

/// How many numbers of the runs lie in `part`.
fn size(runs: &[Range<u64>], part: &Range<u64>) -> u64 {
    let within = |run: &Range<u64>| run.end.min(part.end).saturating_sub(run.start.max(part.start));
    runs.iter().map(within).sum()
}

/// By how much the counts are too high: over all videos, and for any that was played less often than it is counted.
fn excess(ledger: &Snapshot, producers: &[Attempted], counted: u64) -> u64 {
    let plays: u64 = ledger.videos.iter().map(|video| video.plays).sum();
    let over_all = plays.saturating_sub(counted + ledger.counters.by_message);
    let mut attempted: HashMap<VideoId, u64> = HashMap::new();
    for (video, plays) in producers.iter().flat_map(|attempted| &attempted.counts) {
        *attempted.entry(*video).or_default() += plays;
    }
    let mut seen = HashSet::new();
    let over_each = ledger
        .videos
        .iter()
        // A video that stands there twice is counted twice.
        .map(|video| match seen.insert(video.video_id) {
            true => {
                video.plays.saturating_sub(attempted.get(&video.video_id).copied().unwrap_or(0))
            }
            false => video.plays,
        })
        .sum::<u64>()
        .saturating_sub(ledger.counters.by_message);
    over_all.max(over_each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::counters::Counters;
    use crate::model::seq_set::SeqSet;
    use crate::model::video::VideoState;

    /// A ledger with the plays `[start, end)` of producer 1, and these counts of the videos 1, 2, …
    fn ledger(runs: &[[u64; 2]], plays: &[u64]) -> Snapshot {
        let mut set = SeqSet::new();
        runs.iter().for_each(|[start, end]| set.insert_run(*start..*end));
        let state = |(video, plays): (u128, &u64)| VideoState {
            video_id: VideoId::from_u128(video),
            plays: *plays,
            published: 0,
            last_played_at: 0,
        };
        Snapshot {
            processor: Uuid::nil(),
            counters: Counters::default(),
            videos: (1..).zip(plays).map(state).collect(),
            producers: vec![(Uuid::from_u128(1), set)],
        }
    }

    /// Producer 1 with 10 plays, 6 and 4 of the videos 1 and 2.
    fn producer(acknowledged: u64) -> Attempted {
        let counts = vec![(VideoId::from_u128(1), 6), (VideoId::from_u128(2), 4)];
        let (producer, later) = (Uuid::from_u128(1), Vec::new());
        Attempted { producer, later, plays: 10, acknowledged, counts }
    }

    #[track_caller]
    fn check(ledger: Snapshot, acknowledged: u64, lost: u64, phantom: u64, double: u64) {
        let check = IntegrityCheck::new(&ledger, &[producer(acknowledged)]);
        assert_eq!((check.lost, check.phantom, check.double), (lost, phantom, double), "{check}");
        assert_eq!(check.is_exact(), lost + phantom + double == 0);
    }

    #[test]
    fn what_is_exact_passes() {
        check(ledger(&[[0, 10]], &[6, 4]), 10, 0, 0, 0);
        // Not acknowledged, not counted: the producer still has it. Not acknowledged, counted: the OK was lost.
        check(ledger(&[[0, 7]], &[5, 2]), 7, 0, 0, 0);
        check(ledger(&[[0, 7], [9, 10]], &[5, 3]), 7, 0, 0, 0);
    }

    /// A stranger had made plays 3 and 9 of producer 1, which went on as producer 2 from play 6 on.
    #[test]
    fn who_goes_on_under_another_id_is_one() {
        let mut attempted = producer(10);
        attempted.later = vec![(6, Uuid::from_u128(2))];
        let mut exact = ledger(&[[0, 6]], &[6, 4]);
        let mut rest = SeqSet::new();
        rest.insert_run(6..10);
        exact.producers.push((Uuid::from_u128(2), rest));
        let check = IntegrityCheck::new(&exact, &[attempted.clone()]);
        assert!(check.is_exact() && check.counted == 10, "{check}");
        exact.producers[0].1.insert(9);
        exact.producers[1].1 = SeqSet::new();
        let check = IntegrityCheck::new(&exact, &[attempted]);
        assert_eq!((check.lost, check.phantom), (4, 1), "{check}");
    }

    #[test]
    fn every_fault_is_found() {
        check(ledger(&[[0, 9]], &[6, 3]), 10, 1, 0, 0);
        check(ledger(&[[0, 3], [5, 10]], &[6, 2]), 10, 2, 0, 0);
        check(ledger(&[[0, 12]], &[6, 4, 2]), 10, 0, 2, 2);
        check(ledger(&[[0, 10]], &[7, 4]), 10, 0, 0, 1);
        check(ledger(&[[0, 10]], &[7, 3]), 10, 0, 0, 1);
        check(ledger(&[], &[]), 10, 10, 0, 0);
        let mut stranger = ledger(&[[0, 10]], &[6, 4]);
        stranger.producers.push((Uuid::from_u128(9), stranger.producers[0].1.clone()));
        check(stranger, 10, 0, 10, 0);
    }
}
