//! Discovery: the consumer against a fake nsqlookupd that says what it should not. The real one is in `lookup_real`.

use std::time::{Duration, Instant};

use nsq_protocol::{Consumer, ConsumerConfig, Error};

use crate::fake_lookupd::{FakeLookupd, Reply};
use crate::script::{Peer, Script, beside, config, start, waits_a_minute};
use crate::timing::{DEADLINE, MINUTE};

/// Quick polls, quick reconnections.
fn found_by(lookupds: &[&FakeLookupd]) -> ConsumerConfig {
    config()
        .max_in_flight(10)
        .lookupds(lookupds.iter().map(|lookupd| lookupd.addr()))
        .lookupd_poll_interval(Duration::from_millis(20))
}

/// Waits until `holds`.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    let (_source, token) = nsq_protocol::thread::stop_pair();
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        token.wait(Duration::from_millis(2));
    }
}

/// One message goes through that connection.
#[track_caller]
fn check_alive(consumer: &Consumer, peer: &mut Peer, number: u64) {
    peer.message(number, 1, b"x");
    consumer.batches().recv_timeout(DEADLINE).expect("a message").finish();
    peer.expect(format!("FIN {number:016}\n").as_bytes());
}

#[test]
fn an_unknown_topic_is_normal_and_found_within_a_poll() {
    let (script, lookupd) = (Script::listen(), FakeLookupd::start(Reply::topic_not_found()));
    let consumer = Consumer::start(found_by(&[&lookupd])).unwrap();
    lookupd.wait_answers(3);
    let stats = consumer.stats();
    assert_eq!((stats.connections.len(), stats.lookupds[0].failures), (0, 0));
    lookupd.reply(Reply::nsqds(&[&script.addr()]), 0);
    let mut peer = script.accept_subscribed();
    peer.expect(b"RDY 10\n");
    check_alive(&consumer, &mut peer, 1);
    let stats = consumer.stats();
    assert_eq!(stats.connections[0].address, script.addr());
    assert_eq!(stats.connections[0].lookupd, Some(lookupd.addr()));
    assert_eq!(stats.lookupds[0].nsqds, 1);
    assert!(stats.lookupds[0].answers >= 4 && stats.lookupds[0].answering);
    let stopping = beside(move || consumer.shutdown());
    peer.close_in_order();
    stopping.join();
}

#[test]
fn the_first_poll_is_at_once() {
    let script = Script::listen();
    let lookupd = FakeLookupd::start(Reply::nsqds(&[&script.addr()]));
    let config = found_by(&[&lookupd]).lookupd_poll_interval(Duration::from_secs(60));
    let consumer = Consumer::start(config).unwrap();
    let mut peer = script.accept_subscribed();
    peer.expect(b"RDY 10\n");
    assert_eq!(lookupd.requests(), 1);
    // Lost, it is asked about again long before the interval is over.
    drop(peer);
    let _peer = script.accept_subscribed();
    lookupd.wait_answers(1);
    drop(consumer);
}

#[test]
fn answers_are_united_and_an_address_given_twice_is_connected_to_once() {
    let (one, two, fixed) = (Script::listen(), Script::listen(), Script::listen());
    let first = FakeLookupd::start(Reply::nsqds(&[&one.addr(), &fixed.addr()]));
    let second = FakeLookupd::start(Reply::nsqds(&[&two.addr(), &one.addr()]));
    let starting = start(found_by(&[&first, &second]).nsqd(fixed.addr()));
    let _peers = [one.accept_subscribed(), two.accept_subscribed(), fixed.accept_subscribed()];
    let consumer = starting.join().unwrap();
    first.wait_answers(3);
    second.wait_answers(3);
    let stats = consumer.stats();
    assert_eq!(stats.connections.len(), 3, "{stats:#?}");
    assert_eq!(stats.connections[0].lookupd, None);
    for script in [&one, &two, &fixed] {
        assert!(script.try_accept_identified(Duration::from_millis(20)).is_none());
    }
}

