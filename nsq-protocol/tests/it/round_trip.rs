//! The client against a real nsqd, end to end.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nsq_protocol::{
    Admin, BodiesBuf, Consumer, ConsumerConfig, Producer, ProducerConfig, StatsFilter, TopicName,
};

use crate::nsqd::{Nsqd, nsqd_or_skip};
use crate::script::{beside, config, producer_config};
use crate::timing::DEADLINE;

#[test]
fn what_is_published_is_consumed_and_finished() {
    let nsqd = nsqd_or_skip!();
    let topic = "plays".parse().unwrap();
    let producer = Producer::connect(ProducerConfig::new().nsqd(nsqd.addr())).unwrap();
    producer.publish(&topic, b"0").unwrap();
    producer.publish_deferred(&topic, Duration::from_millis(50), b"1").unwrap();
    let mut bodies = BodiesBuf::new();
    (2..1000).for_each(|number| bodies.push(number.to_string().as_bytes()));
    producer.publish_many(&topic, &bodies).unwrap();

    let config = ConsumerConfig::new(topic, "count".parse().unwrap()).nsqd(nsqd.addr());
    let consumer = Consumer::start(config).unwrap();
    let batches = consumer.batches();
    let mut seen = BTreeSet::new();
    while seen.len() < 1000 {
        let batch = batches.recv_timeout(DEADLINE).unwrap();
        for message in &batch {
            assert_eq!(message.attempts, 1);
            let number: u32 = std::str::from_utf8(message.body).unwrap().parse().unwrap();
            assert!(seen.insert(number));
        }
        batch.finish();
    }
    let stats = consumer.shutdown();
    let connection = &stats.connections[0];
    assert_eq!((connection.messages, connection.finished), (1000, 1000), "{connection:?}");
    assert_eq!((connection.in_flight, connection.lost_answers), (0, 0), "{connection:?}");
    producer.close(DEADLINE).unwrap();
}

fn producer_to(addresses: &[&Nsqd]) -> Producer {
    let config = addresses.iter().fold(producer_config(), |config, nsqd| config.nsqd(nsqd.addr()));
    Producer::connect(config).unwrap()
}

/// Consumes until `done` says so of the bodies seen.
fn consume_until(consumer: &Consumer, mut done: impl FnMut(&[u8]) -> bool) {
    let batches = consumer.batches();
    loop {
        let batch = batches.recv_timeout(DEADLINE).unwrap();
        let ended = batch.iter().any(|message| done(message.body));
        batch.finish();
        if ended {
            return;
        }
    }
}

#[test]
fn bodies_of_a_mebibyte_pass_and_larger_ones_do_not() {
    let nsqd = nsqd_or_skip!();
    let (topic, producer) = ("t".parse().unwrap(), producer_to(&[&nsqd]));
    let body: Vec<u8> = (0..1 << 20).map(|index: u32| (index % 251) as u8).collect();
    producer.publish(&topic, &body).unwrap();
    let mut bodies = BodiesBuf::new();
    (0..4).for_each(|_| bodies.push(&body));
    producer.publish_many(&topic, &bodies).unwrap();
    let receipts: Vec<_> =
        (0..20).map(|_| producer.submit(&topic, body.clone()).unwrap()).collect();
    receipts.into_iter().for_each(|receipt| assert_eq!(receipt.wait().unwrap(), body));
    producer.publish(&topic, &[body.clone(), vec![0]].concat()).unwrap_err();

    let consumer = Consumer::start(config().nsqd(nsqd.addr())).unwrap();
    let mut seen = 0;
    consume_until(&consumer, |got| {
        assert!(got == body);
        seen += 1;
        seen == 25
    });
    assert_eq!(consumer.shutdown().connections[0].reconnects, 0);
}

#[test]
fn a_deferred_message_comes_after_its_delay() {
    let nsqd = nsqd_or_skip!();
    let (topic, producer) = ("t".parse().unwrap(), producer_to(&[&nsqd]));
    let consumer = Consumer::start(config().nsqd(nsqd.addr())).unwrap();
    let (began, delay) = (Instant::now(), Duration::from_millis(700));
    producer.publish_deferred(&topic, delay, b"later").unwrap();
    consume_until(&consumer, |body| body == b"later");
    assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
}

