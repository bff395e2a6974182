//! How messages flow: RDY that follows the load, turns, backoff, attempts, touches.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nsq_protocol::{
    Batch, BodiesBuf, Consumer, ConsumerConfig, Delivery, Frame, GiveUp, MessageRef, Pause,
    Producer, ProducerConfig, RdyMode,
};

use crate::nsqd::{Nsqd, nsqd_or_skip};
use crate::script::{
    IDENTIFIED, Peer, Script, beside, config, expect_fin, id, recv, seen_by_reader, start,
};
use crate::timing::DEADLINE;

const SHORT: Duration = Duration::from_millis(50);

/// With a backoff that takes about as long as a test may.
fn backing_off(min: Duration) -> ConsumerConfig {
    config().backoff_min(min)
}

/// A consumer of two fakes with RDY 5 each.
fn consume_two(config: ConsumerConfig) -> (Consumer, [Script; 2], [Peer; 2]) {
    let scripts = [Script::listen(), Script::listen()];
    let [one, two] = [scripts[0].addr(), scripts[1].addr()];
    let starting = start(config.nsqd(one).nsqd(two).max_in_flight(10));
    let mut first = scripts[0].accept_subscribed();
    first.expect(b"RDY 10\n");
    let mut second = scripts[1].accept_subscribed();
    first.expect(b"RDY 5\n");
    second.expect(b"RDY 5\n");
    (starting.join().unwrap(), scripts, [first, second])
}

#[test]
fn a_failure_stops_all_then_one_probe_then_all_flows() {
    let config = backing_off(SHORT).low_rdy_idle_timeout(DEADLINE);
    let (consumer, _scripts, [mut first, mut second]) = consume_two(config);
    first.message(1, 1, b"fails");
    first.message(2, 1, b"late");
    let mut late = Vec::new();
    let mut failed = false;
    while late.is_empty() || !failed {
        for delivery in recv(&consumer).into_deliveries() {
            if delivery.id() == id(1) {
                delivery.requeue(Duration::ZERO);
                failed = true;
            } else {
                late.push(delivery);
            }
        }
    }
    first.expect(b"REQ 0000000000000001 0\nRDY 0\n");
    second.expect(b"RDY 0\n");
    // The probe goes to the one that holds nothing.
    second.expect(b"RDY 1\n");
    let stats = consumer.stats();
    assert_eq!((stats.backoff.level, stats.backoff.probing), (1, true));
    assert_eq!(stats.connections[0].pause, Some(Pause::Backoff));
    // A late success of the period before ends nothing.
    late.pop().unwrap().finish();
    first.expect(b"FIN 0000000000000002\n");
    assert!(consumer.stats().backoff.probing);
    second.message(3, 2, b"probe");
    recv(&consumer).finish();
    second.expect(b"FIN 0000000000000003\nRDY 5\n");
    first.expect(b"RDY 5\n");
    assert_eq!(consumer.stats().connections[0].pause, None);
}

#[test]
fn a_failed_probe_stops_it_for_longer_and_one_without_backoff_does_not() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, backing_off(SHORT));
    peer.message(1, 1, b"x");
    recv(&consumer).requeue(Duration::ZERO);
    peer.expect(b"REQ 0000000000000001 0\nRDY 0\nRDY 1\n");
    peer.message(1, 2, b"x");
    let began = Instant::now();
    recv(&consumer).requeue(Duration::ZERO);
    peer.expect(b"REQ 0000000000000001 0\nRDY 0\n");
    assert_eq!(consumer.stats().backoff.level, 2);
    peer.expect(b"RDY 1\n");
    assert!(began.elapsed() >= SHORT, "{:?}", began.elapsed());
    // Neither success nor failure: the probe goes on.
    peer.message(1, 3, b"x");
    recv(&consumer).requeue_without_backoff(Duration::from_millis(7));
    peer.expect(b"REQ 0000000000000001 7\n");
    peer.message(1, 4, b"x");
    recv(&consumer).finish();
    peer.expect(b"FIN 0000000000000001\nRDY 10\n");
}

