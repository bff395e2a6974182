//! What a start reads into the counts, first the tables' rows, then the records that are newer (pure).

use super::VideoCounts;
use crate::ledger::checkpoint::SavedVideo;
use crate::ledger::counters::Counters;
use crate::ledger::record::{Damaged, Delta};
use crate::model::unix_time::UnixMs;
use crate::model::video::MAX_PLAYS;
use crate::model::video_id::VideoId;

/// A clock that tells less, a moment of 1973, was not set since the machine's start.
const CLOCK_IS_SET: UnixMs = UnixMs(100_000_000_000);

/// How far ahead a video's last play may lie at a start: this machine's clock may have been set back.
const FUTURE_MS: i64 = 86_400_000;

impl VideoCounts {
    /// Without a video yet.
    pub(in crate::ledger) fn with_counters(counters: Counters) -> Self {
        Self { counters, ..Self::default() }
    }

    /// Makes room for a video that has this number; false if another has it, or the video another.
    pub(in crate::ledger) fn place(&mut self, number: u32, id: VideoId) -> bool {
        if !self.ids.place(number, id) {
            return false;
        }
        self.resize(self.entries.len().max(number as usize + 1));
        true
    }

    /// Takes over a row of a video that has its place.
    pub(in crate::ledger) fn load_video(&mut self, row: &SavedVideo) {
        let entry = &mut self.entries[row.number as usize];
        (entry.plays, entry.last_played_at) = (row.plays, row.last_played_at);
        entry.set_published(row.published);
    }

    /// Adds a delta of a record to its video.
    pub(in crate::ledger) fn load_delta(&mut self, delta: &Delta) -> Result<(), Damaged> {
        let plays = self.entries[delta.number as usize].plays.checked_add(delta.plays);
        if plays.is_none_or(|plays| plays > MAX_PLAYS) {
            return Err(Damaged);
        }
        self.grow(delta);
        Ok(())
    }

    /// Adds a record's counters.
    pub(in crate::ledger) fn load_counters(&mut self, more: &Counters) {
        self.counters.add(more);
    }

    /// Forgets when videos were played last, where that is far later than `now`: it is what a wrong clock has said. Not by a
    /// clock that was never set.
    pub(in crate::ledger) fn forget_future(&mut self, now: UnixMs) {
        if now < CLOCK_IS_SET {
            return;
        }
        for entry in &mut self.entries {
            if i64::try_from(entry.last_played_at).map_or(true, |ms| ms - now.0 > FUTURE_MS) {
                entry.last_played_at = 0;
            }
        }
    }

    /// Every video is to be written to the tables again.
    pub(in crate::ledger) fn change_all(&mut self) {
        (0..self.entries.len() as u32).for_each(|number| self.changed.mark(number));
    }

    /// The sum of all counts; `None` where one of them or the sum is none that can be, or a number has no video.
    pub(in crate::ledger) fn plays(&self) -> Option<u64> {
        let plays = self.entries.iter().try_fold(0u64, |sum, entry| sum.checked_add(entry.plays));
        plays.filter(|_| self.ids.len() == self.entries.len())
    }
}
