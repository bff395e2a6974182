//! A channel whose topic has a log: what waits in it, and what a start must know of it (pure).

use super::backlog::Moment;
use super::batch::MessageRun;
use super::channel::{Channel, defer};
use super::deadlines::Deadlines;
use super::queue::Deferred;
use super::saved::{Exception, SavedChannel};

impl Channel {
    /// Puts messages aside until they are due.
    pub(super) fn set_apart(&mut self, key: u64, one: Deferred, deadlines: &mut Deadlines) {
        if let Some(backlog) = &mut self.backlog {
            let ids = one.run.next_id..one.run.next_id + u64::from(one.run.left);
            backlog
                .apart
                .extend(ids.filter(|id| *id >= backlog.pulled_below).map(|id| (id, false)));
        }
        defer(deadlines, key, self, one);
    }

    /// Forgets which messages were apart, of those before the first that is not and waits.
    pub(super) fn tidy(&mut self) {
        let Some(backlog) = &mut self.backlog else { return };
        if backlog.apart.is_empty() {
            return backlog.pass_holes();
        }
        let in_order = |run: &&MessageRun| {
            run.next_id >= backlog.pulled_below && !backlog.apart.contains_key(&run.next_id)
        };
        let fresh = self.queue.runs().filter(in_order).map(|run| run.next_id).min();
        let below = fresh.unwrap_or(u64::MAX).min(backlog.next);
        backlog.pulled_below = backlog.pulled_below.max(below);
        backlog.apart = backlog.apart.split_off(&backlog.pulled_below);
        backlog.pass_holes();
    }

    /// Messages that wait, in memory and on disk.
    pub(super) fn depth(&self) -> usize {
        self.queue.depth() + self.backlog.as_ref().map_or(0, |backlog| backlog.depth)
    }

    /// What is to be kept of it; `None` if nothing is.
    pub(super) fn saved(&self, moment: Moment) -> Option<SavedChannel> {
        let backlog = self.backlog.as_ref()?;
        let below = backlog.pulled_below;
        let is_told = |id: u64| id < below || backlog.apart.contains_key(&id);
        let mut exceptions: Vec<Exception> = Vec::new();
        let mut tell = |first, count: u32, attempts, due_ms| {
            if is_told(first) {
                let count = u64::from(count);
                exceptions.push(Exception { first, count, attempts, due_ms, is_done: false });
            }
        };
        self.in_flight.left(|first, count, attempts| tell(first, count, attempts, 0));
        for run in self.queue.runs() {
            tell(run.next_id, run.left, run.attempts, 0);
        }
        for Deferred { run, due } in self.deferred.values() {
            tell(run.next_id, run.left, run.attempts, moment.unix(*due));
        }
        let done = backlog.apart.range(below..).filter(|(_, is_done)| **is_done);
        exceptions.extend(done.map(|(id, _)| Exception {
            first: *id,
            count: 1,
            attempts: 0,
            due_ms: 0,
            is_done: true,
        }));
        let holes = backlog.holes.iter().filter(|(_, end)| **end > below);
        exceptions.extend(holes.map(|(first, end)| {
            let first = below.max(*first);
            Exception { first, count: end - first, attempts: 0, due_ms: 0, is_done: true }
        }));
        exceptions.extend(backlog.left.values().filter_map(|exception| {
            let end = exception.first + exception.count;
            let first = exception.first.max(backlog.next);
            (first < end).then(|| Exception { first, count: end - first, ..*exception })
        }));
        exceptions.sort_unstable_by_key(|exception| exception.first);
        Some(SavedChannel {
            is_paused: self.paused,
            below,
            until: backlog.until,
            depth: (self.depth() + self.in_flight.len() + self.deferred.len()) as u64,
            exceptions,
        })
    }

    /// The lowest ID that may be read again, but for messages that are elsewhere, too. What an ephemeral channel has in memory
    /// stays there, and no start finds the channel again.
    pub(super) fn oldest(&self, is_elsewhere: impl Fn(u64) -> bool) -> Option<u64> {
        let backlog = self.backlog.as_ref()?;
        if self.name.is_ephemeral() {
            return Some(backlog.next);
        }
        let mut oldest = backlog.pulled_below.min(backlog.next);
        let mut look = |first: u64, count: u64| {
            let mut ids = first..oldest.min(first + count);
            oldest = ids.find(|id| !is_elsewhere(*id)).unwrap_or(oldest);
        };
        self.in_flight.left(|first, count, _| look(first, count.into()));
        self.queue.runs().for_each(|run| look(run.next_id, run.left.into()));
        self.deferred.values().for_each(|one| look(one.run.next_id, one.run.left.into()));
        backlog.left.values().for_each(|one| {
            let first = one.first.max(backlog.next);
            look(first, (one.first + one.count).saturating_sub(first));
        });
        Some(oldest)
    }

    /// Those of the messages in memory that have an ID below that, in no order.
    pub(super) fn unfinished_below(&self, below: u64) -> impl Iterator<Item = MessageRun> {
        let waiting = self.queue.runs().chain(self.deferred.values().map(|one| &one.run));
        let waiting = waiting.filter(move |run| run.next_id < below).cloned();
        let in_flight = self.in_flight.runs_below(below).filter(move |run| run.next_id < below);
        in_flight.chain(waiting).map(move |run| {
            let count = u32::try_from(below - run.next_id).unwrap_or(u32::MAX);
            MessageRun { left: run.left.min(count), ..run }
        })
    }

    /// Lets go of messages in memory that nobody has had, from the newest on: they are in the log. Those that a lost consumer had
    /// stay.
    pub(super) fn evict(&mut self) {
        let Some(backlog) = &mut self.backlog else { return };
        // Those that nobody has had lie between the two. Where a lost consumer had all, each publish would look at it.
        if backlog.next <= backlog.pulled_below {
            return;
        }
        let mut kept = Vec::new();
        while let Some(run) = self.queue.take_back() {
            let is_fresh = run.next_id >= backlog.pulled_below
                && run.next_id + u64::from(run.left) <= backlog.next
                && !backlog.apart.contains_key(&run.next_id);
            if is_fresh {
                (backlog.next, backlog.place) = (run.next_id, None);
                backlog.depth += run.left as usize;
            } else {
                kept.push(run);
            }
        }
        kept.into_iter().rev().for_each(|run| self.queue.push(run));
        self.tidy();
    }
}
