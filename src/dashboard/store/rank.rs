//! Videos in the order of one column, where the n-th place and the place of a video are found at once (pure).
//!
//! A list of sorted chunks: places are found by two binary searches, and moved within one chunk. At a million
//! videos there are some 2,700 chunks, whose lengths are summed for a rank: a few µs. Where each chunk begins stands
//! beside the others, so that the first search meets no cache miss for each step.

use crate::model::video_id::VideoId;

/// The most places of a chunk: one more, and it becomes two. Moving half of it takes as long as a cache miss or two.
const CHUNK: usize = 512;

/// A video's place: the column's value; among equals the id decides.
pub(super) type Place = (i64, VideoId);

/// Every video in the order of one column.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    // Ascending, none empty.
    chunks: Vec<Vec<Place>>,
    // For each chunk a place that is not above its first one, and above all of the chunk before.
    starts: Vec<Place>,
    len: usize,
}

impl Ranking {
    /// All of them at once.
    pub(super) fn of(mut places: Vec<Place>) -> Self {
        places.sort_unstable();
        let len = places.len();
        // Not full, so that the first inserts do not split every chunk.
        let chunks: Vec<_> = places.chunks(CHUNK * 3 / 4).map(<[_]>::to_vec).collect();
        let starts = chunks.iter().map(|chunk| chunk[0]).collect();
        Self { chunks, starts, len }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The chunk where `place` is, or belongs.
    fn chunk(&self, place: &Place) -> usize {
        self.starts.partition_point(|start| start <= place).saturating_sub(1)
    }

    /// Adds a place that is not there.
    pub(super) fn insert(&mut self, place: Place) {
        self.len += 1;
        let index = self.chunk(&place);
        let Some(chunk) = self.chunks.get_mut(index) else {
            self.chunks.push(vec![place]);
            self.starts.push(place);
            return;
        };
        // Lower than all: only the first chunk has no other before it.
        self.starts[index] = self.starts[index].min(place);
        let at = chunk.partition_point(|known| *known < place);
        chunk.insert(at, place);
        if chunk.len() > CHUNK {
            let upper = chunk.split_off(CHUNK / 2);
            self.starts.insert(index + 1, upper[0]);
            self.chunks.insert(index + 1, upper);
        }
    }

    /// Takes a place out, if it is there.
    pub(super) fn remove(&mut self, place: &Place) {
        let index = self.chunk(place);
        let Some(chunk) = self.chunks.get_mut(index) else { return };
        let Ok(at) = chunk.binary_search(place) else { return };
        chunk.remove(at);
        self.len -= 1;
        let left = chunk.len();
        if left == 0 {
            self.chunks.remove(index);
            self.starts.remove(index);
        } else if left < CHUNK / 4
            && let Some(next) = self.chunks.get(index + 1)
            && left + next.len() < CHUNK / 2
        {
            let next = self.chunks.remove(index + 1);
            self.starts.remove(index + 1);
            self.chunks[index].extend(next);
        }
    }

    /// How many places are below `place`.
    pub(super) fn rank(&self, place: &Place) -> usize {
        self.below(|known| known < place)
    }

    /// How many places are first that `is_below` holds for: of all that are before another one, if of that.
    pub(super) fn below(&self, is_below: impl Fn(&Place) -> bool) -> usize {
        let index = self.starts.partition_point(&is_below).saturating_sub(1);
        let below: usize = self.chunks[..index].iter().map(Vec::len).sum();
        below + self.chunks.get(index).map_or(0, |chunk| chunk.partition_point(is_below))
    }

    /// The places from rank `from` on, upwards.
    pub(super) fn upwards(&self, from: usize) -> impl Iterator<Item = &Place> {
        let (chunk, at) = self.find(from);
        let first = self.chunks.get(chunk).map_or(&[][..], |chunk| &chunk[at..]);
        let rest = self.chunks.get(chunk + 1..).unwrap_or_default();
        first.iter().chain(rest.iter().flatten())
    }

    /// The places below rank `end`, downwards.
    pub(super) fn downwards(&self, end: usize) -> impl Iterator<Item = &Place> {
        let (chunk, at) = self.find(end);
        let first = self.chunks.get(chunk).map_or(&[][..], |chunk| &chunk[..at]);
        let rest = &self.chunks[..chunk.min(self.chunks.len())];
        first.iter().rev().chain(rest.iter().rev().flat_map(|chunk| chunk.iter().rev()))
    }

    /// Where the place of that rank is: its chunk, and where in it.
    fn find(&self, mut rank: usize) -> (usize, usize) {
        for (index, chunk) in self.chunks.iter().enumerate() {
            if rank < chunk.len() {
                return (index, rank);
            }
            rank -= chunk.len();
        }
        (self.chunks.len(), 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(order: &Ranking, model: &BTreeSet<Place>) {
        let all: Vec<_> = model.iter().copied().collect();
        assert_eq!(order.len(), all.len());
        assert!(order.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK));
        assert_eq!(order.starts.len(), order.chunks.len());
        let mut before = None;
        for (start, chunk) in order.starts.iter().zip(&order.chunks) {
            assert!(*start <= chunk[0] && before < Some(start), "{start:?} for {:?}", chunk[0]);
            before = chunk.last();
        }
        for rank in [0, 1, all.len() / 3, all.len().saturating_sub(1), all.len(), all.len() + 7] {
            let (below, above) = all.split_at(rank.min(all.len()));
            assert!(order.upwards(rank).eq(above), "upwards from {rank}");
            assert!(order.downwards(rank).eq(below.iter().rev()), "downwards from {rank}");
            if let Some(place) = above.first() {
                assert_eq!(order.rank(place), rank);
            }
        }
        assert_eq!(order.rank(&(i64::MIN, VideoId::NIL)), 0);
        assert_eq!(order.rank(&(i64::MAX, VideoId::from_u128(u128::MAX))), all.len());
    }

    #[test]
    fn thousands_go_in_move_and_go_out() {
        let mut order = Ranking::default();
        let mut model = BTreeSet::new();
        check(&order, &model);
        let place = |n: u128| ((n * 7919 % 1009) as i64, VideoId::from_u128(n));
        for n in 0..5_000 {
            order.insert(place(n));
            model.insert(place(n));
        }
        check(&order, &model);
        check(&Ranking::of(model.iter().rev().copied().collect()), &model);
        for n in 0..4_990 {
            order.remove(&place(n));
            order.remove(&place(n));
            model.remove(&place(n));
        }
        check(&order, &model);
        // What is nearly empty does not stay in many pieces.
        assert!(order.chunks.len() < 10, "{} chunks", order.chunks.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_history_is_that_of_a_set(steps in prop::collection::vec((any::<bool>(), 0i64..40, 0u128..40), 0..3_000)) {
            let mut order = Ranking::default();
            let mut model = BTreeSet::new();
            for (add, value, id) in steps {
                let place = (value, VideoId::from_u128(id));
                if add && model.insert(place) {
                    order.insert(place);
                } else if !add {
                    model.remove(&place);
                    order.remove(&place);
                }
            }
            check(&order, &model);
        }
    }
}
