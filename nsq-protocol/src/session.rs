//! A consumer's connections: one link for each nsqd, one session for each connection of a link, and the accounts
//! of what is held.
//!
//! Each link of the configuration has a thread, `nsq-read-N`, that connects, then reads until the connection ends,
//! then waits and connects again; [`crate::discovery`] has the other links, which come and go. Everything else here runs on the threads of the callers.
//!
//! Lock order: budget, then the table of links, then a link's slot, then an outbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use parking_lot::{Condvar, Mutex};

use crate::command::Command;
use crate::config::ConsumerConfig;
use crate::connection::{Connection, FrameSink, Fresh, Running, Subscribed};
use crate::delivery::{Batch, BatchBuilder};
use crate::error::Error;
use crate::error_code::ErrorCode;
use crate::frame::CLOSE_WAIT;
use crate::message::MessageRef;
use crate::queue::Queue;
use crate::rdy::{LinkLoad, Planner};
use crate::retry::{Backoff, random};
use crate::thread::{Never, StopToken};
use crate::transport::Closer;

/// Messages in one batch at most, so that several workers share the load of one read.
const BATCH_MESSAGES: usize = 256;

/// Bytes after which a batch is cut: a few large messages are work enough, and offsets stay small.
const BATCH_BYTES: usize = 1 << 20;

/// A connection that held this long was a good one: the next failure is a first one.
const GOOD_CONNECTION: Duration = Duration::from_secs(5);

/// How a held message is answered.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Finish,
    /// After that many ms.
    Requeue(u64),
}

/// What the threads of a consumer share.
pub(crate) struct Shared {
    pub(crate) config: ConsumerConfig,
    pub(crate) queue: Queue<Batch>,
    links: Mutex<LinkTable>,
    budget: Mutex<Planner>,
    stopping: AtomicBool,
    /// Answers must look whether somebody waits for them: a link below its share, or a stop.
    attention: AtomicBool,
    /// Changes of what a stop waits for.
    progress: Mutex<()>,
    progressed: Condvar,
    started: Instant,
}

/// A place for a link; its number stays the same while the link is in it.
pub(crate) type Slots = Arc<[Option<Arc<Link>>]>;

/// The consumer's links. Replaced as a whole, so that whoever reads one state needs no lock meanwhile.
struct LinkTable {
    slots: Slots,
    /// No link comes any more.
    closed: bool,
    departed: Departed,
}

/// What was done with nsqds that a consumer has let go: no nsqlookupd names them any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Departed {
    /// How many.
    pub nsqds: u64,
    /// Their deliveries.
    pub messages: u64,
    /// FINs handed to their connections.
    pub finished: u64,
    /// REQs handed to their connections.
    pub requeued: u64,
}

/// One nsqd of a consumer, over all its connections.
pub(crate) struct Link {
    pub(crate) addr: Arc<str>,
    /// The nsqlookupd that named it; none for one of the configuration.
    pub(crate) lookupd: Option<Arc<str>>,
    /// For the names of its threads.
    number: usize,
    /// It is to leave its slot once nothing of it is held.
    leaving: AtomicBool,
    slot: Mutex<Slot>,
    /// Messages handed over and not answered, of all its connections.
    held: AtomicU64,
    pub(crate) counts: LinkCounts,
}

#[derive(Default)]
struct Slot {
    stopping: bool,
    dialing: Option<Closer>,
    live: Option<Arc<Session>>,
    last_error: Option<Error>,
}

/// Totals since the consumer started.
#[derive(Default)]
pub(crate) struct LinkCounts {
    pub(crate) messages: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) requeued: AtomicU64,
    pub(crate) touched: AtomicU64,
    pub(crate) failed_finishes: AtomicU64,
    pub(crate) failed_requeues: AtomicU64,
    pub(crate) failed_touches: AtomicU64,
    pub(crate) lost_answers: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// In ms since the consumer's start; 0: none yet.
    last_heartbeat_ms: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// One connection, from SUB's OK on. Batches keep it alive after its end, so that late answers are harmless.
