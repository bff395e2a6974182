//! Adaptive RDY: how many messages one connection should have in flight, by how its messages come (pure).
//!
//! nsqd writes at once when a connection has RDY messages in flight. Otherwise it gathers: until 16 KiB are
//! together, or its output_buffer_timeout has passed. So on a quiet channel every RDY above what is in flight is
//! paid for with waiting, and under load every RDY that is too low is paid for with idle workers and a write for
//! each message. [`Pace`] looks at each read:
//!
//! - *Behind*: its first message was at nsqd before nsqd had room for it, or the room was filled in no time.
//!   RDY was what held the message up, so RDY doubles, unless the workers have enough to do.
//! - *Idle*: nsqd had room for a while, and the message was published meanwhile. What RDY allows beyond the need
//!   made messages wait for company, so RDY falls to what comes in half a millisecond.
//! - In between nothing changes: that is what keeps it from hunting.
//!
//! "Before nsqd had room" needs no common clock: the time from publication to arrival, by two clocks, is compared
//! with the smallest of the last seconds, so that their difference cancels out.
//!
//! When nothing at all came for 2 ms although there is room, RDY falls to one more than is in flight. nsqd takes
//! that for "not ready" if it has gathered anything, and writes it at once. If the next read is behind, it was a
//! hiccup, or the way is long: the RDY from before comes back, and the next such flush takes longer to come.
//! Otherwise RDY is what the messages of that read need.
//!
//! Messages that are still in flight after 1 ms are not answered at once. Where it is known how many workers there are
//! ([`Pace::expect_workers`]), RDY rises to their number then, so that none is idle while a message waits.

use std::time::{Duration, Instant};

/// Room that is filled within this: whatever RDY, nobody waited long for company.
const NO_TIME: Duration = Duration::from_micros(100);

/// How long a message may wait for company. Half of what the median may be on a quiet channel.
const COMPANY: Duration = Duration::from_micros(500);

/// What scheduling adds to the way of a message, at least.
const SLACK: Duration = Duration::from_micros(100);

/// How long reads must be behind before RDY doubles: shorter than any load, longer than a burst of a few messages.
const GROW_AFTER: Duration = Duration::from_millis(1);

/// Reads behind, likewise.
const GROW_READS: u32 = 2;

/// Idle reads in a row before RDY falls. Under load the odd pause of nsqd or of the system looks idle.
const SHRINK_READS: u32 = 4;

/// Room without a message for so long: what nsqd may have gathered is to come now. Well below the 25 ms that it
/// would take at least, and long enough not to cost anything under load.
const FLUSH_AFTER: Duration = Duration::from_millis(2);

/// Doubled for each flush that only a long way, or a hiccup, had called for, up to this: four times what nsqd waits
/// by itself.
const FLUSH_AFTER_MAX: Duration = Duration::from_millis(100);

/// Work ahead of the workers, in time, that is enough unless they are idle: a slow handler needs no more in its
/// queue, and other consumers may be free. Long enough for what 2500 messages take at any good rate.
const ENOUGH_WORK: Duration = Duration::from_millis(20);

/// Queued work beyond this many times enough is too much: it waits, times out, and is kept from other consumers.
const TOO_MUCH: u64 = 4;

/// How long reads must be behind before RDY falls for that: over what makes workers pause now and then.
const STEADY: Duration = Duration::from_millis(100);

/// What comes so soon after an idle read is the rest of what nsqd wrote then, in another packet.
const SAME_WRITE: Duration = Duration::from_micros(500);

/// How long a smallest way counts. Clocks drift less than 1 ms meanwhile.
const WAY_WINDOW: Duration = Duration::from_secs(10);

/// What one read brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Messages in flight before it.
    pub(crate) in_flight: u64,
    /// Its messages, at least one.
    pub(crate) messages: u64,
    /// When the first of them was published, by nsqd's clock; `None` if it was delivered before.
    pub(crate) published_ns: Option<i64>,
    /// Messages of this connection that no worker has taken yet, without these.
    pub(crate) queued: u64,
    /// Some worker waits for work.
    pub(crate) starving: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Behind,
    Between,
    Idle,
}

/// Reads of one kind in a row.
#[derive(Debug)]
struct Streak {
    kind: Kind,
    since: Instant,
    reads: u32,
    messages: u64,
    /// What was in flight before the first of them.
    began_with: Option<u64>,
    /// The most that was in flight before one of them.
    in_flight: u64,
    starving: bool,
}

impl Streak {
    fn new(kind: Kind, since: Instant) -> Self {
        Self { kind, since, reads: 0, messages: 0, began_with: None, in_flight: 0, starving: false }
    }

    /// Messages that come in `time`, at the rate of the streak.
    fn messages_in(&self, time: Duration, now: Instant) -> u64 {
        self.in_time(self.messages, time, now)
    }

