//! A consumer's connections: one link for each nsqd, one session for each connection of a link, and the accounts
//! of what is held.
//!
//! Each link of the configuration has a thread, `nsq-read-N`, that connects, then reads until the connection ends,
//! then waits and connects again; [`crate::client::consumer::discovery`] has the other links, which come and go. Everything else here runs on the threads of the callers.
//!
//! Lock order: budget, then the table of links, then a link's slot, then a session's pace or touches, then an
//! outbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use parking_lot::{Condvar, Mutex};

use crate::client::config::ConsumerConfig;
use crate::client::consumer::delivery::{Batch, BatchBuilder};
use crate::client::consumer::queue::Queue;
use crate::codec::command::Command;
use crate::codec::error_code::ErrorCode;
use crate::codec::frame::CLOSE_WAIT;
use crate::codec::message::{MessageId, MessageRef};
use crate::error::Error;
use crate::flow::backoff::Gate;
use crate::flow::pace::{Pace, Read};
use crate::flow::policy::{BackoffStats, Budget, Pause, RdyMode, Waker};
use crate::flow::rdy::{Hold, LinkLoad};
use crate::flow::retry::{Backoff, random};
use crate::flow::touch::Touches;
use crate::io::connection::{Connection, FrameSink, Fresh, Running, Subscribed};
use crate::io::transport::Closer;
use crate::thread::{Never, StopToken};

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
    /// After that many ms. A failure leads to backoff.
    Requeue {
        delay_ms: u64,
        failure: bool,
    },
}

/// Which batch of a session a message came in, and when.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    /// Of the session's batches.
    pub(crate) number: u64,
    /// Of the consumer's backoff.
    pub(crate) epoch: u64,
}

/// What the threads of a consumer share.
pub(crate) struct Shared {
    pub(crate) config: ConsumerConfig,
    pub(crate) queue: Queue<Batch>,
    links: Mutex<LinkTable>,
    budget: Mutex<Budget>,
    pub(crate) waker: Waker,
    /// The backoff's epoch, and whether it waits for a message of that epoch to be finished.
    epoch: AtomicU64,
    probing: AtomicBool,
    /// Messages given up.
    pub(crate) gave_up: AtomicU64,
    /// Messages handed over and not answered, of all links, and the most that there were.
    pub(crate) in_flight: AtomicU64,
    pub(crate) peak_in_flight: AtomicU64,
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
    /// Those of them that no worker has taken yet.
    queued: AtomicU64,
    /// Batches handed over.
    batches: AtomicU64,
    /// How many are wanted; none with a fixed RDY.
    pace: Option<Mutex<Pace>>,
    /// RDY messages were in flight: the answer that changes that tells the pace.
    full: AtomicBool,
    /// The flow thread will look at the pace soon.
    ticking: AtomicBool,
    /// What is to be touched, and whether it is at all.
    touches: Option<Mutex<Touches>>,
    /// Why RDY is 0: a [`Hold`] as [`hold_code`] has it.
    hold: AtomicU8,
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

    /// Answers `count` messages, `ids`, with what `encode` appends.
    pub(crate) fn answer(
        &self,
        (count, ids): (u64, impl Iterator<Item = MessageId>),
        origin: Origin,
        answer: Answer,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let counts = &self.link.counts;
        if let Some(touches) = &self.touches {
            touches.lock().remove(origin.number, ids);
        }
        // Before the answer goes out, or the message that it makes room for could be counted first.
        let in_flight = self.in_flight.fetch_sub(count, Ordering::SeqCst) - count;
        self.shared.in_flight.fetch_sub(count, Ordering::SeqCst);
        let counter = match (self.connection.outbox.append(encode), answer) {
            (false, _) => &counts.lost_answers,
            (true, Answer::Finish) => &counts.finished,
            (true, Answer::Requeue { .. }) => &counts.requeued,
        };
        add(counter, count);
        if self.full.load(Ordering::SeqCst) && in_flight < self.rdy() {
            self.has_room();
        }
        // After it, or a stop could find nothing held and close the outbox in between. Sequentially consistent, as
        // is the flag: either we see the flag, or its setter sees our count.
        self.link.held.fetch_sub(count, Ordering::SeqCst);
        if self.shared.attention.load(Ordering::SeqCst) {
            self.shared.answered();
        }
        self.shared.outcome(origin.epoch, answer);
    }

    /// A worker took messages out of the queue.
    pub(crate) fn taken(&self, count: u64) {
        self.queued.fetch_sub(count, Ordering::Relaxed);
    }

