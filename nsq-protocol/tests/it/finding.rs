//! A producer whose nsqds are found by nsqlookupds, and whether any can be reached.

use std::time::Duration;

use nsq_protocol::{Consumer, Error, Producer, ProducerConfig};

use crate::lookup::wait_until;
use crate::nsqd::{self, Nsqd};
use crate::nsqlookupd::Nsqlookupd;
use crate::script::{Script, beside, config, producer_config};
use crate::timing::DEADLINE;

fn found_by(lookupd: &Nsqlookupd) -> ProducerConfig {
    producer_config()
        .lookupd(lookupd.http.to_string())
        .lookupd_poll_interval(Duration::from_millis(50))
}

#[test]
fn a_producer_finds_its_nsqds_and_those_that_come_later() {
    let Some(mut lookupd) = Nsqlookupd::start() else { return };
    let error = Producer::connect(found_by(&lookupd)).unwrap_err();
    assert!(matches!(error, Error::Lookup { .. }), "{error}");
    let program = nsqd::find().expect("there is an nsqlookupd");
    let registered = ["--lookupd-tcp-address", &lookupd.tcp.to_string()];
    let first = Nsqd::start(&program, &registered);
    let mut producer = None;
    wait_until("it is registered", || {
        producer = Producer::connect(found_by(&lookupd)).ok();
        producer.is_some()
    });
    let producer = producer.unwrap();
    let topic = "t".parse().unwrap();
    producer.publish(&topic, b"one").unwrap();
    // Another is found, and takes over when the first one goes; that is forgotten then.
    let second = Nsqd::start(&program, &registered);
    wait_until("another is found", || producer.stats().connections.len() == 2);
    drop(first);
    producer.publish(&topic, b"two").unwrap();
    let names = || {
        let stats = producer.stats();
        stats.connections.iter().map(|of| of.address.clone()).collect::<Vec<_>>()
    };
    wait_until("the first one is forgotten", || names() == [second.addr()]);
    // What is known is used while no nsqlookupd answers.
    lookupd.kill();
    producer.publish(&topic, b"three").unwrap();
    producer.ping().unwrap();
    let consumer = Consumer::start(config().nsqd(second.addr())).unwrap();
    let batches = consumer.batches();
    let mut bodies = Vec::new();
    while bodies.len() < 2 {
        let batch = batches.recv_timeout(DEADLINE).unwrap();
        bodies.extend(batch.iter().map(|message| message.body.to_vec()));
        batch.finish();
    }
    bodies.sort();
    assert_eq!(bodies, [&b"three"[..], b"two"]);
    producer.close(DEADLINE).unwrap();
    assert!(matches!(producer.ping(), Err(Error::Stopped)));
}

#[test]
fn a_producer_needs_an_address_of_one_kind() {
    let error = Producer::connect(ProducerConfig::new()).unwrap_err();
    assert_eq!(error.to_string(), "no nsqd address and no nsqlookupd address is given");
    let error = Producer::connect(ProducerConfig::new().lookupd("127.0.0.1:1")).unwrap_err();
    assert!(matches!(error, Error::Lookup { .. }), "{error}");
    assert!(!error.to_string().contains("names no nsqd"), "{error}");
}

#[test]
fn a_ping_is_a_nop_or_a_new_connection() {
    let script = Script::listen();
    let (producer, mut peer) = script.produce(producer_config());
    producer.ping().unwrap();
    peer.expect(b"NOP\n");
    drop(peer);
    wait_until("it is lost", || !producer.stats().connections[0].connected);
    let producer = std::sync::Arc::new(producer);
    let pinging = beside({
        let producer = producer.clone();
        // The first attempt may come before it is due.
        move || wait_until("it answers again", || producer.ping().is_ok())
    });
    let mut peer = script.accept_identified();
    pinging.join();
    peer.expect(b"NOP\n");
    drop((peer, script));
    wait_until("nobody is there", || producer.ping().is_err());
    let error = producer.ping().unwrap_err();
    assert!(error.is_temporary(), "{error}");
}
