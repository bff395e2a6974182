//! No thread, and no descriptor, outlives its consumer or producer.

use std::num::NonZeroUsize;
use std::process::Command;
use std::time::{Duration, Instant};

use nsq_protocol::{Consumer, Producer, TopicName};

use crate::fake_lookupd::{FakeLookupd, Reply};
use crate::nsqd::nsqd_or_skip;
use crate::script::{Script, beside, config, producer_config};
use crate::timing::DEADLINE;

/// Set in the process that runs a test of this file alone.
const ALONE: &str = "NSQ_PROTOCOL_TEST_ALONE";

/// Runs `body` in a process of its own, where no other test's threads come and go.
fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

/// The client's threads in this process, by name.
fn client_threads() -> Vec<String> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    tasks.filter_map(name).filter(|name| name.starts_with("nsq-")).collect()
}

#[track_caller]
fn check_none() {
    // A joined thread is listed until the system has cleared it away.
    let deadline = Instant::now() + DEADLINE;
    while !client_threads().is_empty() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(client_threads(), Vec::<String>::new());
}

#[test]
fn none_is_left_of_a_consumer() {
    alone("threads::none_is_left_of_a_consumer", || {
        let script = Script::listen();
        // In order.
        let (consumer, peer) = script.consume(10, config());
        if cfg!(target_os = "linux") {
            // Reader, writer and the one that keeps time.
            assert_eq!(client_threads().len(), 3);
        }
        let stopping = beside(move || consumer.shutdown());
        peer.close_in_order();
        stopping.join();
        check_none();
        // The peer does not help.
        let (consumer, _peer) = script.consume(10, config());
        consumer.stop_within(Duration::from_millis(10));
        check_none();
        // Mid batch, handler panicking, dropped.
        let (consumer, mut peer) = script.consume(10, config());
        let running =
            consumer.run(NonZeroUsize::new(2).unwrap(), |_| panic!("on purpose")).unwrap();
        peer.message(1, 1, b"x");
        peer.expect(b"REQ 0000000000000001 1000\n");
        drop(running);
        check_none();
        // The peer is gone; a new connection is being made.
        let (consumer, peer) = script.consume(10, config());
        drop(peer);
        let _silent = script.accept();
        drop(consumer);
        check_none();
        // It never started.
        drop(script);
        Consumer::start(config().nsqd("127.0.0.1:1")).unwrap_err();
        check_none();
    });
}

#[test]
fn none_is_left_of_discovery() {
    alone("threads::none_is_left_of_discovery", || {
        let script = Script::listen();
        let lookupd =
            FakeLookupd::start(Reply::nsqds(&[&script.addr(), "127.0.0.1:1", "no.invalid:1"]));
        let mut config =
            config().lookupd(lookupd.addr()).lookupd_poll_interval(Duration::from_millis(10));
        // Stopped in order, stopped at once, dropped.
        let ends: [fn(Consumer); 3] = [
            |consumer| _ = consumer.stop_within(Duration::from_millis(50)),
            |consumer| _ = consumer.stop_within(Duration::ZERO),
            drop,
        ];
        for end in ends {
            let consumer = Consumer::start(config.clone()).unwrap();
            let mut peer = script.accept_subscribed();
            peer.expect(b"RDY 2500\n");
            let ending = beside(move || end(consumer));
            peer.read_to_end();
            drop(peer);
            ending.join();
            check_none();
        }
        // While a request is under way that gets no answer.
        let consumer = Consumer::start(config.clone()).unwrap();
        lookupd.reply(Reply::Silence, 0);
        drop(consumer);
        check_none();
        // It never started.
        config = config.lookupds(vec!["127.0.0.1:1".to_owned()]);
        Consumer::start(config).unwrap_err();
        check_none();
    });
}

#[test]
fn none_is_left_of_a_producer() {
    alone("threads::none_is_left_of_a_producer", || {
        let topic: TopicName = "t".parse().unwrap();
        let script = Script::listen();
        let (producer, mut peer) = script.produce(producer_config());
        let closing = beside(move || producer.close(DEADLINE));
        peer.expect_end();
        drop(peer);
        closing.join().unwrap();
        check_none();
        // With a publish that is not answered.
        let (producer, _peer) = script.produce(producer_config());
        let receipt = producer.submit(&topic, b"x".to_vec()).unwrap();
        drop(producer);
        check_none();
        receipt.wait().unwrap_err();
        check_none();
        // The peer is gone.
        let (producer, peer) = script.produce(producer_config());
        drop(peer);
        drop(producer);
        check_none();
        drop(script);
        Producer::connect(producer_config().nsqd("127.0.0.1:1")).unwrap_err();
        check_none();
    });
}

/// Cycles of [`a_thousand_cycles_leave_no_thread_and_no_descriptor`].
const CYCLES: usize = 1000;

/// All threads and all open descriptors of this process.
fn count_all() -> (usize, usize) {
    let count = |dir| std::fs::read_dir(dir).map_or(0, |entries| entries.count());
    (count("/proc/self/task"), count("/proc/self/fd"))
}

#[test]
fn a_thousand_cycles_leave_no_thread_and_no_descriptor() {
    // Here, so that it is skipped, or not, under its own name.
    if crate::nsqd::find().is_none() {
        return;
    }
    alone("threads::a_thousand_cycles_leave_no_thread_and_no_descriptor", || {
        let nsqd = nsqd_or_skip!();
        let cycle = |worker: usize, number: usize| {
            let topic: TopicName = format!("worker-{worker}").parse().unwrap();
            let body = number.to_string();
            let producer = Producer::connect(producer_config().nsqd(nsqd.addr())).unwrap();
            producer.publish(&topic, body.as_bytes()).unwrap();
            // With its window full, nsqd does not keep the message back for its output buffer's timeout.
            let config = config().nsqd(nsqd.addr()).max_in_flight(1).topic(topic);
            let consumer = Consumer::start(config).unwrap();
            let batch = consumer.batches().recv_timeout(DEADLINE).unwrap();
            assert_eq!(batch.iter().next().unwrap().body, body.as_bytes());
            batch.finish();
            match number % 3 {
                0 => drop((consumer, producer)),
                1 => drop((producer, consumer.shutdown())),
                _ => {
                    assert_eq!(consumer.shutdown().connections[0].finished, 1);
                    producer.close(DEADLINE).unwrap();
                }
            }
        };
        // What is opened once and kept, such as the standard library's, is there before the count.
        cycle(0, 1);
        check_none();
        let before = count_all();
        std::thread::scope(|scope| {
            for worker in 1..=8 {
                scope.spawn(move || (0..CYCLES / 8).for_each(|number| cycle(worker, number)));
            }
        });
        // The system may still be clearing away threads that were joined.
        let deadline = Instant::now() + DEADLINE;
        while count_all() != before && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(count_all(), before);
        check_none();
    });
}