    /// Fewer than RDY messages are in flight again.
    fn has_room(&self) {
        let Some(pace) = &self.pace else { return };
        if self.full.swap(false, Ordering::SeqCst) {
            let mut pace = pace.lock();
            pace.room(Instant::now());
            let ticks = pace.next_tick().is_some();
            drop(pace);
            self.expect_tick(ticks);
        }
    }

    /// Sees to it that the flow thread looks at the pace in time.
    fn expect_tick(&self, ticks: bool) {
        if ticks && !self.ticking.swap(true, Ordering::SeqCst) {
            self.shared.waker.wake();
        }
    }

    /// Time has passed: whether the pace wants another RDY now, and when it is to be asked again.
    fn tick(&self, now: Instant) -> (bool, Option<Instant>) {
        let Some(pace) = &self.pace else { return (false, None) };
        let mut pace = pace.lock();
        let changed = pace.tick(self.in_flight(), now);
        let next = pace.next_tick();
        // Under the lock: whoever changes the pace next sees it.
        self.ticking.store(next.is_some(), Ordering::SeqCst);
        (changed, next)
    }

    /// Touches what is due, and says when to ask again.
    fn touch_due(&self, now: Instant) -> Option<Instant> {
        let touches = self.touches.as_ref()?;
        // The lock is held while the commands are appended, so that no TOUCH goes out behind its message's FIN.
        touches.lock().due(now, |ids| {
            self.touch(ids.len() as u64, |out| {
                ids.iter().for_each(|id| Command::Touch(*id).encode(out));
            });
        })
    }

    /// Whether messages come so long after RDY 0 that others were given their room: they must go back.
    fn is_too_late(&self, count: u64) -> bool {
        let gave_way = matches!(self.pause(), Some(Pause::OthersTurn | Pause::MaxInFlight));
        let all = self.shared.in_flight.load(Ordering::SeqCst) + count;
        gave_way && all > u64::from(self.shared.config.max_in_flight)
    }

