//! What was odd about bodies and messages since the processor's start, bounded (pure): fields that could not be read, times
//! outside the window, and numbers that a producer gave twice.

use std::collections::HashMap;

use uuid::Uuid;

use crate::ledger::{Noticed, ReusedNumbers};
use crate::model::play::{IgnoredField, IgnoredFields, PlayField};
use crate::model::time_window::{PlayTimes, Skew};
use crate::model::unix_time::UnixMs;
use crate::wire::{
    ArrivalFigures, IgnoredFigure, IgnoredFigures, MessageWindowFigures, REUSED_PRODUCERS_MAX,
    ReusedFigures, ReusedOfProducer, SkewFigures,
};

/// Producers that are told apart; a new one takes the place of the one with the fewest. Far more than are shown.
const PRODUCERS_MAX: usize = 64;

/// What a batch's bodies had.
#[derive(Debug, Default)]
pub(super) struct BodyNotes {
    pub(super) ignored: IgnoredFields,
    behind: u64,
    ahead: u64,
    /// The newest skewed time, in ns since the Unix epoch.
    skewed_ns: Option<u64>,
}

impl BodyNotes {
    /// Whether there is nothing to note.
    pub(super) fn is_empty(&self) -> bool {
        self.ignored.is_empty() && self.skewed_ns.is_none()
    }

    /// Notes a play's time outside the window.
    pub(super) fn add(&mut self, times: &PlayTimes) {
        let Some((time_ns, skew)) = times.skewed else { return };
        match skew {
            Skew::Behind => self.behind += 1,
            Skew::Ahead => self.ahead += 1,
        }
        self.skewed_ns = Some(time_ns);
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Notes {
    bodies: BodyNotes,
    redelivered_unknown: u64,
    reused: ReusedNumbers,
    by_producer: HashMap<Uuid, ReusedNumbers>,
}

impl Notes {
    /// Adds a batch's.
    pub(super) fn add_bodies(&mut self, mut newer: BodyNotes) {
        newer.ignored.merge(std::mem::take(&mut self.bodies.ignored));
        let BodyNotes { behind, ahead, skewed_ns, .. } = self.bodies;
        self.bodies = BodyNotes {
            ignored: newer.ignored,
            behind: behind + newer.behind,
            ahead: ahead + newer.ahead,
            skewed_ns: newer.skewed_ns.or(skewed_ns),
        };
    }

    /// Adds a commit's.
    pub(super) fn add_commit(&mut self, noticed: &Noticed) {
        self.redelivered_unknown += noticed.redelivered_unknown;
        for (producer, more) in &noticed.reused {
            self.reused.add(more);
            if !self.by_producer.contains_key(producer) && self.by_producer.len() >= PRODUCERS_MAX {
                let fewest = self.by_producer.iter().min_by_key(|(_, reused)| reused.sum());
                let fewest = fewest.map(|(id, _)| *id);
                fewest.and_then(|id| self.by_producer.remove(&id));
            }
            self.by_producer.entry(*producer).or_default().add(more);
        }
    }

    /// For a report; `window` as the ledger tells it.
    pub(super) fn figures(&self, window: MessageWindowFigures) -> ArrivalFigures {
        let BodyNotes { ignored, behind, ahead, skewed_ns } = &self.bodies;
        let field = |field| {
            let IgnoredField { count, sample } = ignored.of(field).clone();
            IgnoredFigure { count, sample }
        };
        let mut producers: Vec<_> = self
            .by_producer
            .iter()
            .map(|(producer, ReusedNumbers { other_video, unproven })| ReusedOfProducer {
                producer: *producer,
                other_video: *other_video,
                unproven: *unproven,
            })
            .collect();
        producers.sort_unstable_by_key(|of| (u64::MAX - of.other_video - of.unproven, of.producer));
        producers.truncate(REUSED_PRODUCERS_MAX);
        let ReusedNumbers { other_video, unproven } = self.reused;
        let mut figures = ArrivalFigures {
            ignored: IgnoredFigures {
                enqueued_at: field(PlayField::EnqueuedAt),
                producer: field(PlayField::Producer),
                seq: field(PlayField::Seq),
                resent: field(PlayField::Resent),
            },
            skewed: SkewFigures {
                behind: *behind,
                ahead: *ahead,
                sample: skewed_ns.map(|ns| UnixMs::from_ns(ns).to_string()),
            },
            reused: ReusedFigures { other_video, unproven, producers },
            window: MessageWindowFigures {
                redelivered_unknown: self.redelivered_unknown,
                ..window
            },
        };
        figures.cut();
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::play::PlayDecoder;
    use crate::model::video_id::VideoId;

    fn bodies(seq: &str, skewed: Option<(u64, Skew)>) -> BodyNotes {
        let mut decoder = PlayDecoder::default();
        let video_id = VideoId::NIL;
        decoder.decode(format!(r#"{{"video_id":"{video_id}","seq":{seq}}}"#).as_bytes()).unwrap();
        let mut notes = BodyNotes { ignored: decoder.take_ignored(), ..BodyNotes::default() };
        notes.add(&PlayTimes { played_at_ns: 0, waited_from_ns: None, skewed });
        notes
    }

    #[test]
    fn the_newest_samples_stand() {
        let mut notes = Notes::default();
        assert!(bodies("7", None).is_empty());
        notes.add_bodies(bodies("true", Some((u64::MAX, Skew::Ahead))));
        notes.add_bodies(bodies("[]", Some((1_790_000_000_000_000_000, Skew::Behind))));
        notes.add_bodies(bodies("7", None));
        let figures = notes.figures(MessageWindowFigures::default());
        let IgnoredFigure { count, sample } = figures.ignored.seq;
        assert_eq!((count, sample.as_deref()), (2, Some("[]")));
        let SkewFigures { behind, ahead, sample } = figures.skewed;
        assert_eq!((behind, ahead, sample.as_deref()), (1, 1, Some("2026-09-21T14:13:20Z")));
    }

    #[test]
    fn the_worst_producers_are_told_of_however_many_there_are() {
        let mut notes = Notes::default();
        for round in 0..3u128 {
            for id in 0..100 {
                let mut noticed = Noticed { redelivered_unknown: 1, ..Noticed::default() };
                // The first few come again and again.
                let producer = if id < 7 { id } else { id + round * 1000 };
                let reused = ReusedNumbers { other_video: (10 - id.min(9)) as u64, unproven: 1 };
                noticed.reused.insert(Uuid::from_u128(producer), reused);
                notes.add_commit(&noticed);
            }
        }
        assert!(notes.by_producer.len() <= PRODUCERS_MAX);
        let figures = notes.figures(MessageWindowFigures::default());
        assert_eq!(figures.window.redelivered_unknown, 300);
        assert_eq!(figures.reused.unproven, 300);
        let worst: Vec<_> = figures.reused.producers;
        let want: Vec<_> = (0..5u64)
            .map(|id| ReusedOfProducer {
                producer: Uuid::from_u128(id.into()),
                other_video: 3 * (10 - id),
                unproven: 3,
            })
            .collect();
        assert_eq!(worst, want);
    }
}
