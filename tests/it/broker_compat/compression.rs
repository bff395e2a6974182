//! Snappy and deflate, by IDENTIFY.

use nsq_protocol::{
    Command, Compression, Consumer, ConsumerConfig, Producer, ProducerConfig, TopicName,
};
use serde_json::json;

use super::Target;
use crate::broker_support::{Client, Got};
use crate::timing::DEADLINE;

/// Each, with what `/stats` says of it: snappy, deflate.
pub(super) const BOTH: [(&str, Compression, [bool; 2]); 2] = [
    ("snappy", Compression::Snappy, [true, false]),
    ("deflate", Compression::Deflate { level: 3 }, [false, true]),
];

pub(super) fn negotiated(target: &Target) {
    let answer = |json: &str| Client::negotiated(target.tcp, json).1;
    let fields = |json: &str| {
        let answer = answer(json);
        ["snappy", "deflate", "deflate_level", "max_deflate_level"].map(|key| answer[key].clone())
    };
    for (asked, want) in [
        (r#""snappy":true"#, json!([true, false, 6, 6])),
        (r#""deflate":true"#, json!([false, true, 6, 6])),
        (r#""deflate":true,"deflate_level":1"#, json!([false, true, 1, 6])),
        (r#""deflate":true,"deflate_level":9"#, json!([false, true, 6, 6])),
        (r#""deflate":true,"deflate_level":-1"#, json!([false, true, 6, 6])),
        (r#""deflate_level":3"#, json!([false, false, 6, 6])),
    ] {
        assert_eq!(json!(fields(asked)), want, "{asked}");
    }
    let mut client = Client::connect(target.tcp);
    client.send(Command::Identify(br#"{"feature_negotiation":true,"snappy":true,"deflate":true}"#));
    client.fatal("E_IDENTIFY_FAILED cannot enable both deflate and snappy compression");
    // Without the negotiation nothing changes.
    let mut client = Client::identified(target.tcp, r#"{"snappy":true,"deflate":true}"#);
    client.publish("negotiated", b"in clear");
}

/// Each command and answer, by raw sockets.
pub(super) fn commands(target: &Target) {
    for (name, compression, flags) in BOTH {
        let topic = format!("compressed-{name}");
        let mut producer = Client::compressed(target.tcp, compression);
        let mut consumer = Client::compressed(target.tcp, compression);
        // IDENTIFY may come again, and now asks for nothing.
        consumer.send(Command::Identify(b"{}"));
        consumer.ok();
        consumer.sub(&topic, "c");
        consumer.send(Command::Rdy(2));
        producer.publish(&topic, b"a");
        let first = consumer.delivery(b"a", 1);
        consumer.send(Command::Req(first.id, 0));
        let again = consumer.delivery(b"a", 2);
        consumer.finish(&again);
        // One that fits no piece, and what does not compress.
        let noise: Vec<u8> = (0..1u32 << 20).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        producer.publish_many(&topic, &[&noise, b"b"]);
        assert_eq!(consumer.message().body, noise);
        assert_eq!(consumer.message().body, b"b");
        let client = &target.channel(&topic)["clients"][0];
        assert_eq!([&client["snappy"], &client["deflate"]], flags, "{name}");
        assert_eq!(client["tls"], false);
        // Errors are compressed, too.
        consumer.raw(b"nonsense\n");
        consumer.fatal("E_INVALID invalid command nonsense");
    }
}

/// Our own clients: thousands of messages of any size.
pub(super) fn clients(target: &Target) {
    for (name, compression, _) in BOTH {
        let topic: TopicName = format!("clients-{name}").parse().unwrap();
        let addr = target.tcp.to_string();
        let config = ConsumerConfig::new(topic, "c".parse().unwrap()).nsqd(&addr);
        let consumer = Consumer::start(config.compression(compression).max_in_flight(200)).unwrap();
        let producer =
            Producer::connect(ProducerConfig::new().nsqd(&addr).compression(compression)).unwrap();
        let sizes: Vec<usize> = (1..2000).chain([65_535, 65_536, 65_537, 1 << 20]).collect();
        let batches = consumer.batches();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for size in &sizes {
                    producer.publish(&topic, &vec![b'x'; *size]).unwrap();
                }
            });
            let mut missing: std::collections::BTreeSet<usize> = sizes.iter().copied().collect();
            while !missing.is_empty() {
                let batch = batches.recv_timeout(DEADLINE).unwrap();
                for message in &batch {
                    assert!(message.body.iter().all(|byte| *byte == b'x'));
                    assert!(missing.remove(&message.body.len()), "{} again", message.body.len());
                }
                batch.finish();
            }
        });
        let stats = consumer.shutdown();
        assert_eq!(stats.connections[0].finished, sizes.len() as u64, "{name}");
    }
}

/// What follows the upgrade must be compressed.
pub(super) fn garbage_behind_it(target: &Target) {
    for (_, compression, _) in BOTH {
        let mut client = Client::compressed(target.tcp, compression);
        client.below(b"\xff\xff\xff\xffPUB garbage\n\0\0\0\x01x");
        match client.next(DEADLINE) {
            Got::Closed => {}
            // Ours says what is wrong.
            Got::Error(error) if target.is_ours => {
                assert!(error.starts_with("E_INVALID "), "{error}");
                client.closed();
            }
            other => panic!("{compression:?}: {other:?}"),
        }
    }
    assert_eq!(target.stats("&topic=garbage")["topics"], json!(null));
}
