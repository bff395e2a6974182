//! The helpers for the tests of others. The scripted nsqd is used by the tests all around.

use std::time::Duration;

use nsq_protocol::testing::{TestAnswer, TestDelivery};
use nsq_protocol::{ConsumerConfig, Delivery, GiveUp};

use crate::script::id;

fn requeued(ms: u64, backoff: bool) -> Option<TestAnswer> {
    Some(TestAnswer::Requeued { delay: Duration::from_millis(ms), backoff })
}

#[test]
fn a_handler_is_tested_without_an_nsqd() {
    let ms = Duration::from_millis;
    let handle = |message: Delivery| match message.body() {
        b"finish" => message.finish(),
        b"requeue" => message.requeue(ms(1500)),
        b"later" => message.requeue_without_backoff(ms(20)),
        b"touch" => {
            message.touch();
            message.touch();
            message.finish();
        }
        _ => {}
    };
    for (body, answer, touches) in [
        ("finish", Some(TestAnswer::Finished), 0),
        ("requeue", requeued(1500, true), 0),
        ("later", requeued(20, false), 0),
        ("touch", Some(TestAnswer::Finished), 2),
        ("dropped", requeued(0, false), 0),
    ] {
        let (message, watch) = TestDelivery::new(body).build();
        assert_eq!((watch.answer(), watch.touches()), (None, 0), "{body}");
        handle(message);
        assert_eq!((watch.answer(), watch.touches()), (answer, touches), "{body}");
    }
    let panics = std::panic::AssertUnwindSafe(|| {
        let (message, watch) = TestDelivery::new("x").build();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = message;
            panic!("on purpose");
        }));
        (panicked.is_err(), watch.answer())
    });
    assert_eq!(panics(), (true, requeued(1000, true)));
}

#[test]
fn a_message_is_what_the_test_says() {
    let of = TestDelivery::new("x").attempts(7).timestamp_ns(8).id(id(9)).nsqd("h:1");
    let (message, _watch) = of.build();
    assert_eq!((message.attempts(), message.timestamp_ns(), message.id()), (7, 8, id(9)));
    assert_eq!((message.nsqd(), message.body(), message.skipped()), ("h:1", &b"x"[..], 0));
    assert!(message.is_connected());
}

#[test]
fn a_result_answers_as_it_does_in_a_consumer() {
    let mut config =
        ConsumerConfig::new("t".parse().unwrap(), "c".parse().unwrap()).on_give_up(|given_up| {
            match given_up.message.body {
                b"keep" => GiveUp::Requeue(Duration::from_secs(9)),
                _ => GiveUp::Finish,
            }
        });
    config = config.default_requeue_delay(Duration::from_millis(300)).max_attempts(5);
    let handle = |message: Delivery| match message.body() {
        b"good" => Ok(()),
        _ => Err("it is bad"),
    };
    for (body, attempts, answer, given_up) in [
        ("good", 1, Some(TestAnswer::Finished), false),
        ("bad", 1, requeued(300, true), false),
        ("bad", 3, requeued(900, true), false),
        ("bad", 5, Some(TestAnswer::Finished), true),
        ("keep", 5, requeued(9000, false), true),
    ] {
        let of = TestDelivery::new(body).attempts(attempts).config(config.clone());
        let watch = of.run_fallible(handle);
        assert_eq!((watch.answer(), watch.is_given_up()), (answer, given_up), "{body} {attempts}");
    }
}
