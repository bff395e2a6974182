//! DPUB and MPUB.

use std::time::{Duration, Instant};

use nsq_protocol::Command;
use serde_json::json;

use super::Target;
use crate::broker_support::{self, Client, topic};

pub(super) fn dpub(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    let mut consumer = target.consumer("dpub", 10);
    let sent = Instant::now();
    producer.send(Command::Dpub(topic("dpub"), 500, b"late"));
    producer.ok();
    producer.send(Command::Dpub(topic("dpub"), 0, b"now"));
    producer.ok();
    consumer.delivery(b"now", 1);
    target.channel_becomes("dpub", "deferred_count", 1);
    assert_eq!(target.channel("dpub")["depth"], 0);
    consumer.delivery(b"late", 1);
    assert!(sent.elapsed() >= Duration::from_millis(500));
    producer.send(Command::Dpub(topic("dpub"), 3_600_000, b"the longest"));
    producer.ok();
}

pub(super) fn mpub(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish_many("mpub", &[b"1", b"22", b"333"]);
    let mut consumer = target.consumer("mpub", 3);
    let messages: Vec<_> =
        [&b"1"[..], b"22", b"333"].iter().map(|body| consumer.delivery(body, 1)).collect();
    assert!(messages[0].id < messages[1].id && messages[1].id < messages[2].id);
    let stats = target.topic("mpub");
    assert_eq!((&stats["message_count"], &stats["message_bytes"]), (&json!(3), &json!(6)));
    // A body of exactly the limit.
    consumer.finish(&messages[0]);
    let large = vec![b'x'; 1 << 20];
    producer.publish("mpub", &large);
    assert_eq!(consumer.message().body.len(), large.len());
    // What follows a bad message is not read, and what came before it: nsqd and we take none of it.
    producer.raw(b"MPUB mpub\n\0\0\0\x0d\0\0\0\x02\0\0\0\x01a\0\0\0\0");
    producer.fatal("E_BAD_MESSAGE MPUB invalid message(1) body size 0");
    assert_eq!(target.topic("mpub")["message_count"], 4);
}

/// The count and the sizes of its messages say where an MPUB ends, whatever its own size says: a client of segmentio's
/// leaves the sizes out of it. Over HTTP, too.
pub(super) fn mpub_with_a_wrong_length(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    for (at, size) in [13u32, 1, 9].into_iter().enumerate() {
        producer.raw(b"MPUB wrong-length\n");
        producer.raw(&size.to_be_bytes());
        // In two reads, cut inside a message's size.
        producer.raw(b"\0\0\0\x01\0\0");
        producer.raw(b"\0\x01aNOP\n");
        producer.ok();
        assert_eq!(target.topic("wrong-length")["message_count"], at + 1, "size {size}");
    }
    let longer = b"\0\0\0\x01\0\0\0\x01abc";
    let path = "/mpub?topic=wrong-length&binary=true";
    let (status, _, body) = broker_support::http(target.http, "POST", path, longer);
    assert_eq!((status, body.as_str()), (200, "OK"));
    assert_eq!(target.topic("wrong-length")["message_count"], 4);
}

/// What an ephemeral channel and an ephemeral topic cannot hold is dropped there and counted as received; nobody is
/// refused, and nothing else loses anything.
pub(super) fn ephemeral_drops(target: &Target) {
    target.post("/topic/create?topic=drops");
    target.post("/channel/create?topic=drops&channel=a%23ephemeral");
    target.post("/channel/create?topic=drops&channel=b");
    let bodies: Vec<&[u8]> = vec![b"x"; 3000];
    let mut producer = Client::connect(target.tcp);
    for _ in 0..4 {
        producer.publish_many("drops", &bodies);
        producer.publish_many("drops#ephemeral", &bodies);
    }
    // Channels are sorted by name.
    target.channel_becomes("drops", "message_count", 12_000);
    target.channel_becomes("drops", "depth", 10_000);
    let channels = target.topic("drops")["channels"].take();
    assert_eq!(
        (&channels[1]["message_count"], &channels[1]["depth"]),
        (&json!(12_000), &json!(12_000))
    );
    let topic = target.topic("drops%23ephemeral");
    assert_eq!((&topic["message_count"], &topic["depth"]), (&json!(12_000), &json!(10_000)));
    // Ours tells them; nsqd does not.
    let dropped = if target.is_ours { json!(2000) } else { json!(null) };
    assert_eq!((&channels[0]["dropped_count"], &topic["dropped_count"]), (&dropped, &dropped));
}