/// While an nsqlookupd gives such answers, a connection that stands is left alone, and what another one names is
/// connected to; the failure is told where there is one.
#[track_caller]
fn check_hostile(reply: Reply, want: Option<&str>) {
    let (one, two) = (Script::listen(), Script::listen());
    let hostile = FakeLookupd::start(Reply::nsqds(&[&one.addr()]));
    let good = FakeLookupd::start(Reply::topic_not_found());
    let mut config = found_by(&[&hostile, &good]).lookupd_request_timeout(DEADLINE);
    if matches!(reply, Reply::Silence) {
        config = config.lookupd_request_timeout(Duration::from_millis(50));
    }
    let starting = start(config);
    let mut peer = one.accept_subscribed();
    let consumer = starting.join().unwrap();
    peer.expect(b"RDY 10\n");
    // 16 MB each are enough of a load once.
    let times = if matches!(reply, Reply::Endless) { 1 } else { 4 };
    hostile.reply(reply, times);
    check_alive(&consumer, &mut peer, 1);
    good.set(Reply::nsqds(&[&two.addr()]));
    let mut other = two.accept_subscribed();
    other.expect(b"RDY 5\n");
    check_alive(&consumer, &mut other, 2);
    if want.is_some() {
        wait_until("the failure is told", || consumer.stats().lookupds[0].last_error.is_some());
    }
    let stats = consumer.stats();
    assert!(stats.connections.iter().all(|connection| connection.reconnects == 0));
    match want {
        Some(want) => {
            let error = stats.lookupds[0].last_error.clone().unwrap_or_default();
            assert!(error.contains(&hostile.addr()) && error.contains(want), "{error}");
        }
        None => assert_eq!(stats.lookupds[0].last_error, None),
    }
    // A stop gives a peer that lives a second to read the last answers.
    drop((peer, other, one, two));
}

