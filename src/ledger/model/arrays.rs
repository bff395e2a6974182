//! The design as a small model, every state of which is visited: a message that brings several plays, a broker that delivers
//! it again, a processor that is killed, and the ledger. Plays without an identity are known by their message: all of it is
//! new or a repeat.

use super::{ModelState, TakeStep, check_broken, explore};

/// Parts of the message: plays, or plays and a dead letter, which are classified alike.
const PARTS: usize = 3;

/// Deliveries of the message that a processor holds at one time: both may come in one commit.
const HELD: u8 = 2;

/// A rule of the design that is broken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broken {
    Nothing,
    /// Each part asks by itself whether its message is new: the first makes it known.
    EachPartAsks,
    /// A message's parts go in several commits; the message is known with the first.
    InSeveralCommits,
    /// What was found of the message holds for all deliveries of a commit.
    VerdictOfCommit,
    /// A message is finished with its first part.
    FinishWithFirstPart,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    published: bool,
    /// Copies at the broker that nobody has.
    queued: u8,
    /// Copies given out and not finished, as the broker has it.
    in_flight: u8,
    /// Deliveries that the processor has and has not committed.
    held: u8,
    /// Parts of the first of them that are committed: only with [`Broken::InSeveralCommits`] and
    /// [`Broken::FinishWithFirstPart`].
    parts_done: usize,
    /// Whether those parts were new.
    parts_new: bool,
    to_finish: u8,
    /// The ledger.
    is_known: bool,
    count: [u8; PARTS],
    finished: bool,
    // How much more may go wrong.
    kills: u8,
    timeouts: u8,
}

impl State {
    fn commit_all(&mut self, broken: Broken) {
        let known_before = self.is_known;
        for _ in 0..std::mem::take(&mut self.held) {
            let mut is_new = match broken {
                Broken::VerdictOfCommit => !known_before,
                _ => !self.is_known,
            };
            for part in 0..PARTS {
                self.count[part] += u8::from(is_new);
                if broken == Broken::EachPartAsks {
                    is_new = false;
                }
            }
            self.is_known = true;
            self.to_finish += 1;
        }
    }

    fn commit_part(&mut self, broken: Broken) {
        if self.parts_done == 0 {
            self.parts_new = !self.is_known;
            self.is_known = true;
        }
        self.count[self.parts_done] += u8::from(self.parts_new);
        self.parts_done += 1;
        let is_first = self.parts_done == 1;
        let is_last = self.parts_done == PARTS;
        if is_first && broken == Broken::FinishWithFirstPart
            || is_last && broken != Broken::FinishWithFirstPart
        {
            self.to_finish += 1;
        }
        if is_last {
            self.held -= 1;
            self.parts_done = 0;
        }
    }
}

impl ModelState for State {
    type Broken = Broken;

    fn start(_broken: Broken) -> Self {
        Self { kills: 2, timeouts: 2, ..Self::default() }
    }

    fn steps(&self, broken: Broken, step: &mut TakeStep<'_, Self>) {
        if !self.published {
            step("publish", 0, 0, &|s| {
                s.published = true;
                s.queued += 1;
            });
        }
        if self.queued > 0 && self.held < HELD {
            step("receives", 0, 0, &|s| {
                s.queued -= 1;
                s.in_flight += 1;
                s.held += 1;
            });
        }
        if self.in_flight > 0 && self.timeouts > 0 {
            step("times out", 0, 0, &|s| {
                s.timeouts -= 1;
                s.in_flight -= 1;
                s.queued += 1;
            });
        }
        if self.held > 0 {
            match broken {
                Broken::InSeveralCommits | Broken::FinishWithFirstPart => {
                    step("commits a part", 0, self.parts_done, &|s| s.commit_part(broken));
                }
                _ => step("commits", 0, 0, &|s| s.commit_all(broken)),
            }
        }
        if self.to_finish > 0 {
            step("finishes", 0, 0, &|s| {
                s.to_finish -= 1;
                // The broker refuses what is not in flight any more.
                if s.in_flight > 0 {
                    s.in_flight -= 1;
                    s.finished = true;
                }
            });
        }
        if self.kills > 0 {
            step("is killed", 0, 0, &|s| {
                s.kills -= 1;
                s.queued += std::mem::take(&mut s.in_flight);
                (s.held, s.to_finish, s.parts_done) = (0, 0, 0);
            });
        }
    }

    fn fault(&self) -> Option<&'static str> {
        let any = |is: &dyn Fn(u8) -> bool| self.count.iter().any(|count| is(*count));
        // Between two commits of one message nothing is finished but what is finished too early.
        if any(&|count| count > 1) {
            Some("counted twice")
        } else if self.finished && any(&|count| count == 0) {
            Some("finished and not counted")
        } else {
            None
        }
    }

    fn is_all_counted(&self) -> bool {
        !self.published || self.count == [1; PARTS]
    }
}

#[test]
fn the_design_counts_every_play_of_a_message_once() {
    let states = explore::<State>(Broken::Nothing)
        .unwrap_or_else(|(fault, trace)| panic!("{fault}: {trace:#?}"));
    // All of them, and not the few that a slip in the steps above would leave.
    assert!(states > 100, "{states}");
}

#[test]
fn every_rule_is_needed() {
    check_broken::<State>(Broken::EachPartAsks, "finished and not counted", &["commits"]);
    check_broken::<State>(Broken::VerdictOfCommit, "counted twice", &["times out", "commits"]);
    check_broken::<State>(
        Broken::InSeveralCommits,
        "finished and not counted",
        &["is killed", "commits a part"],
    );
    check_broken::<State>(
        Broken::FinishWithFirstPart,
        "finished and not counted",
        &["commits a part", "finishes"],
    );
}
