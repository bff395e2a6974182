//! Under which producer's id, and under which numbers, the plays of an outbox are published (pure).
//!
//! An outbox numbers its plays 0, 1, 2, … One that was copied may be older than its original, which has given out more numbers
//! since. So a copy goes on under another producer's id, from 0: its plays up to there keep theirs.

use uuid::Uuid;

use crate::model::play::PlayIdentity;
use crate::wire::Confirmed;

/// The plays from a number on, up to the next span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerSpan {
    /// The outbox's number of the first.
    pub first: u64,
    /// Who they are of. It calls the first 0.
    pub producer: Uuid,
}

/// All plays of an outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerSpans {
    // By number.
    former: Vec<ProducerSpan>,
    present: ProducerSpan,
}

impl ProducerSpans {
    /// One producer, of all plays.
    pub fn one(producer: Uuid) -> Self {
        Self { former: Vec::new(), present: ProducerSpan { first: 0, producer } }
    }

    /// Those that begin at these numbers, which ascend; `None`: there are none.
    pub(super) fn from_sorted(mut spans: Vec<ProducerSpan>) -> Option<Self> {
        let is_sorted = spans.windows(2).all(|pair| pair[0].first < pair[1].first);
        let present = spans.pop().filter(|_| is_sorted)?;
        Some(Self { former: spans, present })
    }

    /// By number.
    pub(super) fn iter(&self) -> impl Iterator<Item = ProducerSpan> {
        self.former.iter().copied().chain([self.present])
    }

    /// Who new plays are of.
    pub fn present(&self) -> Uuid {
        self.present.producer
    }

    /// The plays from `next` on are of another producer. Those who have none of the plays from `below` on are forgotten.
    pub(super) fn begin(&mut self, producer: Uuid, below: u64, next: u64) {
        if self.present.first < next {
            self.former.push(self.present);
        }
        self.present = ProducerSpan { first: next, producer };
        let ends: Vec<u64> = self.iter().skip(1).map(|span| span.first).collect();
        let gone = ends.partition_point(|end| *end <= below);
        self.former.drain(..gone);
    }

    /// As what a play is published.
    pub fn identity(&self, number: u64) -> PlayIdentity {
        let span = self.former.iter().rev().find(|span| span.first <= number);
        let span = if number < self.present.first { span } else { None };
        let ProducerSpan { first, producer } = *span.unwrap_or(&self.present);
        PlayIdentity { producer, seq: number - first }
    }

    /// What `ask` says of each producer, by the outbox's numbers. Every play before the first span is gone. Numbers that a
    /// former producer has given out elsewhere are left out.
    ///
    /// # Errors
    /// The first of `ask`.
    pub fn confirmed<E>(
        &self,
        mut ask: impl FnMut(&Uuid) -> Result<Confirmed, E>,
    ) -> Result<Confirmed, E> {
        let mut all = Confirmed {
            watermark: self.iter().next().map_or(0, |span| span.first),
            above: Vec::new(),
        };
        let ends = self.iter().skip(1).map(|span| span.first).chain([u64::MAX]);
        for (ProducerSpan { first, producer }, end) in self.iter().zip(ends) {
            let Confirmed { watermark, above } = ask(&producer)?;
            let runs = [[0, watermark]].into_iter().chain(above);
            let runs = runs.map(|run| run.map(|number| number.saturating_add(first).min(end)));
            let above = runs.filter(|[start, end]| start < end).collect();
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

    fn spans(all: &[(u64, u128)]) -> ProducerSpans {
        let all = all.iter().map(|(first, of)| ProducerSpan { first: *first, producer: id(*of) });
        ProducerSpans::from_sorted(all.collect()).unwrap()
    }

    #[test]
    fn a_copy_goes_on_under_another_id() {
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
            found.begin(id(9), below, next);
            assert_eq!(found, spans(want), "{before:?} {below} {next}");
        }
        assert_eq!(ProducerSpans::from_sorted(Vec::new()), None);
        let unsorted = [5, 5].map(|first| ProducerSpan { first, producer: id(1) });
        assert_eq!(ProducerSpans::from_sorted(unsorted.to_vec()), None);
    }

    #[test]
    fn each_play_has_one_identity() {
        let spans = spans(&[(3, 1), (5, 2), (8, 9)]);
        for (number, of, seq) in
            [(3, 1, 0), (4, 1, 1), (5, 2, 0), (7, 2, 2), (8, 9, 0), (80, 9, 72)]
        {
            assert_eq!(spans.identity(number), PlayIdentity { producer: id(of), seq });
        }
        let one = ProducerSpans::one(id(4));
        assert_eq!(one.identity(7), PlayIdentity { producer: id(4), seq: 7 });
    }

    #[test]
    fn what_is_confirmed_is_told_by_the_outbox_s_numbers() {
        let spans = spans(&[(2, 1), (5, 2), (8, 9)]);
        for (told, want) in [
            ([(0, &[][..]), (0, &[]), (0, &[])], (2, &[][..])),
            ([(3, &[]), (0, &[]), (0, &[])], (5, &[])),
            // The original has given out more numbers.
            ([(9, &[]), (1, &[]), (0, &[])], (6, &[])),
            ([(0, &[[1, 7]]), (1, &[[2, 7]]), (1, &[])], (2, &[[3, 6], [7, 9]])),
            ([(3, &[]), (3, &[]), (2, &[[5, 6]])], (10, &[[13, 14]])),
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
