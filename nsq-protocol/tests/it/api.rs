//! What a caller may rely on at compile time.

use nsq_protocol as nsq;

fn everywhere<T: Send + Sync + 'static>() {}

#[test]
fn the_main_types_go_to_any_thread() {
    everywhere::<nsq::Consumer>();
    everywhere::<nsq::RunningConsumer>();
    everywhere::<nsq::Batches>();
    everywhere::<nsq::Batch>();
    everywhere::<nsq::Delivery>();
    everywhere::<nsq::Producer>();
    everywhere::<nsq::Receipt<Vec<u8>>>();
    everywhere::<nsq::Receipt<nsq::BodiesBuf>>();
    everywhere::<nsq::Admin>();
    everywhere::<nsq::ConsumerConfig>();
    everywhere::<nsq::ProducerConfig>();
    everywhere::<nsq::ConsumerStats>();
    everywhere::<nsq::ProducerStats>();
    everywhere::<nsq::FrameDecoder>();
    everywhere::<nsq::CommandDecoder>();
}

#[test]
fn a_handler_may_hold_them_when_it_panics() {
    fn unwind<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    unwind::<nsq::Consumer>();
    unwind::<nsq::Batches>();
    unwind::<nsq::Batch>();
    unwind::<nsq::Delivery>();
    unwind::<nsq::Producer>();
    unwind::<nsq::Receipt<Vec<u8>>>();
    unwind::<nsq::ConsumerConfig>();
    unwind::<nsq::ProducerConfig>();
}

#[test]
fn every_error_becomes_the_one_error() {
    fn becomes<T: Into<nsq::Error>>() {}
    becomes::<nsq::PublishError>();
    becomes::<nsq::NotByAll>();
    becomes::<nsq::Unpublished<Vec<u8>>>();
    becomes::<nsq::AdminError>();
    becomes::<nsq::DecodeError>();
    becomes::<nsq::CommandError>();
    becomes::<nsq::DecompressError>();
    becomes::<nsq::NameError>();
    becomes::<nsq::RecvTimeoutError>();
    let name = || -> Result<nsq::TopicName, nsq::Error> { Ok("a b".parse::<nsq::TopicName>()?) };
    assert!(name().unwrap_err().to_string().contains("is not an NSQ name"));
}

#[test]
fn statistics_are_serialized() {
    fn is<T: serde::Serialize>() {}
    is::<nsq::ConsumerStats>();
    is::<nsq::ProducerStats>();
}

#[test]
fn errors_go_into_a_box_and_over_threads() {
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    error::<nsq::Error>();
    error::<nsq::PublishError>();
    error::<nsq::Unpublished<Vec<u8>>>();
    error::<nsq::AdminError>();
    error::<nsq::DecodeError>();
    error::<nsq::CommandError>();
    error::<nsq::DecompressError>();
    error::<nsq::NameError>();
    error::<nsq::RecvTimeoutError>();
}

#[test]
fn what_several_callers_learn_of_is_cheap_to_clone() {
    fn clone<T: Clone>() {}
    clone::<nsq::Batches>();
    clone::<nsq::Admin>();
    clone::<nsq::Error>();
    clone::<nsq::PublishError>();
}
