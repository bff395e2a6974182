//! Tests of `rdy`.

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
fn check(planner: &mut Planner, loads: &[LinkLoad], now: Instant, want: &[u64], constrained: bool) {
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
        for ((load, came), served_at) in self.loads.iter_mut().zip(came).zip(&mut self.served_at) {
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
