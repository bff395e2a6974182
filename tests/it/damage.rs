//! Files that were changed behind our back, at seeded places in every file of a part: its state is exactly the true one
//! then, or the start is refused with a text that names the file, or, only behind the newest seal of one that was killed, a
//! cut is told. Never silently wrong.
//!
//! `PLAYCOUNTS_DAMAGE_CASES` is how many files are damaged in each state, `PLAYCOUNTS_DAMAGE_SEED` where.

mod dashboard;
mod ledger;
mod outbox;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

/// Files that are damaged in each state, where nobody says how many.
const CASES: u64 = 120;

/// Zeros that are skipped at once.
const BLOCK: usize = 4096;

/// How a part's files were left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// By a kill, after a second without work.
    Sealed,
    /// In order.
    Closed,
    /// By a kill in the middle.
    Killed,
}

/// What a start gives: what is open, what it tells, and what was cut off.
type Start<P> = (<P as Part>::Opened, <P as Part>::Facts, Option<String>);

/// A part whose files are damaged.
trait Part: Sized {
    /// All that its files tell.
    type Facts: Clone + PartialEq + Debug;
    /// What is open.
    type Opened;
    /// What is in the texts of a refusal, one of them.
    const FILES: &'static [&'static str];
    /// Whether damage may be come upon later than at the start: in tables that a start does not read.
    const MAY_BE_LATE: bool = false;

    /// Makes files in `directory` and leaves them so, at `image`. What they told after each commit from the newest seal on, the last: now.
    fn build(directory: &Path, image: &Path, state: State) -> Vec<Self::Facts>;
    /// What a reader beside it sees.
    fn read(image: &Path) -> Result<Self::Facts, String>;
    /// Starts on it, with the facts, and what was cut off.
    fn open(image: &Path) -> Result<Start<Self>, String>;
    /// Checks that it goes on from these facts, through an end in order and a new start.
    /// An error is what it says when it comes upon the damage later.
    fn check_goes_on(opened: Self::Opened, facts: &Self::Facts, image: &Path)
    -> Result<(), String>;
    /// Facts, but those that a reader does not see.
    fn without_what_readers_do_not_see(facts: &Self::Facts) -> Self::Facts {
        facts.clone()
    }
}

/// Draws numbers: splitmix64.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// A directory for many small files that are soon gone: in memory, where there is one.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// All files below a directory, in order, by their path in it.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(directory).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Copies a directory as it is now, as a kill at this moment would leave it.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    for file in files(from) {
        let to = to.join(&file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from.join(file), to).unwrap();
    }
}

/// Damages a file, in one of all ways; what was done.
fn damage(file: &Path, draw: &mut Draw) -> String {
    let mut bytes = fs::read(file).unwrap();
    let len = bytes.len();
    // Most of a segment is zeros that mean nothing: three of four places lie where something was written.
    let blocks =
        bytes.chunks(BLOCK).zip((0..).step_by(BLOCK)).filter(|(block, _)| **block != [0; BLOCK]);
    let written: Vec<usize> = blocks
        .flat_map(|(block, start)| {
            (start..).zip(block).filter(|(_, byte)| **byte != 0).map(|(at, _)| at)
        })
        .collect();
    let at = match written.len() {
        0 => draw.below(len),
        written_len if draw.below(4) > 0 => written[draw.below(written_len)],
        _ => draw.below(len),
    };
    let kind = if len == 0 { 9 } else { draw.below(10) };
    let done = match kind {
        0..=3 => {
            let bit = 1 << draw.below(8);
            bytes[at] ^= bit;
            format!("bit {bit:#x} flipped at {at}")
        }
        4..=5 => {
            let by = 1 + draw.below(255) as u8;
            bytes[at] ^= by;
            format!("byte changed by {by:#x} at {at}")
        }
        6 => {
            let start = at / 512 * 512;
            let end = len.min(start + 512);
            bytes[start..end].fill(0);
            format!("sector zeroed at {start}")
        }
        7..=8 => {
            bytes.truncate(at);
            format!("cut to {at} of {len} bytes")
        }
        _ => {
            fs::remove_file(file).unwrap();
            return "removed".to_owned();
        }
    };
    fs::write(file, bytes).unwrap();
    done
}

/// What became of a damaged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Exact,
    Refused,
    Cut,
    /// The start was exact; a checkpoint came upon the damage, said so, and lost nothing.
    Late,
}

