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
}

/// What one connection is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) rdy: u64,
    /// Why it is 0, if it is.
    pub(crate) hold: Option<Hold>,
}

/// What all connections are told.
#[derive(Debug)]
pub(crate) struct Plan {
    /// By the index of the load.
    pub(crate) links: Vec<Told>,
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
        let mut constrained = self.links.iter().any(|link| link.choked);
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
        for (index, share) in rising.into_iter().map(|index| (index, &shares[index])) {
            if self.links[index].choked || self.links[index].rdy == *share {
                self.links[index].short_since = None;
                continue;
            }
            let own = self.links[index].reserved(&loads[index], now);
            let elsewhere = reserved(&self.links) - own + left_over;
            let rdy = self.max_in_flight.saturating_sub(elsewhere).min(*share);
            if rdy >= *share {
                self.links[index].short_since = None;
            } else {
                self.links[index].short_since.get_or_insert(now);
                constrained = true;
                let settling = self.links.iter().filter_map(|link| link.settling);
                let settled = settling.map(|(_, until)| until).filter(|until| now < *until);
                next = next.into_iter().chain(settled).min();
            }
            self.links[index].rdy = rdy.max(self.links[index].rdy);
        }
        let told = |(link, share): (&LinkPlan, &u64)| {
            let hold = match (link.rdy, link.choked, gate) {
                (1.., ..) => None,
                (_, true, _) => Some(Hold::TimedOut),
                (_, _, Gate::Shut | Gate::Probe) => Some(Hold::Backoff),
                (_, _, Gate::Open) if *share == 0 => Some(Hold::Turn),
                (_, _, Gate::Open) => Some(Hold::Room),
            };
            Told { rdy: link.rdy, hold }
        };
        let links = self.links.iter().zip(&shares).map(told).collect();
        Plan { links, constrained, next }
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn up(in_flight: u64) -> LinkLoad {
        LinkLoad { max_rdy: Some(2500), want: u64::MAX, in_flight, ..LinkLoad::default() }
    }

    const ROUND: Duration = Duration::from_secs(30);
    const IDLE: Duration = Duration::from_secs(1);

    fn planner(max_in_flight: u64) -> Planner {
        Planner::new(max_in_flight, ROUND, IDLE)
    }

    fn rdy(plan: &Plan) -> Vec<u64> {
        plan.links.iter().map(|told| told.rdy).collect()
    }

    #[track_caller]
    fn check(
        planner: &mut Planner,
        loads: &[LinkLoad],
        now: Instant,
        want: &[u64],
        constrained: bool,
    ) {
        let plan = planner.plan(loads, Gate::Open, now);
        assert_eq!((rdy(&plan), plan.constrained), (want.to_vec(), constrained));
    }

    #[test]
    fn a_share_is_clamped_to_what_nsqd_takes_and_the_rest_goes_to_others() {
        let (now, gone) = (Instant::now(), LinkLoad::default());
        let small = |max_rdy| LinkLoad { max_rdy: Some(max_rdy), ..up(0) };
        let quiet = |want| LinkLoad { want, ..up(0) };
        check(&mut planner(10_000), &[up(0)], now, &[2500], false);
        check(&mut planner(10), &[up(0), up(0), up(0)], now, &[4, 3, 3], false);
        check(&mut planner(10), &[gone.clone(), up(0)], now, &[0, 10], false);
        check(&mut planner(10), &[gone], now, &[0], false);
        check(&mut planner(100), &[small(5), up(0), small(20)], now, &[5, 75, 20], false);
        check(&mut planner(100), &[quiet(1), up(0), up(0)], now, &[1, 50, 49], false);
        check(&mut planner(100), &[quiet(1), quiet(3)], now, &[1, 3], false);
    }

    #[test]
    fn a_new_connection_waits_until_the_old_one_has_settled_and_answered() {
        let (mut planner, start) = (planner(10), Instant::now());
        check(&mut planner, &[up(0), LinkLoad::default()], start, &[10, 0], false);
        // Ten may be on their way.
        let plan = planner.plan(&[up(0), up(0)], Gate::Open, start);
        assert_eq!((rdy(&plan), plan.next), (vec![5, 0], Some(start + SETTLE)));
        assert_eq!(plan.links[1].hold, Some(Hold::Room));
        check(&mut planner, &[up(8), up(0)], start + SETTLE, &[5, 2], true);
        check(&mut planner, &[up(7), up(2)], start + SETTLE, &[5, 3], true);
        check(&mut planner, &[up(5), up(2)], start + SETTLE, &[5, 5], false);
    }

    #[test]
    fn messages_of_a_lost_connection_take_room_until_answered() {
        let (mut planner, now) = (planner(10), Instant::now());
        let left_over = |left_over| LinkLoad { left_over, ..up(0) };
        check(&mut planner, &[left_over(7)], now, &[3], true);
        check(&mut planner, &[left_over(0)], now, &[10], false);
    }