#[test]
fn a_requeued_message_comes_again_with_its_attempts() {
    let nsqd = nsqd_or_skip!();
    let (topic, producer) = ("t".parse().unwrap(), producer_to(&[&nsqd]));
    let consumer = Consumer::start(config().nsqd(nsqd.addr()).max_in_flight(1)).unwrap();
    producer.publish(&topic, b"x").unwrap();
    for attempts in 1..=4 {
        let batch = consumer.batches().recv_timeout(DEADLINE).unwrap();
        assert_eq!(batch.iter().next().unwrap().attempts, attempts);
        batch.requeue_without_backoff(Duration::ZERO);
    }
    consume_until(&consumer, |_| true);
    let stats = consumer.shutdown();
    assert_eq!((stats.connections[0].finished, stats.connections[0].requeued), (1, 4));
}

#[test]
fn an_answer_after_the_timeout_fails_and_is_counted() {
    let nsqd = nsqd_or_skip!();
    let (topic, producer) = ("t".parse().unwrap(), producer_to(&[&nsqd]));
    let config = config().nsqd(nsqd.addr()).max_in_flight(1).msg_timeout(Duration::from_secs(1));
    let consumer = Consumer::start(config).unwrap();
    producer.publish(&topic, b"x").unwrap();
    let late = consumer.batches().recv_timeout(DEADLINE).unwrap();
    let again = consumer.batches().recv_timeout(DEADLINE).unwrap();
    assert_eq!(again.iter().next().unwrap().attempts, 2);
    again.finish();
    late.finish();
    let stats = consumer.shutdown();
    assert_eq!((stats.connections[0].failed_finishes, stats.connections[0].reconnects), (1, 0));
}

#[test]
fn a_producer_under_load_survives_kill_9() {
    let mut first = nsqd_or_skip!();
    let second = nsqd_or_skip!();
    let topic: TopicName = "t".parse().unwrap();
    let producer = producer_to(&[&first, &second]);
    let consumer = Consumer::start(config().nsqd(second.addr())).unwrap();
    let (sent, killed) = std::sync::mpsc::sync_channel(0);
    let publishing = beside(move || {
        let mut pending = VecDeque::new();
        let mut all_to_second_from = None;
        for number in 0..20_000u32 {
            if number == 5000 {
                sent.send(()).unwrap();
            }
            if all_to_second_from.is_none() && producer.stats().connections[1].current {
                // What is submitted from here on cannot have gone to the first.
                all_to_second_from = Some(number);
            }
            pending.push_back(producer.submit(&topic, number.to_string().into_bytes()).unwrap());
            if pending.len() > 500 {
                pending.pop_front().unwrap().wait().unwrap();
            }
        }
        pending.into_iter().for_each(|receipt| drop(receipt.wait().unwrap()));
        producer.close(DEADLINE).unwrap();
        all_to_second_from.unwrap()
    });
    killed.recv().unwrap();
    first.kill();
    let from = publishing.join();
    let mut missing: BTreeSet<u32> = (from..20_000).collect();
    assert!(!missing.is_empty());
    consume_until(&consumer, |body| {
        missing.remove(&std::str::from_utf8(body).unwrap().parse().unwrap());
        missing.is_empty()
    });
}

#[test]
fn a_producer_and_a_consumer_find_a_restarted_nsqd() {
    let mut nsqd = nsqd_or_skip!();
    let (topic, producer) = ("t".parse().unwrap(), producer_to(&[&nsqd]));
    let consumer = Consumer::start(config().nsqd(nsqd.addr())).unwrap();
    producer.publish(&topic, b"before").unwrap();
    consume_until(&consumer, |body| body == b"before");
    nsqd.kill();
    let publishing = beside(move || producer.publish(&topic, b"after"));
    let _again = nsqd.restart();
    publishing.join().unwrap();
    consume_until(&consumer, |body| body == b"after");
    assert_eq!(consumer.shutdown().connections[0].reconnects, 1);
}

#[test]
fn a_producer_waits_for_an_nsqd_that_is_away() {
    let mut nsqd = nsqd_or_skip!();
    let (topic, producer) = ("t".parse().unwrap(), producer_to(&[&nsqd]));
    nsqd.kill();
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| producer.publish(&topic, b"after"));
        // Only when an attempt has failed does it come back.
        let refused = |error: Option<String>| error.is_some_and(|error| error.contains("refused"));
        let deadline = Instant::now() + DEADLINE;
        while !refused(producer.stats().connections[0].last_error.clone()) {
            assert!(Instant::now() < deadline, "no attempt was made");
            std::thread::yield_now();
        }
        let _again = nsqd.restart();
        publishing.join().unwrap().unwrap();
    });
}