#[test]
fn failures_change_nothing_with_a_longest_backoff_of_zero() {
    let script = Script::listen();
    let config = config().backoff_max(Duration::ZERO);
    let (consumer, mut peer) = script.consume(10, config);
    for number in 1..=3 {
        peer.message(number, 1, b"x");
        recv(&consumer).requeue(Duration::ZERO);
        peer.expect(format!("REQ {} 0\n", id(number)).as_bytes());
    }
    assert_eq!(consumer.stats().backoff.level, 0);
}

#[test]
fn a_panic_backs_off_and_the_handler_goes_on() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, backing_off(SHORT));
    let running = consumer
        .run(NonZeroUsize::MIN, |delivery| {
            assert_ne!(delivery.body(), b"poison", "on purpose");
            delivery.finish();
        })
        .unwrap();
    peer.message(1, 1, b"poison");
    peer.expect(b"REQ 0000000000000001 1000\nRDY 0\nRDY 1\n");
    peer.message(2, 1, b"x");
    peer.expect(b"FIN 0000000000000002\nRDY 10\n");
    let stopping = beside(move || running.shutdown());
    peer.close_in_order();
    stopping.join();
}

#[test]
fn a_backoff_survives_the_loss_of_all_connections() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, backing_off(2 * SHORT));
    peer.message(1, 1, b"x");
    recv(&consumer).requeue(Duration::ZERO);
    peer.expect(b"REQ 0000000000000001 0\nRDY 0\n");
    drop(peer);
    // Whether the new connection comes before the end of the wait or behind it, the first RDY is the probe's.
    let mut again = script.accept_subscribed();
    again.expect(b"RDY 1\n");
    // Lost in the middle of the probe.
    drop(again);
    let mut again = script.accept_subscribed();
    again.expect(b"RDY 1\n");
    again.message(1, 2, b"x");
    recv(&consumer).finish();
    again.expect(b"FIN 0000000000000001\nRDY 10\n");
}

#[test]
fn a_connection_that_first_comes_during_a_backoff_flows_after_it() {
    let (one, two) = (Script::listen(), Script::listen());
    let config = backing_off(SHORT).nsqd(one.addr()).nsqd(two.addr()).max_in_flight(10);
    let starting = start(config);
    let mut first = one.accept_subscribed();
    first.expect(b"RDY 10\n");
    let pending = two.accept_identified();
    first.message(1, 1, b"x");
    drop(pending);
    let consumer = starting.join().unwrap();
    recv(&consumer).requeue(Duration::ZERO);
    first.expect(b"REQ 0000000000000001 0\nRDY 0\n");
    drop(one);
    drop(first);
    let mut second = two.accept_subscribed();
    second.expect(b"RDY 1\n");
    second.message(2, 1, b"x");
    recv(&consumer).finish();
    second.expect(b"FIN 0000000000000002\nRDY 10\n");
}

#[test]
fn an_idle_probe_moves_on_to_the_next_connection() {
    let config = backing_off(SHORT).low_rdy_idle_timeout(SHORT);
    let (consumer, _scripts, [mut first, mut second]) = consume_two(config);
    first.message(1, 1, b"x");
    recv(&consumer).requeue(Duration::ZERO);
    first.expect(b"REQ 0000000000000001 0\nRDY 0\nRDY 1\nRDY 0\n");
    second.expect(b"RDY 0\nRDY 1\n");
    second.message(2, 1, b"x");
    recv(&consumer).finish();
    // Where the probe is by the time of the answer is a matter of speed; both flow in the end.
    let until_flowing = |peer: &mut Peer| peer.expect_last(b"RDY 5\n");
    until_flowing(&mut first);
    until_flowing(&mut second);
}

