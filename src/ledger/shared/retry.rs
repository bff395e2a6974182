//! Dead letters of a shared ledger that are looked at again. Runs on the thread of the command, beside any number of
//! processors and of others that do the same.
//!
//! It counts as a processor does, under an id of its own: one whose lease has run out, or a new one. A letter is locked, and goes
//! in the transaction that counts its plays: who else looks at letters skips those that are locked, and finds none that is gone.
//! At the end the lease is given back, and any processor of the ledger publishes for the id, as for one that is gone.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use uuid::Uuid;

use super::dead::is_due;
use super::link::{Link, connect, is_conflict};
use super::load::load;
use super::membership::{Membership, give_back, join, reclaim, renew};
use super::new_messages::{AskTables, NewMessages};
use super::schema;
use super::sweep::{SweepSlice, write_slice};
use super::touched::Touched;
use super::transaction::{
    CommitWrites, Ending, Own, commit, insert_messages, only, own_row, queue_begin, queue_reads,
    roll_back, set_new, take_reads,
};
use super::trouble::{LedgerBehind, Trouble};
use crate::ledger::dedupe::{Learned, PlayMemory, Seen};
use crate::ledger::letter::SavedDeadLetter;
use crate::ledger::record::Record;
use crate::ledger::retry::{JudgeLetter, LetterRetry, Retried, RetryBatch};
use crate::ledger::video_counts::VideoCounts;
use crate::ledger::video_counts::counting::Counted;
use crate::model::unix_time::UnixMs;
use crate::model::video::MAX_PLAYS;
use crate::postgres::{Param, PgConfig, PgConnection, PgRow, PgRows};
use crate::runtime::clock::unix_ms;

/// Letters of one commit, of up to 16 KiB each.
const LETTERS: i64 = 1_000;

/// Tries of one commit that is in another's way.
const TRIES: u32 = 5;

/// A lease lasts 10 s, and each commit renews it; not every look at letters ends with one.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// Videos in one slice of the last sweep.
const SLICE: usize = 2_000;

const NEWEST: &str = "SELECT coalesce(max(number), 0) FROM playcounts.dead_letters";

/// Not those that somebody else looks at.
const LOCK_LETTERS: &str = "SELECT number, at, nsqd, message_id, reason, size, body
    FROM playcounts.dead_letters WHERE number >= $1 AND number < $2 ORDER BY number LIMIT $3
    FOR UPDATE SKIP LOCKED";

const READ_LETTERS: &str = "SELECT number, at, nsqd, message_id, reason, size, body
    FROM playcounts.dead_letters WHERE number > $1 ORDER BY number LIMIT $2";

/// Calls `each` for every dead letter of a shared ledger, oldest first.
///
/// # Errors
/// `each`'s; the database has no ledger, is away or refuses.
pub fn shared_dead_letters(
    config: &PgConfig,
    mut each: impl FnMut(SavedDeadLetter) -> Result<()>,
) -> Result<()> {
    let mut connection = connect(config)?;
    check_is_there(&mut connection)?;
    let mut after = 0;
    loop {
        let rows = connection.query(READ_LETTERS, &[Param::Int(after), Param::Int(LETTERS)])?;
        for row in rows.iter() {
            let letter = letter_of(&row).map_err(Trouble::at_start)?;
            after = letter.number;
            each(letter)?;
        }
        if rows.is_empty() {
            return Ok(());
        }
    }
}

fn check_is_there(connection: &mut PgConnection) -> Result<()> {
    match schema::read(connection)? {
        Some(_) => Ok(()),
        None => bail!("there is no shared ledger in the database: give the --ledger of `process`"),
    }
}

fn letter_of(row: &PgRow<'_>) -> Result<SavedDeadLetter, Trouble> {
    Ok(SavedDeadLetter {
        number: row.int(0)?,
        at: UnixMs(row.int(1)?),
        nsqd: row.text(2)?.to_owned(),
        message_id: row.text(3)?.to_owned(),
        reason: row.text(4)?.to_owned(),
        size: row.int(5)?,
        body: row.bytes(6)?.to_owned(),
    })
}

