//! Our own consumer and producer, of which other things are wanted while they run.

use std::time::{Duration, Instant};

use nsq_protocol::{
    Admin, BodiesBuf, ClientStats, Consumer, ConsumerConfig, Producer, ProducerConfig, TopicName,
    Unanswered,
};

use super::Target;
use crate::timing::DEADLINE;

/// Waits until the clients of the topic's channel are as they should be.
#[track_caller]
fn wait_for(
    target: &Target,
    topic: &TopicName,
    what: &str,
    holds: impl Fn(&[ClientStats]) -> bool,
) {
    let admin = Admin::new(&target.http.to_string());
    let began = Instant::now();
    loop {
        let stats = admin.stats(&Default::default()).unwrap();
        let topics = stats.topics.iter().filter(|of| of.topic_name == topic.as_str());
        if topics.flat_map(|of| &of.channels).any(|channel| holds(&channel.clients)) {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "never: {what}");
        std::thread::yield_now();
    }
}

pub(super) fn changed_while_they_run(target: &Target) {
    let (topic, addr): (TopicName, _) = ("changed".parse().unwrap(), target.tcp.to_string());
    let producer = Producer::connect(ProducerConfig::new().nsqd(&addr)).unwrap();
    let config = ConsumerConfig::new(topic, "c".parse().unwrap()).nsqd(&addr);
    let consumer = Consumer::start(config).unwrap();
    let batches = consumer.batches();
    // Paused, it gets nothing.
    consumer.pause();
    let all_at_zero = |clients: &[ClientStats]| clients.iter().all(|of| of.ready_count == 0);
    wait_for(target, &topic, "RDY 0 came", all_at_zero);
    producer.publish(&topic, b"1").unwrap();
    assert!(batches.recv_timeout(Duration::from_millis(200)).is_err(), "in spite of the pause");
    consumer.resume();
    batches.recv_timeout(DEADLINE).unwrap().finish();
    // It leaves, and comes back to what came meanwhile.
    assert_eq!(consumer.disconnect_from_nsqd(&addr).unwrap(), Unanswered(0));
    wait_for(target, &topic, "it is gone", <[_]>::is_empty);
    producer.publish(&topic, b"2").unwrap();
    consumer.connect_to_nsqd(&addr).unwrap();
    batches.recv_timeout(DEADLINE).unwrap().finish();
    // As many as are wanted at once come at once, and not more than may be in flight.
    let mut bodies = BodiesBuf::new();
    (0..100).for_each(|_| bodies.push(b"x"));
    producer.publish_many(&topic, &bodies).unwrap();
    let many = batches.recv_many(100, DEADLINE).unwrap();
    assert_eq!(many.len(), 100);
    many.finish();
    consumer.set_max_in_flight(10).unwrap();
    wait_for(target, &topic, "RDY is lower", |clients| {
        !clients.is_empty() && clients.iter().all(|of| of.ready_count <= 10)
    });
    producer.publish_many(&topic, &bodies).unwrap();
    let few = batches.recv_many(100, DEADLINE).unwrap();
    assert_eq!(few.len(), 10);
    few.finish();
    producer.ping().unwrap();
    drop(consumer);
}
