//! Which nsqd takes a publish, and what is done when it fails: another attempt, on the next one. Runs on the threads of
//! the callers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use parking_lot::{Condvar, Mutex};

use crate::client::clock::{deadline_in, random};
use crate::client::event::Event;
use crate::client::lookup::poll::Polled;
use crate::client::producer::command::Publish;
use crate::client::producer::config::ProducerConfig;
use crate::client::producer::endpoint::{Endpoint, Found};
use crate::client::producer::group::{Awaited, Outcome};
use crate::client::producer::pipeline::{Pipeline, Rejected};
use crate::client::producer::roster::{Endpoints, Roster};
use crate::codec::error_code::ErrorCode;
use crate::error::{Error, PublishError};
use crate::flow::retry::Backoff;
use crate::thread::{StopSource, StopToken, stop_pair};

/// The first wait before a publish is sent again.
const RETRY_MIN: Duration = Duration::from_millis(10);

/// The longest: a full disk does not get better by asking faster.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Chooses the nsqd for each publish, and tries again.
pub(super) struct Dispatcher {
    pub(super) config: ProducerConfig,
    roster: Roster,
    /// The index of the endpoint in use.
    pub(super) current: AtomicUsize,
    /// Numbers the connections, for their threads' names.
    numbers: Arc<AtomicUsize>,
    /// Has the nsqlookupds asked soon, where there are any.
    hurry: OnceLock<Sender<()>>,
    stop: Mutex<Option<StopSource>>,
    stopped: StopToken,
    /// Whether a close is under way; its end is signalled.
    closing: Mutex<bool>,
    closed: Condvar,
}

/// A publish on its way.
pub(super) struct Attempt {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) answer: Awaited,
    sent: Instant,
}

impl Dispatcher {
    pub(super) fn new(config: ProducerConfig) -> Self {
        let (stop, stopped) = stop_pair();
        let numbers = Arc::default();
        let endpoint = |(index, addr): (usize, &String)| {
            Arc::new(Endpoint::new(index, addr, &config, Arc::clone(&numbers)))
        };
        let given = config.nsqd_addresses.iter().enumerate().map(endpoint).collect();
        Self {
            roster: Roster::new(given),
            config,
            current: AtomicUsize::new(0),
            numbers,
            hurry: OnceLock::new(),
            stop: Mutex::new(Some(stop)),
            stopped,
            closing: Mutex::new(false),
            closed: Condvar::new(),
        }
    }

    /// The nsqds that there are now.
    pub(super) fn endpoints(&self) -> Endpoints {
        self.roster.endpoints()
    }

    /// Takes over what an nsqlookupd told; the last answer of one that fails holds on.
    pub(super) fn on_polled(&self, Polled { lookupd, address, answer }: Polled) {
        let (is_news, events) =
            (self.roster.is_news(lookupd, answer.is_err()), &self.config.events);
        let address = address.to_string();
        match answer {
            Ok(answer) => {
                self.roster.on_answer(lookupd, answer.nsqds, |index, addr| {
                    Endpoint::new(index, addr, &self.config, self.numbers.clone())
                });
                if is_news {
                    events.tell(Event::LookupdAnswers { lookupd: address });
                }
            }
            Err(error) if is_news => events.tell(Event::LookupdFailed { lookupd: address, error }),
            Err(error) => log::debug!("{}", error.to_line()),
        }
    }

    /// From now on, `hurry` is told when no nsqd can be reached.
    pub(super) fn hurries(&self, hurry: Sender<()>) {
        let _ = self.hurry.set(hurry);
    }

    fn hurry(&self) {
        if let Some(hurry) = self.hurry.get() {
            let _ = hurry.try_send(());
        }
    }

    /// The connection in use, or the first that can be had; each nsqd is tried once, until `deadline` if there is one.
    pub(super) fn reach(&self, deadline: Option<Instant>) -> Result<Arc<Pipeline>, Error> {
        let mut telling: Option<Error> = None;
        for endpoint in from(&self.endpoints(), self.current.load(Ordering::Relaxed)) {
            let mut found = endpoint.pipeline(deadline);
            if let (Found::Busy, Some(deadline)) = (&found, deadline) {
                endpoint.wait_dialed(deadline);
                found = endpoint.pipeline(Some(deadline));
            }
            match found {
                Found::Pipeline(pipeline) => {
                    self.current.store(endpoint.index, Ordering::Relaxed);
                    return Ok(pipeline);
                }
                Found::Failed(error) | Found::Later(_, Some(error)) => {
                    if telling.as_ref().is_none_or(|other| other.weight() < error.weight()) {
                        telling = Some(error);
                    }
                }
                Found::Later(_, None) | Found::Busy => {}
            }
        }
        self.hurry();
        Err(telling.unwrap_or_else(|| self.no_nsqd()))
    }