/// Looks at the letters of a shared ledger, as a processor of it.
pub struct SharedRetry {
    link: Link,
    own: Own,
    /// The newest record; it is durable.
    last: u64,
    counts: VideoCounts,
    memory: PlayMemory,
    renewed: Option<Instant>,
    buffer: Vec<u8>,
}

/// A look at some letters, in an open transaction.
struct OpenRetry {
    batch: RetryBatch,
    touched: Touched,
    messages: NewMessages,
}

impl SharedRetry {
    /// Takes an id of the ledger, and loads what was counted under it.
    ///
    /// # Errors
    /// One line with the way out: the database has no ledger, is away or refuses, or its tables do not add up.
    pub fn open(config: &PgConfig) -> Result<Self> {
        let mut link = Link::new(config.clone());
        check_is_there(link.get()?)?;
        let entered = |connection: &mut PgConnection| {
            let member = join(connection, Uuid::new_v4(), None)?;
            let counts = load(connection, &member)?;
            Ok((member, counts))
        };
        let (Membership { own, last_record, .. }, counts) =
            link.run(entered).map_err(Trouble::at_start)?;
        Ok(Self {
            link,
            own,
            last: last_record,
            counts,
            memory: PlayMemory::default(),
            renewed: Some(Instant::now()),
            buffer: Vec::new(),
        })
    }

    /// Under which id it counts.
    pub fn processor(&self) -> Uuid {
        self.own.id
    }

    fn try_next(
        &mut self,
        numbers: &Range<i64>,
        judge: &mut JudgeLetter<'_>,
    ) -> Result<Option<Retried>, Trouble> {
        let (own, known) = (self.own, self.last);
        if is_due(&mut self.renewed, RENEW_EVERY) {
            self.link.run(|connection| renew(connection, &own))?;
        }
        let begun = self.link.run(|connection| begin(connection, &own, known, numbers, judge))?;
        let Some(mut open) = begun else { return Ok(None) };
        if open.batch.letters.is_empty() {
            self.link.run(roll_back)?;
            return Ok(Some(open.batch.done(&Record::default())));
        }
        if !self.counts.has_room(open.batch.plays.len() as u64 + open.batch.rest()) {
            return Err(Trouble::Damaged(format!(
                "this processor has counted {MAX_PLAYS} messages, the most that can be told"
            )));
        }
        let counted = self.count(&mut open);
        self.commit(open, counted).map(Some)
    }

    /// Counts what is new, by what the tables have told.
    fn count(&mut self, open: &mut OpenRetry) -> Counted {
        let mut counting = self.counts.count();
        for retried in &open.batch.plays {
            let seen = match (retried.play.identity, &retried.message) {
                (Some(identity), _) => {
                    let is_new = open.touched.count(&identity);
                    self.memory.compare(is_new, identity, &retried.play)
                }
                (None, Some(key)) if open.messages.count(key).is_none() => Seen::Duplicate,
                // By its letter, which is locked and there.
                (None, _) => Seen::NewByMessage,
            };
            counting.retried(retried, seen);
        }
        let mut counted = counting.end(Learned::default());
        counted.record.counters.rejected += open.batch.rest();
        counted
    }

    fn commit(&mut self, open: OpenRetry, mut counted: Counted) -> Result<Retried, Trouble> {
        let OpenRetry { batch, touched, messages } = open;
        let letters = batch.new_letters(0, unix_ms());
        let retried: Vec<i64> = batch.letters.iter().map(|letter| letter.number).collect();
        self.buffer.clear();
        counted.record.encode(&mut self.buffer);
        let writes = CommitWrites {
            number: self.last + 1,
            record: &self.buffer,
            producers: touched.writes(),
            messages: messages.taken(),
            letters: &letters,
            retried: &retried,
        };
        match commit(self.link.get()?, &self.own, &writes) {
            Ending::Durable => {
                self.last += 1;
                self.counts.apply(&mut counted);
                Ok(batch.done(&counted.record))
            }
            Ending::Repeated => Err(Trouble::Damaged("a row is there and is not".to_owned())),
            // Whatever came of it, the letters are gone with their plays counted, or neither is so.
            Ending::InDoubt(error) => {
                self.counts.withdraw(&counted);
                self.link.drop_connection();
                Err(error.into())
            }
        }
    }