pub(crate) struct Session {
    shared: Arc<Shared>,
    link: Arc<Link>,
    connection: Arc<Connection>,
    max_rdy: u64,
    /// What nsqd was told last.
    rdy: AtomicU64,
    /// The highest of them: it bounds what an honest nsqd can send.
    peak_rdy: AtomicU64,
    /// Messages handed over from this connection and not answered.
    in_flight: AtomicU64,
    cls_sent: AtomicBool,
    close_wait: AtomicBool,
}

impl Session {
    pub(crate) fn addr(&self) -> &str {
        &self.connection.addr
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.outbox.is_open()
    }

    pub(crate) fn panic_requeue_delay(&self) -> Duration {
        self.shared.config.panic_requeue_delay
    }

    /// Answers `count` messages with what `encode` appends.
    pub(crate) fn answer(&self, count: u64, answer: Answer, encode: impl FnOnce(&mut Vec<u8>)) {
        let counts = &self.link.counts;
        // Before the answer goes out, or the message that it makes room for could be counted first.
        self.in_flight.fetch_sub(count, Ordering::SeqCst);
        let counter = match (self.connection.outbox.append(encode), answer) {
            (false, _) => &counts.lost_answers,
            (true, Answer::Finish) => &counts.finished,
            (true, Answer::Requeue(_)) => &counts.requeued,
        };
        add(counter, count);
        // After it, or a stop could find nothing held and close the outbox in between. Sequentially consistent, as
        // is the flag: either we see the flag, or its setter sees our count.
        self.link.held.fetch_sub(count, Ordering::SeqCst);
        if self.shared.attention.load(Ordering::SeqCst) {
            self.shared.answered();
        }
    }

    pub(crate) fn touch(&self, count: u64, encode: impl FnOnce(&mut Vec<u8>)) {
        let counts = &self.link.counts;
        let sent = self.connection.outbox.append_optional(encode);
        add(if sent { &counts.touched } else { &counts.lost_answers }, count);
    }

