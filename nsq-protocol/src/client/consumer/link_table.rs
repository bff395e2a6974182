//! The links of a consumer: those of its configuration, and those that come and go with discovery. Any thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use serde::Serialize;

use crate::client::consumer::counts::read;
use crate::client::consumer::link::Link;
use crate::client::consumer::session::Session;

/// A place for each link; a link's number stays the same while it is in its place.
pub(crate) type Slots = Arc<[Option<Arc<Link>>]>;

/// The links of one consumer.
pub(crate) struct LinkTable {
    state: Mutex<TableState>,
    /// Of the next link.
    next_number: AtomicUsize,
}

struct TableState {
    /// Replaced as a whole, so that whoever reads one state needs no lock meanwhile.
    slots: Slots,
    /// No link comes any more.
    closed: bool,
    departed: Departed,
}

/// What was done with nsqds that a consumer has let go: no nsqlookupd names them any more.
///
/// # Example
/// ```
/// use nsq_protocol::ConsumerStats;
///
/// /// FINs over all nsqds, those that are gone included.
/// fn finished(stats: &ConsumerStats) -> u64 {
///     stats.departed.finished + stats.connections.iter().map(|of| of.finished).sum::<u64>()
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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

impl LinkTable {
    pub(crate) fn new(links: impl Iterator<Item = Link>) -> Self {
        let slots: Slots = links.map(|link| Some(Arc::new(link))).collect();
        let (departed, next_number) = (Departed::default(), AtomicUsize::new(slots.len()));
        Self { state: Mutex::new(TableState { slots, closed: false, departed }), next_number }
    }

    /// The number of a link that is not one of the first.
    pub(crate) fn next_number(&self) -> usize {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// The slots as they are now.
    pub(crate) fn slots(&self) -> Slots {
        self.state.lock().slots.clone()
    }

    /// The links as they are now.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Arc<Link>> + use<> {
        let slots = self.slots();
        (0..slots.len()).filter_map(move |index| slots[index].clone())
    }

    /// The connections that stand now.
    pub(crate) fn live(&self) -> impl Iterator<Item = Arc<Session>> + use<> {
        self.iter().filter_map(|link| link.live())
    }

    /// Messages handed over and not answered, of all links.
    pub(crate) fn held(&self) -> u64 {
        self.slots().iter().flatten().map(|link| link.held()).sum()
    }

    /// What was done with links that are gone.
    pub(crate) fn departed(&self) -> Departed {
        self.state.lock().departed
    }

    /// As [`LinkTable::add`], unless there is a link of that address already, which is not about to leave: false then.
    pub(crate) fn add_new(&self, link: &Arc<Link>) -> bool {
        let mut state = self.state.lock();
        let is_same = |other: &&Arc<Link>| other.addr == link.addr && !other.is_leaving();
        let is_new = !state.slots.iter().flatten().any(|other| is_same(&other));
        if is_new {
            Self::add_to(&mut state, link);
        }
        is_new
    }

    /// Gives a link a slot. Once the table is closed, it gets none and cannot connect.
    pub(crate) fn add(&self, link: &Arc<Link>) {
        Self::add_to(&mut self.state.lock(), link);
    }

    fn add_to(state: &mut TableState, link: &Arc<Link>) {
        if state.closed {
            return link.stop_connecting();
        }
        let mut slots = state.slots.to_vec();
        match slots.iter_mut().find(|slot| slot.is_none()) {
            Some(free) => *free = Some(link.clone()),
            None => slots.push(Some(link.clone())),
        }
        state.slots = slots.into();
    }

    /// Takes the link, which has no connection and gets none any more, out of its slot as soon as nothing of it is
    /// held: until then it takes room.
    pub(crate) fn remove(&self, link: &Link) {
        link.leave();
        self.clear_slots();
    }

    /// Clears the slots of links that are to leave and can.
    pub(crate) fn clear_slots(&self) {
        let mut state = self.state.lock();
        if !state.slots.iter().flatten().any(|link| link.can_leave()) {
            return;
        }
        let mut slots = state.slots.to_vec();
        for slot in &mut slots {
            if let Some(link) = slot.take_if(|link| link.can_leave()) {
                let departed = &mut state.departed;
                departed.nsqds += u64::from(link.was_connected());
                departed.messages += read(&link.counts.messages);
                departed.finished += read(&link.counts.finished);
                departed.requeued += read(&link.counts.requeued);
            }
        }
        while slots.last().is_some_and(Option::is_none) {
            slots.pop();
        }
        state.slots = slots.into();
    }

    /// Lets no further connection come up; those that are being made end.
    pub(crate) fn stop_connecting(&self) {
        let slots = {
            let mut state = self.state.lock();
            state.closed = true;
            state.slots.clone()
        };
        slots.iter().flatten().for_each(|link| link.stop_connecting());
    }

    /// Ends every connection, also one that is being made.
    pub(crate) fn close_all(&self) {
        self.stop_connecting();
        self.live().for_each(|session| session.connection().close());
    }
}
