//! Under which producer's id each play of an outbox is published (pure).
//!
//! An outbox numbers its plays 0, 1, 2, … and a play keeps its number under whatever id. The id changes where others may have
//! given out the next numbers under it: in a copy of an outbox, whose original may have gone on, and where plays are counted
//! that it never made.

use uuid::Uuid;

use crate::model::play::PlayIdentity;
use crate::wire::Confirmed;

/// The plays from a number on, up to the next span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProducerSpan {
    first: u64,
    producer: Uuid,
}

/// Whose the plays of an outbox are that are not gone, and the next ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerSpans {
    /// By number.
    former: Vec<ProducerSpan>,
    present: ProducerSpan,
}

impl ProducerSpans {
    /// One producer, of all plays.
    pub fn one(producer: Uuid) -> Self {
        Self { former: Vec::new(), present: ProducerSpan { first: 0, producer } }
    }

    /// `first` at first, and then those of `later`, each from a number on, in order. Every play below `below` is gone.
    pub(super) fn new(first: Uuid, later: &[(u64, Uuid)], below: u64) -> Self {
        let mut spans = Self::one(first);
        for (first, producer) in later {
            spans.begin(*producer, *first);
        }
        spans.forget(below);
        spans
    }

    /// By number.
    fn iter(&self) -> impl Iterator<Item = ProducerSpan> {
        self.former.iter().copied().chain([self.present])
    }

    /// Who new plays are of.
    pub fn present(&self) -> Uuid {
        self.present.producer
    }

    /// The plays from `next` on are of another producer.
    pub(in crate::producer) fn begin(&mut self, producer: Uuid, next: u64) {
        if self.present.first < next {
            self.former.push(self.present);
        }
        self.present = ProducerSpan { first: next, producer };
    }

    /// Every play below is gone.
    pub(in crate::producer) fn forget(&mut self, below: u64) {
        let ends: Vec<u64> = self.iter().skip(1).map(|span| span.first).collect();
        let gone = ends.partition_point(|end| *end <= below);
        self.former.drain(..gone);
    }

    /// As what a play is published.
    pub fn identity(&self, number: u64) -> PlayIdentity {
        let span = self.former.iter().rev().find(|span| span.first <= number);
        let span = if number < self.present.first { span } else { None };
        PlayIdentity { producer: span.unwrap_or(&self.present).producer, seq: number }
    }

    /// What `ask` says of each producer's own plays, and of all from the present one's first play on. Every play before the
    /// first span is gone.
    ///
    /// # Errors
    /// The first of `ask`.
    pub fn confirmed<E>(
        &self,
        mut ask: impl FnMut(&Uuid) -> Result<Confirmed, E>,
    ) -> Result<Confirmed, E> {
        let gone = self.iter().next().map_or(0, |span| span.first);
        let mut all = Confirmed { watermark: gone, above: Vec::new() };
        let ends = self.iter().skip(1).map(|span| span.first).chain([u64::MAX]);
        for (ProducerSpan { first, producer }, end) in self.iter().zip(ends) {
            let Confirmed { watermark, above } = ask(&producer)?;
            let runs = [[0, watermark]].into_iter().chain(above);
            let runs = runs.map(|[start, last]| [start.max(first), last.min(end)]);
            let above = runs.filter(|[start, last]| start < last).collect();
            all = all.union(&Confirmed { watermark: 0, above });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    /// The first begins where the plays are that are not gone.
    fn spans(all: &[(u64, u128)]) -> ProducerSpans {
        let later: Vec<_> = all.iter().map(|(first, of)| (*first, id(*of))).collect();
        ProducerSpans::new(id(77), &later, all[0].0)
    }

    #[test]
    fn who_has_no_play_left_is_forgotten() {
        for (before, below, next, want) in [
            (&[(0, 1)][..], 0, 0, &[(0, 9)][..]),
            (&[(0, 1)], 0, 5, &[(0, 1), (5, 9)]),
            (&[(0, 1)], 4, 5, &[(0, 1), (5, 9)]),
            (&[(0, 1)], 5, 5, &[(5, 9)]),
            (&[(0, 1), (5, 2)], 3, 5, &[(0, 1), (5, 9)]),
            (&[(0, 1), (5, 2)], 3, 8, &[(0, 1), (5, 2), (8, 9)]),
            (&[(0, 1), (5, 2)], 6, 8, &[(5, 2), (8, 9)]),
            (&[(0, 1), (5, 2)], 8, 8, &[(8, 9)]),
        ] {
            let mut found = spans(before);
            found.begin(id(9), next);
            found.forget(below);
            assert_eq!(found, spans(want), "{before:?} {below} {next}");
        }
    }

    #[test]
    fn each_play_has_one_identity() {
        let spans = spans(&[(3, 1), (5, 2), (8, 9)]);
        for (number, of) in [(3, 1), (4, 1), (5, 2), (7, 2), (8, 9), (80, 9)] {
            let identity = PlayIdentity { producer: id(of), seq: number };
            assert_eq!(spans.identity(number), identity);
        }
        let one = ProducerSpans::one(id(4));
        assert_eq!(one.identity(7), PlayIdentity { producer: id(4), seq: 7 });
    }

    #[test]
    fn of_each_producer_its_own_plays_are_confirmed() {
        let spans = spans(&[(2, 1), (5, 2), (8, 9)]);
        for (told, want) in [
            ([(0, &[][..]), (0, &[]), (0, &[])], (2, &[][..])),
            ([(5, &[]), (0, &[]), (0, &[])], (5, &[])),
            // The original has given out more numbers.
            ([(9, &[]), (0, &[[5, 6]]), (0, &[])], (6, &[])),
            ([(0, &[[3, 7]]), (0, &[[5, 6], [7, 12]]), (0, &[[8, 9]])], (2, &[[3, 6], [7, 9]])),
            // Plays that the present one never made are told as well.
            ([(5, &[]), (8, &[]), (10, &[[13, 14]])], (10, &[[13, 14]])),
        ] {
            let ask = |of: &Uuid| {
                let (watermark, above) = told[match of.as_u128() {
                    1 => 0,
                    2 => 1,
                    _ => 2,
                }];
                Ok::<_, ()>(Confirmed { watermark, above: above.to_vec() })
            };
            let want = Confirmed { watermark: want.0, above: want.1.to_vec() };
            assert_eq!(spans.confirmed(ask), Ok(want), "{told:?}");
        }
        assert_eq!(spans.confirmed(|_| Err("away")), Err("away"));
    }
}