/// Opens a damaged copy and judges it.
fn judge<P: Part>(image: &Path, history: &[P::Facts], state: State) -> Result<Outcome, String> {
    let now = &history[history.len() - 1];
    let read = P::read(image);
    if let Ok(read) = &read {
        let mut known = history.iter().map(P::without_what_readers_do_not_see);
        let is_true = match state {
            State::Killed => known.any(|facts| facts == *read),
            State::Sealed | State::Closed => known.next_back().as_ref() == Some(read),
        };
        if !is_true {
            return Err(format!("a reader sees {read:#?}, and not {now:#?}"));
        }
    }
    match P::open(image) {
        Err(text) if P::FILES.iter().any(|file| text.contains(file)) => Ok(Outcome::Refused),
        Err(text) => Err(format!("the refusal names no file: {text}")),
        Ok((opened, facts, None)) if facts == *now => {
            Ok(P::check_goes_on(opened, &facts, image).map_or(Outcome::Late, |()| Outcome::Exact))
        }
        Ok((opened, facts, Some(_))) if state == State::Killed && history.contains(&facts) => {
            Ok(P::check_goes_on(opened, &facts, image).map_or(Outcome::Late, |()| Outcome::Cut))
        }
        Ok((_, facts, cut)) => Err(format!("cut: {cut:?}; it holds {facts:#?}, and not {now:#?}")),
    }
}

/// Damages the files of a part in one state.
#[allow(clippy::print_stderr, reason = "the numbers are what the test is run for by hand")]
fn check_damage<P: Part>(part: &str, state: State) {
    let number = |name, default| {
        std::env::var(name).map_or(default, |text| text.parse::<u64>().expect("a number"))
    };
    let cases = number("PLAYCOUNTS_DAMAGE_CASES", CASES);
    let mut draw = Draw(number("PLAYCOUNTS_DAMAGE_SEED", 14) << 8 | state as u64);
    let dir = scratch();
    let (image, copied) = (dir.path().join("image"), dir.path().join("copy"));
    let history = P::build(&dir.path().join("built"), &image, state);
    copy(&image, &copied);
    assert_eq!(judge::<P>(&copied, &history, state), Ok(Outcome::Exact), "{part} {state:?}");
    let all = files(&image);
    let mut outcomes: BTreeMap<(String, Outcome), u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in 0..cases {
        let file = &all[case as usize % all.len()];
        copy(&image, &copied);
        let done = damage(&copied.join(file), &mut draw);
        let what = format!("{part} {state:?} case {case}: {}: {done}", file.display());
        let judged = AssertUnwindSafe(|| judge::<P>(&copied, &history, state));
        match std::panic::catch_unwind(judged) {
            Ok(Ok(outcome)) => {
                let file = file.file_name().unwrap().to_string_lossy().into_owned();
                *outcomes.entry((file, outcome)).or_default() += 1;
            }
            Ok(Err(text)) => wrong.push(format!("{what}: {text}")),
            Err(_) => wrong.push(format!("{what}: a panic")),
        }
    }
    for ((file, outcome), count) in &outcomes {
        eprintln!("{part} {state:?}: {file}: {count} {outcome:?}");
    }
    let of =
        |wanted| outcomes.iter().filter(|((_, is), _)| *is == wanted).map(|(_, n)| n).sum::<u64>();
    let (exact, refused, cut) = (of(Outcome::Exact), of(Outcome::Refused), of(Outcome::Cut));
    eprintln!(
        "{part} {state:?}: {cases} damaged: {exact} exact, {refused} refused, {cut} cut, {} wrong",
        wrong.len()
    );
    assert!(
        wrong.is_empty(),
        "{} wrong, such as {}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
    let late = of(Outcome::Late);
    assert!(late == 0 || P::MAY_BE_LATE, "{late} were found late");
    assert_eq!(exact + refused + cut + late, cases);
    assert!(refused > 0 && exact > 0, "{refused} refused, {exact} exact");
    assert!(cut == 0 || state == State::Killed);
    // Of some hundreds it may be that none hits what is behind the seal and before the last frame's end.
    assert!(cut > 0 || state != State::Killed || cases < 1000);
}

/// A test for each part and state.
macro_rules! damaged {
    ($($test:ident: $part:ty, $label:literal, $state:ident;)*) => {$(
        #[test]
        fn $test() {
            check_damage::<$part>($label, State::$state);
        }
    )*};
}

damaged! {
    ledger_sealed: ledger::LedgerPart, "ledger", Sealed;
    ledger_closed: ledger::LedgerPart, "ledger", Closed;
    ledger_killed: ledger::LedgerPart, "ledger", Killed;
    dashboard_sealed: dashboard::DashboardPart, "dashboard", Sealed;
    dashboard_closed: dashboard::DashboardPart, "dashboard", Closed;
    dashboard_killed: dashboard::DashboardPart, "dashboard", Killed;
    outbox_sealed: outbox::OutboxPart, "outbox", Sealed;
    outbox_closed: outbox::OutboxPart, "outbox", Closed;
}
