//! The consumer: what a user starts, receives batches from, and stops.
//!
//! Its threads are one reader (`nsq-read-N`) and one writer (`nsq-write-N`) for each nsqd; [`crate::client::consumer::session`] has
//! what they do. With nsqlookupds come `nsq-lookup` and `nsq-dial`, of [`crate::client::consumer::discovery`]. Everything here runs on the caller's threads.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use parking_lot::{Condvar, Mutex};

use crate::client::config::ConsumerConfig;
use crate::client::consumer::delivery::{Batch, Delivery};
use crate::client::consumer::discovery::{Discovery, LookupdStats, Told, Unreachable};
use crate::client::consumer::queue::{Nothing, Queue};
use crate::client::consumer::session::{Departed, Link, Session, Shared, run_link};
use crate::error::Error;
use crate::flow::policy::{BackoffStats, Pause, run_flow};
use crate::flow::retry::deadline_in;
use crate::thread::{Never, OwnedThread, StopSource, stop_pair};

/// How long nsqd may take to read the last answers and close its side, once all is answered. It is a local
/// matter for an nsqd that lives; one that does not must not hold up the stop.
const LINGER: Duration = Duration::from_secs(1);

/// How long a message may come behind CLOSE_WAIT: nsqd answers CLS on one goroutine while another may be about to
/// write one more message. Not answered, that message would be stuck for its msg-timeout.
const LATE_MESSAGE: Duration = Duration::from_millis(10);

/// Receives a channel's messages from one or several nsqd.
///
/// [`Consumer::stop`] ends it in order; dropped, it ends at once: messages that are still held are delivered
/// again by nsqd once their msg-timeout has passed.
///
/// # Example
/// ```no_run
/// use nsq_protocol::{Consumer, ConsumerConfig};
///
/// let config = ConsumerConfig::new("plays".parse()?, "count".parse()?).nsqd("127.0.0.1:4150");
/// let consumer = Consumer::start(config)?;
/// if let Some(batch) = consumer.batches().recv() {
///     batch.finish();
/// }
/// println!("{:?} were still held", consumer.stop());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Consumer {
    shared: Arc<Shared>,
    /// What discovery tells, where there is any.
    told: Option<Arc<Mutex<Told>>>,
    phase: Mutex<Phase>,
    stopped: Condvar,
}

enum Phase {
    Running(Box<Threads>),
    Stopping,
    Stopped(Unanswered),
}

struct Threads {
    // Drop order is load-bearing: the stop signal must be given before the joins below it start.
    stop: StopSource,
    discovery: Option<Discovery>,
    /// Touches what is held until a stop has waited for it.
    stop_flow: StopSource,
    flow: OwnedThread<()>,
    links: Vec<OwnedThread<()>>,
    /// Disconnected once every link thread has ended.
    ended: Receiver<Never>,
}

/// How many messages were held when the consumer had to stop: nsqd delivers them again after their msg-timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered(pub u64);

impl Consumer {
    /// Connects to every nsqd of `config` once and subscribes, and asks its nsqlookupds once; from then on each
    /// nsqd that is lost, or was not there, is tried again for ever, and new ones are found.
    ///
    /// It is started when one nsqd of the configuration works or one nsqlookupd answers, whatever it knows: before
    /// the first publish nobody knows the topic. How the nsqds that they name fare, [`Consumer::stats`] tells.
    ///
    /// # Errors
    /// [`Error::Config`] for a setting out of range; when nothing works, the most telling of the errors:
    /// a refusal ([`Error::Refused`]) before an undecodable answer ([`Error::Decode`], an HTTP port for example)
    /// before a failed connection ([`Error::Connect`], [`Error::Resolve`], [`Error::Timeout`], [`Error::Lookup`] …).
    ///
    /// Source: <https://nsq.io/clients/tcp_protocol_spec.html>
    pub fn start(config: ConsumerConfig) -> Result<Self, Error> {
        config.check()?;
        let shared = Arc::new(Shared::new(config));
        let slots = shared.slots();
        if (shared.config.max_in_flight as usize) < slots.len() {
            let (messages, nsqds) = (shared.config.max_in_flight, slots.len());
            log::info!("max_in_flight is {messages} for {nsqds} nsqd: they take turns");
        }
        let (stop, token) = stop_pair();
        let (alive, ended) = bounded(0);
        let expected = slots.len() + usize::from(!shared.config.lookup.addresses.is_empty());
        // One slot for each, so that nobody waits for us.
        let (first, outcomes) = bounded(expected);
        let (stop_flow, flow_token) = stop_pair();
        let flow = OwnedThread::spawn("nsq-flow", {
            let shared = shared.clone();
            move || run_flow(shared, flow_token)
        })
        .map_err(|source| Error::Thread { name: "nsq-flow".into(), source: Arc::new(source) })?;
        let links = Vec::new();
        let mut threads = Threads { stop, discovery: None, stop_flow, flow, links, ended };
        for (index, link) in slots.iter().flatten().enumerate() {
            let name = format!("nsq-read-{}", index % 100_000);
            let thread = {
                let (shared, link, token) = (shared.clone(), link.clone(), token.clone());
                let (first, alive) = (first.clone(), alive.clone());
                OwnedThread::spawn(&name, move || run_link(shared, link, token, first, alive))
            };
            threads.links.push(
                thread
                    .map_err(|source| Error::Thread { name, source: Arc::new(source) })
                    .inspect_err(|_| close_all(&shared))?,
            );
        }
        let mut told = None;
        if !shared.config.lookup.addresses.is_empty() {
            let discovery = Discovery::start(&shared, &token, first.clone(), alive.clone())
                .inspect_err(|_| close_all(&shared))?;
            told = Some(discovery.told.clone());
            threads.discovery = Some(discovery);
        }
        drop((first, alive));
        let outcomes: Vec<_> = outcomes.iter().take(expected).collect();
        if outcomes.iter().any(Result::is_ok) {
            let phase = Mutex::new(Phase::Running(Box::new(threads)));
            return Ok(Self { shared, told, phase, stopped: Condvar::new() });
        }
        // No link is live, so dropping the threads' stop signal ends them.
        close_all(&shared);
        let telling = outcomes.into_iter().filter_map(Result::err).max_by_key(Error::weight);
        Err(telling.unwrap_or(Error::Stopped))
    }

