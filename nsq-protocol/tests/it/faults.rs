//! The client and a real nsqd with a bad network between them: faults 5 to 26 of the project's list as far as they
//! concern these two. Numbers in the tests are that list's.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nsq_protocol::{Admin, ConnectionStats, Consumer, Producer, StatsFilter, TopicName};

use crate::nsqd::{Nsqd, nsqd_or_skip};
use crate::proxy::{Proxy, Toxic, Way};
use crate::script::{Script, beside, config, id, producer_config, start, waits_a_minute};
use crate::timing::{DEADLINE, MINUTE};

/// Seeds for each toxic, where `NSQ_FAULT_SEEDS` does not say how many.
const SEEDS: u64 = 4;

/// Messages for each seed: several connections' worth where each is cut after a few kilobytes.
const MESSAGES: u32 = 400;

/// An nsqd that gives up a lost consumer's messages soon; with a new channel, nsqd takes up to 5 s all the same.
const QUICK: &str = "--msg-timeout=500ms";

/// Waits until `done` says so of the only connection.
#[track_caller]
fn wait_until(consumer: &Consumer, what: &str, done: impl Fn(&ConnectionStats) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let stats = consumer.stats();
        if done(&stats.connections[0]) {
            return;
        }
        assert!(Instant::now() < deadline, "not {what}: {stats:?}");
        // The state is there to look at, not to wait for; another batch is what a test waits for elsewhere.
        std::thread::yield_now();
    }
}

/// Publishes through a proxy and consumes through another: what was acknowledged is consumed, and nothing else is.
fn through(nsqd: &Nsqd, toxic: &Toxic, seed: u64) {
    let topic: TopicName = format!("seed-{seed}").parse().unwrap();
    let mut up = producer_config().response_timeout(Duration::from_secs(1)).write_timeout(MINUTE);
    // Several windows for the messages, so that a break finds publishes that were sent and some that were not.
    up = up.max_pending_commands(50);
    let proxies = [1, 2].map(|of| Proxy::start(nsqd.tcp, toxic.clone(), seed << 8 | of));
    let producer = Producer::connect(up.nsqd(proxies[0].addr())).unwrap();
    let down =
        config().topic(topic).heartbeat_interval(Duration::from_secs(1)).write_timeout(MINUTE);
    let consumer = Consumer::start(down.nsqd(proxies[1].addr()).max_in_flight(20)).unwrap();

    let (mut acknowledged, consumed) = (BTreeSet::new(), Mutex::new(BTreeSet::new()));
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let receipts: Vec<_> = (0..MESSAGES)
                .map(|number| producer.submit(&topic, number.to_string().into_bytes()).unwrap())
                .collect();
            receipts.into_iter().filter_map(|receipt| receipt.wait().ok()).collect::<Vec<_>>()
        });
        let take = |timeout| {
            if let Ok(batch) = consumer.batches().recv_timeout(timeout) {
                consumed.lock().unwrap().extend(batch.iter().map(|message| message.body.to_vec()));
                batch.finish();
            }
        };
        while !publishing.is_finished() {
            take(Duration::from_millis(20));
        }
        acknowledged.extend(publishing.join().unwrap());
        let deadline = Instant::now() + DEADLINE;
        while !acknowledged.is_subset(&consumed.lock().unwrap()) {
            assert!(
                Instant::now() < deadline,
                "{toxic:?}, seed {seed}: of {} acknowledged only {} came\n{:?}\n{:?}",
                acknowledged.len(),
                consumed.lock().unwrap().len(),
                producer.stats(),
                consumer.stats()
            );
            take(Duration::from_millis(100));
        }
    });
    // Every publish is tried until its timeout, which is far away, so none may fail.
    assert_eq!(acknowledged.len(), MESSAGES as usize, "{toxic:?}, seed {seed}");
    let attempted: BTreeSet<_> =
        (0..MESSAGES).map(|number| number.to_string().into_bytes()).collect();
    assert_eq!(consumed.into_inner().unwrap(), attempted, "{toxic:?}, seed {seed}");
    if matches!(toxic, Toxic::Cut(_) | Toxic::Reset(_) | Toxic::Swallow(_) | Toxic::Stall(_)) {
        let [up, down] = proxies.each_ref().map(Proxy::accepted);
        assert!(up > 1 && down > 1, "{toxic:?}, seed {seed}: {up} and {down} connections");
    }
    // All that they could wait for wrongly lasts a minute.
    let began = Instant::now();
    consumer.stop_within(Duration::from_secs(1));
    drop(producer);
    assert!(began.elapsed() < DEADLINE, "{toxic:?}, seed {seed}: a hanging stop");
}

