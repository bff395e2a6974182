//! The embedded broker and its limits: peers that send garbage, too much, too little or nothing, and stopping.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use nsq_protocol::{Command, MAGIC};
use playcounts::broker::{Broker, BrokerConfig};

use crate::broker_support::{Client, Got, start, topic};
use crate::support::wait_until;
use crate::timing::{DEADLINE, check_takes_less};

/// Whether the broker still serves others.
#[track_caller]
fn serves(broker: &Broker) {
    let mut client = Client::connect(broker.tcp_addr());
    client.publish("serves", b"x");
    client.sub("serves", "c");
    client.send(Command::Rdy(1));
    let message = client.delivery(b"x", 1);
    client.finish(&message);
}

/// Stops the broker, which nothing holds up; how long it took.
#[track_caller]
fn stops(broker: Broker) -> Duration {
    let stopping = Instant::now();
    broker.shutdown();
    let took = stopping.elapsed();
    assert!(took < DEADLINE, "{took:?}");
    took
}

#[test]
fn garbage_ends_its_own_connection_only() {
    let broker = start(|_| ());
    let mut state = 1u64;
    for round in 0..200 {
        let mut bytes = MAGIC[..round % 5].to_vec();
        bytes.extend((0..round * 20).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        }));
        let mut client = Client::silent(broker.tcp_addr());
        client.raw(&bytes);
        // Half of them leave at once, the others hear what is wrong, if it is complete.
        if round % 2 == 0 && round > 20 && bytes.contains(&b'\n') {
            while client.next(DEADLINE) != Got::Closed {}
        }
    }
    serves(&broker);
    stops(broker);
}

#[test]
fn the_connection_after_the_last_is_told_so() {
    const MAX: usize = 500;
    let broker = start(|config| config.max_connections = MAX);
    let mut idle: Vec<Client> = (0..MAX).map(|_| Client::silent(broker.tcp_addr())).collect();
    let mut one_more = Client::silent(broker.tcp_addr());
    one_more.fatal(
        "E_INVALID connection limit: 500 of 500 are open; close some or raise --max-connections",
    );
    // A place that is given up is free for the next one.
    idle.pop();
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut client = Client::connect(broker.tcp_addr());
        client.send(Command::Pub(topic("t"), b"x"));
        match client.next(DEADLINE) {
            Got::Response(ok) if ok == "OK" => break,
            _ => assert!(Instant::now() < deadline, "no place is given back"),
        }
    }
    stops(broker);
}

#[test]
fn a_consumer_that_never_reads_holds_nobody_up() {
    let broker = start(|config| config.max_memory = 256 << 20);
    let stuck = Client::consumer(broker.tcp_addr(), "t", "c", 20);
    let mut reader = Client::consumer(broker.tcp_addr(), "t", "c", 5);
    let mut producer = Client::connect(broker.tcp_addr());
    let body = vec![7; 1 << 20];
    (0..100).for_each(|_| producer.publish("t", &body));
    // The stuck one got its 20, or is getting them; everything else goes to the other.
    for _ in 0..80 {
        let message = reader.message();
        reader.finish(&message);
    }
    stuck.stream.shutdown(std::net::Shutdown::Both).unwrap();
    drop(stuck);
    for _ in 0..20 {
        let message = reader.message();
        assert!(message.attempts <= 2);
        reader.finish(&message);
    }
    serves(&broker);
    let deadline = Instant::now() + DEADLINE;
    while broker.stats().memory.unwrap().heap_in_use_bytes > 0 {
        assert!(Instant::now() < deadline, "memory is not given back");
    }
    stops(broker);
}

/// Also where it was alone to be idle when its message came, which no buffer takes.
#[test]
fn a_consumer_that_does_not_read_keeps_nothing_from_an_idle_one() {
    let broker = start(|config| {
        (config.max_msg_size, config.max_body_size) = (32 << 20, 32 << 20);
        // So long it would wait.
        config.max_heartbeat_interval = Duration::from_secs(3600);
    });
    let identity = r#"{"heartbeat_interval":3600000}"#;
    let mut stuck = Client::identified(broker.tcp_addr(), identity);
    stuck.sub("t", "c");
    stuck.send(Command::Rdy(200));
    let mut producer = Client::connect(broker.tcp_addr());
    producer.publish("t", &vec![7; 32 << 20]);
    let in_flight = || broker.stats().topics.unwrap()[0].channels[0].in_flight_count;
    wait_until("it to be handed out", || in_flight() == 1);
    let mut reader = Client::consumer(broker.tcp_addr(), "t", "c", 200);
    for _ in 0..5 {
        producer.publish("t", b"small");
        let message = reader.delivery(b"small", 1);
        reader.finish(&message);
    }
    drop(stuck);
    stops(broker);
}