    pub(crate) fn rdy(&self) -> u64 {
        self.rdy.load(Ordering::Relaxed)
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(crate) fn has_close_wait(&self) -> bool {
        self.close_wait.load(Ordering::SeqCst)
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    fn set_rdy(&self, rdy: u64) {
        if self.rdy.swap(rdy, Ordering::Relaxed) != rdy {
            self.peak_rdy.fetch_max(rdy, Ordering::Relaxed);
            self.connection.outbox.append(|out| Command::Rdy(rdy).encode(out));
        }
    }

    fn start_close(&self) {
        if !self.cls_sent.swap(true, Ordering::SeqCst) {
            self.rdy.store(0, Ordering::Relaxed);
            self.connection.outbox.append(|out| Command::Cls.encode(out));
        }
    }
}

impl Link {
    pub(crate) fn new(addr: &str, lookupd: Option<Arc<str>>, number: usize) -> Self {
        Self {
            addr: addr.into(),
            lookupd,
            number,
            leaving: AtomicBool::new(false),
            slot: Mutex::default(),
            held: AtomicU64::new(0),
            counts: LinkCounts::default(),
        }
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Whether a connection stood once.
    pub(crate) fn was_connected(&self) -> bool {
        self.counts.connections.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn live(&self) -> Option<Arc<Session>> {
        self.slot.lock().live.clone()
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::SeqCst)
    }

    pub(crate) fn last_error(&self) -> Option<Error> {
        self.slot.lock().last_error.clone()
    }

    /// Lets no further connection come up; one that is being made ends.
    fn stop_connecting(&self) {
        let mut slot = self.slot.lock();
        slot.stopping = true;
        let dialing = slot.dialing.take();
        drop(slot);
        if let Some(closer) = dialing {
            closer.shutdown();
        }
    }

    fn watch(&self, closer: Closer) -> bool {
        let mut slot = self.slot.lock();
        slot.dialing = Some(closer);
        !slot.stopping
    }

    fn go_live(&self, session: &Arc<Session>) -> bool {
        let mut slot = self.slot.lock();
        slot.dialing = None;
        if !slot.stopping {
            slot.live = Some(session.clone());
            add(&self.counts.connections, 1);
        }
        !slot.stopping
    }

    fn failed(&self, error: &Error) {
        let mut slot = self.slot.lock();
        (slot.dialing, slot.live) = (None, None);
        // The end that a stop brings is no error.
        if !slot.stopping {
            slot.last_error = Some(error.clone());
        }
    }
}

impl Shared {
    pub(crate) fn new(config: ConsumerConfig) -> Self {
        let addresses = config.nsqd_addresses.iter().enumerate();
        let slots: Slots =
            addresses.map(|(number, addr)| Some(Arc::new(Link::new(addr, None, number)))).collect();
        Self {
            budget: Mutex::new(Planner::new(u64::from(config.max_in_flight))),
            queue: Queue::new(),
            links: Mutex::new(LinkTable { slots, closed: false, departed: Departed::default() }),
            stopping: AtomicBool::new(false),
            attention: AtomicBool::new(false),
            progress: Mutex::new(()),
            progressed: Condvar::new(),
            started: Instant::now(),
            config,
        }
    }

    /// The slots as they are now.
    pub(crate) fn slots(&self) -> Slots {
        self.links.lock().slots.clone()
    }

    /// The links as they are now.
    pub(crate) fn links(&self) -> impl Iterator<Item = Arc<Link>> + use<> {
        let slots = self.slots();
        (0..slots.len()).filter_map(move |index| slots[index].clone())
    }

    /// What was done with links that are gone.
    pub(crate) fn departed(&self) -> Departed {
        self.links.lock().departed
    }

    /// Gives a link a slot; false when none may come any more.
    pub(crate) fn add_link(&self, link: &Arc<Link>) -> bool {
        let mut table = self.links.lock();
        if table.closed {
            drop(table);
            link.stop_connecting();
            return false;
        }
        let mut slots = table.slots.to_vec();
        match slots.iter_mut().find(|slot| slot.is_none()) {
            Some(free) => *free = Some(link.clone()),
            None => slots.push(Some(link.clone())),
        }
        table.slots = slots.into();
        true
    }

    /// Takes the link, which has no connection and gets none any more, out of its slot as soon as nothing of it is
    /// held: until then it takes room.
    pub(crate) fn remove_link(&self, link: &Link) {
        link.leaving.store(true, Ordering::SeqCst);
        self.clear_slots();
    }

    /// Clears the slots of links that are to leave and can.
    pub(crate) fn clear_slots(&self) {
        let leaves = |link: &Arc<Link>| link.leaving.load(Ordering::SeqCst) && link.held() == 0;
        let mut table = self.links.lock();
        if !table.slots.iter().flatten().any(leaves) {
            return;
        }
        let mut slots = table.slots.to_vec();
        for slot in &mut slots {
            if let Some(link) = slot.take_if(|link| leaves(link)) {
                let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                let departed = &mut table.departed;
                departed.nsqds += u64::from(read(&link.counts.connections) > 0);
                departed.messages += read(&link.counts.messages);
                departed.finished += read(&link.counts.finished);
                departed.requeued += read(&link.counts.requeued);
            }
        }
        while slots.last().is_some_and(Option::is_none) {
            slots.pop();
        }
        table.slots = slots.into();
    }

    /// Lets no further connection come up; those that are being made end.
    pub(crate) fn stop_connecting(&self) {
        let slots = {
            let mut table = self.links.lock();
            table.closed = true;
            table.slots.clone()
        };
        slots.iter().flatten().for_each(|link| link.stop_connecting());
    }

    pub(crate) fn held(&self) -> u64 {
        self.slots().iter().flatten().map(|link| link.held()).sum()
    }

    /// From now on connections are closed instead of filled.
    pub(crate) fn begin_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.rebalance();
    }

    /// Waits until `done`, which is looked at after each change, or until `deadline`; true when done.
    pub(crate) fn wait_until(&self, deadline: Instant, done: impl Fn() -> bool) -> bool {
        let mut progress = self.progress.lock();
        while !done() {
            if self.progressed.wait_until(&mut progress, deadline).timed_out() {
                return done();
            }
        }
        true
    }

    fn signal(&self) {
        drop(self.progress.lock());
        self.progressed.notify_all();
    }

    /// Some message was answered while somebody waited for that.
    fn answered(&self) {
        if self.stopping.load(Ordering::SeqCst) {
            self.signal();
        } else {
            self.rebalance();
        }
    }

    /// Tells every connection its RDY anew, or CLS during a stop.
    fn rebalance(&self) {
        let mut planner = self.budget.lock();
        let slots = self.slots();
        let live = |slot: &Option<Arc<Link>>| slot.as_ref().and_then(|link| link.live());
        let sessions: Vec<_> = slots.iter().map(live).collect();
        if self.stopping.load(Ordering::SeqCst) {
            // Again, under the lock: a plan that had not seen the stop may have cleared it.
            self.attention.store(true, Ordering::SeqCst);
            sessions.iter().flatten().for_each(|session| session.start_close());
            return;
        }
        let load = |(slot, session): (&Option<Arc<Link>>, &Option<Arc<Session>>)| {
            let in_flight = session.as_ref().map_or(0, |session| session.in_flight());
            let held = slot.as_ref().map_or(0, |link| link.held());
            LinkLoad {
                max_rdy: session.as_ref().map(|session| session.max_rdy),
                in_flight,
                left_over: held.saturating_sub(in_flight),
            }
        };
        // An answer that we miss here finds the flag set, waits for the budget's lock, and plans again.
        self.attention.store(true, Ordering::SeqCst);
        let loads: Vec<_> = slots.iter().zip(&sessions).map(load).collect();
        let (rdy, constrained) = planner.plan(&loads, Instant::now());
        if !constrained && !self.stopping.load(Ordering::SeqCst) {
            self.attention.store(false, Ordering::SeqCst);
        }
        for (session, rdy) in sessions.iter().zip(rdy) {
            if let Some(session) = session {
                session.set_rdy(rdy);
            }
        }
    }

    /// How long ago the last heartbeat of that link came.
    pub(crate) fn heartbeat_age(&self, link: &Link) -> Option<Duration> {
        let ms = link.counts.last_heartbeat_ms.load(Ordering::Relaxed);
        (ms > 0).then(|| self.started.elapsed().saturating_sub(Duration::from_millis(ms)))
    }

    fn connect(&self, link: &Link) -> Result<Subscribed<'_>, Error> {
        let config = &self.config;
        Fresh::connect(&link.addr, &config.connection, &|closer| link.watch(closer))?
            .identify(&config.identify_request())?
            .subscribe(config.topic, config.channel)
    }
}

/// How a connection, or the attempt to make it, ended.
pub(crate) struct Ended {
    pub(crate) error: Error,
    /// It stood, and long enough that the next failure is a first one.
    pub(crate) was_good: bool,
}

/// The body of the thread of a link of the configuration. `first` learns how the first attempt went; `_alive`
/// closes when the thread ends.
pub(crate) fn run_link(
    shared: Arc<Shared>,
    link: Arc<Link>,
    stop: StopToken,
    first: Sender<Result<(), Error>>,
    _alive: Sender<Never>,
) {
    let config = &shared.config.connection;
    let mut backoff = Backoff::new(config.reconnect_min, config.reconnect_max);
    let mut first = Some(first);
    loop {
        // The receiver waits for each link's first outcome; gone means that it gave up.
        let Ended { error, was_good } = run_connection(&shared, &link, &mut || {
            let _ = first.take().map(|first| first.send(Ok(())));
        });
        let mut level = log::Level::Warn;
        if let Some(first) = first.take() {
            let _ = first.send(Err(error.clone()));
            // Whoever starts the consumer is told.
            level = log::Level::Debug;
        }
        if was_good {
            backoff.reset();
        }
        let delay = backoff.next_delay(random());
        if stop.is_stopped() {
            return;
        }
        log::log!(level, "nsqd {}; the next attempt is in {delay:?}", error.to_line());
        if stop.wait(delay) {
            return;
        }
    }
}

/// Connects, and reads until the connection ends; `on_live` is called once it stands.
pub(crate) fn run_connection(
    shared: &Arc<Shared>,
    link: &Arc<Link>,
    on_live: &mut dyn FnMut(),
) -> Ended {
    let began = Instant::now();
    let error = match shared.connect(link) {
        Ok(subscribed) => serve(shared, link, subscribed, on_live),
        Err(error) => error,
    };
    let error = match &link.lookupd {
        Some(lookupd) => error.found_through(lookupd),
        None => error,
    };
    let was_good = link.live().is_some() && began.elapsed() > GOOD_CONNECTION;
    link.failed(&error);
    shared.rebalance();
    shared.signal();
    Ended { error, was_good }
}

/// Runs one connection to its end.
fn serve(
    shared: &Arc<Shared>,
    link: &Arc<Link>,
    subscribed: Subscribed<'_>,
    on_live: &mut dyn FnMut(),
) -> Error {
    let max_rdy = subscribed.response().max_rdy_count.unsigned_abs();
    let Running { connection, reader, writer } = match subscribed.start(link.number) {
        Ok(running) => running,
        Err(error) => return error,
    };
    let session = Arc::new(Session {
        shared: shared.clone(),
        link: link.clone(),
        connection: connection.clone(),
        max_rdy,
        rdy: AtomicU64::new(0),
        peak_rdy: AtomicU64::new(0),
        in_flight: AtomicU64::new(0),
        cls_sent: AtomicBool::new(false),
        close_wait: AtomicBool::new(false),
    });
    let ended = if link.go_live(&session) {
        on_live();
        shared.rebalance();
        let mut sink = Deliver { session: &session, batch: BatchBuilder::new() };
        reader.run(&connection, &mut sink)
    } else {
        connection.close();
        Error::Stopped
    };
    // Its outbox is closed by now, so the writer ends.
    drop(writer);
    ended
}

/// Hands messages over in batches.
struct Deliver<'a> {
    session: &'a Arc<Session>,
    batch: BatchBuilder,
}

