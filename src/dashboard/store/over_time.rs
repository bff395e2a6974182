//! What the store tells of time as a whole: since when it knows plays, how many there were between moments, and the charts' minutes.

use anyhow::{Context, Result};

use super::history::BUCKETS_MAX;
use super::period::{Period, Scale};
use super::plays::{self, PlaysBetween};
use super::points::{self, MinutePoint};
use super::{Store, history};
use crate::model::unix_time::UnixMs;
use crate::model::video_id::VideoId;
use crate::runtime::clock::unix_ms;

/// The most buckets of all videos that one sum is made of: two days of minutes, or all hours that are kept by default.
const SUMMED_MAX: i64 = 3_000;

impl Store {
    /// Since when all plays by `scale` are known: they were recorded, and are still kept. Now, if none is.
    ///
    /// # Errors
    /// The history cannot be read.
    pub(in crate::dashboard) fn known_from(&self, scale: Scale) -> Result<UnixMs> {
        let now = unix_ms();
        let recorded = self.read_history(
            || {
                let pending = self.state.pending.read();
                (pending.cleared().is_some(), pending.first_minute())
            },
            history::recorded_from,
        )?;
        let kept = scale.oldest(self.keep, now).map(|oldest| scale.start(oldest));
        Ok(recorded.unwrap_or(now).max(kept.unwrap_or_default()))
    }

    /// The plays from each of the `edges`, whole minutes that rise, to the next: of one video, or of all but those that are
    /// deleted.
    ///
    /// # Errors
    /// The history cannot be read.
    pub(in crate::dashboard) fn plays_between(
        &self,
        video: Option<VideoId>,
        edges: &[UnixMs],
    ) -> Result<PlaysBetween> {
        let as_of = unix_ms();
        let (from, to) = edges.first().zip(edges.last()).context("there are no moments")?;
        let scale =
            self.scale_for(*from, *to, if video.is_some() { BUCKETS_MAX } else { SUMMED_MAX });
        let period = Period::of(scale, *from, *to);
        let minutes: Vec<i64> = edges.iter().map(|edge| Scale::Minute.bucket(*edge)).collect();
        let now = Scale::Minute.bucket(as_of);
        let plays = match video {
            Some(id) => self.read_history(
                || self.pending_of(&id),
                |snapshot, own| {
                    let buckets = plays::of_video(snapshot, &own, scale, period, &id)?;
                    plays::between(snapshot, &buckets, scale, &minutes, now)
                },
            ),
            None => {
                let unshown = self.unshown();
                self.read_history(
                    || self.pending_of_all(),
                    |snapshot, pending| {
                        let buckets = plays::of_all(snapshot, &pending, scale, period, &unshown)?;
                        plays::between(snapshot, &buckets, scale, &minutes, now)
                    },
                )
            }
        }?;
        let known_from = self.known_from(scale)?;
        Ok(PlaysBetween { edges: edges.to_vec(), plays, scale, known_from, as_of })
    }

    /// The charts' minutes from `from` on, the oldest first.
    ///
    /// # Errors
    /// They cannot be read.
    pub(in crate::dashboard) fn minutes(&self, from: UnixMs) -> Result<Vec<MinutePoint>> {
        self.read(|connection| points::minutes(connection, from))
    }
}