    /// Accounts for a batch that is about to be handed over; true if another RDY is wanted for it.
    fn arrived(&self, messages: &[MessageRef<'_>; 1], count: u64, first_of_read: bool) -> bool {
        let before = self.in_flight.fetch_add(count, Ordering::SeqCst);
        let all = self.shared.in_flight.fetch_add(count, Ordering::SeqCst) + count;
        self.shared.peak_in_flight.fetch_max(all, Ordering::Relaxed);
        let queued = self.queued.fetch_add(count, Ordering::Relaxed);
        let timed_out = before + count > self.rdy();
        let Some(pace) = &self.pace else { return timed_out };
        let mut pace = pace.lock();
        let changed = if first_of_read {
            let [first] = messages;
            let read = Read {
                in_flight: before,
                messages: count,
                published_ns: (first.attempts <= 1).then_some(first.timestamp_ns),
                queued,
                starving: self.shared.queue.is_starving(),
            };
            pace.read(read, Instant::now())
        } else {
            pace.more(before, count);
            false
        };
        let ticks = pace.next_tick().is_some();
        drop(pace);
        // Before the batch is handed over, so that its answer finds the flag.
        self.full.store(before + count >= self.rdy(), Ordering::SeqCst);
        self.expect_tick(ticks);
        changed || timed_out
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

    fn set_rdy(&self, rdy: u64, hold: Option<Hold>) {
        self.hold.store(hold_code(hold), Ordering::Relaxed);
        if self.rdy.swap(rdy, Ordering::SeqCst) == rdy {
            return;
        }
        self.peak_rdy.fetch_max(rdy, Ordering::Relaxed);
        self.connection.outbox.append(|out| Command::Rdy(rdy).encode(out));
        if let Some(pace) = &self.pace {
            let mut pace = pace.lock();
            let in_flight = self.in_flight();
            pace.told(rdy, in_flight, Instant::now());
            self.full.store(in_flight >= rdy, Ordering::SeqCst);
            let ticks = pace.next_tick().is_some();
            drop(pace);
            self.expect_tick(ticks);
            // What was answered before the flag was set did not see it.
            if rdy > 0 && self.in_flight() < rdy {
                self.has_room();
            }
        }
    }

    /// How many messages the connection should have in flight.
    fn want(&self) -> u64 {
        self.pace.as_ref().map_or(u64::MAX, |pace| pace.lock().want())
    }

    pub(crate) fn pause(&self) -> Option<Pause> {
        if self.cls_sent.load(Ordering::SeqCst) {
            return Some(Pause::Stopping);
        }
        hold_of(self.hold.load(Ordering::Relaxed)).map(Pause::from)
    }

    fn start_close(&self) {
        if !self.cls_sent.swap(true, Ordering::SeqCst) {
            self.rdy.store(0, Ordering::Relaxed);
            self.connection.outbox.append(|out| Command::Cls.encode(out));
        }
    }
}

const HOLDS: [Hold; 4] = [Hold::Backoff, Hold::Turn, Hold::Room, Hold::TimedOut];

/// A hold as a number: 0 is none.
fn hold_code(hold: Option<Hold>) -> u8 {
    hold.and_then(|hold| HOLDS.iter().position(|other| *other == hold)).map_or(0, |at| at as u8 + 1)
}

fn hold_of(code: u8) -> Option<Hold> {
    HOLDS.get(usize::from(code).checked_sub(1)?).copied()
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
            budget: Mutex::new(Budget::new(&config)),
            waker: Waker::new(),
            epoch: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            gave_up: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            peak_in_flight: AtomicU64::new(0),
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
        self.rebalance_with(&mut self.budget.lock());
    }

    fn rebalance_with(&self, budget: &mut Budget) {
        let slots = self.slots();
        let live = |slot: &Option<Arc<Link>>| slot.as_ref().and_then(|link| link.live());
        let sessions: Vec<_> = slots.iter().map(live).collect();
        self.epoch.store(budget.backoff.epoch(), Ordering::SeqCst);
        self.probing.store(budget.backoff.gate() == Gate::Probe, Ordering::SeqCst);
        if self.stopping.load(Ordering::SeqCst) {
            // Again, under the lock: a plan that had not seen the stop may have cleared it.
            self.attention.store(true, Ordering::SeqCst);
            sessions.iter().flatten().for_each(|session| session.start_close());
            budget.next_plan = None;
            return;
        }
        let load = |(slot, session): (&Option<Arc<Link>>, &Option<Arc<Session>>)| {
            let in_flight = session.as_ref().map_or(0, |session| session.in_flight());
            let held = slot.as_ref().map_or(0, |link| link.held());
            LinkLoad {
                max_rdy: session.as_ref().map(|session| session.max_rdy),
                want: session.as_ref().map_or(0, |session| session.want()),
                in_flight,
                left_over: held.saturating_sub(in_flight),
                messages: slot
                    .as_ref()
                    .map_or(0, |link| link.counts.messages.load(Ordering::Relaxed)),
            }
        };
        // An answer that we miss here finds the flag set, waits for the budget's lock, and plans again.
        self.attention.store(true, Ordering::SeqCst);
        let loads: Vec<_> = slots.iter().zip(&sessions).map(load).collect();
        let plan = budget.planner.plan(&loads, budget.backoff.gate(), Instant::now());
        if !plan.constrained && !self.stopping.load(Ordering::SeqCst) {
            self.attention.store(false, Ordering::SeqCst);
        }
        for (session, told) in sessions.iter().zip(plan.links) {
            if let Some(session) = session {
                session.set_rdy(told.rdy, told.hold);
            }
        }
        let next = plan.next.into_iter().chain(budget.backoff.shut_until()).min();
        if next.is_some() && next != budget.next_plan {
            self.waker.wake();
        }
        budget.next_plan = next;
    }

    /// Messages of that epoch were answered: what it means for the backoff.
    fn outcome(&self, epoch: u64, answer: Answer) {
        let failure = matches!(answer, Answer::Requeue { failure: true, .. });
        let success = matches!(answer, Answer::Finish) && self.probing.load(Ordering::SeqCst);
        if !failure && !success || epoch != self.epoch.load(Ordering::SeqCst) {
            return;
        }
        let (now, mut budget) = (Instant::now(), self.budget.lock());
        let changed = if failure {
            budget.backoff.failure(epoch, now, random())
        } else {
            budget.backoff.success(epoch, now)
        };
        if changed {
            self.rebalance_with(&mut budget);
        }
    }

    /// Does what is due, and says when the next thing is. Runs on the flow thread.
    pub(crate) fn tick(&self, now: Instant) -> Option<Instant> {
        let sessions: Vec<_> = self.links().filter_map(|link| link.live()).collect();
        let mut next: Option<Instant> = None;
        let mut changed = false;
        for session in &sessions {
            let (wants_other, tick) = session.tick(now);
            changed |= wants_other;
            next = next.into_iter().chain(tick).chain(session.touch_due(now)).min();
        }
        let mut budget = self.budget.lock();
        changed |= budget.backoff.tick(now);
        changed |= budget.next_plan.is_some_and(|due| due <= now);
        if changed {
            self.rebalance_with(&mut budget);
        }
        next.into_iter().chain(budget.next_plan).min()
    }

    pub(crate) fn backoff_stats(&self) -> BackoffStats {
        self.budget.lock().stats(Instant::now())
    }

    /// How long ago the last heartbeat of that link came.
    pub(crate) fn heartbeat_age(&self, link: &Link) -> Option<Duration> {
        let ms = link.counts.last_heartbeat_ms.load(Ordering::Relaxed);
        (ms > 0).then(|| self.started.elapsed().saturating_sub(Duration::from_millis(ms)))
    }

    fn connect(&self, link: &Link) -> Result<Subscribed<'_>, Error> {
        let config = &self.config;
        let connect =
            || Fresh::connect(&link.addr, &config.connection, &|closer| link.watch(closer));
        let identified = match connect()?.identify(&config.identify_request()) {
            // An nsqd can be told not to take such an output buffer; it closes over that.
            Err(Error::Refused { detail, .. }) if detail.contains("output buffer") => {
                connect()?.identify(&config.plain_identify_request())
            }
            identified => identified,
        };
        identified?.subscribe(config.topic, config.channel)
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
    let response = subscribed.response();
    let max_rdy = response.max_rdy_count.unsigned_abs();
    let ms = |ms: i64| Duration::from_millis(ms.max(1).unsigned_abs());
    let touches = Touches::new(ms(response.msg_timeout), ms(response.max_msg_timeout));
    let pace = Pace::new(max_rdy, Instant::now());
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
        queued: AtomicU64::new(0),
        batches: AtomicU64::new(0),
        pace: (shared.config.rdy == RdyMode::Adaptive).then_some(Mutex::new(pace)),
        full: AtomicBool::new(false),
        ticking: AtomicBool::new(false),
        touches: shared.config.auto_touch.then_some(Mutex::new(touches)),
        hold: AtomicU8::new(0),
        cls_sent: AtomicBool::new(false),
        close_wait: AtomicBool::new(false),
    });
    let ended = if link.go_live(&session) {
        on_live();
        shared.rebalance();
        let mut sink = Deliver {
            session: &session,
            batch: BatchBuilder::new(),
            first_of_read: true,
            most: BATCH_MESSAGES,
        };
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
    /// The batch is the first that the present read brings.
    first_of_read: bool,
    /// Messages in one batch at most.
    most: usize,
}

