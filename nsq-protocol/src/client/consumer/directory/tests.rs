//! Tests of `directory`.

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
