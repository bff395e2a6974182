//! Who asks, whom, and when: threads `dash-queue-N` ask each nsqd's HTTP API every second and each nsqlookupd's every
//! five.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use nsq_protocol::thread::{Crew, StopToken, stop_pair};
use nsq_protocol::{Admin, LookupConfig, NodeInfo, NodeStats, StatsFilter};

use super::figures;
use super::state::{WatchState, WatchedPeer};
use super::watch::Watch;
use crate::model::unix_time::UnixMs;
use crate::nsqd::http_tls::explained;
use crate::runtime::clock::unix_ms;

/// How often an nsqd is asked: the queue's depth has a point in the charts each second.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(1);

/// How often an nsqlookupd is asked: about how soon a new nsqd is seen.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Threads that ask: so many may hang before the others wait.
const ASKERS: usize = 8;

/// Whom to ask what.
pub(super) enum Poll {
    /// With the start that its [`NodeInfo`] is known of.
    Nsqd(String, Admin, Option<i64>),
    /// The one of that index.
    Lookupd(usize, Box<LookupConfig>),
}

/// What came of a [`Poll`].
pub(super) enum PollResult {
    /// Of the nsqd at that address.
    Nsqd(String, Result<(NodeStats, Option<NodeInfo>)>),
    /// Of the nsqlookupd of that index: the HTTP addresses that it names.
    Lookupd(usize, Result<Vec<String>>),
}

impl Poll {
    fn ask(self) -> PollResult {
        match self {
            Self::Nsqd(address, admin, known) => {
                let answer = admin.stats(&StatsFilter::default()).map(|stats| {
                    // Without it the nsqd is shown all the same.
                    let is_known = known == Some(stats.start_time);
                    let info = if is_known { None } else { admin.info().ok() };
                    (stats, info)
                });
                PollResult::Nsqd(address, answer.map_err(explained))
            }
            Self::Lookupd(index, config) => {
                let has_port = |address: &String| {
                    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
                    port.is_some_and(|port: u16| port > 0)
                };
                let nodes = config.nodes().map(|nodes| {
                    nodes.into_iter().map(|node| node.http_address).filter(has_port).collect()
                });
                PollResult::Lookupd(index, nodes.map_err(Into::into))
            }
        }
    }
}

impl Watch {
    /// Starts the threads that ask until the crew ends: as many as there can be to ask, but [`ASKERS`] at most.
    ///
    /// # Errors
    /// The operating system's, when it refuses a thread; those that started have ended then.
    pub(crate) fn start(self: &Arc<Self>) -> io::Result<Crew<()>> {
        let askers = {
            let state = self.state.lock();
            if state.lookupds.is_empty() { state.nsqds.len().min(ASKERS) } else { ASKERS }
        };
        let (stop, stopped) = stop_pair();
        let mut crew = Crew::stopped_by(stop);
        for number in 0..askers {
            let (watch, stopped) = (Arc::clone(self), stopped.clone());
            crew.spawn(&format!("dash-queue-{number}"), move || watch.run(&stopped))?;
        }
        Ok(crew)
    }

    fn run(&self, stop: &StopToken) {
        while !stop.is_stopped() {
            let now = Instant::now();
            match self.next(now) {
                Ok(question) => {
                    let answer = question.ask();
                    if !stop.is_stopped() {
                        self.take(answer, now, unix_ms());
                    }
                }
                // Somebody new may come meanwhile.
                Err(due) if stop.wait_until(due.min(now + ASK_EVERY)) => return,
                Err(_) => {}
            }
        }
    }

    /// Whom to ask now, those that answer first; else when somebody is due.
    pub(super) fn next(&self, now: Instant) -> Result<Poll, Instant> {
        let mut state = self.state.lock();
        let WatchState { nsqds, lookupds } = &mut *state;
        let peers = nsqds.iter().map(|nsqd| &nsqd.peer);
        let peers = peers.chain(lookupds.iter().map(|lookupd| &lookupd.peer)).enumerate();
        let order = |(_, peer): &(usize, &WatchedPeer)| {
            let is_due = peer.due <= now;
            (!is_due, is_due && peer.error.is_some(), peer.due)
        };
        let first = peers.filter(|(_, peer)| !peer.is_asked).min_by_key(order);
        let Some((index, due)) = first.map(|(index, peer)| (index, peer.due)) else {
            return Err(now + ASK_EVERY);
        };
        if due > now {
            return Err(due);
        }
        Ok(match nsqds.get_mut(index) {
            Some(nsqd) => {
                nsqd.peer.is_asked = true;
                let known = nsqd.info.as_ref().map(|(_, start)| *start);
                Poll::Nsqd(nsqd.peer.address.clone(), nsqd.admin.clone(), known)
            }
            None => {
                let index = index - nsqds.len();
                lookupds[index].peer.is_asked = true;
                Poll::Lookupd(index, Box::new(lookupds[index].config.clone()))
            }
        })
    }

    /// Takes what came of a question of the time `asked`.
    pub(super) fn take(&self, answer: PollResult, asked: Instant, now_ms: UnixMs) {
        let now = Instant::now();
        let Some(queue) = &self.queue else { return };
        let mut state = self.state.lock();
        match answer {
            PollResult::Nsqd(address, answer) => {
                let mut nsqds = state.nsqds.iter_mut();
                let Some(nsqd) = nsqds.find(|nsqd| nsqd.peer.address == address) else { return };
                if let Some((mut stats, info)) = nsqd.peer.answered(answer, asked, now, ASK_EVERY) {
                    figures::cut(&mut stats, &queue.topic, &queue.channel);
                    if let Some(info) = info {
                        nsqd.info = Some((info, stats.start_time));
                    }
                    nsqd.hear(stats, asked, now_ms);
                }
            }
            PollResult::Lookupd(index, answer) => {
                let Some(lookupd) = state.lookupds.get_mut(index) else { return };
                if let Some(names) = lookupd.peer.answered(answer, asked, now, LOOK_EVERY) {
                    lookupd.hear(names, now, now_ms);
                }
            }
        }
        state.follow(now);
    }
}
