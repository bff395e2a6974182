//! Dead letters that are looked at again: whatever happens, each play of them counts once, and letters that go stay gone.

use super::*;
use crate::ledger::letter::SavedDeadLetter;
use crate::ledger::retry::{
    JudgeLetter, LetterRest, LetterRetry, LetterVerdict, Retried, RetriedPlay,
};
use crate::ledger::{check, copy};
use crate::model::words::many;

/// A body: a play of a video for each pair of bytes, with the number of producer 1, or 0xff where it has none. A pair of
/// video 0 is no play.
type Body = Vec<[u8; 2]>;

/// A dead letter of that body, in a message of that ID.
fn rejected(id: u64, body: &Body) -> DeadLetter {
    let bytes = body.concat();
    DeadLetter { size: bytes.len(), body: bytes, ..letter(id, 0) }
}

/// Finds the plays that the options allow now: of videos up to `most`.
fn judge(most: u8) -> impl FnMut(&SavedDeadLetter) -> LetterVerdict {
    move |letter| {
        let (pairs, _) = letter.body.as_chunks::<2>();
        let is_play = |pair: &[u8; 2]| (1..=most).contains(&pair[0]);
        let plays: Vec<_> = pairs.iter().filter(|pair| is_play(pair)).map(retried).collect();
        if plays.is_empty() {
            return LetterVerdict::Stays("no play".to_owned());
        }
        let rest = pairs.iter().filter(|pair| !is_play(pair));
        let rest = rest.map(|pair| LetterRest {
            reason: "rest".to_owned(),
            size: pair.len(),
            body: pair.to_vec(),
        });
        LetterVerdict::Goes { plays, rest: rest.collect() }
    }
}

fn retried([video, seq]: &[u8; 2]) -> RetriedPlay {
    let identity = (*seq != 0xff).then_some((1, u64::from(*seq)));
    let (play, _) = play(u128::from(*video), identity, 0);
    RetriedPlay { play, played_at_ns: 0, message: None }
}

/// Looks at all letters once.
fn retry_all(ledger: &mut DurableLedger, judge: &mut JudgeLetter<'_>) -> Retried {
    let behind = ledger.newest_letter().unwrap() + 1;
    let mut all = Retried::default();
    while let Some(some) = ledger.retry_next(all.last + 1..behind, judge).unwrap() {
        all.last = some.last;
        all.counted += some.counted;
        all.duplicates += some.duplicates;
        all.gone += some.gone;
        all.rest += some.rest;
        all.stays.extend(some.stays);
    }
    all
}

fn reject(ledger: &mut DurableLedger, letters: Vec<DeadLetter>) -> u64 {
    let mut arrivals = [Arrivals { plays: Vec::new(), rejected: letters }];
    ledger.commit(&mut arrivals).unwrap().counters.rejected
}

/// The bodies that are kept, as anybody reads them beside the ledger.
fn bodies(directory: &Path) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let found = dead_letters::dead_letters(directory, |letter| {
        all.push(letter.body);
        Ok(())
    });
    assert!(found.unwrap());
    all
}

#[derive(Clone, Debug)]
enum RetryStep {
    /// Bodies in messages of these IDs are no plays.
    Reject(Vec<(u64, Body)>),
    /// Plays with these numbers are counted meanwhile.
    Commit(Vec<[u8; 2]>),
    /// With options that allow videos so far.
    Retry(u8),
    Checkpoint(usize),
    Restart {
        closed: bool,
    },
    /// A backup takes its place.
    Restore,
}

fn any_step() -> impl Strategy<Value = RetryStep> {
    let pair = (0u8..6, prop_oneof![Just(0xff), 0u8..40]).prop_map(|(video, seq)| [video, seq]);
    let body = proptest::collection::vec(pair, 1..4);
    let of_play = (1u8..6, 0u8..40).prop_map(|(video, seq)| [video, seq]);
    prop_oneof![
        5 => proptest::collection::vec((0u64..60, body), 1..8).prop_map(RetryStep::Reject),
        2 => proptest::collection::vec(of_play, 1..8).prop_map(RetryStep::Commit),
        3 => (0u8..6).prop_map(RetryStep::Retry),
        3 => (1usize..6).prop_map(RetryStep::Checkpoint),
        2 => any::<bool>().prop_map(|closed| RetryStep::Restart { closed }),
        1 => Just(RetryStep::Restore),
    ]
}

/// What must be in the ledger.
#[derive(Default)]
struct Wanted {
    plays: BTreeMap<u128, u64>,
    seen: BTreeSet<u8>,
    messages: BTreeSet<u64>,
    letters: Vec<Vec<u8>>,
}

impl Wanted {
    fn count(&mut self, [video, seq]: [u8; 2]) -> bool {
        let is_new = seq == 0xff || self.seen.insert(seq);
        if is_new {
            *self.plays.entry(video.into()).or_insert(0) += 1;
        }
        is_new
    }