    /// Messages that are answered in `time`, likewise, where so many are in flight now.
    fn answered_in(&self, time: Duration, in_flight: u64, now: Instant) -> u64 {
        let more = in_flight.saturating_sub(self.began_with.unwrap_or(in_flight));
        self.in_time(self.messages.saturating_sub(more), time, now)
    }

    fn in_time(&self, messages: u64, time: Duration, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.since).max(Duration::from_micros(1));
        (messages as f64 * time.as_secs_f64() / elapsed.as_secs_f64()) as u64
    }
}

/// RDY messages in flight for so long: they are not answered at once, and there may be workers for more.
const BUSY_AFTER: Duration = Duration::from_millis(1);

/// The window of one connection.
#[derive(Debug)]
pub(crate) struct Pace {
    max: u64,
    /// Messages that can be worked on at one time, where that is known; no less is wanted for long.
    workers: u64,
    want: u64,
    /// What nsqd was told last: no more than is wanted.
    rdy: u64,
    /// Since when nsqd has had room; `None` while it has none.
    room_since: Option<Instant>,
    /// Since when it has had none.
    full_since: Option<Instant>,
    streak: Streak,
    last_idle: Option<Instant>,
    /// What was wanted before a flush, until the next read.
    flushed: Option<u64>,
    flush_after: Duration,
    ways: Ways,
}

impl Pace {
    /// For a connection that takes up to `max`.
    pub(crate) fn new(max: u64, now: Instant) -> Self {
        Self {
            max,
            workers: 0,
            want: 1,
            rdy: 0,
            room_since: None,
            full_since: None,
            streak: Streak::new(Kind::Between, now),
            last_idle: None,
            flushed: None,
            flush_after: FLUSH_AFTER,
            ways: Ways::new(now),
        }
    }

    /// So many messages can be worked on at one time: as many are wanted at once, and later whenever those in flight
    /// take their time.
    pub(crate) fn expect_workers(&mut self, workers: u64) {
        self.workers = workers.min(self.max);
        self.want = self.want.max(self.workers);
    }

    /// How many messages the connection should have in flight: 1 or more.
    pub(crate) fn want(&self) -> u64 {
        self.want
    }

    /// nsqd is told `rdy`, with so many in flight.
    pub(crate) fn told(&mut self, rdy: u64, in_flight: u64, now: Instant) {
        self.rdy = rdy;
        if in_flight >= rdy {
            self.is_full(now);
        } else if self.room_since.is_none() {
            self.has_room(now);
        }
    }

    fn is_full(&mut self, now: Instant) {
        (self.room_since, self.full_since) = (None, Some(now));
    }

    fn has_room(&mut self, now: Instant) {
        (self.room_since, self.full_since) = (Some(now), None);
    }

    /// Messages were answered, and fewer than RDY are in flight.
    pub(crate) fn room(&mut self, now: Instant) {
        if self.rdy > 0 && self.room_since.is_none() {
            self.has_room(now);
        }
    }

    /// Messages came. True if something else is wanted now.
    pub(crate) fn read(&mut self, read: Arrival, now: Instant) -> bool {
        let before = self.want;
        let waited =
            self.room_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let was_queued = self.ways.exceeds(read.published_ns, waited + SLACK, now);
        match read.in_flight + read.messages < self.rdy {
            true => self.has_room(now),
            false => self.is_full(now),
        }
        if self.last_idle.is_some_and(|idle| now.saturating_duration_since(idle) < SAME_WRITE) {
            self.streak.messages += read.messages;
            return false;
        }
        self.last_idle = None;
        let kind = if was_queued || waited <= NO_TIME {
            Kind::Behind
        } else if waited > COMPANY {
            Kind::Idle
        } else {
            Kind::Between
        };
        if kind != self.streak.kind {
            self.streak = Streak::new(kind, now.checked_sub(waited).unwrap_or(now));
        }
        let streak = &mut self.streak;
        streak.reads = streak.reads.saturating_add(1);
        streak.messages += read.messages;
        streak.began_with.get_or_insert(read.in_flight);
        streak.in_flight = streak.in_flight.max(read.in_flight);
        // With enough in flight for all of them, workers that wait are about to take it.
        streak.starving |= read.starving && (self.workers == 0 || read.in_flight < self.workers);
        match kind {
            _ if self.flushed.is_some() => self.resume(was_queued, now),
            Kind::Behind => self.grow(read, now),
            Kind::Idle => self.shrink(now),
            Kind::Between => {}
        }
        self.want != before
    }

