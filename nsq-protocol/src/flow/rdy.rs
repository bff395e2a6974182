//! How many messages each connection may have in flight, so that all together never have more than
//! `max_in_flight` (pure).
//!
//! RDY is a level: nsqd sends while fewer than RDY messages are in flight. It never recalls any, it learns of a
//! lower RDY only after a while, and it counts a message that timed out as no longer in flight although we still
//! hold it. So a connection *reserves* the most of: its RDY, what is held of it, and any RDY that it was told within
//! the last [`SETTLE`]. A RDY rises only into what all other reservations leave.
//!
//! With more nsqds than `max_in_flight`, and for the probe of a backoff, connections take turns: each one that has
//! its turn has RDY 1.

use std::time::{Duration, Instant};

use crate::flow::backoff::Gate;

/// How long messages may still come that nsqd sent by a RDY from before: the way there and back, and both sides'
/// scheduling.
pub(crate) const SETTLE: Duration = Duration::from_millis(100);

/// One nsqd, as the planner sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkLoad {
    /// nsqd's `max_rdy_count` while connected.
    pub(crate) max_rdy: Option<u64>,
    /// What the connection can use; the rest goes to others.
    pub(crate) want: u64,
    /// Messages held that came on the present connection.
    pub(crate) in_flight: u64,
    /// Messages held that came on earlier connections of this nsqd.
    pub(crate) left_over: u64,
    /// Messages that came so far: whether it changes says whether the connection is used.
    pub(crate) messages: u64,
}

/// Why a connection has RDY 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Backoff,
    Turn,
    Room,
    TimedOut,
    Paused,
}

/// What one connection is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkRdy {
    pub(crate) rdy: u64,
    /// Why it is 0, if it is.
    pub(crate) hold: Option<Hold>,
}

/// What all connections are told.
#[derive(Debug)]
pub(crate) struct Plan {
    /// By the index of the load.
    pub(crate) links: Vec<LinkRdy>,
    /// Some connection is below its share until messages are answered: plan again then.
    pub(crate) constrained: bool,
    /// Plan again then, also if nothing happens.
    pub(crate) next: Option<Instant>,
}

/// Who may have how many.
#[derive(Debug)]
pub(crate) struct Planner {
    max_in_flight: u64,
    /// Within this every nsqd has its turn.
    round: Duration,
    /// A turn without a message ends after this.
    idle_turn: Duration,
    links: Vec<LinkPlan>,
}

#[derive(Clone, Debug, Default)]
struct LinkPlan {
    rdy: u64,
    /// A higher RDY from before, and until when messages sent by it may come.
    settling: Option<(u64, Instant)>,
    /// What may rightly be held: RDY, or the higher one before it until its messages are answered.
    ceiling: u64,
    /// More is held than nsqd was allowed to send: messages timed out there. RDY stays 0 until half is answered,
    /// or a stuck handler would be given all of its messages again at each timeout.
    choked: bool,
    turn: Option<Turn>,
    /// Since when it waits for its turn.
    waits_since: Option<Instant>,
    /// Since when it is below its share, for want of room.
    short_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    since: Instant,
    /// Messages that had come when it began.
    first: u64,
    /// Those that had come when they were last looked at, and when a change was seen.
    messages: u64,
    active: Instant,
}

impl LinkPlan {
    fn reserved(&self, load: &LinkLoad, now: Instant) -> u64 {
        self.rdy.max(load.in_flight).max(self.settling(now))
    }

    fn settling(&self, now: Instant) -> u64 {
        self.settling.filter(|(_, until)| now < *until).map_or(0, |(rdy, _)| rdy)
    }

    /// Lowers RDY to `share` at most; what is held or on its way may be more.
    fn fall(&mut self, load: &LinkLoad, share: u64, now: Instant) {
        let allowed = share.max(self.settling(now));
        self.ceiling = if load.in_flight > allowed { self.ceiling.max(allowed) } else { allowed };
        if load.in_flight > self.ceiling {
            self.choked = true;
        } else if load.in_flight <= share / 2 {
            self.choked = false;
        }
        let rdy = if self.choked { 0 } else { self.rdy.min(share) };
        if rdy < self.rdy {
            // The highest of several that settle, until the last of them has.
            self.settling = Some((self.rdy.max(self.settling(now)), now + SETTLE));
            self.ceiling = self.ceiling.max(self.rdy);
            self.rdy = rdy;
        }
    }
}