    /// A handle to receive batches from; any number of them share the load.
    pub fn batches(&self) -> Batches {
        Batches::new(self.shared.clone())
    }

    /// Calls `handler` with each delivery on `threads` threads of its own, named `nsq-work-N`.
    ///
    /// What the handler neither finishes nor requeues is given back; so is the message of a handler that
    /// panics, after [`ConsumerConfig::panic_requeue_delay`], and the thread goes on.
    ///
    /// # Errors
    /// [`Error::Thread`] when the operating system refuses a thread; the consumer is stopped then.
    pub fn run(
        self,
        threads: NonZeroUsize,
        handler: impl Fn(Delivery) + Send + Sync + 'static,
    ) -> Result<RunningConsumer, Error> {
        let handler = Arc::new(handler);
        let mut running = RunningConsumer { consumer: self, workers: Vec::new() };
        for number in 0..threads.get() {
            let name = format!("nsq-work-{}", number % 100_000);
            let (batches, handler) = (running.consumer.batches(), handler.clone());
            let worker = OwnedThread::spawn(&name, move || work(batches, &*handler))
                .map_err(|source| Error::Thread { name, source: Arc::new(source) })?;
            running.workers.push(worker);
        }
        Ok(running)
    }

    /// Stops with [`ConsumerConfig::stop_timeout`]; see [`Consumer::stop_within`].
    pub fn stop(&self) -> Unanswered {
        self.stop_within(self.shared.config.stop_timeout)
    }

    /// Stops and gives the last statistics.
    pub fn shutdown(self) -> ConsumerStats {
        self.stop();
        self.stats()
    }

    /// Stops in order, in `timeout` and about a second at most; a repeated or concurrent call waits for the
    /// first one and returns the same.
    ///
    /// Tells every nsqd to send no more (CLS), lets the workers take what is queued and answer what they hold
    /// until `timeout` has passed, gives back what nobody took, sees to it that nsqd has read all answers, closes
    /// the connections and joins their threads.
    pub fn stop_within(&self, timeout: Duration) -> Unanswered {
        let threads = {
            let mut phase = self.phase.lock();
            loop {
                match &*phase {
                    Phase::Running(_) => break,
                    Phase::Stopping => self.stopped.wait(&mut phase),
                    Phase::Stopped(unanswered) => return *unanswered,
                }
            }
            match std::mem::replace(&mut *phase, Phase::Stopping) {
                Phase::Running(threads) => *threads,
                Phase::Stopping | Phase::Stopped(_) => {
                    unreachable!("the loop above ends on Running")
                }
            }
        };
        let unanswered = self.close(threads, timeout);
        *self.phase.lock() = Phase::Stopped(unanswered);
        self.stopped.notify_all();
        unanswered
    }

