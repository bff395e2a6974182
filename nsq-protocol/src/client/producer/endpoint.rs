//! One nsqd of a producer: the connection to it, made and made again on the threads of the callers. Each connection
//! has a reader (`nsq-read-N`) and a writer (`nsq-write-N`).
//!
//! An endpoint's state is never locked together with a pipeline's window.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::client::clock::random;
use crate::client::event::{Event, Events};
use crate::client::producer::config::ProducerConfig;
use crate::client::producer::pipeline::{AnswerSink, Counts, Pipeline};
use crate::client::producer::stats::ProducerConnectionStats;
use crate::error::Error;
use crate::flow::retry::{Backoff, GOOD_CONNECTION};
use crate::io::config::ConnectionConfig;
use crate::io::connection::Running;
use crate::io::handshake::Fresh;
use crate::io::transport::Closer;
use crate::thread::Crew;

/// The least that a connection is waited for: a limit of zero means none to the system.
const MIN_WAIT: Duration = Duration::from_millis(1);

/// One nsqd of a producer.
pub(super) struct Endpoint {
    /// Of the producer's endpoints.
    pub(super) index: usize,
    pub(super) addr: Arc<str>,
    config: ConnectionConfig,
    /// Numbers the connections of the producer, for their threads' names.
    numbers: Arc<AtomicUsize>,
    state: Mutex<EndpointState>,
    /// A dial ended.
    dialed: Condvar,
    counts: Arc<Counts>,
    events: Events,
    /// Its connection is to end.
    closing: Arc<AtomicBool>,
}

struct EndpointState {
    usage: Usage,
    closed: bool,
    backoff: Backoff,
    /// No attempt to connect before that.
    not_before: Instant,
    last_error: Option<Error>,
}

enum Usage {
    Down,
    /// A caller connects; its socket, once there is one.
    Dialing(Option<Closer>),
    Up(Live),
}

/// A connection with its two threads.
struct Live {
    pipeline: Arc<Pipeline>,
    since: Instant,
    threads: Crew<()>,
}

/// What looking for a connection of one endpoint gave.
pub(super) enum Found {
    Pipeline(Arc<Pipeline>),
    /// This caller's dial failed.
    Failed(Error),
    /// It failed lately; the next attempt is due then.
    Later(Instant, Option<Error>),
    /// Another caller is connecting.
    Busy,
}

impl Live {
    /// Whether it held for a while, or nsqd took something: then the next failure is a first one.
    fn was_good(&self) -> bool {
        self.since.elapsed() > GOOD_CONNECTION || self.pipeline.has_accepted()
    }

    /// Waits for the threads of a connection that has ended.
    fn join(self) {
        self.threads.join();
    }
}

impl Endpoint {
    pub(super) fn new(
        index: usize,
        addr: &str,
        config: &ProducerConfig,
        numbers: Arc<AtomicUsize>,
    ) -> Self {
        let (config, events) = (&config.connection, config.events.clone());
        let (min, max) = (config.reconnect_min, config.reconnect_max);
        Self {
            index,
            addr: addr.into(),
            config: config.clone(),
            numbers,
            state: Mutex::new(EndpointState {
                usage: Usage::Down,
                closed: false,
                backoff: Backoff::new(min, max),
                not_before: Instant::now(),
                last_error: None,
            }),
            dialed: Condvar::new(),
            counts: Arc::default(),
            events,
            closing: Arc::default(),
        }
    }

    /// The connection that stands, if one does.
    pub(super) fn live(&self) -> Option<Arc<Pipeline>> {
        match &self.state.lock().usage {
            Usage::Up(live) => Some(live.pipeline.clone()),
            Usage::Down | Usage::Dialing(_) => None,
        }
    }

