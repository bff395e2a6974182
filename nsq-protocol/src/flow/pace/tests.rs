//! Tests of `pace`.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

const STEP: Duration = Duration::from_micros(10);

/// Messages that fill nsqd's buffer.
const BUFFER: usize = 100;

/// nsqd as it flushes, a way of some steps to it and back, and workers that take their time for each message.
struct Model {
    pace: Pace,
    start: Instant,
    step: u64,
    /// Steps between messages, from when on; a burst is many at once.
    interval: u64,
    way: u64,
    handling: u64,
    /// Messages that nsqd can send in a step.
    speed: u64,
    next_message: u64,
    queue: VecDeque<u64>,
    buffer: Vec<u64>,
    nsqd_rdy: u64,
    nsqd_in_flight: u64,
    /// With when they arrive.
    to_client: VecDeque<(u64, Vec<u64>)>,
    rdys: VecDeque<(u64, u64)>,
    fins: VecDeque<u64>,
    held: VecDeque<u64>,
    /// When the worker is done with the first of those held.
    done: Option<u64>,
    latencies: Vec<u64>,
    handled: u64,
    changes: u64,
    fixed: Option<u64>,
}

impl Model {
    fn new(interval: u64, way: u64, handling: u64) -> Self {
        let start = Instant::now();
        let mut model = Self {
            pace: Pace::new(2500, start),
            start,
            step: 0,
            interval,
            way,
            handling,
            speed: 4,
            next_message: 0,
            queue: VecDeque::new(),
            buffer: Vec::new(),
            nsqd_rdy: 0,
            nsqd_in_flight: 0,
            to_client: VecDeque::new(),
            rdys: VecDeque::new(),
            fins: VecDeque::new(),
            held: VecDeque::new(),
            done: None,
            latencies: Vec::new(),
            handled: 0,
            changes: 0,
            fixed: None,
        };
        model.tell();
        model
    }

    fn fixed(mut self, rdy: u64) -> Self {
        self.fixed = Some(rdy);
        self.tell();
        self
    }

    fn now(&self) -> Instant {
        self.start + STEP * self.step as u32
    }

    fn tell(&mut self) {
        let (now, in_flight) = (self.now(), self.held.len() as u64);
        let rdy = self.fixed.unwrap_or(self.pace.want());
        self.pace.told(rdy, in_flight, now);
        self.rdys.push_back((self.step + self.way, rdy));
        self.changes += 1;
    }

    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            let messages = std::mem::take(&mut self.buffer);
            self.to_client.push_back((self.step + self.way, messages));
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.step + (time.as_nanos() / STEP.as_nanos()) as u64;
        while self.step < end {
            self.step += 1;
            while self.step >= self.next_message {
                self.queue.push_back(self.step);
                self.next_message += self.interval;
            }
            while let Some((_, rdy)) = self.rdys.pop_front_if(|(at, _)| *at <= self.step) {
                self.nsqd_rdy = rdy;
            }
            while self.fins.pop_front_if(|at| *at <= self.step).is_some() {
                self.nsqd_in_flight -= 1;
            }
            for _ in 0..self.speed {
                if self.nsqd_in_flight >= self.nsqd_rdy {
                    self.flush();
                    break;
                }
                let Some(message) = self.queue.pop_front() else { break };
                self.nsqd_in_flight += 1;
                self.buffer.push(message);
            }
            // The ticker of 25 ms.
            if self.nsqd_in_flight >= self.nsqd_rdy
                || self.buffer.len() >= BUFFER
                || self.step.is_multiple_of(2500)
            {
                self.flush();
            }
            self.client();
        }
    }

    fn client(&mut self) {
        while let Some((_, messages)) = self.to_client.pop_front_if(|(at, _)| *at <= self.step) {
            let read = Arrival {
                in_flight: self.held.len() as u64,
                messages: messages.len() as u64,
                // By another clock.
                published_ns: Some(messages[0] as i64 * 10_000 + 1_700_000_000_000_000_000),
                queued: self.held.len().saturating_sub(1) as u64,
                starving: self.held.is_empty(),
            };
            self.held.extend(&messages);
            if self.pace.read(read, self.now()) {
                self.tell();
            }
        }
        if self.pace.tick(self.held.len() as u64, self.now()) {
            self.tell();
        }
        let rdy = self.fixed.unwrap_or(self.pace.want());
        // The first of those held is in the worker's hands.
        while let Some(message) = self.held.front() {
            let done = *self.done.get_or_insert_with(|| {
                self.latencies.push(self.step - message);
                self.step + self.handling
            });
            if done > self.step {
                break;
            }
            (self.done, self.handled) = (None, self.handled + 1);
            self.held.pop_front();
            self.fins.push_back(self.step + self.way);
            if (self.held.len() as u64) < rdy {
                self.pace.room(self.now());
            }
        }
    }

    /// Runs for a while, forgets what it saw, and runs again.
    fn settled(mut self) -> Self {
        self.run(Duration::from_millis(500));
        (self.handled, self.changes) = (0, 0);
        self.latencies.clear();
        self.run(Duration::from_secs(1));
        self
    }

    fn latency_us(&mut self, percent: usize) -> u64 {
        self.latencies.sort_unstable();
        self.latencies[(self.latencies.len() - 1) * percent / 100] * 10
    }
}

