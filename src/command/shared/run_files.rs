//! What a run leaves in its data directory, and the check that it adds up.
//!
//! `produced.csv` and `counted.csv` hold `video_id,plays`, sorted; `processed.json` the processor's report;
//! the dashboard's counts are in its database.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::dashboard;

const PRODUCED: &str = "produced.csv";
const COUNTED: &str = "counted.csv";
const PROCESSED: &str = "processed.json";

/// The first line of both CSV files.
const HEADER: &str = "video_id,plays";

/// Plays of each video.
pub type Counts = Vec<(Uuid, u64)>;

/// The part of the processor's report that the check needs.
#[derive(Debug, Serialize, Deserialize)]
struct Processed {
    consumed: u64,
}

/// The files of the last run in one data directory.
#[derive(Clone, Debug)]
pub struct RunFiles {
    dir: PathBuf,
}

impl RunFiles {
    /// The files in `dir`, whether they are there or not.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Removes them, so that no check mixes two runs.
    ///
    /// # Errors
    /// The file that cannot be removed, and why.
    pub fn clear(&self) -> Result<()> {
        for name in [PRODUCED, COUNTED, PROCESSED] {
            let path = self.dir.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps what was produced.
    ///
    /// # Errors
    /// The file that cannot be written, and why.
    pub fn write_produced(&self, counts: &[(Uuid, u64)]) -> Result<()> {
        write_counts(&self.dir.join(PRODUCED), counts)
    }

    /// Keeps what was counted, out of that many messages consumed.
    ///
    /// # Errors
    /// The file that cannot be written, and why.
    pub fn write_counted(&self, consumed: u64, counts: &[(Uuid, u64)]) -> Result<()> {
        write_counts(&self.dir.join(COUNTED), counts)?;
        let path = self.dir.join(PROCESSED);
        fs::write(&path, serde_json::to_vec(&Processed { consumed })?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Checks that what was produced was consumed, counted and published.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn verify(&self) -> Result<Verification> {
        let produced = read_counts(&self.dir.join(PRODUCED))?;
        let counted = read_counts(&self.dir.join(COUNTED))?;
        let processed = match fs::read(self.dir.join(PROCESSED)) {
            Ok(json) => Some(serde_json::from_slice::<Processed>(&json).context(PROCESSED)?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).context(PROCESSED),
        };
        let shown = dashboard::read_counts(&self.dir)?
            .map(|counts| counts.into_iter().collect::<HashMap<_, _>>());
        Ok(Verification {
            checks: check(produced, processed.map(|report| report.consumed), counted, shown),
        })
    }
}

/// One line of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is checked.
    pub name: &'static str,
    /// How it stands.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How a check stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "detail", rename_all = "lowercase")]
pub enum Outcome {
    /// It holds; what was compared.
    Passed(String),
    /// It does not; the first difference.
    Failed(String),
    /// There was no run to check.
    Skipped(String),
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, detail) = match &self.outcome {
            Outcome::Passed(detail) => ("passed", detail),
            Outcome::Failed(detail) => ("FAILED", detail),
            Outcome::Skipped(detail) => ("skipped", detail),
        };
        write!(f, "{:<36} {word}: {detail}", self.name)
    }
}

/// The checks of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// All messages consumed, the processor's counts, the dashboard's counts.
    pub checks: [Check; 3],
}

impl Verification {
    /// Whether every check was made and holds.
    pub fn is_verified(&self) -> bool {
        self.checks.iter().all(|check| matches!(check.outcome, Outcome::Passed(_)))
    }

