//! What has changed since the last checkpoint: which videos, and their plays by minute (pure).

use std::collections::BTreeMap;
use std::ops::Bound;

use uuid::Uuid;

use super::period::MINUTE_MS;
use crate::model::unix_time::UnixMs;

/// Plays of one video by minute: (minute since the Unix epoch, plays), oldest first.
pub(super) type Minutes = Vec<(i64, i64)>;

/// Every video whose count has changed, with its plays that are not in the history's tables yet.
#[derive(Debug, Default)]
pub(super) struct PendingHistory {
    videos: BTreeMap<Uuid, Minutes>,
}

impl PendingHistory {
    /// How many videos have changed.
    pub(super) fn len(&self) -> usize {
        self.videos.len()
    }

    /// Whether none has.
    pub(super) fn is_empty(&self) -> bool {
        self.videos.is_empty()
    }

    /// Adds plays of a video at that time; of a count that is new and 0, none.
    pub(super) fn add(&mut self, id: Uuid, plays: i64, at: UnixMs) {
        let minutes = self.videos.entry(id).or_default();
        let minute = at.0.div_euclid(MINUTE_MS);
        match minutes.last_mut() {
            _ if plays == 0 => {}
            Some((last, sum)) if *last == minute => *sum = sum.saturating_add(plays),
            // Most have one: room for four, as `push` makes, would be most of what a changed video costs.
            _ => {
                minutes.reserve_exact(1);
                minutes.push((minute, plays));
            }
        }
    }

    /// One video's plays.
    pub(super) fn of(&self, id: &Uuid) -> Minutes {
        self.videos.get(id).cloned().unwrap_or_default()
    }

    /// Every video's plays: (video, minute, plays).
    pub(super) fn all(&self) -> Vec<(Uuid, i64, i64)> {
        let minutes = |(id, minutes): (&Uuid, &Minutes)| {
            let id = *id;
            minutes.clone().into_iter().map(move |(minute, plays)| (id, minute, plays))
        };
        self.videos.iter().flat_map(minutes).collect()
    }

    /// The first `most` videos behind `after`, in the order of their ids.
    pub(super) fn slice(&self, after: Option<Uuid>, most: usize) -> Vec<(Uuid, Minutes)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.videos.range((from, Bound::Unbounded)).take(most);
        next.map(|(id, minutes)| (*id, minutes.clone())).collect()
    }

    /// Takes out a video that the tables have now.
    pub(super) fn remove(&mut self, id: &Uuid) {
        self.videos.remove(id);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.videos.clear();
    }
}
