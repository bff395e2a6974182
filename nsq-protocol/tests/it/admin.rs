//! nsqd's HTTP API against a real nsqd.

use nsq_protocol::{
    Admin, AdminError, ChannelName, Consumer, ConsumerConfig, Error, Producer, ProducerConfig,
    StatsFilter, TopicName,
};

use crate::nsqd::nsqd_or_skip;
use crate::script::Script;

/// Pauses both, one after the other, and lets them go on.
fn check_pauses(admin: &Admin, topic: &TopicName, channel: &ChannelName) {
    let topic_is_paused = || {
        let stats = admin.stats(&StatsFilter::default()).unwrap();
        stats.topic(topic).unwrap().paused
    };
    let channel_is_paused = || {
        let stats = admin.stats(&StatsFilter::default()).unwrap();
        stats.channel(topic, channel).unwrap().paused
    };
    admin.pause_topic(topic).unwrap();
    assert!(topic_is_paused());
    admin.unpause_topic(topic).unwrap();
    assert!(!topic_is_paused());
    admin.pause_channel(topic, channel).unwrap();
    assert!(channel_is_paused());
    admin.unpause_channel(topic, channel).unwrap();
    assert!(!channel_is_paused());
}

#[test]
fn topics_and_channels_are_created_paused_emptied_and_deleted() {
    let nsqd = nsqd_or_skip!();
    let admin = Admin::new(&nsqd.http_addr());
    admin.ping().unwrap();
    let info = admin.info().unwrap();
    assert_eq!((info.tcp_port, info.http_port), (nsqd.tcp.port(), nsqd.http.port()));

    let topic: TopicName = "plays#ephemeral".parse().unwrap();
    let channel: ChannelName = "count".parse().unwrap();
    assert!(admin.pause_topic(&topic).unwrap_err().is_not_found());
    admin.create_topic(&topic).unwrap();
    admin.create_topic(&topic).unwrap();
    assert!(admin.empty_channel(&topic, &channel).unwrap_err().is_not_found());
    admin.create_channel(&topic, &channel).unwrap();

    check_pauses(&admin, &topic, &channel);

    let all = StatsFilter::default();
    admin.pause_topic(&topic).unwrap();
    let producer = Producer::connect(ProducerConfig::new().nsqd(nsqd.addr())).unwrap();
    producer.publish(&topic, b"x").unwrap();
    let stats = admin.stats(&all).unwrap();
    assert_eq!(stats.health, "OK");
    assert_eq!(stats.topic(&topic).unwrap().depth, 1);
    assert_eq!(stats.producers.len(), 1);
    assert_eq!(stats.producers[0].pub_counts[0].count, 1);
    admin.empty_topic(&topic).unwrap();
    assert_eq!(admin.stats(&all).unwrap().topic(&topic).unwrap().depth, 0);

    let elsewhere = StatsFilter::new().topic("other".parse().unwrap());
    assert!(admin.stats(&elsewhere).unwrap().topics.is_empty());

    let consumer = ConsumerConfig::new(topic, channel).nsqd(nsqd.addr());
    let consumer = Consumer::start(consumer).unwrap();
    let one = StatsFilter::new().topic(topic).channel(channel);
    let stats = admin.stats(&one).unwrap();
    let clients = &stats.channel(&topic, &channel).unwrap().clients;
    assert_eq!((clients.len(), clients[0].state), (1, 3));
    assert!(clients[0].user_agent.starts_with("nsq-protocol/"));
    let stats = admin.stats(&one.clients(false)).unwrap();
    let of = stats.channel(&topic, &channel).unwrap();
    assert_eq!((of.client_count, of.clients.len()), (1, 0));
    drop(consumer);

    admin.delete_topic(&topic).unwrap();
    assert!(admin.delete_topic(&topic).unwrap_err().is_not_found());
}

#[test]
fn nobody_there_and_the_wrong_port_are_told_apart() {
    let addr = Script::listen().addr();
    let error = Admin::new(&addr).ping().unwrap_err();
    assert!(matches!(error, AdminError::Unreachable { .. }), "{error}");
    assert_eq!(error.to_string(), format!("cannot reach http://{addr}/ping"));

    let nsqd = nsqd_or_skip!();
    let error = Admin::new(&nsqd.addr()).info().unwrap_err();
    assert!(matches!(error, AdminError::Unreachable { .. }), "{error}");
    let error = Producer::connect(ProducerConfig::new().nsqd(nsqd.http_addr())).unwrap_err();
    assert!(matches!(error, Error::Decode { .. }), "{error}");
}