#[test]
fn a_stop_ends_in_every_phase_of_a_backoff() {
    // While nothing is asked for.
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, backing_off(DEADLINE));
    peer.message(1, 1, b"x");
    recv(&consumer).requeue(Duration::ZERO);
    peer.expect(b"REQ 0000000000000001 0\nRDY 0\n");
    assert!(consumer.stats().backoff.ends_in.unwrap() > DEADLINE / 3);
    let stopping = beside(move || consumer.shutdown());
    peer.close_in_order();
    assert_eq!(stopping.join().connections[0].requeued, 1);
    // While it probes, and with the probe in a worker's hands.
    for held in [false, true] {
        let (consumer, mut peer) = script.consume(10, backing_off(SHORT));
        peer.message(1, 1, b"x");
        recv(&consumer).requeue(Duration::ZERO);
        peer.expect(b"REQ 0000000000000001 0\nRDY 0\nRDY 1\n");
        let batch = held.then(|| {
            peer.message(1, 2, b"x");
            recv(&consumer)
        });
        let stopping = beside(move || consumer.shutdown());
        peer.expect(b"CLS\n");
        peer.respond(b"CLOSE_WAIT");
        if let Some(batch) = batch {
            batch.requeue(Duration::ZERO);
            peer.expect(b"REQ 0000000000000001 0\n");
        }
        peer.expect_end();
        drop(peer);
        stopping.join();
    }
}

#[test]
fn a_message_delivered_too_often_is_given_up() {
    let script = Script::listen();
    let limited = config().max_attempts(2);
    // Without a handler it is finished.
    let (consumer, mut peer) = script.consume(10, limited.clone());
    let batches = consumer.batches();
    let message = |number, attempts| {
        let mut wire = Vec::new();
        let body = b"x";
        Frame::Message(MessageRef { timestamp_ns: 0, attempts, id: id(number), body, skipped: 0 })
            .encode(&mut wire);
        wire
    };
    // The attempts of one that was delivered 65536 times are 0: nothing is dropped because of that.
    peer.send(&[message(1, 3), message(2, 2), message(3, u16::MAX), message(4, 0)].concat());
    let batch = batches.recv_timeout(DEADLINE).unwrap();
    assert_eq!(batch.iter().map(|message| message.id).collect::<Vec<_>>(), [id(2), id(4)]);
    peer.expect(b"FIN 0000000000000001\nFIN 0000000000000003\n");
    batch.finish();
    peer.expect(b"FIN 0000000000000002\nFIN 0000000000000004\n");
    assert_eq!(consumer.stats().gave_up, 2);
    drop(consumer);
    // With one, it decides.
    let limited = limited.on_give_up(|given_up| match given_up.message.body {
        b"again" => GiveUp::Requeue(Duration::from_millis(9)),
        body => {
            assert_ne!(body, b"poison", "on purpose");
            GiveUp::Finish
        }
    });
    let (consumer, mut peer) = script.consume(10, limited);
    let batches = consumer.batches();
    let receiving = beside(move || batches.recv_timeout(DEADLINE).map(Batch::finish));
    peer.message(1, 3, b"again");
    peer.expect(b"REQ 0000000000000001 9\n");
    peer.message(2, 3, b"done");
    peer.expect(b"FIN 0000000000000002\n");
    peer.message(3, 3, b"poison");
    peer.expect(b"REQ 0000000000000003 1000\nRDY 0\n");
    peer.message(4, 1, b"x");
    peer.expect(b"FIN 0000000000000004\n");
    receiving.join().unwrap();
    assert_eq!(consumer.stats().gave_up, 3);
}

