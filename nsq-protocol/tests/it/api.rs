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
