//! The producer: publishes to the first nsqd that works, answers to callers, moves on when it fails.
//!
//! ```text
//! callers --window--> outbox --writer--> nsqd --reader--> pending commands, in order --> the waiting callers
//! ```
//!
//! Connections are made, and publishes retried, on the callers' threads. Each connection has a reader
//! (`nsq-read-N`) and a writer (`nsq-write-N`).
//!
//! A link's state is never locked together with a session's window.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use parking_lot::{Condvar, Mutex};

use crate::client::config::ProducerConfig;
use crate::client::producer::pipeline::{Answer, Answers, Counts, Publish, Rejected, Session};
use crate::codec::bodies::BodiesBuf;
use crate::codec::error_code::ErrorCode;
use crate::codec::names::TopicName;
use crate::error::{Error, NotByAll, PublishError, Unpublished};
use crate::flow::retry::{Backoff, deadline_in, random};
use crate::io::connection::{Fresh, Running};
use crate::io::transport::Closer;
use crate::thread::{OwnedThread, StopSource, StopToken, stop_pair};

/// The first wait before a publish is sent again.
const RETRY_MIN: Duration = Duration::from_millis(10);

/// The longest: a full disk does not get better by asking faster.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How long nsqd may take to close its side once all is answered.
const LINGER: Duration = Duration::from_secs(1);

/// A connection that held this long was a good one: the next failure is a first one.
const GOOD_CONNECTION: Duration = Duration::from_secs(5);

/// The least that a connection is waited for: a limit of zero means none to the system.
const MIN_WAIT: Duration = Duration::from_millis(1);

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
    shared: Arc<Shared>,
}

struct Shared {
    config: ProducerConfig,
    links: Vec<Link>,
    /// The link in use.
    current: AtomicUsize,
    stop: Mutex<Option<StopSource>>,
    stopped: StopToken,
    /// Whether a close is under way; its end is signalled.
    closing: Mutex<bool>,
    closed: Condvar,
    /// Numbers the connections, for their threads' names.
    connections: AtomicUsize,
}

/// One nsqd of the producer.
struct Link {
    addr: Arc<str>,
    state: Mutex<LinkState>,
    /// A dial ended.
    dialed: Condvar,
    counts: Arc<Counts>,
}

struct LinkState {
    use_of: Use,
    closed: bool,
    backoff: Backoff,
    /// No attempt to connect before that.
    not_before: Instant,
    last_error: Option<Error>,
}

enum Use {
    Down,
    /// A caller connects; its socket, once there is one.
    Dialing(Option<Closer>),
    Up(Live),
}

struct Live {
    session: Arc<Session>,
    since: Instant,
    reader: OwnedThread<()>,
    writer: OwnedThread<()>,
}

/// A publish on its way.
struct Attempt {
    session: Arc<Session>,
    answer: Receiver<Answer>,
    sent: Instant,
}

impl Producer {
    /// Connects to the first nsqd of `config` that works; the others are tried when it fails.
    ///
    /// # Errors
    /// [`Error::Config`] for a setting out of range; when no nsqd works, the most telling of their errors, as
    /// for [`crate::Consumer::start`].
    pub fn connect(config: ProducerConfig) -> Result<Self, Error> {
        config.check()?;
        let (stop, stopped) = stop_pair();
        let links = config.nsqd_addresses.iter().map(|addr| Link::new(addr, &config)).collect();
        let producer = Self {
            shared: Arc::new(Shared {
                links,
                config,
                current: AtomicUsize::new(0),
                stop: Mutex::new(Some(stop)),
                stopped,
                closing: Mutex::new(false),
                closed: Condvar::new(),
                connections: AtomicUsize::new(0),
            }),
        };
        let mut telling: Option<Error> = None;
        for index in 0..producer.shared.links.len() {
            match producer.shared.session(index, None) {
                Found::Session(_) => {
                    producer.shared.current.store(index, Ordering::Relaxed);
                    return Ok(producer);
                }
                Found::Failed(error) | Found::Later(_, Some(error)) => {
                    if telling.as_ref().is_none_or(|other| other.weight() < error.weight()) {
                        telling = Some(error);
                    }
                }
                Found::Later(_, None) | Found::Busy => {}
            }
        }
        Err(telling.unwrap_or(Error::Stopped))
    }

