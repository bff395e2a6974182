//! Designs as small models, every state of which is visited: what is wrong in one, and the steps that lead to it; and from which
//! none leads to where all is counted. [`files`] has the ledger in files, [`arrays`] messages of several plays,
//! [`shared`] the one that several processors share,
//! [`retry`] the dead letters of both.

mod arrays;
mod files;
mod retry;
mod shared;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// What a step did, whose it is and for what, for the trace.
type Step = (&'static str, usize, usize);

/// Takes a step's name, whose it is, for what, and what it changes.
type TakeStep<'a, S> = dyn FnMut(&'static str, usize, usize, &dyn Fn(&mut S)) + 'a;

/// A state of a model, in which one rule may be broken.
trait ModelState: Copy + Eq + Hash {
    /// A rule of the design.
    type Broken: Copy;

    fn start(broken: Self::Broken) -> Self;

    /// Takes every step that is possible.
    fn steps(&self, broken: Self::Broken, step: &mut TakeStep<'_, Self>);

    /// The same state for all that differ only in what cannot matter any more.
    fn normal(self) -> Self {
        self
    }

    /// What is wrong with it, if anything is.
    fn fault(&self) -> Option<&'static str>;

    /// Whether every play that was published is counted.
    fn is_all_counted(&self) -> bool;
}

/// Visits every state. How many there are, or what is wrong and how it came to it.
fn explore<S: ModelState>(broken: S::Broken) -> Result<usize, (&'static str, Vec<Step>)> {
    let start = S::start(broken);
    let mut numbers = HashMap::from([(start, 0usize)]);
    let mut states = vec![(start, 0, ("start", 0, 0))];
    let mut before: Vec<Vec<u32>> = vec![Vec::new()];
    let mut at = 0;
    while at < states.len() {
        let (state, ..) = states[at];
        if let Some(fault) = state.fault() {
            return Err((fault, trace(&states, at)));
        }
        state.steps(broken, &mut |name, who, what, change| {
            let mut next = state;
            change(&mut next);
            let next = next.normal();
            let number = match numbers.entry(next) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    let number = *new.insert(states.len());
                    states.push((next, at, (name, who, what)));
                    before.push(Vec::new());
                    number
                }
            };
            before[number].push(at as u32);
        });
        at += 1;
    }
    // Backwards from the states where all is counted: which can come there?
    let mut can = vec![false; states.len()];
    let mut todo: Vec<usize> =
        (0..states.len()).filter(|at| states[*at].0.is_all_counted()).collect();
    while let Some(at) = todo.pop() {
        if !std::mem::replace(&mut can[at], true) {
            todo.extend(before[at].iter().map(|at| *at as usize));
        }
    }
    match can.iter().position(|can| !can) {
        Some(stuck) => Err(("lost", trace(&states, stuck))),
        None => Ok(states.len()),
    }
}

/// The steps that lead to a state.
fn trace<S: ModelState>(states: &[(S, usize, Step)], mut at: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while at > 0 {
        let (_, before, step) = states[at];
        steps.push(step);
        at = before;
    }
    steps.reverse();
    steps
}

/// Breaks one rule; the fault that must be found, and the steps that must be in the shortest way to it.
#[track_caller]
fn check_broken<S: ModelState>(broken: S::Broken, want: &str, steps: &[&str]) {
    let (fault, trace) = explore::<S>(broken).expect_err("it is found");
    assert_eq!(fault, want, "{trace:?}");
    let names: Vec<_> = trace.iter().map(|(name, ..)| *name).collect();
    assert!(steps.iter().all(|step| names.contains(step)), "{names:?}");
}