/// What it publishes is delivered, and so is what others publish, though its own answers find no room.
#[test]
fn a_producer_that_never_reads_its_answers_holds_nobody_up() {
    let broker = start(|_| ());
    // It can have all of them, so it is idle whenever something comes.
    let mut consumer = Client::consumer(broker.tcp_addr(), "t", "c", 60_000);
    let mut stuck = Client::connect(broker.tcp_addr());
    stuck.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    // The broker waits until its OKs have room, and so reads no more: then there is no room for more PUBs.
    let others = b"PUB other\n\0\0\0\x01x".repeat(50);
    let many = [&others[..], b"PUB t\n\0\0\0\x01x"].concat().repeat(100);
    while stuck.stream.write_all(&many).is_ok() {}
    let mut producer = Client::connect(broker.tcp_addr());
    producer.publish("t", b"last");
    let waiting = Instant::now();
    loop {
        let message = consumer.message();
        consumer.finish(&message);
        if message.body == b"last" {
            break;
        }
    }
    // What else would have woken the consumer is its heartbeat, after 30 s.
    let took = waiting.elapsed();
    assert!(took < Duration::from_secs(25), "{took:?}");
    stops(broker);
}

#[test]
fn full_memory_is_told_even_to_a_producer_that_goes_on_sending() {
    let broker = start(|config| config.max_memory = 1 << 20);
    let mut producer = Client::connect(broker.tcp_addr());
    let body = vec![7; 100 << 10];
    for _ in 0..40 {
        producer.send(Command::Pub(topic("t"), &body));
    }
    for _ in 0..10 {
        producer.ok();
    }
    let Got::Error(error) = producer.next(DEADLINE) else { panic!("no error frame") };
    assert!(error.starts_with("E_PUB_FAILED PUB memory limit: 10"), "{error}");
    assert!(error.ends_with(" of 1048576 bytes are queued; consume or raise --max-memory"));
    producer.closed();
    // Consuming makes room.
    let mut consumer = Client::consumer(broker.tcp_addr(), "t", "c", 1);
    let message = consumer.message();
    // No second message may come between the PUB and its OK.
    consumer.send(Command::Rdy(0));
    consumer.finish(&message);
    consumer.publish("t", b"fits again");
    stops(broker);
}

#[test]
fn half_a_publish_publishes_nothing() {
    let broker = start(|_| ());
    let mut client = Client::connect(broker.tcp_addr());
    client.raw(b"MPUB half\n\0\0\0\x0e\0\0\0\x02\0\0\0\x01a\0\0\0\x01");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    client.fatal("E_BAD_MESSAGE MPUB failed to read message body");
    assert_eq!(broker.stats().topics, Some(vec![]));
    stops(broker);
}

#[test]
fn without_a_magic_a_connection_ends() {
    let broker = start(|_| ());
    let mut silent = Client::silent(broker.tcp_addr());
    silent.raw(b"  ");
    let started = Instant::now();
    silent.closed();
    assert!(started.elapsed() > Duration::from_secs(8), "{:?}", started.elapsed());
    stops(broker);
}

#[test]
fn a_client_that_closes_its_half_still_hears_its_answers() {
    let broker = start(|_| ());
    let mut client = Client::consumer(broker.tcp_addr(), "t", "c", 1);
    client.send(Command::Cls);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    client.response("CLOSE_WAIT");
    client.closed();
    stops(broker);
}

/// A silent connection is otherwise given 10 s, and an idle one a minute: none of it is waited for.
#[test]
fn it_stops_whatever_its_connections_do() {
    check_takes_less(Duration::from_secs(5), stop_with_connections_of_every_kind);
}

fn stop_with_connections_of_every_kind() -> Duration {
    let broker = start(|_| ());
    let address = broker.tcp_addr();
    let _silent = Client::silent(address);
    let _idle = Client::connect(address);
    let _consumer = Client::consumer(address, "t", "c", 10);
    let mut half = Client::connect(address);
    half.raw(b"PUB t\n\0\0\0\x05ab");
    let mut stuck = Client::consumer(address, "big", "c", 100);
    let mut producer = Client::connect(address);
    (0..20).for_each(|_| producer.publish("big", &[7; 1 << 20]));
    stuck.stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stuck.stream.read_exact(&mut [0; 100]).unwrap();
    // A producer that never reads its answers either.
    let mut deaf = Client::connect(address);
    deaf.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    while deaf.stream.write_all(&b"PUB t\n\0\0\0\x01a".repeat(1000)).is_ok() {}
    stops(broker)
}

#[test]
fn a_port_that_is_taken_is_said_in_one_line() {
    let broker = start(|_| ());
    let address = broker.tcp_addr().to_string();
    let second = Broker::start(BrokerConfig {
        tcp_address: address.clone(),
        http_address: None,
        ..BrokerConfig::default()
    });
    let error = format!("{:#}", second.err().unwrap());
    let want = format!(
        "cannot listen on {address}; stop what holds it or give another --tcp-address, port 0 takes a free one"
    );
    assert!(error.starts_with(&want) && !error.contains('\n'), "{error}");
    let error =
        Broker::start(BrokerConfig { tcp_address: "nonsense".into(), ..Default::default() });
    let error = format!("{:#}", error.err().unwrap());
    assert!(error.starts_with("nonsense is not an address to listen on"), "{error}");
    stops(broker);
}
