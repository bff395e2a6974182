//! The producer against the scripted nsqd.

use std::time::{Duration, Instant};

use nsq_protocol::{
    BodiesBuf, Error, ErrorCode, HEARTBEAT, Producer, ProducerConfig, PublishError, TopicName,
};

use crate::script::{Script, beside, connect, producer_config, waits_a_minute};
use crate::timing::DEADLINE;

const PUB_A: &[u8] = b"PUB t\n\0\0\0\x01a";
const PUB_B: &[u8] = b"PUB t\n\0\0\0\x01b";
const PUB_C: &[u8] = b"PUB t\n\0\0\0\x01c";

fn topic() -> TopicName {
    "t".parse().unwrap()
}

fn bodies(parts: &[&[u8]]) -> BodiesBuf {
    let mut bodies = BodiesBuf::new();
    parts.iter().for_each(|body| bodies.push(body));
    bodies
}

#[test]
fn every_publish_has_its_exact_bytes() {
    let script = Script::listen();
    let (producer, mut peer) = script.produce(producer_config());
    let publishing = beside(move || {
        producer.publish(&topic(), b"a").unwrap();
        producer.publish_many(&topic(), &bodies(&[b"a", b"bc"])).unwrap();
        producer.publish_deferred(&topic(), Duration::from_micros(1_500_999), b"a").unwrap();
        producer
    });
    peer.expect(PUB_A);
    peer.respond(HEARTBEAT);
    peer.expect(b"NOP\n");
    peer.respond(b"OK");
    peer.expect(b"MPUB t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x01a\0\0\0\x02bc");
    peer.respond(b"OK");
    peer.expect(b"DPUB t 1500\n\0\0\0\x01a");
    peer.respond(b"OK");
    let producer = publishing.join();
    assert_eq!(producer.stats().connections[0].accepted, 3);
    let closing = beside(move || producer.close(DEADLINE));
    peer.expect_end();
    drop(peer);
    closing.join().unwrap();
}

#[test]
fn what_nsqd_would_refuse_is_not_sent() {
    let script = Script::listen();
    let config = producer_config().max_msg_size(4).max_body_size(20);
    let (producer, mut peer) = script.produce(config);
    let check = |result: Result<(), PublishError>, want: &str| {
        let error = result.unwrap_err();
        assert!(matches!(error, PublishError::Invalid { .. }) && !error.is_unknown());
        assert_eq!(error.to_string(), format!("not published: {want}"));
    };
    check(producer.publish(&topic(), b""), "the body is empty");
    check(producer.publish(&topic(), b"12345"), "a body of 5 bytes is over the 4 byte limit");
    check(producer.publish_many(&topic(), &bodies(&[])), "there is no body");
    let many = bodies(&[b"1", b"12345"]);
    check(producer.publish_many(&topic(), &many), "a body of 5 bytes is over the 4 byte limit");
    let many = bodies(&[b"1234", b"1234", b"1"]);
    let unpublished = producer.submit_many(&topic(), many).unwrap_err();
    let want = "not published: an MPUB of 25 bytes is over the 20 byte limit";
    assert_eq!((unpublished.to_string(), unpublished.bodies.len()), (want.to_owned(), 3));
    let hours = Duration::from_secs(2 * 3600);
    check(
        producer.publish_deferred(&topic(), hours, b"1"),
        "a delay of 7200000 ms is over the limit of 3600s",
    );
    let unpublished = producer.submit(&topic(), b"12345".to_vec()).unwrap_err();
    assert_eq!(unpublished.bodies, b"12345");
    drop(producer);
    peer.expect_end();
}

#[test]
fn pipelined_publishes_are_answered_in_order_and_give_their_bodies_back() {
    let script = Script::listen();
    let (producer, mut peer) = script.produce(producer_config());
    let first = producer.submit(&topic(), b"a".to_vec()).unwrap();
    let second = producer.submit_many(&topic(), bodies(&[b"b"])).unwrap();
    let third = producer.submit_deferred(&topic(), Duration::ZERO, b"c".to_vec()).unwrap();
    peer.expect(PUB_A);
    peer.expect(b"MPUB t\n\0\0\0\x09\0\0\0\x01\0\0\0\x01b");
    peer.expect(b"DPUB t 0\n\0\0\0\x01c");
    assert!(!first.is_ready());
    (0..3).for_each(|_| peer.respond(b"OK"));
    assert_eq!(third.wait().unwrap(), b"c");
    assert!(first.is_ready());
    assert_eq!(second.wait().unwrap().len(), 1);
    assert_eq!(first.wait().unwrap(), b"a");
    producer.flush(Duration::ZERO).unwrap();
}

