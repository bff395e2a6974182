//! The producer: what a user publishes with. Runs on the threads of the callers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::client::clock::deadline_in;
use crate::client::producer::command::Publish;
use crate::client::producer::config::ProducerConfig;
use crate::client::producer::dispatcher::{Dispatcher, not_sent};
use crate::client::producer::endpoint::Endpoint;
use crate::client::producer::finder::Finder;
use crate::client::producer::receipt::{Receipt, View};
use crate::client::producer::stats::ProducerStats;
use crate::codec::bodies::BodiesBuf;
use crate::codec::command::{Command, delay_ms};
use crate::codec::names::TopicName;
use crate::error::{Error, NotByAll, PublishError, Unpublished};

/// How long nsqd may take to close its side once all is answered.
const LINGER: Duration = Duration::from_secs(1);

/// Publishes messages to one of several nsqd. Shared by reference between threads.
///
/// **At least once:** when the outcome of an attempt is unknown (the connection broke after the bytes were
/// handed to it) the publish is sent again, so a message can be stored twice. Readers must know repeats by
/// something in the body; NSQ's message ID differs.
///
/// Dropped, it closes at once; [`Producer::close`] waits for what is pending.
///
/// # Example
/// ```no_run
/// use nsq_protocol::{Producer, ProducerConfig, TopicName};
///
/// let producer = Producer::connect(ProducerConfig::new().nsqd("127.0.0.1:4150"))?;
/// let topic: TopicName = "plays".parse()?;
/// producer.publish(&topic, b"one")?;
/// // Any number of threads can share it.
/// std::thread::scope(|scope| {
///     scope.spawn(|| producer.publish(&topic, b"two"));
///     scope.spawn(|| producer.publish(&topic, b"three"));
/// });
/// producer.close(std::time::Duration::from_secs(5))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Producer {
    dispatcher: Arc<Dispatcher>,
    /// Where nsqlookupds are asked; none once it is closed.
    finder: Mutex<Option<Finder>>,
}

impl Producer {
    /// Connects to the first nsqd of `config` that works; the others are tried when it fails. Its nsqlookupds are asked
    /// first, and from then on every [`crate::LookupConfig::poll_interval`], and sooner when an nsqd fails: new nsqds are
    /// used, and those that are gone and that none names any more are forgotten.
    ///
    /// # Errors
    /// [`Error::Config`] for a setting out of range; when no nsqd works, the most telling of their errors, as
    /// for [`crate::Consumer::start`]; [`Error::Lookup`] when none is known.
    pub fn connect(config: ProducerConfig) -> Result<Self, Error> {
        config.check()?;
        let dispatcher = Arc::new(Dispatcher::new(config.capped()));
        let producer = Self { dispatcher: dispatcher.clone(), finder: Mutex::new(None) };
        if dispatcher.config.lookup.addresses.is_empty() {
            dispatcher.reach(None)?;
            return Ok(producer);
        }
        let (lookup, lookupds) = Finder::lookup(&dispatcher.config);
        let asked = Finder::ask_once(&dispatcher, &lookup, &lookupds);
        match (dispatcher.reach(None), asked) {
            (Ok(_), _) => {}
            // No nsqd is known because no nsqlookupd can be asked.
            (Err(Error::Lookup { .. }), Err(error)) | (Err(error), _) => return Err(error),
        }
        let (finder, hurry) = Finder::start(&dispatcher, lookup)?;
        dispatcher.hurries(hurry);
        *producer.finder.lock() = Some(finder);
        Ok(producer)
    }

    /// Whether an nsqd can be published to now: where no connection stands one is made, which nsqd answers, and where one
    /// stands, a NOP goes out on it, which nsqd does not answer. A peer that is gone without a word is found by its
    /// missing heartbeats, after two of [`crate::ConnectionConfig::heartbeat_interval`].
    ///
    /// # Example
    /// ```
    /// /// For a health check.
    /// fn is_healthy(producer: &nsq_protocol::Producer) -> bool {
    ///     producer.ping().is_ok()
    /// }
    /// ```
    ///
    /// # Errors
    /// When no nsqd works, the most telling of their errors. One that failed a moment ago is not tried before it is due.
    pub fn ping(&self) -> Result<(), Error> {
        let pipeline = self.dispatcher.reach(Some(self.dispatcher.publish_deadline()))?;
        match pipeline.connection.outbox.append(|out| Command::Nop.encode(out)) {
            true => Ok(()),
            false => Err(pipeline.closed()),
        }
    }

