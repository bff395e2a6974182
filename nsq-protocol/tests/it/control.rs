//! What is changed of a consumer that runs: how much it asks for, and whom.

use std::time::Duration;

use nsq_protocol::{Admin, Consumer, Error, Pause, Producer, Unanswered};

use crate::fake_lookupd::{FakeLookupd, Reply};
use crate::lookup::wait_until;
use crate::nsqd::nsqd_or_skip;
use crate::script::{Peer, Script, beside, config, producer_config, recv, seen_by_reader};
use crate::timing::DEADLINE;

fn stop(consumer: Consumer, peer: Peer) {
    let stopping = beside(move || consumer.shutdown());
    peer.close_in_order();
    stopping.join();
}

#[test]
fn max_in_flight_is_another_at_once() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, config());
    consumer.set_max_in_flight(4).unwrap();
    peer.expect(b"RDY 4\n");
    consumer.set_max_in_flight(20).unwrap();
    peer.expect(b"RDY 20\n");
    assert_eq!(consumer.max_in_flight(), 20);
    let error = consumer.set_max_in_flight(0).unwrap_err();
    assert_eq!(error.to_string(), "max_in_flight is 0: it must be 1 to 1000000");
    stop(consumer, peer);
}

#[test]
fn a_pause_asks_for_nothing_also_on_new_connections() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, config());
    consumer.pause();
    consumer.pause();
    peer.expect(b"RDY 0\n");
    assert!(consumer.is_paused());
    assert_eq!(consumer.stats().connections[0].pause, Some(Pause::Paused));
    // What was on its way is handed over.
    peer.message(1, 1, b"x");
    recv(&consumer).finish();
    peer.expect(b"FIN 0000000000000001\n");
    drop(peer);
    let mut peer = script.accept_subscribed();
    // Its NOP comes behind any RDY.
    seen_by_reader(&mut peer);
    consumer.resume();
    peer.expect(b"RDY 10\n");
    assert!(!consumer.is_paused());
    assert_eq!(consumer.stats().connections[0].pause, None);
    stop(consumer, peer);
}

#[test]
fn a_consumer_is_starved_while_nothing_more_can_come() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(2, config());
    assert!(!consumer.is_starved());
    peer.message(1, 1, b"x");
    let first = recv(&consumer);
    assert!(!consumer.is_starved(), "one of two");
    peer.message(2, 1, b"x");
    let second = recv(&consumer);
    assert!(consumer.is_starved(), "two of two");
    first.finish();
    second.finish();
    assert!(!consumer.is_starved());
    peer.expect(b"FIN 0000000000000001\nFIN 0000000000000002\n");
    stop(consumer, peer);
}

#[test]
fn an_nsqd_comes_and_goes_while_messages_flow() {
    let (one, two) = (Script::listen(), Script::listen());
    let (consumer, mut first) = one.consume(10, config());
    let consumer = std::sync::Arc::new(consumer);
    let connecting = {
        let (consumer, addr) = (consumer.clone(), two.addr());
        beside(move || consumer.connect_to_nsqd(&addr))
    };
    let mut second = two.accept_subscribed();
    connecting.join().unwrap();
    first.expect(b"RDY 5\n");
    second.expect(b"RDY 5\n");
    let error = consumer.connect_to_nsqd(&two.addr()).unwrap_err();
    assert_eq!(error.to_string(), format!("nsqd {} is there already", two.addr()));
    // It is one as any other: it is connected to again.
    drop(second);
    let mut second = two.accept_subscribed();
    second.expect_last(b"RDY 5\n");
    second.message(7, 1, b"x");
    let held = recv(&consumer);
    let leaving = {
        let (consumer, addr) = (consumer.clone(), two.addr());
        beside(move || consumer.disconnect_from_nsqd(&addr))
    };
    second.expect(b"CLS\n");
    second.respond(b"CLOSE_WAIT");
    held.finish();
    second.expect(b"FIN 0000000000000007\n");
    second.expect_end();
    drop(second);
    assert_eq!(leaving.join().unwrap(), Unanswered(0));
    wait_until("the other has all", || consumer.stats().connections[0].rdy == 10);
    let stats = consumer.stats();
    assert_eq!((stats.connections.len(), stats.departed.finished), (1, 1));
    let error = consumer.disconnect_from_nsqd(&two.addr()).unwrap_err();
    assert!(matches!(&error, Error::Config { what } if what.contains("was given")), "{error}");
    assert!(two.try_accept_identified(Duration::from_millis(100)).is_none(), "it is left alone");
    let stopping = beside(move || std::sync::Arc::into_inner(consumer).unwrap().shutdown());
    first.expect_last(b"CLS\n");
    first.respond(b"CLOSE_WAIT");
    drop(first);
    stopping.join();
}