    /// A connection; connects on this thread, until `deadline`, when none stands and none is being made.
    pub(super) fn pipeline(&self, deadline: Option<Instant>) -> Found {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return Found::Failed(Error::Stopped);
            }
            match std::mem::replace(&mut state.usage, Usage::Down) {
                Usage::Up(live) => {
                    let Some(error) = live.pipeline.ended() else {
                        let pipeline = live.pipeline.clone();
                        state.usage = Usage::Up(live);
                        return Found::Pipeline(pipeline);
                    };
                    state.lost(&live, error);
                    // Ended, so its threads end too; joined without the lock. Somebody may connect, or close,
                    // meanwhile: all is looked at again.
                    MutexGuard::unlocked(&mut state, || live.join());
                }
                Usage::Dialing(closer) => {
                    state.usage = Usage::Dialing(closer);
                    return Found::Busy;
                }
                Usage::Down => break,
            }
        }
        if Instant::now() < state.not_before {
            return Found::Later(state.not_before, state.last_error.clone());
        }
        state.usage = Usage::Dialing(None);
        drop(state);
        let dialed = self.dial(deadline);
        let found = self.take_over(dialed);
        self.dialed.notify_all();
        found
    }

    /// The dial of this thread ended.
    fn take_over(&self, dialed: Result<Live, Error>) -> Found {
        let mut state = self.state.lock();
        state.usage = Usage::Down;
        match dialed {
            Ok(live) if state.closed => {
                drop(state);
                live.pipeline.end(Error::Stopped);
                live.join();
                Found::Failed(Error::Stopped)
            }
            Ok(live) => {
                let pipeline = live.pipeline.clone();
                state.usage = Usage::Up(live);
                drop(state);
                let again = self.counts.connections.fetch_add(1, Ordering::Relaxed) > 0;
                self.events.tell(Event::Connected { nsqd: self.addr.to_string(), again });
                Found::Pipeline(pipeline)
            }
            Err(error) => {
                state.not_before = Instant::now() + state.backoff.next_delay(random());
                state.last_error = Some(error.clone());
                let is_closed = state.closed;
                drop(state);
                if !is_closed {
                    let (nsqd, error) = (self.addr.to_string(), error.clone());
                    self.events.tell(Event::ConnectFailed { nsqd, error });
                }
                Found::Failed(error)
            }
        }
    }

    fn dial(&self, deadline: Option<Instant>) -> Result<Live, Error> {
        let mut config = self.config.clone();
        if let Some(deadline) = deadline {
            // The caller's publish does not wait longer for a connection than for its answer.
            let left = deadline.saturating_duration_since(Instant::now()).max(MIN_WAIT);
            config.connect_timeout = config.connect_timeout.min(left);
            config.handshake_timeout = config.handshake_timeout.min(left);
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let identified = Fresh::connect(&self.addr, &config, &|closer| self.watch(closer))?
            .identify(&config.identify_request())?;
        let Running { connection, reader, mut threads } = identified.start(number)?;
        let pipeline = Arc::new(Pipeline::new(self.index, connection, self.counts.clone()));
        let name = format!("nsq-read-{}", number % 100_000);
        let reading = {
            let pipeline = pipeline.clone();
            let (events, closing) = (self.events.clone(), self.closing.clone());
            move || {
                let mut sink = AnswerSink { pipeline: &pipeline };
                let error = reader.run(&pipeline.connection, &mut sink);
                pipeline.end(error);
                if !closing.load(Ordering::SeqCst) {
                    let nsqd = pipeline.connection.addr.to_string();
                    events.tell(Event::Lost { nsqd, error: pipeline.closed() });
                }
            }
        };
        threads.spawn(&name, reading).map_err(Error::thread(&name))?;
        Ok(Live { pipeline, since: Instant::now(), threads })
    }

    /// Ends the connection for good, in order until `deadline`. One that is being made ends, too, and whoever makes
    /// it sees to that.
    pub(super) fn close(&self, deadline: Instant) {
        self.closing.store(true, Ordering::SeqCst);
        let mut state = self.state.lock();
        state.closed = true;
        match std::mem::replace(&mut state.usage, Usage::Down) {
            Usage::Down => {}
            Usage::Dialing(closer) => {
                // Whoever dials sees `closed` when the dial ends.
                state.usage = Usage::Dialing(None);
                drop(state);
                if let Some(closer) = closer {
                    closer.shutdown();
                }
            }
            Usage::Up(live) => {
                drop(state);
                live.pipeline.connection.outbox.finish();
                live.pipeline.wait_ended(deadline);
                live.pipeline.end(Error::Stopped);
                live.join();
            }
        }
    }

    fn watch(&self, closer: Closer) -> bool {
        let mut state = self.state.lock();
        if !state.closed {
            state.usage = Usage::Dialing(Some(closer));
        }
        !state.closed
    }

    /// Waits until the dial of another thread has ended, at most until `deadline`.
    pub(super) fn wait_dialed(&self, deadline: Instant) {
        let mut state = self.state.lock();
        if matches!(state.usage, Usage::Dialing(_)) {
            self.dialed.wait_until(&mut state, deadline);
        }
    }

    /// What was done so far; `current` says whether it is the one in use.
    pub(super) fn stats(&self, current: bool) -> ProducerConnectionStats {
        let pipeline = self.live();
        let (pending_commands, pending_bytes) =
            pipeline.as_ref().map_or((0, 0), |pipeline| pipeline.pending());
        let ended = pipeline.and_then(|pipeline| pipeline.ended());
        let state = self.state.lock();
        let connected = matches!(state.usage, Usage::Up(_)) && ended.is_none();
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

impl EndpointState {
    /// The connection was lost.
    fn lost(&mut self, live: &Live, error: Error) {
        self.last_error = Some(error);
        if live.was_good() {
            self.backoff.reset();
        } else {
            // One that nsqd closes at once each time must not be made again at full speed.
            self.not_before = Instant::now() + self.backoff.next_delay(random());
        }
    }
}
