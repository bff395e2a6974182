//! The queue between the reader threads and the workers: pushing never waits, receiving does.
//!
//! It has no limit of its own because it needs none: the reader (`reader.rs`) hands over at most twice the RDY of a
//! connection, and closes the connection of a peer that sends more.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Items for any number of receivers, each of which waits for the next.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<QueueState<T>>,
    ready: Condvar,
    /// Changed under the lock, read without it: for those who want an impression only.
    waiting: AtomicUsize,
    receivers: AtomicUsize,
}

#[derive(Debug)]
struct QueueState<T> {
    items: VecDeque<T>,
    closed: bool,
    /// Told of each item, and of the end: they wait for several queues.
    bells: Vec<Arc<Bell>>,
}

/// Wakes somebody who waits for several queues.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    ring: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock() = true;
        self.ring.notify_all();
    }

    /// Waits until it rings, or has since the last wait; false when `deadline` was first.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut rung = self.rung.lock();
        while !*rung {
            match deadline {
                None => self.ring.wait(&mut rung),
                Some(deadline) if self.ring.wait_until(&mut rung, deadline).timed_out() => break,
                Some(_) => {}
            }
        }
        std::mem::take(&mut *rung)
    }
}

/// What a receiver got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received<T, O> {
    /// An item of the queue.
    Item(T),
    /// What was found beside it.
    Other(O),
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// It is closed and drained: nothing will come.
    Ended,
    /// The deadline passed first.
    Late,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        let state = QueueState { items: VecDeque::new(), closed: false, bells: Vec::new() };
        Self {
            state: Mutex::new(state),
            ready: Condvar::new(),
            waiting: AtomicUsize::new(0),
            receivers: AtomicUsize::new(0),
        }
    }

    /// Adds an item, or gives it back when the queue is closed.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(item);
        }
        state.items.push_back(item);
        state.bells.iter().for_each(|bell| bell.ring());
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Puts back what a receiver has too much, as the next item. Also once it is closed: it was in it before.
    pub(crate) fn put_back(&self, item: T) {
        let mut state = self.state.lock();
        state.items.push_front(item);
        state.bells.iter().for_each(|bell| bell.ring());
        drop(state);
        self.ready.notify_one();
    }

    /// From now on the bell rings for each item.
    pub(crate) fn add_bell(&self, bell: &Arc<Bell>) {
        self.state.lock().bells.push(bell.clone());
    }

    /// No more.
    pub(crate) fn remove_bell(&self, bell: &Arc<Bell>) {
        self.state.lock().bells.retain(|other| !Arc::ptr_eq(other, bell));
    }

    /// Somebody begins or ends to wait for an item beside others.
    pub(crate) fn waits_elsewhere(&self, begins: bool) {
        match begins {
            true => self.waiting.fetch_add(1, Ordering::Relaxed),
            false => self.waiting.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// Waits for an item, until `deadline` if there is one.
    pub(crate) fn recv(&self, deadline: Option<Instant>) -> Result<T, Nothing> {
        match self.next(deadline, || None::<Infallible>)? {
            Received::Item(item) => Ok(item),
            Received::Other(never) => match never {},
        }
    }

    /// Waits for what `other` finds, which comes first, or for an item. `other` is asked again after each
    /// [`Queue::wake`].
    pub(crate) fn recv_or<O>(
        &self,
        other: impl Fn() -> Option<O>,
    ) -> Result<Received<T, O>, Nothing> {
        self.next(None, other)
    }

    fn next<O>(
        &self,
        deadline: Option<Instant>,
        other: impl Fn() -> Option<O>,
    ) -> Result<Received<T, O>, Nothing> {
        let mut state = self.state.lock();
        loop {
            if let Some(found) = other() {
                return Ok(Received::Other(found));
            }
            if let Some(item) = state.items.pop_front() {
                return Ok(Received::Item(item));
            }
            if state.closed {
                return Err(Nothing::Ended);
            }
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let late = match deadline {
                None => {
                    self.ready.wait(&mut state);
                    false
                }
                Some(deadline) => self.ready.wait_until(&mut state, deadline).timed_out(),
            };
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            if late && state.items.is_empty() && !state.closed {
                return Err(Nothing::Late);
            }
        }
    }

    /// Has one of those who wait look again.
    pub(crate) fn wake(&self) {
        // Under the lock: who looked before waits by now.
        drop(self.state.lock());
        self.ready.notify_one();
    }

    /// No more items; what is in it can still be received.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.bells.iter().for_each(|bell| bell.ring());
        drop(state);
        self.ready.notify_all();
    }

    /// Takes out all that was not received.
    pub(crate) fn drain(&self) -> VecDeque<T> {
        std::mem::take(&mut self.state.lock().items)
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().items.len()
    }

    pub(crate) fn add_receiver(&self) {
        self.receivers.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether it was the last one of a closed queue: nobody will take what is left.
    pub(crate) fn remove_receiver(&self) -> bool {
        let state = self.state.lock();
        self.receivers.fetch_sub(1, Ordering::SeqCst) == 1 && state.closed
    }

    pub(crate) fn receivers(&self) -> usize {
        self.receivers.load(Ordering::SeqCst)
    }

    pub(crate) fn has_receivers(&self) -> bool {
        let _state = self.state.lock();
        self.receivers() > 0
    }

    /// Whether somebody waits for an item just now.
    pub(crate) fn is_starving(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_queue_gives_what_it_has_and_ends() {
        let queue = Queue::new();
        assert_eq!(queue.recv(Some(Instant::now())), Err(Nothing::Late));
        assert_eq!(queue.push(1), Ok(()));
        queue.close();
        assert_eq!(queue.push(2), Err(2));
        assert_eq!(queue.recv(None), Ok(1));
        assert_eq!(queue.recv(None), Err(Nothing::Ended));
    }

    #[test]
    fn what_is_found_beside_a_queue_comes_first_and_wakes_who_waits() {
        let queue = Queue::new();
        queue.push(1).unwrap();
        let other = Mutex::new(Some("found"));
        let found = || other.lock().take();
        assert_eq!(queue.recv_or(found), Ok(Received::Other("found")));
        assert_eq!(queue.recv_or(found), Ok(Received::Item(1)));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.recv_or(found));
            while !queue.is_starving() {
                std::thread::yield_now();
            }
            *other.lock() = Some("later");
            queue.wake();
            assert_eq!(waiting.join().unwrap(), Ok(Received::Other("later")));
        });
    }

    #[test]
    fn the_last_receiver_of_a_closed_queue_is_told_so() {
        let queue = Queue::<u8>::new();
        queue.add_receiver();
        queue.add_receiver();
        assert!(!queue.remove_receiver());
        queue.close();
        assert!(queue.remove_receiver());
        assert!(!queue.has_receivers());
    }
}