#[test]
fn an_nsqd_that_cannot_be_added_leaves_nothing_behind() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, config());
    let error = consumer.connect_to_nsqd("127.0.0.1:1").unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert_eq!(consumer.stats().connections.len(), 1);
    // The only one can go, too, and come back.
    let consumer = std::sync::Arc::new(consumer);
    let act = |act: fn(&Consumer, &str) -> Result<(), Error>| {
        let (consumer, addr) = (consumer.clone(), script.addr());
        beside(move || act(&consumer, &addr))
    };
    let leaving = act(|consumer, addr| consumer.disconnect_from_nsqd(addr).map(drop));
    peer.expect(b"CLS\n");
    peer.respond(b"CLOSE_WAIT");
    peer.expect_end();
    drop(peer);
    leaving.join().unwrap();
    let coming = act(Consumer::connect_to_nsqd);
    let mut peer = script.accept_subscribed();
    peer.expect(b"RDY 10\n");
    coming.join().unwrap();
    let consumer = std::sync::Arc::into_inner(consumer).unwrap();
    let stopping = beside(move || {
        consumer.stop();
        consumer
    });
    peer.close_in_order();
    let stopped = stopping.join();
    assert!(matches!(stopped.connect_to_nsqd("127.0.0.1:1"), Err(Error::Stopped)));
    assert!(matches!(stopped.disconnect_from_nsqd("127.0.0.1:1"), Err(Error::Stopped)));
    assert!(matches!(stopped.connect_to_lookupd("127.0.0.1:1"), Err(Error::Stopped)));
}

#[test]
fn an_nsqlookupd_comes_and_goes() {
    let (given, found) = (Script::listen(), Script::listen());
    let lookupd = FakeLookupd::start(Reply::nsqds(&[&found.addr(), &given.addr()]));
    let config = config().lookupd_poll_interval(Duration::from_millis(20));
    let (consumer, mut first) = given.consume(10, config);
    let error = consumer.connect_to_lookupd("nowhere").unwrap_err();
    assert!(error.to_string().contains("is not host:port"), "{error}");
    consumer.connect_to_lookupd(&lookupd.addr()).unwrap();
    let error = consumer.connect_to_lookupd(&lookupd.addr()).unwrap_err();
    assert_eq!(error.to_string(), format!("nsqlookupd {} is asked already", lookupd.addr()));
    let second = found.accept_subscribed();
    // The nsqd of the configuration is connected to once.
    assert!(given.try_accept_identified(Duration::from_millis(50)).is_none());
    wait_until("it is named", || consumer.stats().connections.len() == 2);
    let stats = consumer.stats();
    assert_eq!(stats.connections[1].lookupd, Some(lookupd.addr()));
    assert_eq!((stats.lookupds.len(), stats.lookupds[0].answering), (1, true));
    consumer.disconnect_from_lookupd(&lookupd.addr()).unwrap();
    assert!(consumer.disconnect_from_lookupd(&lookupd.addr()).is_err());
    wait_until("it is not asked", || consumer.stats().lookupds.is_empty());
    // A connection that stands is kept, and one that is lost is not made again.
    assert_eq!(consumer.stats().connections.len(), 2);
    drop(second);
    wait_until("it is forgotten", || consumer.stats().departed.nsqds == 1);
    first.expect_last(b"RDY 10\n");
    stop(consumer, first);
}

#[test]
fn a_real_nsqd_is_paused_left_and_taken_back() {
    let nsqd = nsqd_or_skip!();
    let producer = Producer::connect(producer_config().nsqd(nsqd.addr())).unwrap();
    let config = config().nsqd(nsqd.addr());
    let consumer = Consumer::start(config.clone()).unwrap();
    let batches = consumer.batches();
    consumer.pause();
    let admin = Admin::new(&nsqd.http.to_string());
    wait_until("nsqd knows", || {
        let stats = admin.stats(&Default::default()).unwrap();
        let clients = stats.topics.iter().flat_map(|of| &of.channels).flat_map(|of| &of.clients);
        clients.map(|client| client.ready_count).eq([0])
    });
    producer.publish(&config.get_topic(), b"one").unwrap();
    if let Ok(early) = batches.recv_timeout(Duration::from_millis(300)) {
        panic!("{early:?} came in spite of the pause");
    }
    consumer.resume();
    let held = batches.recv_timeout(DEADLINE).unwrap();
    let mut other = config.clone();
    other = other.stop_timeout(Duration::from_millis(50)).msg_timeout(Duration::from_secs(1));
    let other = Consumer::start(other).unwrap();
    other.pause();
    held.requeue_without_backoff(Duration::ZERO);
    let held = batches.recv_timeout(DEADLINE).unwrap();
    other.resume();
    let leaving = beside({
        let addr = nsqd.addr();
        move || (consumer.disconnect_from_nsqd(&addr), consumer)
    });
    held.finish();
    let (left, consumer) = leaving.join();
    assert_eq!(left.unwrap(), Unanswered(0));
    producer.publish(&config.get_topic(), b"two").unwrap();
    let two = other.batches().recv_timeout(DEADLINE).unwrap();
    // It comes again after its msg-timeout.
    assert_eq!(other.disconnect_from_nsqd(&nsqd.addr()).unwrap(), Unanswered(1));
    consumer.connect_to_nsqd(&nsqd.addr()).unwrap();
    let again = batches.recv_timeout(DEADLINE).unwrap();
    assert_eq!(again.iter().map(|message| message.body).collect::<Vec<_>>(), [b"two"]);
    again.finish();
    two.finish();
}
