//! What a channel has on disk besides its queue in memory (pure).
//!
//! ```text
//!            pulled_below              next                  until
//!  finished, or │  in the queue,         │ in the log only     │
//!  handed out   │  nobody has had them   │                     │   the channel's messages by their IDs
//! ```
//!
//! A message whose time has not come is delivered ahead of its turn or behind it: it is *apart*.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::batch::MessageRun;
use super::saved::{Exception, SavedChannel};

/// Where in a topic's log: the number of a segment, and an offset in it.
pub(crate) type LogPlace = (u64, u64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ChannelBacklog {
    pub(super) pulled_below: u64,
    pub(super) next: u64,
    pub(super) until: u64,
    /// Messages from `next` on that are not finished.
    pub(super) depth: usize,
    /// Where the message `next` lies, if that is known.
    pub(super) place: Option<LogPlace>,
    /// Somebody reads from `next` on, or is asked to.
    pub(super) is_loading: bool,
    /// Messages apart from `pulled_below` on; `true`: finished.
    pub(super) apart: BTreeMap<u64, bool>,
    /// What the last run has left to do, by the first ID: of what is not read yet.
    pub(super) left: BTreeMap<u64, Exception>,
    /// Messages behind `pulled_below` that are not the channel's any more, though others before and behind them are: the last run had
    /// finished them, or the topic was emptied of them while they waited there. By the first ID, up to below the other one.
    pub(super) holes: BTreeMap<u64, u64>,
    /// Below it only what `left` names is not finished.
    pub(super) left_below: u64,
    /// There is something to say since the last [`take_changes`](super::state::Core::take_changes).
    pub(super) is_changed: bool,
}

/// Messages of the log as they were published.
pub(crate) struct LoadedRun {
    pub(crate) run: MessageRun,
    /// In milliseconds since the Unix epoch; 0: at once.
    pub(crate) due_ms: u64,
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    pub(crate) unix_ms: u64,
}

impl Moment {
    pub(super) fn instant(self, unix_ms: u64) -> Instant {
        self.now + Duration::from_millis(unix_ms.saturating_sub(self.unix_ms))
    }

    pub(super) fn unix(self, at: Instant) -> u64 {
        let left = at.saturating_duration_since(self.now).as_millis();
        // Never 0, which is "at once".
        self.unix_ms.saturating_add(u64::try_from(left).unwrap_or(u64::MAX)).max(1)
    }
}

impl ChannelBacklog {
    /// Of a channel that gets what is published from `tail` on.
    pub(super) fn new(tail: u64) -> Self {
        Self { pulled_below: tail, next: tail, until: tail, is_changed: true, ..Self::default() }
    }

    /// Of a channel of the last run.
    pub(super) fn restore(saved: &SavedChannel) -> Self {
        let mut left = BTreeMap::new();
        let mut holes = BTreeMap::new();
        for exception in &saved.exceptions {
            match exception.is_done {
                true => drop(holes.insert(exception.first, exception.first + exception.count)),
                false => drop(left.insert(exception.first, *exception)),
            }
        }
        Self {
            pulled_below: saved.below,
            next: saved.oldest(|_| false),
            until: saved.until,
            depth: usize::try_from(saved.depth).unwrap_or(usize::MAX),
            left,
            holes,
            left_below: saved.below,
            ..Self::default()
        }
    }

    /// Whether there are messages that are only in the log.
    pub(super) fn is_behind(&self) -> bool {
        self.next < self.until
    }

    /// Takes note of messages, from the ID `first` to below `end`, which a consumer gets or nobody.
    pub(super) fn pulled(&mut self, first: u64, end: u64) {
        if first >= self.pulled_below && !self.apart.contains_key(&first) {
            self.pulled_below = end;
        }
    }

    /// All messages up to `end` are done with.
    pub(super) fn empty(&mut self, end: u64) {
        let Self { is_loading, is_changed, .. } = *self;
        let holes = std::mem::take(&mut self.holes);
        *self = Self { is_loading, is_changed, holes, ..Self::new(end) };
        self.pass_holes();
    }

    /// What waited in the topic from `from` on, below `end`, is not the channel's.
    pub(super) fn leave_out(&mut self, from: u64, end: u64) {
        self.holes.insert(from, end);
        self.pass_holes();
    }

    /// Forgets the holes that nothing is before.
    pub(super) fn pass_holes(&mut self) {
        let last = self.holes.values().next_back().copied();
        if let Some(end) = last.filter(|end| *end > self.next)
            && !self.is_behind()
            && self.pulled_below >= self.next
        {
            (self.pulled_below, self.next, self.until, self.place) = (end, end, end, None);
        }
        let below = self.pulled_below;
        self.holes.retain(|_, end| *end > below);
    }

    /// Takes note of a message that is finished.
    pub(super) fn finished(&mut self, id: u64) {
        if let Some(is_done) = self.apart.get_mut(&id) {
            *is_done = true;
        }
    }

    /// Messages up to `end` are the channel's, and only in the log.
    pub(super) fn leave(&mut self, count: usize, end: u64) {
        self.depth += count;
        self.until = end;
    }

    /// Messages up to `end` are the channel's, and it has them all.
    pub(super) fn take(&mut self, end: u64) {
        (self.next, self.until, self.place) = (end, end, None);
    }

    /// What waited in the topic from `from` on is the channel's.
    pub(super) fn inherit(&mut self, from: u64, count: usize, end: u64) {
        if !self.is_behind() {
            // Between these there is nothing of the channel's.
            if self.pulled_below >= self.next {
                self.pulled_below = self.pulled_below.max(from);
            }
            (self.next, self.place) = (self.next.max(from), None);
        }
        self.leave(count, end);
    }

    /// What remains of a run that was read: parts that are not finished, and when they are due.
    pub(super) fn unfinished(&self, loaded: LoadedRun) -> Vec<LoadedRun> {
        let LoadedRun { run, due_ms } = loaded;
        let (first, end) = (run.next_id, run.next_id + u64::from(run.left));
        let from = first.max(self.next);
        if from >= end {
            return Vec::new();
        }
        let is_plain = self.left.is_empty()
            && from >= self.left_below
            && self.apart.is_empty()
            && self.holes.is_empty();
        if is_plain {
            let run = if from == first {
                run
            } else {
                run.slice((from - first) as u32, (end - from) as u32)
            };
            return vec![LoadedRun { run, due_ms }];
        }
        let mut parts: Vec<LoadedRun> = Vec::new();
        let mut rest = run;
        rest.split_front((from - first) as u32);
        while rest.left > 0 {
            let (stop, live) = self.stretch(rest.next_id, end);
            let part = rest.split_front((stop - rest.next_id) as u32);
            if let Some((attempts, own_due)) = live {
                let run = MessageRun { attempts, ..part };
                parts.push(LoadedRun { run, due_ms: own_due.unwrap_or(due_ms) });
            }
        }
        parts
    }

    /// From `at` to where the same holds, at most to `end`; with attempts and, if there is one, another time, where the
    /// messages are to be delivered.
    fn stretch(&self, at: u64, end: u64) -> (u64, Option<(u16, Option<u64>)>) {
        if self.apart.contains_key(&at) {
            return (at + 1, None);
        }
        let hole = self.holes.range(..=at).next_back();
        if let Some((_, behind)) = hole.filter(|(_, behind)| at < **behind) {
            return (end.min(*behind), None);
        }
        let mut stop = self.apart.range(at..end).next().map_or(end, |(id, _)| *id);
        stop = self.holes.range(at..stop).next().map_or(stop, |(first, _)| *first);
        if at < self.left_below {
            stop = stop.min(self.left_below);
        }
        let covers = |exception: &&Exception| at < exception.first + exception.count;
        let exception = self.left.range(..=at).next_back().map(|(_, found)| found).filter(covers);
        if let Some(exception) = exception {
            stop = stop.min(exception.first + exception.count);
            return (stop, Some((exception.attempts, Some(exception.due_ms))));
        }
        stop = self.left.range(at..stop).next().map_or(stop, |(first, _)| *first);
        (stop, (at >= self.left_below).then_some((0, None)))
    }
}

impl ChannelBacklog {
    /// Forgets what the last run has left of messages that are read now.
    pub(super) fn forget_left(&mut self) {
        let next = self.next;
        self.left.retain(|_, exception| exception.first + exception.count > next);
    }
}
