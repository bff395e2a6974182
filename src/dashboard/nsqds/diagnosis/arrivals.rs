//! What is odd about the plays and messages that come to a processor, since its start, as it says itself (pure).

use super::{Finding, Severity};
use crate::wire::{ArrivalFigures, ReusedOfProducer, SkewFigures};

/// Adds what it finds at one processor.
pub(super) fn diagnose(id: &str, told: &ArrivalFigures, found: &mut Vec<Finding>) {
    let mut find = |code, severity, text: String, way_out| {
        found.push(Finding { code, severity, text, way_out });
    };
    for (name, field) in told.ignored.by_name().into_iter().filter(|(_, field)| field.count > 0) {
        let sample = field.sample.as_deref().map(|sample| format!(", such as {sample}"));
        let text = format!(
            "Processor {id} could not read {name} of {} plays{}: they are counted as if it were absent.",
            field.count,
            sample.unwrap_or_default()
        );
        find(
            "ignored-fields",
            Severity::Info,
            text,
            "\"Anyone's producer\" in the README says what is read.",
        );
    }
    let SkewFigures { behind, ahead, sample } = &told.skewed;
    if behind + ahead > 0 {
        let sample = sample.as_deref().map(|sample| format!(", such as {sample}"));
        let text = format!(
            "Processor {id} has seen {behind} plays of long ago and {ahead} from the future{}: their times are left out of the consumption times.",
            sample.unwrap_or_default()
        );
        find(
            "skewed-times",
            Severity::Info,
            text,
            "Set the clock of who made them, or of the nsqd; for a long queue, a larger --time-window-back.",
        );
    }
    for ReusedOfProducer { producer, other_video, unproven } in &told.reused.producers {
        let came = "came with numbers that were counted before";
        let text = match (other_video, unproven) {
            (0, 0) => continue,
            (0, _) => format!(
                "{unproven} plays of producer {producer} {came}, and may be no copies: they are not counted."
            ),
            (_, 0) => format!(
                "{other_video} plays of producer {producer} {came}, with other videos: they are not counted."
            ),
            _ => format!(
                "{} plays of producer {producer} {came}, {other_video} of them with other videos: they are not counted.",
                other_video + unproven
            ),
        };
        find(
            "reused-numbers",
            Severity::Warning,
            text,
            "A producer that begins its seq at 0 again must draw a new producer id. Copies of what was counted need nothing.",
        );
    }
    let unknown = told.window.redelivered_unknown;
    if unknown > 0 {
        let text = format!(
            "Processor {id} has counted {unknown} plays without an identity that nsqd had delivered before and that it may have forgotten: at most so many are counted twice.",
        );
        find(
            "messages-forgotten",
            Severity::Warning,
            text,
            "A larger --message-window-mb, or producers that give their plays an identity.",
        );
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::wire::{IgnoredFigure, IgnoredFigures, MessageWindowFigures, ReusedFigures};

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
                "Processor p could not read seq of 3 plays, such as \"07\": they are counted as if it were absent.",
            )],
        );
        let skewed = SkewFigures { behind: 0, ahead: 2, sample: Some("2262".to_owned()) };
        check(
            &ArrivalFigures { skewed, ..ArrivalFigures::default() },
            &[(
                "skewed-times",
                Severity::Info,
                "Processor p has seen 0 plays of long ago and 2 from the future, such as 2262: their times are left out of the consumption times.",
            )],
        );
        let window = MessageWindowFigures { redelivered_unknown: 4, ..Default::default() };
        check(
            &ArrivalFigures { window, ..ArrivalFigures::default() },
            &[(
                "messages-forgotten",
                Severity::Warning,
                "Processor p has counted 4 plays without an identity that nsqd had delivered before and that it may have forgotten: at most so many are counted twice.",
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
                    "7 plays of producer {producer} came with numbers that were counted before, with other videos: they are not counted."
                ),
            ),
            (
                of(0, 3),
                format!(
                    "3 plays of producer {producer} came with numbers that were counted before, and may be no copies: they are not counted."
                ),
            ),
            (
                of(7, 3),
                format!(
                    "10 plays of producer {producer} came with numbers that were counted before, 7 of them with other videos: they are not counted."
                ),
            ),
        ] {
            check(&told, &[("reused-numbers", Severity::Warning, &text)]);
        }
        check(&of(0, 0), &[]);
    }
}