/// All seeds of a toxic, at once.
fn check(toxic: Toxic) {
    let nsqd = nsqd_or_skip!(QUICK);
    let seeds = std::env::var("NSQ_FAULT_SEEDS").map_or(SEEDS, |count| count.parse().unwrap());
    let next = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..SEEDS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    through(&nsqd, &toxic, seed);
                }
            });
        }
    });
}

/// What a connection may carry before it is spoilt: room for the handshake and a few messages, or nothing would
/// ever move.
const SOON: std::ops::Range<u64> = 800..6000;

#[test]
fn nothing_is_lost_over_a_clean_proxy() {
    check(Toxic::Clean);
}

#[test]
fn nothing_is_lost_over_a_slow_network() {
    check(Toxic::Delay(Duration::from_millis(4)));
}

#[test]
fn nothing_is_lost_in_one_byte_slices() {
    check(Toxic::Slice);
}

#[test]
fn nothing_is_lost_at_a_limited_rate() {
    check(Toxic::Rate(64 << 10));
}

#[test]
fn nothing_is_lost_when_connections_are_cut() {
    check(Toxic::Cut(SOON));
}

#[test]
fn nothing_is_lost_when_connections_are_reset() {
    check(Toxic::Reset(SOON));
}

#[test]
fn nothing_is_lost_when_a_peer_is_gone_without_a_word() {
    check(Toxic::Swallow(SOON));
}

#[test]
fn nothing_is_lost_when_a_peer_takes_no_bytes() {
    check(Toxic::Stall(SOON));
}

#[test]
fn fault_5_a_stopped_nsqd_leaves_nothing_stuck() {
    let nsqd = nsqd_or_skip!("--msg-timeout=1s");
    let topic: TopicName = "t".parse().unwrap();
    let config =
        config().nsqd(nsqd.addr()).max_in_flight(5).heartbeat_interval(Duration::from_secs(1));
    let consumer = Consumer::start(config).unwrap();
    let producer = Producer::connect(producer_config().nsqd(nsqd.addr())).unwrap();
    (0..10).for_each(|number| producer.publish(&topic, &[number]).unwrap());
    let held = consumer.batches().recv_timeout(DEADLINE).unwrap();
    nsqd.signal("STOP");
    wait_until(&consumer, "given up", |connection| !connection.connected);
    // Its messages are answered meanwhile, to nobody.
    held.finish();
    nsqd.signal("CONT");
    let mut seen = BTreeSet::new();
    while seen.len() < 10 {
        let batch = consumer.batches().recv_timeout(DEADLINE).unwrap();
        seen.extend(batch.iter().map(|message| message.body[0]));
        batch.finish();
    }
    let stats = consumer.shutdown().connections.remove(0);
    assert!(stats.reconnects >= 1 && stats.in_flight == 0, "{stats:?}");
    let admin = Admin::new(&nsqd.http_addr());
    let stats = admin.stats(&StatsFilter::default()).unwrap();
    let channel = stats.channel(&topic, &"c".parse().unwrap()).unwrap();
    assert_eq!((channel.depth, channel.in_flight_count, channel.client_count), (0, 0, 0));
}

#[test]
fn fault_8_a_lost_ok_is_published_again() {
    let nsqd = nsqd_or_skip!();
    let topic: TopicName = "t".parse().unwrap();
    let proxy = Proxy::start(nsqd.tcp, Toxic::Clean, 0);
    let producer = Producer::connect(producer_config().nsqd(proxy.addr())).unwrap();
    producer.publish(&topic, b"before").unwrap();
    proxy.swallow(Way::Down);
    let receipt = producer.submit(&topic, b"twice".to_vec()).unwrap();
    let admin = Admin::new(&nsqd.http_addr());
    let stored = || admin.stats(&StatsFilter::default()).unwrap().topics[0].message_count;
    let deadline = Instant::now() + DEADLINE;
    while stored() < 2 {
        assert!(Instant::now() < deadline, "nsqd never got it");
    }
    // It is stored, and its OK is gone.
    proxy.reset();
    assert_eq!(receipt.wait().unwrap(), b"twice");
    assert_eq!((stored(), proxy.accepted()), (3, 2));
    let stats = producer.stats().connections.remove(0);
    assert_eq!((stats.accepted, stats.unknown, stats.reconnects), (2, 1, 1));
}