#[test]
fn a_stopped_nsqd_is_left_for_another() {
    let first = nsqd_or_skip!();
    let second = nsqd_or_skip!();
    let topic: TopicName = "t".parse().unwrap();
    let config = producer_config()
        .nsqd(first.addr())
        .nsqd(second.addr())
        .response_timeout(Duration::from_millis(300));
    let producer = Producer::connect(config).unwrap();
    first.signal("STOP");
    producer.publish(&topic, b"x").unwrap();
    assert!(producer.stats().connections[1].current);
}

#[test]
fn several_workers_share_one_consumer() {
    let nsqd = nsqd_or_skip!();
    let (topic, producer) = ("t".parse().unwrap(), producer_to(&[&nsqd]));
    let count = Arc::new(AtomicU32::new(0));
    let (done, finished) = std::sync::mpsc::channel();
    let running = Consumer::start(config().nsqd(nsqd.addr()))
        .unwrap()
        .run(NonZeroUsize::new(3).unwrap(), move |delivery| {
            delivery.finish();
            if count.fetch_add(1, Ordering::Relaxed) + 1 == 20_000 {
                done.send(()).unwrap();
            }
        })
        .unwrap();
    let mut bodies = BodiesBuf::new();
    (0..1000).for_each(|_| bodies.push(b"x"));
    (0..20).for_each(|_| producer.publish_many(&topic, &bodies).unwrap());
    finished.recv_timeout(DEADLINE).unwrap();
    let stats = running.shutdown();
    assert_eq!((stats.connections[0].finished, stats.connections[0].failed_finishes), (20_000, 0));
    let admin = Admin::new(&nsqd.http_addr());
    let stats = admin.stats(&StatsFilter::default()).unwrap();
    let channel = stats.channel(&topic, &"c".parse().unwrap()).unwrap();
    assert_eq!((channel.depth, channel.in_flight_count, channel.client_count), (0, 0, 0));
}

#[test]
fn a_handler_stuck_for_several_heartbeats_keeps_its_connection() {
    let nsqd = nsqd_or_skip!();
    let (topic, producer) = ("t".parse().unwrap(), producer_to(&[&nsqd]));
    let config = config().nsqd(nsqd.addr()).heartbeat_interval(Duration::from_secs(1));
    let consumer = Consumer::start(config).unwrap();
    producer.publish(&topic, b"x").unwrap();
    let held = consumer.batches().recv_timeout(DEADLINE).unwrap();
    // nsqd gives up a client that is silent for two intervals. Each heartbeat makes the last one younger.
    let (mut heartbeats, mut last) = (0, None);
    let deadline = Instant::now() + DEADLINE;
    while heartbeats < 4 {
        assert!(Instant::now() < deadline, "only {heartbeats} heartbeats");
        consumer.batches().recv_timeout(Duration::from_millis(10)).unwrap_err();
        let age = consumer.stats().connections[0].last_heartbeat_age;
        heartbeats += u32::from(age.is_some() && (last.is_none() || age < last));
        last = age;
    }
    assert!(held.is_connected());
    held.finish();
    let stats = &consumer.shutdown().connections[0];
    assert_eq!((stats.reconnects, stats.failed_finishes, stats.finished), (0, 0, 1));
}

#[test]
fn a_deleted_channel_is_subscribed_again() {
    let nsqd = nsqd_or_skip!();
    let (topic, channel) = ("t".parse().unwrap(), "c".parse().unwrap());
    let producer = producer_to(&[&nsqd]);
    let consumer = Consumer::start(config().nsqd(nsqd.addr())).unwrap();
    producer.publish(&topic, b"x").unwrap();
    let held = consumer.batches().recv_timeout(DEADLINE).unwrap();
    Admin::new(&nsqd.http_addr()).delete_channel(&topic, &channel).unwrap();
    producer.publish(&topic, b"after").unwrap();
    consume_until(&consumer, |body| body == b"after");
    held.finish();
    let stats = &consumer.shutdown().connections[0];
    assert_eq!((stats.reconnects, stats.lost_answers, stats.in_flight), (1, 1, 0));
}