    /// After a transaction was rolled back because it was in another's way: goes on with another connection.
    fn reclaim(&mut self) -> Result<(), Trouble> {
        let (mut own, known) = (self.own, self.last);
        let found = self.link.run(|connection| reclaim(connection, &mut own, known))?;
        self.own = own;
        if found == known { Ok(()) } else { Err(LedgerBehind { found, known }.into()) }
    }

    /// Takes the own records into the own videos, so that whoever loads them is quick.
    fn sweep(&mut self) -> Result<(), Trouble> {
        let mut numbers = self.counts.changed_mut().take();
        numbers.sort_unstable();
        let own = self.own;
        let mut slices = numbers.chunks(SLICE).peekable();
        while let Some(some) = slices.next() {
            let slice = SweepSlice {
                as_of: self.last,
                counters: self.counts.counters(),
                videos: some.iter().map(|number| self.counts.saved(*number)).collect(),
                upto: slices.peek().is_none().then_some(self.last),
            };
            self.link.run(|connection| write_slice(connection, &own, &slice))?;
        }
        Ok(())
    }
}

/// The first round trips: locks the own row and the next letters, looks at them, and reads what their plays ask for. `None`: there
/// is no letter left, and no transaction open.
fn begin(
    connection: &mut PgConnection,
    own: &Own,
    known: u64,
    numbers: &Range<i64>,
    judge: &mut JudgeLetter<'_>,
) -> Result<Option<OpenRetry>, Trouble> {
    queue_begin(connection, own)?;
    let params = [Param::Int(numbers.start), Param::Int(numbers.end), Param::Int(LETTERS)];
    connection.statement(LOCK_LETTERS, &params)?;
    connection.sync();
    let answer = only(connection.exchange()?)?;
    let (found, _) = own_row(answer.get(1))?;
    if found != known {
        return Err(LedgerBehind { found, known }.into());
    }
    let letters = answer.get(2).into_iter().flat_map(PgRows::iter);
    let letters: Vec<_> = letters.map(|row| letter_of(&row)).collect::<Result<_, _>>()?;
    if letters.is_empty() {
        roll_back(connection)?;
        return Ok(None);
    }
    let batch = RetryBatch::judged(letters, judge);
    let mut touched = Touched::default();
    let identities = batch.plays.iter().filter_map(|retried| retried.play.identity);
    identities.for_each(|identity| touched.enter(&identity));
    let plain = batch.plays.iter().filter(|retried| retried.play.identity.is_none());
    let keys = plain.filter_map(|retried| retried.message).collect();
    let mut messages = NewMessages::new(keys, AskTables::Always);
    if !touched.is_empty() || !messages.is_empty() {
        queue_reads(connection, &touched)?;
        if !messages.is_empty() {
            insert_messages(connection, &messages)?;
        }
        connection.sync();
        let answer = only(connection.exchange()?)?;
        let mut rows = answer.iter();
        take_reads(&mut rows, &mut touched)?;
        set_new(rows.next(), &mut messages)?;
    }
    Ok(Some(OpenRetry { batch, touched, messages }))
}

impl LetterRetry for SharedRetry {
    fn newest_letter(&mut self) -> Result<i64> {
        let newest = |connection: &mut PgConnection| {
            Ok(connection.query(NEWEST, &[] as &[Param<'_>])?.first()?.int(0)?)
        };
        self.link.run(newest).map_err(Trouble::at_start)
    }

    fn retry_next(
        &mut self,
        numbers: Range<i64>,
        judge: &mut JudgeLetter<'_>,
    ) -> Result<Option<Retried>> {
        let mut tries = 1;
        loop {
            match self.try_next(&numbers, judge) {
                Err(trouble) if is_conflict(&trouble) && tries < TRIES => {
                    tries += 1;
                    self.reclaim().map_err(Trouble::at_start)?;
                }
                done => return done.map_err(Trouble::at_start),
            }
        }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let own = self.own;
        self.sweep()
            .and_then(|()| self.link.run(|connection| give_back(connection, &own)))
            .map_err(Trouble::at_start)
            .context("the plays are counted, and are published by a processor of the ledger in about a minute")
    }
}
