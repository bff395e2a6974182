//! `Duration::MAX` is a limit as any other: nothing panics, and everything works, or is refused with a reason.

use std::time::Duration;

use nsq_protocol::{
    Admin, Batch, Consumer, ConsumerConfig, Error, FrameDecoder, GiveUp, LookupConfig, NodeInfo,
    Oversized, Producer, ProducerConfig, PublishError,
};

use crate::nsqd::nsqd_or_skip;
use crate::nsqlookupd::Nsqlookupd;
use crate::script::{config, producer_config};
use crate::timing::DEADLINE;

type Set<C> = (&'static str, fn(C) -> C, &'static str);

/// What is set, and what a start says of it: nothing where it works.
const CONSUMER: &[Set<ConsumerConfig>] = &[
    ("connect_timeout", |c| c.connect_timeout(Duration::MAX), ""),
    ("handshake_timeout", |c| c.handshake_timeout(Duration::MAX), ""),
    ("write_timeout", |c| c.write_timeout(Duration::MAX), ""),
    ("heartbeat_interval", |c| c.heartbeat_interval(Duration::MAX), "heartbeat_interval is"),
    ("read_timeout", |c| c.read_timeout(Duration::MAX), ""),
    ("tcp_keepalive", |c| c.tcp_keepalive(Duration::MAX), ""),
    ("tcp_user_timeout", |c| c.tcp_user_timeout(Duration::MAX), ""),
    ("reconnect_min", |c| c.reconnect_min(Duration::MAX), ""),
    ("reconnect_max", |c| c.reconnect_max(Duration::MAX), ""),
    ("output_buffer_timeout", |c| c.output_buffer_timeout(Duration::MAX), "E_BAD_BODY"),
    ("low_rdy_timeout", |c| c.low_rdy_timeout(Duration::MAX), ""),
    ("low_rdy_idle_timeout", |c| c.low_rdy_idle_timeout(Duration::MAX), ""),
    ("backoff_min", |c| c.backoff_min(Duration::MAX), ""),
    ("backoff_max", |c| c.backoff_max(Duration::MAX), ""),
    ("msg_timeout", |c| c.msg_timeout(Duration::MAX), "E_BAD_BODY"),
    ("stop_timeout", |c| c.stop_timeout(Duration::MAX), ""),
    ("panic_requeue_delay", |c| c.panic_requeue_delay(Duration::MAX), ""),
    ("default_requeue_delay", |c| c.default_requeue_delay(Duration::MAX), ""),
    ("max_requeue_delay", |c| c.max_requeue_delay(Duration::MAX), ""),
    ("oversized", |c| c.oversized(Oversized::Requeue(Duration::MAX)), ""),
    (
        "lookup.poll_interval",
        |c| c.lookupd_poll_interval(Duration::MAX),
        "lookupd_poll_interval is",
    ),
    ("lookup.connect_timeout", |c| c.lookupd_connect_timeout(Duration::MAX), ""),
    ("lookup.request_timeout", |c| c.lookupd_request_timeout(Duration::MAX), ""),
];

const PRODUCER: &[Set<ProducerConfig>] = &[
    ("publish_timeout", |c| c.publish_timeout(Duration::MAX), ""),
    ("response_timeout", |c| c.response_timeout(Duration::MAX), ""),
    ("max_delay", |c| c.max_delay(Duration::MAX), ""),
    ("connect_timeout", |c| c.connect_timeout(Duration::MAX), ""),
    ("tcp_keepalive", |c| c.tcp_keepalive(Duration::MAX), ""),
    ("reconnect_min", |c| c.reconnect_min(Duration::MAX), ""),
];

/// The fields of that type in the source.
fn durations(source: &str) -> usize {
    let is_one = |line: &&str| line.starts_with("    pub(crate) ") && line.contains("Duration");
    source.lines().filter(is_one).filter(|line| !line.contains("fn ")).count()
}

#[test]
fn the_tables_hold_every_duration_of_a_config() {
    let connection = durations(include_str!("../../src/io/config.rs"));
    let lookup = durations(include_str!("../../src/client/lookup/config.rs"));
    let consumer = durations(include_str!("../../src/client/consumer/config.rs"));
    // And one within `Oversized`.
    assert_eq!(CONSUMER.len(), connection + lookup + consumer + 1);
    let own =
        PRODUCER.iter().filter(|(name, ..)| !CONSUMER.iter().any(|(other, ..)| other == name));
    assert_eq!(own.count(), durations(include_str!("../../src/client/producer/config.rs")));
}

