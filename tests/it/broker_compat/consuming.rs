//! How messages are given out and taken back: RDY, CLS, FIN, REQ, TOUCH, timeouts, and a consumer that goes.

use std::time::{Duration, Instant};

use nsq_protocol::{CLOSE_WAIT, Command, MessageId};
use serde_json::json;

use super::Target;
use crate::broker_support::{Client, Got, text};
use crate::timing::{DEADLINE, check_takes_less};

pub(super) fn rdy_is_a_level(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish_many("rdy", &[b"1", b"2", b"3", b"4", b"5"]);
    let mut consumer = target.consumer("rdy", 2);
    let first = consumer.delivery(b"1", 1);
    let second = consumer.delivery(b"2", 1);
    consumer.quiet();
    consumer.finish(&first);
    let third = consumer.delivery(b"3", 1);
    consumer.quiet();
    // Lowering it recalls nothing and lets nothing through until it is passed.
    consumer.send(Command::Rdy(1));
    consumer.finish(&second);
    consumer.quiet();
    consumer.finish(&third);
    let fourth = consumer.delivery(b"4", 1);
    consumer.send(Command::Rdy(0));
    consumer.finish(&fourth);
    consumer.quiet();
    target.channel_becomes("rdy", "depth", 1);
}

pub(super) fn fan_out_and_backlog(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish("fan-out", b"early");
    assert_eq!(target.topic("fan-out")["depth"], 1);
    let mut first = Client::consumer(target.tcp, "fan-out", "first", 10);
    let early = first.delivery(b"early", 1);
    let mut second = Client::consumer(target.tcp, "fan-out", "second", 10);
    second.quiet();
    producer.publish("fan-out", b"late");
    let (one, other) = (first.delivery(b"late", 1), second.delivery(b"late", 1));
    assert_eq!(one, other, "the same ID and timestamp on both channels");
    assert_ne!(early.id, one.id);
    // Each channel finishes its own copy.
    first.finish(&one);
    second.finish(&other);
    second.quiet();
}

pub(super) fn cls(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish_many("cls", &[b"a", b"b"]);
    let mut consumer = target.consumer("cls", 1);
    let held = consumer.delivery(b"a", 1);
    consumer.send(Command::Cls);
    consumer.response(&text(CLOSE_WAIT));
    // RDY is ignored now, FIN still counts, and the server does not close.
    consumer.send(Command::Rdy(5));
    consumer.finish(&held);
    consumer.quiet();
    target.channel_becomes("cls", "in_flight_count", 0);
    assert_eq!(target.channel("cls")["clients"][0]["state"], 4);
    consumer.send(Command::Cls);
    consumer.fatal("E_INVALID cannot CLS in current state");
}

pub(super) fn fin_of_what_is_not_ours(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish("foreign", b"a");
    let mut owner = target.consumer("foreign", 1);
    let held = owner.delivery(b"a", 1);
    let mut other = target.consumer("foreign", 1);
    let unknown = MessageId(*b"not-a-hex-number");
    for (command, code) in [
        (Command::Fin(held.id), "E_FIN_FAILED FIN"),
        (Command::Req(held.id, 0), "E_REQ_FAILED REQ"),
        (Command::Touch(held.id), "E_TOUCH_FAILED TOUCH"),
    ] {
        other.send(command);
        other.error(&format!("{code} {} failed client does not own message", held.id));
    }
    other.send(Command::Fin(unknown));
    other.error(&format!("E_FIN_FAILED FIN {unknown} failed ID not in flight"));
    // Not fatal: both go on.
    owner.finish(&held);
    owner.finish(&held);
    owner.error(&format!("E_FIN_FAILED FIN {} failed ID not in flight", held.id));
    producer.publish("foreign", b"b");
    target.channel_becomes("foreign", "in_flight_count", 1);
}

pub(super) fn requeue(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish("requeue", b"a");
    let mut consumer = target.consumer("requeue", 1);
    let mut id = None;
    for attempts in 1..=4 {
        let message = consumer.delivery(b"a", attempts);
        assert_eq!(*id.get_or_insert(message.id), message.id);
        consumer.send(Command::Req(message.id, 0));
    }
    let last = consumer.delivery(b"a", 5);
    consumer.finish(&last);
    target.channel_becomes("requeue", "in_flight_count", 0);
    let channel = target.channel("requeue");
    assert_eq!((&channel["requeue_count"], &channel["depth"]), (&json!(4), &json!(0)));
}

