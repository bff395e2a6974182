//! What was done with dead letters that were looked at again, for people and as JSON (pure).

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use crate::ledger::{LetterVerdict, Retried};
use crate::model::plain_text::PlainText;
use crate::model::words::{many, of_number};

/// Reasons that are told apart: each is at most 200 characters. Letters of more are told together.
const REASONS_MAX: usize = 1_000;

/// Of these as many are told, the most frequent first.
const SHOWN_MAX: usize = 10;

/// What the letters of all others are told under.
const OTHER_REASONS: &str = "other reasons";

/// In which ledger letters are looked at.
#[derive(Clone, Debug)]
pub(super) enum RetryWay {
    /// In any, and nothing is changed.
    DryRun,
    /// In files of that data directory.
    Files { data_dir: String },
    /// In a shared one, under that id.
    #[cfg(feature = "postgres")]
    Shared { processor: Uuid },
}

/// What was done.
#[derive(Debug, Serialize)]
pub(super) struct RetryReport {
    #[serde(skip)]
    way: RetryWay,
    /// Nothing was changed: `counted` tells the plays, of which some may be counted already, and `gone` what would be.
    dry_run: bool,
    /// Letters that were looked at.
    letters: u64,
    /// Plays.
    counted: u64,
    /// Plays that were counted before.
    duplicates: u64,
    /// Letters that are gone.
    gone: u64,
    /// Letters that parts of those have become.
    parts: u64,
    /// Letters that stay.
    stay: u64,
    /// Why, the most frequent first, with how many they are; at most ten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<StayReason>,
    /// Under which id of a shared ledger it was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    processor: Option<Uuid>,
    #[serde(skip)]
    by_reason: HashMap<String, u64>,
}

/// Why letters stay.
#[derive(Clone, Debug, Serialize)]
struct StayReason {
    /// The reason. May quote what a stranger sent.
    reason: String,
    /// How many.
    letters: u64,
}

impl RetryReport {
    /// Nothing was looked at yet.
    pub(super) fn new(way: RetryWay) -> Self {
        let processor = match &way {
            #[cfg(feature = "postgres")]
            RetryWay::Shared { processor } => Some(*processor),
            _ => None,
        };
        Self {
            dry_run: matches!(way, RetryWay::DryRun),
            way,
            letters: 0,
            counted: 0,
            duplicates: 0,
            gone: 0,
            parts: 0,
            stay: 0,
            reasons: Vec::new(),
            processor,
            by_reason: HashMap::new(),
        }
    }

    /// Adds what a commit has made of some letters.
    pub(super) fn add(&mut self, retried: Retried) {
        let Retried { counted, duplicates, gone, stays, rest, .. } = retried;
        self.letters += gone + stays.len() as u64;
        self.counted += counted;
        self.duplicates += duplicates;
        self.gone += gone;
        self.parts += rest;
        self.add_stays(stays);
    }

    /// Adds what would be made of a letter.
    pub(super) fn add_verdict(&mut self, verdict: &LetterVerdict) {
        self.letters += 1;
        match verdict {
            LetterVerdict::Stays(reason) => self.add_stays(vec![reason.clone()]),
            LetterVerdict::Goes { plays, rest } => {
                self.counted += plays.len() as u64;
                self.gone += 1;
                self.parts += rest.len() as u64;
            }
        }
    }

    fn add_stays(&mut self, reasons: Vec<String>) {
        self.stay += reasons.len() as u64;
        for reason in reasons {
            let reason = without_place(&reason).to_owned();
            let is_known = self.by_reason.contains_key(&reason);
            let has_room = is_known || self.by_reason.len() < REASONS_MAX;
            let reason = if has_room { reason } else { OTHER_REASONS.to_owned() };
            *self.by_reason.entry(reason).or_insert(0) += 1;
        }
    }

    /// All of it was added: the reasons are put in order.
    pub(super) fn finished(mut self) -> Self {
        let reasons = self.by_reason.drain();
        let mut reasons: Vec<_> =
            reasons.map(|(reason, letters)| StayReason { reason, letters }).collect();
        reasons.sort_unstable_by(|one, other| {
            other.letters.cmp(&one.letters).then_with(|| one.reason.cmp(&other.reason))
        });
        let others: u64 = reasons.iter().skip(SHOWN_MAX).map(|reason| reason.letters).sum();
        reasons.truncate(SHOWN_MAX);
        if others > 0 {
            reasons.push(StayReason { reason: OTHER_REASONS.to_owned(), letters: others });
        }
        self.reasons = reasons;
        self
    }
}