    /// PUB: publishes `body` and waits until an nsqd has taken it.
    ///
    /// # Errors
    /// [`PublishError`], at the latest after [`ProducerConfig::publish_timeout`]. Whether the message may be
    /// stored nevertheless, [`PublishError::is_unknown`] says.
    ///
    /// Source: PUB, <https://nsq.io/clients/tcp_protocol_spec.html#pub>
    pub fn publish(&self, topic: &TopicName, body: &[u8]) -> Result<(), PublishError> {
        self.shared.publish(Publish::One(*topic, body), None)
    }

    /// MPUB: publishes all of `bodies` and waits until an nsqd has taken them.
    ///
    /// What does not fit one MPUB ([`ProducerConfig::max_body_size`], [`ProducerConfig::max_mpub_messages`]) goes in
    /// several, one after the other, each with the whole publish timeout. nsqd 1.3.0 stores them one by one: a failure in the middle leaves the first ones behind, and the retry
    /// stores them again.
    ///
    /// # Errors
    /// As [`Producer::publish`]; [`PublishError::Partial`] when some of several MPUBs were taken.
    ///
    /// Source: MPUB, <https://nsq.io/clients/tcp_protocol_spec.html#mpub>
    pub fn publish_many(&self, topic: &TopicName, bodies: &BodiesBuf) -> Result<(), PublishError> {
        let config = &self.shared.config;
        let parts = bodies.as_bodies().parts(config.max_body_size, config.max_mpub_messages);
        // Nothing is sent of bodies of which nsqd would refuse one.
        for part in &parts {
            Publish::Many(*topic, *part).check(config)?;
        }
        let mut stored = 0;
        for part in parts {
            if let Err(error) = self.shared.publish(Publish::Many(*topic, part), None) {
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

    /// PUB to every nsqd of the configuration, at the same time, instead of to the first that works: for a message
    /// that is not to be lost with one of them. Each consumer of several of them gets it as often.
    ///
    /// # Errors
    /// [`NotByAll`], at the latest after [`ProducerConfig::publish_timeout`], with those that did not take it.
    pub fn publish_to_all(&self, topic: &TopicName, body: &[u8]) -> Result<(), NotByAll> {
        let (shared, publish) = (&self.shared, Publish::One(*topic, body));
        let deadline = shared.publish_deadline();
        let nsqds = shared.links.len();
        // One that is away is waited for last: that must not keep it from those that are there.
        let mut order: Vec<usize> = (0..nsqds).collect();
        for index in &order {
            let _ = shared.session(*index, Some(deadline));
        }
        order.sort_by_key(|index| shared.links[*index].live().is_none());
        let attempts: Vec<_> = order
            .into_iter()
            .map(|index| {
                let attempt = publish.check(&shared.config).and_then(|()| {
                    let begun = Instant::now();
                    let attempt = shared.attempt(publish, Some(index), deadline);
                    attempt.map_err(|error| not_sent(begun, error))
                });
                (index, attempt)
            })
            .collect();
        let mut failures: Vec<_> = attempts
            .into_iter()
            .filter_map(|(index, attempt)| {
                let outcome = attempt.and_then(|attempt| {
                    shared.see_through(publish, Some(index), attempt, deadline)
                });
                Some((index, outcome.err()?))
            })
            .collect();
        if failures.is_empty() {
            return Ok(());
        }
        failures.sort_by_key(|(index, _)| *index);
        let named = |(index, error): (usize, _)| (shared.links[index].addr.to_string(), error);
        Err(NotByAll { nsqds, failures: failures.into_iter().map(named).collect() })
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
        self.shared.publish(Publish::Deferred(*topic, delay_ms(delay), body), None)
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
        let (begun, deadline) = (Instant::now(), self.shared.publish_deadline());
        let attempt = publish.check(&self.shared.config).and_then(|()| {
            self.shared.attempt(publish, None, deadline).map_err(|error| not_sent(begun, error))
        });
        match attempt {
            Ok(attempt) => {
                let shared = self.shared.clone();
                Ok(Receipt { shared, attempt, topic, delay_ms, bodies, view })
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
        for link in &self.shared.links {
            let Some(session) = link.live() else { continue };
            if !session.wait_answered(deadline) {
                let addr = link.addr.to_string();
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
        self.shared.close(if flushed.is_ok() { LINGER } else { Duration::ZERO });
        flushed
    }

    /// What each connection did so far.
    pub fn stats(&self) -> ProducerStats {
        let current = self.shared.current.load(Ordering::Relaxed);
        let connection = |(index, link): (usize, &Link)| link.stats(index == current);
        ProducerStats {
            connections: self.shared.links.iter().enumerate().map(connection).collect(),
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.close(Duration::ZERO);
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Producer(to {:?})", self.shared.config.nsqd_addresses)
    }
}

fn delay_ms(delay: Duration) -> u64 {
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
}

type View<B> = for<'a> fn(TopicName, u64, &'a B) -> Publish<'a>;

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
    shared: Arc<Shared>,
    attempt: Attempt,
    topic: TopicName,
    delay_ms: u64,
    bodies: B,
    view: View<B>,
}

impl<B: std::fmt::Debug> Receipt<B> {
    /// Waits for the answer, sends again what was lost or may work on the next nsqd, and gives the bodies back.
    ///
    /// # Errors
    /// [`Unpublished`] with the bodies, at the latest when the publish timeout has passed from now.
    pub fn wait(self) -> Result<B, Unpublished<B>> {
        let Self { shared, attempt, topic, delay_ms, bodies, view } = self;
        let publish = view(topic, delay_ms, &bodies);
        match shared.see_through(publish, None, attempt, shared.publish_deadline()) {
            Ok(()) => Ok(bodies),
            Err(error) => Err(Unpublished { error: Box::new(error), bodies }),
        }
    }

    /// Whether [`Receipt::wait`] has something to do at once: the answer is there, or the connection is lost.
    pub fn is_ready(&self) -> bool {
        !self.attempt.answer.is_empty()
    }
}

impl<B> std::fmt::Debug for Receipt<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receipt({} to {})", self.topic, self.attempt.session.connection.addr)
    }
}

/// What looking for a connection of one link gave.
enum Found {
    Session(Arc<Session>),
    /// This caller's dial failed.
    Failed(Error),
    /// It failed lately; the next attempt is due then.
    Later(Instant, Option<Error>),
    /// Another caller is connecting.
    Busy,
}

impl Shared {
    fn publish_deadline(&self) -> Instant {
        deadline_in(self.config.publish_timeout)
    }

    /// Publishes to that link `only`, or to the one in use.
    fn publish(&self, publish: Publish<'_>, only: Option<usize>) -> Result<(), PublishError> {
        publish.check(&self.config)?;
        let (begun, deadline) = (Instant::now(), self.publish_deadline());
        let attempt = self.attempt(publish, only, deadline);
        self.see_through(publish, only, attempt.map_err(|error| not_sent(begun, error))?, deadline)
    }

    /// Waits for the attempt's answer and makes further ones as needed.
    fn see_through(
        &self,
        publish: Publish<'_>,
        only: Option<usize>,
        mut attempt: Attempt,
        deadline: Instant,
    ) -> Result<(), PublishError> {
        let mut attempts = 1;
        let mut unknown = false;
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        loop {
            let (failure, retryable) = match self.outcome(&attempt, deadline) {
                Answer::Accepted => return Ok(()),
                Answer::Refused(error) => {
                    let retryable = is_retryable(&error);
                    (error, retryable)
                }
                Answer::Lost(error) => {
                    unknown = true;
                    (error, true)
                }
            };
            let over = |source: Error| match unknown {
                true => PublishError::Unknown { attempts, source },
                false => PublishError::Refused { source },
            };
            let delay = backoff.next_delay(random());
            if !retryable || Instant::now() + delay >= deadline {
                return Err(over(failure));
            }
            log::debug!("publishing again in {delay:?}: {}", failure.to_line());
            self.move_on_from(&attempt.session);
            if self.stopped.wait(delay) {
                return Err(over(failure));
            }
            // Nothing takes it any more: what is known is how the last attempt ended.
            attempt = self.attempt(publish, only, deadline).map_err(|_| over(failure))?;
            attempts += 1;
        }
    }

    fn outcome(&self, attempt: &Attempt, deadline: Instant) -> Answer {
        let limit = self.config.response_timeout;
        let late = deadline.min(attempt.sent + limit);
        match attempt.answer.recv_deadline(late) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => Answer::Lost(Error::Stopped),
            Err(RecvTimeoutError::Timeout) => {
                let error = attempt.session.late(limit);
                // Answers come in order: none behind this one can come either. Another try needs a new connection.
                if attempt.sent.elapsed() >= limit {
                    attempt.session.end(error.clone());
                }
                Answer::Lost(error)
            }
        }
    }

    /// Hands the publish to a connection.
    fn attempt(
        &self,
        publish: Publish<'_>,
        only: Option<usize>,
        deadline: Instant,
    ) -> Result<Attempt, Error> {
        loop {
            let session = self.any_session(only, deadline)?;
            match session.submit(publish, &self.config, deadline) {
                Ok(answer) => return Ok(Attempt { session, answer, sent: Instant::now() }),
                Err(Rejected::Full) => {
                    let addr = session.connection.addr.to_string();
                    let limit = self.config.publish_timeout;
                    return Err(Error::Timeout {
                        addr,
                        doing: "waiting for room in the window of",
                        limit,
                    });
                }
                Err(Rejected::Ended(error)) => {
                    self.move_on_from(&session);
                    if Instant::now() >= deadline {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The connection in use, or the next one that can be had before `deadline`; of that link `only`, if given.
    fn any_session(&self, only: Option<usize>, deadline: Instant) -> Result<Arc<Session>, Error> {
        loop {
            let current = only.unwrap_or_else(|| self.current.load(Ordering::Relaxed));
            let links = if only.is_some() { 1 } else { self.links.len() };
            let (mut due, mut busy, mut last) = (deadline, None, None);
            for step in 0..links {
                let index = (current + step) % self.links.len();
                match self.session(index, Some(deadline)) {
                    Found::Session(session) => {
                        if step > 0 {
                            let order = Ordering::Relaxed;
                            let _ = self.current.compare_exchange(current, index, order, order);
                        }
                        return Ok(session);
                    }
                    Found::Failed(error) => {
                        last = Some(error);
                        // When its next attempt is due, the next round tells.
                        due = Instant::now();
                    }
                    Found::Later(at, error) => {
                        due = due.min(at);
                        last = last.or(error);
                    }
                    Found::Busy => busy = busy.or(Some(index)),
                }
            }
            if self.stopped.is_stopped() {
                return Err(Error::Stopped);
            }
            match busy {
                // Another link may be due before that dial ends.
                Some(index) => self.links[index].wait_dialed(due),
                None => {
                    let _ = self.stopped.wait_until(due);
                }
            }
            if Instant::now() >= deadline {
                return Err(last.unwrap_or_else(|| Error::Timeout {
                    addr: self.links[current].addr.to_string(),
                    doing: "waiting for a connection to",
                    limit: self.config.publish_timeout,
                }));
            }
        }
    }

    /// The next publish goes to the next link, unless somebody moved on already.
    fn move_on_from(&self, session: &Session) {
        let (index, order) = (session.index, Ordering::Relaxed);
        let next = (index + 1) % self.links.len();
        let _ = self.current.compare_exchange(index, next, order, order);
    }

    /// A connection of that link; connects on this thread, until `deadline`, when none stands and none is being
    /// made.
    fn session(&self, index: usize, deadline: Option<Instant>) -> Found {
        let link = &self.links[index];
        let mut state = link.state.lock();
        if state.closed {
            return Found::Failed(Error::Stopped);
        }
        match std::mem::replace(&mut state.use_of, Use::Down) {
            Use::Up(live) => {
                let Some(error) = live.session.ended() else {
                    let session = live.session.clone();
                    state.use_of = Use::Up(live);
                    return Found::Session(session);
                };
                state.last_error = Some(error);
                if live.was_good() {
                    state.backoff.reset();
                } else {
                    // One that nsqd closes at once each time must not be made again at full speed.
                    state.not_before = Instant::now() + state.backoff.next_delay(random());
                }
                drop(state);
                // Ended, so its threads end too; joined without the lock.
                live.join();
                state = link.state.lock();
                // Somebody may have connected, or closed, meanwhile.
                if state.closed || !matches!(state.use_of, Use::Down) {
                    drop(state);
                    return self.session(index, deadline);
                }
            }
            Use::Dialing(closer) => {
                state.use_of = Use::Dialing(closer);
                return Found::Busy;
            }
            Use::Down => {}
        }
        if Instant::now() < state.not_before {
            return Found::Later(state.not_before, state.last_error.clone());
        }
        state.use_of = Use::Dialing(None);
        drop(state);
        let dialed = self.dial(index, deadline);
        let mut state = link.state.lock();
        state.use_of = Use::Down;
        let found = match dialed {
            Ok(live) if state.closed => {
                drop(state);
                live.session.end(Error::Stopped);
                live.join();
                state = link.state.lock();
                Found::Failed(Error::Stopped)
            }
            Ok(live) => {
                let session = live.session.clone();
                state.use_of = Use::Up(live);
                link.counts.connections.fetch_add(1, Ordering::Relaxed);
                Found::Session(session)
            }
            Err(error) => {
                state.not_before = Instant::now() + state.backoff.next_delay(random());
                // As long as none has worked, whoever connects is told.
                let told = link.counts.connections.load(Ordering::Relaxed) == 0;
                let level = if told { log::Level::Debug } else { log::Level::Warn };
                log::log!(level, "{}", error.to_line());
                state.last_error = Some(error.clone());
                Found::Failed(error)
            }
        };
        drop(state);
        link.dialed.notify_all();
        found
    }

    fn dial(&self, index: usize, deadline: Option<Instant>) -> Result<Live, Error> {
        let link = &self.links[index];
        let mut config = self.config.connection.clone();
        if let Some(deadline) = deadline {
            // The caller's publish does not wait longer for a connection than for its answer.
            let left = deadline.saturating_duration_since(Instant::now()).max(MIN_WAIT);
            config.connect_timeout = config.connect_timeout.min(left);
            config.handshake_timeout = config.handshake_timeout.min(left);
        }
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let identified = Fresh::connect(&link.addr, &config, &|closer| link.watch(closer))?
            .identify(&config.identify_request())?;
        let Running { connection, reader, writer } = identified.start(number)?;
        let session = Arc::new(Session::new(index, connection.clone(), link.counts.clone()));
        let name = format!("nsq-read-{}", number % 100_000);
        let reader = OwnedThread::spawn(&name, {
            let session = session.clone();
            move || {
                let error = reader.run(&session.connection, &mut Answers { session: &session });
                session.end(error);
            }
        })
        .map_err(|source| {
            connection.close();
            Error::Thread { name, source: Arc::new(source) }
        })?;
        Ok(Live { session, since: Instant::now(), reader, writer })
    }

    /// Ends every connection; one that is told in order may take `linger`.
    fn close(&self, linger: Duration) {
        let mut closing = self.closing.lock();
        while *closing {
            self.closed.wait(&mut closing);
        }
        *closing = true;
        drop(closing);
        self.close_links(linger);
        *self.closing.lock() = false;
        self.closed.notify_all();
    }

    fn close_links(&self, linger: Duration) {
        drop(self.stop.lock().take());
        let deadline = Instant::now() + linger;
        for link in &self.links {
            let mut state = link.state.lock();
            state.closed = true;
            let use_of = std::mem::replace(&mut state.use_of, Use::Down);
            if let Use::Dialing(closer) = use_of {
                // Whoever dials sees `closed` when the dial ends.
                state.use_of = Use::Dialing(None);
                drop(state);
                if let Some(closer) = closer {
                    closer.shutdown();
                }
                continue;
            }
            drop(state);
            if let Use::Up(live) = use_of {
                live.session.connection.outbox.finish();
                live.session.wait_ended(deadline);
                live.session.end(Error::Stopped);
                live.join();
            }
        }
    }
}

fn not_sent(begun: Instant, source: Error) -> PublishError {
    PublishError::NotSent { waited: begun.elapsed(), source }
}

/// Whether the same publish can work a little later, or on another nsqd.
fn is_retryable(error: &Error) -> bool {
    use ErrorCode::{AuthFailed, DpubFailed, MpubFailed, PubFailed};
    matches!(error, Error::Refused { code: PubFailed | MpubFailed | DpubFailed | AuthFailed, .. })
}

impl Live {
    /// Whether it held for a while, or nsqd took something: then the next failure is a first one.
    fn was_good(&self) -> bool {
        self.since.elapsed() > GOOD_CONNECTION || self.session.has_accepted()
    }

    /// Waits for the threads of an ended session.
    fn join(self) {
        self.reader.join();
        self.writer.join();
    }
}

impl Link {
    fn new(addr: &str, config: &ProducerConfig) -> Self {
        let (min, max) = (config.connection.reconnect_min, config.connection.reconnect_max);
        Self {
            addr: addr.into(),
            state: Mutex::new(LinkState {
                use_of: Use::Down,
                closed: false,
                backoff: Backoff::new(min, max),
                not_before: Instant::now(),
                last_error: None,
            }),
            dialed: Condvar::new(),
            counts: Arc::default(),
        }
    }

    fn live(&self) -> Option<Arc<Session>> {
        match &self.state.lock().use_of {
            Use::Up(live) => Some(live.session.clone()),
            Use::Down | Use::Dialing(_) => None,
        }
    }

    fn watch(&self, closer: Closer) -> bool {
        let mut state = self.state.lock();
        if !state.closed {
            state.use_of = Use::Dialing(Some(closer));
        }
        !state.closed
    }

    fn wait_dialed(&self, deadline: Instant) {
        let mut state = self.state.lock();
        if matches!(state.use_of, Use::Dialing(_)) {
            self.dialed.wait_until(&mut state, deadline);
        }
    }

    fn stats(&self, current: bool) -> ProducerConnectionStats {
        let session = self.live();
        let (pending_commands, pending_bytes) =
            session.as_ref().map_or((0, 0), |session| session.pending());
        let ended = session.and_then(|session| session.ended());
        let state = self.state.lock();
        let connected = matches!(state.use_of, Use::Up(_)) && ended.is_none();
        let last_error = ended.as_ref().or(state.last_error.as_ref()).map(Error::to_line);
        drop(state);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ProducerConnectionStats {
            address: self.addr.to_string(),
            connected,
            current,
            pending_commands,
            pending_bytes,
            accepted: read(&self.counts.accepted),
            refused: read(&self.counts.refused),
            unknown: read(&self.counts.unknown),
            reconnects: read(&self.counts.connections).saturating_sub(1),
            last_error,
        }
    }
}

/// What a producer did so far.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProducerStats {
    /// One for each nsqd of the configuration, in its order.
    pub connections: Vec<ProducerConnectionStats>,
}

/// What a producer did so far with one nsqd, over all its connections. Counts are commands, an MPUB being one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProducerConnectionStats {
    /// As configured.
    pub address: String,
    /// Whether a connection stands now.
    pub connected: bool,
    /// Whether the next publish goes there.
    pub current: bool,
    /// Commands sent and not yet answered.
    pub pending_commands: usize,
    /// Their bytes, about.
    pub pending_bytes: usize,
    /// Answered with OK.
    pub accepted: u64,
    /// Answered with an error.
    pub refused: u64,
    /// Not answered because the connection ended; most were sent again.
    pub unknown: u64,
    /// Connections made after the first one.
    pub reconnects: u64,
    /// Why the last connection, or attempt, ended; kept when a later one works.
    pub last_error: Option<String>,
}
