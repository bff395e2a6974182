//! What a handler may hold while it panics ([`std::panic::catch_unwind`]): nothing of ours is half changed behind a panic,
//! because no code of a user runs while one of our locks is held.

use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::client::consumer::batch::Batch;
use crate::client::consumer::batches::Batches;
use crate::client::consumer::config::ConsumerConfig;
use crate::client::consumer::delivery::Delivery;
use crate::client::consumer::lifecycle::Consumer;
use crate::client::consumer::running::RunningConsumer;
use crate::client::producer::config::ProducerConfig;
use crate::client::producer::publish::Producer;
use crate::client::producer::receipt::Receipt;

macro_rules! unwind_safe {
    ($($name:ty),*) => {$(
        impl UnwindSafe for $name {}
        impl RefUnwindSafe for $name {}
    )*};
}
unwind_safe!(
    Batch,
    Batches,
    Consumer,
    ConsumerConfig,
    Delivery,
    Producer,
    ProducerConfig,
    RunningConsumer
);

impl<B> UnwindSafe for Receipt<B> {}
impl<B> RefUnwindSafe for Receipt<B> {}
