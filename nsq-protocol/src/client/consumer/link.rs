//! One nsqd of a consumer, over all its connections. Its thread connects; any thread looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::client::consumer::counts::{LinkCounts, add, read};
use crate::client::consumer::session::Session;
use crate::client::event::Event;
use crate::error::Error;
use crate::io::transport::Closer;

/// One nsqd of a consumer.
pub(crate) struct Link {
    pub(crate) addr: Arc<str>,
    /// The nsqlookupd that named it; none for one of the configuration.
    pub(crate) lookupd: Option<Arc<str>>,
    /// For the names of its threads.
    pub(crate) number: usize,
    /// It is to leave its slot once nothing of it is held.
    leaving: AtomicBool,
    state: Mutex<LinkState>,
    /// Messages handed over and not answered, of all its connections.
    held: AtomicU64,
    pub(crate) counts: Arc<LinkCounts>,
}

#[derive(Default)]
struct LinkState {
    stopping: bool,
    dialing: Option<Closer>,
    live: Option<Arc<Session>>,
    last_error: Option<Error>,
}

impl Link {
    pub(crate) fn new(addr: &str, lookupd: Option<Arc<str>>, number: usize, now: Instant) -> Self {
        Self {
            addr: addr.into(),
            lookupd,
            number,
            leaving: AtomicBool::new(false),
            state: Mutex::default(),
            held: AtomicU64::new(0),
            counts: Arc::new(LinkCounts::new(now)),
        }
    }

    /// Whether a connection stood once.
    pub(crate) fn was_connected(&self) -> bool {
        read(&self.counts.connections) > 0
    }

    /// The connection that stands, if one does.
    pub(crate) fn live(&self) -> Option<Arc<Session>> {
        self.state.lock().live.clone()
    }

    /// The connection that stands and is not being closed in order, if one is.
    pub(crate) fn receiving(&self) -> Option<Arc<Session>> {
        self.live().filter(|session| !session.is_closing())
    }

    /// Messages handed over and not answered, of all its connections.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::SeqCst)
    }

    /// Messages are about to be handed over.
    pub(crate) fn hold(&self, count: u64) {
        self.held.fetch_add(count, Ordering::SeqCst);
    }

    /// Messages were answered.
    pub(crate) fn release(&self, count: u64) {
        self.held.fetch_sub(count, Ordering::SeqCst);
    }

    /// Why the last connection, or attempt, ended.
    pub(crate) fn last_error(&self) -> Option<Error> {
        self.state.lock().last_error.clone()
    }

    /// It is not wanted any more.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
    }

    /// Whether it is not wanted any more.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// Whether it is not wanted any more and nothing of it is held.
    pub(crate) fn can_leave(&self) -> bool {
        self.is_leaving() && self.held() == 0
    }

    /// Lets no further connection come up; one that is being made ends.
    pub(crate) fn stop_connecting(&self) {
        let mut state = self.state.lock();
        state.stopping = true;
        let dialing = state.dialing.take();
        drop(state);
        if let Some(closer) = dialing {
            closer.shutdown();
        }
    }

    /// A connection is being made: `closer` ends that. False when none is to come up any more.
    pub(crate) fn watch(&self, closer: Closer) -> bool {
        let mut state = self.state.lock();
        state.dialing = Some(closer);
        !state.stopping
    }

    /// A connection stands. False when it came too late, and is to be closed.
    pub(crate) fn go_live(&self, session: &Arc<Session>) -> bool {
        let mut state = self.state.lock();
        state.dialing = None;
        if !state.stopping {
            state.live = Some(session.clone());
            add(&self.counts.connections, 1);
        }
        !state.stopping
    }

    /// The connection, or the attempt to make it, ended: what to tell of it, unless it was to end.
    pub(crate) fn failed(&self, error: &Error) -> Option<Event> {
        let mut state = self.state.lock();
        let live = state.live.take();
        state.dialing = None;
        // The end that a stop brings is no error.
        if state.stopping {
            return None;
        }
        state.last_error = Some(error.clone());
        let (nsqd, error) = (self.addr.to_string(), error.clone());
        Some(match live {
            Some(_) => Event::Lost { nsqd, error },
            None => Event::ConnectFailed { nsqd, error },
        })
    }

    /// What to tell once a connection stands.
    pub(crate) fn connected(&self) -> Event {
        Event::Connected { nsqd: self.addr.to_string(), again: read(&self.counts.connections) > 1 }
    }
}