    /// PUB: publishes `body` and waits until an nsqd has taken it.
    ///
    /// Of many threads that do so at one time, those that come while two others wait for their answers go together, as
    /// one MPUB of their topic, with the next answer.
    ///
    /// # Errors
    /// [`PublishError`], at the latest after [`ProducerConfig::publish_timeout`]. Whether the message may be
    /// stored nevertheless, [`PublishError::is_unknown`] says.
    ///
    /// Source: PUB, <https://nsq.io/clients/tcp_protocol_spec.html#pub>
    pub fn publish(&self, topic: &TopicName, body: &[u8]) -> Result<(), PublishError> {
        self.dispatcher.publish(Publish::One(*topic, body), None)
    }

    /// MPUB: publishes all of `bodies` and waits until an nsqd has taken them.
    ///
    /// What does not fit one MPUB ([`ProducerConfig::max_body_size`], [`ProducerConfig::max_mpub_messages`]) goes in
    /// several, one after the other, each with the whole publish timeout. nsqd 1.3.0 stores the bodies of an MPUB one
    /// by one: a failure in the middle leaves the first ones stored, and the retry stores them again.
    ///
    /// # Errors
    /// As [`Producer::publish`]; [`PublishError::Partial`] when some of several MPUBs were taken.
    ///
    /// Source: MPUB, <https://nsq.io/clients/tcp_protocol_spec.html#mpub>
    pub fn publish_many(&self, topic: &TopicName, bodies: &BodiesBuf) -> Result<(), PublishError> {
        let config = &self.dispatcher.config;
        let parts = bodies.as_bodies().parts(config.max_body_size, config.max_mpub_messages);
        // Nothing is sent of bodies of which nsqd would refuse one.
        for part in &parts {
            Publish::Many(*topic, *part).check(config)?;
        }
        let mut stored = 0;
        for part in parts {
            if let Err(error) = self.dispatcher.publish(Publish::Many(*topic, part), None) {
                let (tried, source) = (part.len(), Box::new(error));
                return match stored {
                    0 if tried == bodies.len() => Err(*source),
                    _ => Err(PublishError::Partial { stored, tried, source }),
                };
            }
            stored += part.len();
        }
        Ok(())
    }

    /// PUB to every nsqd of the configuration and of nsqlookupds, at the same time, instead of to the first that works: for a message
    /// that is not to be lost with one of them. Each consumer of several of them gets it as often.
    ///
    /// # Errors
    /// [`NotByAll`], at the latest after [`ProducerConfig::publish_timeout`], with those that did not take it.
    pub fn publish_to_all(&self, topic: &TopicName, body: &[u8]) -> Result<(), NotByAll> {
        let (dispatcher, publish) = (&self.dispatcher, Publish::One(*topic, body));
        let deadline = dispatcher.publish_deadline();
        let endpoints = dispatcher.endpoints();
        // One that is away is waited for last: that must not keep it from those that are there.
        let mut order: Vec<_> = endpoints.iter().enumerate().collect();
        for (_, endpoint) in &order {
            let _ = endpoint.pipeline(Some(deadline));
        }
        order.sort_by_key(|(_, endpoint)| endpoint.live().is_none());
        let attempts: Vec<_> = order
            .into_iter()
            .map(|(place, endpoint)| {
                let attempt = publish.check(&dispatcher.config).and_then(|()| {
                    let begun = Instant::now();
                    let attempt = dispatcher.attempt(publish, Some(endpoint), deadline);
                    attempt.map_err(|error| not_sent(begun, error))
                });
                (place, endpoint, attempt)
            })
            .collect();
        let mut failures: Vec<_> = attempts
            .into_iter()
            .filter_map(|(place, endpoint, attempt)| {
                let outcome = attempt.and_then(|attempt| {
                    dispatcher.see_through(publish, Some(endpoint), attempt, deadline)
                });
                Some((place, endpoint.addr.to_string(), outcome.err()?))
            })
            .collect();
        if failures.is_empty() {
            return Ok(());
        }
        failures.sort_by_key(|(place, ..)| *place);
        let failures = failures.into_iter().map(|(_, addr, error)| (addr, error)).collect();
        Err(NotByAll { nsqds: endpoints.len(), failures })
    }

    /// DPUB: publishes `body`, to be delivered after `delay`, in whole ms, rounded down; at most
    /// [`ProducerConfig::max_delay`]. nsqd forgets the delay when it restarts.
    ///
    /// # Errors
    /// As [`Producer::publish`].
    ///
    /// Source: DPUB, <https://nsq.io/clients/tcp_protocol_spec.html#dpub>
    pub fn publish_deferred(
        &self,
        topic: &TopicName,
        delay: Duration,
        body: &[u8],
    ) -> Result<(), PublishError> {
        self.dispatcher.publish(Publish::Deferred(*topic, delay_ms(delay), body), None)
    }

