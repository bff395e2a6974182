//! The consumer against the scripted nsqd.

use std::num::NonZeroUsize;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nsq_protocol::{
    Consumer, DecodeError, Delivery, Error, ErrorCode, Frame, HEARTBEAT, MessageRef,
};

use crate::script::{IDENTIFIED, Script, beside, config, frame, id, recv, seen_by_reader, start};
use crate::timing::DEADLINE;

#[test]
fn every_command_has_its_exact_bytes() {
    let script = Script::listen();
    let config = config()
        .client_id("me")
        .hostname("me.example")
        .output_buffer_timeout(Duration::from_millis(25))
        .output_buffer_size(64)
        .msg_timeout(Duration::from_secs(3))
        .sample_rate(9);
    let starting = start(config.nsqd(script.addr()).max_in_flight(5));
    let mut peer = script.accept();
    let request = peer.identify();
    assert_eq!((&*request.client_id, &*request.hostname), ("me", "me.example"));
    assert!(request.user_agent.starts_with("nsq-protocol/"));
    assert!(request.feature_negotiation && !request.tls_v1 && !request.snappy && !request.deflate);
    assert_eq!(
        (request.heartbeat_interval, request.msg_timeout, request.sample_rate),
        (30_000, 3000, 9)
    );
    assert_eq!((request.output_buffer_size, request.output_buffer_timeout), (64, 25));
    peer.respond(IDENTIFIED);
    peer.expect(b"SUB t c\n");
    peer.respond(b"OK");
    peer.expect(b"RDY 5\n");
    let consumer = starting.join().unwrap();

    let mut wire = Vec::new();
    for number in 1..=3 {
        let (id, body) = (id(number.into()), [b'a' + number as u8]);
        let message = MessageRef { timestamp_ns: 7, attempts: number, id, body: &body, skipped: 0 };
        Frame::Message(message).encode(&mut wire);
    }
    peer.send(&wire);
    let batch = recv(&consumer);
    assert_eq!(batch.len(), 3);
    assert_eq!(batch.nsqd(), script.addr());
    let bodies: Vec<_> = batch.iter().map(|message| (message.attempts, message.body[0])).collect();
    assert_eq!(bodies, [(1, b'b'), (2, b'c'), (3, b'd')]);
    batch.touch();
    peer.expect(b"TOUCH 0000000000000001\nTOUCH 0000000000000002\nTOUCH 0000000000000003\n");
    let [first, second, third]: [Delivery; 3] =
        batch.into_deliveries().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((first.id(), first.attempts(), first.timestamp_ns()), (id(1), 1, 7));
    assert_eq!(first.body(), b"b");
    first.finish();
    peer.expect(b"FIN 0000000000000001\n");
    second.requeue(Duration::from_millis(1500));
    peer.expect(b"REQ 0000000000000002 1500\nRDY 0\n");
    third.touch();
    peer.expect(b"TOUCH 0000000000000003\n");
    third.finish();
    peer.expect(b"FIN 0000000000000003\n");

    let stopping = beside(move || consumer.shutdown());
    peer.close_in_order();
    let stats = &stopping.join().connections[0];
    assert_eq!((stats.messages, stats.finished, stats.requeued, stats.touched), (3, 2, 1, 4));
    assert_eq!((stats.in_flight, stats.lost_answers, stats.reconnects), (0, 0, 0));
}

#[test]
fn a_finished_batch_is_one_write_of_fins() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(1000, config());
    let mut wire = Vec::new();
    for number in 0..600 {
        let message =
            MessageRef { timestamp_ns: 0, attempts: 1, id: id(number), body: b"x", skipped: 0 };
        Frame::Message(message).encode(&mut wire);
    }
    peer.send(&wire);
    let mut left = 600;
    while left > 0 {
        let batch = recv(&consumer);
        assert!(batch.len() <= 256);
        left -= batch.len();
        batch.finish();
    }
    for number in 0..600 {
        peer.expect(format!("FIN {}\n", id(number)).as_bytes());
    }
}

