//! What the broker's threads share: the core behind its lock, the connections, and what the core wants done outside.
//!
//! Locks: `core`, `connections` and each outbox's are leaves, none is taken while another is held, and none is held
//! across a socket call.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use nsq_protocol::thread::{OwnedThread, StopToken};
use parking_lot::Mutex;

use super::config::BrokerConfig;
use super::core::{ClientId, Core, Effects, NumberMap};
use super::outbox::ConsumerOutbox;
use crate::model::unix_time::UnixMs;
use crate::runtime::clock;

/// What the threads share.
pub(super) struct Hub {
    pub(super) config: Arc<BrokerConfig>,
    pub(super) started: UnixMs,
    core: Mutex<Core>,
    pub(super) connections: Mutex<NumberMap<Connection>>,
    /// Holds one token at most: "the next deadline is sooner".
    pub(super) sooner: Sender<()>,
    /// Connections that have ended; room for all there can be.
    pub(super) ended: Sender<ClientId>,
    pub(super) stop: StopToken,
}

pub(super) struct Connection {
    pub(super) stream: Arc<TcpStream>,
    pub(super) outbox: Arc<ConsumerOutbox>,
    /// Joined when the connection is dropped.
    pub(super) _thread: OwnedThread<()>,
}

/// The receiving ends of what [`Hub`] holds, for the timer.
pub(super) struct TimerInbox {
    pub(super) sooner: Receiver<()>,
    pub(super) ended: Receiver<ClientId>,
}

impl Hub {
    /// A hub without connections.
    pub(super) fn new(
        config: Arc<BrokerConfig>,
        started: UnixMs,
        stop: StopToken,
    ) -> (Self, TimerInbox) {
        let (sooner_tx, sooner) = bounded(1);
        let (ended_tx, ended) = bounded(config.max_connections.max(1));
        let core = Mutex::new(Core::new((*config).clone(), started));
        let connections = Mutex::new(NumberMap::default());
        (
            Self { config, started, core, connections, sooner: sooner_tx, ended: ended_tx, stop },
            TimerInbox { sooner, ended },
        )
    }

    /// Does something with the core under its lock, and behind it what that entails outside.
    pub(super) fn with_core<R>(&self, work: impl FnOnce(&mut Core) -> R) -> R {
        let (result, effects) = self.locked(work);
        self.carry_out(effects);
        result
    }

    pub(super) fn locked<R>(&self, work: impl FnOnce(&mut Core) -> R) -> (R, Effects) {
        let mut core = self.core.lock();
        let result = work(&mut core);
        (result, core.take_effects())
    }

    pub(super) fn carry_out(&self, effects: Effects) {
        if effects.sooner {
            // Full: the timer has yet to look, and will see this deadline too.
            let _ = self.sooner.try_send(());
        }
        if !effects.wake.is_empty() {
            let outboxes: Vec<Arc<ConsumerOutbox>> = {
                let connections = self.connections.lock();
                let connections = effects.wake.iter().filter_map(|id| connections.get(id));
                connections.map(|connection| Arc::clone(&connection.outbox)).collect()
            };
            outboxes.iter().for_each(|outbox| outbox.wake());
        }
        if !effects.close.is_empty() {
            let streams: Vec<Arc<TcpStream>> = {
                let connections = self.connections.lock();
                let connections = effects.close.iter().filter_map(|id| connections.get(id));
                connections.map(|connection| Arc::clone(&connection.stream)).collect()
            };
            for stream in streams {
                // Already closed is fine.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        drop(effects.garbage);
    }

    /// Ends and joins all connections. The accept thread must have been joined.
    pub(super) fn close_all(&self) {
        let connections = std::mem::take(&mut *self.connections.lock());
        for connection in connections.values() {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
    }
}

/// Now, as NSQ's messages carry it: in nanoseconds since the Unix epoch.
pub(super) fn timestamp_ns() -> i64 {
    i64::try_from(clock::unix_ns()).unwrap_or(i64::MAX)
}
