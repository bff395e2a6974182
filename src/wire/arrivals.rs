//! The part of a processor's report that tells what was odd about the plays and messages that came (pure).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::limits::{Invalid, check_numbers};
use crate::model::video::MAX_PLAYS;

/// The longest sample, in characters.
pub const SAMPLE_TEXT_MAX: usize = 200;

/// The most producers that [`ReusedFigures`] tells of.
pub const REUSED_PRODUCERS_MAX: usize = 5;

/// What was odd since the processor's start, and the window of messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArrivalFigures {
    /// Fields that could not be read, in plays that were received.
    #[serde(default)]
    pub ignored: IgnoredFigures,
    /// Times outside the window, of plays that were received.
    #[serde(default)]
    pub skewed: SkewFigures,
    /// Plays dropped because their number had been counted before, that are perhaps no copies.
    #[serde(default)]
    pub reused: ReusedFigures,
    /// The messages that are remembered for plays without an identity.
    #[serde(default)]
    pub window: MessageWindowFigures,
}

/// Fields that could not be read, and were taken for absent. Their plays are counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IgnoredFigures {
    /// When the play was put on the queue.
    #[serde(default)]
    pub enqueued_at: IgnoredFigure,
    /// Who made it.
    #[serde(default)]
    pub producer: IgnoredFigure,
    /// Its number.
    #[serde(default)]
    pub seq: IgnoredFigure,
    /// Whether it was sent before.
    #[serde(default)]
    pub resent: IgnoredFigure,
}

/// Values of one field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IgnoredFigure {
    /// How many.
    #[schemars(range(max = MAX_PLAYS))]
    pub count: u64,
    /// A new one of them as JSON, what is not printable escaped; cut to 200 characters. It is what a stranger sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<String>,
}

/// Times outside the window: left out of the consumption times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SkewFigures {
    /// Plays whose time was before it.
    #[schemars(range(max = MAX_PLAYS))]
    pub behind: u64,
    /// Plays whose time was after it.
    #[schemars(range(max = MAX_PLAYS))]
    pub ahead: u64,
    /// A new one of these times, as RFC 3339; cut to 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<String>,
}

/// Plays dropped as repeats that may be none: their producer gave a number twice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReusedFigures {
    /// Plays that named another video than the one that was counted under their number.
    #[schemars(range(max = MAX_PLAYS))]
    pub other_video: u64,
    /// Plays in messages of their own, delivered once and not marked as resent, that cannot be told to be copies: their
    /// number was counted long ago, or with another time.
    #[schemars(range(max = MAX_PLAYS))]
    pub unproven: u64,
    /// Those with the most of both.
    #[serde(default)]
    #[schemars(length(max = REUSED_PRODUCERS_MAX))]
    pub producers: Vec<ReusedOfProducer>,
}

/// The same of one producer: at least so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReusedOfProducer {
    /// The producer.
    pub producer: Uuid,
    /// As in [`ReusedFigures`].
    #[schemars(range(max = MAX_PLAYS))]
    pub other_video: u64,
    /// As in [`ReusedFigures`].
    #[schemars(range(max = MAX_PLAYS))]
    pub unproven: u64,
}

/// The messages that are remembered, so that plays without an identity count once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageWindowFigures {
    /// How many.
    #[schemars(range(max = MAX_PLAYS))]
    pub messages: u64,
    /// Bytes of memory that they take.
    #[schemars(range(max = MAX_PLAYS))]
    pub bytes: u64,
    /// How long ago nsqd took the first of them, in ms; absent while there is none, or it tells no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = MAX_PLAYS))]
    pub oldest_ms: Option<u64>,
    /// Plays that nsqd had delivered before, by its own count, counted although the window may have forgotten them: so many
    /// may be counted twice.
    #[schemars(range(max = MAX_PLAYS))]
    pub redelivered_unknown: u64,
}

impl IgnoredFigures {
    /// By the field's name.
    pub fn by_name(&self) -> [(&'static str, &IgnoredFigure); 4] {
        let Self { enqueued_at, producer, seq, resent } = self;
        [("enqueued_at", enqueued_at), ("producer", producer), ("seq", seq), ("resent", resent)]
    }
}

impl ArrivalFigures {
    /// Cuts what a stranger could send that a processor would not.
    pub fn cut(&mut self) {
        let IgnoredFigures { enqueued_at, producer, seq, resent } = &mut self.ignored;
        let samples = [enqueued_at, producer, seq, resent].map(|field| &mut field.sample);
        for sample in samples.into_iter().chain([&mut self.skewed.sample]).flatten() {
            *sample = sample.chars().take(SAMPLE_TEXT_MAX).collect();
        }
    }

    /// Refuses what a processor would not send.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let Self { ignored, skewed, reused, window } = self;
        if reused.producers.len() > REUSED_PRODUCERS_MAX {
            return Err(Invalid::new(format!(
                "a report tells of at most {REUSED_PRODUCERS_MAX} producers that gave a number twice"
            )));
        }
        let of_producers = reused.producers.iter().flat_map(|of| [of.other_video, of.unproven]);
        let numbers = ignored
            .by_name()
            .into_iter()
            .map(|(_, field)| field.count)
            .chain([skewed.behind, skewed.ahead, reused.other_video, reused.unproven])
            .chain([window.messages, window.bytes, window.redelivered_unknown])
            .chain(window.oldest_ms)
            .chain(of_producers);
        check_numbers(numbers, "of arrivals is")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_processor_sends_is_refused() {
        let check = |change: fn(&mut ArrivalFigures)| {
            let mut figures = ArrivalFigures::default();
            change(&mut figures);
            figures.check().err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(check(|_| {}), "");
        let too_much: [fn(&mut ArrivalFigures); 4] = [
            |figures| figures.ignored.seq.count = MAX_PLAYS + 1,
            |figures| figures.skewed.ahead = u64::MAX,
            |figures| figures.window.oldest_ms = Some(u64::MAX),
            |figures| {
                let producer = Uuid::nil();
                figures.reused.producers =
                    vec![ReusedOfProducer { producer, other_video: 0, unproven: u64::MAX }];
            },
        ];
        for change in too_much {
            assert!(check(change).contains("over the limit"));
        }
        let error = check(|figures| {
            let one = ReusedOfProducer { producer: Uuid::nil(), other_video: 1, unproven: 0 };
            figures.reused.producers = vec![one; 6];
        });
        assert!(error.contains("at most 5 producers"), "{error}");
    }

    #[test]
    fn long_samples_are_cut() {
        let mut figures = ArrivalFigures::default();
        figures.ignored.producer.sample = Some("x".repeat(1000));
        figures.skewed.sample = Some("y".repeat(1000));
        figures.cut();
        let len = |sample: &Option<String>| sample.as_ref().map(String::len);
        assert_eq!(len(&figures.ignored.producer.sample), Some(SAMPLE_TEXT_MAX));
        assert_eq!(len(&figures.skewed.sample), Some(SAMPLE_TEXT_MAX));
    }
}
