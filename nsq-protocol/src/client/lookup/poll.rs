//! The thread `nsq-lookup`, which asks every nsqlookupd again and again: which nsqds have a topic, or which there are.
//!
//! Whom to connect to is decided, and connections are made, by whoever receives the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, after, select};
use parking_lot::Mutex;

use crate::client::clock::random;
use crate::client::lookup::config::LookupConfig;
use crate::client::lookup::http::{Agent, agent, get, no_answer};
use crate::client::lookup::response::{LookupResponse, read_response};
use crate::codec::names::TopicName;
use crate::error::Error;
use crate::flow::retry::Backoff;
use crate::thread::StopToken;

/// How soon the nsqlookupds are asked again once a connection was lost; it doubles up to the poll interval. A
/// restarted nsqd registers within milliseconds, and may have another port.
const HURRY: Duration = Duration::from_millis(250);

/// What the asking thread tells.
pub(crate) struct Polled {
    /// The number of the nsqlookupd.
    pub(crate) lookupd: usize,
    pub(crate) address: Arc<str>,
    pub(crate) answer: Result<LookupResponse, Error>,
}

/// The nsqlookupds that are asked, each with a number of its own, which is never given again.
pub(crate) struct Lookupds {
    all: Mutex<Vec<(usize, Arc<str>)>>,
    /// Of the next one.
    next: AtomicUsize,
}

impl Lookupds {
    /// Those of the configuration, from number 0 on.
    pub(crate) fn new(addresses: &[String]) -> Self {
        let all = addresses.iter().map(|address| address.as_str().into()).enumerate().collect();
        Self { all: Mutex::new(all), next: AtomicUsize::new(addresses.len()) }
    }

    pub(crate) fn all(&self) -> Vec<(usize, Arc<str>)> {
        self.all.lock().clone()
    }

    /// The new one's number; none where that address is asked already.
    pub(crate) fn add(&self, address: &str) -> Option<usize> {
        let mut all = self.all.lock();
        if all.iter().any(|(_, other)| **other == *address) {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        all.push((number, address.into()));
        Some(number)
    }

    /// The number of the one that is asked no more.
    pub(crate) fn remove(&self, address: &str) -> Option<usize> {
        let mut all = self.all.lock();
        let index = all.iter().position(|(_, other)| **other == *address)?;
        Some(all.remove(index).0)
    }

    pub(crate) fn has(&self, number: usize) -> bool {
        self.all.lock().iter().any(|(other, _)| *other == number)
    }
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    /// The nsqds that have the topic.
    Topic(TopicName),
    /// All that there are.
    Nodes,
}

/// Asks nsqlookupds.
pub(crate) struct Lookup {
    config: LookupConfig,
    lookupds: Arc<Lookupds>,
    wanted: Wanted,
    agent: Agent,
}

impl Lookup {
    /// Of `lookupds`, in the way of `config`.
    pub(crate) fn new(
        config: LookupConfig,
        lookupds: Arc<Lookupds>,
        wanted: Wanted,
        user_agent: &str,
    ) -> Self {
        let agent = agent(&config, user_agent);
        Self { config, lookupds, wanted, agent }
    }

    /// Ends a request under way, but for a connection that is being made: that has its own limit.
    pub(crate) fn interrupter(&self) -> impl FnOnce() + Send + use<> {
        let agent = self.agent.clone();
        move || agent.shutdown()
    }

    /// The body of the thread: asks all of them, at once and then in intervals, until stopped. `hurry` is told when
    /// a connection was lost, or another nsqlookupd is to be asked.
    /// `tell` is told each answer, and says whether to go on.
    pub(crate) fn run(
        self,
        stop: &StopToken,
        hurry: &Receiver<()>,
        mut tell: impl FnMut(Polled) -> bool,
    ) {
        let mut soon: Option<Backoff> = None;
        loop {
            for (lookupd, address) in self.lookupds.all() {
                let answer = self.ask(&address);
                let told = Polled { lookupd, address, answer };
                if stop.is_stopped() || !tell(told) {
                    return;
                }
            }
            let regular = self.config.wait(random());
            let mut wait = regular;
            if let Some(backoff) = &mut soon {
                wait = backoff.next_delay(random());
                if wait >= regular {
                    (wait, soon) = (regular, None);
                }
            }
            select! {
                recv(stop.channel()) -> _ => return,
                recv(hurry) -> lost => {
                    if lost.is_err() {
                        return;
                    }
                    let mut backoff = Backoff::new(HURRY, self.config.poll_interval);
                    // Not in step with everybody else who lost it.
                    if stop.wait(backoff.next_delay(random()).min(wait)) {
                        return;
                    }
                    soon = Some(backoff);
                }
                recv(after(wait)) -> _ => {}
            }
        }
    }

    /// Asks one of them, on this thread.
    pub(crate) fn ask(&self, address: &str) -> Result<LookupResponse, Error> {
        let (status, body) = match &self.wanted {
            Wanted::Topic(topic) => {
                get(&self.agent, address, "/lookup", &[("topic", topic.as_str())])?
            }
            Wanted::Nodes => get(&self.agent, address, "/nodes", &[])?,
        };
        let answer = read_response(status, &body, &self.config.broadcast_map)
            .map_err(|reason| no_answer(address, &reason))?;
        if answer.left_out > 0 {
            let (count, reasons) = (answer.left_out, answer.reasons.join("; "));
            log::warn!("nsqlookupd {address}: {count} entries are left out: {reasons}");
        }
        Ok(answer)
    }
}