#[test]
fn all_that_is_held_is_touched_together_until_answered() {
    let script = Script::listen();
    let config = config().auto_touch(true);
    let starting = start(config.nsqd(script.addr()).max_in_flight(10));
    let mut peer = script.accept();
    peer.identify();
    peer.respond(br#"{"max_rdy_count":2500,"msg_timeout":200,"max_msg_timeout":450}"#);
    peer.expect(b"SUB t c\n");
    peer.respond(b"OK");
    peer.expect(b"RDY 10\n");
    let consumer = starting.join().unwrap();
    let mut wire = Vec::new();
    for number in 1..=2 {
        let message =
            MessageRef { timestamp_ns: 0, attempts: 1, id: id(number), body: b"x", skipped: 0 };
        Frame::Message(message).encode(&mut wire);
    }
    peer.send(&wire);
    // While they are queued.
    peer.expect(b"TOUCH 0000000000000001\nTOUCH 0000000000000002\n");
    let mut held: Vec<Delivery> = recv(&consumer).into_deliveries().collect();
    held.remove(0).finish();
    peer.expect(b"FIN 0000000000000001\n");
    // While one is in a handler, until touching is in vain: three in all, as 3 × 100 ms + 200 ms is over 450 ms.
    peer.expect(b"TOUCH 0000000000000002\nTOUCH 0000000000000002\n");
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(300) {
        let _ = consumer.batches().recv_timeout(Duration::from_millis(300));
    }
    held.remove(0).finish();
    peer.expect(b"FIN 0000000000000002\n");
    assert_eq!(consumer.stats().connections[0].touched, 4);
}

#[test]
fn an_adaptive_rdy_starts_at_one_and_grows_with_a_backlog() {
    let script = Script::listen();
    let config = config().rdy(RdyMode::Adaptive);
    let starting = start(config.nsqd(script.addr()).max_in_flight(64));
    let mut peer = script.accept();
    assert_eq!(peer.identify().output_buffer_timeout, 25);
    peer.respond(IDENTIFIED);
    peer.expect(b"SUB t c\n");
    peer.respond(b"OK");
    peer.expect(b"RDY 1\n");
    let consumer = starting.join().unwrap();
    let batches = consumer.batches();
    let _handling = beside(move || batches.for_each(Batch::finish));
    // Published long ago, so each one has waited for room.
    let (mut rdy, mut number) = (1, 0);
    while rdy < 64 {
        number += 1;
        peer.message(number, 1, b"x");
        rdy = expect_fin(&mut peer, &format!("FIN {}\n", id(number)), rdy);
        assert!(rdy <= 64);
    }
    // Then nothing comes any more: what nsqd may have gathered is fetched.
    peer.expect(b"RDY 1\n");
    let stopping = beside(move || consumer.shutdown());
    peer.close_in_order();
    stopping.join();
}

#[test]
fn an_nsqd_that_takes_no_other_output_buffer_is_asked_again() {
    let script = Script::listen();
    let config = config().rdy(RdyMode::Adaptive);
    let starting = start(config.nsqd(script.addr()).max_in_flight(10));
    let mut peer = script.accept();
    let asked = peer.identify();
    assert_eq!((asked.output_buffer_size, asked.output_buffer_timeout), (65536, 25));
    peer.error(b"E_BAD_BODY IDENTIFY output buffer timeout (25) is invalid");
    let mut peer = script.accept();
    let asked = peer.identify();
    assert_eq!((asked.output_buffer_size, asked.output_buffer_timeout), (0, 0));
    peer.respond(IDENTIFIED);
    peer.expect(b"SUB t c\n");
    peer.respond(b"OK");
    peer.expect(b"RDY 1\n");
    starting.join().unwrap();
}

#[test]
fn nsqds_take_turns_where_there_are_more_than_max_in_flight() {
    let scripts = [Script::listen(), Script::listen()];
    let config = config().low_rdy_idle_timeout(SHORT);
    let starting = start(config.nsqd(scripts[0].addr()).nsqd(scripts[1].addr()).max_in_flight(1));
    let mut first = scripts[0].accept_subscribed();
    first.expect(b"RDY 1\n");
    let mut second = scripts[1].accept_subscribed();
    first.expect(b"RDY 0\n");
    second.expect(b"RDY 1\n");
    let consumer = starting.join().unwrap();
    second.message(1, 1, b"x");
    let held = recv(&consumer);
    seen_by_reader(&mut second);
    assert_eq!(consumer.stats().connections[0].pause, Some(Pause::OthersTurn));
    held.finish();
    second.expect(b"FIN 0000000000000001\nRDY 0\n");
    first.expect(b"RDY 1\n");
}

fn publish(nsqd: &Nsqd, messages: usize) {
    let producer = Producer::connect(ProducerConfig::new().nsqd(nsqd.addr())).unwrap();
    let mut bodies = BodiesBuf::new();
    (0..messages).for_each(|number| bodies.push(number.to_string().as_bytes()));
    producer.publish_many(&"t".parse().unwrap(), &bodies).unwrap();
    producer.close(DEADLINE).unwrap();
}

#[test]
fn five_nsqds_are_drained_with_two_in_flight() {
    let nsqds =
        [nsqd_or_skip!(), nsqd_or_skip!(), nsqd_or_skip!(), nsqd_or_skip!(), nsqd_or_skip!()];
    for rdy in [RdyMode::Adaptive, RdyMode::Fixed] {
        nsqds.iter().for_each(|nsqd| publish(nsqd, 200));
        let mut config = nsqds
            .iter()
            .fold(config(), |config, nsqd| config.nsqd(nsqd.addr()))
            .low_rdy_idle_timeout(SHORT);
        // A busy one gives way after 30 s / 3, if that is not shortened.
        config = config.low_rdy_timeout(Duration::from_secs(1)).rdy(rdy);
        let consumer = Consumer::start(config.max_in_flight(2)).unwrap();
        let (held, peak) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (sent, handled) = std::sync::mpsc::channel();
        let running = {
            let (held, peak) = (held.clone(), peak.clone());
            consumer
                .run(NonZeroUsize::new(4).unwrap(), move |delivery| {
                    peak.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let from = delivery.nsqd().to_owned();
                    held.fetch_sub(1, Ordering::SeqCst);
                    delivery.finish();
                    sent.send(from).unwrap();
                })
                .unwrap()
        };
        let mut from = std::collections::BTreeMap::new();
        for _ in 0..1000 {
            *from.entry(handled.recv_timeout(DEADLINE).unwrap()).or_insert(0) += 1;
        }
        assert_eq!(from.into_values().collect::<Vec<_>>(), [200; 5]);
        assert!(peak.load(Ordering::SeqCst) <= 2);
        let stats = running.shutdown();
        assert!(stats.peak_in_flight <= 2, "{} in flight", stats.peak_in_flight);
    }
}

#[test]
fn a_held_message_outlives_its_timeout_by_touches() {
    let nsqd = nsqd_or_skip!();
    publish(&nsqd, 2);
    let config = config()
        .nsqd(nsqd.addr())
        .max_in_flight(2)
        .msg_timeout(Duration::from_secs(1))
        .auto_touch(true);
    let consumer = Consumer::start(config).unwrap();
    let held = recv(&consumer);
    // nsqd looks at the timeouts of a new channel after at most 5 s.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(7) {
        let batch = consumer.batches().recv_timeout(Duration::from_millis(100));
        if let Ok(batch) = batch {
            assert_eq!(batch.iter().next().unwrap().attempts, 1);
            batch.finish();
        }
    }
    held.finish();
    let stats = &consumer.shutdown().connections[0];
    assert_eq!((stats.messages, stats.failed_finishes, stats.failed_touches), (2, 0, 0));
    assert!(stats.touched >= 7, "{}", stats.touched);
}

#[test]
fn a_backoff_of_the_real_nsqd_ends_and_all_is_handled() {
    let nsqd = nsqd_or_skip!();
    publish(&nsqd, 500);
    let config = backing_off(SHORT).nsqd(nsqd.addr()).rdy(RdyMode::Adaptive);
    let consumer = Consumer::start(config).unwrap();
    let (sent, handled) = std::sync::mpsc::channel();
    let running = consumer
        .run(NonZeroUsize::new(2).unwrap(), move |delivery| {
            // A few fail, the first time.
            if delivery.attempts() == 1 && delivery.body().ends_with(b"77") {
                return delivery.requeue(Duration::ZERO);
            }
            delivery.finish();
            sent.send(()).unwrap();
        })
        .unwrap();
    (0..500).for_each(|_| handled.recv_timeout(DEADLINE).unwrap());
    assert!(running.shutdown().connections[0].requeued >= 5);
}
