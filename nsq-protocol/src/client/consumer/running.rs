//! A consumer that calls a handler on threads of its own, `nsq-work-N`.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::client::consumer::batch::Batch;
use crate::client::consumer::batches::Batches;
use crate::client::consumer::delivery::Delivery;
use crate::client::consumer::lifecycle::Consumer;
use crate::client::consumer::stats::ConsumerStats;
use crate::error::Error;
use crate::thread::Crew;

/// A consumer with its workers, from [`Consumer::run`]. Dropped, it stops at once and joins the workers.
///
/// # Example
/// ```no_run
/// # fn start(consumer: nsq_protocol::Consumer) -> Result<(), Box<dyn std::error::Error>> {
/// let running = consumer.run(4.try_into()?, |message| message.finish())?;
/// println!("{} connections", running.consumer().stats().connections.len());
/// running.shutdown();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RunningConsumer {
    // Dropped in this order: a consumer that stops gives its workers their end.
    consumer: Consumer,
    workers: Crew<()>,
}

impl Consumer {
    /// Calls `handler` with each delivery on `threads` threads of its own, named `nsq-work-N`.
    ///
    /// What the handler neither finishes nor requeues is given back; so is the message of a handler that
    /// panics, after [`crate::ConsumerConfig::panic_requeue_delay`], and the thread goes on.
    ///
    /// # Errors
    /// [`Error::Thread`] when the operating system refuses a thread; the consumer is stopped then.
    pub fn run(
        self,
        threads: NonZeroUsize,
        handler: impl Fn(Delivery) + Send + Sync + 'static,
    ) -> Result<RunningConsumer, Error> {
        let handler = Arc::new(handler);
        let workers = Crew::new({
            let shared = self.shared.clone();
            move || shared.queue.close()
        });
        // Complete before the first thread starts: where one is refused, its drop ends the consumer and the others.
        let mut running = RunningConsumer { consumer: self, workers };
        for number in 0..threads.get() {
            let name = format!("nsq-work-{}", number % 100_000);
            let (batches, handler) = (running.consumer.batches(), handler.clone());
            let worker = move || work(batches, &*handler);
            running.workers.spawn(&name, worker).map_err(Error::thread(&name))?;
        }
        Ok(running)
    }
}

impl RunningConsumer {
    /// The consumer, to look at its statistics or to stop it from another thread.
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// Stops in order, as [`Consumer::stop`], and joins the workers: a handler that never returns keeps it
    /// waiting for ever.
    pub fn shutdown(self) -> ConsumerStats {
        let Self { consumer, workers } = self;
        consumer.stop();
        workers.join();
        consumer.stats()
    }
}

fn work(batches: Batches, handler: &impl Fn(Delivery)) {
    for delivery in batches.flat_map(Batch::into_deliveries) {
        let id = delivery.id();
        // A panic ends what the handler did with this delivery only; what else it shares is its own care.
        if catch_unwind(AssertUnwindSafe(|| handler(delivery))).is_err() {
            log::error!("the handler panicked over message {id}; it is given back");
        }
    }
}