#[test]
fn e_pub_failed_is_retried_and_what_was_pending_behind_it_too() {
    let script = Script::listen();
    let (producer, mut peer) = script.produce(producer_config());
    let first = producer.submit(&topic(), b"a".to_vec()).unwrap();
    let second = producer.submit(&topic(), b"b".to_vec()).unwrap();
    peer.expect(PUB_A);
    peer.expect(PUB_B);
    peer.error(b"E_PUB_FAILED PUB failed disk full");
    let waiting = beside(move || (first.wait(), second.wait()));
    peer.expect_end();
    let mut peer = script.accept_identified();
    peer.expect(PUB_A);
    peer.respond(b"OK");
    peer.expect(PUB_B);
    peer.respond(b"OK");
    let (first, second) = waiting.join();
    assert_eq!((first.unwrap(), second.unwrap()), (b"a".to_vec(), b"b".to_vec()));
    let stats = &producer.stats().connections[0];
    assert_eq!((stats.accepted, stats.refused, stats.unknown, stats.reconnects), (2, 1, 1, 1));
    assert!(stats.last_error.as_ref().unwrap().contains("E_PUB_FAILED"));
}

#[test]
fn the_other_two_retryable_refusals_are_retried() {
    let script = Script::listen();
    let (producer, mut peer) = script.produce(producer_config());
    let publishing = beside(move || {
        producer.publish_many(&topic(), &bodies(&[b"b"])).unwrap();
        producer.publish_deferred(&topic(), Duration::ZERO, b"c").unwrap();
        producer
    });
    for (command, refusal) in [
        (&b"MPUB t\n\0\0\0\x09\0\0\0\x01\0\0\0\x01b"[..], &b"E_MPUB_FAILED MPUB failed"[..]),
        (b"DPUB t 0\n\0\0\0\x01c", b"E_DPUB_FAILED DPUB failed"),
    ] {
        peer.expect(command);
        peer.error(refusal);
        peer.expect_end();
        peer = script.accept_identified();
        peer.expect(command);
        peer.respond(b"OK");
    }
    publishing.join();
}

#[test]
fn a_permanent_refusal_is_returned_at_once() {
    let script = Script::listen();
    for code in ["E_BAD_TOPIC", "E_BAD_MESSAGE", "E_UNAUTHORIZED", "E_INVALID", "E_NEW_ONE"] {
        let (producer, mut peer) = script.produce(producer_config());
        let publishing = beside(move || producer.publish(&topic(), b"a").unwrap_err());
        peer.expect(PUB_A);
        peer.error(format!("{code} PUB because").as_bytes());
        let error = publishing.join();
        let PublishError::Refused { source } = error else { panic!("{error:?}") };
        let Error::Refused { command, code: got, detail, .. } = source else { panic!("{source}") };
        assert_eq!((command, got.as_str(), &*detail), ("PUB", code, "PUB because"));
    }
}

#[test]
fn a_refusal_that_lasts_is_returned_at_the_timeout() {
    let script = Script::listen();
    let mut config = producer_config().publish_timeout(Duration::from_millis(60));
    // No further attempt fits in before the timeout.
    config = config.reconnect_min(DEADLINE).reconnect_max(DEADLINE);
    let (producer, mut peer) = script.produce(config);
    let publishing = beside(move || producer.publish(&topic(), b"a").unwrap_err());
    peer.expect(PUB_A);
    peer.error(b"E_PUB_FAILED");
    peer.expect_end();
    let error = publishing.join();
    let PublishError::Refused { source: Error::Refused { code, .. } } = error else {
        panic!("{error:?}");
    };
    assert_eq!(code, ErrorCode::PubFailed);
}

