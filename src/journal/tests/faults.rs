//! Every call of a script fails once, for a while, or until the process ends; the owner goes on, or starts again.

use rand::RngExt;

use super::crashes::seeds;
use super::sim::{Crash, Fault, SimDisk};
use super::world::World;
use super::*;

/// What an owner does after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    GoesOn,
    Restarts,
}

/// How many calls fail.
const ONCE: u64 = 1;
const A_WHILE: u64 = 25;
const FOR_GOOD: u64 = u64::MAX / 2;

/// The script of a seed, in which these calls fail; and a start after it, on a disk that works.
fn run(seed: u64, sync: SyncPolicy, fault: Option<(u64, u64, Fault)>, after: After) -> World {
    let mut world = World::new(seed, sync);
    if let Some((at, count, fault)) = fault {
        world.disk.fail(at, at + count, fault);
    }
    for _ in 0..40 {
        if !world.start() {
            // Whoever waits long enough gets a disk that works.
            world.failures += 1;
            continue;
        }
        let failures = world.failures;
        world.act();
        if after == After::Restarts && world.failures > failures {
            world.end();
        }
    }
    if fault.is_some() {
        world.disk.fail(0, 0, Fault::Short);
    }
    // Some end while they are still without what they had to try again.
    if world.rng.random() {
        assert!(world.start());
        world.append();
        world.commit();
    }
    let crash = if world.rng.random() { Crash::Kill } else { Crash::Power };
    world.crash(crash);
    assert!(world.start(), "the disk works");
    world
}

/// All calls of a script, one after the other.
fn every_call(sync: SyncPolicy, count: u64, faults: &[Fault]) {
    let mut failures = 0;
    for seed in 0..seeds(60).div_ceil(100) {
        let calls = run(seed, sync, None, After::GoesOn).disk.calls();
        assert!(calls > 40, "{calls}");
        for at in 0..calls {
            for fault in faults {
                for after in [After::GoesOn, After::Restarts] {
                    let run = || run(seed, sync, Some((at, count, *fault)), after).failures;
                    let run = std::panic::catch_unwind(run);
                    failures += run.unwrap_or_else(|_| {
                        panic!("seed {seed}, call {at}, {count} of {fault:?}, {after:?}")
                    });
                }
            }
        }
    }
    assert!(failures > 100, "{failures}");
}

#[test]
fn any_call_may_fail_once() {
    for sync in [SyncPolicy::Process, SyncPolicy::Power] {
        every_call(sync, ONCE, &[Fault::Short, Fault::Broken]);
    }
}

#[test]
fn any_call_may_fail_for_a_while() {
    for sync in [SyncPolicy::Process, SyncPolicy::Power] {
        every_call(sync, A_WHILE, &[Fault::Broken]);
    }
}

#[test]
fn any_call_may_fail_for_good() {
    for sync in [SyncPolicy::Process, SyncPolicy::Power] {
        every_call(sync, FOR_GOOD, &[Fault::Short, Fault::Full]);
    }
}

#[test]
fn calls_fail_between_kills_and_power_losses() {
    for seed in 0..seeds(60) {
        for sync in [SyncPolicy::Process, SyncPolicy::Power] {
            let run = std::panic::catch_unwind(|| fail_and_crash(seed, sync));
            run.unwrap_or_else(|_| panic!("seed {seed}, {sync:?}"));
        }
    }
}

fn fail_and_crash(seed: u64, sync: SyncPolicy) {
    let mut world = World::new(seed, sync);
    for _ in 0..8 {
        let from = world.disk.calls() + world.rng.random_range(0..80);
        let count = world.rng.random_range(1..30);
        let fault = [Fault::Short, Fault::Full, Fault::Broken][world.rng.random_range(0..3)];
        world.disk.fail(from, from + count, fault);
        let calls = world.rng.random_range(1..150);
        world.disk.crash_in(calls);
        for _ in 0..60 {
            if world.start() {
                world.act();
            }
            if world.disk.is_dead() {
                break;
            }
        }
        let crash = if world.rng.random() { Crash::Kill } else { Crash::Power };
        world.crash(crash);
    }
    world.disk.fail(0, 0, Fault::Short);
    assert!(world.start());
}

/// What a sync that failed has lost is written again: by the next upkeep, by a start, and where a segment is closed.
#[test]
fn a_sync_that_failed_is_not_believed_the_next_time() {
    for (seed, frames) in (0..40).map(|seed| (seed, if seed % 2 == 0 { 10 } else { 60 })) {
        let disk = SimDisk::new(seed);
        let (mut journal, _) = Journal::open(disk.shared(), config(), None, |_, _| Ok(())).unwrap();
        let from = Some(journal.position(1));
        for number in 1..=frames {
            assert_eq!(journal.put(&payload(number)).unwrap(), number);
        }
        disk.fail(disk.calls(), u64::MAX, Fault::Broken);
        let upkeep = journal.upkeep(Sync::All).unwrap();
        // The first call of an upkeep that fails may be another one than its sync.
        assert!(upkeep.run().is_err());
        let calls = disk.calls();
        disk.fail(calls + 1, calls + 2, Fault::Broken);
        assert!(frames == 10 || journal.upkeep(Sync::All).unwrap().run().is_err());
        disk.fail(0, 0, Fault::Short);
        if seed % 3 == 0 {
            drop(journal);
            disk.reboot(Crash::Kill);
            journal = Journal::open(disk.shared(), config(), from, |_, _| Ok(())).unwrap().0;
        } else if let Some(upkeep) = journal.upkeep(Sync::All) {
            let done = upkeep.run().unwrap();
            journal.upkept(done).unwrap();
        }
        drop(journal);
        disk.reboot(Crash::Power);
        let boot = Uuid::from_u128(2);
        let mut found = 0;
        let config = JournalConfig { boot, ..config() };
        let opened = Journal::open(disk.shared(), config, from, |_, _| {
            found += 1;
            Ok(())
        });
        opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(found, frames, "seed {seed}");
    }
}
