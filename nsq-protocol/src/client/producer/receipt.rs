//! A publish under way, for whoever waits for it later. Runs on the caller's thread.

use std::sync::Arc;

use crate::client::producer::command::Publish;
use crate::client::producer::dispatcher::{Attempt, Dispatcher};
use crate::codec::names::TopicName;
use crate::error::Unpublished;

/// Borrows what is published from the bodies that the receipt keeps.
pub(super) type View<B> = for<'a> fn(TopicName, u64, &'a B) -> Publish<'a>;

/// A publish under way, with its bodies. Not waited for, it is not sent again when it is lost.
///
/// # Example
/// ```no_run
/// # fn publish(producer: nsq_protocol::Producer) -> Result<(), Box<dyn std::error::Error>> {
/// let topic = "plays".parse()?;
/// let receipts: Vec<_> = (0..100u32)
///     .map(|number| producer.submit(&topic, number.to_string().into_bytes()))
///     .collect::<Result<_, _>>()?;
/// for receipt in receipts {
///     if let Err(unpublished) = receipt.wait() {
///         println!("{}: {:?}", unpublished.error, unpublished.bodies);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "only a receipt that is waited for is retried, and says how it ended"]
pub struct Receipt<B> {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) attempt: Attempt,
    pub(super) topic: TopicName,
    pub(super) delay_ms: u64,
    pub(super) bodies: B,
    pub(super) view: View<B>,
}

impl<B: std::fmt::Debug> Receipt<B> {
    /// Waits for the answer, sends again what was lost or may work on the next nsqd, and gives the bodies back.
    ///
    /// # Errors
    /// [`Unpublished`] with the bodies, at the latest when the publish timeout has passed from now.
    pub fn wait(self) -> Result<B, Unpublished<B>> {
        let Self { dispatcher, attempt, topic, delay_ms, bodies, view } = self;
        let publish = view(topic, delay_ms, &bodies);
        let deadline = dispatcher.publish_deadline();
        match dispatcher.see_through(publish, None, attempt, deadline) {
            Ok(()) => Ok(bodies),
            Err(error) => Err(Unpublished { error: Box::new(error), bodies }),
        }
    }

    /// Whether [`Receipt::wait`] has something to do at once: the answer is there, or the connection is lost.
    pub fn is_ready(&self) -> bool {
        self.attempt.answer.is_ready()
    }
}

impl<B> std::fmt::Debug for Receipt<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receipt({} to {})", self.topic, self.attempt.pipeline.connection.addr)
    }
}
