//! What is told of connections, by the handler of a user and by the log.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nsq_protocol::{Event, Producer};

use crate::fake_lookupd::{FakeLookupd, Reply};
use crate::logged::Logged;
use crate::nsqd::nsqd_or_skip;
use crate::script::{Script, beside, config, producer_config, recv, start};
use crate::timing::DEADLINE;

/// A handler, and what it was told, as text.
fn told() -> (impl Fn(&Event) + Send + Sync + 'static, Receiver<String>) {
    let (tell, told) = channel();
    // Nobody listens any more at the end of a test.
    (move |event: &Event| drop(tell.send(event.to_string())), told)
}

#[track_caller]
fn expect(told: &Receiver<String>, want: &str) {
    let got = told.recv_timeout(DEADLINE).expect("an event");
    assert!(got.contains(want), "{got:?} instead of {want:?}");
}

#[test]
fn a_consumer_tells_of_a_lost_connection_and_that_it_is_back() {
    let script = Script::listen();
    let logged = Logged::watch(&format!("nsqd {} ", script.addr()));
    let (handler, told) = told();
    let (consumer, peer) = script.consume(10, config().on_event(handler));
    expect(&told, &format!("nsqd {} is connected", script.addr()));
    drop(peer);
    expect(&told, &format!("the connection to nsqd {} is lost: ", script.addr()));
    let mut peer = script.accept_subscribed();
    expect(&told, &format!("nsqd {} is connected again", script.addr()));
    peer.expect(b"RDY 10\n");
    let again = format!("INFO nsqd {} is connected again", script.addr());
    assert!(logged.lines().contains(&again), "{:?}", logged.lines());
    let stopping = beside(move || consumer.shutdown());
    peer.close_in_order();
    stopping.join();
    // What was to end is not lost.
    assert_eq!(told.iter().collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn a_consumer_tells_of_backoff_and_of_its_end() {
    let script = Script::listen();
    let (handler, told) = told();
    let config = config().on_event(handler).backoff_min(Duration::from_millis(20));
    let (consumer, mut peer) = script.consume(10, config);
    expect(&told, "is connected");
    peer.message(1, 1, b"x");
    recv(&consumer).requeue(Duration::ZERO);
    expect(&told, "a handler failed (1 in a row): no message is asked for in the next ");
    peer.expect(b"REQ 0000000000000001 0\nRDY 0\nRDY 1\n");
    peer.message(1, 2, b"x");
    recv(&consumer).finish();
    expect(&told, "a message was finished again");
    drop(peer);
}

#[test]
fn an_nsqlookupd_that_fails_is_told_once_and_that_it_answers_again() {
    let script = Script::listen();
    let lookupd = FakeLookupd::start(Reply::nsqds(&[]));
    let (handler, told) = told();
    let config = config()
        .nsqd(script.addr())
        .lookupd(lookupd.addr())
        .on_event(handler)
        .lookupd_poll_interval(Duration::from_millis(10));
    let starting = start(config.max_in_flight(10));
    let _peer = script.accept_subscribed();
    let _consumer = starting.join().unwrap();
    expect(&told, "is connected");
    lookupd.reply(Reply::http(500, "{}"), 3);
    expect(&told, &format!("nsqlookupd {} does not answer: ", lookupd.addr()));
    lookupd.reply(Reply::nsqds(&[]), 2);
    expect(&told, &format!("nsqlookupd {} answers again", lookupd.addr()));
}

#[test]
fn a_panic_of_the_handler_harms_nothing() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, config().on_event(|_| panic!("on purpose")));
    peer.message(1, 1, b"x");
    recv(&consumer).finish();
    peer.expect(b"FIN 0000000000000001\n");
    drop(peer);
}

#[test]
fn a_producer_tells_of_its_connections() {
    let mut nsqd = nsqd_or_skip!();
    let (handler, told) = told();
    let producer =
        Producer::connect(producer_config().nsqd(nsqd.addr()).on_event(handler)).unwrap();
    expect(&told, &format!("nsqd {} is connected", nsqd.addr()));
    nsqd.kill();
    // At once, whether or not anything is published.
    expect(&told, &format!("the connection to nsqd {} is lost: ", nsqd.addr()));
    let nsqd = nsqd.restart();
    let topic = "t".parse().unwrap();
    producer.publish(&topic, b"x").unwrap();
    let again = format!("nsqd {} is connected again", nsqd.addr());
    loop {
        let event = told.recv_timeout(DEADLINE).expect("it is back");
        if event == again {
            break;
        }
        assert!(event.contains("cannot be connected to"), "{event}");
    }
    producer.close(DEADLINE).unwrap();
    drop(producer);
    assert_eq!(told.iter().collect::<Vec<_>>(), [""; 0]);
}