#[test]
fn heartbeats_are_answered_while_the_only_handler_is_stuck() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, config());
    let (release, released) = channel::<()>();
    let (entered, stuck) = channel();
    let released = std::sync::Mutex::new(released);
    let running = consumer
        .run(NonZeroUsize::MIN, move |delivery| {
            entered.send(()).unwrap();
            let _ = released.lock().unwrap().recv_timeout(DEADLINE);
            delivery.finish();
        })
        .unwrap();
    (1..=10).for_each(|number| peer.message(number, 1, b"x"));
    stuck.recv_timeout(DEADLINE).unwrap();
    for _ in 0..5 {
        peer.respond(HEARTBEAT);
        peer.expect(b"NOP\n");
    }
    assert!(running.consumer().stats().connections[0].last_heartbeat_age.is_some());
    drop(release);
    (1..=10).for_each(|number| peer.expect(format!("FIN {}\n", id(number)).as_bytes()));
    let stopping = beside(move || running.shutdown());
    peer.close_in_order();
    assert_eq!(stopping.join().connections[0].finished, 10);
}

#[test]
fn frames_may_be_cut_at_each_byte() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, config());
    let mut wire = Vec::new();
    let message = MessageRef { timestamp_ns: 7, attempts: 1, id: id(1), body: b"body", skipped: 0 };
    Frame::Message(message).encode(&mut wire);
    Frame::Response(HEARTBEAT).encode(&mut wire);
    Frame::Message(MessageRef { id: id(2), ..message }).encode(&mut wire);
    for cut in 0..wire.len() {
        peer.send(&wire[..cut]);
        peer.send(&wire[cut..]);
        peer.expect(b"NOP\n");
        let mut ids = Vec::new();
        while ids.len() < 2 {
            let batch = recv(&consumer);
            assert!(batch.iter().all(|message| message.body == b"body"));
            ids.extend(batch.iter().map(|message| message.id));
            batch.finish();
        }
        assert_eq!(ids, [id(1), id(2)]);
        peer.expect(b"FIN 0000000000000001\nFIN 0000000000000002\n");
    }
}

/// What the client makes of an nsqd that misbehaves during the handshake.
#[track_caller]
fn check_start(play: impl FnOnce(&Script), check: impl FnOnce(Error)) {
    let script = Script::listen();
    let starting = start(config().nsqd(script.addr()));
    play(&script);
    check(starting.join().unwrap_err());
}

#[test]
fn an_http_port_is_named() {
    check_start(
        |script| {
            let mut peer = script.accept();
            peer.identify();
            peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        },
        |error| {
            let Error::Decode { source, .. } = error else { panic!("{error}") };
            assert_eq!(source, DecodeError::HttpPeer);
            assert!(source.to_string().contains("this is an HTTP port"));
        },
    );
}

#[test]
fn a_refused_connection_says_where_and_what_to_check() {
    let addr = Script::listen().addr();
    let error = Consumer::start(config().nsqd(&*addr)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot connect to {addr}: is nsqd running there? its TCP port is 4150 by default")
    );
    let error = Consumer::start(config().nsqd("127.0.0.1")).unwrap_err();
    assert!(matches!(error, Error::Resolve { .. }), "{error}");
}

#[test]
fn a_refused_identify_or_sub_surfaces() {
    check_start(
        |script| {
            let mut peer = script.accept();
            peer.identify();
            peer.error(b"E_BAD_BODY IDENTIFY heartbeat interval (100) is invalid");
        },
        |error| {
            assert!(error.to_string().contains("refused IDENTIFY: E_BAD_BODY IDENTIFY heartbeat"));
        },
    );
    check_start(
        |script| {
            let mut peer = script.accept_identified();
            peer.expect(b"SUB t c\n");
            peer.respond(HEARTBEAT);
            peer.expect(b"NOP\n");
            peer.error(b"E_SUB_FAILED channel consumers for t:c exceeds limit of 1");
        },
        |error| {
            let Error::Refused { command, code, detail, .. } = error else { panic!("{error}") };
            assert_eq!((command, code), ("SUB", ErrorCode::SubFailed));
            assert_eq!(detail, "channel consumers for t:c exceeds limit of 1");
        },
    );
}

#[test]
fn a_nonsense_handshake_is_refused() {
    for answer in [&b"[]"[..], b"hello", br#"{"max_rdy_count":0}"#, br#"{"max_rdy_count":"9"}"#] {
        check_start(
            |script| {
                let mut peer = script.accept();
                peer.identify();
                peer.respond(answer);
            },
            |error| assert!(matches!(error, Error::Protocol { .. }), "{error}"),
        );
    }
    check_start(
        |script| {
            let mut peer = script.accept_identified();
            peer.expect(b"SUB t c\n");
            peer.respond(b"NO");
        },
        |error| assert!(matches!(error, Error::Protocol { .. }), "{error}"),
    );
    check_start(
        |script| drop(script.accept_identified()),
        |error| assert!(!matches!(error, Error::Timeout { .. }), "{error}"),
    );
}