    /// How many plays are counted, were before, and letters go.
    fn retry(&mut self, most: u8) -> [u64; 3] {
        let mut told = [0; 3];
        let mut rest = Vec::new();
        for body in std::mem::take(&mut self.letters) {
            let pairs = body.as_chunks::<2>().0.to_vec();
            let (plays, others): (Vec<_>, Vec<_>) =
                pairs.into_iter().partition(|pair| (1..=most).contains(&pair[0]));
            if plays.is_empty() {
                self.letters.push(body);
                continue;
            }
            told[2] += 1;
            for play in plays {
                told[usize::from(!self.count(play))] += 1;
            }
            rest.extend(others.into_iter().map(Vec::from));
        }
        self.letters.extend(rest);
        told
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happens_each_play_of_a_letter_counts_once(steps in proptest::collection::vec(any_step(), 1..30)) {
        let dir = tempfile::tempdir().unwrap();
        let copies = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path());
        ledger.slice = 2;
        let mut want = Wanted::default();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                RetryStep::Reject(letters) => {
                    let new = letters.iter().filter(|(id, _)| want.messages.insert(*id));
                    let new: Vec<_> = new.map(|(_, body)| body.concat()).collect();
                    let letters = letters.iter().map(|(id, body)| rejected(*id, body));
                    prop_assert_eq!(reject(&mut ledger, letters.collect()), new.len() as u64);
                    want.letters.extend(new);
                }
                RetryStep::Commit(pairs) => {
                    let plays = pairs.iter().map(|[video, seq]| play((*video).into(), Some((1, (*seq).into())), 0));
                    let plays: Vec<_> = plays.collect();
                    let new = pairs.into_iter().filter(|pair| want.count(*pair)).count();
                    prop_assert_eq!(commit(&mut ledger, plays).counted, new as u64);
                }
                RetryStep::Retry(most) => {
                    let done = retry_all(&mut ledger, &mut judge(most));
                    prop_assert_eq!([done.counted, done.duplicates, done.gone], want.retry(most));
                    prop_assert_eq!(done.stays.len() as u64 + done.rest, want.letters.len() as u64);
                }
                RetryStep::Checkpoint(times) => {
                    for _ in 0..times {
                        upkeep(&mut ledger, Instant::now() + 2 * CHECKPOINT_EVERY);
                    }
                }
                RetryStep::Restart { closed } => {
                    if closed {
                        ledger.close().unwrap();
                    }
                    drop(ledger);
                    ledger = open(dir.path());
                    ledger.slice = 2;
                }
                RetryStep::Restore => {
                    let file = copies.path().join(number.to_string());
                    copy(dir.path(), &file).unwrap().unwrap();
                    drop(ledger);
                    remove(dir.path()).unwrap();
                    std::fs::rename(&file, dir.path().join(FILE)).unwrap();
                    ledger = open(dir.path());
                    ledger.slice = 2;
                }
            }
            prop_assert_eq!(&plays_of(&ledger), &want.plays);
            prop_assert_eq!(&bodies(dir.path()), &want.letters);
        }
        let found = check(dir.path()).unwrap().unwrap();
        prop_assert!(found.is_whole(), "{}", found);
        let holds = found.holds.unwrap();
        let letters = format!(" {}", many(want.letters.len() as u64, "dead letter"));
        prop_assert!(holds.ends_with(&letters), "{} {}", holds, letters);
        let counted: u64 = want.plays.values().sum();
        prop_assert_eq!(read(dir.path()).unwrap().unwrap().counters.counted, counted);
    }
}

/// The message of a letter is known: it counts nothing when it comes again, mended or not.
#[test]
fn a_message_of_a_letter_that_is_gone_counts_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    assert_eq!(reject(&mut ledger, vec![rejected(7, &vec![[3, 0xff]])]), 1);
    let done = retry_all(&mut ledger, &mut judge(9));
    assert_eq!((done.counted, done.gone, done.stays.len()), (1, 1, 0));
    for _ in 0..2 {
        assert_eq!(reject(&mut ledger, vec![rejected(7, &vec![[3, 0xff]])]), 0);
        assert_eq!(commit(&mut ledger, vec![play(3, None, 7)]).counted, 0);
        drop(ledger);
        ledger = open(dir.path());
        assert_eq!(retry_all(&mut ledger, &mut judge(9)), Retried::default());
    }
    assert_eq!(plays_of(&ledger), BTreeMap::from([(3, 1)]));
    // Those of before stay among what was rejected.
    assert_eq!((ledger.counters().rejected, ledger.counters().by_message), (1, 1));
}

#[test]
fn a_hundred_thousand_letters_are_kept_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open_large(dir.path());
    let letters = DEAD_LETTERS_MAX as u64 + 10;
    for first in (0..letters).step_by(10_000) {
        let some = first..letters.min(first + 10_000);
        let bodies = some.map(|id| rejected(id, &vec![[1 + (id % 5) as u8, 0xff]]));
        reject(&mut ledger, bodies.collect());
        upkeep(&mut ledger, Instant::now());
    }
    let done = retry_all(&mut ledger, &mut judge(4));
    let kept = DEAD_LETTERS_MAX as u64;
    assert_eq!((done.counted, done.gone), (kept / 5 * 4, kept / 5 * 4));
    assert_eq!(done.stays.len() as u64, kept / 5);
    drop(ledger);
    let mut ledger = open_large(dir.path());
    assert_eq!(ledger.counters().counted, kept / 5 * 4);
    assert_eq!(retry_all(&mut ledger, &mut judge(9)).counted, kept / 5);
    assert_eq!(bodies(dir.path()).len(), 0);
    assert_eq!(ledger.counters().counted, kept);
}
