//! `POST /api/counts`: a processor tells its whole counts (pure).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::consumption::Consumption;
use super::ledger::LedgerMark;
use super::limits::{Invalid, is_moment};
use super::videos::{TITLES_MAX, VideoTitle, check_titles};
use crate::model::video::{MAX_COUNTS, MAX_PLAYS, VideoCount};

/// The body of `POST /api/counts`: the processor's whole counts of 1 to [`MAX_COUNTS`] videos.
///
/// Counts are absolute, so a repeat or an old one that arrives late changes nothing: the dashboard keeps the
/// highest for each (processor, video) and sums over processors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CountsUpdate {
    /// Who counted: one id for each ledger.
    pub processor: Uuid,
    /// Grows with each message of that processor, over its restarts, too.
    #[schemars(range(min = 1, max = MAX_PLAYS))]
    pub version: u64,
    /// The changed videos, each at most once.
    #[schemars(length(min = 1, max = MAX_COUNTS))]
    pub counts: Vec<VideoCount>,
    /// Titles that plays have said. One that was set by hand stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = TITLES_MAX))]
    pub titles: Vec<VideoTitle>,
    /// How the processor fares, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumption: Option<Consumption>,
    /// The ledger that they are of, once it was claimed by `POST /api/ledgers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerMark>,
}

impl CountsUpdate {
    /// Refuses what a processor would not send.
    ///
    /// # Errors
    /// Too few or too many counts, a video twice, a number or a time out of range.
    pub fn check(&self) -> Result<(), Invalid> {
        let counts = &self.counts;
        if counts.is_empty() || counts.len() > MAX_COUNTS {
            let reason = format!("a message has 1 to {MAX_COUNTS} counts, not {}", counts.len());
            return Err(Invalid::new(reason));
        }
        if self.version == 0 || self.version > MAX_PLAYS {
            let reason = format!("versions go from 1 to {MAX_PLAYS}, not {}", self.version);
            return Err(Invalid::new(reason));
        }
        for (index, count) in counts.iter().enumerate() {
            if count.plays > MAX_PLAYS {
                let reason = format!("{} plays are over the limit of {MAX_PLAYS}", count.plays);
                return Err(Invalid::new(reason));
            }
            if count.last_played_at.is_some_and(|time| !is_moment(time)) {
                return Err(Invalid::new("last_played_at must be ms since the Unix epoch"));
            }
            if counts[..index].iter().any(|other| other.video_id == count.video_id) {
                return Err(Invalid::new(format!("video {} is there twice", count.video_id)));
            }
        }
        check_titles(&self.titles)?;
        self.ledger.as_ref().map_or(Ok(()), LedgerMark::check)?;
        self.consumption.as_ref().map_or(Ok(()), Consumption::check)
    }
}