#[test]
fn fault_12_a_refusal_that_lasts_is_shown_and_not_repeated_at_full_speed() {
    let script = Script::listen();
    let config =
        config().reconnect_min(Duration::from_millis(40)).reconnect_max(Duration::from_millis(160));
    let (consumer, peer) = script.consume(10, config);
    drop(peer);
    // Each wait is at least half of 40, 80, 160, 160 ms.
    let began = Instant::now();
    for _ in 0..4 {
        let mut peer = script.accept_identified();
        peer.expect(b"SUB t c\n");
        peer.error(b"E_BAD_CHANNEL channel is full");
    }
    let mut peer = script.accept_subscribed();
    assert!(began.elapsed() >= Duration::from_millis(220), "{:?}", began.elapsed());
    peer.expect(b"RDY 10\n");
    let last_error = consumer.stats().connections[0].last_error.clone().unwrap();
    assert!(last_error.contains("refused SUB: E_BAD_CHANNEL channel is full"), "{last_error}");
}

#[test]
fn fault_13_a_consumer_leaves_a_peer_that_is_gone_without_a_word() {
    let nsqd = nsqd_or_skip!();
    let proxy = Proxy::start(nsqd.tcp, Toxic::Clean, 0);
    let config = config().nsqd(proxy.addr()).heartbeat_interval(Duration::from_secs(1));
    let consumer = Consumer::start(config).unwrap();
    proxy.swallow(Way::Down);
    wait_until(&consumer, "a new connection", |connection| connection.reconnects == 1);
    let last_error = consumer.stats().connections[0].last_error.clone().unwrap();
    assert!(last_error.contains("waiting for a heartbeat from"), "{last_error}");
    // Two heartbeats, whatever the time until somebody looked.
    assert!(last_error.ends_with("took longer than 2s"), "{last_error}");
}

#[test]
fn fault_13_a_stop_does_not_wait_for_a_peer_that_takes_no_bytes() {
    let nsqd = nsqd_or_skip!();
    let topic: TopicName = "t".parse().unwrap();
    let proxy = Proxy::start(nsqd.tcp, Toxic::Clean, 0);
    let (mut down, mut up) = (config().nsqd(proxy.addr()), producer_config().nsqd(proxy.addr()));
    down = down.connection(waits_a_minute());
    up = up.connection(waits_a_minute()).response_timeout(MINUTE);
    let consumer = Consumer::start(down).unwrap();
    let producer = Producer::connect(up).unwrap();
    producer.publish(&topic, b"x").unwrap();
    let held = consumer.batches().recv_timeout(DEADLINE).unwrap();
    proxy.stall();
    // More than the sockets on the way hold, so that the writer is stuck in a write.
    let bodies: Vec<_> =
        (0..14).map(|_| producer.submit(&topic, vec![0; 1 << 20]).unwrap()).collect();
    held.finish();
    let began = Instant::now();
    assert_eq!(consumer.stop_within(Duration::from_millis(300)).0, 0);
    producer.close(Duration::from_millis(300)).unwrap_err();
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    for receipt in bodies {
        assert!(receipt.wait().unwrap_err().error.is_unknown());
    }
}

#[test]
fn fault_13_a_window_full_of_overdue_answers_is_left() {
    let script = Script::listen();
    let config =
        producer_config().max_pending_commands(1).response_timeout(Duration::from_millis(200));
    let (producer, mut peer) = script.produce(config);
    let topic: TopicName = "t".parse().unwrap();
    let first = producer.submit(&topic, b"a".to_vec()).unwrap();
    peer.expect(b"PUB t\n\0\0\0\x01a");
    // Nobody waits for the first one's answer; the second one needs its room.
    let submitting = beside(move || {
        let second = producer.submit(&topic, b"b".to_vec()).unwrap();
        (producer, second)
    });
    let mut again = script.accept_identified();
    again.expect(b"PUB t\n\0\0\0\x01b");
    again.respond(b"OK");
    let (producer, second) = submitting.join();
    second.wait().unwrap();
    let waiting = beside(move || first.wait());
    again.expect(b"PUB t\n\0\0\0\x01a");
    again.respond(b"OK");
    waiting.join().unwrap();
    assert_eq!(producer.stats().connections[0].unknown, 1);
}