    /// The error where no nsqd is known.
    fn no_nsqd(&self) -> Error {
        let lookupd = self.config.lookup.addresses.join(", ");
        if lookupd.is_empty() || self.stopped.is_stopped() {
            return Error::Stopped;
        }
        let what = "it names no nsqd: does one run with --lookupd-tcp-address?";
        let source = Arc::new(std::io::Error::new(std::io::ErrorKind::NotFound, what));
        Error::Lookup { lookupd, source }
    }

    pub(super) fn publish_deadline(&self) -> Instant {
        deadline_in(self.config.publish_timeout)
    }

    /// Publishes to that endpoint `only`, or to the one in use.
    pub(super) fn publish(
        &self,
        publish: Publish<'_>,
        only: Option<&Arc<Endpoint>>,
    ) -> Result<(), PublishError> {
        #[cfg(feature = "tracing")]
        let _span = crate::client::span::of_publish(&publish).entered();
        publish.check(&self.config)?;
        let (begun, deadline) = (Instant::now(), self.publish_deadline());
        // What is for one nsqd alone is one command of its own, too.
        let attempt = self.attempt_as(publish, only.is_none(), only, deadline);
        self.see_through(publish, only, attempt.map_err(|error| not_sent(begun, error))?, deadline)
    }

    /// Waits for the attempt's answer and makes further ones as needed.
    pub(super) fn see_through(
        &self,
        publish: Publish<'_>,
        only: Option<&Arc<Endpoint>>,
        mut attempt: Attempt,
        deadline: Instant,
    ) -> Result<(), PublishError> {
        let mut history = PublishHistory::new();
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        loop {
            let is_shared = attempt.answer.is_shared();
            let outcome = self.outcome(&attempt, deadline);
            let Some((failure, retry)) = history.learn(outcome, is_shared) else { return Ok(()) };
            let delay = match retry {
                PublishRetry::Never => return Err(history.over(failure)),
                PublishRetry::Soon => Duration::ZERO,
                PublishRetry::Later => backoff.next_delay(random()),
            };
            if Instant::now() + delay >= deadline {
                return Err(history.over(failure));
            }
            log::debug!("publishing again in {delay:?}: {}", failure.to_line());
            self.move_on_from(&attempt.pipeline);
            if self.stopped.wait(delay) {
                return Err(history.over(failure));
            }
            // No connection takes it any more: the error is that of the last attempt.
            attempt = match self.attempt(publish, only, deadline) {
                Ok(attempt) => attempt,
                Err(_) => return Err(history.over(failure)),
            };
            history.attempts += 1;
        }
    }

    fn outcome(&self, attempt: &Attempt, deadline: Instant) -> Outcome {
        let limit = self.config.response_timeout;
        attempt.answer.wait(attempt.sent, limit, deadline).unwrap_or_else(|| {
            let error = attempt.pipeline.late(limit);
            // Answers come in order: none behind this one can come either. Another try needs a new connection.
            let is_overdue = match attempt.answer.is_shared() {
                // Sent later than it was joined, by as much as this takes longer.
                true => Instant::now() < deadline,
                false => attempt.sent.elapsed() >= limit,
            };
            if is_overdue {
                attempt.pipeline.end(error.clone());
            }
            Outcome::Lost(error)
        })
    }

    /// Hands the publish to a connection, as a command of its own.
    pub(super) fn attempt(
        &self,
        publish: Publish<'_>,
        only: Option<&Arc<Endpoint>>,
        deadline: Instant,
    ) -> Result<Attempt, Error> {
        self.attempt_as(publish, false, only, deadline)
    }

