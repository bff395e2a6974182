//! A message for a handler, without an nsqd. Runs on the test's thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::consumer::batch::BatchBuilder;
use crate::client::consumer::config::ConsumerConfig;
use crate::client::consumer::delivery::Delivery;
use crate::client::consumer::fallible::call_fallible;
use crate::client::consumer::link::Link;
use crate::client::consumer::origin::{Origin, Stamp};
use crate::client::consumer::session::Session;
use crate::client::consumer::shared::Shared;
use crate::codec::command::Command;
use crate::codec::command_decoder::CommandDecoder;
use crate::codec::command_error::CommandLimits;
use crate::codec::message::{MessageId, MessageRef};
use crate::io::connection::Connection;

/// Builds a [`Delivery`] for a test of a handler.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use nsq_protocol::Delivery;
/// use nsq_protocol::testing::{TestAnswer, TestDelivery};
///
/// fn handle(message: Delivery) {
///     match message.body().first() {
///         Some(b'{') => message.finish(),
///         _ => message.requeue(Duration::from_secs(10)),
///     }
/// }
///
/// let (message, watch) = TestDelivery::new(b"no JSON").attempts(2).build();
/// handle(message);
/// let delay = Duration::from_secs(10);
/// assert_eq!(watch.answer(), Some(TestAnswer::Requeued { delay, backoff: true }));
/// ```
#[derive(Clone, Debug)]
pub struct TestDelivery {
    body: Vec<u8>,
    attempts: u16,
    timestamp_ns: i64,
    id: MessageId,
    nsqd: String,
    config: ConsumerConfig,
}

/// The answer that a message got.
///
/// # Example
/// ```
/// use nsq_protocol::testing::{TestAnswer, TestDelivery};
///
/// let (message, watch) = TestDelivery::new(b"x").build();
/// message.finish();
/// assert_eq!(watch.answer(), Some(TestAnswer::Finished));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TestAnswer {
    /// FIN.
    Finished,
    /// REQ.
    Requeued {
        /// In whole ms.
        delay: Duration,
        /// A consumer would back off: it counts as a failure of the handler.
        backoff: bool,
    },
}

/// Tells what became of the message of a [`TestDelivery`].
///
/// # Example
/// ```
/// use nsq_protocol::testing::TestDelivery;
///
/// let (message, watch) = TestDelivery::new(b"x").build();
/// message.touch();
/// assert_eq!((watch.answer(), watch.touches()), (None, 1));
/// ```
#[derive(Clone)]
pub struct DeliveryWatch {
    connection: Arc<Connection>,
    shared: Arc<Shared>,
}