#[test]
fn a_quiet_channel_has_the_latency_of_rdy_1_and_rdy_stays() {
    for interval in [10_000, 1000, 100] {
        let mut adaptive = Model::new(interval, 3, 1).settled();
        let mut one = Model::new(interval, 3, 1).fixed(1).settled();
        assert_eq!(adaptive.latency_us(99), one.latency_us(99), "every {interval} steps");
        assert!(adaptive.changes <= 2, "{} changes", adaptive.changes);
    }
}

#[test]
fn at_ten_thousand_a_second_messages_wait_for_little_company() {
    let mut adaptive = Model::new(10, 3, 1).settled();
    assert!(adaptive.latency_us(99) <= 600, "{}", adaptive.latency_us(99));
    assert!(adaptive.changes <= 10, "{} changes", adaptive.changes);
}

#[test]
fn a_backlog_flows_as_with_a_fixed_rdy_near_and_far() {
    for way in [3, 100, 2000] {
        let model = |fixed: bool| {
            let mut model = Model::new(1_000_000, way, 0);
            model.queue.extend((0..1_000_000).map(|_| 0));
            if fixed { model.fixed(2500) } else { model }
        };
        let (mut adaptive, mut fixed) = (model(false), model(true));
        // The way up costs the time of a few hundred ways there and back at most.
        let time = Duration::from_secs(1);
        adaptive.run(time);
        let start = adaptive.handled;
        adaptive.run(time);
        fixed.run(time);
        let before = fixed.handled;
        fixed.run(time);
        let rates = (adaptive.handled - start, fixed.handled - before);
        assert!(
            rates.0 * 100 >= rates.1 * 95,
            "{rates:?}, way {way}, RDY {}",
            adaptive.pace.want()
        );
    }
}

#[test]
fn slow_workers_are_kept_busy_without_a_hoard() {
    // 10 ms each.
    let mut model = Model::new(100, 3, 1000);
    model.queue.extend((0..100_000).map(|_| 0));
    let model = model.settled();
    assert!((99..=101).contains(&model.handled), "{}", model.handled);
    assert!(model.pace.want() <= 8, "RDY {}", model.pace.want());
}

#[test]
fn a_burst_is_over_soon_and_its_end_is_fetched() {
    let mut model = Model::new(1_000_000, 3, 1);
    for _ in 0..20 {
        model.queue.extend(std::iter::repeat_n(model.step, 777));
        model.latencies.clear();
        model.run(Duration::from_millis(200));
        assert_eq!(model.held.len() + model.buffer.len() + model.queue.len(), 0);
        assert!(model.latency_us(100) < 40_000, "{}", model.latency_us(100));
    }
}

