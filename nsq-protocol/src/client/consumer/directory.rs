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
    state: State,
    backoff: Backoff,
    /// It had a connection once: then it goes before those that never had.
    proven: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
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
    lookupds: Vec<Lookupd>,
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
            lookupds: (0..lookupds).map(|_| Lookupd::default()).collect(),
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
                    state: State::Waiting(now),
                    backoff: self.backoff.clone(),
                    proven: false,
                };
                self.queues[0].insert((now, nsqd.clone()));
                self.nodes.insert(nsqd.clone(), node);
                names.insert(nsqd);
            }
        }
        self.lookupds[lookupd] = Lookupd { names, failures: 0, answered: true };
        self.forget()
    }

    /// An nsqlookupd did not answer. Returns the nsqds that are forgotten.
    pub(crate) fn on_failure(&mut self, lookupd: usize) -> Vec<Arc<str>> {
        let failures = &mut self.lookupds[lookupd].failures;
        *failures = failures.saturating_add(1);
        self.forget()
    }

    fn forget(&mut self) -> Vec<Arc<str>> {
        if self.lookupds.iter().any(|lookupd| lookupd.answered && lookupd.failures == 0) {
            for lookupd in &mut self.lookupds {
                if lookupd.failures >= STALE {
                    lookupd.names.clear();
                }
            }
        }
        let gone: Vec<_> = self
            .nodes
            .iter()
            .filter(|(name, node)| matches!(node.state, State::Waiting(_)) && !self.is_named(name))
            .map(|(name, _)| name.clone())
            .collect();
        gone.iter().for_each(|name| self.remove(name));
        gone
    }

    fn is_named(&self, nsqd: &str) -> bool {
        self.lookupds.iter().any(|lookupd| lookupd.names.contains(nsqd))
    }

    fn remove(&mut self, nsqd: &Arc<str>) {
        if let Some(Node { state: State::Waiting(due), .. }) = self.nodes.remove(nsqd) {
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
        node.state = State::Dialing;
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
            && node.state == State::Dialing
        {
            node.state = State::Live;
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
        if node.state == State::Dialing {
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
        node.state = State::Waiting(now + delay);
        self.queues[usize::from(!node.proven)].insert((now + delay, nsqd.clone()));
        Next::Retry(delay)
    }

    /// How many nsqds that nsqlookupd named last.
    pub(crate) fn named_by(&self, lookupd: usize) -> usize {
        self.lookupds[lookupd].names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn directory(lookupds: usize) -> (Directory, Instant) {
        let fixed = ["fixed:1".to_owned()];
        (Directory::new(lookupds, &fixed, Backoff::new(100 * MS, 1000 * MS)), Instant::now())
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    fn dials(directory: &mut Directory, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| directory.next_dial(now)).map(|(nsqd, _)| nsqd.to_string()).collect()
    }

    fn name(nsqd: &str) -> Arc<str> {
        nsqd.into()
    }

    /// One connected nsqd, `a:1`, that the first nsqlookupd names.
    fn connected(lookupds: usize) -> (Directory, Instant) {
        let (mut directory, now) = directory(lookupds);
        directory.on_answer(0, list(&["a:1"]), now);
        assert_eq!(dials(&mut directory, now), ["a:1"]);
        directory.on_live("a:1");
        (directory, now)
    }

    #[test]
    fn answers_are_united_and_each_nsqd_is_dialed_once() {
        let (mut directory, now) = directory(2);
        directory.on_answer(0, list(&["a:1", "b:1", "a:1"]), now);
        directory.on_answer(1, list(&["b:1", "c:1", "fixed:1"]), now);
        assert_eq!(dials(&mut directory, now), ["a:1", "b:1", "c:1"]);
        directory.on_answer(0, list(&["a:1", "b:1", "c:1"]), now);
        assert_eq!(dials(&mut directory, now), Vec::<String>::new());
    }

    #[test]
    fn a_live_connection_outlasts_every_answer() {
        let (mut directory, now) = connected(2);
        assert!(directory.on_answer(0, Vec::new(), now).is_empty());
        (0..10).for_each(|_| assert!(directory.on_failure(1).is_empty()));
        // Only its end, with nobody who names it, is its end.
        assert_eq!(directory.on_ended(&name("a:1"), true, now, 0), Next::Forget);
        assert_eq!(directory.next_due(), None);
    }

    #[test]
    fn a_failed_connection_is_tried_again_while_it_is_named() {
        let (mut directory, now) = connected(2);
        directory.on_answer(1, list(&["a:1"]), now);
        directory.on_answer(0, Vec::new(), now);
        let full = u64::MAX;
        assert_eq!(directory.on_ended(&name("a:1"), true, now, full), Next::Retry(100 * MS));
        assert_eq!(dials(&mut directory, now), Vec::<String>::new());
        assert_eq!(directory.next_due(), Some(now + 100 * MS));
        let later = now + 100 * MS;
        assert_eq!(dials(&mut directory, later), ["a:1"]);
        assert_eq!(directory.on_ended(&name("a:1"), false, later, full), Next::Retry(200 * MS));
        // The last one to name it takes it back.
        assert_eq!(directory.on_answer(1, Vec::new(), later), [name("a:1")]);
        assert_eq!(directory.next_due(), None);
        // Named again, it is new.
        directory.on_answer(1, list(&["a:1"]), later);
        assert_eq!(dials(&mut directory, later), ["a:1"]);
    }

    #[test]
    fn while_every_nsqlookupd_is_down_nothing_is_forgotten() {
        let (mut directory, now) = connected(2);
        for _ in 0..20 {
            assert!(directory.on_failure(0).is_empty() && directory.on_failure(1).is_empty());
        }
        assert!(matches!(directory.on_ended(&name("a:1"), true, now, 0), Next::Retry(_)));
        // One is back and does not know it: the other's word is out of date.
        assert_eq!(directory.on_answer(1, Vec::new(), now), [name("a:1")]);
    }

    #[test]
    fn the_word_of_an_nsqlookupd_that_fails_holds_a_few_polls() {
        let (mut directory, now) = connected(2);
        directory.on_answer(1, Vec::new(), now);
        assert!(matches!(directory.on_ended(&name("a:1"), true, now, 0), Next::Retry(_)));
        assert!(directory.on_failure(0).is_empty() && directory.on_failure(0).is_empty());
        assert_eq!(directory.on_failure(0), [name("a:1")]);
    }

    #[test]
    fn ten_thousand_dead_nsqds_are_dialed_a_few_at_a_time_and_do_not_hold_up_a_good_one() {
        let (mut directory, now) = directory(1);
        let dead: Vec<String> = (0..10_000).map(|number| format!("dead:{number}")).collect();
        directory.on_answer(0, dead.clone(), now);
        let mut dialing = dials(&mut directory, now);
        assert_eq!((dialing.len(), directory.next_due()), (MAX_DIALS, None));
        let mut later = now;
        let mut tried = BTreeSet::new();
        while tried.len() < 10_000 {
            later += MS;
            for nsqd in dialing {
                directory.on_ended(&name(&nsqd), false, later, 0);
                tried.insert(nsqd);
            }
            dialing = dials(&mut directory, later);
            assert!(dialing.len() <= MAX_DIALS);
        }
        // A new one is next, however many wait.
        later += 10_000 * MS;
        for nsqd in dialing {
            directory.on_ended(&name(&nsqd), false, later, 0);
        }
        directory.on_answer(0, [dead, list(&["new:1"])].concat(), later);
        assert_eq!(directory.next_dial(later).unwrap().0, name("new:1"));
        // So is one that was connected, once its wait is over.
        directory.on_live("new:1");
        directory.on_ended(&name("new:1"), true, later, 0);
        assert_eq!(directory.next_dial(later + 200 * MS).unwrap().0, name("new:1"));
    }

    #[test]
    fn there_is_a_limit_to_what_is_remembered() {
        let (mut directory, now) = directory(1);
        directory.on_answer(0, (0..30_000).map(|number| format!("n:{number}")).collect(), now);
        assert_eq!(directory.named_by(0), MAX_NODES);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Answer(usize, Vec<usize>),
        Failure(usize),
        Live(usize),
        Ended(usize, bool),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..2usize, proptest::collection::vec(0..6usize, 0..6))
                .prop_map(|(l, n)| Step::Answer(l, n)),
            (0..2usize).prop_map(Step::Failure),
            (0..6usize).prop_map(Step::Live),
            (0..6usize, any::<bool>()).prop_map(|(n, good)| Step::Ended(n, good)),
            (0..2000u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// Whatever happens, in whatever order: what was named last and not taken back is connected, being
        /// connected to, or waits with a due time; nothing is dialed twice at a time.
        #[test]
        fn every_named_nsqd_is_seen_to(steps in proptest::collection::vec(step(), 1..200)) {
            let (mut directory, mut now) = directory(2);
            let mut busy: BTreeMap<Arc<str>, bool> = BTreeMap::new();
            let nsqd = |number: &usize| format!("n:{number}");
            let mut last = [BTreeSet::new(), BTreeSet::new()];
            let mut failures = [0; 2];
            for step in steps {
                match step {
                    Step::Answer(lookupd, nsqds) => {
                        last[lookupd] = nsqds.iter().map(nsqd).collect();
                        failures[lookupd] = 0;
                        let gone = directory.on_answer(lookupd, nsqds.iter().map(nsqd).collect(), now);
                        prop_assert!(gone.iter().all(|nsqd| !busy.contains_key(nsqd)));
                    }
                    Step::Failure(lookupd) => {
                        failures[lookupd] += 1;
                        directory.on_failure(lookupd);
                    }
                    Step::Live(number) => {
                        if let Some(live) = busy.get_mut(&*nsqd(&number)) {
                            *live = true;
                            directory.on_live(&nsqd(&number));
                        }
                    }
                    Step::Ended(number, good) => {
                        if busy.remove(&*nsqd(&number)).is_some() {
                            directory.on_ended(&name(&nsqd(&number)), good, now, 7);
                        }
                    }
                    Step::Pass(ms) => now += Duration::from_millis(ms),
                }
                while let Some((nsqd, _)) = directory.next_dial(now) {
                    prop_assert!(busy.insert(nsqd, false).is_none());
                }
                prop_assert_eq!(directory.dialing, busy.values().filter(|live| !**live).count());
                prop_assert!(directory.next_due().is_none_or(|due| due > now));
                for (names, failures) in last.iter().zip(failures) {
                    for nsqd in names.iter().filter(|_| failures < STALE) {
                        prop_assert!(directory.nodes.contains_key(&**nsqd), "{} is forgotten", nsqd);
                    }
                }
                let queued = directory.queues.iter().map(BTreeSet::len).sum::<usize>();
                prop_assert_eq!(queued + busy.len(), directory.nodes.len());
            }
        }
    }
}