#[test]
fn a_handshake_that_stalls_ends_at_its_limit() {
    let script = Script::listen();
    let config = config().handshake_timeout(Duration::from_millis(50));
    let starting = start(config.nsqd(script.addr()));
    let mut peer = script.accept();
    peer.identify();
    let error = starting.join().unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert!(error.to_string().contains("waiting for the answer to IDENTIFY"), "{error}");
}

#[test]
fn an_old_nsqd_that_answers_ok_gets_the_defaults() {
    let script = Script::listen();
    let starting = start(config().nsqd(script.addr()).max_in_flight(100_000));
    let mut peer = script.accept();
    peer.identify();
    peer.respond(b"OK");
    peer.expect(b"SUB t c\n");
    peer.respond(b"OK");
    peer.expect(b"RDY 2500\n");
    starting.join().unwrap();
}

/// A running connection gets `wire`: the client must drop it, name `want`, and come back.
#[track_caller]
fn check_reconnects(wire: &[u8], want: &str) {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, config());
    peer.send(wire);
    peer.read_to_end();
    let mut again = script.accept_subscribed();
    again.expect(b"RDY 10\n");
    again.message(1, 2, b"x");
    recv(&consumer).finish();
    again.expect(b"FIN 0000000000000001\n");
    let stats = consumer.stats().connections.remove(0);
    let last_error = stats.last_error.unwrap();
    assert!(last_error.contains(want), "{last_error}");
    assert_eq!((stats.reconnects, stats.connected), (1, true));
}

#[test]
fn a_frame_over_the_limit_ends_the_connection() {
    // A message may be larger, and is skipped; nothing else, and no message of 2 GiB, which nsqd cannot have.
    let response = [1_048_607u32.to_be_bytes(), [0; 4]].concat();
    check_reconnects(&response, "a frame of 1048607 bytes is over the 1048606");
    check_reconnects(b"\x80\0\0\0\0\0\0\x02", "a frame of 2147483648 bytes is over the 1048606");
    check_reconnects(&[0xff; 8], "over the 1048606 byte limit");
    check_reconnects(b"\0\0\0\x03", "too small to hold its type");
    check_reconnects(b"\0\0\0\x05\0\0\0\x02x", "its head alone has");
}

#[test]
fn an_unknown_frame_type_ends_the_connection() {
    check_reconnects(b"\0\0\0\x04\0\0\0\x07", "unknown frame type 7");
}

#[test]
fn a_response_to_no_command_ends_the_connection() {
    check_reconnects(&frame(Frame::Response(b"OK")), "the response OK to no command");
    check_reconnects(&frame(Frame::Response(b"CLOSE_WAIT")), "CLOSE_WAIT to no command");
}

#[test]
fn a_fatal_error_ends_the_connection() {
    check_reconnects(&frame(Frame::Error(b"E_INVALID RDY 9 is too much")), "E_INVALID RDY 9");
}

#[test]
fn failed_answers_are_counted_and_nothing_else_happens() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, config());
    peer.error(b"E_FIN_FAILED FIN 0000000000000001 failed ID not in flight");
    peer.error(b"E_REQ_FAILED REQ 0000000000000001 failed ID not in flight");
    peer.error(b"E_TOUCH_FAILED TOUCH 0000000000000001 failed ID not in flight");
    peer.error(b"E_FIN_FAILED FIN 0000000000000002 failed client does not own message");
    seen_by_reader(&mut peer);
    let stats = &consumer.stats().connections[0];
    assert_eq!((stats.failed_finishes, stats.failed_requeues, stats.failed_touches), (2, 1, 1));
    assert_eq!((stats.reconnects, stats.connected), (0, true));
}

#[test]
fn a_silent_peer_is_found_after_two_heartbeats() {
    let script = Script::listen();
    let config = config().heartbeat_interval(Duration::from_secs(1));
    let (consumer, mut peer) = script.consume(10, config);
    let began = Instant::now();
    peer.expect_end();
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
    let _again = script.accept_subscribed();
    let last_error = consumer.stats().connections[0].last_error.clone().unwrap();
    assert!(last_error.contains("waiting for a heartbeat from"), "{last_error}");
}