/// Whether it is as expected: refused for that reason, or there.
#[track_caller]
fn check<T>(name: &str, outcome: Result<T, Error>, refused: &str) -> Option<T> {
    match outcome {
        Ok(there) => {
            assert_eq!(refused, "", "{name} is taken");
            Some(there)
        }
        Err(error) => {
            assert!(!refused.is_empty() && error.to_string().contains(refused), "{name}: {error}");
            None
        }
    }
}

#[test]
fn no_limit_of_a_consumer_is_too_long() {
    let nsqd = nsqd_or_skip!();
    let Some(lookupd) = Nsqlookupd::start() else { return };
    let producer = Producer::connect(producer_config().nsqd(nsqd.addr())).unwrap();
    for (name, set, refused) in CONSUMER {
        let mut config = config().nsqd(nsqd.addr());
        if name.starts_with("lookup.") {
            config = config.lookupd(lookupd.http.to_string());
        }
        config = config.topic(name.replace('.', "-").parse().unwrap());
        config = set(config);
        let Some(consumer) = check(name, Consumer::start(config.clone()), refused) else {
            continue;
        };
        producer.publish(&config.get_topic(), b"x").unwrap();
        consumer.batches().recv_timeout(Duration::MAX).unwrap().finish();
        assert_eq!(consumer.shutdown().connections[0].finished, 1, "{name}");
    }
}

#[test]
fn no_limit_of_a_producer_is_too_long() {
    let nsqd = nsqd_or_skip!();
    let topic = "t".parse().unwrap();
    for (name, set, refused) in PRODUCER {
        let mut config = producer_config().nsqd(nsqd.addr());
        config = set(config);
        let Some(producer) = check(name, Producer::connect(config), refused) else { continue };
        producer.publish(&topic, b"x").unwrap();
        producer.submit(&topic, b"x".to_vec()).unwrap().wait().unwrap();
        producer.flush(Duration::MAX).unwrap();
        producer.close(Duration::MAX).unwrap();
    }
    let producer = Producer::connect(producer_config().nsqd(nsqd.addr())).unwrap();
    let error = producer.publish_deferred(&topic, Duration::MAX, b"x").unwrap_err();
    assert!(matches!(error, PublishError::Invalid { .. }), "{error}");
}

/// Messages that are held while their limits are for ever, on every way out.
#[test]
fn no_delay_of_an_answer_is_too_long_and_none_is_turned_into_none() {
    let nsqd = nsqd_or_skip!();
    let producer = Producer::connect(producer_config().nsqd(nsqd.addr())).unwrap();
    let config = config()
        .nsqd(nsqd.addr())
        .on_give_up(|_| GiveUp::Requeue(Duration::MAX))
        .max_attempts(1)
        .auto_touch(true)
        .panic_requeue_delay(Duration::MAX)
        .backoff_max(Duration::ZERO);
    let consumer = Consumer::start(config.clone()).unwrap();
    let batches = consumer.batches();
    let ways: [fn(Batch); 3] = [
        |batch| batch.requeue(Duration::MAX),
        |batch| batch.requeue_without_backoff(Duration::MAX),
        |batch| {
            let panics = std::panic::AssertUnwindSafe(move || {
                let _held = batch;
                panic!("on purpose");
            });
            std::panic::catch_unwind(panics).unwrap_err();
        },
    ];
    for way in ways {
        producer.publish(&config.get_topic(), b"x").unwrap();
        way(batches.recv_timeout(DEADLINE).unwrap());
    }
    // nsqd makes it the longest that it has, an hour, and not none.
    assert!(batches.recv_timeout(Duration::from_millis(200)).is_err());
    // Dropped at once, as both ends would wait.
    drop((batches, consumer));
    let stats = Admin::new(&nsqd.http.to_string()).stats(&Default::default()).unwrap();
    assert_eq!(stats.topics[0].channels[0].deferred_count, 3);
}

#[test]
fn no_request_limit_is_too_long() {
    let nsqd = nsqd_or_skip!();
    let Some(lookupd) = Nsqlookupd::start() else { return };
    let admin = Admin::with_timeout(&nsqd.http.to_string(), Duration::MAX);
    admin.ping().unwrap();
    let _: NodeInfo = admin.info().unwrap();
    let lookup = LookupConfig::default()
        .address(lookupd.http.to_string())
        .connect_timeout(Duration::MAX)
        .request_timeout(Duration::MAX);
    lookup.nodes().unwrap();
}

#[test]
#[should_panic(expected = "bytes in a space of")]
fn a_decoder_is_not_told_of_bytes_that_never_came() {
    let mut decoder = FrameDecoder::new(64);
    let space = decoder.space().len();
    decoder.advance(space + 1);
}