#[test]
fn a_publish_whose_answer_is_lost_goes_to_the_next_nsqd() {
    let (one, two) = (Script::listen(), Script::listen());
    let connecting = connect(producer_config().nsqd(one.addr()).nsqd(two.addr()));
    let mut peer = one.accept_identified();
    let producer = connecting.join().unwrap();
    let publishing = beside(move || {
        producer.publish(&topic(), b"a").unwrap();
        producer.publish(&topic(), b"b").unwrap();
        producer
    });
    peer.expect(PUB_A);
    drop(peer);
    let mut peer = two.accept_identified();
    peer.expect(PUB_A);
    peer.respond(b"OK");
    peer.expect(PUB_B);
    peer.respond(b"OK");
    let stats = publishing.join().stats();
    assert_eq!((stats.connections[0].unknown, stats.connections[1].accepted), (1, 2));
    assert!(stats.connections[1].current);
}

#[test]
fn an_unknown_outcome_is_told_from_a_publish_that_was_never_sent() {
    let script = Script::listen();
    let config = producer_config().publish_timeout(Duration::from_millis(50));
    let (producer, mut peer) = script.produce(config);
    let publishing = beside(move || (producer.publish(&topic(), b"a"), producer));
    peer.expect(PUB_A);
    let (outcome, producer) = publishing.join();
    let error = outcome.unwrap_err();
    assert!(error.is_unknown(), "{error:?}");
    drop((script, peer));
    // The end of the connection may be noticed only by the publish itself.
    let error = loop {
        match producer.publish(&topic(), b"b").unwrap_err() {
            PublishError::Unknown { .. } => {}
            other => break other,
        }
    };
    assert!(matches!(error, PublishError::NotSent { .. }), "{error:?}");
}

#[test]
fn an_nsqd_that_answers_nothing_is_left() {
    let (one, two) = (Script::listen(), Script::listen());
    let config = producer_config().response_timeout(Duration::from_millis(50));
    let connecting = connect(config.nsqd(one.addr()).nsqd(two.addr()));
    let mut stuck = one.accept_identified();
    let producer = connecting.join().unwrap();
    let publishing = beside(move || producer.publish(&topic(), b"a"));
    stuck.expect(PUB_A);
    let mut peer = two.accept_identified();
    peer.expect(PUB_A);
    peer.respond(b"OK");
    publishing.join().unwrap();
}

#[test]
fn the_window_is_never_exceeded() {
    let script = Script::listen();
    let config =
        producer_config().max_pending_commands(2).publish_timeout(Duration::from_millis(50));
    let (producer, mut peer) = script.produce(config);
    let first = producer.submit(&topic(), b"a".to_vec()).unwrap();
    let second = producer.submit(&topic(), b"b".to_vec()).unwrap();
    let unpublished = producer.submit(&topic(), b"c".to_vec()).unwrap_err();
    assert!(matches!(*unpublished.error, PublishError::NotSent { .. }));
    assert_eq!(unpublished.bodies, b"c");
    assert_eq!(producer.stats().connections[0].pending_commands, 2);
    assert!(matches!(producer.flush(Duration::ZERO), Err(Error::Timeout { .. })));
    peer.expect(PUB_A);
    peer.expect(PUB_B);
    peer.respond(b"OK");
    first.wait().unwrap();
    let third = producer.submit(&topic(), b"c".to_vec()).unwrap();
    peer.expect(PUB_C);
    peer.respond(b"OK");
    peer.respond(b"OK");
    second.wait().unwrap();
    third.wait().unwrap();
}

#[test]
fn the_window_counts_bytes_and_lets_one_large_publish_through() {
    let script = Script::listen();
    let config =
        producer_config().max_pending_bytes(1000).publish_timeout(Duration::from_millis(50));
    let (producer, mut peer) = script.produce(config);
    let large = producer.submit(&topic(), vec![b'x'; 5000]).unwrap();
    producer.submit(&topic(), b"a".to_vec()).unwrap_err();
    peer.expect(&[b"PUB t\n\0\0\x13\x88".to_vec(), vec![b'x'; 5000]].concat());
    peer.respond(b"OK");
    large.wait().unwrap();
    let many: Vec<_> =
        (0..4).map(|_| producer.submit(&topic(), vec![b'x'; 100]).unwrap()).collect();
    producer.submit(&topic(), vec![b'x'; 100]).unwrap_err();
    assert!(producer.stats().connections[0].pending_bytes <= 1000);
    drop((many, peer));
}

