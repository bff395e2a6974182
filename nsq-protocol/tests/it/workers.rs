//! The workers of `Consumer::run`: none is idle while a message waits, and their stop ends whatever they do.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nsq_protocol::thread::{StopToken, stop_pair};
use nsq_protocol::{
    BodiesBuf, Consumer, ConsumerConfig, Delivery, Frame, MessageRef, Producer, RdyMode,
    RunningConsumer,
};

use crate::nsqd::{Nsqd, nsqd_or_skip};
use crate::script::{Script, config, frame, id, producer_config};
use crate::timing::{DEADLINE, check_takes_less};

fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

/// Of `topic` at `nsqd`, with that RDY.
fn consumer_of(nsqd: &Nsqd, topic: &str, rdy: RdyMode) -> ConsumerConfig {
    config().nsqd(nsqd.addr()).topic(topic.parse().unwrap()).rdy(rdy)
}

/// Publishes the numbers up to `count` in one MPUB.
fn publish(nsqd: &Nsqd, topic: &str, count: usize) {
    let producer = Producer::connect(producer_config().nsqd(nsqd.addr())).unwrap();
    let mut bodies = BodiesBuf::new();
    (0..count).for_each(|number| bodies.push(number.to_string().as_bytes()));
    producer.publish_many(&topic.parse().unwrap(), &bodies).unwrap();
}

/// Where handlers meet: each waits until all of them are there.
#[derive(Default)]
struct Meeting {
    there: Mutex<usize>,
    came: Condvar,
}

impl Meeting {
    /// Whether as many came as are `expected`.
    fn meet(&self, expected: usize) -> bool {
        let mut there = self.there.lock().unwrap();
        *there += 1;
        self.came.notify_all();
        let waited =
            self.came.wait_timeout_while(there, DEADLINE, |there| *there < expected).unwrap();
        !waited.1.timed_out()
    }
}

#[test]
fn no_worker_is_idle_while_a_message_waits() {
    let nsqd = nsqd_or_skip!();
    for workers in [1, 4, 16] {
        for rdy in [RdyMode::Adaptive, RdyMode::Fixed] {
            let topic = format!("{rdy:?}-{workers}");
            // All in one batch, where nsqd may send ahead.
            publish(&nsqd, &topic, workers);
            let meeting = Arc::new(Meeting::default());
            let (met, outcomes) = channel();
            let consumer = Consumer::start(consumer_of(&nsqd, &topic, rdy)).unwrap();
            let running = consumer.run(threads(workers), move |message| {
                met.send((meeting.meet(workers), message.attempts())).unwrap();
                message.finish();
            });
            for _ in 0..workers {
                assert_eq!(outcomes.recv().unwrap(), (true, 1), "{topic}");
            }
            assert_eq!(running.unwrap().shutdown().connections[0].finished, workers as u64);
        }
    }
}

#[test]
fn a_quiet_channel_has_company_for_a_slow_handler() {
    let nsqd = nsqd_or_skip!();
    let meeting = Arc::new(Meeting::default());
    let (met, outcomes) = channel();
    let consumer = Consumer::start(consumer_of(&nsqd, "quiet", RdyMode::Adaptive)).unwrap();
    let running = consumer.run(threads(4), move |message| {
        met.send(meeting.meet(4)).unwrap();
        message.finish();
    });
    let running = running.unwrap();
    // By now nothing is asked for ahead.
    let began = Instant::now();
    while running.consumer().stats().connections[0].rdy > 1 {
        assert!(began.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    (0..4).for_each(|_| publish(&nsqd, "quiet", 1));
    (0..4).for_each(|_| assert!(outcomes.recv().unwrap()));
    running.shutdown();
}

#[test]
fn messages_behind_one_that_takes_long_go_to_the_other_worker_in_their_order() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(100, config());
    let (stuck, waiting) = stop_pair();
    let (done, finished) = channel();
    let running = consumer.run(threads(2), move |message| {
        if message.id() == id(1) {
            waiting.wait(DEADLINE);
        }
        done.send(message.id()).unwrap();
        message.finish();
    });
    let message = |number| MessageRef {
        timestamp_ns: 0,
        attempts: 1,
        id: id(number),
        body: b"x",
        skipped: 0,
    };
    peer.send(
        &(1..=100).flat_map(|number| frame(Frame::Message(message(number)))).collect::<Vec<_>>(),
    );
    for number in 2..=100 {
        assert_eq!(finished.recv_timeout(DEADLINE).unwrap(), id(number));
        peer.expect(format!("FIN {}\n", id(number)).as_bytes());
    }
    drop(stuck);
    peer.expect(format!("FIN {}\n", id(1)).as_bytes());
    let stopping = crate::script::beside(move || running.unwrap().shutdown());
    peer.close_in_order();
    stopping.join();
}

/// Messages of one stop.
const MESSAGES: usize = 300;

const WORKERS: usize = 4;

/// What handlers do until `released`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Fast,
    Slow,
    Hung,
}

/// What handlers saw.
#[derive(Default)]
struct Seen {
    stopping: AtomicBool,
    calls: AtomicUsize,
    /// Calls after `stopping` was set.
    late: AtomicUsize,
    done: Mutex<HashSet<Vec<u8>>>,
}