#[test]
fn hostile_answers_change_nothing_that_works() {
    check_hostile(Reply::http(500, r#"{"message":"INTERNAL_ERROR"}"#), Some("INTERNAL_ERROR"));
    check_hostile(Reply::http(200, "<html>hello</html>"), Some("<html>"));
    check_hostile(Reply::http(404, "404 page not found"), Some("404 page not found"));
    check_hostile(Reply::http(200, r#"{"producers":[{"broadcast"#), Some("no such JSON object"));
    check_hostile(
        Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_vec()),
        Some(""),
    );
    check_hostile(Reply::Bytes(b"\0\0\0\x06\0\0\0\0OK".to_vec()), Some(""));
    check_hostile(Reply::Bytes(Vec::new()), Some(""));
    check_hostile(
        Reply::Bytes(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
                .to_vec(),
        ),
        Some("302"),
    );
    check_hostile(Reply::topic_not_found(), None);
    check_hostile(Reply::nsqds(&[]), None);
    check_hostile(
        Reply::http(
            200,
            r#"{"producers":[{"broadcast_address":"a","tcp_port":0},{"broadcast_address":"a","tcp_port":70000}]}"#,
        ),
        None,
    );
}

#[test]
fn an_endless_answer_is_cut_and_a_silent_one_too() {
    check_hostile(Reply::Endless, Some("over the limit of 16777216 bytes"));
    check_hostile(Reply::Silence, Some("timeout"));
}

#[test]
fn the_old_wrapper_is_accepted() {
    let script = Script::listen();
    let port = script.addr().rsplit_once(':').unwrap().1.to_owned();
    let lookupd = FakeLookupd::start(Reply::http(
        200,
        &format!(
            r#"{{"status_code":200,"status_txt":"OK","data":{{"channels":[],"producers":[{{"broadcast_address":"127.0.0.1","tcp_port":{port}}}]}}}}"#
        ),
    ));
    let consumer = Consumer::start(found_by(&[&lookupd])).unwrap();
    let mut peer = script.accept_subscribed();
    peer.expect(b"RDY 10\n");
    drop(consumer);
}

#[test]
fn connections_are_kept_and_made_again_while_every_lookupd_is_down() {
    let script = Script::listen();
    let lookupd = FakeLookupd::start(Reply::nsqds(&[&script.addr()]));
    let consumer = Consumer::start(found_by(&[&lookupd])).unwrap();
    let mut peer = script.accept_subscribed();
    peer.expect(b"RDY 10\n");
    drop(lookupd);
    wait_until("five polls failed", || consumer.stats().lookupds[0].failures >= 5);
    check_alive(&consumer, &mut peer, 1);
    drop(peer);
    let mut peer = script.accept_subscribed();
    peer.expect(b"RDY 10\n");
    check_alive(&consumer, &mut peer, 2);
    let error = consumer.stats().lookupds[0].last_error.clone().unwrap();
    assert!(error.contains("cannot ask nsqlookupd 127.0.0.1:"), "{error}");
}

#[test]
fn an_nsqd_is_dropped_when_it_fails_and_nobody_names_it() {
    let (one, two) = (Script::listen(), Script::listen());
    let (a, b) = (one.addr(), two.addr());
    let first = FakeLookupd::start(Reply::nsqds(&[&a, &b]));
    let second = FakeLookupd::start(Reply::nsqds(&[&b]));
    let consumer = Consumer::start(found_by(&[&first, &second])).unwrap();
    let (mut peer_a, mut peer_b) = (one.accept_subscribed(), two.accept_subscribed());
    // What came to a connection without room would be given back.
    wait_until("both may send", || {
        consumer.stats().connections.iter().filter(|connection| connection.rdy > 0).count() == 2
    });
    // Both disappear from the first one's answer: b is named by the second still.
    first.reply(Reply::topic_not_found(), 3);
    peer_a.message(1, 1, b"x");
    peer_b.message(2, 1, b"x");
    let batches = consumer.batches();
    (0..2).for_each(|_| batches.recv_timeout(DEADLINE).unwrap().finish());
    drop((peer_a, peer_b));
    let _peer_b = two.accept_subscribed();
    wait_until("a is forgotten", || consumer.stats().departed.nsqds == 1);
    let stats = consumer.stats();
    assert_eq!(stats.connections.len(), 1);
    assert_eq!((&stats.connections[0].address, stats.connections[0].messages), (&b, 1));
    assert_eq!((stats.departed.messages, stats.departed.finished), (1, 1));
    assert!(one.try_accept_identified(Duration::from_millis(50)).is_none());
    // Named again, it is connected to again.
    first.set(Reply::nsqds(&[&a]));
    let _peer_a = one.accept_subscribed();
}

#[test]
fn messages_of_a_dropped_nsqd_take_room_until_answered() {
    let (one, two) = (Script::listen(), Script::listen());
    let lookupd = FakeLookupd::start(Reply::nsqds(&[&one.addr()]));
    let consumer = Consumer::start(found_by(&[&lookupd])).unwrap();
    let mut peer = one.accept_subscribed();
    peer.expect(b"RDY 10\n");
    (1..=4).for_each(|number| peer.message(number, 1, b"x"));
    let mut held = Vec::new();
    while held.len() < 4 {
        let batch = consumer.batches().recv_timeout(DEADLINE).unwrap();
        held.extend(batch.into_deliveries());
    }
    lookupd.reply(Reply::nsqds(&[&two.addr()]), 1);
    let mut other = two.accept_subscribed();
    other.expect(b"RDY 5\n");
    drop(peer);
    other.expect(b"RDY 6\n");
    assert_eq!(consumer.stats().connections.len(), 2);
    held.into_iter().for_each(nsq_protocol::Delivery::finish);
    other.expect(b"RDY 7\nRDY 8\nRDY 9\nRDY 10\n");
    // The next event clears it: the next poll at the latest.
    wait_until("its place is free", || consumer.stats().departed.messages == 4);
    assert_eq!(consumer.stats().connections.len(), 1);
}

#[test]
fn a_name_without_an_address_is_told_with_the_lookupd_that_gave_it() {
    let lookupd = FakeLookupd::start(Reply::nsqds(&["nsqd-7.invalid:4150"]));
    let consumer = Consumer::start(found_by(&[&lookupd])).unwrap();
    wait_until("it is tried", || !consumer.stats().unreachable.is_empty());
    let unreachable = consumer.stats().unreachable.remove(0);
    assert_eq!(unreachable.address, "nsqd-7.invalid:4150");
    assert_eq!(unreachable.lookupd, lookupd.addr());
    for want in [&*lookupd.addr(), "nsqd-7.invalid:4150"] {
        assert!(unreachable.last_error.contains(want), "{}", unreachable.last_error);
    }
    assert!(consumer.stats().connections.iter().all(|connection| !connection.connected));
}

#[test]
fn the_broadcast_map_makes_a_name_reachable() {
    let script = Script::listen();
    let lookupd = FakeLookupd::start(Reply::nsqds(&["nsqd-7.invalid:4150"]));
    let config = found_by(&[&lookupd]).lookupd_broadcast_map("nsqd-7.invalid", script.addr());
    let consumer = Consumer::start(config).unwrap();
    let mut peer = script.accept_subscribed();
    peer.expect(b"RDY 10\n");
    check_alive(&consumer, &mut peer, 1);
}

/// Threads of this process that make connections.
fn dialing_threads() -> usize {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("nsq-read-"))
        .count()
}

#[test]
fn ten_thousand_dead_nsqds_do_not_hide_a_good_one() {
    let script = Script::listen();
    let addr = script.addr();
    // Nobody listens there; sorted as text, they stand before and behind the good one.
    let dead: Vec<String> = (1..=10_000).map(|port| format!("127.0.0.1:{port}")).collect();
    let mut all: Vec<&str> = dead.iter().map(String::as_str).collect();
    all.push(&addr);
    let lookupd = FakeLookupd::start(Reply::nsqds(&all));
    let config = found_by(&[&lookupd])
        .lookupd_poll_interval(Duration::from_millis(500))
        .reconnect_min(Duration::from_secs(5))
        .reconnect_max(Duration::from_secs(15))
        .connection(waits_a_minute());
    let consumer = Consumer::start(config).unwrap();
    let mut most = 0;
    let mut peer = loop {
        most = most.max(dialing_threads());
        if let Some(mut peer) = script.try_accept_identified(Duration::from_millis(5)) {
            peer.expect(b"SUB t c\n");
            peer.respond(b"OK");
            break peer;
        }
    };
    peer.expect(b"RDY 10\n");
    check_alive(&consumer, &mut peer, 1);
    // Others' tests run in this process, too.
    assert!(most < 64 + 60, "{most} threads");
    wait_until("a hundred are told of", || consumer.stats().unreachable.len() == 100);
    let began = Instant::now();
    consumer.stop_within(Duration::ZERO);
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
}

#[test]
fn a_start_without_any_answer_says_why() {
    let gone = Script::listen().addr();
    let config = config().lookupds(vec![gone.clone()]);
    let error = Consumer::start(config.clone()).unwrap_err();
    assert!(matches!(error, Error::Lookup { .. }), "{error}");
    assert_eq!(error.to_string(), format!("cannot ask nsqlookupd {gone}"));
    // One of two is enough, and so is one nsqd of the configuration.
    let lookupd = FakeLookupd::start(Reply::topic_not_found());
    drop(Consumer::start(config.clone().lookupd(lookupd.addr())).unwrap());
    let script = Script::listen();
    let starting = start(config.nsqd(script.addr()));
    let _peer = script.accept_subscribed();
    drop(starting.join().unwrap());
    // A setting that makes no sense.
    let error = Consumer::start(self::config().lookupd("nowhere")).unwrap_err();
    assert!(error.to_string().contains("\"nowhere\" is not host:port"), "{error}");
}

#[test]
fn a_stop_does_not_wait_for_an_nsqlookupd_that_is_silent() {
    let (script, lookupd) = (Script::listen(), FakeLookupd::start(Reply::topic_not_found()));
    let config = found_by(&[&lookupd]).lookupd_request_timeout(MINUTE);
    let starting = start(config.nsqd(script.addr()));
    let peer = script.accept_subscribed();
    let consumer = starting.join().unwrap();
    lookupd.reply(Reply::Silence, 0);
    let began = Instant::now();
    let stopping = beside(move || consumer.shutdown());
    let mut peer = peer;
    peer.expect(b"RDY 10\n");
    peer.close_in_order();
    stopping.join();
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
}