    /// The same, where one that `groups` may go together with others.
    fn attempt_as(
        &self,
        publish: Publish<'_>,
        groups: bool,
        only: Option<&Arc<Endpoint>>,
        deadline: Instant,
    ) -> Result<Attempt, Error> {
        loop {
            let pipeline = self.any_pipeline(only, deadline)?;
            match pipeline.submit(publish, groups, &self.config, deadline) {
                Ok(answer) => return Ok(Attempt { pipeline, answer, sent: Instant::now() }),
                Err(Rejected::Full) => {
                    let addr = pipeline.connection.addr.to_string();
                    let limit = self.config.publish_timeout;
                    return Err(Error::Timeout {
                        addr,
                        doing: "waiting for room in the window of",
                        limit,
                    });
                }
                Err(Rejected::Ended(error)) => {
                    self.move_on_from(&pipeline);
                    if Instant::now() >= deadline {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The connection in use, or the next one that can be had before `deadline`; of that endpoint `only`, if given.
    fn any_pipeline(
        &self,
        only: Option<&Arc<Endpoint>>,
        deadline: Instant,
    ) -> Result<Arc<Pipeline>, Error> {
        loop {
            let endpoints = only.map_or_else(|| self.endpoints(), |only| [only.clone()].into());
            let current = self.current.load(Ordering::Relaxed);
            let (mut due, mut busy, mut last) = (deadline, None, None);
            for endpoint in from(&endpoints, current) {
                match endpoint.pipeline(Some(deadline)) {
                    Found::Pipeline(pipeline) => {
                        if only.is_none() && endpoint.index != current {
                            let order = Ordering::Relaxed;
                            let _ = self.current.compare_exchange(
                                current,
                                endpoint.index,
                                order,
                                order,
                            );
                        }
                        return Ok(pipeline);
                    }
                    Found::Failed(error) => {
                        last = Some(error);
                        // The next round finds out when its next attempt is due.
                        due = Instant::now();
                    }
                    Found::Later(at, error) => {
                        due = due.min(at);
                        last = last.or(error);
                    }
                    Found::Busy => busy = busy.or(Some(endpoint)),
                }
            }
            if self.stopped.is_stopped() {
                return Err(Error::Stopped);
            }
            if only.is_none() {
                self.hurry();
            }
            match busy {
                // Another endpoint may be due before that dial ends.
                Some(endpoint) => endpoint.wait_dialed(due),
                None if only.is_some() => drop(self.stopped.wait_until(due)),
                None => self.roster.wait_changed(&endpoints, due),
            }
            if Instant::now() >= deadline {
                return Err(last.unwrap_or_else(|| match from(&endpoints, current).next() {
                    Some(endpoint) => Error::Timeout {
                        addr: endpoint.addr.to_string(),
                        doing: "waiting for a connection to",
                        limit: self.config.publish_timeout,
                    },
                    None => self.no_nsqd(),
                }));
            }
        }
    }

    /// The next publish goes to the next endpoint, unless somebody moved on already.
    fn move_on_from(&self, pipeline: &Pipeline) {
        let (index, order) = (pipeline.index, Ordering::Relaxed);
        if let Some(next) = from(&self.endpoints(), index).nth(1) {
            let _ = self.current.compare_exchange(index, next.index, order, order);
        }
        self.hurry();
    }

    /// Ends every connection; one that is told in order may take `linger`.
    pub(super) fn close(&self, linger: Duration) {
        let mut closing = self.closing.lock();
        while *closing {
            self.closed.wait(&mut closing);
        }
        *closing = true;
        drop(closing);
        self.close_all(linger);
        *self.closing.lock() = false;
        self.closed.notify_all();
    }

    fn close_all(&self, linger: Duration) {
        drop(self.stop.lock().take());
        let deadline = Instant::now() + linger;
        self.roster.close().iter().for_each(|endpoint| endpoint.close(deadline));
    }
}

/// All of them, from the one of that index on; from the first where it is gone.
fn from(endpoints: &Endpoints, index: usize) -> impl Iterator<Item = &Arc<Endpoint>> {
    let at = endpoints.iter().position(|endpoint| endpoint.index == index).unwrap_or(0);
    endpoints[at..].iter().chain(&endpoints[..at])
}

/// What is known of a publish after its attempts so far.
struct PublishHistory {
    begun: Instant,
    attempts: u32,
    /// Some attempt may have stored it.
    unknown: bool,
    /// Some attempt was answered.
    refused: bool,
}

/// When a publish is tried again.
enum PublishRetry {
    Never,
    Soon,
    Later,
}

impl PublishHistory {
    /// Of the first attempt.
    fn new() -> Self {
        Self { begun: Instant::now(), attempts: 1, unknown: false, refused: false }
    }

    /// How the last attempt failed, and whether there is to be another; nothing if it did not.
    fn learn(&mut self, outcome: Outcome, is_shared: bool) -> Option<(Error, PublishRetry)> {
        match outcome {
            Outcome::Accepted => None,
            Outcome::Refused(error) => {
                self.refused = true;
                if is_retryable(&error) {
                    // nsqd stores an MPUB's bodies one by one: ours may be among those before the failure.
                    let mpub = matches!(&error, Error::Refused { code: ErrorCode::MpubFailed, .. });
                    self.unknown |= is_shared && mpub;
                    return Some((error, PublishRetry::Later));
                }
                // Another's body may be the reason. Alone, it is told of its own.
                Some((error, if is_shared { PublishRetry::Soon } else { PublishRetry::Never }))
            }
            Outcome::Lost(error) => {
                self.unknown = true;
                Some((error, PublishRetry::Later))
            }
            Outcome::NotSent(error) => Some((error, PublishRetry::Later)),
        }
    }

    /// There is no further attempt.
    fn over(&self, source: Error) -> PublishError {
        match (self.unknown, self.refused) {
            (true, _) => PublishError::Unknown { attempts: self.attempts, source },
            (false, true) => PublishError::Refused { source },
            (false, false) => not_sent(self.begun, source),
        }
    }
}

/// The error of a publish that no connection took since `begun`.
pub(super) fn not_sent(begun: Instant, source: Error) -> PublishError {
    PublishError::NotSent { waited: begun.elapsed(), source }
}

/// Whether the same publish can work a little later, or on another nsqd.
fn is_retryable(error: &Error) -> bool {
    use ErrorCode::{AuthFailed, DpubFailed, MpubFailed, PubFailed};
    matches!(error, Error::Refused { code: PubFailed | MpubFailed | DpubFailed | AuthFailed, .. })
}