#[test]
fn an_idle_connection_that_was_lost_is_made_again() {
    let script = Script::listen();
    let (producer, peer) = script.produce(producer_config());
    drop(peer);
    let publishing = beside(move || producer.publish(&topic(), b"a"));
    let mut peer = script.accept_identified();
    peer.expect(PUB_A);
    peer.respond(b"OK");
    publishing.join().unwrap();
}

#[test]
fn answers_that_make_no_sense_end_the_connection() {
    for nonsense in [&b"CLOSE_WAIT"[..], b"\xff"] {
        let script = Script::listen();
        let (producer, mut peer) = script.produce(producer_config());
        let publishing = beside(move || (producer.publish(&topic(), b"a"), producer));
        peer.expect(PUB_A);
        peer.respond(nonsense);
        let mut peer = script.accept_identified();
        peer.expect(PUB_A);
        peer.respond(b"OK");
        // One answer too many.
        peer.respond(b"OK");
        peer.expect_end();
        let (outcome, producer) = publishing.join();
        outcome.unwrap();
        assert_eq!(producer.stats().connections[0].unknown, 1);
    }
}

#[test]
fn a_connect_without_any_nsqd_says_the_most_telling_error() {
    let gone = Script::listen().addr();
    let error = Producer::connect(producer_config().nsqd(&*gone)).unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    let error = Producer::connect(ProducerConfig::new()).unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error}");

    let script = Script::listen();
    let connecting = connect(producer_config().nsqd(script.addr()).nsqd(gone));
    let mut peer = script.accept();
    peer.identify();
    peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let error = connecting.join().unwrap_err();
    assert!(matches!(error, Error::Decode { .. }), "{error}");
}

#[test]
fn threads_share_a_producer() {
    let script = Script::listen();
    let (producer, mut peer) = script.produce(producer_config());
    let producer = std::sync::Arc::new(producer);
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let producer = producer.clone();
            beside(move || (0..50).for_each(|_| producer.publish(&topic(), b"a").unwrap()))
        })
        .collect();
    for _ in 0..100 {
        peer.expect(PUB_A);
        peer.respond(b"OK");
    }
    threads.into_iter().for_each(|thread| thread.join());
    assert_eq!(producer.stats().connections[0].accepted, 100);
}

#[test]
fn a_peer_that_takes_no_bytes_is_left() {
    let (one, two) = (Script::listen(), Script::listen());
    let config = producer_config().write_timeout(Duration::from_millis(100));
    let connecting = connect(config.nsqd(one.addr()).nsqd(two.addr()));
    let _stuck = one.accept_identified();
    let producer = connecting.join().unwrap();
    // More than the system buffers on both sides.
    let receipts: Vec<_> =
        (0..15).map(|_| producer.submit(&topic(), vec![b'x'; 1 << 20]).unwrap()).collect();
    let waiting = beside(move || {
        receipts.into_iter().for_each(|receipt| drop(receipt.wait().unwrap()));
    });
    let mut peer = two.accept_identified();
    for _ in 0..15 {
        peer.expect(&[&b"PUB t\n\0\x10\0\0"[..], &[b'x'; 1 << 20]].concat());
        peer.respond(b"OK");
    }
    waiting.join();
    let stats = producer.stats();
    assert_eq!((stats.connections[0].unknown, stats.connections[1].accepted), (15, 15));
    let last_error = stats.connections[0].last_error.as_ref().unwrap();
    assert!(last_error.contains("writing to"), "{last_error}");
}

