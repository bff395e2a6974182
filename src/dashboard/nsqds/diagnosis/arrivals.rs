//! What is odd about the plays and messages that come to a processor, since its start, as it says itself (pure).

use super::finding::{Finding, Severity};
use crate::model::words::{many, of_number};
use crate::wire::{ArrivalFigures, IgnoredFigure, ReusedOfProducer, SkewFigures};

/// Adds what it finds at one processor.
pub(super) fn diagnose(id: &str, told: &ArrivalFigures, found: &mut Vec<Finding>) {
    for (name, field) in told.ignored.by_name() {
        diagnose_field(id, name, field, found);
    }
    diagnose_times(id, &told.skewed, found);
    for producer in &told.reused.producers {
        diagnose_producer(producer, found);
    }
    let unknown = told.window.redelivered_unknown;
    if unknown > 0 {
        found.push(Finding {
            code: "messages-forgotten",
            severity: Severity::Warning,
            text: format!(
                "nsqd delivered {} without an identity again after processor {id} may have forgotten {}. So many may be counted twice.",
                many(unknown, "play"),
                of_number(unknown, "it", "them")
            ),
            way_out: "Let producers give their plays an identity (producer and seq). With a ledger in files a larger --message-window-mb helps, too.",
        });
    }
}

fn diagnose_field(id: &str, name: &str, field: &IgnoredFigure, found: &mut Vec<Finding>) {
    let IgnoredFigure { count, sample } = field;
    if *count > 0 {
        found.push(Finding {
            code: "ignored-fields",
            severity: Severity::Info,
            text: format!(
                "Processor {id} could not read the field {name} of {}{}. It counts as missing, and the {} counted.",
                many(*count, "play"),
                such_as(sample.as_deref()),
                of_number(*count, "play is", "plays are")
            ),
            way_out: "docs/producers.md says what is read.",
        });
    }
}

fn diagnose_times(id: &str, skewed: &SkewFigures, found: &mut Vec<Finding>) {
    let SkewFigures { behind, ahead, sample } = skewed;
    if behind + ahead > 0 {
        found.push(Finding {
            code: "skewed-times",
            severity: Severity::Info,
            text: format!(
                "Processor {id} got {} with a time long ago and {ahead} with one in the future{}. These are left out of the consumption times.",
                many(*behind, "play"),
                such_as(sample.as_deref())
            ),
            way_out: "Set the clock of the producer, or of nsqd. If plays have really waited for so long, use a larger --time-window-back.",
        });
    }
}

fn diagnose_producer(reused: &ReusedOfProducer, found: &mut Vec<Finding>) {
    let ReusedOfProducer { producer, other_video, unproven } = reused;
    let which = match (other_video, unproven) {
        (0, 0) => return,
        (0, _) => ", perhaps for other plays".to_owned(),
        (_, 0) => ", for other videos".to_owned(),
        _ => format!(", {other_video} of them for other videos"),
    };
    let plays = other_video + unproven;
    found.push(Finding {
        code: "reused-numbers",
        severity: Severity::Warning,
        text: format!(
            "{} of producer {producer} {} that it has used before{which}. {} not counted.",
            many(plays, "play"),
            of_number(plays, "has a number (seq)", "have numbers (seq)"),
            of_number(plays, "It is", "They are")
        ),
        way_out: "A producer that starts at seq 0 again must draw a new producer id. If they are copies, nothing needs to be done.",
    });
}

fn such_as(sample: Option<&str>) -> String {
    sample.map(|sample| format!(", such as {sample}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::wire::{IgnoredFigures, MessageWindowFigures, ReusedFigures};

    #[track_caller]
    fn check(told: &ArrivalFigures, want: &[(&str, Severity, &str)]) {
        let mut found = Vec::new();
        diagnose("p", told, &mut found);
        let got: Vec<_> = found.iter().map(|one| (one.code, one.severity, &*one.text)).collect();
        assert_eq!(got, want);
        assert!(found.iter().all(|one| !one.way_out.is_empty()));
    }

    #[test]
    fn each_oddity_is_told_with_its_sample() {
        check(&ArrivalFigures::default(), &[]);
        let seq = IgnoredFigure { count: 3, sample: Some("\"07\"".to_owned()) };
        let ignored = IgnoredFigures { seq, ..IgnoredFigures::default() };
        check(
            &ArrivalFigures { ignored, ..ArrivalFigures::default() },
            &[(
                "ignored-fields",
                Severity::Info,
                "Processor p could not read the field seq of 3 plays, such as \"07\". It counts as missing, and the plays are counted.",
            )],
        );
        let skewed = SkewFigures { behind: 0, ahead: 2, sample: Some("2262".to_owned()) };
        check(
            &ArrivalFigures { skewed, ..ArrivalFigures::default() },
            &[(
                "skewed-times",
                Severity::Info,
                "Processor p got 0 plays with a time long ago and 2 with one in the future, such as 2262. These are left out of the consumption times.",
            )],
        );
        let window = MessageWindowFigures { redelivered_unknown: 4, ..Default::default() };
        check(
            &ArrivalFigures { window, ..ArrivalFigures::default() },
            &[(
                "messages-forgotten",
                Severity::Warning,
                "nsqd delivered 4 plays without an identity again after processor p may have forgotten them. So many may be counted twice.",
            )],
        );
    }

    #[test]
    fn a_producer_that_gives_its_numbers_twice_is_named() {
        let of = |other_video, unproven| ArrivalFigures {
            reused: ReusedFigures {
                other_video,
                unproven,
                producers: vec![ReusedOfProducer { producer: Uuid::nil(), other_video, unproven }],
            },
            ..ArrivalFigures::default()
        };
        let producer = "00000000-0000-0000-0000-000000000000";
        for (told, text) in [
            (
                of(7, 0),
                format!(
                    "7 plays of producer {producer} have numbers (seq) that it has used before, for other videos. They are not counted."
                ),
            ),
            (
                of(0, 3),
                format!(
                    "3 plays of producer {producer} have numbers (seq) that it has used before, perhaps for other plays. They are not counted."
                ),
            ),
            (
                of(7, 3),
                format!(
                    "10 plays of producer {producer} have numbers (seq) that it has used before, 7 of them for other videos. They are not counted."
                ),
            ),
        ] {
            check(&told, &[("reused-numbers", Severity::Warning, &text)]);
        }
        check(&of(0, 0), &[]);
    }
}
