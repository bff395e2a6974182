//! Shares `max_in_flight` and the backoff between a consumer's connections: it plans RDY anew when something has
//! changed, and tells each connection. What it decides by is in [`crate::flow`], pure.
//!
//! Runs on whatever thread has changed something: a reader, a worker, or the thread that stops the consumer. The
//! thread `nsq-flow` ([`FlowControl::run`]) acts when only time has passed; it sleeps until something is due, which
//! for a consumer with nothing in flight and no backoff is for ever.
//!
//! Lock order: budget, then the table of links, then a link's state, then a session's pace or touches, then an
//! outbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select};
use parking_lot::{Condvar, Mutex};

use crate::client::clock::random;
use crate::client::consumer::counts::read;
use crate::client::consumer::link::Link;
use crate::client::consumer::link_table::{LinkTable, Slots};
use crate::client::consumer::session::{Answer, Session};
use crate::client::consumer::waker::{Waker, waker};
use crate::client::event::{Event, Events};
use crate::flow::backoff::Gate;
use crate::flow::budget::Budget;
use crate::flow::policy::{BackoffStats, Pause};
use crate::flow::rdy::LinkLoad;
use crate::thread::StopToken;

/// The longest sleep: a clock that jumps must not be waited for.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// How long a message may come behind CLOSE_WAIT: nsqd answers CLS on one goroutine while another may be about to
/// write one more message. Not answered, that message would be stuck for its msg-timeout.
pub(crate) const LATE_MESSAGE: Duration = Duration::from_millis(10);

/// The flow of messages over all connections of one consumer.
pub(crate) struct FlowControl {
    pub(crate) links: LinkTable,
    events: Events,
    /// Changed under the lock of the budget.
    max_in_flight: AtomicU64,
    budget: Mutex<Budget>,
    /// Wakes the flow thread.
    pub(crate) waker: Waker,
    woken: Receiver<()>,
    /// The backoff's epoch, and whether it waits for a message of that epoch to be finished.
    epoch: AtomicU64,
    probing: AtomicBool,
    /// Messages handed over and not answered, of all links, and the most that there were.
    in_flight: AtomicU64,
    peak_in_flight: AtomicU64,
    /// Messages that can be worked on at one time: the threads of [`crate::Consumer::run`].
    workers: AtomicU64,
    /// The same, as far as messages are gathered: the most that [`crate::Batches::recv_many`] asked for.
    gathered: AtomicU64,
    stopping: AtomicBool,
    /// Links that leave in order, and wait for their answers.
    leaving_links: AtomicU64,
    /// Answers must look whether somebody waits for them: a link below its share, or a stop.
    attention: AtomicBool,
    /// Changes of what a stop waits for.
    progress: Mutex<()>,
    progressed: Condvar,
}

impl FlowControl {
    pub(crate) fn new(
        links: LinkTable,
        max_in_flight: u32,
        budget: Budget,
        events: Events,
    ) -> Self {
        let (waker, woken) = waker();
        Self {
            links,
            events,
            max_in_flight: AtomicU64::new(u64::from(max_in_flight)),
            budget: Mutex::new(budget),
            waker,
            woken,
            epoch: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            in_flight: AtomicU64::new(0),
            peak_in_flight: AtomicU64::new(0),
            workers: AtomicU64::new(0),
            gathered: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            leaving_links: AtomicU64::new(0),
            attention: AtomicBool::new(false),
            progress: Mutex::new(()),
            progressed: Condvar::new(),
        }
    }