    fn close(&self, threads: Threads, timeout: Duration) -> Unanswered {
        let Threads { stop, mut discovery, stop_flow, flow, links, ended } = threads;
        let shared = &self.shared;
        let deadline = deadline_in(timeout);
        // 1. No new connection; CLS on those that are.
        drop(stop);
        discovery.iter_mut().for_each(Discovery::interrupt);
        shared.stop_connecting();
        shared.begin_stop();
        // 2. nsqd agrees, so that nothing more comes, but for one message that was on its way.
        shared.wait_until(deadline, || live(shared).all(|session| session.has_close_wait()));
        let _ = ended.recv_deadline(deadline.min(Instant::now() + LATE_MESSAGE));
        // 3. The workers take what is queued, answer what they hold, and learn that it was all.
        shared.queue.close();
        if !shared.queue.has_receivers() {
            requeue_queued(&shared.queue);
        }
        shared.wait_until(deadline, || shared.held() == 0);
        requeue_queued(&shared.queue);
        let unanswered = Unanswered(shared.held());
        // 4. nsqd reads the last answers and closes.
        live(shared).for_each(|session| session.connection().outbox.finish());
        let linger = deadline.min(Instant::now()) + LINGER;
        let _ = ended.recv_deadline(linger);
        // 5. Whoever is left is cut off.
        close_all(shared);
        drop(stop_flow);
        flow.join();
        discovery.into_iter().for_each(Discovery::join);
        links.into_iter().for_each(OwnedThread::join);
        unanswered
    }

    /// What each connection did so far.
    pub fn stats(&self) -> ConsumerStats {
        let connections =
            self.shared.links().map(|link| ConnectionStats::of(&self.shared, &link)).collect();
        let (lookupds, unreachable) = self.told.as_ref().map_or_else(Default::default, |told| {
            let told = told.lock();
            (told.lookupds.clone(), told.unreachable())
        });
        ConsumerStats {
            connections,
            departed: self.shared.departed(),
            lookupds,
            unreachable,
            queued_batches: self.shared.queue.len(),
            in_flight: self.shared.in_flight.load(Ordering::SeqCst),
            peak_in_flight: self.shared.peak_in_flight.load(Ordering::Relaxed),
            backoff: self.shared.backoff_stats(),
            gave_up: self.shared.gave_up.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stop_within(Duration::ZERO);
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ConsumerConfig { topic, channel, nsqd_addresses, lookup, .. } = &self.shared.config;
        let lookupds = &lookup.addresses;
        write!(f, "Consumer({topic}/{channel} from {nsqd_addresses:?} and {lookupds:?})")
    }
}

fn live(shared: &Shared) -> impl Iterator<Item = Arc<Session>> + use<> {
    shared.links().filter_map(|link| link.live())
}

/// Ends every connection, also one that is being made.
fn close_all(shared: &Shared) {
    shared.stop_connecting();
    live(shared).for_each(|session| session.connection().close());
}

/// Gives back, at once, what nobody received.
fn requeue_queued(queue: &Queue<Batch>) {
    queue.drain().into_iter().for_each(|batch| batch.requeue_without_backoff(Duration::ZERO));
}

fn work(batches: Batches, handler: &impl Fn(Delivery)) {
    for delivery in batches.flat_map(Batch::into_deliveries) {
        let id = delivery.id();
        // The delivery is the handler's own; what else it shares is the handler's care, as in any thread.
        if catch_unwind(AssertUnwindSafe(|| handler(delivery))).is_err() {
            log::error!("the handler panicked over message {id}; it is given back");
        }
    }
}

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
    // Drop order is load-bearing: workers end only once the consumer has stopped.
    consumer: Consumer,
    workers: Vec<OwnedThread<()>>,
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
        workers.into_iter().for_each(OwnedThread::join);
        consumer.stats()
    }
}

/// Where batches are received. Cheap to clone; each batch goes to one of the handles.
///
/// As an iterator it waits for the next batch, and ends once the consumer is stopped and drained.
///
/// # Example
/// ```no_run
/// # fn work(consumer: &nsq_protocol::Consumer) {
/// std::thread::scope(|scope| {
///     for _ in 0..4 {
///         let batches = consumer.batches();
///         scope.spawn(|| batches.for_each(|batch| batch.finish()));
///     }
/// });
/// # }
/// ```
pub struct Batches {
    shared: Arc<Shared>,
}

/// Why [`Batches::recv_timeout`] has no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvTimeoutError {
    /// None came in time.
    #[error("no batch came in time")]
    Timeout,
    /// The consumer is stopped and drained: none will come.
    #[error("the consumer is stopped")]
    Stopped,
}

impl Batches {
    fn new(shared: Arc<Shared>) -> Self {
        shared.queue.add_receiver();
        Self { shared }
    }

    /// Waits for the next batch; `None` once the consumer is stopped and drained.
    pub fn recv(&self) -> Option<Batch> {
        self.next_batch(None).ok()
    }

