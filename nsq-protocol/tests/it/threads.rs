//! No thread outlives its consumer or producer.

use std::num::NonZeroUsize;
use std::process::Command;
use std::time::Duration;

use nsq_protocol::{Consumer, Producer, TopicName};

use crate::script::{DEADLINE, Script, beside, config, producer_config};

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
    assert_eq!(client_threads(), Vec::<String>::new());
}

#[test]
fn none_is_left_of_a_consumer() {
    alone("threads::none_is_left_of_a_consumer", || {
        let script = Script::listen();
        // In order.
        let (consumer, peer) = script.consume(10, config());
        if cfg!(target_os = "linux") {
            assert_eq!(client_threads().len(), 2);
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