    /// The first read after a flush.
    fn resume(&mut self, was_queued: bool, now: Instant) {
        let Some(before) = self.flushed.take() else { return };
        if was_queued {
            self.flush_after = (2 * self.flush_after).min(FLUSH_AFTER_MAX);
            self.want = before;
        } else {
            self.flush_after = (self.flush_after / 2).max(FLUSH_AFTER);
            self.want = self.want.max(self.need(now).min(before));
        }
        self.streak = Streak::new(Kind::Between, now);
    }

    /// What the messages of the streak need in order not to wait for room, nor for company.
    fn need(&self, now: Instant) -> u64 {
        self.streak.in_flight + 1 + self.streak.messages_in(COMPANY, now)
    }

    fn grow(&mut self, read: Arrival, now: Instant) {
        let streak = &self.streak;
        let lasted = now.saturating_duration_since(streak.since);
        if streak.reads < GROW_READS || lasted < GROW_AFTER {
            return;
        }
        // The rate is that of the workers when they are the bottleneck.
        let enough = streak.answered_in(ENOUGH_WORK, read.in_flight + read.messages, now);
        if self.rdy >= self.want && (streak.starving || self.want < enough) {
            self.want = (2 * self.want).min(self.max);
        } else if lasted < STEADY {
            return;
        } else if !streak.starving && read.queued > TOO_MUCH * (enough + 1) {
            let in_hand = read.in_flight.saturating_sub(read.queued);
            self.want = self.want.min(in_hand + enough + 1);
        }
        self.streak = Streak::new(Kind::Behind, now);
    }

    fn shrink(&mut self, now: Instant) {
        // Only where more could come: what filled RDY came in one write, and what follows answers our answers.
        self.last_idle = self.room_since;
        if self.streak.reads < SHRINK_READS {
            return;
        }
        self.want = self.want.min(self.need(now));
        self.streak = Streak::new(Kind::Idle, now);
    }

    /// More messages of the same read came.
    pub(crate) fn more(&mut self, in_flight: u64, messages: u64, now: Instant) {
        self.streak.messages += messages;
        if in_flight + messages >= self.rdy {
            self.is_full(now);
        }
    }

    /// When [`Pace::tick`] has something to do, if nothing comes until then.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        // Told less than is wanted, the connection waits for room elsewhere: there is nothing to flush for.
        let room = self.room_since.filter(|_| self.want > 1 && self.rdy > 1);
        room.map(|since| since + self.flush_after).or_else(|| self.next_rise())
    }

    /// When messages in flight have taken so long that as many are wanted as there are workers.
    fn next_rise(&self) -> Option<Instant> {
        let is_told = self.rdy > 0 && self.rdy >= self.want;
        let full = self.full_since.filter(|_| is_told && self.want < self.workers)?;
        Some(full + BUSY_AFTER)
    }

    /// Time has passed. True if something else is wanted now.
    pub(crate) fn tick(&mut self, in_flight: u64, now: Instant) -> bool {
        if self.next_rise().is_some_and(|due| due <= now) {
            self.want = self.workers;
            self.streak = Streak::new(Kind::Between, now);
            return true;
        }
        let least = in_flight + 1;
        if self.next_tick().is_none_or(|due| now < due) || self.want <= least {
            return false;
        }
        self.flushed = Some(self.want.max(self.flushed.unwrap_or(0)));
        // What came before the pause says nothing of the rate now.
        self.streak = Streak::new(Kind::Between, self.room_since.unwrap_or(now));
        self.want = least;
        true
    }
}

/// The smallest way of a message from its publication to here, by two clocks, over the last seconds.
#[derive(Debug)]
struct Ways {
    /// Any moment: only differences count.
    origin: Instant,
    now: Option<i64>,
    before: Option<i64>,
    since: Instant,
}

impl Ways {
    fn new(origin: Instant) -> Self {
        Self { origin, now: None, before: None, since: origin }
    }

    /// Takes a message into account. Whether its way was longer than the smallest by more than `by`, or shorter: in
    /// that case the smallest was none of a message that came at once.
    fn exceeds(&mut self, published_ns: Option<i64>, by: Duration, now: Instant) -> bool {
        let Some(published_ns) = published_ns else { return false };
        let local = i64::try_from(now.saturating_duration_since(self.origin).as_nanos());
        let way = local.unwrap_or(i64::MAX).saturating_sub(published_ns);
        let age = now.saturating_duration_since(self.since);
        if age >= WAY_WINDOW {
            self.before = if age < 2 * WAY_WINDOW { self.now } else { None };
            (self.now, self.since) = (None, now);
        }
        let smallest = self.now.into_iter().chain(self.before).min();
        self.now = Some(self.now.map_or(way, |now| now.min(way)));
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        smallest.is_some_and(|smallest| way.abs_diff(smallest) > by)
    }
}

#[cfg(test)]
mod tests;