#[test]
fn a_publish_waits_for_a_connection_no_longer_than_its_timeout() {
    let script = Script::listen();
    let config =
        producer_config().connection(waits_a_minute()).publish_timeout(Duration::from_millis(100));
    let (producer, peer) = script.produce(config);
    drop(peer);
    let began = Instant::now();
    // The connection is taken by the system, but nobody answers IDENTIFY.
    producer.publish(&topic(), b"a").unwrap_err();
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
}

#[test]
fn publish_many_is_split_by_bytes_and_by_count() {
    let script = Script::listen();
    let config = producer_config().max_body_size(20).max_mpub_messages(2);
    let (producer, mut peer) = script.produce(config);
    let publishing = beside(move || {
        let many = bodies(&[b"1234", b"1234", b"1", b"2", b"3"]);
        (producer.publish_many(&topic(), &many), producer)
    });
    for part in [
        &b"MPUB t\n\0\0\0\x14\0\0\0\x02\0\0\0\x041234\0\0\0\x041234"[..],
        b"MPUB t\n\0\0\0\x0e\0\0\0\x02\0\0\0\x011\0\0\0\x012",
        b"MPUB t\n\0\0\0\x09\0\0\0\x01\0\0\0\x013",
    ] {
        peer.expect(part);
        peer.respond(b"OK");
    }
    let (published, producer) = publishing.join();
    published.unwrap();
    // The second part is refused: the first is stored, the third was not sent.
    let publishing = beside(move || {
        let many = bodies(&[b"1", b"2", b"3", b"4", b"5"]);
        producer.publish_many(&topic(), &many).unwrap_err()
    });
    peer.expect(b"MPUB t\n\0\0\0\x0e\0\0\0\x02\0\0\0\x011\0\0\0\x012");
    peer.respond(b"OK");
    peer.expect(b"MPUB t\n\0\0\0\x0e\0\0\0\x02\0\0\0\x013\0\0\0\x014");
    peer.error(b"E_UNAUTHORIZED no more");
    let error = publishing.join();
    assert!(!error.is_unknown());
    let PublishError::Partial { stored, tried, source } = error else { panic!("{error:?}") };
    assert_eq!((stored, tried), (2, 2));
    assert!(matches!(*source, PublishError::Refused { .. }), "{source:?}");
}

#[test]
fn a_publish_to_all_is_one_to_each_and_names_those_that_did_not_take_it() {
    let (one, two, gone) = (Script::listen(), Script::listen(), Script::listen().addr());
    let config = producer_config().publish_timeout(Duration::from_millis(500));
    let connecting = connect(config.nsqd(&*gone).nsqd(one.addr()).nsqd(two.addr()));
    let mut first = one.accept_identified();
    let producer = connecting.join().unwrap();
    let publishing = beside(move || (producer.publish_to_all(&topic(), b"a"), producer));
    let mut second = two.accept_identified();
    first.expect(PUB_A);
    first.respond(b"OK");
    second.expect(PUB_A);
    second.error(b"E_UNAUTHORIZED not you");
    let (published, producer) = publishing.join();
    let error = published.unwrap_err();
    assert_eq!(error.nsqds, 3);
    let named: Vec<_> = error.failures.iter().map(|(addr, _)| addr.clone()).collect();
    assert_eq!(named, [gone, two.addr()]);
    assert!(matches!(error.failures[0].1, PublishError::NotSent { .. }), "{error:?}");
    assert!(matches!(error.failures[1].1, PublishError::Refused { .. }), "{error:?}");
    assert_eq!(producer.stats().connections[1].accepted, 1);
}

#[test]
fn a_connection_that_is_closed_at_once_is_not_made_again_at_full_speed() {
    let script = Script::listen();
    let config = producer_config()
        .reconnect_min(Duration::from_millis(40))
        .reconnect_max(Duration::from_millis(40))
        .publish_timeout(Duration::from_millis(600));
    let (producer, peer) = script.produce(config);
    drop(peer);
    let publishing = beside(move || producer.publish(&topic(), b"a").unwrap_err());
    let mut connections = 0;
    while !publishing.is_finished() {
        connections +=
            usize::from(script.try_accept_identified(Duration::from_millis(5)).is_some());
    }
    publishing.join();
    // A wait is at least half of 40 ms.
    assert!(connections <= 600 / 20 + 1, "{connections}");
}
