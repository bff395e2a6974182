//! Whether a run adds up: what was produced beside what was consumed, counted and shown (pure).

use std::collections::HashMap;

use serde::Serialize;
use uuid::Uuid;

/// The file of what was produced.
pub(crate) const PRODUCED: &str = "produced.csv";

/// The file of what was counted.
pub(crate) const COUNTED: &str = "counted.csv";

/// The file of the processor's report.
pub(crate) const PROCESSED: &str = "processed.json";

/// Plays of each video.
pub(crate) type Plays = HashMap<Uuid, u64>;

/// One line of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What is checked.
    pub(crate) name: &'static str,
    /// How it stands.
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// How a check stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "detail", rename_all = "lowercase")]
pub(crate) enum Outcome {
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
pub(crate) struct Verification {
    /// All messages consumed, the processor's counts, the dashboard's counts.
    pub(crate) checks: [Check; 3],
}

impl Verification {
    /// Compares what the parts have left; `None`: that part has left nothing.
    pub(crate) fn of(
        produced: Option<Plays>,
        consumed: Option<u64>,
        counted: Option<Plays>,
        shown: Option<Plays>,
    ) -> Self {
        Self { checks: check(produced, consumed, counted, shown) }
    }

    /// Whether every check was made and holds.
    pub(crate) fn is_verified(&self) -> bool {
        self.checks.iter().all(|check| matches!(check.outcome, Outcome::Passed(_)))
    }

    /// The first check that was made and does not hold.
    pub(crate) fn first_failure(&self) -> Option<&Check> {
        self.checks.iter().find(|check| matches!(check.outcome, Outcome::Failed(_)))
    }
}

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
}