/// What comes back after its time comes when it is due, ours soon: nsqd looks at a new channel after 5 s only.
const SOON: Duration = Duration::from_secs(3);

/// Runs a scenario that says how long something took, on topics of that name: once for nsqd, and for ours until it took
/// less than [`SOON`], three times at most.
fn check_soon(target: &Target, topic: &str, scenario: fn(&Target, &str) -> Duration) {
    if !target.is_ours {
        scenario(target, topic);
        return;
    }
    let mut round = 0;
    check_takes_less(SOON, || {
        round += 1;
        scenario(target, &format!("{topic}-{round}"))
    });
}

pub(super) fn requeue_with_a_delay(target: &Target) {
    check_soon(target, "req-delay", |target, topic| {
        let mut producer = Client::connect(target.tcp);
        producer.publish(topic, b"a");
        let mut consumer = target.consumer(topic, 1);
        let message = consumer.delivery(b"a", 1);
        let sent = Instant::now();
        consumer.send(Command::Req(message.id, 500));
        target.channel_becomes(topic, "deferred_count", 1);
        let again = consumer.delivery(b"a", 2);
        let after = sent.elapsed();
        assert!(after >= Duration::from_millis(500), "{after:?}");
        // Far too long is clamped, not refused.
        consumer.send(Command::Req(again.id, 99_999_999_999));
        target.channel_becomes(topic, "deferred_count", 1);
        after
    });
}

pub(super) fn touch(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish("touch", b"a");
    let mut consumer = Client::identified(target.tcp, r#"{"msg_timeout":1000}"#);
    consumer.sub("touch", "c");
    consumer.send(Command::Rdy(1));
    let message = consumer.delivery(b"a", 1);
    for _ in 0..8 {
        assert_eq!(consumer.next(Duration::from_millis(300)), Got::Nothing);
        consumer.send(Command::Touch(message.id));
    }
    // Past twice the timeout it is still in flight.
    assert_eq!(target.channel("touch")["in_flight_count"], 1);
    consumer.finish(&message);
    consumer.send(Command::Touch(message.id));
    consumer.error(&format!("E_TOUCH_FAILED TOUCH {} failed ID not in flight", message.id));
}

pub(super) fn timeout(target: &Target) {
    check_soon(target, "timeout", |target, topic| {
        let mut producer = Client::connect(target.tcp);
        producer.publish(topic, b"a");
        let mut consumer = Client::identified(target.tcp, r#"{"msg_timeout":1000}"#);
        consumer.sub(topic, "c");
        consumer.send(Command::Rdy(1));
        let delivered = Instant::now();
        let first = consumer.delivery(b"a", 1);
        let second = consumer.delivery(b"a", 2);
        let after = delivered.elapsed();
        assert!(after >= Duration::from_millis(900), "{after:?}");
        assert_eq!(first.id, second.id);
        // A late FIN of the first delivery finishes the second, on the same connection.
        consumer.finish(&first);
        consumer.finish(&second);
        consumer.error(&format!("E_FIN_FAILED FIN {} failed ID not in flight", first.id));
        let channel = target.channel(topic);
        assert_eq!(
            (&channel["timeout_count"], &channel["in_flight_count"]),
            (&json!(1), &json!(0))
        );
        after
    });
}

pub(super) fn disconnect(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish("disconnect", b"a");
    // On purpose: ours requeues at once, nsqd when the message times out.
    let timeout = if target.is_ours { 60_000 } else { 3000 };
    let mut first = Client::identified(target.tcp, &format!(r#"{{"msg_timeout":{timeout}}}"#));
    first.sub("disconnect", "c");
    first.send(Command::Rdy(1));
    first.delivery(b"a", 1);
    let mut second = target.consumer("disconnect", 1);
    second.quiet();
    let gone = Instant::now();
    drop(first);
    second.delivery(b"a", 2);
    if target.is_ours {
        assert!(gone.elapsed() < DEADLINE, "{:?}", gone.elapsed());
    } else {
        assert!(gone.elapsed() > Duration::from_secs(2), "{:?}", gone.elapsed());
    }
}
