//! How a start comes by the ledger's state: first the tables' rows, then the frames of the journal that are newer (pure).

use std::collections::BTreeMap;
use std::ops::Range;

use uuid::Uuid;

use super::checkpoint::SavedVideo;
use super::counters::Counters;
use super::entry::LedgerEntry;
use super::letter::{DEAD_LETTERS_MAX, GoneLetters, SavedDeadLetter};
use super::message_key::MessageKey;
use super::message_window::MessageBudget;
use super::record::{Damaged, Record, RecordError};
use super::state::LedgerState;
use crate::model::dashboard_index::DashboardIndex;
use crate::model::video_id::VideoId;

/// What the one row of the tables says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TablesAsOf {
    /// As of the frame `as_of`.
    pub(super) counters: Counters,
    /// The newest frame that any row has taken in.
    pub(super) as_of: u64,
    /// The newest frame that all rows have taken in.
    pub(super) checkpointed: u64,
    /// The first dashboard that is published to.
    pub(super) dashboard: Option<Uuid>,
    /// Counts the dashboards.
    pub(super) epoch: u64,
}

/// A [`LedgerState`] while it is loaded.
#[derive(Debug)]
pub(super) struct StateLoader {
    state: LedgerState,
    tables: TablesAsOf,
    /// By number: as of which frame each video's row stands; 0 where there is none.
    rows_as_of: Vec<u64>,
    /// Plays of the producers' rows, and whether that is a number that can be.
    saved_plays: Option<u64>,
    /// How often the tables were written, as the journal says; 0: it does not.
    generation: u64,
    /// By number: those that are in no table yet.
    letters: BTreeMap<i64, SavedDeadLetter>,
    /// Numbers of letters that the journal says are gone.
    gone: GoneLetters,
}

/// A ledger that is loaded.
#[derive(Debug)]
pub(super) struct LoadedLedger {
    pub(super) state: LedgerState,
    /// Dead letters that are in no table yet, oldest first.
    pub(super) letters: Vec<SavedDeadLetter>,
    /// Numbers of letters that are gone, and may be in the table.
    pub(super) gone: GoneLetters,
    pub(super) dashboard: Option<Uuid>,
    pub(super) epoch: u64,
    /// How often the tables were written, as the journal says. More than they do: they are of before.
    pub(super) generation: u64,
}

impl StateLoader {
    /// Starts from what the tables say, with so much memory for messages.
    pub(super) fn new(tables: TablesAsOf, messages: MessageBudget) -> Self {
        let TablesAsOf { counters, as_of, checkpointed, .. } = tables;
        let state = LedgerState::as_of(counters, as_of, checkpointed, messages);
        let (rows_as_of, letters) = (Vec::new(), BTreeMap::new());
        let gone = GoneLetters::default();
        Self { state, tables, rows_as_of, saved_plays: Some(0), generation: 0, letters, gone }
    }

    /// A video's row, which includes all frames up to `as_of`.
    pub(super) fn video(&mut self, row: &SavedVideo, as_of: u64) -> Result<(), Damaged> {
        self.place(row.number, row.id)?;
        self.state.counts.load_video(row);
        self.rows_as_of[row.number as usize] = as_of;
        Ok(())
    }

    /// A producer's row. It stays in the table: none of it is kept in memory but that there is one.
    pub(super) fn producer_row(&mut self, id: &Uuid, runs: &[Range<u64>]) {
        self.saved_plays = add_runs(self.saved_plays, runs);
        self.state.producers_mut().add_saved(id);
    }

    /// The producers that the journal tells of, whose rows are to be asked for before the end.
    pub(super) fn in_journal(&self) -> Vec<Uuid> {
        self.state.producers().iter().map(|(id, _)| *id).collect()
    }

    /// What the row says of one of those.
    pub(super) fn complete(&mut self, id: Uuid, runs: Vec<Range<u64>>) {
        let of_row = add_runs(Some(0), &runs);
        // It is counted in memory from now on.
        self.saved_plays = self.saved_plays.zip(of_row).and_then(|(all, row)| all.checked_sub(row));
        self.state.fetched_producer(id, runs);
    }

    /// A producer's counted plays, of which no table has a row.
    pub(super) fn producer(&mut self, id: Uuid, runs: Vec<Range<u64>>) {
        self.state.load_producer(id, runs);
    }