    /// The backoff's epoch, to be put on messages that come now.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Messages handed over and not answered, of all links.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// The most that there were at any time.
    pub(crate) fn peak_in_flight(&self) -> u64 {
        self.peak_in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn backoff_stats(&self) -> BackoffStats {
        self.budget.lock().stats(Instant::now())
    }

    /// Messages that may be in flight over all links.
    pub(crate) fn max_in_flight(&self) -> u64 {
        self.max_in_flight.load(Ordering::SeqCst)
    }

    pub(crate) fn set_max_in_flight(&self, messages: u32) {
        let mut budget = self.budget.lock();
        self.max_in_flight.store(u64::from(messages), Ordering::SeqCst);
        budget.planner.set_max_in_flight(u64::from(messages));
        self.rebalance_with(&mut budget);
    }

    /// Whether messages are asked for, as far as the caller is concerned.
    pub(crate) fn pause(&self, paused: bool) {
        let mut budget = self.budget.lock();
        budget.paused = paused;
        self.rebalance_with(&mut budget);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.budget.lock().paused
    }

    /// From now on so many messages can be worked on at one time.
    pub(crate) fn expect_workers(&self, workers: u64) {
        self.workers.store(workers, Ordering::SeqCst);
        self.tell_at_once();
    }

    /// So many messages are gathered before they are answered.
    pub(crate) fn expect_gathered(&self, messages: u64) {
        if self.gathered.fetch_max(messages, Ordering::SeqCst) < messages {
            self.tell_at_once();
        }
    }

    fn tell_at_once(&self) {
        let messages = self.at_once();
        self.links.live().for_each(|session| session.expect_workers(messages));
        self.rebalance();
    }

    /// Messages that can be held at one time with a use.
    pub(crate) fn at_once(&self) -> u64 {
        self.workers().max(self.gathered.load(Ordering::SeqCst))
    }

    /// Whether nothing more can come before something is answered.
    pub(crate) fn is_full(&self) -> bool {
        self.in_flight() >= self.max_in_flight()
    }

    /// Messages that can be worked on at one time.
    pub(crate) fn workers(&self) -> u64 {
        self.workers.load(Ordering::SeqCst)
    }

    /// Whether `count` messages come so long after RDY 0 that others were given their room: they must go back.
    pub(crate) fn is_too_late(&self, session: &Session, count: u64) -> bool {
        let gave_way = matches!(session.pause(), Some(Pause::OthersTurn | Pause::MaxInFlight));
        gave_way && self.in_flight() + count > self.max_in_flight()
    }

    /// Messages are about to be handed over.
    pub(crate) fn arrived(&self, count: u64) {
        let all = self.in_flight.fetch_add(count, Ordering::SeqCst) + count;
        self.peak_in_flight.fetch_max(all, Ordering::Relaxed);
    }

    /// Messages are about to be answered.
    pub(crate) fn leaving(&self, count: u64) {
        self.in_flight.fetch_sub(count, Ordering::SeqCst);
    }

    /// Messages that came in `epoch` were answered, and their link knows.
    pub(crate) fn answered(&self, epoch: u64, answer: Answer) {
        if self.attention.load(Ordering::SeqCst) {
            if self.is_waited_for() {
                self.signal();
            }
            if !self.stopping.load(Ordering::SeqCst) {
                self.rebalance();
            }
        }
        self.back_off(epoch, answer);
    }

    /// What the answer to messages of that epoch means for the backoff.
    fn back_off(&self, epoch: u64, answer: Answer) {
        let failure = matches!(answer, Answer::Requeue { failure: true, .. });
        let success = matches!(answer, Answer::Finish) && self.probing.load(Ordering::SeqCst);
        if !failure && !success || epoch != self.epoch() {
            return;
        }
        let (now, mut budget) = (Instant::now(), self.budget.lock());
        let changed = if failure {
            budget.backoff.failure(epoch, now, random())
        } else {
            budget.backoff.success(epoch, now)
        };
        if !changed {
            return;
        }
        self.rebalance_with(&mut budget);
        let BackoffStats { level, ends_in, .. } = budget.stats(now);
        drop(budget);
        self.events.tell(match ends_in {
            Some(wait) => Event::Backoff { level, wait },
            None => Event::Resumed,
        });
    }

    /// From now on connections are closed instead of filled.
    pub(crate) fn begin_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.rebalance();
    }

    /// Whether a stop of all or of one link waits for answers.
    fn is_waited_for(&self) -> bool {
        self.stopping.load(Ordering::SeqCst) || self.leaving_links.load(Ordering::SeqCst) > 0
    }