impl Planner {
    /// Every nsqd has its turn within `round`, where they take turns; one without messages gives way after
    /// `idle_turn`.
    pub(crate) fn new(max_in_flight: u64, round: Duration, idle_turn: Duration) -> Self {
        Self { max_in_flight, round, idle_turn, links: Vec::new() }
    }

    /// From now on so many messages may be in flight; a plan must follow.
    pub(crate) fn set_max_in_flight(&mut self, messages: u64) {
        self.max_in_flight = messages;
    }

    /// What to tell each link. An index stands for the same connection as long as it is connected.
    pub(crate) fn plan(&mut self, loads: &[LinkLoad], gate: Gate, now: Instant) -> Plan {
        self.links.resize_with(loads.len(), LinkPlan::default);
        for (link, load) in self.links.iter_mut().zip(loads) {
            if load.max_rdy.is_none() {
                *link = LinkPlan::default();
            }
        }
        let connected = loads.iter().filter(|load| load.max_rdy.is_some()).count() as u64;
        let mut next = None;
        let shares = match gate {
            Gate::Shut => self.no_shares(),
            Gate::Probe => self.turns(loads, 1, gate, now, &mut next),
            Gate::Open if self.max_in_flight < connected => {
                self.turns(loads, self.max_in_flight, gate, now, &mut next)
            }
            Gate::Open => {
                self.no_shares();
                shares(self.max_in_flight, loads)
            }
        };

        // First all that fall, so that those that rise find the room.
        for ((link, load), share) in self.links.iter_mut().zip(loads).zip(&shares) {
            link.fall(load, *share, now);
        }
        let is_choked = self.links.iter().any(|link| link.choked);
        let is_short = self.rise(loads, &shares, now, &mut next);
        let told = |(link, share): (&LinkPlan, &u64)| {
            let hold = match (link.rdy, link.choked, gate) {
                (1.., ..) => None,
                (_, true, _) => Some(Hold::TimedOut),
                (_, _, Gate::Shut | Gate::Probe) => Some(Hold::Backoff),
                (_, _, Gate::Open) if *share == 0 => Some(Hold::Turn),
                (_, _, Gate::Open) => Some(Hold::Room),
            };
            LinkRdy { rdy: link.rdy, hold }
        };
        let links = self.links.iter().zip(&shares).map(told).collect();
        Plan { links, constrained: is_choked || is_short, next }
    }

    /// Raises RDY to the shares, as far as there is room; true if some link is left below its share. `next` becomes
    /// when room may come of itself.
    fn rise(
        &mut self,
        loads: &[LinkLoad],
        shares: &[u64],
        now: Instant,
        next: &mut Option<Instant>,
    ) -> bool {
        let left_over: u64 = loads.iter().map(|load| load.left_over).sum();
        let reserved = |links: &[LinkPlan]| -> u64 {
            links.iter().zip(loads).map(|(link, load)| link.reserved(load, now)).sum()
        };
        // Who waits longest for room comes first: where turns are shorter than what falls takes to settle, others
        // would take all the room there is before the last ever got some.
        let mut rising: Vec<usize> = (0..shares.len()).collect();
        rising.sort_by_key(|index| {
            let since = self.links[*index].short_since;
            (since.is_none(), since)
        });
        let mut is_short = false;
        for (index, share) in rising.into_iter().map(|index| (index, shares[index])) {
            if self.links[index].choked || self.links[index].rdy == share {
                self.links[index].short_since = None;
                continue;
            }
            let own = self.links[index].reserved(&loads[index], now);
            let elsewhere = reserved(&self.links) - own + left_over;
            let rdy = self.max_in_flight.saturating_sub(elsewhere).min(share);
            if rdy >= share {
                self.links[index].short_since = None;
            } else {
                self.links[index].short_since.get_or_insert(now);
                is_short = true;
                let settling = self.links.iter().filter_map(|link| link.settling);
                let settled = settling.map(|(_, until)| until).filter(|until| now < *until);
                *next = (*next).into_iter().chain(settled).min();
            }
            self.links[index].rdy = rdy.max(self.links[index].rdy);
        }
        is_short
    }

