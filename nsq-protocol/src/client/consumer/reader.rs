//! The reader of a link: connects, hands over what comes in batches, and connects again.
//!
//! Runs on the threads `nsq-read-N`. Those of the links of the configuration live as long as the consumer
//! ([`run_link`]); those of the links that discovery finds live as long as one connection ([`run_connection`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::client::clock::random;
use crate::client::consumer::batch::BatchBuilder;
use crate::client::consumer::counts::add;
use crate::client::consumer::link::Link;
use crate::client::consumer::origin::{Origin, Stamp};
use crate::client::consumer::pacing::Pacing;
use crate::client::consumer::session::{FirstOfRead, Session};
use crate::client::consumer::shared::Shared;
use crate::codec::error_code::ErrorCode;
use crate::codec::frame::CLOSE_WAIT;
use crate::codec::message::MessageRef;
use crate::error::Error;
use crate::flow::pace::Pace;
use crate::flow::policy::RdyMode;
use crate::flow::retry::{Backoff, GOOD_CONNECTION};
use crate::flow::touch::Touches;
use crate::io::config::FOREVER;
use crate::io::connection::{FrameSink, Running};
use crate::io::handshake::{Fresh, Subscribed};
use crate::thread::StopToken;

/// Messages in one batch at most, so that several workers share the load of one read.
const BATCH_MESSAGES: usize = 256;

/// Bytes after which a batch is cut: a few large messages are work enough, and offsets stay small.
const BATCH_BYTES: usize = 1 << 20;

/// How a connection, or the attempt to make it, ended.
pub(crate) struct Ended {
    pub(crate) error: Error,
    /// The connection stood long enough for the next failure to count as a first one.
    pub(crate) was_good: bool,
}

/// The body of the thread of a link of the configuration. `first` learns how the first attempt went.
pub(crate) fn run_link(
    shared: &Shared,
    link: &Arc<Link>,
    stop: &StopToken,
    first: Sender<Result<(), Error>>,
) {
    let config = &shared.config.connection;
    let mut backoff = Backoff::new(config.reconnect_min, config.reconnect_max);
    let mut first = Some(first);
    loop {
        // The receiver is gone only when the start has given up.
        let Ended { error, was_good } = run_connection(shared, link, &mut || {
            let _ = first.take().map(|first| first.send(Ok(())));
        });
        if let Some(first) = first.take() {
            let _ = first.send(Err(error.clone()));
        }
        if was_good {
            backoff.reset();
        }
        let delay = backoff.next_delay(random());
        if stop.is_stopped() {
            return;
        }
        // Who wants to know asks for the statistics, which keep it.
        log::debug!("nsqd {}; the next attempt is in {delay:?}", error.to_line());
        if stop.wait(delay) {
            return;
        }
    }
}

/// Connects, and reads until the connection ends; `on_live` is called once it stands.
pub(crate) fn run_connection(
    shared: &Shared,
    link: &Arc<Link>,
    on_live: &mut dyn FnMut(),
) -> Ended {
    let began = Instant::now();
    let error = match connect(shared, link) {
        Ok(subscribed) => serve(shared, link, subscribed, on_live),
        Err(error) => error,
    };
    let error = match &link.lookupd {
        Some(lookupd) => error.found_through(lookupd),
        None => error,
    };
    let was_good = link.live().is_some() && began.elapsed() > GOOD_CONNECTION;
    let told = link.failed(&error);
    shared.flow.rebalance();
    shared.flow.signal();
    told.into_iter().for_each(|event| shared.config.events.tell(event));
    Ended { error, was_good }
}

fn connect<'a>(shared: &'a Shared, link: &Link) -> Result<Subscribed<'a>, Error> {
    let config = &shared.config;
    let connect = || Fresh::connect(&link.addr, &config.connection, &|closer| link.watch(closer));
    let identified = match connect()?.identify(&config.identify_request()) {
        // An nsqd that does not allow such an output buffer refuses IDENTIFY and closes: ask anew, without one.
        Err(Error::Refused { detail, .. }) if detail.contains("output buffer") => {
            connect()?.identify(&config.plain_identify_request())
        }
        identified => identified,
    };
    identified?.subscribe(config.topic, config.channel)
}

/// Runs one connection to its end, and says why it ended.
fn serve(
    shared: &Shared,
    link: &Arc<Link>,
    subscribed: Subscribed<'_>,
    on_live: &mut dyn FnMut(),
) -> Error {
    let (config, flow) = (&shared.config, &shared.flow);
    let response = subscribed.response();
    let max_rdy = response.max_rdy_count.unsigned_abs();
    let ms = |ms: i64| Duration::from_millis(ms.max(1).unsigned_abs()).min(FOREVER);
    let touches = config
        .auto_touch
        .then(|| Touches::new(ms(response.msg_timeout), ms(response.max_msg_timeout)));
    let pacing = (config.rdy == RdyMode::Adaptive)
        .then(|| Pacing::new(Pace::new(max_rdy, Instant::now()), flow.waker.clone()));
    let Running { connection, reader, threads } =
        match subscribed.start(link.number, config.oversized.kept()) {
            Ok(running) => running,
            Err(error) => return error,
        };
    let session = Arc::new(Session::new(
        connection.clone(),
        link.counts.clone(),
        max_rdy,
        pacing,
        touches,
        flow.waker.clone(),
    ));
    if !link.go_live(&session) {
        return Error::Stopped;
    }
    // Once it is live: either we see the number here, or whoever sets it sees the session.
    session.expect_workers(flow.at_once());
    on_live();
    flow.rebalance();
    config.events.tell(link.connected());
    let origin = Arc::new(Origin {
        session,
        link: link.clone(),
        flow: flow.clone(),
        panic_requeue_delay: config.panic_requeue_delay,
    });
    let ended = reader.run(&connection, &mut MessageSink::new(shared, &origin));
    // The writer ends with the connection, which the reader has closed.
    drop(threads);
    ended
}