    /// The first check that was made and does not hold.
    pub fn first_failure(&self) -> Option<&Check> {
        self.checks.iter().find(|check| matches!(check.outcome, Outcome::Failed(_)))
    }
}

type Plays = HashMap<Uuid, u64>;

fn check(
    produced: Option<Plays>,
    consumed: Option<u64>,
    counted: Option<Plays>,
    shown: Option<Plays>,
) -> [Check; 3] {
    let skipped = |what: &str| Outcome::Skipped(format!("no {what} here"));
    let consumed = match (&produced, consumed) {
        (None, _) => skipped(PRODUCED),
        (_, None) => skipped(PROCESSED),
        (Some(produced), Some(consumed)) => {
            let plays: u64 = produced.values().sum();
            let text = format!("{consumed} messages consumed of {plays} produced");
            if consumed == plays { Outcome::Passed(text) } else { Outcome::Failed(text) }
        }
    };
    let same = |counts: &Option<Plays>, file: &str| match (&produced, counts) {
        (None, _) => skipped(PRODUCED),
        (_, None) => skipped(file),
        (Some(produced), Some(counts)) => compare(produced, counts),
    };
    [
        Check { name: "all messages consumed", outcome: consumed },
        Check { name: "processor has correct counts", outcome: same(&counted, COUNTED) },
        Check { name: "dashboard has correct counts", outcome: same(&shown, "dashboard database") },
    ]
}

fn compare(produced: &Plays, counts: &Plays) -> Outcome {
    let videos = produced.keys().chain(counts.keys().filter(|video| !produced.contains_key(video)));
    let plays = |counts: &Plays, video| counts.get(video).copied().unwrap_or(0);
    let mut wrong = videos.filter(|video| plays(produced, video) != plays(counts, video));
    match wrong.next() {
        None => {
            let plays: u64 = counts.values().sum();
            Outcome::Passed(format!("{plays} plays of {} videos", counts.len()))
        }
        Some(video) => Outcome::Failed(format!(
            "video {video} has {} plays and was played {} times; {} videos are wrong",
            plays(counts, video),
            plays(produced, video),
            1 + wrong.count(),
        )),
    }
}

fn write_counts(path: &Path, counts: &[(Uuid, u64)]) -> Result<()> {
    let mut sorted = counts.to_vec();
    sorted.sort_unstable();
    let write = || -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        writeln!(file, "{HEADER}")?;
        for (video, plays) in sorted {
            writeln!(file, "{video},{plays}")?;
        }
        file.flush()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// The counts in a file; `None` when there is no such file.
fn read_counts(path: &Path) -> Result<Option<Plays>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let mut counts = HashMap::new();
    for (index, line) in BufReader::new(file).lines().enumerate().skip(1) {
        let line = line.with_context(|| path.display().to_string())?;
        let parsed = line
            .split_once(',')
            .and_then(|(video, plays)| Some((video.parse().ok()?, plays.parse().ok()?)));
        let (video, plays) = parsed
            .ok_or_else(|| anyhow!("{}:{}: {line:?} is no {HEADER}", path.display(), index + 1))?;
        counts.insert(video, plays);
    }
    Ok(Some(counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plays(counts: &[(u128, u64)]) -> Option<Plays> {
        Some(counts.iter().map(|(video, plays)| (Uuid::from_u128(*video), *plays)).collect())
    }

    /// One letter a check: p passed, F failed, s skipped.
    fn outcomes(checks: [Check; 3]) -> String {
        let letter = |check: &Check| match check.outcome {
            Outcome::Passed(_) => 'p',
            Outcome::Failed(_) => 'F',
            Outcome::Skipped(_) => 's',
        };
        checks.iter().map(letter).collect()
    }

    #[test]
    fn what_adds_up_passes() {
        let all = || plays(&[(1, 3), (2, 4)]);
        assert_eq!(outcomes(check(all(), Some(7), all(), all())), "ppp");
        assert_eq!(outcomes(check(None, Some(7), all(), all())), "sss");
        assert_eq!(outcomes(check(all(), None, None, all())), "ssp");
        assert_eq!(outcomes(check(all(), Some(6), all(), plays(&[(1, 3)]))), "FpF");
        assert_eq!(
            outcomes(check(
                all(),
                Some(8),
                plays(&[(1, 4), (2, 3)]),
                plays(&[(1, 3), (2, 4), (3, 1)])
            )),
            "FFF"
        );
    }

    #[test]
    fn counts_survive_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        assert_eq!(read_counts(&path).unwrap(), None);
        let counts = [(Uuid::from_u128(2), 4), (Uuid::from_u128(1), 3)];
        write_counts(&path, &counts).unwrap();
        assert_eq!(read_counts(&path).unwrap(), plays(&[(1, 3), (2, 4)]));
        fs::write(&path, "video_id,plays\nx,1\n").unwrap();
        assert!(read_counts(&path).unwrap_err().to_string().contains(":2: "));
    }
}
