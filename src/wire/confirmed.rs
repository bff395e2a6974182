//! Which plays of each producer are counted for good: what processors tell, and what producers with an outbox ask (pure).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ledger::LedgerMark;
use super::limits::Invalid;
use super::written::Written;
use crate::model::play::PlayIdentity;
use crate::model::video::MAX_PLAYS;

/// The most runs above the watermark that one [`Confirmed`] tells.
pub const CONFIRMED_RUNS_MAX: usize = 64;

/// The most producers in one [`ConfirmedUpdate`].
pub const CONFIRMED_PRODUCERS_MAX: usize = 100;

/// The number behind the highest that a play may have.
const END_MAX: u64 = PlayIdentity::MAX_SEQ + 1;

/// Which plays of one producer are counted for good: what its outbox may forget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Confirmed {
    /// Every play with a number below this one.
    #[schemars(range(max = END_MAX))]
    pub watermark: u64,
    /// Runs `[start, end)` above it, lowest first, neither empty, overlapping nor touching; of more than fit, the
    /// lowest ones.
    #[serde(default)]
    #[schemars(length(max = CONFIRMED_RUNS_MAX), inner(inner(range(max = END_MAX))))]
    pub above: Vec<[u64; 2]>,
}

/// [`Confirmed`], with the producer that it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProducerConfirmed {
    /// The producer.
    pub producer: Uuid,
    /// Which of its plays.
    #[serde(flatten)]
    pub confirmed: Confirmed,
}

/// What a producer with an outbox says when it asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxFigures {
    /// Plays in its outbox.
    pub plays: u64,
    /// Plays that are counted as its own and that it never made.
    pub foreign: u64,
}

/// The body of `POST /api/confirmed`: 1 to [`CONFIRMED_PRODUCERS_MAX`] producers with more plays counted than was told
/// before. What a processor tells only ever grows, so that repeats and old ones change nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmedUpdate {
    /// Who counted.
    pub processor: Uuid,
    /// Each producer at most once.
    #[schemars(length(min = 1, max = CONFIRMED_PRODUCERS_MAX))]
    pub producers: Vec<ProducerConfirmed>,
    /// The ledger that they are of, once it was claimed by `POST /api/ledgers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerMark>,
}

/// The answer to `POST /api/confirmed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfirmedTaken {
    /// How many producers were told of; and which database took it.
    #[serde(flatten)]
    pub written: Written,
    /// Of each producer, in the order of the message: below which number all plays are in the ledger of one processor or
    /// another, at least. What a processor has above that is of use; what it has below is known. Absent from an older dashboard.
    #[serde(default)]
    #[schemars(length(max = CONFIRMED_PRODUCERS_MAX), inner(range(max = END_MAX)))]
    pub watermarks: Vec<u64>,
}

/// The answer of `GET /api/confirmed?producer=<uuid>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfirmedAnswer {
    /// What was asked; nothing is confirmed of a producer that no processor has told of.
    #[serde(flatten)]
    pub told: ProducerConfirmed,
    /// Processors that have reported in the last 10 s. While there is none, waiting longer means nothing.
    #[schemars(range(max = MAX_PLAYS))]
    pub processors: usize,
}

impl ConfirmedUpdate {
    /// Refuses what a processor would not send.
    ///
    /// # Errors
    /// Too few or too many producers, runs that are empty, out of order, too many, or beyond any play.
    pub fn check(&self) -> Result<(), Invalid> {
        let producers = &self.producers;
        if producers.is_empty() || producers.len() > CONFIRMED_PRODUCERS_MAX {
            let count = producers.len();
            return Err(Invalid::new(format!(
                "a message has 1 to {CONFIRMED_PRODUCERS_MAX} producers, not {count}"
            )));
        }
        self.ledger.as_ref().map_or(Ok(()), LedgerMark::check)?;
        producers.iter().try_for_each(|told| {
            told.confirmed
                .check()
                .map_err(|reason| Invalid::new(format!("producer {}: {reason}", told.producer)))
        })
    }
}

impl Confirmed {
    /// The number behind the highest play that it tells of.
    pub fn end(&self) -> u64 {
        self.above.last().map_or(self.watermark, |[_, end]| *end)
    }