    /// Waits for the next batch, at most `timeout`.
    ///
    /// # Errors
    /// [`RecvTimeoutError`] says which of the two it was.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Batch, RecvTimeoutError> {
        // A deadline past the end of time is none.
        self.next_batch(Instant::now().checked_add(timeout)).map_err(|nothing| match nothing {
            Nothing::Ended => RecvTimeoutError::Stopped,
            Nothing::Late => RecvTimeoutError::Timeout,
        })
    }

    fn next_batch(&self, deadline: Option<Instant>) -> Result<Batch, Nothing> {
        let config = &self.shared.config;
        loop {
            let mut batch = self.shared.queue.recv(deadline)?;
            batch.taken();
            if config.max_attempts > 0 {
                let given_up = batch.give_up(config.max_attempts, config.give_up.as_ref());
                self.shared.gave_up.fetch_add(given_up, Ordering::Relaxed);
            }
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
    }

    /// A batch that is there already.
    pub fn try_recv(&self) -> Option<Batch> {
        self.recv_timeout(Duration::ZERO).ok()
    }
}

impl Iterator for Batches {
    type Item = Batch;
    fn next(&mut self) -> Option<Batch> {
        self.recv()
    }
}

impl Clone for Batches {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        if self.shared.queue.remove_receiver() {
            requeue_queued(&self.shared.queue);
        }
    }
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batches({} queued)", self.shared.queue.len())
    }
}

/// What a consumer did so far.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConsumerStats {
    /// One for each nsqd: those of the configuration, in its order, then those that were found.
    pub connections: Vec<ConnectionStats>,
    /// What was done with nsqds that are gone.
    pub departed: Departed,
    /// One for each nsqlookupd of the configuration, in its order.
    pub lookupds: Vec<LookupdStats>,
    /// nsqds that an nsqlookupd names and that could not be connected to when last tried; at most 100 are shown.
    pub unreachable: Vec<Unreachable>,
    /// Batches that no worker has taken yet.
    pub queued_batches: usize,
    /// Messages received and not answered, over all connections, those that are gone included.
    pub in_flight: u64,
    /// The most that there were at any time.
    pub peak_in_flight: u64,
    /// Whether failed messages keep all connections from being asked for more.
    pub backoff: BackoffStats,
    /// Messages delivered more often than [`ConsumerConfig::max_attempts`].
    pub gave_up: u64,
}

/// What a consumer did so far with one nsqd, over all its connections. Counts start with the consumer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// As configured, or as found.
    pub address: String,
    /// The nsqlookupd that named it first; `None` for one of the configuration.
    pub lookupd: Option<String>,
    /// Whether a connection stands now.
    pub connected: bool,
    /// What nsqd was told last; 0 while not connected.
    pub rdy: u64,
    /// Why it is 0; `None` while messages are asked for.
    pub pause: Option<Pause>,
    /// Messages received and not answered, those of lost connections included.
    pub in_flight: u64,
    /// Deliveries.
    pub messages: u64,
    /// FINs handed to the connection.
    pub finished: u64,
    /// REQs handed to the connection.
    pub requeued: u64,
    /// TOUCHes handed to the connection.
    pub touched: u64,
    /// `E_FIN_FAILED` answers: nsqd had given the message up, most often because of its msg-timeout.
    pub failed_finishes: u64,
    /// `E_REQ_FAILED` answers.
    pub failed_requeues: u64,
    /// `E_TOUCH_FAILED` answers.
    pub failed_touches: u64,
    /// Answers that came when their connection was gone, and touches left out.
    pub lost_answers: u64,
    /// Connections made after the first one.
    pub reconnects: u64,
    /// Why the last connection, or attempt, ended; kept when a later one works.
    pub last_error: Option<String>,
    /// How long ago the last heartbeat came.
    pub last_heartbeat_age: Option<Duration>,
}

impl ConnectionStats {
    fn of(shared: &Shared, link: &Link) -> Self {
        let live = link.live();
        let counts = &link.counts;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            address: link.addr.to_string(),
            lookupd: link.lookupd.as_ref().map(|lookupd| lookupd.to_string()),
            connected: live.is_some(),
            rdy: live.as_ref().map_or(0, |session| session.rdy()),
            pause: live.map_or(Some(Pause::NotConnected), |session| session.pause()),
            in_flight: link.held(),
            messages: read(&counts.messages),
            finished: read(&counts.finished),
            requeued: read(&counts.requeued),
            touched: read(&counts.touched),
            failed_finishes: read(&counts.failed_finishes),
            failed_requeues: read(&counts.failed_requeues),
            failed_touches: read(&counts.failed_touches),
            lost_answers: read(&counts.lost_answers),
            reconnects: read(&counts.connections).saturating_sub(1),
            last_error: link.last_error().map(|error| error.to_line()),
            last_heartbeat_age: shared.heartbeat_age(link),
        }
    }
}
