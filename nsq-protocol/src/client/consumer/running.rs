//! A consumer that calls a handler on threads of its own, `nsq-work-N`.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::consumer::delivery::Delivery;
use crate::client::consumer::lifecycle::{Consumer, Leftover};
use crate::client::consumer::queue::{Nothing, Received};
use crate::client::consumer::shared::Shared;
use crate::client::consumer::source::{Source, UnansweredMessage};
use crate::client::consumer::stats::ConsumerStats;
use crate::client::consumer::worker::{END, Worker};
use crate::error::Error;
use crate::flow::policy::Oversized;

/// How long a drop waits for handlers.
const DROP_TIMEOUT: Duration = Duration::from_secs(1);

/// A consumer with its workers, from [`Consumer::run`].
///
/// Dropped, it stops as [`RunningConsumer::shutdown_within`] a second.
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
    consumer: Consumer,
    /// None once they have ended.
    workers: Vec<Worker>,
}

/// How a [`RunningConsumer`] ended.
///
/// # Example
/// ```no_run
/// # fn end(running: nsq_protocol::RunningConsumer) {
/// let shutdown = running.shutdown_within(std::time::Duration::from_secs(5));
/// for message in &shutdown.unanswered {
///     eprintln!("message {} of {} was not done in time", message.id, message.nsqd);
/// }
/// for thread in &shutdown.busy_threads {
///     eprintln!("{thread} is still in its handler");
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shutdown {
    /// What each connection did, to its end.
    pub stats: ConsumerStats,
    /// What handlers had taken and not answered when the time was over; it was given back where its connection stood.
    pub unanswered: Vec<UnansweredMessage>,
    /// Threads that were still in their handler, and are left to end with it.
    pub busy_threads: Vec<String>,
}

impl Consumer {
    /// Calls `handler` with each delivery on `threads` threads of its own, named `nsq-work-N`.
    ///
    /// Whichever thread is free takes the next message, and nsqd is asked for as many messages as there are threads,
    /// within [`crate::ConsumerConfig::max_in_flight`].
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
        self.run_workers(threads, move |_, delivery| handler(delivery))
    }

    /// Starts the threads, which call `handle` with each delivery that is not given up.
    pub(super) fn run_workers(
        self,
        threads: NonZeroUsize,
        handle: impl Fn(&Shared, Delivery) + Send + Sync + 'static,
    ) -> Result<RunningConsumer, Error> {
        let handle = Arc::new(handle);
        // Complete before the first thread starts: where one is refused, its drop ends the consumer and the others.
        let mut running = RunningConsumer { consumer: self, workers: Vec::new() };
        for number in 0..threads.get() {
            let (shared, handle) = (running.consumer.shared.clone(), handle.clone());
            let name = format!("nsq-work-{}", number % 100_000);
            running.workers.push(Worker::spawn(name, move || work(&shared, &*handle))?);
        }
        running.consumer.shared.flow.expect_workers(threads.get() as u64);
        Ok(running)
    }
}

impl RunningConsumer {
    /// The consumer, to look at its statistics or to stop it from another thread.
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// As [`RunningConsumer::shutdown_within`], with [`crate::ConsumerConfig::stop_timeout`].
    pub fn shutdown(self) -> ConsumerStats {
        let timeout = self.consumer.shared.config.stop_timeout;
        self.shutdown_within(timeout).stats
    }

    /// Stops in order, in `timeout` and about a second at most, whatever the handlers do.
    ///
    /// From now on no handler is called: what none has taken is given back. Handlers that are running may answer until
    /// `timeout` has passed; then what they hold is given back, too, and told in [`Shutdown::unanswered`]. Threads are
    /// joined, but for those that are still in their handler ([`Shutdown::busy_threads`]).
    pub fn shutdown_within(mut self, timeout: Duration) -> Shutdown {
        let mut busy_threads = self.end(timeout);
        let Leftover { unanswered, give_up_thread } = self.consumer.take_leftover();
        busy_threads.extend(give_up_thread);
        Shutdown { stats: self.consumer.stats(), unanswered, busy_threads }
    }

    /// Stops, and says which of the workers are left.
    fn end(&mut self, timeout: Duration) -> Vec<String> {
        self.consumer.stop_within(timeout);
        let deadline = Instant::now() + END;
        self.workers.drain(..).filter_map(|worker| worker.end(deadline)).collect()
    }
}

impl Drop for RunningConsumer {
    fn drop(&mut self) {
        self.end(DROP_TIMEOUT);
    }
}

/// The body of a worker: until the consumer stops.
fn work(shared: &Shared, handle: &impl Fn(&Shared, Delivery)) {
    shared.queue.add_receiver();
    while let Some(source) = next_source(shared) {
        while let Some(delivery) = Delivery::next_of(&source) {
            call(shared, delivery, handle);
        }
    }
    shared.queue.remove_receiver();
}

/// The oldest batch with a message that nobody has taken; `None` once the consumer stops.
fn next_source(shared: &Shared) -> Option<Arc<Source>> {
    loop {
        let source = match shared.queue.recv_or(|| shared.open.oldest()) {
            Ok(Received::Other(source)) => source,
            Ok(Received::Item(mut batch)) => {
                batch.taken();
                if let Oversized::Requeue(delay) = shared.config.oversized {
                    batch.requeue_oversized(delay);
                }
                let source = batch.take_apart();
                shared.open.begin(&source);
                source
            }
            Err(Nothing::Ended | Nothing::Late) => return None,
        };
        // One is for this thread; each that is woken for the others wakes the next.
        if source.left() > 1 && shared.queue.is_starving() {
            shared.queue.wake();
        }
        if source.left() > 0 {
            return Some(source);
        }
    }
}

fn call(shared: &Shared, delivery: Delivery, handle: &impl Fn(&Shared, Delivery)) {
    let (id, config) = (delivery.id(), &shared.config);
    if config.max_attempts > 0 && delivery.attempts() > config.max_attempts {
        return shared.giving_up.add(delivery, None);
    }
    #[cfg(feature = "tracing")]
    let _span = crate::client::span::of_handler(config.topic, config.channel, &delivery).entered();
    // A panic ends what the handler did with this delivery only; what else it shares is its own care.
    if catch_unwind(AssertUnwindSafe(|| handle(shared, delivery))).is_err() {
        log::error!("the handler panicked over message {id}; it is given back");
    }
}
