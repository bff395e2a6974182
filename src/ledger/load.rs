//! How a start comes by the ledger's state: first the tables' rows, then the records that are newer (pure).

use std::ops::Range;

use uuid::Uuid;

use super::checkpoint::SavedVideo;
use super::counters::Counters;
use super::message_key::MessageKey;
use super::record::{Damaged, Record};
use super::state::LedgerState;

/// A [`LedgerState`] while it is loaded.
#[derive(Debug)]
pub(super) struct StateLoader {
    state: LedgerState,
    /// How many videos there are in all: no number is larger.
    videos: usize,
    /// As of which record the counters stand, and each video's row: 0 where there is none.
    as_of: u64,
    rows_as_of: Vec<u64>,
}

impl StateLoader {
    /// Starts from the counters as of a record. `videos` is how many videos there are at most.
    pub(super) fn new(counters: Counters, as_of: u64, videos: usize) -> Self {
        let state = LedgerState::as_of(counters, as_of);
        Self { state, videos, as_of, rows_as_of: Vec::new() }
    }

    /// A video's row, which includes all records up to `as_of`.
    pub(super) fn video(&mut self, row: &SavedVideo, id: Uuid, as_of: u64) -> Result<(), Damaged> {
        self.place(row.number, id)?;
        self.state.load_video(row);
        self.rows_as_of[row.number as usize] = as_of;
        Ok(())
    }

    /// A producer's counted plays.
    pub(super) fn producer(&mut self, id: Uuid, runs: Vec<Range<u64>>) {
        self.state.load_producer(id, runs);
    }

    /// Message IDs of records that are gone, oldest first.
    pub(super) fn messages(&mut self, messages: Vec<MessageKey>) {
        messages.into_iter().for_each(|message| self.state.load_message(message));
    }

    /// A record; in order.
    pub(super) fn record(&mut self, number: u64, record: &Record) -> Result<(), Damaged> {
        for (number, id) in (record.first_video..).zip(&record.new_videos) {
            self.place(number, *id)?;
        }
        for delta in &record.deltas {
            let at = delta.number as usize;
            if number > *self.rows_as_of.get(at).ok_or(Damaged)? {
                self.state.grow(delta);
            }
        }
        self.state.load_record(number, record, number <= self.as_of);
        Ok(())
    }

    /// The state, if it adds up.
    ///
    /// # Errors
    /// [`Damaged`] when videos, producers and counters tell different numbers of plays.
    pub(super) fn finish(self) -> Result<LedgerState, Damaged> {
        if self.state.adds_up() { Ok(self.state) } else { Err(Damaged) }
    }

    /// Makes room for a video's number, if it has none; its id must not change.
    fn place(&mut self, number: u32, id: Uuid) -> Result<(), Damaged> {
        if number as usize >= self.videos || !self.state.place(number, id) {
            return Err(Damaged);
        }
        self.rows_as_of.resize(self.rows_as_of.len().max(number as usize + 1), 0);
        Ok(())
    }
}