    /// Message IDs of frames that are gone, oldest first.
    pub(super) fn messages(&mut self, messages: Vec<MessageKey>) {
        messages.into_iter().for_each(|message| self.state.load_message(message));
    }

    /// As [`StateLoader::messages`], from tables that are left: the next checkpoint writes them again.
    pub(super) fn old_messages(&mut self, messages: Vec<MessageKey>) {
        self.state.load_old_messages(&messages);
    }

    /// A frame of the journal; in order.
    pub(super) fn entry(&mut self, number: u64, payload: &[u8]) -> Result<(), RecordError> {
        match LedgerEntry::decode(payload)? {
            LedgerEntry::Record(record) => self.record(number, &record)?,
            LedgerEntry::Letters(letters) => {
                for letter in letters {
                    self.letters.insert(letter.number, letter);
                }
                while self.letters.len() as i64 > DEAD_LETTERS_MAX {
                    self.letters.pop_first();
                }
            }
            LedgerEntry::Dashboard(id) if number > self.tables.as_of => {
                self.tables.dashboard = Some(id);
                self.tables.epoch += 1;
                self.state.forget_published();
            }
            LedgerEntry::Dashboard(_) => {}
            LedgerEntry::Tables(generation) => {
                self.generation = self.generation.max(generation);
                self.state.passed(number);
                return Ok(());
            }
        }
        self.state.written(number);
        Ok(())
    }

    /// A record; in order.
    pub(super) fn record(&mut self, number: u64, record: &Record) -> Result<(), Damaged> {
        // Numbers are given without a gap, and what is before this record is loaded.
        if record.first_video as usize > self.state.counts.len() {
            return Err(Damaged);
        }
        for (number, id) in (record.first_video..).zip(&record.new_videos) {
            self.place(number, *id)?;
        }
        for delta in &record.deltas {
            let at = delta.number as usize;
            if number > *self.rows_as_of.get(at).ok_or(Damaged)? {
                self.state.counts.load_delta(delta)?;
            }
        }
        if !self.state.counts.has_room(0) || !record.counters.has_room(0) {
            return Err(Damaged);
        }
        self.state.load_record(number, record, number <= self.tables.as_of);
        // Also one that is in the table already: a checkpoint that was not ended wrote it before this record, or with it.
        for run in &record.retried {
            let numbers = run.start.cast_signed()..run.end.cast_signed();
            let here: Vec<i64> = self.letters.range(numbers).map(|(number, _)| *number).collect();
            here.iter().for_each(|number| drop(self.letters.remove(number)));
        }
        self.gone.add(&record.retried);
        Ok(())
    }

    /// What is loaded, if it adds up.
    ///
    /// # Errors
    /// [`Damaged`] when videos, producers and counters tell different numbers of plays.
    pub(super) fn finish(mut self) -> Result<LoadedLedger, Damaged> {
        let sets = self.state.producers().iter().map(|(_, set)| set.count());
        let mut of_producers = self.saved_plays;
        for plays in sets {
            of_producers = of_producers.zip(plays).and_then(|(sum, more)| sum.checked_add(more));
        }
        if !self.state.adds_up(of_producers.ok_or(Damaged)?) {
            return Err(Damaged);
        }
        if self.state.has_saved_producers() {
            // Nobody knows what the dashboard was told of them.
            self.state.tell_all_producers(DashboardIndex::FIRST);
        }
        // Without the record that counts them they were not committed.
        let rejected = self.state.counts.counters().rejected as i64;
        self.letters.retain(|number, _| *number <= rejected);
        let TablesAsOf { dashboard, epoch, .. } = self.tables;
        let letters = self.letters.into_values().collect();
        let (generation, gone) = (self.generation, self.gone);
        Ok(LoadedLedger { state: self.state, letters, gone, dashboard, epoch, generation })
    }

    /// Makes room for a video's number, if it has none; its id must not change.
    fn place(&mut self, number: u32, id: VideoId) -> Result<(), Damaged> {
        if !self.state.counts.place(number, id) {
            return Err(Damaged);
        }
        self.rows_as_of.resize(self.rows_as_of.len().max(number as usize + 1), 0);
        Ok(())
    }
}

/// The sum and the plays of some runs.
fn add_runs(sum: Option<u64>, runs: &[Range<u64>]) -> Option<u64> {
    runs.iter().try_fold(sum?, |sum, run| sum.checked_add(run.end - run.start))
}
