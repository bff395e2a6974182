//! The counted plays of producers: of those that were seen last, and of all that are not in the table yet, in memory; of the
//! others, that the table may have them (pure).
//!
//! Before a play is counted its producer must be in memory, or surely not be in the table: [`Producers::may_be_saved`] says
//! for whom the table must be asked. One goes from memory only when the table has all of it.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use foldhash::fast::RandomState;
use uuid::Uuid;

use super::producer_filter::ProducerFilter;
use crate::model::play::PlayIdentity;
use crate::model::seq_set::SeqSet;

/// Bytes that a producer costs in memory, beside the runs and the bitmap of its plays: its place in the table of hashes, in
/// the row of those that may go, and among what a checkpoint has to write.
const PRODUCER_BYTES: usize = 384;

/// How many of those that may go are looked at in one go: less than a millisecond.
const LOOKED_AT: usize = 4_096;

/// How much memory producers may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProducerLimits {
    /// Bytes above which those go that were not seen for longest.
    pub(super) resident_bytes: usize,
    /// So many producers that are not in the table make a checkpoint due.
    pub(super) unsaved_due: usize,
    /// Bytes above which commits wait for a checkpoint.
    pub(super) behind_bytes: usize,
}

impl ProducerLimits {
    /// 85,000 producers stay in memory; commits wait when there are 340,000 that no checkpoint has taken.
    pub(super) const DEFAULT: Self =
        Self { resident_bytes: 32 << 20, unsaved_due: 50_000, behind_bytes: 128 << 20 };

    /// For so many producers of a few plays.
    pub(super) fn of(producers: usize) -> Self {
        let resident_bytes = producers * (PRODUCER_BYTES + 8);
        Self { resident_bytes, unsaved_due: producers, behind_bytes: 8 * resident_bytes }
    }
}

/// What adding a number has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It is new.
    New,
    /// It was there.
    Known,
    /// It is not added: its producer's numbers have too many holes.
    Crowded,
}

#[derive(Debug)]
struct Producer {
    counted: SeqSet,
    /// What was added since [`Producers::take_fresh`]: runs in the order they came.
    fresh: Vec<Range<u64>>,
    /// The table has all of it.
    is_saved: bool,
    /// It was seen since it was last looked at whether it may go.
    is_recent: bool,
}

/// Producers by id.
#[derive(Debug)]
pub(super) struct Producers {
    limits: ProducerLimits,
    resident: HashMap<Uuid, Producer, RandomState>,
    /// Those with something `fresh`.
    touched: Vec<Uuid>,
    /// Every resident one, once: who is looked at next.
    order: VecDeque<Uuid>,
    /// What the resident ones cost.
    bytes: usize,
    /// How many of them are not saved.
    unsaved: usize,
    /// Those that are in the table, but for some that are resident.
    saved: ProducerFilter,
}

impl Producers {
    /// None is known.
    pub(super) fn new(limits: ProducerLimits) -> Self {
        Self {
            limits,
            resident: HashMap::default(),
            touched: Vec::new(),
            order: VecDeque::new(),
            bytes: 0,
            unsaved: 0,
            saved: ProducerFilter::default(),
        }
    }

    /// Sets other limits.
    pub(super) fn limit(&mut self, limits: ProducerLimits) {
        self.limits = limits;
    }

    /// Adds a number that has come.
    pub(super) fn add(&mut self, identity: PlayIdentity) -> Added {
        let PlayIdentity { producer: id, seq } = identity;
        let producer = resident(&mut self.resident, &mut self.order, &mut self.bytes, id);
        producer.is_recent = true;
        if !producer.counted.can_take(seq) {
            return Added::Crowded;
        }
        let before = producer.counted.heap_bytes();
        if !producer.counted.insert(seq) {
            return Added::Known;
        }
        self.bytes = self.bytes + producer.counted.heap_bytes() - before;
        self.unsaved += usize::from(std::mem::replace(&mut producer.is_saved, false));
        if producer.fresh.is_empty() {
            self.touched.push(id);
        }
        match producer.fresh.last_mut() {
            Some(run) if run.end == seq => run.end += 1,
            _ => producer.fresh.push(seq..seq + 1),
        }
        Added::New
    }

