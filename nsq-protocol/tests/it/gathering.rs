//! Batches of a size, and the batches of several consumers.

use std::time::{Duration, Instant};

use nsq_protocol::{BodiesBuf, Consumer, ConsumerConfig, Frame, MessageRef, Producer, RdyMode};
use nsq_protocol::{RecvTimeoutError, Select};

use crate::nsqd::{Nsqd, nsqd_or_skip};
use crate::script::{Peer, Script, beside, config, frame, id, producer_config};
use crate::timing::{DEADLINE, MINUTE};

/// Sends messages of these numbers in one write, each with its number as body.
fn send(peer: &mut Peer, numbers: std::ops::Range<u64>) {
    let message = |number: u64| {
        let body = number.to_string();
        let of = MessageRef {
            timestamp_ns: 0,
            attempts: 1,
            id: id(number),
            body: body.as_bytes(),
            skipped: 0,
        };
        frame(Frame::Message(of))
    };
    peer.send(&numbers.flat_map(message).collect::<Vec<_>>());
}

fn fins(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|number| format!("FIN {}\n", id(number))).collect()
}

#[test]
fn a_batch_has_the_size_that_is_asked_for() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(1000, config());
    let batches = consumer.batches();
    // Of several reads, the last of which brings more than is wanted.
    send(&mut peer, 0..300);
    let first = batches.recv_many(250, MINUTE).unwrap();
    send(&mut peer, 300..600);
    let second = batches.recv_many(250, MINUTE).unwrap();
    let bodies = |of: &nsq_protocol::Gathered| {
        of.iter()
            .map(|message| String::from_utf8(message.body.to_vec()).unwrap())
            .collect::<Vec<_>>()
    };
    let want = |numbers: std::ops::Range<u64>| {
        numbers.map(|number| number.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(bodies(&first), want(0..250));
    assert_eq!(bodies(&second), want(250..500));
    assert_eq!((first.len(), first.body_bytes()), (250, 10 + 90 * 2 + 150 * 3));
    first.finish();
    peer.expect(fins(0..250).as_bytes());
    second.finish();
    peer.expect(fins(250..500).as_bytes());
    // Fewer, once the time is over; they can be answered one by one.
    let began = Instant::now();
    let third = batches.recv_many(250, Duration::from_millis(50)).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(50));
    assert_eq!(third.len(), 100);
    let mut rest: Vec<_> = third.into_deliveries().collect();
    rest.remove(0).finish();
    drop(rest);
    peer.expect(fins(500..501).as_bytes());
    peer.expect(format!("REQ {} 0\n", id(501)).as_bytes());
    drop(peer);
    drop(batches);
}

#[test]
fn a_full_consumer_is_not_waited_for_and_a_stop_ends_the_waiting() {
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(3, config());
    let batches = consumer.batches();
    send(&mut peer, 0..3);
    // Nothing more can come.
    let all = beside(move || (batches.recv_many(500, MINUTE), batches));
    let (all, batches) = all.join();
    assert_eq!(all.as_ref().map(|all| all.len()), Some(3));
    all.unwrap().finish();
    peer.expect(fins(0..3).as_bytes());
    // One that waits for its first message; the other for more.
    send(&mut peer, 3..4);
    let gathering = beside(move || {
        let gathered = batches.recv_many(2, MINUTE).map(|gathered| {
            let len = gathered.len();
            gathered.finish();
            len
        });
        (gathered, batches.recv_many(2, MINUTE).is_none())
    });
    let stopping = beside(move || consumer.shutdown());
    peer.expect(b"CLS\n");
    peer.respond(b"CLOSE_WAIT");
    peer.expect(fins(3..4).as_bytes());
    peer.expect_end();
    drop(peer);
    assert_eq!(gathering.join(), (Some(1), true));
    stopping.join();
}

fn consumer_of(nsqd: &Nsqd, topic: &str, rdy: RdyMode) -> ConsumerConfig {
    config().nsqd(nsqd.addr()).topic(topic.parse().unwrap()).rdy(rdy)
}

/// Also an adaptive consumer is sent enough for them, and a steady trickle comes in large batches.
#[test]
fn a_real_nsqd_fills_batches() {
    let nsqd = nsqd_or_skip!();
    let producer = Producer::connect(producer_config().nsqd(nsqd.addr())).unwrap();
    for rdy in [RdyMode::Adaptive, RdyMode::Fixed] {
        let config = consumer_of(&nsqd, &format!("many-{rdy:?}"), rdy);
        let topic = config.get_topic();
        let consumer = Consumer::start(config).unwrap();
        let batches = consumer.batches();
        let receiver = beside(move || {
            let mut sizes = Vec::new();
            while sizes.iter().sum::<usize>() < 1000 {
                let many = batches.recv_many(500, MINUTE / 4).unwrap();
                sizes.push(many.len());
                many.finish();
            }
            sizes
        });
        for number in 0..1000u32 {
            producer.publish(&topic, number.to_string().as_bytes()).unwrap();
        }
        assert_eq!(receiver.join(), [500, 500], "{rdy:?}");
    }
}

#[test]
fn one_thread_receives_from_several_consumers_in_turns() {
    let nsqd = nsqd_or_skip!();
    let producer = Producer::connect(producer_config().nsqd(nsqd.addr())).unwrap();
    let topics = ["one", "two"];
    let consumers: Vec<_> = topics
        .iter()
        .map(|topic| {
            let config = consumer_of(&nsqd, topic, RdyMode::Fixed);
            Consumer::start(config.max_in_flight(10)).unwrap()
        })
        .collect();
    let mut select = Select::new(consumers.iter().map(Consumer::batches));
    assert_eq!(
        select.recv_timeout(Duration::from_millis(20)).unwrap_err(),
        RecvTimeoutError::Timeout
    );
    // One of them has always something; the other waits no longer for that.
    let mut bodies = BodiesBuf::new();
    (0..2000).for_each(|_| bodies.push(b"many"));
    producer.publish_many(&topics[0].parse().unwrap(), &bodies).unwrap();
    let (index, batch) = select.recv_timeout(DEADLINE).unwrap();
    assert_eq!(index, 0);
    batch.finish();
    producer.publish(&topics[1].parse().unwrap(), b"few").unwrap();
    let (mut many, mut few, mut left_when_few_came) = (0, 0, 0);
    while few == 0 || many < 1900 {
        let (index, batch) = select.recv_timeout(DEADLINE).unwrap();
        if index == 0 {
            many += batch.len();
        } else {
            assert_eq!(batch.iter().next().unwrap().body, b"few");
            few += batch.len();
            left_when_few_came = 2000 - many;
        }
        batch.finish();
    }
    assert!(left_when_few_came > 0, "it came behind all others");
    // Each end is noticed while it waits, and the last one ends it.
    let stopping =
        beside(move || consumers.into_iter().for_each(|consumer| drop(consumer.shutdown())));
    while let Some((_, batch)) = select.recv() {
        batch.finish();
    }
    stopping.join();
    assert_eq!(select.recv_timeout(MINUTE).unwrap_err(), RecvTimeoutError::Stopped);
}
