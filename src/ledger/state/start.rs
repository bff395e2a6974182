//! What a start reads into the ledger's state (pure).

use std::ops::Range;

use uuid::Uuid;

use super::LedgerState;
use crate::ledger::counters::Counters;
use crate::ledger::dedupe::Dedupe;
use crate::ledger::message_key::MessageKey;
use crate::ledger::message_window::MessageBudget;
use crate::ledger::record::Record;
use crate::ledger::video_counts::VideoCounts;

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
        let counts = VideoCounts::with_counters(counters);
        Self { counts, last, checkpointed, ..Self::with_budget(messages) }
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

    /// The next checkpoint writes every video again, and every producer that is in memory.
    pub(in crate::ledger) fn change_all(&mut self) {
        self.counts.change_all();
        self.dedupe.producers.iter().for_each(|(id, _)| self.changes.add_producer(*id));
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
        self.note_producers(record);
        self.written(number);
        if !counted {
            self.counts.load_counters(&record.counters);
        }
    }

    /// Whether videos, producers and counters tell the same number of plays, and one that can be told; `of_producers` are
    /// those with an identity, of all producers.
    pub(in crate::ledger) fn adds_up(&self, of_producers: u64) -> bool {
        let Counters { counted, by_message, .. } = self.counts.counters();
        self.counts.has_room(0)
            && self.counts.plays() == Some(counted)
            && of_producers.checked_add(by_message) == Some(counted)
    }
}
