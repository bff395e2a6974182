//! Handlers that return a result, and what becomes of messages that are given up.

use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nsq_protocol::thread::stop_pair;
use nsq_protocol::{
    BodiesBuf, Consumer, ConsumerConfig, Delivery, Frame, GiveUp, GiveUpCause, MessageRef,
    Producer, RunningConsumer,
};

use crate::logged::Logged;
use crate::nsqd::nsqd_or_skip;
use crate::script::{Peer, Script, beside, config, frame, id, producer_config};
use crate::timing::DEADLINE;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

const ONE: NonZeroUsize = NonZeroUsize::new(1).unwrap();

/// Without backoff, so that no RDY comes in between.
fn steady() -> ConsumerConfig {
    config().backoff_max(Duration::ZERO)
}

fn stop(running: RunningConsumer, peer: Peer) {
    let stopping = beside(move || running.shutdown());
    peer.close_in_order();
    stopping.join();
}

#[derive(Debug, thiserror::Error)]
#[error("the play was not stored")]
struct NotStored(#[source] std::io::Error);

fn not_stored() -> NotStored {
    NotStored(std::io::Error::other("the disk is full"))
}

#[test]
fn what_a_handler_returns_answers_its_message() {
    let script = Script::listen();
    let config = steady()
        .default_requeue_delay(Duration::from_millis(70))
        .max_requeue_delay(Duration::from_millis(200));
    let (consumer, mut peer) = script.consume(10, config);
    let elsewhere = Arc::new(Mutex::new(Vec::<Delivery>::new()));
    let handler = {
        let elsewhere = elsewhere.clone();
        move |message: Delivery| -> Outcome {
            match message.body() {
                b"good" => {}
                b"number" => drop(std::str::from_utf8(message.body())?.parse::<u64>()?),
                b"finished" => {
                    message.finish();
                    Err(not_stored())?;
                }
                b"later" => message.requeue_without_backoff(Duration::from_millis(9)),
                b"kept" => elsewhere.lock().unwrap().push(message),
                b"panic" => {
                    drop(message);
                    panic!("on purpose");
                }
                other => panic!("{other:?} on purpose"),
            }
            Ok(())
        }
    };
    let running = consumer.run_fallible(ONE, handler).unwrap();
    for (number, attempts, body, answer) in [
        (1, 1, "good", "FIN 0000000000000001\n"),
        (2, 1, "number", "REQ 0000000000000002 70\n"),
        (3, 2, "number", "REQ 0000000000000003 140\n"),
        (4, 3, "number", "REQ 0000000000000004 200\n"),
        (5, 1, "finished", "FIN 0000000000000005\n"),
        (6, 1, "later", "REQ 0000000000000006 9\n"),
        (7, 1, "unknown", "REQ 0000000000000007 1000\n"),
        (8, 1, "panic", "REQ 0000000000000008 1000\n"),
    ] {
        peer.message(number, attempts, body.as_bytes());
        peer.expect(answer.as_bytes());
    }
    // What another thread holds is for that thread to answer, or to drop.
    peer.message(9, 1, b"kept");
    peer.message(10, 1, b"kept");
    peer.message(11, 1, b"good");
    peer.expect(b"FIN 000000000000000b\n");
    let mut kept = std::mem::take(&mut *elsewhere.lock().unwrap());
    kept.remove(0).finish();
    peer.expect(b"FIN 0000000000000009\n");
    drop(kept);
    peer.expect(b"REQ 000000000000000a 0\n");
    stop(running, peer);
}

#[test]
fn the_error_of_a_handler_is_logged_with_all_its_causes() {
    let logged = Logged::watch("the play was not stored");
    let script = Script::listen();
    let (consumer, mut peer) = script.consume(10, config());
    let running = consumer.run_fallible(ONE, |_| Err::<(), _>(not_stored())).unwrap();
    peer.message(0x51, 2, b"x");
    let want = format!(
        "WARN message {} of nsqd {}, delivery 2: the play was not stored: the disk is full; it is delivered again in 180s",
        id(0x51),
        script.addr()
    );
    assert_eq!(logged.first(), want);
    // A failure, so that the consumer backs off.
    peer.expect(format!("REQ {} 180000\nRDY 0\n", id(0x51)).as_bytes());
    drop(peer);
    drop(running);
}

/// An error of the last attempt is told at once; what comes too often otherwise, with that cause.
#[test]
fn a_message_is_given_up_with_its_cause() {
    let nsqd = nsqd_or_skip!();
    let (told, causes) = channel();
    let mut config = steady().nsqd(nsqd.addr()).on_give_up(move |given_up| {
        let text = format!("{} after {}", given_up.cause, given_up.message.attempts);
        let failed = matches!(given_up.cause, GiveUpCause::HandlerFailed(_));
        told.send((text, failed, given_up.nsqd.to_owned())).unwrap();
        GiveUp::Finish
    });
    config = config.max_attempts(2).default_requeue_delay(Duration::from_millis(1));
    let producer = Producer::connect(producer_config().nsqd(nsqd.addr())).unwrap();
    producer.publish(&config.get_topic(), b"x").unwrap();
    let (called, calls) = channel();
    let running = Consumer::start(config.clone()).unwrap().run_fallible(ONE, move |message| {
        called.send(message.attempts()).unwrap();
        Err(not_stored())
    });
    let want = "the play was not stored: the disk is full after 2".to_owned();
    assert_eq!(causes.recv_timeout(DEADLINE).unwrap(), (want, true, nsqd.addr()));
    let stats = running.unwrap().shutdown();
    assert_eq!((stats.gave_up, stats.connections[0].finished), (1, 1));
    assert_eq!(calls.iter().collect::<Vec<_>>(), [1, 2]);
    // A handler without a result requeues as often as it likes, and the next delivery is given up.
    producer.publish(&config.get_topic(), b"x").unwrap();
    let consumer = Consumer::start(config).unwrap();
    let running = consumer.run(ONE, |message| message.requeue(Duration::ZERO)).unwrap();
    let want = "all of its attempts are used up after 3".to_owned();
    assert_eq!(causes.recv_timeout(DEADLINE).unwrap(), (want, false, nsqd.addr()));
    running.shutdown();
}

/// A read with one message to give up in front of another, where the decision takes until `release` is dropped.
fn with_slow_decision(act: impl FnOnce(Consumer, &mut dyn FnMut(&str))) {
    let script = Script::listen();
    let (release, released) = stop_pair();
    let mut config = steady().on_give_up(move |_| {
        released.wait(DEADLINE);
        GiveUp::Finish
    });
    config = config.max_attempts(2);
    let (consumer, mut peer) = script.consume(10, config);
    let message = |number, attempts| {
        let body = b"x";
        let of = MessageRef { timestamp_ns: 0, attempts, id: id(number), body, skipped: 0 };
        frame(Frame::Message(of))
    };
    peer.send(&[message(1, 3), message(2, 3), message(3, 1)].concat());
    act(consumer, &mut |want| peer.expect(want.as_bytes()));
    // Meanwhile the other two are being decided on.
    drop(release);
    peer.expect(b"FIN 0000000000000001\nFIN 0000000000000002\n");
}

#[test]
fn a_decision_that_takes_long_holds_up_no_other_message() {
    with_slow_decision(|consumer, expect| {
        let batch = consumer.batches().recv_timeout(DEADLINE).unwrap();
        assert_eq!(batch.iter().map(|message| message.id).collect::<Vec<_>>(), [id(3)]);
        batch.finish();
        expect("FIN 0000000000000003\n");
        std::mem::forget(consumer);
    });
    // The one thread that there is goes on, too.
    with_slow_decision(|consumer, expect| {
        let running = consumer.run(ONE, |message| message.finish()).unwrap();
        expect("FIN 0000000000000003\n");
        std::mem::forget(running);
    });
}

#[test]
fn a_stop_ends_in_time_whatever_is_being_decided() {
    let nsqd = nsqd_or_skip!();
    let producer = Producer::connect(producer_config().nsqd(nsqd.addr())).unwrap();
    for runs in [false, true] {
        let (hold, held) = stop_pair();
        let (told, begun) = channel();
        let mut config = steady().nsqd(nsqd.addr()).on_give_up(move |_| {
            told.send(()).unwrap();
            held.wait(DEADLINE);
            GiveUp::Finish
        });
        config = config.topic(format!("decided-{runs}").parse().unwrap()).max_attempts(1);
        let mut bodies = BodiesBuf::new();
        (0..3).for_each(|_| bodies.push(b"x"));
        producer.publish_many(&config.get_topic(), &bodies).unwrap();
        let consumer = Consumer::start(config.clone()).unwrap();
        let stopping = if runs {
            let running = consumer.run(ONE, |message| message.requeue(Duration::ZERO)).unwrap();
            begun.recv_timeout(DEADLINE).unwrap();
            let began = Instant::now();
            let shutdown = running.shutdown_within(Duration::from_millis(50));
            assert_eq!(shutdown.busy_threads, ["nsq-give-up"]);
            assert_eq!(shutdown.unanswered.len(), 1, "{:?}", shutdown.unanswered);
            began
        } else {
            let batches = consumer.batches();
            let receiver = beside(move || {
                batches.for_each(|batch| batch.requeue_without_backoff(Duration::ZERO));
            });
            begun.recv_timeout(DEADLINE).unwrap();
            let began = Instant::now();
            assert!(consumer.stop_within(Duration::from_millis(50)).0 >= 1);
            receiver.join();
            began
        };
        assert!(stopping.elapsed() < DEADLINE / 2, "{:?}", stopping.elapsed());
        drop(hold);
        // All come to the next consumer at once: the msg-timeout is a minute.
        config = config.max_attempts(0);
        let next = Consumer::start(config).unwrap();
        let batches = next.batches();
        let mut came = 0;
        while came < 3 {
            let batch = batches.recv_timeout(DEADLINE).unwrap();
            came += batch.len();
            batch.finish();
        }
    }
}
