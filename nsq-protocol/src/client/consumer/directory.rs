//! Which nsqds are known, who named them, whom to connect to now and whom to forget (pure: `now` is an argument).
//!
//! The rules:
//! - The answers of all nsqlookupds are united. The last answer of one that fails holds on.
//! - A connection that stands is never given up because of an answer.
//! - An nsqd whose connection fails is tried again, later and later, while some nsqlookupd names it; then it is
//!   forgotten. So is one that is not connected when the last nsqlookupd stops naming it.
//! - An nsqlookupd that failed [`STALE`] times in a row while another answered no longer counts: what it named is
//!   out of date. While all of them fail, nothing is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::flow::retry::Backoff;

/// Connections being made at one time: 10,000 dead nsqds cost that many sockets and small stacks, no more.
pub(crate) const MAX_DIALS: usize = 64;

/// The nsqds that are remembered: more is no cluster but a fault, or an attack. The first ones stay.
const MAX_NODES: usize = 20_000;

/// Failures in a row after which an nsqlookupd's last answer is out of date.
const STALE: u32 = 3;

/// An nsqd that someone named.
#[derive(Debug)]
struct Node {
    /// The nsqlookupd that named it first.
    lookupd: usize,
    state: NodeState,
    backoff: Backoff,
    /// It had a connection once: then it goes before those that never had.
    proven: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeState {
    /// In its queue, due then.
    Waiting(Instant),
    Dialing,
    Live,
}

#[derive(Debug, Default)]
struct Lookupd {
    names: BTreeSet<Arc<str>>,
    /// In a row.
    failures: u32,
    answered: bool,
}

/// What to do about a connection that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is tried again after that time.
    Retry(Duration),
    /// Nobody names it: it is forgotten.
    Forget,
}

/// All that is known.
#[derive(Debug)]
pub(crate) struct Directory {
    nodes: BTreeMap<Arc<str>, Node>,
    /// By their numbers.
    lookupds: BTreeMap<usize, Lookupd>,
    /// Waiting nodes by due time: first those that are new or proven, then the others.
    queues: [BTreeSet<(Instant, Arc<str>)>; 2],
    dialing: usize,
    /// Of a new node.
    backoff: Backoff,
    /// Not ours to connect to: the configuration names them.
    fixed: BTreeSet<String>,
}

impl Directory {
    pub(crate) fn new(lookupds: usize, fixed: &[String], backoff: Backoff) -> Self {
        Self {
            nodes: BTreeMap::new(),
            lookupds: (0..lookupds).map(|number| (number, Lookupd::default())).collect(),
            queues: [BTreeSet::new(), BTreeSet::new()],
            dialing: 0,
            backoff,
            fixed: fixed.iter().cloned().collect(),
        }
    }

    /// A nsqlookupd named these nsqds. Returns those that are forgotten.
    pub(crate) fn on_answer(
        &mut self,
        lookupd: usize,
        nsqds: Vec<String>,
        now: Instant,
    ) -> Vec<Arc<str>> {
        let mut names = BTreeSet::new();
        for nsqd in nsqds {
            if self.fixed.contains(&nsqd) {
                continue;
            }
            if let Some((known, _)) = self.nodes.get_key_value(&*nsqd) {
                names.insert(known.clone());
            } else if self.nodes.len() < MAX_NODES {
                let nsqd: Arc<str> = nsqd.into();
                let node = Node {
                    lookupd,
                    state: NodeState::Waiting(now),
                    backoff: self.backoff.clone(),
                    proven: false,
                };
                self.queues[0].insert((now, nsqd.clone()));
                self.nodes.insert(nsqd.clone(), node);
                names.insert(nsqd);
            }
        }
        self.lookupds.insert(lookupd, Lookupd { names, failures: 0, answered: true });
        self.forget()
    }

    /// An nsqlookupd did not answer. Returns the nsqds that are forgotten.
    pub(crate) fn on_failure(&mut self, lookupd: usize) -> Vec<Arc<str>> {
        let failures = &mut self.lookupds.entry(lookupd).or_default().failures;
        *failures = failures.saturating_add(1);
        self.forget()
    }

    /// An nsqlookupd is asked no more. Returns the nsqds that are forgotten.
    pub(crate) fn remove_lookupd(&mut self, lookupd: usize) -> Vec<Arc<str>> {
        self.lookupds.remove(&lookupd);
        let gone = self.forget();
        for (nsqd, node) in self.nodes.iter_mut().filter(|(_, node)| node.lookupd == lookupd) {
            let names = |(_, other): &(&usize, &Lookupd)| other.names.contains(nsqd);
            node.lookupd = self.lookupds.iter().find(names).map_or(lookupd, |(other, _)| *other);
        }
        gone
    }

