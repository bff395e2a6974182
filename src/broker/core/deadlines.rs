//! When messages in flight time out and deferred ones fall due (pure).
//!
//! One heap for the whole broker. A message that is finished stays in it until its time comes or the heap
//! is pruned: at a million messages a second and timeouts of a minute it would hold 60 million stale entries,
//! so it is pruned as soon as most of it is stale.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Stale entries that are not worth pruning.
const STALE_MIN: usize = 1024;

/// One message of one channel, and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) channel: u64,
    pub(super) id: u64,
}

/// The deadlines of all channels, the next one on top.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<Deadline>>,
    /// How many entries the last pruning had to keep.
    kept: usize,
    /// Whether the next deadline has moved forward since the last [`Deadlines::take_sooner`].
    sooner: bool,
}

impl Deadlines {
    pub(super) fn push(&mut self, deadline: Deadline) {
        self.sooner |= self.next().is_none_or(|next| deadline.at < next);
        self.heap.push(Reverse(deadline));
    }

    /// The next time at which [`Deadlines::pop`] may have something.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(deadline)| deadline.at)
    }

    /// Takes the next deadline that has come by `now`; it may be stale.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Deadline> {
        self.heap.peek().filter(|Reverse(deadline)| deadline.at <= now)?;
        self.heap.pop().map(|Reverse(deadline)| deadline)
    }

    /// Whether the one who waits for [`Deadlines::next`] must look again.
    pub(super) fn take_sooner(&mut self) -> bool {
        std::mem::take(&mut self.sooner)
    }

    /// Drops what is not `valid` any more if, with `live` valid deadlines, that is most of the heap.
    pub(super) fn prune(&mut self, live: usize, valid: impl Fn(&Deadline) -> bool) {
        // Never before the heap has doubled since the last one: a message that is touched a thousand times at
        // one instant has a thousand valid entries, and a pruning for each of them would take for ever.
        if self.heap.len() <= (3 * live + STALE_MIN).max(2 * self.kept) {
            return;
        }
        self.heap.retain(|Reverse(deadline)| valid(deadline));
        self.kept = self.heap.len();
        // A burst of 65,535 in flight on many connections must not hold its room for ever.
        if self.heap.capacity() > 4 * (self.heap.len() + STALE_MIN) {
            self.heap.shrink_to(2 * (self.heap.len() + STALE_MIN));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_million_finished_messages_leave_no_million_deadlines() {
        let start = Instant::now();
        let mut deadlines = Deadlines::default();
        for id in 0..1_000_000 {
            let at = start + Duration::from_secs(60) + Duration::from_micros(id);
            deadlines.push(Deadline { at, channel: 0, id });
            // The last hundred are in flight, the others are done.
            deadlines.prune(100, |deadline| deadline.id + 100 > id);
            assert!(deadlines.heap.len() <= 3 * 100 + STALE_MIN + 1);
        }
        for _ in 0..100_000 {
            deadlines.push(Deadline { at: start, channel: 0, id: 7 });
            deadlines.prune(1, |_| true);
        }
        assert!(deadlines.pop(start).is_some());
        assert!(deadlines.take_sooner() && !deadlines.take_sooner());
    }
}
