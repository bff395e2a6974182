//! The worlds that are visited, and the faults that are found where a rule is broken.

use super::{BrokenRule, Producers, SharedState, World};
use crate::ledger::model::{check_broken, explore};

fn check_design(producers: Producers, copies: u8, faults: u8, at_least: usize) {
    let world = World { producers, copies, faults };
    let states = explore::<SharedState>((BrokenRule::Nothing, world))
        .unwrap_or_else(|(fault, trace)| panic!("{fault}: {trace:#?}"));
    // All of them, and not the few that a slip in the steps would leave.
    assert!(states > at_least, "{states}");
}

#[test]
fn the_shared_design_counts_every_play_once() {
    check_design(Producers::One, 1, 2, 100_000);
    check_design(Producers::Two, 2, 1, 50_000);
}

/// What needs three faults, such as a processor that another one has taken the id of meanwhile.
#[test]
fn the_shared_design_survives_three_faults() {
    check_design(Producers::One, 0, 3, 100_000);
}

/// Breaks one rule in the smallest world that shows it.
#[track_caller]
fn check(rule: BrokenRule, world: (Producers, u8, u8), want: &str, steps: &[&str]) {
    let (producers, copies, faults) = world;
    let world = World { producers, copies, faults };
    check_broken::<SharedState>((rule, world), want, steps);
}

#[test]
fn every_rule_of_the_shared_design_is_needed() {
    use BrokenRule as Rule;
    use Producers::{One, Two};
    let crash = "the database crashes";
    let commit = "reads and sends COMMIT";
    let wants = "finished and not counted";
    check(Rule::FinishBeforeFlush, (One, 0, 1), wants, &["commits", "finishes", crash]);
    check(Rule::RepeatsNotFlushed, (One, 1, 1), wants, &["does not flush", "finishes", crash]);
    check(Rule::ShowBeforeFlush, (One, 0, 1), "shown and not counted", &["shows", crash]);
    let wants = "forgotten and not counted";
    check(
        Rule::ConfirmNotFlushed,
        (One, 0, 1),
        wants,
        &["reads what is counted", "confirms", crash],
    );
    let steps = ["flushes what it confirms", "commits", "confirms", crash];
    check(Rule::ConfirmReadAfterFlush, (One, 0, 1), wants, &steps);
    // Who wakes up takes the commit of its successor for its own.
    let steps = ["is stopped", "its lease runs out", "adopts", "continues", "commits", "finishes"];
    check(Rule::EpochNotChecked, (One, 0, 3), "finished and not counted", &steps);
    let steps = [commit, "its connection is cut", "connects again", "commits"];
    check(Rule::DoubtWithoutEpoch, (One, 0, 1), "lost", &steps);
    check(Rule::LockAndReadInOne, (One, 1, 0), "counted twice", &["begins", "locks", "commits"]);
    // A model without a detector of deadlocks: both wait for ever.
    check(Rule::OpposedLocks, (Two, 2, 0), "lost", &["begins", "locks"]);
    check(Rule::WatermarkLater, (One, 1, 0), "counted twice", &["commits"]);
}
