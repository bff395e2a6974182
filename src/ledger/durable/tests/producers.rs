//! Any number of producers with memory for a few: what is counted is what a model without limits counts, over checkpoints
//! that stop anywhere, restarts and other dashboards.

use super::*;
use crate::ledger::producers::ProducerLimits;

const PRODUCERS: u128 = 40;

#[derive(Clone, Debug)]
enum ManyStep {
    Commit(Vec<(u128, u64)>),
    /// The same while a slice is on its way to the tables.
    CommitBeside(Vec<(u128, u64)>),
    /// That many slices.
    Upkeep(usize),
    /// The first dashboard is told of some.
    Tell(usize),
    /// The second.
    TellSecond(usize),
    OtherDashboard,
    OtherSecond,
    Restart {
        closed: bool,
    },
}

fn any_step() -> impl Strategy<Value = ManyStep> {
    let number = prop_oneof![4 => 0u64..6, 1 => 0u64..2_000_000];
    let plays = proptest::collection::vec((0..PRODUCERS, number), 1..20);
    prop_oneof![
        6 => plays.clone().prop_map(ManyStep::Commit),
        4 => plays.prop_map(ManyStep::CommitBeside),
        4 => (1usize..9).prop_map(ManyStep::Upkeep),
        2 => (1usize..30).prop_map(ManyStep::Tell),
        1 => (1usize..30).prop_map(ManyStep::TellSecond),
        1 => Just(ManyStep::OtherDashboard),
        1 => Just(ManyStep::OtherSecond),
        1 => any::<bool>().prop_map(|closed| ManyStep::Restart { closed }),
    ]
}

fn open_tiny(directory: &Path) -> DurableLedger {
    let mut ledger = open(directory);
    ledger.slice = 3;
    ledger.publish_to(2);
    ledger.state.producers_mut().limit(ProducerLimits::of(4));
    ledger
}

fn second() -> DashboardIndex {
    DashboardIndex::all(2).last().unwrap()
}

fn tell(
    ledger: &mut DurableLedger,
    dashboard: DashboardIndex,
    limit: usize,
    told: &mut BTreeMap<Uuid, Confirmed>,
) -> usize {
    let producers = ledger.take_unreported(dashboard, limit).unwrap();
    let count = producers.len();
    for ProducerConfirmed { producer, confirmed } in producers {
        let known = told.entry(producer).or_default();
        *known = known.union(&confirmed);
    }
    count
}