    /// What was added since the last call: runs, disjoint and ascending.
    pub(super) fn take_fresh(&mut self) -> Vec<(Uuid, Vec<Range<u64>>)> {
        let fresh = |id: Uuid, producer: &mut Producer| {
            let mut runs = std::mem::take(&mut producer.fresh);
            runs.sort_unstable_by_key(|run| run.start);
            runs.dedup_by(|run, before| {
                let touches = run.start == before.end;
                before.end = if touches { run.end } else { before.end };
                touches
            });
            (id, runs)
        };
        let touched = self.touched.drain(..);
        touched.filter_map(|id| self.resident.get_mut(&id).map(|known| fresh(id, known))).collect()
    }

    /// Adds what the journal has, and the table may not have.
    pub(super) fn learn(&mut self, id: Uuid, runs: impl IntoIterator<Item = Range<u64>>) {
        self.insert_runs(id, runs);
        if let Some(producer) = self.resident.get_mut(&id) {
            self.unsaved += usize::from(std::mem::replace(&mut producer.is_saved, false));
        }
    }

    /// Adds what the table has of a producer.
    pub(super) fn fetched(&mut self, id: Uuid, runs: impl IntoIterator<Item = Range<u64>>) {
        self.insert_runs(id, runs);
    }

    fn insert_runs(&mut self, id: Uuid, runs: impl IntoIterator<Item = Range<u64>>) {
        let counted =
            &mut resident(&mut self.resident, &mut self.order, &mut self.bytes, id).counted;
        let before = counted.heap_bytes();
        runs.into_iter().for_each(|run| counted.insert_run(run));
        self.bytes = self.bytes + counted.heap_bytes() - before;
    }

    /// The table has a producer, who is not in memory.
    pub(super) fn add_saved(&mut self, id: &Uuid) {
        self.saved.insert(id);
    }

    /// Whether the table must be asked before a play of this producer is counted.
    pub(super) fn may_be_saved(&self, id: &Uuid) -> bool {
        !self.saved.is_empty() && !self.resident.contains_key(id) && self.saved.may_have(id)
    }

    /// Whether the table may have a producer that is not in memory.
    pub(super) fn has_saved(&self) -> bool {
        !self.saved.is_empty()
    }

    /// The table has all of a producer.
    pub(super) fn saved(&mut self, id: &Uuid) {
        if let Some(producer) = self.resident.get_mut(id) {
            self.unsaved -= usize::from(!std::mem::replace(&mut producer.is_saved, true));
        }
    }

    /// Takes producers from memory that the table has and that were not seen for longest, if there are too many: some,
    /// and more with the next call.
    pub(super) fn evict(&mut self) {
        for _ in 0..LOOKED_AT.min(self.order.len()) {
            if !self.is_crowded() {
                return;
            }
            let Some(id) = self.order.pop_front() else { return };
            let Some(producer) = self.resident.get_mut(&id) else { continue };
            if !producer.is_saved || std::mem::take(&mut producer.is_recent) {
                self.order.push_back(id);
                continue;
            }
            self.bytes -= PRODUCER_BYTES + producer.counted.heap_bytes();
            self.resident.remove(&id);
            self.saved.insert(&id);
        }
    }

    /// Whether there are too many, and some can go.
    pub(super) fn is_crowded(&self) -> bool {
        self.bytes > self.limits.resident_bytes && self.resident.len() > self.unsaved
    }

    /// Whether a checkpoint is due.
    pub(super) fn is_due(&self) -> bool {
        self.unsaved >= self.limits.unsaved_due
            || self.unsaved > 0 && self.bytes >= 2 * self.limits.resident_bytes
    }

    /// Whether commits must wait for a checkpoint.
    pub(super) fn is_behind(&self) -> bool {
        self.bytes > self.limits.behind_bytes
    }

    /// The counted plays of a producer that is in memory.
    pub(super) fn get(&self, id: &Uuid) -> Option<&SeqSet> {
        self.resident.get(id).map(|producer| &producer.counted)
    }

