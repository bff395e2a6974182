//! How a consumer stops, and how a producer closes, against the scripted nsqd.

use std::time::{Duration, Instant};

use nsq_protocol::{
    Consumer, ConsumerConfig, Error, Frame, MessageRef, PublishError, RecvTimeoutError,
};

use crate::script::{
    Script, beside, config, frame, id, producer_config, recv, seen_by_reader, waits_a_minute,
};
use crate::timing::{DEADLINE, MINUTE, check_takes_less};

/// The defaults, with everything that a stop must not wait for lasting a minute.
fn patient() -> ConsumerConfig {
    config().connection(waits_a_minute()).stop_timeout(MINUTE)
}

/// Stops `consumer`, which must be done soon although nobody helps, and gives how long it took.
#[track_caller]
fn check_stops(consumer: Consumer, timeout: Duration, unanswered: u64) -> Duration {
    let began = Instant::now();
    assert_eq!(consumer.stop_within(timeout).0, unanswered);
    let took = began.elapsed();
    assert!(took < DEADLINE, "{took:?}: it waited for something that lasts a minute");
    // Idempotent.
    assert_eq!(consumer.stop().0, unanswered);
    assert!(consumer.batches().recv().is_none());
    took
}

#[test]
fn a_stop_ends_in_every_phase() {
    let script = Script::listen();
    // Idle, and the peer plays along.
    let (consumer, peer) = script.consume(10, patient());
    let stopping = beside(move || check_stops(consumer, MINUTE, 0));
    peer.close_in_order();
    stopping.join();
    // The peer is gone, and the client waits to try again.
    let slow = patient().reconnect_min(MINUTE).reconnect_max(MINUTE);
    let (consumer, peer) = script.consume(10, slow);
    drop(peer);
    while consumer.stats().connections[0].connected {
        let _ = consumer.batches().recv_timeout(Duration::from_millis(1));
    }
    check_stops(consumer, MINUTE, 0);
    // In the middle of another handshake, which the peer does not answer.
    let (consumer, peer) = script.consume(10, patient());
    drop(peer);
    let _silent = script.accept();
    check_stops(consumer, MINUTE, 0);
}

/// What a stop, or a drop, may take beyond its timeout while nobody helps: about a second.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn a_stop_that_nobody_helps_takes_its_timeout_and_about_a_second() {
    let (script, short) = (Script::listen(), Duration::from_millis(100));
    // Idle, and the peer neither agrees nor closes.
    check_takes_less(short + SOON, || {
        let (consumer, _peer) = script.consume(10, patient());
        check_stops(consumer, short, 0)
    });
    // With a batch in a worker's hands for ever.
    check_takes_less(short + SOON, || {
        let (consumer, mut peer) = script.consume(10, patient());
        peer.message(1, 1, b"x");
        let held = recv(&consumer);
        let stopping = beside(move || check_stops(consumer, short, 1));
        peer.expect(b"CLS\n");
        peer.respond(b"CLOSE_WAIT");
        let took = stopping.join();
        held.finish();
        took
    });
    // Dropped without a stop.
    check_takes_less(SOON, || {
        let (consumer, mut peer) = script.consume(10, patient());
        peer.message(1, 1, b"x");
        let began = Instant::now();
        drop(consumer);
        let took = began.elapsed();
        peer.read_to_end();
        took
    });
}

#[test]
fn a_stop_waits_for_held_messages_and_gives_back_queued_ones() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, config());
    let batches = consumer.batches();
    peer.message(1, 1, b"x");
    let held = batches.recv_timeout(DEADLINE).unwrap();
    peer.message(2, 1, b"x");
    seen_by_reader(&mut peer);
    let stopping = beside(move || consumer.shutdown());
    peer.expect(b"CLS\n");
    // On its way when nsqd read the CLS.
    peer.message(3, 1, b"x");
    peer.respond(b"CLOSE_WAIT");
    assert_eq!(batches.recv_timeout(DEADLINE).unwrap().iter().next().unwrap().id, id(2));
    peer.expect(b"REQ 0000000000000002 0\n");
    held.finish();
    peer.expect(b"FIN 0000000000000001\n");
    // Nobody receives any more: given back at once.
    drop(batches);
    peer.expect(b"REQ 0000000000000003 0\n");
    peer.expect_end();
    drop(peer);
    let stats = stopping.join();
    assert_eq!((stats.connections[0].in_flight, stats.queued_batches), (0, 0));
}

