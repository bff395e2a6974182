//! Topics and channels that are paused, emptied and deleted while somebody is subscribed, and ephemeral ones.

use std::time::Instant;

use nsq_protocol::Command;
use serde_json::{Value, json};

use super::Target;
use crate::broker_support::Client;
use crate::timing::DEADLINE;

pub(super) fn pause_a_channel(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    let mut consumer = target.consumer("pause-c", 2);
    producer.publish("pause-c", b"a");
    let held = consumer.delivery(b"a", 1);
    target.post("/channel/pause?topic=pause-c&channel=c");
    producer.publish("pause-c", b"b");
    // What is in flight can still be finished; nothing more comes; the channel takes more in.
    consumer.finish(&held);
    target.channel_becomes("pause-c", "in_flight_count", 0);
    consumer.send(Command::Rdy(5));
    if target.is_ours {
        // nsqd's consumer may take one message that it was already waiting for.
        consumer.quiet();
        target.channel_becomes("pause-c", "depth", 1);
    }
    assert_eq!(target.channel("pause-c")["paused"], true);
    target.post("/channel/unpause?topic=pause-c&channel=c");
    consumer.delivery(b"b", 1);
    assert_eq!(target.channel("pause-c")["paused"], false);
}

pub(super) fn pause_a_topic(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    let mut consumer = target.consumer("pause-t", 5);
    target.post("/topic/pause?topic=pause-t");
    producer.publish("pause-t", b"a");
    consumer.quiet();
    let stats = target.topic("pause-t");
    assert_eq!((&stats["paused"], &stats["depth"]), (&json!(true), &json!(1)));
    // Only the topic's own queue is emptied.
    target.post("/topic/empty?topic=pause-t");
    assert_eq!(target.topic("pause-t")["depth"], 0);
    producer.publish("pause-t", b"b");
    target.post("/topic/unpause?topic=pause-t");
    consumer.delivery(b"b", 1);
}

pub(super) fn empty_while_subscribed(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish_many("empty", &[b"a", b"b", b"c"]);
    let mut consumer = target.consumer("empty", 1);
    let held = consumer.delivery(b"a", 1);
    target.channel_becomes("empty", "depth", 2);
    consumer.send(Command::Rdy(0));
    // In order behind the RDY, so that nothing more is sent.
    consumer.publish("empty-other", b"x");
    target.post("/channel/empty?topic=empty&channel=c");
    let channel = target.channel("empty");
    assert_eq!((&channel["depth"], &channel["in_flight_count"]), (&json!(0), &json!(0)));
    assert_eq!(channel["clients"][0]["in_flight_count"], 0);
    consumer.finish(&held);
    consumer.error(&format!("E_FIN_FAILED FIN {} failed ID not in flight", held.id));
    // And it goes on.
    consumer.send(Command::Rdy(1));
    producer.publish("empty", b"d");
    consumer.delivery(b"d", 1);
}

pub(super) fn delete_while_subscribed(target: &Target) {
    let mut consumer = target.consumer("delete", 1);
    target.post("/channel/delete?topic=delete&channel=c");
    consumer.closed();
    let mut consumer = target.consumer("delete", 1);
    let mut producer = Client::connect(target.tcp);
    producer.publish("delete", b"a");
    consumer.delivery(b"a", 1);
    target.post("/topic/delete?topic=delete");
    consumer.closed();
    assert_eq!(target.stats("&topic=delete")["topics"], Value::Null);
    // A producer creates it again.
    producer.publish("delete", b"b");
    assert_eq!(target.topic("delete")["depth"], 1);
}

pub(super) fn ephemeral(target: &Target) {
    let name = "eph%23ephemeral";
    let consumer = Client::consumer(target.tcp, "eph#ephemeral", "c#ephemeral", 1);
    assert_eq!(target.channel(name)["client_count"], 1);
    drop(consumer);
    let deadline = Instant::now() + DEADLINE;
    while target.stats(&format!("&topic={name}"))["topics"] != Value::Null {
        assert!(Instant::now() < deadline, "the topic goes with its last channel");
    }
}
