//! How much of the disk a log's segments take (pure).

use std::collections::VecDeque;

/// Segments that are there, from the oldest up to the present one, and what is in them.
pub(super) struct SegmentSizes {
    /// The number of the oldest.
    oldest: u64,
    /// Bytes of each but the present one.
    older: VecDeque<u64>,
    /// Their sum.
    sum: u64,
    /// Up to here in the present one nobody needs anything: number and offset.
    unneeded: (u64, u64),
}

impl SegmentSizes {
    /// Of segments that are there, the oldest first, before the present one.
    pub(super) fn new(oldest: u64, older: VecDeque<u64>) -> Self {
        let sum = older.iter().sum();
        Self { oldest, older, sum, unneeded: (0, 0) }
    }

    /// The number of the oldest.
    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// The segment `present` is the one that is written to. Those that have come to an end since the last time are taken to be full
    /// with `bytes`.
    pub(super) fn advance(&mut self, present: u64, bytes: u64) {
        while self.oldest + (self.older.len() as u64) < present {
            self.older.push_back(bytes);
            self.sum += bytes;
        }
    }

    /// Takes out the oldest.
    pub(super) fn give_up(&mut self) {
        self.sum -= self.older.pop_front().unwrap_or(0);
        self.oldest += 1;
    }

    /// Nobody needs what is in the present segment, up to that offset.
    pub(super) fn is_unneeded(&mut self, present: u64, offset: u64) {
        self.unneeded = (present, offset);
    }

    /// Bytes of all, as far as somebody needs them, where the present one is written to at `offset`: a topic that has nothing must
    /// not keep others from having something.
    pub(super) fn bytes(&self, present: u64, offset: u64) -> u64 {
        let (segment, below) = self.unneeded;
        let unneeded = if segment == present { below } else { 0 };
        self.sum + offset.saturating_sub(unneeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_somebody_needs_is_counted() {
        let mut sizes = SegmentSizes::new(3, VecDeque::from([10, 20]));
        assert_eq!((sizes.oldest(), sizes.bytes(5, 7)), (3, 37));
        sizes.advance(5, 100);
        assert_eq!(sizes.bytes(5, 7), 37);
        sizes.advance(7, 100);
        assert_eq!(sizes.bytes(7, 1), 231);
        sizes.give_up();
        sizes.give_up();
        assert_eq!((sizes.oldest(), sizes.bytes(7, 1)), (5, 201));
        sizes.give_up();
        sizes.give_up();
        assert_eq!((sizes.oldest(), sizes.bytes(7, 60)), (7, 60));
        sizes.is_unneeded(7, 60);
        assert_eq!((sizes.bytes(7, 60), sizes.bytes(7, 61)), (0, 1));
        sizes.advance(8, 100);
        assert_eq!(sizes.bytes(8, 5), 105);
    }
}