/// Hands messages over in batches.
struct MessageSink<'a> {
    shared: &'a Shared,
    origin: &'a Arc<Origin>,
    batch: BatchBuilder,
    /// Batches handed over.
    batches: u64,
    /// The batch is the first that the present read brings.
    first_of_read: bool,
    /// Messages in one batch at most.
    most: usize,
}

impl<'a> MessageSink<'a> {
    fn new(shared: &'a Shared, origin: &'a Arc<Origin>) -> Self {
        let batch = BatchBuilder::new();
        Self { shared, origin, batch, batches: 0, first_of_read: true, most: BATCH_MESSAGES }
    }

    fn hand_over(&mut self) {
        let count = self.batch.len() as u64;
        let Some(first) = self.batch.first() else { return };
        let (shared, origin) = (self.shared, self.origin);
        let Origin { session, link, flow, .. } = &**origin;
        add(&link.counts.messages, count);
        if flow.is_too_late(session, count) {
            session.give_back(count, self.batch.ids());
            self.batch.clear();
            return;
        }
        let first_of_read = std::mem::take(&mut self.first_of_read).then(|| FirstOfRead {
            published_ns: (first.attempts <= 1).then_some(first.timestamp_ns),
            starving: shared.queue.is_starving(),
        });
        link.hold(count);
        flow.arrived(count);
        let replan = session.arrived(count, first_of_read);
        let stamp = Stamp { batch: self.batches, epoch: flow.epoch() };
        self.batches += 1;
        session.keep_touched(stamp.batch, self.batch.ids());
        // A closed queue returns the batch, and its drop gives the messages back.
        let _ = shared.queue.push(self.batch.take(origin.clone(), stamp));
        if replan {
            flow.rebalance();
        }
    }
}

impl FrameSink for MessageSink<'_> {
    fn message(&mut self, message: MessageRef<'_>) -> Result<(), Error> {
        let session = &self.origin.session;
        // Twice: nsqd counts a message that timed out as answered, and may fill RDY once more before it learns that
        // no more are wanted.
        let limit = 2 * session.peak_rdy();
        let held = session.in_flight() + self.batch.len() as u64;
        if held >= limit {
            let addr = session.addr().to_owned();
            let what =
                format!("a message beyond the {held} in flight, with RDY never over {}", limit / 2);
            return Err(Error::Protocol { addr, what });
        }
        if self.batch.len() >= self.most || self.batch.body_bytes() >= BATCH_BYTES {
            self.hand_over();
        }
        if !message.is_whole() {
            add(&self.origin.link.counts.oversized, 1);
        }
        self.batch.push(message);
        Ok(())
    }

    fn response(&mut self, data: &[u8]) -> Result<(), Error> {
        let session = &self.origin.session;
        if data == CLOSE_WAIT && session.is_closing() {
            // First hand over what came before it: once signalled, a stop may find nothing held and end the outbox.
            self.hand_over();
            self.origin.session.close_wait_came();
            self.origin.flow.signal();
            return Ok(());
        }
        let what = format!("the response {:.64} to no command", data.escape_ascii());
        Err(Error::Protocol { addr: session.addr().to_owned(), what })
    }

    fn error(&mut self, code: ErrorCode, detail: String) -> Result<(), Error> {
        let (session, counts) = (&self.origin.session, &self.origin.link.counts);
        match code {
            ErrorCode::FinFailed => add(&counts.failed_finishes, 1),
            ErrorCode::ReqFailed => add(&counts.failed_requeues, 1),
            ErrorCode::TouchFailed => add(&counts.failed_touches, 1),
            code => {
                let addr = session.addr().to_owned();
                return Err(Error::Refused { addr, command: "a command", code, detail });
            }
        }
        log::debug!("{}: {code} {detail}", session.addr());
        Ok(())
    }

    fn heartbeat(&mut self) {
        self.origin.link.counts.heartbeat(Instant::now());
    }

    fn read_done(&mut self) -> Result<(), Error> {
        self.hand_over();
        self.first_of_read = true;
        // Each worker's share of what RDY lets through, so that one batch does not take all of it.
        let workers = self.shared.queue.receivers().max(1);
        let part =
            usize::try_from(self.origin.session.rdy()).unwrap_or(usize::MAX).div_ceil(workers);
        self.most = part.clamp(1, BATCH_MESSAGES);
        Ok(())
    }
}