impl Seen {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// Runs handlers of that kind.
fn watch(config: ConsumerConfig, kind: Kind, released: StopToken) -> (RunningConsumer, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let handler = {
        let seen = seen.clone();
        move |message: Delivery| {
            let is_late = seen.stopping.load(Ordering::SeqCst);
            seen.late.fetch_add(usize::from(is_late), Ordering::SeqCst);
            seen.calls.fetch_add(1, Ordering::SeqCst);
            released.wait(match kind {
                Kind::Fast => Duration::from_micros(100),
                Kind::Slow => Duration::from_millis(100),
                Kind::Hung => DEADLINE,
            });
            seen.done.lock().unwrap().insert(message.body().to_vec());
            message.finish();
        }
    };
    (Consumer::start(config).unwrap().run(threads(WORKERS), handler).unwrap(), seen)
}

#[test]
fn a_shutdown_keeps_its_time_and_loses_no_answer() {
    let nsqd = nsqd_or_skip!();
    for kind in [Kind::Fast, Kind::Slow, Kind::Hung] {
        for timeout in [1, 200, 2000].map(Duration::from_millis) {
            // More than once only on a machine that is busy.
            let mut turn = 0;
            check_takes_less(timeout + Duration::from_millis(1500), || {
                turn += 1;
                check_shutdown(
                    &nsqd,
                    &format!("{kind:?}-{}-{turn}", timeout.as_millis()),
                    kind,
                    timeout,
                )
            });
        }
    }
}

/// How long a shutdown took, whose outcome is as it should be.
fn check_shutdown(nsqd: &Nsqd, topic: &str, kind: Kind, timeout: Duration) -> Duration {
    publish(nsqd, topic, MESSAGES);
    let config = consumer_of(nsqd, topic, RdyMode::Fixed);
    let (release, released) = stop_pair();
    let (running, seen) = watch(config.clone(), kind, released);
    let began = Instant::now();
    while seen.calls() < WORKERS && began.elapsed() < DEADLINE {
        std::thread::yield_now();
    }
    let began = Instant::now();
    seen.stopping.store(true, Ordering::SeqCst);
    let shutdown = running.shutdown_within(timeout);
    let took = began.elapsed();
    // Each worker may have been about to call its handler.
    let late = seen.late.load(Ordering::SeqCst);
    assert!(late <= WORKERS, "{topic}: {late} calls after the stop");
    let stats = &shutdown.stats.connections[0];
    // An answer that comes behind the deadline is to a message that was given back and named.
    assert!(stats.lost_answers <= shutdown.unanswered.len() as u64, "{topic}: {stats:?}");
    assert_eq!(stats.in_flight, 0, "{topic}");
    assert_eq!(stats.finished + stats.requeued, stats.messages, "{topic}");
    if kind == Kind::Hung {
        assert_eq!(shutdown.busy_threads.len(), WORKERS, "{topic}: {:?}", shutdown.busy_threads);
        assert_eq!(shutdown.unanswered.len(), WORKERS, "{topic}: {:?}", shutdown.unanswered);
    }
    if kind == Kind::Slow && timeout > Duration::from_secs(1) {
        assert_eq!((shutdown.unanswered.len(), shutdown.busy_threads.len()), (0, 0), "{topic}");
    }
    assert!(
        shutdown.unanswered.iter().all(|message| message.requeued && message.nsqd == nsqd.addr())
    );
    let finished = stats.finished as usize;
    let after = seen.calls();
    // What was not finished comes to the next consumer at once: the msg-timeout is a minute.
    let (_open, token) = stop_pair();
    let (next, others) = watch(config, Kind::Fast, token);
    let began = Instant::now();
    while others.calls() < MESSAGES - finished {
        let came = others.calls();
        assert!(began.elapsed() < DEADLINE, "{topic}: {came} of {MESSAGES} less {finished}");
        std::thread::yield_now();
    }
    next.shutdown();
    drop(release);
    assert_eq!(seen.calls(), after, "{topic}: a call behind the shutdown");
    let mut all = others.done.lock().unwrap().clone();
    all.extend(seen.done.lock().unwrap().iter().cloned());
    assert_eq!(all.len(), MESSAGES, "{topic}");
    took
}

#[test]
fn a_late_answer_of_a_left_handler_is_counted_and_a_drop_does_not_wait_for_it() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, config());
    let (release, released) = stop_pair();
    let (began, begun) = channel();
    let (done, finished) = channel();
    let running = consumer.run(threads(1), move |message| {
        began.send(()).unwrap();
        released.wait(DEADLINE);
        message.finish();
        done.send(()).unwrap();
    });
    peer.message(7, 3, b"x");
    begun.recv_timeout(DEADLINE).unwrap();
    let dropping = Instant::now();
    let dropped = crate::script::beside(move || drop(running.unwrap()));
    peer.expect(b"CLS\n");
    peer.respond(b"CLOSE_WAIT");
    peer.expect(b"REQ 0000000000000007 0\n");
    peer.expect_end();
    drop(peer);
    dropped.join();
    assert!(dropping.elapsed() < DEADLINE / 2, "{:?}", dropping.elapsed());
    // It may go on, and harms nothing.
    assert!(finished.try_recv().is_err());
    drop(release);
    finished.recv_timeout(DEADLINE).unwrap();
}