    #[test]
    fn timeouts_at_nsqd_choke_until_half_is_answered() {
        let (mut planner, now) = (planner(10), Instant::now());
        check(&mut planner, &[up(0)], now, &[10], false);
        check(&mut planner, &[up(10)], now, &[10], false);
        check(&mut planner, &[up(11)], now, &[0], true);
        assert_eq!(planner.plan(&[up(6)], Gate::Open, now).links[0].hold, Some(Hold::TimedOut));
        check(&mut planner, &[up(5)], now, &[10], false);
    }

    #[test]
    fn what_was_on_its_way_when_rdy_fell_chokes_nobody() {
        let (mut planner, now) = (planner(10), Instant::now());
        check(&mut planner, &[up(0)], now, &[10], false);
        check(&mut planner, &[LinkLoad { want: 1, ..up(0) }], now, &[1], false);
        check(&mut planner, &[LinkLoad { want: 1, ..up(10) }], now, &[1], false);
        check(&mut planner, &[LinkLoad { want: 1, ..up(9) }], now + 2 * SETTLE, &[1], false);
    }

    #[test]
    fn a_backoff_stops_all_and_probes_one_and_the_next_if_that_is_idle() {
        let (mut planner, start) = (planner(10), Instant::now());
        let loads = [LinkLoad::default(), up(3), up(0)];
        check(&mut planner, &loads, start, &[0, 5, 5], false);
        let shut = planner.plan(&loads, Gate::Shut, start);
        assert_eq!(rdy(&shut), [0, 0, 0]);
        assert_eq!(shut.links[1].hold, Some(Hold::Backoff));
        let probe = start + SETTLE;
        // First the one that holds nothing from before.
        let plan = planner.plan(&loads, Gate::Probe, probe);
        assert_eq!((rdy(&plan), plan.next), (vec![0, 0, 1], Some(probe + IDLE)));
        // Idle as it is, it stays the better one until the other has answered.
        assert_eq!(rdy(&planner.plan(&loads, Gate::Probe, probe + IDLE)), [0, 0, 1]);
        let free = [LinkLoad::default(), up(0), up(0)];
        assert_eq!(rdy(&planner.plan(&free, Gate::Probe, probe + 2 * IDLE)), [0, 1, 0]);
        assert_eq!(rdy(&planner.plan(&free, Gate::Probe, probe + 3 * IDLE)), [0, 0, 1]);
        let probe = probe + 3 * IDLE;
        // A message came: however long it takes, no other one is asked for.
        let handled = LinkLoad { messages: 1, ..up(1) };
        let loads = [LinkLoad::default(), up(0), handled];
        for seconds in 1..100 {
            let now = probe + seconds * IDLE;
            assert_eq!(rdy(&planner.plan(&loads, Gate::Probe, now)), [0, 0, 1]);
        }
        // Its connection is lost.
        let loads = [LinkLoad::default(), up(0), LinkLoad { left_over: 1, ..LinkLoad::default() }];
        assert_eq!(rdy(&planner.plan(&loads, Gate::Probe, probe + 200 * IDLE)), [0, 1, 0]);
        assert_eq!(rdy(&planner.plan(&loads, Gate::Open, probe + 200 * IDLE)), [0, 9, 0]);
    }

    /// A model of nsqds with messages, and of a consumer that answers at once; steps of 5 ms. RDY reaches nsqd a
    /// step later, and messages reach the consumer a step later.
    struct Model {
        planner: Planner,
        start: Instant,
        step: u32,
        /// For each nsqd: queued there, its RDY, in flight by its count.
        nsqds: Vec<(u64, u64, u64)>,
        loads: Vec<LinkLoad>,
        told: Vec<u64>,
        served_at: Vec<u32>,
    }

    const STEP: Duration = Duration::from_millis(5);

    impl Model {
        fn new(max_in_flight: u64, queued: &[u64]) -> Self {
            Self {
                planner: planner(max_in_flight),
                start: Instant::now(),
                step: 0,
                nsqds: queued.iter().map(|queued| (*queued, 0, 0)).collect(),
                loads: queued.iter().map(|_| up(0)).collect(),
                told: vec![0; queued.len()],
                served_at: vec![0; queued.len()],
            }
        }

