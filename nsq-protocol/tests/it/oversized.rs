//! Messages larger than the limit: a real nsqd that allows them, through every layer, and what a consumer does by default.

use std::time::Duration;

use nsq_protocol::{
    Admin, Compression, Consumer, Frame, GiveUp, Oversized, Producer, StatsFilter, TlsConfig,
};

use crate::certs::Authority;
use crate::features::{nsqd, topic};
use crate::script::{Script, config, frame, id, producer_config, recv};
use crate::timing::DEADLINE;

/// What a consumer takes whole in these tests; its beginning is what is kept of a larger one.
const LIMIT: usize = 100_000;
const KEPT: usize = 1000;

/// Larger than any buffer on the way, and no run of one byte.
const LARGE: usize = 3 << 20;

fn large() -> Vec<u8> {
    (0..LARGE).map(|at| (at % 251) as u8).collect()
}

/// Publishes a large message between small ones, and consumes them on one connection with these features.
#[track_caller]
fn check(tls: bool, compression: Compression) {
    let authority = Authority::new();
    let mut args = authority.issue_local().args().to_vec();
    args.push("--max-msg-size=4194304".to_owned());
    let Some(nsqd) = nsqd(&args) else { return };
    let tls = tls.then(|| TlsConfig::new().root_ca_file(authority.ca_file()));
    let connection = config().get_connection().clone().compression(compression).tls(tls);
    let to =
        producer_config().nsqd(nsqd.addr()).connection(connection.clone()).max_msg_size(4 << 20);
    let producer = Producer::connect(to).unwrap();
    let large = large();
    let bodies = [&b"before"[..], &large, b"between", &large[..=LIMIT], &large[..LIMIT], b"behind"];
    bodies.iter().for_each(|body| producer.publish(&topic(), body).unwrap());
    let from = config()
        .nsqd(nsqd.addr())
        .connection(connection)
        .max_msg_size(LIMIT)
        .oversized(Oversized::HandOver { kept: KEPT });
    let consumer = Consumer::start(from).unwrap();
    let mut missing: Vec<(&[u8], usize)> = bodies
        .iter()
        .map(|body| match body.len() > LIMIT {
            true => (&body[..KEPT], body.len() - KEPT),
            false => (*body, 0),
        })
        .collect();
    while !missing.is_empty() {
        let batch = recv(&consumer);
        for message in &batch {
            let got = (message.body, message.skipped);
            let at = missing.iter().position(|want| *want == got);
            missing.swap_remove(at.expect("what was published, cut where it is over the limit"));
        }
        batch.finish();
    }
    let stats = consumer.shutdown();
    let connection = &stats.connections[0];
    let seen = (connection.reconnects, connection.oversized, connection.finished);
    assert_eq!(seen, (0, 2, bodies.len() as u64), "{connection:?}");
    let admin = Admin::new(&nsqd.http_addr());
    let stats = admin.stats(&StatsFilter::default()).unwrap();
    let channel = stats.channel(&topic(), &"c".parse().unwrap()).unwrap();
    assert_eq!((channel.depth, channel.in_flight_count, channel.requeue_count), (0, 0, 0));
    producer.close(DEADLINE).unwrap();
}

#[test]
fn plain() {
    check(false, Compression::None);
}

#[test]
fn tls() {
    check(true, Compression::None);
}

#[test]
fn snappy() {
    check(false, Compression::Snappy);
}

#[test]
fn deflate() {
    check(false, Compression::Deflate { level: 6 });
}

#[test]
fn tls_and_snappy() {
    check(true, Compression::Snappy);
}

#[test]
fn tls_and_deflate() {
    check(true, Compression::Deflate { level: 6 });
}

#[test]
fn by_default_it_is_given_back_and_no_handler_sees_a_part() {
    let script = Script::listen();
    let config = config().max_msg_size(LIMIT);
    assert_eq!(config.get_oversized(), Oversized::Requeue(Duration::from_secs(60)));
    let (consumer, mut peer) = script.consume(10, config);
    let batches = consumer.batches();
    let receiver = crate::script::beside(move || {
        let batch = batches.recv_timeout(DEADLINE).unwrap();
        let bodies: Vec<Vec<u8>> = batch.iter().map(|message| message.body.to_vec()).collect();
        batch.finish();
        bodies
    });
    peer.message(1, 1, &large());
    peer.expect(format!("REQ {} 60000\n", id(1)).as_bytes());
    peer.message(2, 1, b"small");
    peer.expect(format!("FIN {}\n", id(2)).as_bytes());
    assert_eq!(receiver.join(), [b"small"]);
    let stats = consumer.stats();
    let connection = &stats.connections[0];
    assert_eq!((connection.oversized, connection.requeued, connection.finished), (1, 1, 1));
    // It is nobody's failure.
    assert_eq!(stats.backoff.level, 0);
    consumer.stop_within(Duration::ZERO);
}

/// What comes too often is given up, oversized or not, and its handler is told how large it was.
#[test]
fn an_oversized_message_can_be_given_up() {
    let script = Script::listen();
    let mut config = config().on_give_up(|given_up| {
        let message = given_up.message;
        assert_eq!((message.body, message.full_len()), (&b""[..], LARGE));
        GiveUp::Finish
    });
    config = config.max_attempts(3).max_msg_size(LIMIT);
    let (consumer, mut peer) = script.consume(10, config);
    let batches = consumer.batches();
    let receiver = crate::script::beside(move || recv_one(&batches));
    peer.message(1, 4, &large());
    peer.expect(format!("FIN {}\n", id(1)).as_bytes());
    peer.message(2, 1, b"small");
    peer.expect(format!("FIN {}\n", id(2)).as_bytes());
    receiver.join();
    assert_eq!(consumer.stats().gave_up, 1);
    consumer.stop_within(Duration::ZERO);
}

fn recv_one(batches: &nsq_protocol::Batches) {
    batches.recv_timeout(DEADLINE).unwrap().finish();
}

/// A connection that is cut while a body is skipped hands over nothing, and the next one starts anew.
#[test]
fn a_message_that_is_cut_off_is_none() {
    let script = Script::listen();
    let config = config().max_msg_size(LIMIT).oversized(Oversized::HandOver { kept: KEPT });
    let (consumer, mut peer) = script.consume(10, config);
    let body = large();
    let whole = frame(Frame::Message(nsq_protocol::MessageRef {
        timestamp_ns: 7,
        attempts: 1,
        id: id(1),
        body: &body,
        skipped: 0,
    }));
    peer.send(&whole[..whole.len() - 1]);
    drop(peer);
    let mut again = script.accept_subscribed();
    again.expect(b"RDY 10\n");
    assert_eq!(consumer.stats().connections[0].messages, 0);
    again.send(&whole);
    let batch = recv(&consumer);
    let delivery = batch.into_deliveries().next().unwrap();
    assert_eq!((delivery.body(), delivery.skipped()), (&body[..KEPT], LARGE - KEPT));
    delivery.finish();
    again.expect(format!("FIN {}\n", id(1)).as_bytes());
    consumer.stop_within(Duration::ZERO);
}

/// A producer asks for no messages: there one that is too large is refused as before.
#[test]
fn a_producer_skips_nothing() {
    let script = Script::listen();
    let (producer, mut peer) = script.produce(producer_config());
    peer.send(&[&(4u32 << 20).to_be_bytes()[..], b"\0\0\0\x02"].concat());
    peer.expect_end();
    drop(script);
    drop(producer);
}