    /// As [`Producer::publish`], without waiting for the answer: that is the receipt's.
    ///
    /// Waits while the window ([`ProducerConfig::max_pending_commands`], `max_pending_bytes`) is full or no nsqd
    /// can be reached, up to the publish timeout.
    ///
    /// # Errors
    /// [`Unpublished`] gives the body back.
    pub fn submit(
        &self,
        topic: &TopicName,
        body: Vec<u8>,
    ) -> Result<Receipt<Vec<u8>>, Unpublished<Vec<u8>>> {
        self.submit_as(*topic, 0, body, |topic, _, body| Publish::One(topic, body))
    }

    /// As [`Producer::publish_many`], without waiting for the answer; see [`Producer::submit`]. It is one MPUB: what
    /// does not fit one is refused.
    ///
    /// The receipt gives the buffer back, so a few buffers can go round for ever.
    ///
    /// # Errors
    /// [`Unpublished`] gives the bodies back.
    pub fn submit_many(
        &self,
        topic: &TopicName,
        bodies: BodiesBuf,
    ) -> Result<Receipt<BodiesBuf>, Unpublished<BodiesBuf>> {
        self.submit_as(*topic, 0, bodies, |topic, _, bodies| {
            Publish::Many(topic, bodies.as_bodies())
        })
    }

    /// As [`Producer::publish_deferred`], without waiting for the answer; see [`Producer::submit`].
    ///
    /// # Errors
    /// [`Unpublished`] gives the body back.
    pub fn submit_deferred(
        &self,
        topic: &TopicName,
        delay: Duration,
        body: Vec<u8>,
    ) -> Result<Receipt<Vec<u8>>, Unpublished<Vec<u8>>> {
        self.submit_as(*topic, delay_ms(delay), body, |topic, delay_ms, body| {
            Publish::Deferred(topic, delay_ms, body)
        })
    }

    fn submit_as<B: std::fmt::Debug>(
        &self,
        topic: TopicName,
        delay_ms: u64,
        bodies: B,
        view: View<B>,
    ) -> Result<Receipt<B>, Unpublished<B>> {
        let publish = view(topic, delay_ms, &bodies);
        let (begun, deadline) = (Instant::now(), self.dispatcher.publish_deadline());
        let attempt = publish.check(&self.dispatcher.config).and_then(|()| {
            self.dispatcher.attempt(publish, None, deadline).map_err(|error| not_sent(begun, error))
        });
        match attempt {
            Ok(attempt) => {
                let dispatcher = self.dispatcher.clone();
                Ok(Receipt { dispatcher, attempt, topic, delay_ms, bodies, view })
            }
            Err(error) => Err(Unpublished { error: Box::new(error), bodies }),
        }
    }

    /// Waits until every command that was sent is answered or lost, at most `timeout`.
    ///
    /// How each one ended is its caller's or its receipt's to know.
    ///
    /// # Errors
    /// [`Error::Timeout`] when some were pending still.
    pub fn flush(&self, timeout: Duration) -> Result<(), Error> {
        let deadline = deadline_in(timeout);
        for endpoint in &*self.dispatcher.endpoints() {
            let Some(pipeline) = endpoint.live() else { continue };
            if !pipeline.wait_answered(deadline) {
                let addr = endpoint.addr.to_string();
                return Err(Error::Timeout {
                    addr,
                    doing: "waiting for answers from",
                    limit: timeout,
                });
            }
        }
        Ok(())
    }

    /// Flushes, closes the connections and joins their threads, in `timeout` and about a second at most.
    ///
    /// Callers and receipts that still wait get an error; new publishes are refused. A repeated or concurrent call
    /// waits for the first one. What other threads publish meanwhile may make the flush late.
    ///
    /// # Errors
    /// As [`Producer::flush`]; the producer is closed nevertheless.
    pub fn close(&self, timeout: Duration) -> Result<(), Error> {
        let flushed = self.flush(timeout);
        drop(self.finder.lock().take());
        self.dispatcher.close(if flushed.is_ok() { LINGER } else { Duration::ZERO });
        flushed
    }

    /// What each connection did so far.
    pub fn stats(&self) -> ProducerStats {
        let current = self.dispatcher.current.load(Ordering::Relaxed);
        let connection = |endpoint: &Arc<Endpoint>| endpoint.stats(endpoint.index == current);
        ProducerStats { connections: self.dispatcher.endpoints().iter().map(connection).collect() }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        drop(self.finder.lock().take());
        self.dispatcher.close(Duration::ZERO);
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ProducerConfig { nsqd_addresses, lookup, .. } = &self.dispatcher.config;
        write!(f, "Producer(to {nsqd_addresses:?} and those of {:?})", lookup.addresses)
    }
}
