//! Which nsqd takes a publish, and what is done when it fails: another attempt, on the next one. Runs on the threads of
//! the callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::client::clock::{deadline_in, random};
use crate::client::producer::command::Publish;
use crate::client::producer::config::ProducerConfig;
use crate::client::producer::endpoint::{Endpoint, Found};
use crate::client::producer::group::{Awaited, Outcome};
use crate::client::producer::pipeline::{Pipeline, Rejected};
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
    pub(super) endpoints: Vec<Endpoint>,
    /// The endpoint in use.
    pub(super) current: AtomicUsize,
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
            Endpoint::new(index, addr, &config.connection, Arc::clone(&numbers))
        };
        Self {
            endpoints: config.nsqd_addresses.iter().enumerate().map(endpoint).collect(),
            config,
            current: AtomicUsize::new(0),
            stop: Mutex::new(Some(stop)),
            stopped,
            closing: Mutex::new(false),
            closed: Condvar::new(),
        }
    }

    /// Connects to the first nsqd that works.
    pub(super) fn connect(&self) -> Result<(), Error> {
        let mut telling: Option<Error> = None;
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            match endpoint.pipeline(None) {
                Found::Pipeline(_) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(());
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

    pub(super) fn publish_deadline(&self) -> Instant {
        deadline_in(self.config.publish_timeout)
    }

    /// Publishes to that endpoint `only`, or to the one in use.
    pub(super) fn publish(
        &self,
        publish: Publish<'_>,
        only: Option<usize>,
    ) -> Result<(), PublishError> {
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
        only: Option<usize>,
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
        only: Option<usize>,
        deadline: Instant,
    ) -> Result<Attempt, Error> {
        self.attempt_as(publish, false, only, deadline)
    }

    /// The same, where one that `groups` may go together with others.
    fn attempt_as(
        &self,
        publish: Publish<'_>,
        groups: bool,
        only: Option<usize>,
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
    fn any_pipeline(&self, only: Option<usize>, deadline: Instant) -> Result<Arc<Pipeline>, Error> {
        loop {
            let current = only.unwrap_or_else(|| self.current.load(Ordering::Relaxed));
            let endpoints = if only.is_some() { 1 } else { self.endpoints.len() };
            let (mut due, mut busy, mut last) = (deadline, None, None);
            for step in 0..endpoints {
                let index = (current + step) % self.endpoints.len();
                match self.endpoints[index].pipeline(Some(deadline)) {
                    Found::Pipeline(pipeline) => {
                        if step > 0 {
                            let order = Ordering::Relaxed;
                            let _ = self.current.compare_exchange(current, index, order, order);
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
                    Found::Busy => busy = busy.or(Some(index)),
                }
            }
            if self.stopped.is_stopped() {
                return Err(Error::Stopped);
            }
            match busy {
                // Another endpoint may be due before that dial ends.
                Some(index) => self.endpoints[index].wait_dialed(due),
                None => {
                    let _ = self.stopped.wait_until(due);
                }
            }
            if Instant::now() >= deadline {
                return Err(last.unwrap_or_else(|| Error::Timeout {
                    addr: self.endpoints[current].addr.to_string(),
                    doing: "waiting for a connection to",
                    limit: self.config.publish_timeout,
                }));
            }
        }
    }

    /// The next publish goes to the next endpoint, unless somebody moved on already.
    fn move_on_from(&self, pipeline: &Pipeline) {
        let (index, order) = (pipeline.index, Ordering::Relaxed);
        let next = (index + 1) % self.endpoints.len();
        let _ = self.current.compare_exchange(index, next, order, order);
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
        self.endpoints.iter().for_each(|endpoint| endpoint.close(deadline));
    }
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