impl TestDelivery {
    /// With that body, delivered for the first time, by a nsqd `test:4150`.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        let name = "test";
        let config = ConsumerConfig::new(name.parse().unwrap(), name.parse().unwrap());
        let (id, nsqd) = (MessageId::from_u64(1), "test:4150".to_owned());
        Self { body: body.into(), attempts: 1, timestamp_ns: 0, id, nsqd, config }
    }

    /// Deliveries so far, this one included.
    pub fn attempts(mut self, attempts: u16) -> Self {
        self.attempts = attempts;
        self
    }

    /// When it was published, in ns since the Unix epoch (default 0).
    pub fn timestamp_ns(mut self, timestamp_ns: i64) -> Self {
        self.timestamp_ns = timestamp_ns;
        self
    }

    /// What nsqd calls it (default: the ID of 1).
    pub fn id(mut self, id: MessageId) -> Self {
        self.id = id;
        self
    }

    /// The nsqd that it came from.
    pub fn nsqd(mut self, address: impl Into<String>) -> Self {
        self.nsqd = address.into();
        self
    }

    /// The settings of its consumer: delays, attempts, and what is done when it is given up (default: those of
    /// [`ConsumerConfig::new`]).
    pub fn config(mut self, config: ConsumerConfig) -> Self {
        self.config = config;
        self
    }

    /// The message, and who tells of its answer.
    pub fn build(self) -> (Delivery, DeliveryWatch) {
        let connection = Arc::new(Connection::detached(&self.nsqd));
        let shared = Arc::new(Shared::new(self.config));
        let link = Arc::new(Link::new(&self.nsqd, None, 0, Instant::now()));
        let (counts, waker) = (link.counts.clone(), shared.flow.waker.clone());
        let session = Session::new(connection.clone(), counts, 1, None, None, waker);
        let origin = Arc::new(Origin {
            session: Arc::new(session),
            link,
            flow: shared.flow.clone(),
            panic_requeue_delay: shared.config.panic_requeue_delay,
        });
        let mut batch = BatchBuilder::new();
        batch.push(MessageRef {
            timestamp_ns: self.timestamp_ns,
            attempts: self.attempts,
            id: self.id,
            body: &self.body,
            skipped: 0,
        });
        origin.link.hold(1);
        origin.flow.arrived(1);
        origin.session.arrived(1, None);
        let batch = batch.take(origin, Stamp { batch: 0, epoch: shared.flow.epoch() });
        let delivery = batch.into_deliveries().next().expect("one was pushed");
        (delivery, DeliveryWatch { connection, shared })
    }

    /// Calls `handler` as [`crate::Consumer::run_fallible`] does: its result answers the message.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use nsq_protocol::Delivery;
    /// use nsq_protocol::testing::{TestAnswer, TestDelivery};
    ///
    /// fn handle(message: Delivery) -> Result<(), std::num::ParseIntError> {
    ///     let text = String::from_utf8_lossy(message.body()).into_owned();
    ///     println!("{}", text.parse::<u64>()?);
    ///     Ok(())
    /// }
    ///
    /// assert_eq!(TestDelivery::new(b"7").run_fallible(handle).answer(), Some(TestAnswer::Finished));
    /// let delay = Duration::from_secs(2 * 90);
    /// let watch = TestDelivery::new(b"seven").attempts(2).run_fallible(handle);
    /// assert_eq!(watch.answer(), Some(TestAnswer::Requeued { delay, backoff: true }));
    /// ```
    pub fn run_fallible<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        self,
        handler: impl Fn(Delivery) -> Result<(), E>,
    ) -> DeliveryWatch {
        let (delivery, watch) = self.build();
        call_fallible(&watch.shared, delivery, &handler);
        // What `nsq-give-up` does beside a consumer.
        watch.shared.giving_up.run_what_is_there();
        watch
    }
}

impl DeliveryWatch {
    /// The answer, once there is one.
    pub fn answer(&self) -> Option<TestAnswer> {
        let backoff = self.shared.flow.backoff_stats().level > 0;
        self.commands(|command| match command {
            Command::Fin(_) => Some(TestAnswer::Finished),
            Command::Req(_, ms) => {
                Some(TestAnswer::Requeued { delay: Duration::from_millis(*ms), backoff })
            }
            _ => None,
        })
        .pop()
    }

    /// How often its msg-timeout was started again.
    pub fn touches(&self) -> usize {
        self.commands(|command| matches!(command, Command::Touch(_)).then_some(())).len()
    }

    /// Whether it was given up: see [`ConsumerConfig::max_attempts`].
    pub fn is_given_up(&self) -> bool {
        self.shared.giving_up.count() > 0
    }

    /// What `pick` makes of the commands that would have gone to nsqd.
    fn commands<T>(&self, pick: impl Fn(&Command<'_>) -> Option<T>) -> Vec<T> {
        let bytes = self.connection.outbox.unwritten();
        let mut decoder = CommandDecoder::new(4096, CommandLimits::default());
        let mut rest = &bytes[..];
        let mut picked = Vec::new();
        loop {
            while let Some(command) = decoder.next_command().expect("our own commands") {
                picked.extend(pick(&command));
            }
            if rest.is_empty() {
                return picked;
            }
            let space = decoder.space();
            let (now, later) = rest.split_at(rest.len().min(space.len()));
            space[..now.len()].copy_from_slice(now);
            decoder.advance(now.len());
            rest = later;
        }
    }
}

impl std::fmt::Debug for DeliveryWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeliveryWatch({:?})", self.answer())
    }
}
