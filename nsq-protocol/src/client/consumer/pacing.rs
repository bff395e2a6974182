//! The pace of one connection ([`crate::flow::pace`]), told of messages by the reader thread, of answers by the
//! workers, and of time by the flow thread.
//!
//! Answers come by far the most often, so that one which changes nothing takes no lock: it looks at a flag.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::client::consumer::waker::Waker;
use crate::flow::pace::{Arrival, Pace};

/// The pace of one connection.
pub(crate) struct Pacing {
    pace: Mutex<Pace>,
    /// RDY messages are in flight: the answer that changes that tells the pace.
    full: AtomicBool,
    /// The flow thread will look at the pace soon.
    ticking: AtomicBool,
    /// Wakes the flow thread.
    waker: Waker,
}

impl Pacing {
    /// Of a connection to which nothing was said of RDY yet; `waker` wakes the flow thread.
    pub(crate) fn new(pace: Pace, waker: Waker) -> Self {
        Self {
            pace: Mutex::new(pace),
            full: AtomicBool::new(false),
            ticking: AtomicBool::new(false),
            waker,
        }
    }

    /// So many messages can be worked on at one time.
    pub(crate) fn expect_workers(&self, workers: u64) {
        self.pace.lock().expect_workers(workers);
    }

    /// How many messages the connection should have in flight.
    pub(crate) fn want(&self) -> u64 {
        self.pace.lock().want()
    }

    /// Messages came, the first ones of a read, where `rdy` tells what nsqd was told. True if another RDY is wanted.
    pub(crate) fn arrived(&self, arrival: Arrival, rdy: impl Fn() -> u64) -> bool {
        let in_flight = arrival.in_flight + arrival.messages;
        self.came(in_flight, rdy, |pace| pace.read(arrival, Instant::now()))
    }

    /// More messages of the same read came, where `before` were in flight.
    pub(crate) fn more(&self, before: u64, messages: u64, rdy: impl Fn() -> u64) {
        self.came(before + messages, rdy, |pace| {
            pace.more(before, messages, Instant::now());
            false
        });
    }

    fn came(
        &self,
        in_flight: u64,
        rdy: impl Fn() -> u64,
        tell: impl FnOnce(&mut Pace) -> bool,
    ) -> bool {
        let mut pace = self.pace.lock();
        let changed = tell(&mut pace);
        let ticks = pace.next_tick().is_some();
        drop(pace);
        // Before the batch is handed over, so that its answer finds the flag.
        self.full.store(in_flight >= rdy(), Ordering::SeqCst);
        self.expect_tick(ticks);
        changed
    }

    /// Messages were answered, and so many are in flight now.
    pub(crate) fn answered(&self, in_flight: u64, rdy: u64) {
        if self.full.load(Ordering::SeqCst) && in_flight < rdy {
            self.has_room();
        }
    }

    /// nsqd was told another RDY; `in_flight` tells how many messages are.
    pub(crate) fn told(&self, rdy: u64, in_flight: impl Fn() -> u64) {
        let mut pace = self.pace.lock();
        let now_in_flight = in_flight();
        pace.told(rdy, now_in_flight, Instant::now());
        self.full.store(now_in_flight >= rdy, Ordering::SeqCst);
        let ticks = pace.next_tick().is_some();
        drop(pace);
        self.expect_tick(ticks);
        // What was answered before the flag was set did not see it.
        if rdy > 0 && in_flight() < rdy {
            self.has_room();
        }
    }

    /// Time has passed: whether another RDY is wanted now, and when to ask again.
    pub(crate) fn tick(&self, in_flight: u64, now: Instant) -> (bool, Option<Instant>) {
        let mut pace = self.pace.lock();
        let changed = pace.tick(in_flight, now);
        let next = pace.next_tick();
        // Under the lock: whoever changes the pace next sees it.
        self.ticking.store(next.is_some(), Ordering::SeqCst);
        (changed, next)
    }

    /// Fewer than RDY messages are in flight again.
    fn has_room(&self) {
        if self.full.swap(false, Ordering::SeqCst) {
            let mut pace = self.pace.lock();
            pace.room(Instant::now());
            let ticks = pace.next_tick().is_some();
            drop(pace);
            self.expect_tick(ticks);
        }
    }

    /// Sees to it that the flow thread looks at the pace in time.
    fn expect_tick(&self, ticks: bool) {
        if ticks && !self.ticking.swap(true, Ordering::SeqCst) {
            self.waker.wake();
        }
    }
}