    /// Whether a user gave this nsqd, so that it is not ours to connect to. True if it was to be connected to, and is
    /// forgotten.
    pub(crate) fn set_given(&mut self, nsqd: &str, given: bool) -> bool {
        if !given {
            self.fixed.remove(nsqd);
            return false;
        }
        self.fixed.insert(nsqd.to_owned());
        for lookupd in self.lookupds.values_mut() {
            lookupd.names.remove(nsqd);
        }
        let waiting = |(_, node): &(&Arc<str>, &Node)| matches!(node.state, NodeState::Waiting(_));
        let Some((name, _)) = self.nodes.get_key_value(nsqd).filter(waiting) else { return false };
        let name = name.clone();
        self.remove(&name);
        true
    }

    fn forget(&mut self) -> Vec<Arc<str>> {
        if self.lookupds.values().any(|lookupd| lookupd.answered && lookupd.failures == 0) {
            for lookupd in self.lookupds.values_mut() {
                if lookupd.failures >= STALE {
                    lookupd.names.clear();
                }
            }
        }
        let gone: Vec<_> = self
            .nodes
            .iter()
            .filter(|(name, node)| {
                matches!(node.state, NodeState::Waiting(_)) && !self.is_named(name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        gone.iter().for_each(|name| self.remove(name));
        gone
    }

    fn is_named(&self, nsqd: &str) -> bool {
        self.lookupds.values().any(|lookupd| lookupd.names.contains(nsqd))
    }

    fn remove(&mut self, nsqd: &Arc<str>) {
        if let Some(Node { state: NodeState::Waiting(due), .. }) = self.nodes.remove(nsqd) {
            let entry = (due, nsqd.clone());
            for queue in &mut self.queues {
                queue.remove(&entry);
            }
        }
    }

    /// The next nsqd to connect to now, and the nsqlookupd that named it first. It counts as being connected to.
    pub(crate) fn next_dial(&mut self, now: Instant) -> Option<(Arc<str>, usize)> {
        if self.dialing >= MAX_DIALS {
            return None;
        }
        let is_due = |queue: &&mut BTreeSet<(Instant, Arc<str>)>| {
            queue.first().is_some_and(|(due, _)| *due <= now)
        };
        let (_, nsqd) = self.queues.iter_mut().find(is_due)?.pop_first()?;
        let node = self.nodes.get_mut(&nsqd)?;
        node.state = NodeState::Dialing;
        self.dialing += 1;
        Some((nsqd, node.lookupd))
    }

    /// When [`Directory::next_dial`] has one without anything else happening.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        if self.dialing >= MAX_DIALS {
            return None;
        }
        self.queues.iter().filter_map(|queue| queue.first()).map(|(due, _)| *due).min()
    }

    /// The connection stands.
    pub(crate) fn on_live(&mut self, nsqd: &str) {
        if let Some(node) = self.nodes.get_mut(nsqd)
            && node.state == NodeState::Dialing
        {
            node.state = NodeState::Live;
            node.proven = true;
            self.dialing -= 1;
        }
    }

    /// The connection, or the attempt to make it, ended. `was_good`: it had held for a while. `random` is any
    /// number, evenly spread.
    pub(crate) fn on_ended(
        &mut self,
        nsqd: &Arc<str>,
        was_good: bool,
        now: Instant,
        random: u64,
    ) -> Next {
        let named = self.is_named(nsqd);
        let Some(node) = self.nodes.get_mut(nsqd) else { return Next::Forget };
        if node.state == NodeState::Dialing {
            self.dialing -= 1;
        }
        if !named {
            self.nodes.remove(nsqd);
            return Next::Forget;
        }
        if was_good {
            node.backoff.reset();
        }
        let delay = node.backoff.next_delay(random);
        node.state = NodeState::Waiting(now + delay);
        self.queues[usize::from(!node.proven)].insert((now + delay, nsqd.clone()));
        Next::Retry(delay)
    }

    /// How many nsqds that nsqlookupd named last.
    pub(crate) fn named_by(&self, lookupd: usize) -> usize {
        self.lookupds.get(&lookupd).map_or(0, |lookupd| lookupd.names.len())
    }
}

#[cfg(test)]
mod tests;