#[test]
fn a_load_that_ends_leaves_the_latency_of_rdy_1() {
    let mut model = Model::new(1, 3, 0);
    model.run(Duration::from_millis(300));
    assert!(model.pace.want() > 1);
    model.interval = 1000;
    let mut quiet = model.settled();
    assert!(quiet.latency_us(99) <= 100, "{}", quiet.latency_us(99));
    assert_eq!(quiet.pace.want(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_starves_and_rdy_stays_in_its_bounds(
        way in 1u64..300,
        loads in proptest::collection::vec((1u64..2000, 0u64..20), 1..8),
    ) {
        let mut model = Model::new(1000, way, 1);
        for (interval, handling) in loads {
            (model.interval, model.handling) = (interval, handling);
            model.run(Duration::from_millis(50));
            prop_assert!((1..=2500).contains(&model.pace.want()));
        }
        // All that is left is handled in the end: the RDY that is left is enough for that.
        (model.interval, model.handling) = (1_000_000, 0);
        model.next_message = u64::MAX;
        model.run(Duration::from_secs(3));
        prop_assert_eq!(model.queue.len() + model.buffer.len() + model.held.len(), 0);
    }
}

#[test]
fn messages_that_take_long_have_as_many_asked_for_as_there_are_workers() {
    let ms = Duration::from_millis;
    let start = Instant::now();
    let one = |in_flight| Arrival {
        in_flight,
        messages: 1,
        published_ns: None,
        queued: 0,
        starving: true,
    };
    let mut pace = Pace::new(2500, start);
    pace.expect_workers(4);
    assert_eq!(pace.want(), 4);
    pace.told(4, 0, start);
    // Nothing comes: one at a time comes at once.
    assert!(pace.tick(0, start + ms(2)));
    assert_eq!(pace.want(), 1);
    pace.told(1, 0, start + ms(2));
    assert_eq!(pace.next_tick(), None);
    // One comes and is answered at once: nothing more is asked for.
    pace.read(one(0), start + ms(10));
    assert_eq!(pace.next_tick(), Some(start + ms(11)));
    pace.room(start + ms(10));
    assert_eq!((pace.next_tick(), pace.want()), (None, 1));
    // One comes and is not.
    pace.read(one(0), start + ms(20));
    assert!(!pace.tick(1, start + ms(20)));
    assert!(pace.tick(1, start + ms(21)));
    assert_eq!(pace.want(), 4);
    // Told less, for want of room elsewhere, it waits for that.
    pace.told(1, 1, start + ms(21));
    assert_eq!(pace.next_tick(), None);
    pace.told(4, 1, start + ms(21));
    // No other comes: the next one is not to wait for company.
    assert!(pace.tick(1, start + ms(23)));
    assert_eq!(pace.want(), 2);
    pace.told(2, 1, start + ms(23));
    pace.read(one(1), start + ms(30));
    assert!(pace.tick(2, start + ms(31)));
    assert_eq!(pace.want(), 4);
    // As many as the connection takes, at most.
    let mut pace = Pace::new(3, start);
    pace.expect_workers(16);
    assert_eq!(pace.want(), 3);
}

#[test]
fn slow_workers_hoard_no_more_than_as_many_again() {
    let start = Instant::now();
    let mut pace = Pace::new(2500, start);
    pace.expect_workers(4);
    pace.told(4, 0, start);
    // A backlog, and workers that are slow to wake: whatever came before, some of them still wait.
    let mut in_flight = 0;
    for step in 1..100 {
        let now = start + Duration::from_millis(step);
        if in_flight < pace.want() {
            let (published_ns, queued) = (Some(0), in_flight);
            let read = Arrival { in_flight, messages: 1, published_ns, queued, starving: true };
            pace.read(read, now);
            in_flight += 1;
            pace.told(pace.want(), in_flight, now);
        }
    }
    assert_eq!(pace.want(), 8);
}