/// A reason without the place in the JSON at its end, which is another one in each body.
fn without_place(reason: &str) -> &str {
    let is_place = |place: &str| {
        let mut numbers = place.split(" column ");
        numbers.by_ref().take(2).all(|number| number.parse::<u32>().is_ok())
            && numbers.next().is_none()
    };
    match reason.rsplit_once(" at line ") {
        Some((why, place)) if is_place(place) => why,
        _ => reason,
    }
}

impl fmt::Display for RetryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { letters, counted, duplicates, gone, parts, stay, .. } = *self;
        write!(f, "looked at {}: ", many(letters, "dead letter"))?;
        if self.dry_run {
            write!(f, "{} with {} would go", many(gone, "letter"), many(counted, "play"))?;
            write!(f, ", which count where they were not counted meanwhile")?;
        } else {
            write!(f, "counted {}", many(counted, "play"))?;
            if duplicates > 0 {
                let were = of_number(duplicates, "was", "were");
                write!(f, ", {} {were} counted before", many(duplicates, "play"))?;
            }
            write!(f, "; {} {} gone", many(gone, "letter"), of_number(gone, "is", "are"))?;
        }
        if parts > 0 {
            write!(f, "; {} of them stay", many(parts, "part"))?;
        }
        write!(f, "; {} {}", many(stay, "letter"), of_number(stay, "stays", "stay"))?;
        for StayReason { reason, letters } in &self.reasons {
            write!(f, "\n  {}: {}", many(*letters, "letter"), PlainText::Line(reason))?;
        }
        match &self.way {
            _ if counted == 0 => Ok(()),
            RetryWay::DryRun => {
                write!(f, "\nnothing was changed: leave --dry-run out to count them")
            }
            RetryWay::Files { data_dir } => {
                write!(f, "\n`playcounts process` with --data-dir {data_dir} publishes them")
            }
            #[cfg(feature = "postgres")]
            RetryWay::Shared { processor } => write!(
                f,
                "\nthey are counted under the id {processor}, which a processor of the ledger publishes within a minute"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stays(reasons: impl Iterator<Item = usize>) -> Retried {
        Retried {
            stays: reasons.map(|reason| format!("{reason:04}")).collect(),
            ..Retried::default()
        }
    }

    #[test]
    fn a_place_in_a_body_is_no_reason_of_its_own() {
        for (reason, told) in [
            ("missing field `video_id` at line 1 column 300", "missing field `video_id`"),
            ("it stands at line 1 column 3: too far", "it stands at line 1 column 3: too far"),
            ("expected value at line 1", "expected value"),
        ] {
            assert_eq!(without_place(reason), told);
        }
    }

    #[test]
    fn the_most_frequent_reasons_are_told_and_all_letters() {
        let mut report = RetryReport::new(RetryWay::Files { data_dir: "d".to_owned() });
        report.add(stays(0..2 * REASONS_MAX));
        for most in (0..30).step_by(10) {
            report.add(stays(most..30));
        }
        report.add(Retried { counted: 2, duplicates: 1, gone: 3, ..Retried::default() });
        let report = report.finished();
        let told: Vec<_> =
            report.reasons.iter().map(|told| (told.reason.as_str(), told.letters)).collect();
        assert_eq!(told[0], (OTHER_REASONS, REASONS_MAX as u64));
        assert_eq!((told[1], told[9]), (("0020", 4), ("0028", 4)));
        assert_eq!(told.len(), SHOWN_MAX + 1);
        assert_eq!(told.iter().map(|(_, letters)| letters).sum::<u64>(), report.stay);
        assert_eq!(report.letters, report.stay + 3);
        let text = report.to_string();
        assert!(
            text.starts_with("looked at 2,063 dead letters: counted 2 plays, 1 play was"),
            "{text}"
        );
        assert!(
            text.contains("; 3 letters are gone; 2,060 letters stay\n  1,000 letters: other"),
            "{text}"
        );
        assert!(text.ends_with("`playcounts process` with --data-dir d publishes them"), "{text}");
    }
}
