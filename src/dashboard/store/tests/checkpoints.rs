//! Checkpoints, resets and kills beside updates, and files that cannot be written.

use super::*;
use crate::model::video_id::VideoId;
use crate::storage::in_place::GONE;

#[test]
fn a_store_whose_journal_fails_says_so_and_recovers() {
    let (temp, store) = store();
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    let (journal, away) = (temp.path().join(JOURNAL), temp.path().join("away"));
    std::fs::rename(&journal, &away).unwrap();
    for _ in 0..2 {
        let reason: Arc<str> = store.merge(update(1, 2, &[(7, 6)])).unwrap_err().into();
        assert!(reason.starts_with("the counts cannot be stored: "), "{reason}");
    }
    let reason = store.health().unwrap_err();
    assert!(reason.starts_with("the counts cannot be stored: "), "{reason}");
    // Reads go on.
    assert_eq!((all(&store), store.totals()), (vec![(7, 5)], Totals { videos: 1, plays: 5 }));
    std::fs::rename(&away, &journal).unwrap();
    store.health().unwrap();
    store.merge(update(1, 2, &[(7, 6)])).unwrap();
    assert_eq!(all(&store), [(7, 6)]);
    assert_eq!(all(&reopened(killed(&store, temp.path()).path())), [(7, 6)]);
}

/// Whatever notices first that the files are gone, it is they that are told of.
#[test]
fn a_checkpoint_whose_files_are_gone_says_so() {
    let (temp, store) = store();
    let (journal, away) = (temp.path().join(JOURNAL), temp.path().join("away"));
    // The tables do not have it when the files go.
    let held = hold(&store);
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    std::fs::rename(&journal, &away).unwrap();
    drop(held);
    for task in [Task::Checkpoint, Task::Probe] {
        let reason = store.write(task).unwrap_err();
        assert!(reason.contains(GONE), "{reason}");
        let reason = store.health().unwrap_err();
        assert!(reason.contains(GONE), "{reason}");
    }
    std::fs::rename(&away, &journal).unwrap();
    store.health().unwrap();
    store.write(Task::Checkpoint).unwrap();
}

#[test]
fn a_store_whose_tables_fail_keeps_what_it_is_told() {
    let (temp, store) = store();
    let other = Connection::open(temp.path().join(FILE)).unwrap();
    other.execute_batch("ALTER TABLE counts RENAME TO gone").unwrap();
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    let reason = store.write(Task::Checkpoint).unwrap_err();
    assert!(reason.starts_with("the counts cannot be put in order: no such table"), "{reason}");
    assert_eq!(store.health().unwrap_err(), reason);
    store.merge(update(1, 2, &[(7, 6), (8, 1)])).unwrap();
    assert_eq!(all(&store), [(7, 6), (8, 1)]);
    other.execute_batch("ALTER TABLE gone RENAME TO counts").unwrap();
    // As it was declared: SQLite puts a new name in quotes.
    let as_it_was = "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, '\"counts\"', 'counts')";
    other.execute_batch(as_it_was).unwrap();
    store.health().unwrap();
    store.write(Task::Checkpoint).unwrap();
    let day = store.kept(Scale::Day).unwrap();
    let top = store.top(Scale::Day, day, 9).unwrap();
    assert_eq!((top.total, top.videos), (7, 2), "what failed is written once");
    drop(store);
    assert_eq!(all(&reopened(temp.path())), [(7, 6), (8, 1)]);
}

/// At whatever moment it is killed, before or behind a reset, a checkpoint, or both.
#[test]
fn what_was_before_a_reset_never_comes_back() {
    let (temp, store) = store();
    let expect = |directory: &Path, id: Uuid, counts: &[(u128, u64)], at: &str| {
        assert_eq!(read_counts(directory).unwrap().unwrap().len(), counts.len(), "{at}");
        let store = reopened(directory);
        assert_eq!((store.id(), all(&store)), (id, counts.to_vec()), "{at}");
        let day = store.kept(Scale::Day).unwrap();
        let total = store.top(Scale::Day, day, 9).unwrap().total;
        assert_eq!(total, counts.iter().map(|(_, plays)| *plays as i64).sum::<i64>(), "{at}");
    };
    let mut version = 0;
    let mut tell = |counts: &[(u128, u64)]| {
        version += 1;
        store.merge(update(3, version, counts)).unwrap()
    };
    tell(&[(7, 5), (8, 1)]);
    store.confirm(confirmed(7, 3)).unwrap();
    store.write(Task::Checkpoint).unwrap();
    tell(&[(9, 2)]);
    // Nothing is emptied meanwhile.
    let held = hold(&store);
    let before = store.id();
    let first = store.clear().unwrap();
    assert_ne!(first, before);
    expect(copied(temp.path()).path(), first, &[], "cleared in the journal");
    assert_eq!(tell(&[(7, 1)]), first);
    expect(copied(temp.path()).path(), first, &[(7, 1)], "and told again");
    let second = store.clear().unwrap();
    tell(&[(8, 4)]);
    store.confirm(confirmed(8, 2)).unwrap();
    expect(copied(temp.path()).path(), second, &[(8, 4)], "cleared twice");
    drop(held);
    store.write(Task::Checkpoint).unwrap();
    expect(killed(&store, temp.path()).path(), second, &[(8, 4)], "cleared in the tables");
    tell(&[(8, 5)]);
    let copy = killed(&store, temp.path());
    assert_eq!(reopened(copy.path()).confirmed(&Uuid::from_u128(7)).unwrap(), Confirmed::default());
    assert_eq!(reopened(copy.path()).confirmed(&Uuid::from_u128(8)).unwrap().watermark, 2);
    expect(copy.path(), second, &[(8, 5)], "and told again");
    let day = store.kept(Scale::Day).unwrap();
    assert_eq!(store.top(Scale::Day, day, 9).unwrap().total, 5);
}

