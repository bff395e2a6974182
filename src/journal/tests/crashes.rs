//! Kills and power losses at random places of random scripts, in starts too, several times over.

use rand::RngExt;

use super::sim::Crash;
use super::world::World;
use super::*;

/// Seeds of one test; more with `JOURNAL_SEEDS` in the environment.
pub(super) fn seeds(usual: u64) -> u64 {
    std::env::var("JOURNAL_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(usual)
}

/// Crashes until the journal has been started again.
fn crash_and_start(world: &mut World, crashes: &[Crash]) {
    let mut crash = pick(world, crashes);
    loop {
        world.crash(crash);
        if world.rng.random_range(0..3) == 0 {
            let calls = world.rng.random_range(0..30);
            world.disk.crash_in(calls);
        }
        if world.start() {
            return;
        }
        assert!(world.disk.is_dead(), "only a dead disk fails");
        crash = pick(world, crashes);
    }
}

fn pick(world: &mut World, crashes: &[Crash]) -> Crash {
    crashes[world.rng.random_range(0..crashes.len())]
}

fn run(seed: u64, sync: SyncPolicy, crashes: &[Crash]) -> World {
    let mut world = World::new(seed, sync);
    assert!(world.start());
    for _ in 0..6 {
        let calls = world.rng.random_range(1..120);
        world.disk.crash_in(calls);
        for _ in 0..80 {
            world.act();
            if world.disk.is_dead() {
                break;
            }
        }
        crash_and_start(&mut world, crashes);
    }
    world
}

fn run_all(sync: SyncPolicy, crashes: &[Crash]) {
    let (mut frames, mut cuts) = (0, 0);
    for seed in 0..seeds(60) {
        let world = std::panic::catch_unwind(|| run(seed, sync, crashes));
        let world = world.unwrap_or_else(|_| panic!("seed {seed}"));
        frames += world.frames;
        cuts += world.cuts;
    }
    assert!(frames > 1000 && cuts > 10, "{frames} frames came back, {cuts} cuts");
}

#[test]
fn a_kill_loses_nothing_that_was_committed() {
    run_all(SyncPolicy::Process, &[Crash::Kill]);
}

#[test]
fn a_power_loss_loses_nothing_that_was_committed_with_power() {
    run_all(SyncPolicy::Power, &[Crash::Power]);
}

#[test]
fn a_power_loss_loses_nothing_that_was_synced() {
    run_all(SyncPolicy::Process, &[Crash::Power]);
}

#[test]
fn kills_and_power_losses_in_turn_lose_nothing_of_it() {
    run_all(SyncPolicy::Process, &[Crash::Kill, Crash::Power]);
    run_all(SyncPolicy::Power, &[Crash::Kill, Crash::Power]);
}
