//! The design as a small model, every state of which is visited: a producer with its outbox, a broker that may lose
//! all it holds, two processors of which one waits for the other's lock, and the ledger.
//!
//! In every state each play is counted at most once, and what is finished is counted; and from every state there is a
//! way on which every play that was published becomes counted. Then the design is spoilt on purpose, in each way that it
//! guards against, and the model must find the fault.

use super::{ModelState, TakeStep, check_broken, explore};

/// Plays in the model: two, so that one may overtake the other.
const PLAYS: usize = 2;

/// Copies of one play in the system at one time.
const COPIES: u8 = 2;

/// A rule of the design that is broken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broken {
    Nothing,
    /// Messages are finished before they are committed.
    FinishBeforeCommit,
    /// Both processors may own the ledger at one time.
    NoLock,
    /// The counts are committed before the set of counted plays, not with it.
    DedupeLater,
    /// The outbox forgets what nsqd has acknowledged.
    ForgetAcknowledged,
    /// An owner starts with an empty set, not with the ledger's.
    DedupeNotRead,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Role {
    #[default]
    Down,
    /// Waits for the lock.
    Standby,
    Owner,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Processor {
    role: Role,
    /// SIGSTOP.
    stopped: bool,
    /// Copies given out to it and neither finished nor timed out, as the broker has it.
    in_flight: [u8; PLAYS],
    /// Copies received and not committed.
    held: [u8; PLAYS],
    /// Copies to be finished.
    to_finish: [u8; PLAYS],
    /// The plays that it knows to be counted.
    known: [bool; PLAYS],
    /// Plays whose count is committed, but not that they are counted: only with [`Broken::DedupeLater`].
    unwritten: [bool; PLAYS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    published: [bool; PLAYS],
    acknowledged: [bool; PLAYS],
    queued: [u8; PLAYS],
    processors: [Processor; 2],
    /// The ledger.
    in_set: [bool; PLAYS],
    count: [u8; PLAYS],
    finished: [bool; PLAYS],
    // How much more may go wrong.
    kills: u8,
    stops: u8,
    timeouts: u8,
    crashes: u8,
}

impl State {
    fn copies(&self, play: usize) -> u8 {
        let at = |processor: &Processor| processor.in_flight[play].max(processor.held[play]);
        self.queued[play] + self.processors.iter().map(at).sum::<u8>()
    }

    fn steps_of(
        &self,
        who: usize,
        processor: &Processor,
        broken: Broken,
        step: &mut TakeStep<'_, Self>,
    ) {
        for play in 0..PLAYS {
            if processor.in_flight[play] > 0 && self.timeouts > 0 {
                step("times out", who, play, &|s| {
                    s.timeouts -= 1;
                    s.processors[who].in_flight[play] -= 1;
                    s.queued[play] += 1;
                });
            }
        }
        if processor.role != Role::Down && self.kills > 0 {
            step("is killed", who, 0, &|s| {
                s.kills -= 1;
                let dead = std::mem::take(&mut s.processors[who]);
                (0..PLAYS).for_each(|play| s.queued[play] += dead.in_flight[play]);
            });
        }
        if processor.stopped {
            step("continues", who, 0, &|s| s.processors[who].stopped = false);
            return;
        }
        if processor.role != Role::Down && self.stops > 0 {
            step("is stopped", who, 0, &|s| {
                s.stops -= 1;
                s.processors[who].stopped = true;
            });
        }
        match processor.role {
            Role::Down => step("starts", who, 0, &|s| s.processors[who].role = Role::Standby),
            Role::Standby => {
                let free = self.processors.iter().all(|other| other.role != Role::Owner);
                if free || broken == Broken::NoLock {
                    step("owns", who, 0, &|s| {
                        s.processors[who].role = Role::Owner;
                        if broken != Broken::DedupeNotRead {
                            s.processors[who].known = s.in_set;
                        }
                    });
                }
            }
            Role::Owner => self.steps_of_owner(who, processor, broken, step),
        }
    }

    fn steps_of_owner(
        &self,
        who: usize,
        processor: &Processor,
        broken: Broken,
        step: &mut TakeStep<'_, Self>,
    ) {
        let swapped = broken == Broken::FinishBeforeCommit;
        for play in 0..PLAYS {
            if self.queued[play] > 0 {
                step("receives", who, play, &|s| {
                    s.queued[play] -= 1;
                    let processor = &mut s.processors[who];
                    processor.in_flight[play] += 1;
                    processor.held[play] += 1;
                    if swapped {
                        processor.to_finish[play] += 1;
                    }
                });
            }
            if processor.to_finish[play] > 0 {
                step("finishes", who, play, &|s| {
                    let processor = &mut s.processors[who];
                    processor.to_finish[play] -= 1;
                    // The broker refuses what is not in flight any more.
                    if processor.in_flight[play] > 0 {
                        processor.in_flight[play] -= 1;
                        s.finished[play] = true;
                    }
                });
            }
        }
        let may_commit = !swapped || processor.to_finish == [0; PLAYS];
        if processor.held != [0; PLAYS] && may_commit {
            step("commits", who, 0, &|s| {
                for play in 0..PLAYS {
                    let processor = &mut s.processors[who];
                    let copies = std::mem::take(&mut processor.held[play]);
                    if !swapped {
                        processor.to_finish[play] += copies;
                    }
                    if copies > 0 && !std::mem::replace(&mut processor.known[play], true) {
                        s.count[play] += 1;
                        match broken {
                            Broken::DedupeLater => processor.unwritten[play] = true,
                            _ => s.in_set[play] = true,
                        }
                    }
                }
            });
        }
        if processor.unwritten != [false; PLAYS] {
            step("commits the set", who, 0, &|s| {
                let unwritten = std::mem::take(&mut s.processors[who].unwritten);
                (0..PLAYS).for_each(|play| s.in_set[play] |= unwritten[play]);
            });
        }
    }
}

impl ModelState for State {
    type Broken = Broken;

    fn start(_broken: Broken) -> Self {
        Self { kills: 2, stops: 1, timeouts: 1, crashes: 1, ..Self::default() }
    }

    fn steps(&self, broken: Broken, step: &mut TakeStep<'_, Self>) {
        for play in 0..PLAYS {
            if !self.published[play] {
                step("publish", play, 0, &|s| {
                    (s.published[play], s.acknowledged[play]) = (true, true);
                    s.queued[play] += 1;
                });
                step("publish, OK lost", play, 0, &|s| {
                    s.published[play] = true;
                    s.queued[play] += 1;
                });
                step("publish, refused", play, 0, &|s| s.published[play] = true);
            }
            let forgotten = broken == Broken::ForgetAcknowledged && self.acknowledged[play];
            let in_outbox = self.published[play] && !self.in_set[play] && !forgotten;
            if in_outbox && self.copies(play) < COPIES {
                step("publish again", play, 0, &|s| {
                    s.acknowledged[play] = true;
                    s.queued[play] += 1;
                });
            }
        }
        if self.crashes > 0 {
            step("broker crashes", 0, 0, &|s| {
                s.crashes -= 1;
                s.queued = [0; PLAYS];
                s.processors.iter_mut().for_each(|processor| processor.in_flight = [0; PLAYS]);
            });
        }
        for (who, processor) in self.processors.iter().enumerate() {
            self.steps_of(who, processor, broken, step);
        }
    }

    fn fault(&self) -> Option<&'static str> {
        let any = |is: &dyn Fn(usize) -> bool| (0..PLAYS).any(is);
        if any(&|play| self.count[play] > 1) {
            Some("counted twice")
        } else if any(&|play| self.finished[play] && self.count[play] == 0) {
            Some("finished and not counted")
        } else {
            None
        }
    }

    fn is_all_counted(&self) -> bool {
        (0..PLAYS).all(|play| !self.published[play] || self.count[play] == 1)
    }
}

#[test]
fn the_design_counts_every_play_once() {
    let states = explore::<State>(Broken::Nothing)
        .unwrap_or_else(|(fault, trace)| panic!("{fault}: {trace:#?}"));
    // All of them, and not the few that a slip in the steps above would leave.
    assert!(states > 100_000, "{states}");
}

#[test]
fn every_rule_is_needed() {
    check_broken::<State>(
        Broken::FinishBeforeCommit,
        "finished and not counted",
        &["receives", "finishes"],
    );
    check_broken::<State>(Broken::NoLock, "counted twice", &["owns", "commits"]);
    check_broken::<State>(Broken::DedupeLater, "counted twice", &["commits", "is killed"]);
    check_broken::<State>(Broken::DedupeNotRead, "counted twice", &["commits", "is killed"]);
    check_broken::<State>(Broken::ForgetAcknowledged, "lost", &["publish", "broker crashes"]);
}