/// While the tables are to be emptied, history is that of after the reset.
#[test]
fn history_of_before_a_reset_is_not_seen() {
    let (_temp, store) = store();
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    store.write(Task::Checkpoint).unwrap();
    let day = store.kept(Scale::Day).unwrap();
    let held = hold(&store);
    store.clear().unwrap();
    store.merge(update(1, 2, &[(7, 2)])).unwrap();
    assert_eq!(store.state.pending.read().cleared().map(|cleared| cleared.id), Some(store.id()));
    let check = || {
        assert_eq!(store.top(Scale::Day, day, 9).unwrap().total, 2);
        let series = store.series(VideoId::from_u128(7), Scale::Day, day).unwrap();
        assert_eq!(series.iter().map(|(_, plays)| plays).sum::<i64>(), 2);
    };
    check();
    drop(held);
    (0..20).for_each(|_| check());
    store.write(Task::Checkpoint).unwrap();
    check();
    assert_eq!(store.top(Scale::Day, day, 9).unwrap().total, 2);
}

/// While checkpoints commit, who reads history sees every play once: as many as were told when it began to read, and no more
/// than when it was done.
#[test]
fn no_play_is_seen_twice_or_not_at_all_while_checkpoints_commit() {
    let (_temp, store) = store();
    let ids: Vec<u128> = (0..2_500).map(|n: u128| n << 64).collect();
    let (stop, stopped) = stop_pair();
    let store = Arc::new(store);
    let shared = Arc::clone(&store);
    let mut crew = Crew::stopped_by(stop);
    crew.spawn("checkpoints", move || {
        let mut done = 0;
        while !stopped.is_stopped() {
            shared.write(Task::Checkpoint).unwrap();
            done += 1;
        }
        done
    })
    .unwrap();
    let shared = Arc::clone(&store);
    let (telling, told) = bounded::<Never>(0);
    let mut teller = Crew::new(|| {});
    teller
        .spawn("teller", move || {
            for round in 1..=6 {
                for part in ids.chunks(20) {
                    let counts: Vec<_> = part.iter().map(|id| (*id, round)).collect();
                    shared.merge(update(1, round, &counts)).unwrap();
                }
            }
            drop(telling);
        })
        .unwrap();
    let day = store.kept(Scale::Day).unwrap();
    let mut looks = 0;
    while !matches!(told.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected)) {
        let before = store.totals().plays as i64;
        let total = store.top(Scale::Day, day, 1).unwrap().total;
        let after = store.totals().plays as i64;
        assert!(before <= total && total <= after, "{before} {total} {after}");
        looks += 1;
    }
    teller.join();
    let checkpoints: i32 = crew.stop().into_iter().sum();
    assert!(looks > 3 && checkpoints > 0, "{looks} {checkpoints}");
    assert_eq!(store.top(Scale::Day, day, 1).unwrap().total, 15_000);
}

/// What happens to a store.
#[derive(Clone, Debug)]
enum Step {
    Tell { processor: u128, video: u128, plays: u64 },
    Checkpoint,
    Clear,
    Kill,
    Close,
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::*;
    let tell = (0u128..3, 0u128..5, 0u64..50);
    let step = prop_oneof![
        30 => tell.prop_map(|(processor, video, plays)| Step::Tell { processor, video, plays }),
        3 => Just(Step::Checkpoint),
        1 => Just(Step::Clear),
        2 => Just(Step::Kill),
        1 => Just(Step::Close),
    ];
    prop::collection::vec(step, 1..60)
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(16))]
    #[test]
    fn any_history_of_updates_and_ends_is_the_sum_of_maxima(steps in steps()) {
        let (mut temp, store) = store();
        let mut store = Some(store);
        let mut model = std::collections::BTreeMap::new();
        for step in steps {
            let open = store.as_ref().unwrap();
            match step {
                Step::Tell { processor, video, plays } => {
                    open.merge(update(processor, 1, &[(video, plays)])).unwrap();
                    let known = model.entry((video, processor)).or_insert(0);
                    *known = plays.max(*known);
                }
                Step::Checkpoint => open.write(Task::Checkpoint).unwrap(),
                Step::Clear => {
                    open.clear().unwrap();
                    model.clear();
                }
                Step::Kill => {
                    let copy = killed(open, temp.path());
                    drop(store.take());
                    temp = copy;
                    store = Some(reopened(temp.path()));
                }
                Step::Close => {
                    drop(store.take());
                    store = Some(reopened(temp.path()));
                }
            }
        }
        let store = store.unwrap();
        let mut sums = std::collections::BTreeMap::new();
        for ((video, _), plays) in model {
            *sums.entry(video).or_insert(0) += plays;
        }
        let want: Vec<_> = sums.into_iter().collect();
        let plays = want.iter().map(|(_, plays)| plays).sum::<u64>();
        proptest::prop_assert_eq!(store.totals(), Totals { videos: want.len() as u64, plays });
        let day = store.kept(Scale::Day).unwrap();
        proptest::prop_assert_eq!(store.top(Scale::Day, day, 9).unwrap().total, plays as i64);
        let told: Vec<_> = want.iter().map(|(id, plays)| (VideoId::from_u128(*id), *plays)).collect();
        proptest::prop_assert_eq!(read_counts(temp.path()).unwrap().unwrap(), told);
        proptest::prop_assert_eq!(all(&store), want);
    }
}
