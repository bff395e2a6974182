//! Where messages are given up: on a thread of its own, `nsq-give-up`, so that a decision that takes long holds up no
//! other message. Any thread adds to it.

use std::sync::atomic::AtomicU64;

use crate::client::consumer::counts::{add, read};
use crate::client::consumer::delivery::Delivery;
use crate::client::consumer::give_up::{GiveUpCause, GiveUpHandler};
use crate::client::consumer::queue::Queue;

/// What a handler that fails returns.
pub(super) type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// A message that is given up, and its handler's error if that was the reason.
pub(crate) struct Doomed {
    delivery: Delivery,
    error: Option<HandlerError>,
}

fn cause(error: Option<&HandlerError>) -> GiveUpCause<'_> {
    error.map_or(GiveUpCause::AttemptsUsedUp, |error| GiveUpCause::HandlerFailed(&**error))
}

/// The messages of one consumer that are given up.
pub(crate) struct GivingUp {
    handler: Option<GiveUpHandler>,
    /// Bounded by what may be in flight: nothing of it is answered.
    queue: Queue<Doomed>,
    count: AtomicU64,
}

impl GivingUp {
    pub(super) fn new(handler: Option<GiveUpHandler>) -> Self {
        Self { handler, queue: Queue::new(), count: AtomicU64::new(0) }
    }

    /// Whether somebody decides, which takes a thread.
    pub(super) fn has_handler(&self) -> bool {
        self.handler.is_some()
    }

    /// Decides on this thread about what is there, and nothing comes any more.
    #[cfg(feature = "test-util")]
    pub(crate) fn run_what_is_there(&self) {
        self.queue.close();
        self.run();
    }

    /// How many were given up.
    pub(crate) fn count(&self) -> u64 {
        read(&self.count)
    }

    /// Gives the message up, without waiting for the decision; without a handler it is finished.
    pub(super) fn add(&self, delivery: Delivery, error: Option<HandlerError>) {
        add(&self.count, 1);
        if self.has_handler() {
            // Once stopped, the queue returns it, and its drop gives it back.
            let _ = self.queue.push(Doomed { delivery, error });
            return;
        }
        let (id, attempts) = (delivery.id(), delivery.attempts());
        let cause = cause(error.as_ref());
        log::warn!("message {id} is given up after {attempts} deliveries: {cause}");
        delivery.finish();
    }

    /// The body of the thread: until [`GivingUp::stop`].
    pub(super) fn run(&self) {
        while let Ok(Doomed { delivery, error }) = self.queue.recv(None) {
            let Some(handler) = &self.handler else { return };
            delivery.give_up(handler, cause(error.as_ref()));
        }
    }

    /// Nothing is decided any more: what nobody has decided on is given back by its drop.
    pub(super) fn stop(&self) -> impl Drop + use<> {
        self.queue.close();
        self.queue.drain()
    }
}