#[test]
fn batches_end_when_the_consumer_does() {
    let script = Script::listen();
    let (consumer, peer) = script.consume(10, config());
    let batches = consumer.batches();
    assert_eq!(batches.recv_timeout(Duration::ZERO).unwrap_err(), RecvTimeoutError::Timeout);
    let counting = {
        let batches = batches.clone();
        beside(move || batches.count())
    };
    let stopping = beside(move || consumer.shutdown());
    peer.close_in_order();
    stopping.join();
    assert_eq!(counting.join(), 0);
    assert_eq!(batches.recv_timeout(DEADLINE).unwrap_err(), RecvTimeoutError::Stopped);
}

#[test]
fn what_surrounds_close_wait_is_given_back() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, config());
    let message = |number| MessageRef {
        timestamp_ns: 0,
        attempts: 1,
        id: id(number),
        body: b"x",
        skipped: 0,
    };
    let stopping = beside(move || consumer.shutdown());
    peer.expect(b"CLS\n");
    peer.send(
        &[
            frame(Frame::Message(message(1))),
            frame(Frame::Response(b"CLOSE_WAIT")),
            frame(Frame::Message(message(2))),
        ]
        .concat(),
    );
    peer.expect(b"REQ 0000000000000001 0\nREQ 0000000000000002 0\n");
    peer.expect_end();
    drop(peer);
    let stats = &stopping.join().connections[0];
    assert_eq!((stats.requeued, stats.lost_answers), (2, 0));
    assert_eq!(stats.last_error, None);
}

#[test]
fn a_close_frees_everybody_who_waits() {
    let script = Script::listen();
    let config = producer_config()
        .connection(waits_a_minute())
        .publish_timeout(MINUTE)
        .response_timeout(MINUTE);
    let (producer, mut peer) = script.produce(config);
    let receipt = producer.submit(&"t".parse().unwrap(), b"a".to_vec()).unwrap();
    let waiting = beside(move || receipt.wait());
    peer.expect(b"PUB t\n\0\0\0\x01a");
    let began = Instant::now();
    let error = producer.close(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let unpublished = waiting.join().unwrap_err();
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    assert!(unpublished.error.is_unknown());
    assert_eq!(unpublished.bodies, b"a");
}

#[test]
fn a_close_is_shared_and_repeated_and_nothing_is_published_behind_it() {
    let script = Script::listen();
    let config = producer_config().publish_timeout(Duration::MAX);
    let (producer, mut peer) = script.produce(config);
    let producer = std::sync::Arc::new(producer);
    producer.flush(Duration::MAX).unwrap();
    let closing: Vec<_> = (0..2)
        .map(|_| {
            let producer = producer.clone();
            beside(move || producer.close(Duration::MAX))
        })
        .collect();
    peer.expect_end();
    drop(peer);
    closing.into_iter().for_each(|closing| closing.join().unwrap());
    producer.close(Duration::ZERO).unwrap();
    let began = Instant::now();
    let error = producer.publish(&"t".parse().unwrap(), b"a").unwrap_err();
    assert!(matches!(error, PublishError::NotSent { source: Error::Stopped, .. }), "{error:?}");
    let unpublished = producer.submit(&"t".parse().unwrap(), b"a".to_vec()).unwrap_err();
    assert_eq!(unpublished.bodies, b"a");
    // The publish timeout is for ever.
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
}