        /// One step; `answers` of the held messages are answered. Returns how many are held at its peak.
        fn step(&mut self, mut answers: u64) -> u64 {
            self.step += 1;
            let mut came = Vec::new();
            for (index, (queued, rdy, in_flight)) in self.nsqds.iter_mut().enumerate() {
                // By the RDY of the step before: the new one is on its way.
                let sent = rdy.saturating_sub(*in_flight).min(*queued);
                *queued -= sent;
                *in_flight += sent;
                came.push(sent);
                *rdy = self.told[index];
            }
            for ((load, came), served_at) in
                self.loads.iter_mut().zip(came).zip(&mut self.served_at)
            {
                load.in_flight += came;
                load.messages += came;
                if came > 0 {
                    *served_at = self.step;
                }
            }
            let peak = self.loads.iter().map(|load| load.in_flight).sum();
            for (load, nsqd) in self.loads.iter_mut().zip(&mut self.nsqds) {
                let answered = answers.min(load.in_flight);
                answers -= answered;
                load.in_flight -= answered;
                nsqd.2 -= answered;
            }
            let plan = self.planner.plan(&self.loads, Gate::Open, self.start + self.step * STEP);
            self.told = rdy(&plan);
            peak
        }

        fn is_drained(&self) -> bool {
            self.nsqds.iter().all(|(queued, _, in_flight)| queued + in_flight == 0)
        }
    }

    #[test]
    fn five_nsqds_are_drained_by_two_in_flight() {
        let mut model = Model::new(2, &[300, 0, 40, 7, 1]);
        while !model.is_drained() {
            assert!(model.step(2) <= 2);
            assert!(model.step < 60 * 200, "not drained in a minute: {:?}", model.nsqds);
        }
    }

    #[test]
    fn every_nsqd_is_served_in_time_although_others_stay_busy() {
        for (max_in_flight, nsqds) in [(1, 20), (2, 5), (3, 4)] {
            let mut model = Model::new(max_in_flight, &vec![1_000_000; nsqds]);
            let round = (ROUND.as_millis() / STEP.as_millis()) as u32;
            for _ in 0..10 * round {
                assert!(model.step(u64::MAX) <= max_in_flight);
                let oldest = model.served_at.iter().min().unwrap();
                assert!(model.step - oldest <= round, "{:?} at {}", model.served_at, model.step);
            }
        }
    }

    #[test]
    fn a_busy_nsqd_is_found_soon_among_idle_ones() {
        let mut queued = vec![0; 20];
        queued[19] = 1;
        let mut model = Model::new(1, &queued);
        while !model.is_drained() {
            model.step(1);
        }
        // 19 idle turns before it.
        assert!(model.step * STEP < 20 * (IDLE + SETTLE + 4 * STEP), "{:?}", model.step * STEP);
    }

    proptest! {
        #[test]
        fn never_more_than_max_in_flight_while_connections_come_and_go(
            max in 1u64..30,
            steps in proptest::collection::vec((any::<u64>(), 0usize..6, 0u64..40, 1u64..60), 1..300),
        ) {
            let mut model = Model::new(max, &[1_000_000; 5]);
            for (random, index, answers, want) in steps {
                if index < 5 {
                    // It goes, with what it holds, or it comes, or it wants another RDY.
                    let load = &mut model.loads[index];
                    if random % 5 == 0 && load.max_rdy.is_some() {
                        *load = LinkLoad { left_over: load.in_flight + load.left_over, ..LinkLoad::default() };
                        (model.nsqds[index].1, model.nsqds[index].2) = (0, 0);
                        model.told[index] = 0;
                    } else {
                        let messages = load.messages;
                        *load = LinkLoad { want, messages, max_rdy: Some(50), ..load.clone() };
                        load.left_over -= load.left_over.min(answers);
                    }
                }
                let peak = model.step(answers % 7);
                let left_over: u64 = model.loads.iter().map(|load| load.left_over).sum();
                prop_assert!(peak + left_over <= max, "{peak} + {left_over} of {max}");
            }
        }

        #[test]
        fn whatever_is_held_the_sum_of_rdy_stays_within_the_limit(
            max in 1u64..200,
            steps in proptest::collection::vec(
                (proptest::collection::vec((any::<bool>(), 0u64..100, 0u64..3, 1u64..80), 3), 0u64..3),
                1..30,
            ),
        ) {
            let (mut planner, start) = (planner(max), Instant::now());
            for (number, (step, gate)) in steps.into_iter().enumerate() {
                let loads: Vec<_> = step
                    .iter()
                    .map(|(up, in_flight, left_over, want)| LinkLoad {
                        max_rdy: up.then_some(50),
                        want: *want,
                        in_flight: if *up { *in_flight } else { 0 },
                        left_over: *left_over,
                        messages: 0,
                    })
                    .collect();
                let gate = [Gate::Open, Gate::Shut, Gate::Probe][gate as usize];
                let rdy = rdy(&planner.plan(&loads, gate, start + number as u32 * STEP));
                let limit = match gate {
                    Gate::Open => max,
                    Gate::Shut => 0,
                    Gate::Probe => 1,
                };
                prop_assert!(rdy.iter().sum::<u64>() <= limit);
                for (rdy, load) in rdy.iter().zip(&loads) {
                    prop_assert!(*rdy <= load.max_rdy.unwrap_or(0));
                }
            }
        }
    }
}
