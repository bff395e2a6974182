//! Whether a run adds up: what was produced beside what was consumed, counted and shown (pure).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::model::video_id::VideoId;
use crate::model::words::{grouped, many, of_number};

/// The file of what was produced.
pub(crate) const PRODUCED: &str = "produced.csv";

/// The file of what was counted.
pub(crate) const COUNTED: &str = "counted.csv";

/// The file of the processor's report.
pub(crate) const PROCESSED: &str = "processed.json";

/// Plays of each video.
pub(crate) type Plays = HashMap<VideoId, u64>;

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RunEnding {
    /// All that was to be counted is, or it went wrong.
    #[default]
    Complete,
    /// It was told to stop before that, and stopped in order: what was counted until then must be right.
    Stopped,
}

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
    /// How the run ended.
    pub(crate) ending: RunEnding,
    /// All messages consumed, the processor's counts, the dashboard's counts.
    pub(crate) checks: [Check; 3],
}

impl Verification {
    /// Compares what the parts have left; `None`: that part has left nothing.
    pub(crate) fn of(
        ending: RunEnding,
        produced: Option<Plays>,
        consumed: Option<u64>,
        counted: Option<Plays>,
        shown: Option<Plays>,
    ) -> Self {
        Self { ending, checks: check(ending, produced, consumed, counted, shown) }
    }

    /// Whether every check was made and holds.
    pub(crate) fn is_verified(&self) -> bool {
        self.passed() == self.checks.len()
    }

    /// How many checks were made and hold.
    pub(crate) fn passed(&self) -> usize {
        self.checks.iter().filter(|check| matches!(check.outcome, Outcome::Passed(_))).count()
    }

    /// The first check that was made and does not hold.
    pub(crate) fn first_failure(&self) -> Option<&Check> {
        self.checks.iter().find(|check| matches!(check.outcome, Outcome::Failed(_)))
    }
}

fn check(
    ending: RunEnding,
    produced: Option<Plays>,
    consumed: Option<u64>,
    counted: Option<Plays>,
    shown: Option<Plays>,
) -> [Check; 3] {
    let consumed = match (&produced, consumed) {
        (None, _) => skipped(PRODUCED),
        (_, None) => skipped(PROCESSED),
        (Some(produced), Some(consumed)) => {
            let plays: u64 = produced.values().sum();
            let (messages, of) = (many(consumed, "message"), grouped(plays));
            let text = format!("{messages} consumed of {of} produced");
            match ending {
                RunEnding::Complete if consumed == plays => Outcome::Passed(text),
                RunEnding::Stopped if consumed <= plays => {
                    Outcome::Passed(format!("stopped before the end; {text}"))
                }
                _ => Outcome::Failed(text),
            }
        }
    };
    // What was stopped has counted some of what was produced, and shows all of that.
    let (of_counted, of_shown) = match ending {
        RunEnding::Complete => {
            (compare((&produced, PRODUCED), (&counted, COUNTED)), (&produced, PRODUCED))
        }
        RunEnding::Stopped => (at_most(&produced, &counted), (&counted, COUNTED)),
    };
    let shown = match &produced {
        None => skipped(PRODUCED),
        Some(_) => compare(of_shown, (&shown, "dashboard database")),
    };
    [
        Check { name: "all messages consumed", outcome: consumed },
        Check { name: "processor has correct counts", outcome: of_counted },
        Check { name: "dashboard has correct counts", outcome: shown },
    ]
}

fn skipped(what: &str) -> Outcome {
    Outcome::Skipped(format!("no {what} here"))
}

fn plays_of(counts: &Plays, video: &VideoId) -> u64 {
    counts.get(video).copied().unwrap_or(0)
}

/// No video is counted more often than it was played.
fn at_most(produced: &Option<Plays>, counted: &Option<Plays>) -> Outcome {
    let (produced, counted) = match (produced, counted) {
        (None, _) => return skipped(PRODUCED),
        (_, None) => return skipped(COUNTED),
        (Some(produced), Some(counted)) => (produced, counted),
    };
    let more = |(video, plays): &(&VideoId, &u64)| **plays > plays_of(produced, video);
    match counted.iter().find(more) {
        None => Outcome::Passed(format!("{}, all of them played", total(counted))),
        Some((video, plays)) => Outcome::Failed(format!(
            "video {video} has {} and was played {}",
            many(*plays, "play"),
            many(plays_of(produced, video), "time"),
        )),
    }
}

/// `7 plays of 2 videos`.
fn total(counts: &Plays) -> String {
    let (plays, videos) = (counts.values().sum(), counts.len() as u64);
    format!("{} of {}", many(plays, "play"), many(videos, "video"))
}

/// Every video has as many plays as it should; each with the file that it comes from.
fn compare(wanted: (&Option<Plays>, &str), counts: (&Option<Plays>, &str)) -> Outcome {
    let (wanted, counts) = match (wanted, counts) {
        ((None, file), _) | (_, (None, file)) => return skipped(file),
        ((Some(wanted), _), (Some(counts), _)) => (wanted, counts),
    };
    let videos = wanted.keys().chain(counts.keys().filter(|video| !wanted.contains_key(video)));
    let mut wrong = videos.filter(|video| plays_of(wanted, video) != plays_of(counts, video));
    match wrong.next() {
        None => Outcome::Passed(total(counts)),
        Some(video) => {
            let number = 1 + wrong.count() as u64;
            Outcome::Failed(format!(
                "video {video} has {} and was played {}; {} {} wrong",
                many(plays_of(counts, video), "play"),
                many(plays_of(wanted, video), "time"),
                many(number, "video"),
                of_number(number, "is", "are"),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plays(counts: &[(u128, u64)]) -> Option<Plays> {
        Some(counts.iter().map(|(video, plays)| (VideoId::from_u128(*video), *plays)).collect())
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
        let check = |produced, consumed, counted, shown| {
            outcomes(check(RunEnding::Complete, produced, consumed, counted, shown))
        };
        let all = || plays(&[(1, 3), (2, 4)]);
        assert_eq!(check(all(), Some(7), all(), all()), "ppp");
        assert_eq!(check(None, Some(7), all(), all()), "sss");
        assert_eq!(check(all(), None, None, all()), "ssp");
        assert_eq!(check(all(), Some(6), all(), plays(&[(1, 3)])), "FpF");
        let (swapped, one_more) = (plays(&[(1, 4), (2, 3)]), plays(&[(1, 3), (2, 4), (3, 1)]));
        assert_eq!(check(all(), Some(8), swapped, one_more), "FFF");
    }

    #[test]
    fn what_was_stopped_has_counted_some_and_shows_all_of_that() {
        let check = |consumed, counted, shown| {
            let produced = plays(&[(1, 3), (2, 4)]);
            outcomes(check(RunEnding::Stopped, produced, Some(consumed), counted, shown))
        };
        let some = || plays(&[(1, 2), (2, 4)]);
        assert_eq!(check(6, some(), some()), "ppp");
        assert_eq!(check(0, plays(&[]), plays(&[])), "ppp");
        // More than was produced, or not what was counted.
        assert_eq!(check(8, plays(&[(1, 4)]), plays(&[(1, 4)])), "FFp");
        assert_eq!(check(6, some(), plays(&[(1, 2)])), "ppF");
        assert_eq!(check(1, plays(&[(3, 1)]), plays(&[(3, 1)])), "pFp");
        assert_eq!(check(6, None, some()), "pss");
    }
}