fn expected(model: &BTreeSet<(u128, u64)>, producer: u128) -> Confirmed {
    let mut set = SeqSet::new();
    for (_, seq) in model.iter().filter(|(id, _)| *id == producer) {
        set.insert(*seq);
    }
    crate::ledger::state::confirmed_of(&set, 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn whatever_goes_from_memory_each_play_counts_once(steps in proptest::collection::vec(any_step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open_tiny(dir.path());
        let (mut model, mut told, mut dashboard) = (BTreeSet::new(), BTreeMap::new(), 0);
        // The second one has a database from the first message on: none is told before it is met.
        let (mut told_second, mut other_second) = (BTreeMap::new(), 1);
        prop_assert!(!ledger.publishes_to(second(), Uuid::from_u128(1)).unwrap());
        let mut message = 0;
        for step in steps {
            let work = match step {
                ManyStep::CommitBeside(_) => ledger.upkeep(Instant::now()),
                _ => None,
            };
            match step {
                ManyStep::Commit(plays) | ManyStep::CommitBeside(plays) => {
                    let fresh = plays.iter().filter(|identity| model.insert(**identity)).count() as u64;
                    let arrived = plays.into_iter().map(|(producer, seq)| {
                        message += 1;
                        play(producer % 3, Some((producer, seq)), message)
                    });
                    let counters = commit(&mut ledger, arrived.collect());
                    prop_assert_eq!((counters.counted, counters.by_message), (fresh, 0));
                }
                ManyStep::Upkeep(times) => {
                    for _ in 0..times {
                        upkeep(&mut ledger, Instant::now());
                    }
                }
                ManyStep::Tell(limit) => drop(tell(&mut ledger, FIRST, limit, &mut told)),
                ManyStep::TellSecond(limit) => drop(tell(&mut ledger, second(), limit, &mut told_second)),
                ManyStep::OtherSecond => {
                    other_second += 1;
                    told_second.clear();
                    let other = Uuid::from_u128(other_second);
                    prop_assert!(ledger.publishes_to(second(), other).unwrap());
                }
                ManyStep::OtherDashboard => {
                    dashboard += 1;
                    told.clear();
                    prop_assert!(ledger.publishes_to(FIRST, Uuid::from_u128(dashboard)).unwrap());
                }
                ManyStep::Restart { closed } => {
                    if closed {
                        ledger.close().unwrap();
                    }
                    drop(ledger);
                    ledger = open_tiny(dir.path());
                    let database = Uuid::from_u128(other_second);
                    prop_assert!(!ledger.publishes_to(second(), database).unwrap());
                }
            }
            if let Some(work) = work {
                let done = work.run().unwrap();
                let _ = ledger.upkept(done).unwrap();
            }
        }
        prop_assert_eq!(ledger.counters().counted, model.len() as u64);
        while tell(&mut ledger, FIRST, 7, &mut told) > 0 {}
        while tell(&mut ledger, second(), 7, &mut told_second) > 0 {}
        for producer in 0..PRODUCERS {
            let (id, want) = (Uuid::from_u128(producer), expected(&model, producer));
            prop_assert_eq!(&ledger.confirmed(&id).unwrap(), &want);
            for told in [&mut told, &mut told_second] {
                prop_assert_eq!(&told.remove(&id).unwrap_or_default(), &want);
            }
        }
        // Who reads the files beside it sees the same.
        let read = read(dir.path()).unwrap().unwrap();
        let seen = read.producers.iter().flat_map(|(id, set)| {
            set.runs().flatten().map(|seq| (id.as_u128(), seq))
        });
        prop_assert!(seen.collect::<BTreeSet<_>>() == model);
        for _ in 0..200 {
            upkeep(&mut ledger, Instant::now() + CHECKPOINT_EVERY);
        }
        prop_assert!(ledger.state.producers().iter().count() <= 4, "all of it can go");
    }
}

#[test]
fn a_look_up_that_fails_is_a_commit_that_fails() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    commit(&mut ledger, (0..50).map(|id| play(7, Some((id, 0)), id as u64)).collect());
    ledger.close().unwrap();
    drop(ledger);
    let mut ledger = open(dir.path());
    assert_eq!(commit(&mut ledger, vec![play(7, Some((3, 0)), 99)]).duplicates, 1);
    // Behind its back, while it runs.
    let connection = Connection::open(dir.path().join(FILE)).unwrap();
    connection.execute("UPDATE producers SET counted = x'00'", []).unwrap();
    let mut arrived = arrivals(vec![play(7, Some((4, 0)), 100)]);
    let error = format!("{:#}", ledger.commit(&mut arrived).unwrap_err());
    assert!(error.contains("looked up") && error.contains("does not fit its check"), "{error}");
    assert!(ledger.commit(&mut arrivals(vec![play(7, Some((5, 0)), 101)])).is_err());
    assert_eq!(ledger.counters().counted, 50);
}

/// Who draws a new id for each play costs bytes on the disk, and a commit that is ahead of the checkpoints waits.
#[test]
fn ever_new_producers_do_not_fill_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open_large(dir.path());
    ledger.state.producers_mut().limit(ProducerLimits::of(100));
    for round in 0..20u128 {
        let new =
            (0..1_000).map(|id| play(7, Some((round << 64 | id, 0)), (round << 32 | id) as u64));
        assert_eq!(commit(&mut ledger, new.collect()).counted, 1_000);
        assert!(ledger.is_behind());
        let mut rounds = 0;
        while upkeep(&mut ledger, Instant::now()) != NextUpkeep::Later {
            rounds += 1;
        }
        assert!(!ledger.is_behind() && rounds < 100, "{rounds}");
        assert!(ledger.state.producers().iter().count() <= 100);
    }
    for round in 0..20u128 {
        let again =
            (0..1_000).map(|id| play(7, Some((round << 64 | id, 0)), (1 << 40) + id as u64));
        assert_eq!(commit(&mut ledger, again.collect()).duplicates, 1_000);
        while upkeep(&mut ledger, Instant::now()) != NextUpkeep::Later {}
    }
}

/// Goes on with what is left: the rows of producers that are in no memory stay.
#[test]
fn an_accepted_loss_keeps_every_producer() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    commit(&mut ledger, (0..50).map(|id| play(7, Some((id, 0)), id as u64)).collect());
    checkpoint(&mut ledger);
    commit(&mut ledger, vec![play(7, Some((1, 1)), 60), play(7, Some((77, 0)), 61)]);
    drop(ledger);
    std::fs::remove_dir_all(dir.path().join(JOURNAL)).unwrap();
    crate::ledger::check::accept_loss(dir.path()).unwrap();
    let mut ledger = open(dir.path());
    let again = (0..50).map(|id| play(7, Some((id, 0)), 100 + id as u64));
    assert_eq!(commit(&mut ledger, again.collect()).duplicates, 50);
    assert_eq!(commit(&mut ledger, vec![play(7, Some((1, 1)), 60)]).counted, 1);
}