    /// What it says of the plays below `end`.
    pub fn below(&self, end: u64) -> Self {
        let runs = self.above.iter().filter(|[start, _]| *start < end);
        let above = runs.map(|[start, last]| [*start, (*last).min(end)]).collect();
        Self { watermark: self.watermark.min(end), above }
    }

    /// How many plays from `start` on it tells of.
    pub fn count_from(&self, start: u64) -> u64 {
        let above = self.above.iter().map(|[first, end]| end.saturating_sub(start.max(*first)));
        self.watermark.saturating_sub(start).saturating_add(above.sum())
    }

    /// What either of them says, cut to the lowest [`CONFIRMED_RUNS_MAX`] runs.
    pub fn union(&self, other: &Self) -> Self {
        let mut watermark = self.watermark.max(other.watermark);
        let mut runs: Vec<[u64; 2]> = self.above.iter().chain(&other.above).copied().collect();
        runs.sort_unstable();
        let mut above: Vec<[u64; 2]> = Vec::new();
        for [start, end] in runs {
            match above.last_mut() {
                _ if start <= watermark => watermark = watermark.max(end),
                Some(last) if start <= last[1] => last[1] = last[1].max(end),
                _ => above.push([start, end]),
            }
        }
        above.truncate(CONFIRMED_RUNS_MAX);
        Confirmed { watermark, above }
    }

    fn check(&self) -> Result<(), Invalid> {
        let Self { watermark, above } = self;
        if above.len() > CONFIRMED_RUNS_MAX {
            return Err(Invalid::new(format!(
                "{} runs are over the limit of {CONFIRMED_RUNS_MAX}",
                above.len()
            )));
        }
        let mut end = *watermark;
        for run in above {
            if run[0] <= end || run[1] <= run[0] {
                return Err(Invalid::new(format!(
                    "the run {run:?} is empty, or not above {end}, where the one before ends"
                )));
            }
            end = run[1];
        }
        if end > END_MAX {
            return Err(Invalid::new(format!("{end} is beyond the largest number of a play")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confirmed(watermark: u64, above: &[[u64; 2]]) -> Confirmed {
        Confirmed { watermark, above: above.to_vec() }
    }

    #[test]
    fn shapes_are_checked() {
        for (above, reason) in [
            (&[[5, 6]][..], ""),
            (&[[4, 5]], "not above 4"),
            (&[[6, 6]], "is empty"),
            (&[[6, 5]], "is empty"),
            (&[[6, 8], [8, 9]], "not above 8"),
            (&[[6, 8], [9, u64::MAX]], "beyond the largest number"),
            (&[[9, 10]; 65], "65 runs"),
        ] {
            let error = confirmed(4, above)
                .check()
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            assert_eq!(error.is_empty(), reason.is_empty(), "{above:?}: {error}");
            assert!(error.contains(reason), "{above:?}: {error}");
        }
    }

    #[test]
    fn a_part_of_it_is_what_lies_there() {
        let told = confirmed(4, &[[6, 8], [9, 12]]);
        for (end, below, from) in [
            (2, confirmed(2, &[]), 7),
            (4, confirmed(4, &[]), 5),
            (7, confirmed(4, &[[6, 7]]), 4),
            (8, confirmed(4, &[[6, 8]]), 3),
            (20, told.clone(), 0),
        ] {
            assert_eq!((told.below(end), told.count_from(end)), (below, from), "{end}");
        }
        assert_eq!(told.count_from(0), 9);
    }

    #[test]
    fn a_union_holds_what_either_says() {
        for (one, other, both) in [
            (confirmed(4, &[]), confirmed(2, &[]), confirmed(4, &[])),
            (confirmed(4, &[[6, 8]]), confirmed(2, &[[3, 5]]), confirmed(5, &[[6, 8]])),
            (confirmed(4, &[[6, 8]]), confirmed(0, &[[4, 6], [9, 12]]), confirmed(8, &[[9, 12]])),
            (
                confirmed(0, &[[2, 4], [8, 9]]),
                confirmed(0, &[[3, 6]]),
                confirmed(0, &[[2, 6], [8, 9]]),
            ),
        ] {
            assert_eq!(one.union(&other), both);
            assert_eq!(other.union(&one), both);
            assert_eq!(both.union(&one), both);
        }
    }
}