impl Deliver<'_> {
    fn hand_over(&mut self) {
        let count = self.batch.len() as u64;
        let Some(first) = self.batch.first() else { return };
        let (session, link) = (self.session, &self.session.link);
        let shared = &session.shared;
        add(&link.counts.messages, count);
        if session.is_too_late(count) {
            add(&link.counts.requeued, count);
            session.connection.outbox.append(|out| {
                self.batch.ids().for_each(|id| Command::Req(id, 0).encode(out));
            });
            self.batch.clear();
            return;
        }
        link.held.fetch_add(count, Ordering::SeqCst);
        let replan = session.arrived(&[first], count, std::mem::take(&mut self.first_of_read));
        let origin = Origin {
            number: session.batches.fetch_add(1, Ordering::Relaxed),
            epoch: shared.epoch.load(Ordering::SeqCst),
        };
        if let Some(touches) = &session.touches {
            let ids = self.batch.ids().collect();
            let mut touches = touches.lock();
            let had_none = touches.is_empty();
            touches.add(origin.number, ids, Instant::now());
            drop(touches);
            if had_none {
                shared.waker.wake();
            }
        }
        // A closed queue gives the batch back, and its drop gives the messages back.
        let _ = shared.queue.push(self.batch.take(session.clone(), origin));
        if replan {
            shared.rebalance();
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
        if self.batch.len() >= self.most || self.batch.body_bytes() >= BATCH_BYTES {
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
        self.first_of_read = true;
        // Each worker's part of what may come, or one of them would get all that a low RDY lets through.
        let workers = self.session.shared.queue.receivers().max(1);
        let part = usize::try_from(self.session.rdy()).unwrap_or(usize::MAX).div_ceil(workers);
        self.most = part.clamp(1, BATCH_MESSAGES);
        Ok(())
    }
}
