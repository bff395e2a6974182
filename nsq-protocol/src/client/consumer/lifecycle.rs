//! The start and the stop of a consumer. Runs on the caller's threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use parking_lot::{Condvar, Mutex};

use crate::client::clock::deadline_in;
use crate::client::consumer::batches::Batches;
use crate::client::consumer::config::ConsumerConfig;
use crate::client::consumer::discovery::Discovery;
use crate::client::consumer::flow_control::LATE_MESSAGE;
use crate::client::consumer::shared::Shared;
use crate::client::consumer::source::UnansweredMessage;
use crate::client::consumer::stats::ConsumerStats;
use crate::client::consumer::threads::{GiveUpThread, Threads};
use crate::error::Error;

/// How long nsqd may take to read the last answers and close its side, once all is answered. An nsqd that works does so
/// in milliseconds; one that does not must not delay the stop.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// How long nsqd may take to agree to a stop of workers of our own, however short its timeout is: what comes before it
/// agrees is given back, and would wait for its msg-timeout otherwise.
const AGREE: Duration = Duration::from_millis(500);

/// How long a worker may take from its decision on an answer to handing it to the connection, on a machine that is busy.
const ANSWERING: Duration = Duration::from_millis(50);

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
    pub(super) shared: Arc<Shared>,
    pub(super) state: Mutex<RunState>,
    stopped: Condvar,
    leftover: Mutex<Leftover>,
}

/// What a stop could not wait for.
#[derive(Default)]
pub(super) struct Leftover {
    /// What it gave back that handlers held.
    pub(super) unanswered: Vec<UnansweredMessage>,
    /// The name of the thread that gives up, if it is in its handler still.
    pub(super) give_up_thread: Option<String>,
}

pub(super) enum RunState {
    Running(Box<Threads>),
    Stopping,
    Stopped(Unanswered),
}

/// How many messages were held when the consumer had to stop: nsqd delivers them again after their msg-timeout, or at
/// once those that a [`crate::RunningConsumer`] gives back.
///
/// # Example
/// ```
/// use nsq_protocol::{Consumer, Unanswered};
///
/// fn end(consumer: &Consumer) {
///     let Unanswered(held) = consumer.stop();
///     if held > 0 {
///         eprintln!("{held} messages were not answered; nsqd delivers them again");
///     }
/// }
/// ```
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
        let shared = Arc::new(Shared::new(config.capped()));
        let (config, slots) = (&shared.config, shared.flow.links.slots());
        if (config.max_in_flight as usize) < slots.len() {
            let (messages, nsqds) = (config.max_in_flight, slots.len());
            log::info!("max_in_flight is {messages} for {nsqds} nsqd: they take turns");
        }
        let expected = slots.len() + usize::from(!config.lookup.addresses.is_empty());
        // Room for each outcome, so that no thread waits until it is taken.
        let (first, outcomes) = bounded(expected);
        let threads = Threads::start(&shared, &first)?;
        drop(first);
        let outcomes: Vec<_> = outcomes.iter().take(expected).collect();
        if outcomes.iter().any(Result::is_ok) {
            let state = Mutex::new(RunState::Running(Box::new(threads)));
            let (stopped, leftover) = Default::default();
            return Ok(Self { shared, state, stopped, leftover });
        }
        drop(threads);
        let telling = outcomes.into_iter().filter_map(Result::err).max_by_key(Error::weight);
        Err(telling.unwrap_or(Error::Stopped))
    }

    /// A handle to receive batches from; any number of them share the load.
    pub fn batches(&self) -> Batches {
        Batches::new(self.shared.clone())
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
    ///
    /// Where the workers are those of [`Consumer::run`], no handler is called any more, and what handlers still hold
    /// when `timeout` has passed is given back; see [`crate::RunningConsumer::shutdown_within`].
    pub fn stop_within(&self, timeout: Duration) -> Unanswered {
        let threads = {
            let mut state = self.state.lock();
            loop {
                match &*state {
                    RunState::Running(_) => break,
                    RunState::Stopping => self.stopped.wait(&mut state),
                    RunState::Stopped(unanswered) => return *unanswered,
                }
            }
            match std::mem::replace(&mut *state, RunState::Stopping) {
                RunState::Running(threads) => *threads,
                RunState::Stopping | RunState::Stopped(_) => {
                    unreachable!("the loop above ends on Running")
                }
            }
        };
        let unanswered = self.close(threads, timeout);
        *self.state.lock() = RunState::Stopped(unanswered);
        self.stopped.notify_all();
        unanswered
    }

    fn close(&self, threads: Threads, timeout: Duration) -> Unanswered {
        let Threads { mut discovery, mut links, flow, alive, ended, give_up } = threads;
        let (shared, control) = (&self.shared, &self.shared.flow);
        let deadline = deadline_in(timeout);
        // 0. Workers of our own begin nothing any more.
        let untaken = shared.has_workers().then(|| {
            shared.queue.close();
            (shared.open.stop(), shared.giving_up.stop())
        });
        // 1. No new connection; CLS on those that are.
        drop(alive);
        links.interrupt();
        discovery.iter_mut().for_each(Discovery::interrupt);
        control.links.stop_connecting();
        control.begin_stop();
        // Behind CLS, or nsqd would send them here again.
        let agreed = match untaken {
            Some(untaken) => {
                drop(untaken);
                shared.requeue_queued();
                deadline.max(Instant::now() + AGREE)
            }
            None => deadline,
        };
        // 2. nsqd agrees, so that nothing more comes, but for one message that was on its way.
        control.wait_until(agreed, || control.links.live().all(|session| session.is_drained()));
        let _ = ended.recv_deadline(deadline.min(Instant::now() + LATE_MESSAGE));
        // 3. The workers take what is queued, answer what they hold, and learn that it was all.
        shared.queue.close();
        if !shared.queue.has_receivers() {
            shared.requeue_queued();
        }
        control.wait_until(deadline, || control.links.held() == 0);
        shared.requeue_queued();
        drop(shared.giving_up.stop());
        let given_back = shared.open.give_back_taken();
        if shared.has_workers() {
            // A worker may have begun to answer: it is about to hand that to its connection.
            control.wait_until(Instant::now() + ANSWERING, || control.links.held() == 0);
        }
        let unanswered = Unanswered(control.links.held() + given_back.len() as u64);
        // 4. nsqd reads the last answers and closes.
        control.links.live().for_each(|session| session.connection().outbox.finish());
        let linger = deadline.min(Instant::now()) + LINGER;
        let _ = ended.recv_deadline(linger);
        // 5. Connections that are left are closed.
        drop(links);
        discovery.into_iter().for_each(Discovery::join);
        flow.stop();
        let give_up_thread = give_up.and_then(GiveUpThread::end);
        *self.leftover.lock() = Leftover { unanswered: given_back, give_up_thread };
        unanswered
    }

    /// What the stop could not wait for; once.
    pub(super) fn take_leftover(&self) -> Leftover {
        std::mem::take(&mut self.leftover.lock())
    }

    /// What each connection did so far.
    pub fn stats(&self) -> ConsumerStats {
        ConsumerStats::of(&self.shared)
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