#[test]
fn fault_15_a_max_rdy_count_beyond_reason_is_only_a_limit() {
    let script = Script::listen();
    let starting = start(config().nsqd(script.addr()).max_in_flight(7));
    let mut peer = script.accept();
    peer.identify();
    peer.respond(br#"{"max_rdy_count":1099511627776}"#);
    peer.expect(b"SUB t c\n");
    peer.respond(b"OK");
    peer.expect(b"RDY 7\n");
    starting.join().unwrap();
}

#[test]
fn fault_23_rdy_stays_within_nsqds_limit() {
    let nsqd = nsqd_or_skip!("--max-rdy-count=10");
    let topic: TopicName = "t".parse().unwrap();
    let consumer = Consumer::start(config().nsqd(nsqd.addr()).max_in_flight(100)).unwrap();
    let producer = Producer::connect(producer_config().nsqd(nsqd.addr())).unwrap();
    (0..50).for_each(|_| producer.publish(&topic, b"x").unwrap());
    let mut held = Vec::new();
    while held.iter().map(nsq_protocol::Batch::len).sum::<usize>() < 10 {
        held.push(consumer.batches().recv_timeout(DEADLINE).unwrap());
    }
    let admin = Admin::new(&nsqd.http_addr());
    let stats = admin.stats(&StatsFilter::default()).unwrap();
    let client = &stats.channel(&topic, &"c".parse().unwrap()).unwrap().clients[0];
    assert_eq!((client.ready_count, client.in_flight_count), (10, 10));
    held.into_iter().for_each(nsq_protocol::Batch::finish);
    let mut seen = 10;
    while seen < 50 {
        let batch = consumer.batches().recv_timeout(DEADLINE).unwrap();
        seen += batch.len();
        batch.finish();
    }
    let stats = consumer.shutdown().connections.remove(0);
    assert_eq!((stats.reconnects, stats.finished, stats.last_error), (0, 50, None));
}

#[test]
fn fault_24_a_message_that_went_to_another_process_cannot_be_finished_here() {
    let nsqd = nsqd_or_skip!("--msg-timeout=1s");
    let topic: TopicName = "t".parse().unwrap();
    let producer = Producer::connect(producer_config().nsqd(nsqd.addr())).unwrap();
    let slow = Consumer::start(config().nsqd(nsqd.addr()).max_in_flight(1)).unwrap();
    producer.publish(&topic, b"x").unwrap();
    let late = slow.batches().recv_timeout(DEADLINE).unwrap();
    // While nsqd counts on the slow one's answer, its window is full, so the copy goes to this one.
    let other = Consumer::start(config().nsqd(nsqd.addr()).max_in_flight(1)).unwrap();
    let again = other.batches().recv_timeout(DEADLINE).unwrap();
    assert_eq!(again.iter().next().unwrap().attempts, 2);
    late.finish();
    wait_until(&slow, "refused", |connection| connection.failed_finishes == 1);
    again.finish();
    for consumer in [slow, other] {
        let stats = consumer.shutdown().connections.remove(0);
        assert_eq!((stats.reconnects, stats.in_flight, stats.finished), (0, 0, 1), "{stats:?}");
    }
}

#[test]
fn fault_25_two_copies_at_once_are_two_deliveries_and_one_finish_fails() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, config());
    peer.message(1, 1, b"x");
    peer.message(1, 2, b"x");
    let mut copies = Vec::new();
    while copies.len() < 2 {
        copies.extend(consumer.batches().recv_timeout(DEADLINE).unwrap().into_deliveries());
    }
    assert_eq!([0, 1].map(|copy| copies[copy].id()), [id(1); 2]);
    std::thread::scope(|scope| {
        for copy in copies {
            scope.spawn(move || copy.finish());
        }
    });
    peer.expect(b"FIN 0000000000000001\nFIN 0000000000000001\n");
    peer.error(b"E_FIN_FAILED FIN 0000000000000001 failed ID not in flight");
    wait_until(&consumer, "one failed", |connection| connection.failed_finishes == 1);
    let stats = consumer.stats().connections.remove(0);
    assert_eq!((stats.in_flight, stats.reconnects, stats.connected), (0, 0, true));
}

#[test]
fn fault_26_attempts_may_be_0_or_about_to_wrap() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, config());
    for (number, attempts) in [0, u16::MAX, 0].into_iter().enumerate() {
        peer.message(number as u64, attempts, b"x");
        let batch = consumer.batches().recv_timeout(DEADLINE).unwrap();
        assert_eq!(batch.iter().next().unwrap().attempts, attempts);
        batch.finish();
        peer.expect(format!("FIN {}\n", id(number as u64)).as_bytes());
    }
}