#[test]
fn answers_to_a_lost_connection_are_harmless_and_what_is_held_takes_room() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, config());
    (1..=4).for_each(|number| peer.message(number, 1, b"x"));
    let mut held = Vec::new();
    while held.len() < 4 {
        held.extend(recv(&consumer).into_deliveries());
    }
    drop(peer);
    let mut again = script.accept_subscribed();
    again.expect(b"RDY 6\n");
    assert!(held.iter().all(|delivery| !delivery.is_connected()));
    held.pop().unwrap().requeue_without_backoff(Duration::ZERO);
    again.expect(b"RDY 7\n");
    held.pop().unwrap().touch();
    again.expect(b"RDY 8\n");
    held.into_iter().for_each(Delivery::finish);
    again.expect(b"RDY 9\nRDY 10\n");
    let stats = &consumer.stats().connections[0];
    // The touch, the requeue, the touched one's drop, the two finishes.
    assert_eq!((stats.lost_answers, stats.in_flight), (5, 0));
}

#[test]
fn what_is_dropped_is_given_back() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, config());
    peer.message(1, 1, b"x");
    drop(recv(&consumer));
    peer.expect(b"REQ 0000000000000001 0\n");
    peer.message(2, 1, b"x");
    drop(recv(&consumer).into_deliveries());
    peer.expect(b"REQ 0000000000000002 0\n");
    peer.message(3, 1, b"x");
    recv(&consumer).into_deliveries().for_each(drop);
    peer.expect(b"REQ 0000000000000003 0\n");
    let running = consumer
        .run(NonZeroUsize::MIN, |delivery| {
            assert_ne!(delivery.body(), b"poison", "on purpose");
            delivery.finish();
        })
        .unwrap();
    peer.message(4, 1, b"poison");
    peer.expect(b"REQ 0000000000000004 1000\nRDY 0\n");
    // The thread goes on.
    peer.message(5, 1, b"x");
    peer.expect(b"FIN 0000000000000005\n");
    let stopping = beside(move || running.shutdown());
    peer.close_in_order();
    assert_eq!(stopping.join().connections[0].requeued, 4);
}

#[test]
fn a_peer_that_ignores_rdy_is_choked_and_then_dropped() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(4, config());
    // One more than RDY: an honest nsqd does so when messages timed out there.
    (1..=5).for_each(|number| peer.message(number, 1, b"x"));
    peer.expect(b"RDY 0\n");
    (6..=8).for_each(|number| peer.message(number, 1, b"x"));
    seen_by_reader(&mut peer);
    peer.message(9, 1, b"x");
    peer.read_to_end();
    let mut again = script.accept_subscribed();
    let last_error = consumer.stats().connections[0].last_error.clone().unwrap();
    assert!(last_error.contains("beyond the 8 in flight"), "{last_error}");
    // The eight are held still: room comes back with their answers.
    let batches = consumer.batches();
    let mut held: Vec<Delivery> = Vec::new();
    while held.len() < 8 {
        held.extend(batches.recv_timeout(DEADLINE).unwrap().into_deliveries());
    }
    held.drain(..5).for_each(Delivery::finish);
    again.expect(b"RDY 1\n");
}

#[test]
fn max_in_flight_is_shared_by_the_connections() {
    let (one, two) = (Script::listen(), Script::listen());
    let starting = start(config().nsqd(one.addr()).nsqd(two.addr()).max_in_flight(9));
    let mut first = one.accept_subscribed();
    first.expect(b"RDY 9\n");
    let mut second = two.accept_subscribed();
    first.expect(b"RDY 5\n");
    second.expect(b"RDY 4\n");
    let consumer = starting.join().unwrap();
    drop(first);
    second.expect(b"RDY 9\n");
    let mut first = one.accept_subscribed();
    second.expect(b"RDY 4\n");
    first.expect(b"RDY 5\n");
    assert!(consumer.stats().connections.iter().all(|connection| connection.connected));
}

#[test]
fn one_nsqd_of_two_is_enough_and_the_other_is_tried_for_ever() {
    let (one, gone) = (Script::listen(), Script::listen().addr());
    let starting = start(config().nsqd(&*gone).nsqd(one.addr()).max_in_flight(4));
    let mut peer = one.accept_subscribed();
    peer.expect(b"RDY 4\n");
    let consumer = starting.join().unwrap();
    let stats = consumer.stats();
    assert_eq!((stats.connections[0].connected, stats.connections[1].connected), (false, true));
    assert!(stats.connections[0].last_error.as_ref().unwrap().contains(&gone));
}
