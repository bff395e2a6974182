//! The client against a real nsqd, end to end.

use std::collections::BTreeSet;
use std::time::Duration;

use nsq_protocol::{BodiesBuf, Consumer, ConsumerConfig, Producer, ProducerConfig};

use crate::nsqd::nsqd_or_skip;

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn what_is_published_is_consumed_and_finished() {
    let nsqd = nsqd_or_skip!();
    let topic = "plays".parse().unwrap();
    let producer = Producer::connect(ProducerConfig::new().nsqd(nsqd.addr())).unwrap();
    producer.publish(&topic, b"0").unwrap();
    producer.publish_deferred(&topic, Duration::from_millis(50), b"1").unwrap();
    let mut bodies = BodiesBuf::new();
    (2..1000).for_each(|number| bodies.push(number.to_string().as_bytes()));
    producer.publish_many(&topic, &bodies).unwrap();

    let config = ConsumerConfig::new(topic, "count".parse().unwrap()).nsqd(nsqd.addr());
    let consumer = Consumer::start(config).unwrap();
    let batches = consumer.batches();
    let mut seen = BTreeSet::new();
    while seen.len() < 1000 {
        let batch = batches.recv_timeout(DEADLINE).unwrap();
        for message in &batch {
            assert_eq!(message.attempts, 1);
            let number: u32 = std::str::from_utf8(message.body).unwrap().parse().unwrap();
            assert!(seen.insert(number));
        }
        batch.finish();
    }
    let stats = consumer.shutdown();
    let connection = &stats.connections[0];
    assert_eq!((connection.messages, connection.finished), (1000, 1000), "{connection:?}");
    assert_eq!((connection.in_flight, connection.lost_answers), (0, 0), "{connection:?}");
    producer.close(DEADLINE).unwrap();
}
