//! What the broker's threads share: the core behind its lock, the connections, and what the core wants done outside.
//!
//! Locks: `core`, `connections` and each outbox's are leaves, none of them is taken while another is held, and none is held
//! across a socket call or a write to the disk. A log's own are held across that, and `core` is taken within them.
//! Those of `lookupds` are its own, and `core` is taken within one of them.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, bounded};
use nsq_protocol::TopicName;
use nsq_protocol::thread::{OwnedThread, StopToken};
use parking_lot::Mutex;

use super::config::BrokerConfig;
use super::core::{ClientId, Core, Effects, NumberMap};
use super::lookupd::registry::{AskLimits, Lookupds};
use super::outbox::ConsumerOutbox;
use super::store::{CoreAccess, TopicLogs, moment};
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
    pub(super) lookupds: Lookupds,
    /// The topics on disk, with `--data-path`.
    logs: OnceLock<Arc<TopicLogs>>,
    /// Holds one token at most: "a log is to be read".
    load: Sender<()>,
    /// The same: "something is to be kept".
    keep: Sender<()>,
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
    /// For the threads of the logs.
    pub(super) load: Receiver<()>,
    pub(super) keep: Receiver<()>,
}

impl CoreAccess for Hub {
    fn ask<R>(&self, work: impl FnOnce(&mut Core) -> R) -> R {
        self.with_core(work)
    }
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
        let (load_tx, load) = bounded(1);
        let (keep_tx, keep) = bounded(1);
        let core = Mutex::new(Core::new((*config).clone(), started));
        let connections = Mutex::new(NumberMap::default());
        let hub = Self {
            config,
            started,
            core,
            connections,
            sooner: sooner_tx,
            ended: ended_tx,
            stop,
            lookupds: Lookupds::default(),
            logs: OnceLock::new(),
            load: load_tx,
            keep: keep_tx,
        };
        (hub, TimerInbox { sooner, ended, load, keep })
    }

    /// Opens the topics on disk, if there are to be any.
    ///
    /// # Errors
    /// As [`TopicLogs::open`].
    pub(super) fn open_logs(&self) -> Result<()> {
        let Some(path) = &self.config.data_path else { return Ok(()) };
        let body_bytes = self.core.lock().body_bytes();
        let logs = TopicLogs::open(path, &self.config, body_bytes, |saved| {
            self.with_core(|core| core.restore(saved, moment()));
        })?;
        let _ = self.logs.set(logs);
        Ok(())
    }

    /// The topics on disk; `None`: all are in memory.
    pub(super) fn logs(&self) -> Option<&TopicLogs> {
        self.logs.get().map(|logs| &**logs)
    }

    /// Those, if this topic is to be on disk.
    pub(super) fn logs_for(&self, topic: &TopicName) -> Option<&TopicLogs> {
        self.logs().filter(|_| !topic.is_ephemeral())
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
        // First: whoever hears of the rest may make anew what was deleted, and tell of that.
        if !effects.registrations.is_empty() {
            self.lookupds.tell(&effects.registrations);
        }
        if effects.sooner {
            // Full: the timer has yet to look, and will see this deadline too.
            let _ = self.sooner.try_send(());
        }
        if effects.load {
            // Full: whoever reads has yet to look.
            let _ = self.load.try_send(());
        }
        if effects.changed {
            let _ = self.keep.try_send(());
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

    /// Whether [`Hub::prepare`] may wait for that topic.
    pub(super) fn may_wait_for(&self, topic: &TopicName) -> bool {
        let is_there = || self.with_core(|core| core.has_topic(topic));
        self.lookupds.is_any() && !self.lookupds.is_made(topic, is_there)
    }

    /// Creates those of the topics that are not there and have channels elsewhere, with these channels: so that none of them
    /// misses the first messages. Waits for nsqlookupds, if there are any, so hold no lock.
    pub(super) fn prepare<'t>(&self, topics: impl Iterator<Item = &'t TopicName>) {
        if !self.lookupds.is_any() {
            return;
        }
        let mut topics: Vec<&TopicName> = topics.collect();
        topics.dedup();
        for topic in topics {
            let is_there = || self.with_core(|core| core.has_topic(topic));
            let Some(_making) = self.lookupds.begin(topic, is_there) else { continue };
            let limits = AskLimits {
                connect: self.config.http_client_connect_timeout,
                request: self.config.http_client_request_timeout,
            };
            let channels = self.lookupds.channels(*topic, limits);
            for channel in &channels {
                if let Err(limit) = self.make_channel(topic, channel) {
                    log::warn!("broker: the new topic {topic} lacks channels: {limit}");
                    break;
                }
            }
        }
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
