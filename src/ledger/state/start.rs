//! What a start reads into the ledger's state (pure).

use std::ops::Range;

use uuid::Uuid;

use super::LedgerState;
use crate::ledger::checkpoint::SavedVideo;
use crate::ledger::counters::Counters;
use crate::ledger::dedupe::Dedupe;
use crate::ledger::message_key::MessageKey;
use crate::ledger::message_window::MessageBudget;
use crate::ledger::record::{Damaged, Delta, Record};
use crate::model::unix_time::UnixMs;
use crate::model::video::MAX_PLAYS;

/// A clock that tells less, a moment of 1973, was not set since the machine's start.
const CLOCK_IS_SET: UnixMs = UnixMs(100_000_000_000);

/// How far ahead a video's last play may lie at a start: this machine's clock may have been set back.
const FUTURE_MS: i64 = 86_400_000;

/// What a start reads, first the tables' rows, then the records that are newer.
impl LedgerState {
    /// Without a video yet, and with so much memory for messages.
    pub(in crate::ledger) fn with_budget(messages: MessageBudget) -> Self {
        Self { dedupe: Dedupe::with_budget(messages), ..Self::default() }
    }

    /// The same, the counters being as of a frame, the tables holding all up to another one.
    pub(in crate::ledger) fn as_of(
        counters: Counters,
        last: u64,
        checkpointed: u64,
        messages: MessageBudget,
    ) -> Self {
        Self { counters, last, checkpointed, ..Self::with_budget(messages) }
    }

    /// How many videos there are.
    pub(in crate::ledger) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Makes room for a video that has this number; false if another has it, or the video another.
    pub(in crate::ledger) fn place(&mut self, number: u32, id: Uuid) -> bool {
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

    /// Takes over a producer's counted plays, which are in no table.
    pub(in crate::ledger) fn load_producer(&mut self, id: Uuid, runs: Vec<Range<u64>>) {
        self.dedupe.learn(id, runs);
        self.unreported.add(id);
    }

    /// Takes over the ID of a message whose play had no identity, oldest first.
    pub(in crate::ledger) fn load_message(&mut self, message: MessageKey) {
        self.dedupe.learn_message(message);
    }

    /// As [`LedgerState::load_message`], but the next checkpoint writes them again.
    pub(in crate::ledger) fn load_old_messages(&mut self, messages: &[MessageKey]) {
        messages.iter().for_each(|message| self.dedupe.learn_message(*message));
        self.changes.add_messages(messages);
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

    /// The next checkpoint writes every video again, and every producer that is in memory.
    pub(in crate::ledger) fn change_all(&mut self) {
        (0..self.entries.len() as u32).for_each(|number| self.changes.mark(number));
        self.dedupe.producers.iter().for_each(|(id, _)| self.changes.add_producer(*id));
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

    /// Takes over a record, but not its deltas; its counters only if they are not counted yet.
    pub(in crate::ledger) fn load_record(&mut self, number: u64, record: &Record, counted: bool) {
        for (id, runs) in &record.learned.producers {
            self.dedupe.learn(*id, runs.iter().cloned());
        }
        for message in &record.learned.messages {
            self.dedupe.learn_message(*message);
        }
        self.changes.add_messages(&record.learned.messages);
        let counters = self.counters;
        self.apply(record);
        self.written(number);
        if counted {
            self.counters = counters;
        }
    }

    /// Whether videos, producers and counters tell the same number of plays, and one that can be told; `of_producers` are
    /// those with an identity, of all producers.
    pub(in crate::ledger) fn adds_up(&self, of_producers: u64) -> bool {
        let Counters { counted, by_message, .. } = self.counters;
        let plays = self.entries.iter().try_fold(0u64, |sum, entry| sum.checked_add(entry.plays));
        let all_known = self.ids.len() == self.entries.len();
        all_known
            && self.has_room(0)
            && plays == Some(counted)
            && of_producers.checked_add(by_message) == Some(counted)
    }
}