    /// Has the link's nsqd send no more, and waits until all that came from it is answered or `deadline` has passed.
    /// It connects no more.
    pub(crate) fn drain_link(&self, link: &Link, deadline: Instant) {
        self.leaving_links.fetch_add(1, Ordering::SeqCst);
        link.stop_connecting();
        if let Some(session) = link.live() {
            session.start_close();
        }
        self.rebalance();
        self.wait_until(deadline, || link.live().is_none_or(|session| session.is_drained()));
        let late = deadline.min(Instant::now() + LATE_MESSAGE);
        self.wait_until(late, || link.live().is_none());
        self.wait_until(deadline, || link.held() == 0 || link.live().is_none());
        self.leaving_links.fetch_sub(1, Ordering::SeqCst);
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

    /// Something that a stop may wait for has changed.
    pub(crate) fn signal(&self) {
        drop(self.progress.lock());
        self.progressed.notify_all();
    }

    /// Tells every connection its RDY anew, or CLS during a stop.
    pub(crate) fn rebalance(&self) {
        self.rebalance_with(&mut self.budget.lock());
    }

    fn rebalance_with(&self, budget: &mut Budget) {
        let slots = self.links.slots();
        let sessions: Vec<_> =
            slots.iter().map(|slot| slot.as_ref().and_then(|link| link.receiving())).collect();
        self.epoch.store(budget.backoff.epoch(), Ordering::SeqCst);
        self.probing.store(budget.backoff.gate() == Gate::Probe, Ordering::SeqCst);
        // Answers that the plan below does not count find the flag set, wait for the budget's lock, and plan again.
        self.attention.store(true, Ordering::SeqCst);
        if self.stopping.load(Ordering::SeqCst) {
            sessions.iter().flatten().for_each(|session| session.start_close());
            budget.stop();
            return;
        }
        let plan = budget.plan(&loads(&slots, &sessions), Instant::now());
        // A stop needs the flag: it waits for answers.
        if !plan.constrained && !self.is_waited_for() {
            self.attention.store(false, Ordering::SeqCst);
        }
        for (session, told) in sessions.iter().zip(plan.links) {
            if let Some(session) = session {
                session.set_rdy(told.rdy, told.hold);
            }
        }
        if budget.plan_again_at(plan.next) {
            self.waker.wake();
        }
    }

    /// Does what is due, and says when the next thing is.
    fn tick(&self, now: Instant) -> Option<Instant> {
        let sessions: Vec<_> = self.links.live().collect();
        let mut next: Option<Instant> = None;
        let mut changed = false;
        for session in &sessions {
            let (wants_other, tick) = session.tick(now);
            changed |= wants_other;
            next = next.into_iter().chain(tick).chain(session.touch_due(now)).min();
        }
        let mut budget = self.budget.lock();
        changed |= budget.tick(now);
        if changed {
            self.rebalance_with(&mut budget);
        }
        next.into_iter().chain(budget.next_tick()).min()
    }

    /// The body of the thread `nsq-flow`: until the stop signal is given.
    pub(crate) fn run(&self, stop: &StopToken) {
        loop {
            let now = Instant::now();
            let sleep = match self.tick(now) {
                Some(next) => next.saturating_duration_since(now).min(LONGEST_SLEEP),
                None => LONGEST_SLEEP,
            };
            select! {
                recv(stop.channel()) -> _ => return,
                recv(self.woken) -> _ => {}
                default(sleep) => {}
            }
        }
    }
}

/// What the planner is told of each link, by its slot; an empty slot is a link without a connection.
fn loads(slots: &Slots, sessions: &[Option<Arc<Session>>]) -> Vec<LinkLoad> {
    let load = |(slot, session): (&Option<Arc<Link>>, &Option<Arc<Session>>)| {
        let in_flight = session.as_ref().map_or(0, |session| session.in_flight());
        let held = slot.as_ref().map_or(0, |link| link.held());
        LinkLoad {
            max_rdy: session.as_ref().map(|session| session.max_rdy),
            want: session.as_ref().map_or(0, |session| session.want()),
            in_flight,
            left_over: held.saturating_sub(in_flight),
            messages: slot.as_ref().map_or(0, |link| read(&link.counts.messages)),
        }
    };
    slots.iter().zip(sessions).map(load).collect()
}
