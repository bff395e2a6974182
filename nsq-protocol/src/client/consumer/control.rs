//! What a user changes of a consumer that runs. Runs on the caller's threads.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::bounded;

use crate::client::clock::deadline_in;
use crate::client::consumer::config::check_max_in_flight;
use crate::client::consumer::lifecycle::{Consumer, LINGER, RunState, Unanswered};
use crate::client::consumer::link::Link;
use crate::client::consumer::threads::Threads;
#[cfg(feature = "http")]
use crate::client::lookup::config::LookupConfig;
use crate::error::Error;
use crate::io::config::refuse;

impl Consumer {
    /// Sets how many messages may be in flight over all connections from now on, as
    /// [`crate::ConsumerConfig::max_in_flight`] does for the start. With fewer than before, what is held beyond that is
    /// answered first.
    ///
    /// # Example
    /// ```
    /// /// Half as many, for a database that is slow just now.
    /// fn go_easy(consumer: &nsq_protocol::Consumer) -> Result<(), nsq_protocol::Error> {
    ///     consumer.set_max_in_flight((consumer.max_in_flight() / 2).max(1))
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] when it is not 1 to 1,000,000; see [`Consumer::pause`] for none.
    pub fn set_max_in_flight(&self, messages: u32) -> Result<(), Error> {
        check_max_in_flight(messages)?;
        self.shared.flow.set_max_in_flight(messages);
        Ok(())
    }

    /// How many messages may be in flight over all connections.
    pub fn max_in_flight(&self) -> u32 {
        u32::try_from(self.shared.flow.max_in_flight()).unwrap_or(u32::MAX)
    }

    /// Asks no nsqd for messages until [`Consumer::resume`]. Connections stay, and what is here already, or on its way, is
    /// handed over still. Once more changes nothing.
    ///
    /// # Example
    /// ```
    /// /// Nothing new is begun meanwhile.
    /// fn maintain(consumer: &nsq_protocol::Consumer, work: impl FnOnce()) {
    ///     consumer.pause();
    ///     work();
    ///     consumer.resume();
    /// }
    /// ```
    pub fn pause(&self) {
        self.shared.flow.pause(true);
    }

    /// Asks for messages again.
    pub fn resume(&self) {
        self.shared.flow.pause(false);
    }

    /// Whether [`Consumer::pause`] was called last.
    pub fn is_paused(&self) -> bool {
        self.shared.flow.is_paused()
    }

    /// Whether a connection has 85 % or more of what it may have in flight, as in go-nsq: little or nothing more can come
    /// on it before something is answered. For who gathers messages before answering them together: now is the time.
    ///
    /// # Example
    /// ```
    /// use nsq_protocol::{Batch, Consumer};
    ///
    /// fn gather(consumer: &Consumer) {
    ///     let mut gathered: Vec<Batch> = Vec::new();
    ///     for batch in consumer.batches() {
    ///         gathered.push(batch);
    ///         if gathered.len() >= 100 || consumer.is_starved() {
    ///             gathered.drain(..).for_each(Batch::finish);
    ///         }
    ///     }
    /// }
    /// ```
    pub fn is_starved(&self) -> bool {
        self.shared.flow.links.live().any(|session| session.is_starved())
    }

    /// Connects to one more nsqd, `host:port`, and subscribes there; from then on it is as if it had been in the
    /// configuration. Waits for the connection.
    ///
    /// # Errors
    /// [`Error::Config`] when it is connected to already, or an nsqlookupd names it and it is being connected to;
    /// [`Error::Stopped`]; and as [`Consumer::start`] when the connection does not work. It is not tried again then.
    pub fn connect_to_nsqd(&self, address: &str) -> Result<(), Error> {
        let links = &self.shared.flow.links;
        let link = Arc::new(Link::new(address, None, links.next_number(), Instant::now()));
        let (first, outcome) = bounded(1);
        self.change(|threads| {
            if !links.add_new(&link) {
                return refuse(format!("nsqd {address} is there already"));
            }
            let alive = threads.alive.clone();
            let started = threads.links.start(&self.shared, link.clone(), first, alive);
            match &started {
                Ok(()) => threads.discovery.iter().for_each(|of| of.nsqd_is_given(address, true)),
                Err(_) => links.remove(&link),
            }
            started
        })?;
        // Its thread tells in any case, but for a stop meanwhile.
        let connected = outcome.recv().unwrap_or(Err(Error::Stopped));
        if connected.is_err() {
            let _ = self.leave_nsqd(address, Instant::now());
        }
        connected
    }

    /// Leaves an nsqd of the configuration or of [`Consumer::connect_to_nsqd`]: has it send no more (CLS), waits until
    /// what came from it is answered, at most [`crate::ConsumerConfig::stop_timeout`], and closes the connection. Returns
    /// how many messages were held then: nsqd delivers them again after their msg-timeout. Called by who holds one of
    /// them, it waits for all of that time.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no such nsqd, or nsqlookupds named it: they would name it again.
    /// [`Error::Stopped`].
    pub fn disconnect_from_nsqd(&self, address: &str) -> Result<Unanswered, Error> {
        self.leave_nsqd(address, deadline_in(self.shared.config.stop_timeout))
    }

    fn leave_nsqd(&self, address: &str, deadline: Instant) -> Result<Unanswered, Error> {
        let fixed = self.change(|threads| {
            let Some(fixed) = threads.links.take(address) else {
                return refuse(format!("no nsqd {address} was given to this consumer"));
            };
            threads.discovery.iter().for_each(|of| of.nsqd_is_given(address, false));
            Ok(fixed)
        })?;
        let link = fixed.link.clone();
        fixed.end(&self.shared.flow, deadline, LINGER);
        Ok(Unanswered(link.held()))
    }

    /// Asks one more nsqlookupd for nsqds, from now on: at an address as for [`crate::ConsumerConfig::lookupd`], with the
    /// other settings of [`crate::ConsumerConfig::lookup`]. Does not wait for its answer, which
    /// [`Consumer::stats`] shows.
    ///
    /// # Errors
    /// [`Error::Config`] for an address that is none, or is asked already; [`Error::Thread`] when it is the first one and
    /// the operating system refuses a thread; [`Error::Stopped`].
    #[cfg(feature = "http")]
    pub fn connect_to_lookupd(&self, address: &str) -> Result<(), Error> {
        let addresses = vec![address.to_owned()];
        LookupConfig { addresses, ..self.shared.config.lookup.clone() }.check()?;
        self.change(|threads| {
            if threads.discover(&self.shared, None)?.add_lookupd(address) {
                return Ok(());
            }
            refuse(format!("nsqlookupd {address} is asked already"))
        })
    }

    /// Asks an nsqlookupd no more. nsqds that only it names are forgotten, but for those that are connected.
    ///
    /// # Errors
    /// [`Error::Config`] when it was not asked; [`Error::Stopped`].
    #[cfg(feature = "http")]
    pub fn disconnect_from_lookupd(&self, address: &str) -> Result<(), Error> {
        self.change(|threads| match &threads.discovery {
            Some(discovery) if discovery.remove_lookupd(address) => Ok(()),
            _ => refuse(format!("nsqlookupd {address} is not asked")),
        })
    }

    /// Lets `change` work on the threads, unless the consumer is stopped.
    fn change<T>(&self, change: impl FnOnce(&mut Threads) -> Result<T, Error>) -> Result<T, Error> {
        match &mut *self.state.lock() {
            RunState::Running(threads) => change(threads),
            RunState::Stopping | RunState::Stopped(_) => Err(Error::Stopped),
        }
    }
}
