//! Dead letters of a ledger in files that are looked at again. Runs on the thread of the command, which holds the ledger.

use std::ops::Range;
use std::time::Instant;

use anyhow::{Result, bail};

use super::DurableLedger;
use crate::ledger::dead_letters::{PAGE, next_page};
use crate::ledger::ledger_trait::Ledger;
use crate::ledger::letter::{DEAD_LETTERS_MAX, SavedDeadLetter};
use crate::ledger::record::Record;
use crate::ledger::retry::{JudgeLetter, LetterRetry, Retried, RetryBatch};
use crate::model::video::MAX_PLAYS;
use crate::runtime::clock::unix_ms;
use crate::storage::failpoint;

impl LetterRetry for DurableLedger {
    fn newest_letter(&mut self) -> Result<i64> {
        Ok(self.counters().rejected.cast_signed())
    }

    fn retry_next(
        &mut self,
        numbers: Range<i64>,
        judge: &mut JudgeLetter<'_>,
    ) -> Result<Option<Retried>> {
        self.check_failed()?;
        let letters = self.letters_of(numbers)?;
        if letters.is_empty() {
            return Ok(None);
        }
        let batch = RetryBatch::judged(letters, judge);
        if batch.letters.is_empty() {
            return Ok(Some(batch.done(&Record::default())));
        }
        // As in a commit of plays: from here on the state is ahead of the file.
        self.failed = true;
        self.producers.fetch(&mut self.state, batch.producers())?;
        if !self.state.counts.has_room(batch.plays.len() as u64 + batch.rest()) {
            bail!("the ledger has counted {MAX_PLAYS} messages, the most that can be told");
        }
        let first = self.newest_letter()? + 1;
        let counted = self.state.count_retried(&batch);
        let rest = batch.new_letters(first, unix_ms());
        failpoint::hit("ledger-before-commit");
        self.write(&counted.record, &rest)?;
        failpoint::hit("ledger-after-commit");
        self.gone.add(&counted.record.retried);
        self.letters.retain(|letter| !self.gone.has(letter));
        self.letters_bytes = self.letters.iter().map(|letter| letter.body.len()).sum();
        self.keep_letters(rest);
        self.failed = false;
        self.keep_up()?;
        Ok(Some(batch.done(&counted.record)))
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.close()
    }
}

impl DurableLedger {
    /// The next letters with those numbers, oldest first.
    fn letters_of(&self, mut numbers: Range<i64>) -> Result<Vec<SavedDeadLetter>> {
        // Older ones are in the table until a checkpoint that has newer ones.
        let oldest = self.counters().rejected.cast_signed() - DEAD_LETTERS_MAX + 1;
        numbers.start = numbers.start.max(oldest);
        let wanted = numbers.clone();
        let mut newer =
            self.letters.iter().filter(|letter| wanted.contains(&letter.number)).peekable();
        numbers.end = newer.peek().map_or(numbers.end, |letter| letter.number);
        let letters = next_page(&self.tables.lock().connection, &mut numbers, &self.gone)?;
        Ok(if letters.is_empty() { newer.take(PAGE).cloned().collect() } else { letters })
    }

    /// Does what is due of the upkeep: no thread does it here.
    fn keep_up(&mut self) -> Result<()> {
        loop {
            if let Some(work) = self.upkeep(Instant::now()) {
                let done = work.run()?;
                self.upkept(done)?;
            }
            if !self.is_behind() {
                return Ok(());
            }
        }
    }
}