impl Deliver<'_> {
    fn hand_over(&mut self) {
        let count = self.batch.len() as u64;
        if count == 0 {
            return;
        }
        let (session, link) = (self.session, &self.session.link);
        add(&link.counts.messages, count);
        link.held.fetch_add(count, Ordering::SeqCst);
        let in_flight = session.in_flight.fetch_add(count, Ordering::SeqCst) + count;
        // A closed queue gives the batch back, and its drop gives the messages back.
        let _ = session.shared.queue.push(self.batch.take(session.clone()));
        if in_flight > session.rdy() {
            session.shared.rebalance();
        }
    }
}

impl FrameSink for Deliver<'_> {
    fn message(&mut self, message: MessageRef<'_>) -> Result<(), Error> {
        // Twice: nsqd takes a message that timed out for answered, and may fill RDY once more before it learns
        // that we want no more.
        let limit = 2 * self.session.peak_rdy.load(Ordering::Relaxed);
        let held = self.session.in_flight() + self.batch.len() as u64;
        if held >= limit {
            let addr = self.session.addr().to_owned();
            let what =
                format!("a message beyond the {held} in flight, with RDY never over {}", limit / 2);
            return Err(Error::Protocol { addr, what });
        }
        if self.batch.len() >= BATCH_MESSAGES || self.batch.body_bytes() >= BATCH_BYTES {
            self.hand_over();
        }
        self.batch.push(message);
        Ok(())
    }

    fn response(&mut self, data: &[u8]) -> Result<(), Error> {
        if data == CLOSE_WAIT && self.session.cls_sent.load(Ordering::SeqCst) {
            // First what came before it: behind the signal, a stop may find nothing held and end the outbox.
            self.hand_over();
            self.session.close_wait.store(true, Ordering::SeqCst);
            self.session.shared.signal();
            return Ok(());
        }
        let what = format!("the response {:.64} to no command", data.escape_ascii());
        Err(Error::Protocol { addr: self.session.addr().to_owned(), what })
    }

    fn error(&mut self, code: ErrorCode, detail: String) -> Result<(), Error> {
        let counts = &self.session.link.counts;
        match code {
            ErrorCode::FinFailed => add(&counts.failed_finishes, 1),
            ErrorCode::ReqFailed => add(&counts.failed_requeues, 1),
            ErrorCode::TouchFailed => add(&counts.failed_touches, 1),
            code => {
                let addr = self.session.addr().to_owned();
                return Err(Error::Refused { addr, command: "a command", code, detail });
            }
        }
        log::debug!("{}: {code} {detail}", self.session.addr());
        Ok(())
    }

    fn heartbeat(&mut self) {
        let ms = self.session.shared.started.elapsed().as_millis();
        let counts = &self.session.link.counts;
        counts.last_heartbeat_ms.store((ms as u64).max(1), Ordering::Relaxed);
    }

    fn read_done(&mut self) -> Result<(), Error> {
        self.hand_over();
        Ok(())
    }
}
