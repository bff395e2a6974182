//! How many messages each connection may have in flight: a fixed share of `max_in_flight` (pure).
//!
//! The machine that follows the load will take the place of [`Planner::plan`]; that is what `now` is for.
//!
//! RDY is a level: nsqd sends while fewer than RDY messages are in flight. It never recalls any, and it counts a
//! message that timed out as no longer in flight although we still hold it.

use std::time::Instant;

/// One nsqd, as the planner sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkLoad {
    /// nsqd's `max_rdy_count` while connected.
    pub(crate) max_rdy: Option<u64>,
    /// Messages held that came on the present connection.
    pub(crate) in_flight: u64,
    /// Messages held that came on earlier connections of this nsqd.
    pub(crate) left_over: u64,
}

/// Who may have how many.
#[derive(Debug)]
pub(crate) struct Planner {
    max_in_flight: u64,
    links: Vec<LinkPlan>,
}

#[derive(Clone, Debug, Default)]
struct LinkPlan {
    rdy: u64,
    /// What may rightly be held: RDY, or the higher one before it until its messages are answered.
    ceiling: u64,
    /// More is held than nsqd was allowed to send: messages timed out there. RDY stays 0 until half is answered,
    /// or a stuck handler would be given all of its messages again at each timeout.
    choked: bool,
}

impl Planner {
    pub(crate) fn new(max_in_flight: u64) -> Self {
        Self { max_in_flight, links: Vec::new() }
    }

    /// The RDY of each link, and whether some is below its share until messages are answered.
    ///
    /// The sum of what is allowed and what is held never goes over `max_in_flight` because of a rise planned here.
    pub(crate) fn plan(&mut self, loads: &[LinkLoad], _now: Instant) -> (Vec<u64>, bool) {
        // Links come and go. One that was planned for with a connection is planned for without, before it goes.
        self.links.resize(loads.len(), LinkPlan::default());
        let connected = loads.iter().filter(|load| load.max_rdy.is_some()).count() as u64;
        let mut constrained = false;
        let mut extra = self.max_in_flight.checked_rem(connected).unwrap_or(0);
        let shares: Vec<u64> = loads
            .iter()
            .map(|load| {
                let Some(max_rdy) = load.max_rdy else { return 0 };
                let share = self.max_in_flight / connected + u64::from(extra > 0);
                extra = extra.saturating_sub(1);
                share.min(max_rdy)
            })
            .collect();

        // First all that fall, so that those that rise find the room.
        for ((plan, load), share) in self.links.iter_mut().zip(loads).zip(&shares) {
            plan.ceiling = if load.in_flight > *share { plan.ceiling.max(*share) } else { *share };
            if load.in_flight > plan.ceiling {
                plan.choked = true;
            } else if load.in_flight <= share / 2 {
                plan.choked = false;
            }
            if load.max_rdy.is_none() {
                *plan = LinkPlan::default();
            } else if plan.choked {
                plan.rdy = 0;
            } else {
                plan.rdy = plan.rdy.min(*share);
            }
            constrained |= plan.choked;
        }
        for (index, share) in shares.iter().enumerate() {
            if self.links[index].choked || self.links[index].rdy == *share {
                continue;
            }
            let elsewhere: u64 = (0..loads.len())
                .filter(|other| *other != index)
                .map(|other| self.links[other].rdy.max(loads[other].in_flight))
                .sum();
            let left_over: u64 = loads.iter().map(|load| load.left_over).sum();
            let room = self.max_in_flight.saturating_sub(elsewhere + left_over);
            let rdy = room.min(*share);
            constrained |= rdy < *share;
            self.links[index].rdy = rdy;
        }
        (self.links.iter().map(|plan| plan.rdy).collect(), constrained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn up(in_flight: u64) -> LinkLoad {
        LinkLoad { max_rdy: Some(2500), in_flight, left_over: 0 }
    }

    #[track_caller]
    fn check(planner: &mut Planner, loads: &[LinkLoad], want: &[u64], constrained: bool) {
        assert_eq!(planner.plan(loads, Instant::now()), (want.to_vec(), constrained));
    }

    #[test]
    fn a_share_is_clamped_to_what_nsqd_takes() {
        check(&mut Planner::new(10_000), &[up(0)], &[2500], false);
        check(&mut Planner::new(10), &[up(0), up(0), up(0)], &[4, 3, 3], false);
        check(&mut Planner::new(2), &[up(0), up(0), up(0)], &[1, 1, 0], false);
        check(&mut Planner::new(10), &[LinkLoad::default(), up(0)], &[0, 10], false);
        check(&mut Planner::new(10), &[LinkLoad::default()], &[0], false);
    }

    #[test]
    fn a_new_connection_waits_for_the_room_that_the_old_one_still_takes() {
        let mut planner = Planner::new(10);
        check(&mut planner, &[up(0), LinkLoad::default()], &[10, 0], false);
        check(&mut planner, &[up(8), up(0)], &[5, 2], true);
        check(&mut planner, &[up(7), up(2)], &[5, 3], true);
        check(&mut planner, &[up(5), up(2)], &[5, 5], false);
    }

    #[test]
    fn messages_of_a_lost_connection_take_room_until_answered() {
        let mut planner = Planner::new(10);
        let left_over = |left_over| LinkLoad { left_over, ..up(0) };
        check(&mut planner, &[left_over(7)], &[3], true);
        check(&mut planner, &[left_over(0)], &[10], false);
    }

    #[test]
    fn timeouts_at_nsqd_choke_until_half_is_answered() {
        let mut planner = Planner::new(10);
        check(&mut planner, &[up(0)], &[10], false);
        check(&mut planner, &[up(10)], &[10], false);
        check(&mut planner, &[up(11)], &[0], true);
        check(&mut planner, &[up(6)], &[0], true);
        check(&mut planner, &[up(5)], &[10], false);
    }

    proptest! {
        #[test]
        fn a_rise_never_goes_over_the_limit(
            max in 1u64..200,
            steps in proptest::collection::vec(proptest::collection::vec((any::<bool>(), 0u64..100, 0u64..3), 3), 1..30),
        ) {
            let mut planner = Planner::new(max);
            let mut before = vec![0; 3];
            for step in steps {
                let loads: Vec<_> = step
                    .iter()
                    .map(|(up, in_flight, left_over)| LinkLoad {
                        max_rdy: up.then_some(50),
                        in_flight: if *up { *in_flight } else { 0 },
                        left_over: *left_over,
                    })
                    .collect();
                let (rdy, _) = planner.plan(&loads, Instant::now());
                prop_assert!(rdy.iter().sum::<u64>() <= max);
                let held: u64 = loads.iter().map(|load| load.left_over).sum::<u64>()
                    + rdy.iter().zip(&loads).map(|(rdy, load)| (*rdy).max(load.in_flight)).sum::<u64>();
                if rdy.iter().zip(&before).any(|(now, before)| now > before) {
                    let risen_in_flight_excess: u64 = rdy
                        .iter()
                        .zip(&loads)
                        .map(|(rdy, load)| load.in_flight.saturating_sub(*rdy))
                        .sum();
                    prop_assert!(held <= max + risen_in_flight_excess);
                }
                before = rdy;
            }
        }
    }
}