    /// Every producer that is in memory.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Uuid, &SeqSet)> {
        self.resident.iter().map(|(id, producer)| (id, &producer.counted))
    }

    /// Those that are not in the table, or not all of them.
    pub(super) fn unsaved(&self) -> impl Iterator<Item = &Uuid> {
        self.resident.iter().filter(|(_, producer)| !producer.is_saved).map(|(id, _)| id)
    }
}

/// A producer, in memory from now on.
fn resident<'a>(
    known: &'a mut HashMap<Uuid, Producer, RandomState>,
    order: &mut VecDeque<Uuid>,
    bytes: &mut usize,
    id: Uuid,
) -> &'a mut Producer {
    known.entry(id).or_insert_with(|| {
        order.push_back(id);
        *bytes += PRODUCER_BYTES;
        let (counted, fresh) = (SeqSet::new(), Vec::new());
        Producer { counted, fresh, is_saved: true, is_recent: true }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> Uuid {
        Uuid::from_u128(u128::from(n) << 64 | 7)
    }

    fn add(producers: &mut Producers, n: u64, seq: u64) -> Added {
        producers.add(PlayIdentity { producer: id(n), seq })
    }

    /// Room for ten.
    fn ten() -> Producers {
        let limits = ProducerLimits { unsaved_due: 20, ..ProducerLimits::of(10) };
        Producers::new(limits)
    }

    #[test]
    fn what_the_table_has_goes_and_nothing_else() {
        let mut producers = ten();
        for n in 0..90 {
            assert_eq!(add(&mut producers, n, 0), Added::New);
            assert_eq!(producers.is_due(), n >= 19, "{n}");
            assert_eq!(producers.is_behind(), n >= 80, "{n}");
        }
        producers.evict();
        assert_eq!((producers.iter().count(), producers.has_saved()), (90, false));
        (0..80).for_each(|n| producers.saved(&id(n)));
        // Counted since: the table has not all of it.
        assert_eq!(add(&mut producers, 3, 1), Added::New);
        assert_eq!(producers.unsaved().count(), 11);
        // The first time they count as seen.
        producers.evict();
        producers.evict();
        assert_eq!(producers.iter().count(), 11, "those that are not saved stay");
        assert!((0..80).all(|n| producers.may_be_saved(&id(n)) == (n != 3)));
        assert!(!producers.is_crowded() && !producers.is_behind());
    }

    #[test]
    fn those_that_are_seen_stay() {
        let mut producers = ten();
        assert!((0..20).all(|n| add(&mut producers, n, 0) == Added::New));
        (0..20).for_each(|n| producers.saved(&id(n)));
        // Looked at once: from now on only a play counts as seen.
        for _ in 0..20 {
            producers.order.rotate_left(1);
        }
        producers.resident.values_mut().for_each(|known| known.is_recent = false);
        assert_eq!(add(&mut producers, 0, 0), Added::Known);
        producers.evict();
        assert_eq!(producers.iter().count(), 10);
        assert!(producers.get(&id(0)).is_some() && producers.get(&id(1)).is_none());
        // It comes back with what the table has.
        producers.fetched(id(1), std::iter::once(0..1));
        assert_eq!(add(&mut producers, 1, 0), Added::Known);
        assert_eq!(producers.unsaved().count(), 0);
    }

    #[test]
    fn what_it_costs_is_kept_right() {
        let mut producers = ten();
        for n in 0..2_000 {
            add(&mut producers, n % 7, n * n % 1_000_003 * 1_000);
        }
        let cost = |producers: &Producers| -> usize {
            producers.iter().map(|(_, set)| PRODUCER_BYTES + set.heap_bytes()).sum()
        };
        assert_eq!(producers.bytes, cost(&producers));
        (0..7).for_each(|n| producers.saved(&id(n)));
        (0..9).for_each(|_| producers.evict());
        assert_eq!(producers.bytes, cost(&producers));
        assert!(producers.iter().count() < 7);
    }
}