    fn no_shares(&mut self) -> Vec<u64> {
        for link in &mut self.links {
            (link.turn, link.waits_since) = (None, None);
        }
        vec![0; self.links.len()]
    }

    /// RDY 1 for `places` connections in turn.
    fn turns(
        &mut self,
        loads: &[LinkLoad],
        places: u64,
        gate: Gate,
        now: Instant,
        next: &mut Option<Instant>,
    ) -> Vec<u64> {
        let connected = loads.iter().filter(|load| load.max_rdy.is_some()).count() as u64;
        // A turn ends early enough that the next one can begin in time.
        let rounds = u32::try_from(connected.div_ceil(places)).unwrap_or(u32::MAX).max(1);
        let turn_len = (self.round / rounds).saturating_sub(SETTLE).max(SETTLE);
        let probe = gate == Gate::Probe;
        for (link, load) in self.links.iter_mut().zip(loads) {
            if load.max_rdy.is_none() {
                continue;
            }
            let rdy = link.rdy;
            if let Some(turn) = &mut link.turn {
                if rdy == 0 {
                    // There was no room: it begins when there is.
                    (turn.since, turn.active) = (now, now);
                }
                // What is held from before a backoff is no sign of life: RDY 1 may not even let one through.
                let busy = load.in_flight > 0 && (!probe || load.messages != turn.first);
                if load.messages != turn.messages || busy {
                    (turn.messages, turn.active) = (load.messages, now);
                }
                let over = !probe && now >= turn.since + turn_len;
                if connected > places && (over || now >= turn.active + self.idle_turn) {
                    link.turn = None;
                    link.waits_since = Some(now);
                }
            } else {
                link.waits_since.get_or_insert(now);
            }
        }
        let taken = self.links.iter().filter(|link| link.turn.is_some()).count() as u64;
        let mut waiting: Vec<usize> = (0..loads.len())
            .filter(|index| loads[*index].max_rdy.is_some() && self.links[*index].turn.is_none())
            .collect();
        // RDY 1 may let no probe through where something is held from before.
        let blocked = |index: usize| probe && loads[index].in_flight > 0;
        waiting.sort_by_key(|index| (blocked(*index), self.links[*index].waits_since));
        let free = usize::try_from(places.saturating_sub(taken)).unwrap_or(usize::MAX);
        for index in waiting.into_iter().take(free) {
            let messages = loads[index].messages;
            let link = &mut self.links[index];
            link.turn = Some(Turn { since: now, first: messages, messages, active: now });
            link.waits_since = None;
        }
        if connected > places {
            let ends = self.links.iter().filter_map(|link| link.turn).map(|turn| {
                let idle = turn.active + self.idle_turn;
                if probe { idle } else { idle.min(turn.since + turn_len) }
            });
            *next = (*next).into_iter().chain(ends).min();
        }
        self.links.iter().map(|link| u64::from(link.turn.is_some())).collect()
    }
}

/// Equal shares, but to nobody more than it can use: what is left goes to the others.
fn shares(max_in_flight: u64, loads: &[LinkLoad]) -> Vec<u64> {
    let mut shares = vec![0; loads.len()];
    let useful = |index: usize| loads[index].max_rdy.map(|max_rdy| loads[index].want.min(max_rdy));
    let mut order: Vec<_> =
        (0..loads.len()).filter_map(|index| Some((useful(index)?, index))).collect();
    order.sort_unstable();
    let (mut left, mut links) = (max_in_flight, order.len() as u64);
    for (useful, index) in order {
        shares[index] = useful.min(left.div_ceil(links));
        left -= shares[index];
        links -= 1;
    }
    shares
}

#[cfg(test)]
mod tests;
