//! Handlers that return a result, which answers the message. Runs on the threads `nsq-work-N`.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use crate::client::consumer::delivery::{Delivery, LeftToResult};
use crate::client::consumer::giving_up::HandlerError;
use crate::client::consumer::lifecycle::Consumer;
use crate::client::consumer::running::RunningConsumer;
use crate::client::consumer::shared::Shared;
use crate::error::{Error, chain};

impl Consumer {
    /// As [`Consumer::run`], where what `handler` returns answers the message: `Ok` finishes it. An error is logged, a
    /// warning with all its causes in one line, and the message is delivered again after
    /// [`crate::ConsumerConfig::default_requeue_delay`] times its attempts; the consumer backs off.
    ///
    /// With [`crate::ConsumerConfig::max_attempts`], the error of the last attempt is told to
    /// [`crate::ConsumerConfig::on_give_up`] at once.
    ///
    /// A message that `handler` finishes or requeues itself has its answer, and the result changes nothing about that. One
    /// that it hands to another thread, which holds it when `handler` returns, is that thread's to answer.
    ///
    /// # Example
    /// ```no_run
    /// # fn start(consumer: nsq_protocol::Consumer) -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// let running = consumer.run_fallible(4.try_into()?, |message| {
    ///     let text = std::str::from_utf8(message.body())?;
    ///     if text == "later" {
    ///         message.requeue_without_backoff(Duration::from_secs(60));
    ///         return Ok(());
    ///     }
    ///     let count: u64 = text.trim().parse()?;
    ///     println!("{count}");
    ///     Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// })?;
    /// # running.shutdown();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Consumer::run`].
    pub fn run_fallible<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        self,
        threads: NonZeroUsize,
        handler: impl Fn(Delivery) -> Result<(), E> + Send + Sync + 'static,
    ) -> Result<RunningConsumer, Error> {
        self.run_workers(threads, move |shared, delivery| {
            call_fallible(shared, delivery, &handler);
        })
    }
}

/// Calls `handler`, and answers the message by what it returns.
pub(crate) fn call_fallible<E: Into<HandlerError>>(
    shared: &Shared,
    mut delivery: Delivery,
    handler: &impl Fn(Delivery) -> Result<(), E>,
) {
    let mut awaited = Some(delivery.answered_by_result());
    let mut take_back = || awaited.take().and_then(LeftToResult::take_back);
    match catch_unwind(AssertUnwindSafe(|| handler(delivery))) {
        Ok(Ok(())) => take_back().into_iter().for_each(Delivery::finish),
        Ok(Err(error)) => failed(shared, take_back(), error.into()),
        Err(panic) => {
            // Dropped before the panic, it has no answer yet.
            let delay = shared.config.panic_requeue_delay;
            take_back().into_iter().for_each(|delivery| delivery.requeue(delay));
            resume_unwind(panic);
        }
    }
}

/// The handler returned `error`; `delivery` is the message, unless somebody else answers it or has done so.
fn failed(shared: &Shared, delivery: Option<Delivery>, error: HandlerError) {
    let Some(delivery) = delivery else {
        log::warn!("a handler failed over a message that has its answer: {}", chain(&*error));
        return;
    };
    let (id, attempts, config) = (delivery.id(), delivery.attempts(), &shared.config);
    if config.max_attempts > 0 && attempts >= config.max_attempts {
        return shared.giving_up.add(delivery, Some(error));
    }
    let delay = requeue_delay(config.default_requeue_delay, config.max_requeue_delay, attempts);
    log::warn!(
        "message {id} of nsqd {}, delivery {attempts}: {}; it is delivered again in {delay:?}",
        delivery.nsqd(),
        chain(&*error),
    );
    delivery.requeue(delay);
}

/// `delay` times the attempts, `max` at most. The attempts of one that was delivered 65536 times are 0.
fn requeue_delay(delay: Duration, max: Duration, attempts: u16) -> Duration {
    delay.saturating_mul(u32::from(attempts.max(1))).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_with_the_attempts_up_to_its_limit() {
        let secs = Duration::from_secs;
        for (delay, max, attempts, want) in [
            (secs(90), secs(900), 1, secs(90)),
            (secs(90), secs(900), 3, secs(270)),
            (secs(90), secs(900), 11, secs(900)),
            (secs(90), secs(900), 0, secs(90)),
            (Duration::ZERO, secs(900), 5, Duration::ZERO),
            (Duration::MAX, Duration::MAX, 2, Duration::MAX),
        ] {
            assert_eq!(requeue_delay(delay, max, attempts), want, "{delay:?} {max:?} {attempts}");
        }
    }
}
