//! Dead letters that are looked at again: what is a play of them is counted, once, by the commit with which the letter goes
//! (pure). `durable/retry` and `shared/retry` make that commit.

use std::ops::Range;

use anyhow::Result;
use uuid::Uuid;

use super::letter::{BODY_MAX, SavedDeadLetter};
use super::message_key::MessageKey;
use super::record::Record;
use crate::model::play::Play;
use crate::model::unix_time::UnixMs;

/// Plays at which a commit takes no more letters: as many as other commits have.
const PLAYS_MAX: usize = 10_000;

/// Bytes of what is left of letters at which a commit takes no more of them: a page of letters that are gzip'd could leave a
/// hundred times as much, which waits in memory for the commit, twice.
const REST_BYTES_MAX: usize = 16 << 20;

/// A play that a dead letter holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetriedPlay {
    /// The play.
    pub play: Play,
    /// When it was played, in ns since the Unix epoch; 0: nobody says so.
    pub played_at_ns: u64,
    /// What it is known by where it has no (producer, seq); `None`: the letter alone, which goes once.
    pub message: Option<MessageKey>,
}

/// A part of a letter's body that is no play where others are: it becomes a letter of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterRest {
    /// Why it is none; at most 200 characters.
    pub reason: String,
    /// Bytes of the part.
    pub size: usize,
    /// The part, or its beginning; 16 KiB of it are kept.
    pub body: Vec<u8>,
}

/// What is found in a dead letter that is looked at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LetterVerdict {
    /// No play: it stays, for that reason.
    Stays(String),
    /// Plays, which may be counted already, and what is left of it: the letter goes.
    Goes {
        /// At least one.
        plays: Vec<RetriedPlay>,
        /// Mostly nothing.
        rest: Vec<LetterRest>,
    },
}

/// Looks at a letter. May be asked of the same one twice.
pub type JudgeLetter<'a> = dyn FnMut(&SavedDeadLetter) -> LetterVerdict + 'a;

/// What one commit has made of some letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// The number of the last letter that was looked at.
    pub last: i64,
    /// Plays counted.
    pub counted: u64,
    /// Plays that were counted before.
    pub duplicates: u64,
    /// Letters that are gone.
    pub gone: u64,
    /// Why each of the others stays.
    pub stays: Vec<String>,
    /// New letters, of parts of those that are gone.
    pub rest: u64,
}

/// A ledger whose dead letters are looked at again, in the order of their numbers.
pub trait LetterRetry {
    /// The number of the newest letter; 0 where there never was one.
    ///
    /// # Errors
    /// It cannot be read.
    fn newest_letter(&mut self) -> Result<i64>;

    /// Looks at the next letters of `numbers`, counts their plays, and returns when that is durable, and the letters are gone
    /// with it; `None`: there is none left. What came before is safe whatever it returns.
    ///
    /// # Errors
    /// They cannot be read, or what was counted cannot be made durable.
    fn retry_next(
        &mut self,
        numbers: Range<i64>,
        judge: &mut JudgeLetter<'_>,
    ) -> Result<Option<Retried>>;

    /// Ends it.
    ///
    /// # Errors
    /// What is left to do cannot be done; what was counted is safe.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Letters of one commit, as they were found.
#[derive(Debug, Default)]
pub(super) struct RetryBatch {
    /// Those that go, ascending.
    pub(super) letters: Vec<SavedDeadLetter>,
    /// All plays of theirs.
    pub(super) plays: Vec<RetriedPlay>,
    /// What is left of them, each with its letter's place.
    rest: Vec<(usize, LetterRest)>,
    pub(super) last: i64,
    stays: Vec<String>,
}

impl RetryBatch {
    /// Looks at letters, ascending, until there is enough for a commit.
    pub(super) fn judged(
        letters: impl IntoIterator<Item = SavedDeadLetter>,
        judge: &mut JudgeLetter<'_>,
    ) -> Self {
        let mut batch = Self::default();
        let mut rest_bytes = 0;
        for letter in letters {
            batch.last = letter.number;
            match judge(&letter) {
                LetterVerdict::Stays(reason) => batch.stays.push(reason),
                LetterVerdict::Goes { plays, rest } => {
                    let at = batch.letters.len();
                    batch.plays.extend(plays);
                    rest_bytes += rest.iter().map(|rest| rest.body.len()).sum::<usize>();
                    batch.rest.extend(rest.into_iter().map(|rest| (at, rest)));
                    batch.letters.push(letter);
                }
            }
            if batch.plays.len() >= PLAYS_MAX || rest_bytes >= REST_BYTES_MAX {
                break;
            }
        }
        batch
    }

    /// The producers of its plays.
    pub(super) fn producers(&self) -> impl Iterator<Item = Uuid> {
        self.plays.iter().filter_map(|retried| Some(retried.play.identity?.producer))
    }

    /// The numbers of the letters that go, as runs.
    pub(super) fn runs(&self) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for letter in &self.letters {
            let number = letter.number.unsigned_abs();
            match runs.last_mut().filter(|run| run.end == number) {
                Some(run) => run.end += 1,
                None => runs.push(number..number + 1),
            }
        }
        runs
    }

    /// The letters that what is left becomes, numbered from `first` on.
    pub(super) fn new_letters(&self, first: i64, at: UnixMs) -> Vec<SavedDeadLetter> {
        let new = |(number, (of, rest)): (i64, &(usize, LetterRest))| {
            let letter = &self.letters[*of];
            SavedDeadLetter {
                number,
                at,
                nsqd: letter.nsqd.clone(),
                message_id: letter.message_id.clone(),
                reason: rest.reason.clone(),
                size: rest.size as i64,
                body: rest.body[..rest.body.len().min(BODY_MAX)].to_vec(),
            }
        };
        (first..).zip(&self.rest).map(new).collect()
    }

    /// How many those are.
    pub(super) fn rest(&self) -> u64 {
        self.rest.len() as u64
    }

    /// What has become of it, with the record of its commit.
    pub(super) fn done(self, record: &Record) -> Retried {
        Retried {
            last: self.last,
            counted: record.counters.counted,
            duplicates: record.counters.duplicates,
            gone: self.letters.len() as u64,
            rest: self.rest(),
            stays: self.stays,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::video_id::VideoId;

    /// A page may leave far more than a commit takes.
    #[test]
    fn a_batch_ends_where_so_much_is_left() {
        let letter = |number| SavedDeadLetter {
            number,
            at: UnixMs(1),
            nsqd: String::new(),
            message_id: String::new(),
            reason: String::new(),
            size: 0,
            body: Vec::new(),
        };
        let video_id = VideoId::from_u128(7);
        let play = Play { video_id, enqueued_at_ns: None, identity: None, resent: false };
        let rest = LetterRest { reason: String::new(), size: BODY_MAX, body: vec![b'x'; BODY_MAX] };
        let verdict = LetterVerdict::Goes {
            plays: vec![RetriedPlay { play, played_at_ns: 0, message: None }],
            rest: vec![rest; 64],
        };
        // 1 MiB of each.
        let batch = RetryBatch::judged((1..=1_000).map(letter), &mut |_| verdict.clone());
        assert_eq!((batch.last, batch.letters.len(), batch.plays.len()), (16, 16, 16));
        assert_eq!(batch.rest(), 16 * 64);
    }
}
