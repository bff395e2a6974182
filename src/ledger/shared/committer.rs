//! The commits of one processor to the shared ledger, one after the other: what a commit that broke off has left is settled
//! before the next. Runs on the thread that commits.

use uuid::Uuid;

use super::link::{Link, ServerSession};
use super::membership::{Membership, reclaim};
use super::new_messages::{AskTables, MessageAge, NewMessages};
use super::touched::Touched;
use super::transaction::{CommitWrites, Ending, Own, begin, commit, end_without_change, roll_back};
use super::trouble::{LedgerBehind, Trouble};
use crate::ledger::commit::{Arrivals, Committed};
use crate::ledger::dedupe::{Learned, PlayMemory, Seen};
use crate::ledger::entry::saved;
use crate::ledger::letter::SavedDeadLetter;
use crate::ledger::message_key::MessageKey;
use crate::ledger::message_parts::MessageVerdicts;
use crate::ledger::video_counts::VideoCounts;
use crate::ledger::video_counts::counting::Counted;
use crate::model::video::MAX_PLAYS;
use crate::runtime::clock::unix_ms;

/// Bytes of dead letters' bodies in one commit that are kept; of the others only the reason.
const LETTERS_BYTES: usize = 8 << 20;

/// So many commits ask which messages are new after one that was made in vain because it had taken a repeat for new: repeats
/// come in numbers, as when an nsqd was killed and delivers again what it had on its disk.
const ASK_COMMITS: u32 = 20;

/// What a commit has done, and of which producers plays are new.
pub(super) struct Landed {
    pub(super) committed: Committed,
    pub(super) producers: Vec<Uuid>,
}

/// A commit that was sent, or is.
struct SentCommit {
    counted: Counted,
    /// Of the plays and letters, in the order they came.
    seen: Vec<Seen>,
    producers: Vec<Uuid>,
    first_message: Option<MessageKey>,
}

/// What has come of one try of a commit.
enum Tried {
    Landed(Landed),
    /// A message that was taken for new was not: nothing is committed.
    Repeated,
}

/// Commits, and knows how the newest one ended.
pub(super) struct SharedCommitter {
    /// After it broke the own epoch is raised before anything else is done.
    link: Link,
    pub(super) own: Own,
    /// The newest record that is durable.
    pub(super) last: u64,
    pub(super) counts: VideoCounts,
    memory: PlayMemory,
    /// Whether it took place is not known.
    in_doubt: Option<SentCommit>,
    /// It took place, and who commits has not been told.
    settled: Option<SentCommit>,
    /// The same, when other arrivals came next.
    owed: Vec<Landed>,
    /// So many commits more ask which messages are new.
    asking: u32,
    buffer: Vec<u8>,
}

impl SharedCommitter {
    /// Goes on from what was loaded.
    pub(super) fn new(link: Link, member: &Membership, counts: VideoCounts) -> Self {
        Self {
            link,
            own: member.own,
            last: member.last_record,
            counts,
            memory: PlayMemory::default(),
            in_doubt: None,
            settled: None,
            owed: Vec::new(),
            asking: 0,
            buffer: Vec::new(),
        }
    }

    /// Whether there is a connection, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        self.link.is_up()
    }

    /// One try of a commit. After an error `arrivals` is as it was.
    ///
    /// # Errors
    /// The database's: the same may be tried again. Fenced, behind or damaged: nothing more is committed.
    pub(super) fn commit(&mut self, arrivals: &mut [Arrivals]) -> Result<Landed, Trouble> {
        if !self.link.is_up() {
            let (mut own, known) = (self.own, self.last);
            let newest = self.link.run(|connection| reclaim(connection, &mut own, known))?;
            self.reclaimed(own, newest)?;
        }
        if let Some(settled) = self.settled.take() {
            let came = what_came(arrivals, AskTables::Always);
            if (came.count, came.first) == (settled.seen.len(), settled.first_message) {
                return Ok(self.landed(settled, arrivals));
            }
            let owed = self.landed(settled, &mut []);
            self.owed.push(owed);
        }
        self.commit_anew(arrivals)
    }

    /// The sessions of connections that broke: whoever makes the next connection ends them.
    pub(super) fn give_old(&mut self) -> Vec<ServerSession> {
        let mut old = Vec::new();
        self.link.give_old(&mut old);
        old
    }

    /// Takes a connection on which the own epoch was raised, where there is none.
    ///
    /// # Errors
    /// As [`SharedCommitter::commit`].
    pub(super) fn take_connection(
        &mut self,
        mut link: Link,
        own: Own,
        newest: u64,
    ) -> Result<(), Trouble> {
        self.link.take_from(&mut link);
        self.reclaimed(own, newest)
    }

    /// The own epoch was raised, so that no commit is under way; all that was committed before is durable.
    fn reclaimed(&mut self, own: Own, newest: u64) -> Result<(), Trouble> {
        self.own = own;
        match (self.in_doubt.take(), newest.checked_sub(self.last)) {
            (None, Some(0)) => {}
            (Some(sent), Some(0)) => self.counts.withdraw(&sent.counted),
            (Some(mut sent), Some(1)) => {
                self.durable(&mut sent);
                self.settled = Some(sent);
            }
            (_, None) => return Err(LedgerBehind { found: newest, known: self.last }.into()),
            _ => return Err(Trouble::Damaged(format!("record {newest} is nobody's"))),
        }
        Ok(())
    }

    fn commit_anew(&mut self, arrivals: &mut [Arrivals]) -> Result<Landed, Trouble> {
        let ask = if self.asking > 0 { AskTables::Always } else { AskTables::IfNeeded };
        self.asking = self.asking.saturating_sub(1);
        match self.try_commit(arrivals, ask)? {
            Tried::Landed(landed) => return Ok(landed),
            Tried::Repeated => self.asking = ASK_COMMITS,
        }
        match self.try_commit(arrivals, AskTables::Always)? {
            Tried::Landed(landed) => Ok(landed),
            Tried::Repeated => Err(Trouble::Damaged("a message is there and is not".to_owned())),
        }
    }

    fn try_commit(&mut self, arrivals: &mut [Arrivals], ask: AskTables) -> Result<Tried, Trouble> {
        let Came { mut touched, mut messages, count, first } = what_came(arrivals, ask);
        if !self.counts.has_room(count as u64) {
            return Err(Trouble::Damaged(format!(
                "this processor has counted {MAX_PLAYS} messages, the most that can be told"
            )));
        }
        let own = self.own;
        let newest =
            self.link.run(|connection| begin(connection, &own, &mut touched, &mut messages))?;
        if newest < self.last {
            return Err(LedgerBehind { found: newest, known: self.last }.into());
        } else if newest > self.last {
            return Err(Trouble::Damaged(format!("record {newest} is nobody's")));
        }
        let (counted, seen) = self.count(arrivals, &mut touched, &mut messages);
        let producers = touched.changed().collect();
        let mut sent = SentCommit { counted, seen, producers, first_message: first };
        let counters = sent.counted.record.counters;
        if counters.counted + counters.rejected == 0 {
            if let Err(error) = self.link.run(|connection| Ok(end_without_change(connection)?)) {
                self.counts.withdraw(&sent.counted);
                return Err(error);
            }
            self.counts.apply(&mut sent.counted);
            return Ok(Tried::Landed(self.landed(sent, arrivals)));
        }
        let letters = letters(arrivals, &sent.seen);
        self.buffer.clear();
        sent.counted.record.encode(&mut self.buffer);
        let writes = CommitWrites {
            number: self.last + 1,
            record: &self.buffer,
            producers: touched.writes(),
            messages: messages.taken(),
            letters: &letters,
            retried: &[],
        };
        match commit(self.link.get()?, &own, &writes) {
            Ending::Durable => {
                self.durable(&mut sent);
                Ok(Tried::Landed(self.landed(sent, arrivals)))
            }
            Ending::Repeated => {
                self.counts.withdraw(&sent.counted);
                self.link.run(roll_back)?;
                Ok(Tried::Repeated)
            }
            Ending::InDoubt(error) => {
                self.link.drop_connection();
                self.in_doubt = Some(sent);
                Err(error.into())
            }
        }
    }

    /// Counts what is new, by what the tables have told.
    fn count(
        &mut self,
        arrivals: &[Arrivals],
        touched: &mut Touched,
        messages: &mut NewMessages,
    ) -> (Counted, Vec<Seen>) {
        let mut seen = Vec::new();
        let mut counting = self.counts.count();
        for Arrivals { plays, rejected } in arrivals {
            let mut verdicts = MessageVerdicts::default();
            let mut find =
                |part, message: &MessageKey| verdicts.of(part, || messages.count(message));
            for arrived in plays {
                let (how, age) = match arrived.play.identity {
                    Some(identity) => {
                        let is_new = touched.count(&identity);
                        (self.memory.compare(is_new, identity, &arrived.play), None)
                    }
                    None => match find(arrived.part_of, &arrived.message) {
                        None => (Seen::Duplicate, None),
                        age => (Seen::NewByMessage, age),
                    },
                };
                // A site's play is remembered for as long as the window after it came.
                let may_be_forgotten =
                    age == Some(MessageAge::Outside) && !arrived.message.is_site_play();
                counting.play(arrived, how, |_| may_be_forgotten);
                seen.push(how);
            }
            for letter in rejected {
                let is_new = find(letter.part_of, &letter.message).is_some();
                counting.letter(is_new);
                seen.push(if is_new { Seen::NewByMessage } else { Seen::Duplicate });
            }
        }
        // Which plays are counted stands in the tables of all.
        (counting.end(Learned::default()), seen)
    }

    /// What was sent is durable: the videos grow by it.
    fn durable(&mut self, sent: &mut SentCommit) {
        self.last += 1;
        self.counts.apply(&mut sent.counted);
    }

    /// Who commits is told; only what was new stays in `arrivals`.
    fn landed(&mut self, sent: SentCommit, arrivals: &mut [Arrivals]) -> Landed {
        let mut seen = sent.seen.iter();
        let mut is_new = || seen.next().is_some_and(is_new);
        for Arrivals { plays, rejected } in arrivals {
            plays.retain(|_| is_new());
            rejected.retain(|_| is_new());
        }
        let mut landed =
            Landed { committed: Committed::from(sent.counted), producers: sent.producers };
        for owed in self.owed.drain(..) {
            landed.committed.counters.add(&owed.committed.counters);
            landed.committed.video_deltas.extend(owed.committed.video_deltas);
            landed.producers.extend(owed.producers);
        }
        landed
    }
}

fn is_new(seen: &Seen) -> bool {
    matches!(seen, Seen::New | Seen::NewByMessage)
}

/// What a commit asks the tables for.
struct Came {
    touched: Touched,
    messages: NewMessages,
    /// Messages.
    count: usize,
    first: Option<MessageKey>,
}

/// `ask` is heeded where no message was delivered before.
fn what_came(arrivals: &[Arrivals], mut ask: AskTables) -> Came {
    let (mut touched, mut by_message, mut count) = (Touched::default(), Vec::new(), 0);
    let mut first = None;
    for batch in arrivals {
        count += batch.len();
        let Arrivals { plays, rejected } = batch;
        let mut verdicts = MessageVerdicts::default();
        for arrived in plays {
            match &arrived.play.identity {
                Some(identity) => touched.enter(identity),
                None => {
                    if verdicts.is_first(arrived.part_of) {
                        by_message.push(arrived.message);
                    }
                    // What is never in the window would be asked for in a round trip of its own.
                    if arrived.attempts > 1 || arrived.message.is_site_play() {
                        ask = AskTables::Always;
                    }
                }
            }
        }
        for letter in rejected {
            if verdicts.is_first(letter.part_of) {
                by_message.push(letter.message);
            }
        }
        let of_batch = plays.first().map(|arrived| arrived.message);
        first = first.or(of_batch).or(rejected.first().map(|letter| letter.message));
    }
    Came { touched, messages: NewMessages::new(by_message, ask), count, first }
}

/// The new dead letters, as they are kept.
fn letters(arrivals: &[Arrivals], seen: &[Seen]) -> Vec<SavedDeadLetter> {
    let mut seen = seen.iter();
    let mut new = Vec::new();
    for Arrivals { plays, rejected } in arrivals {
        seen.by_ref().take(plays.len()).for_each(drop);
        new.extend(rejected.iter().filter(|_| seen.next().is_some_and(is_new)));
    }
    // The table numbers them.
    let mut letters = saved(new.into_iter(), 0, unix_ms());
    let mut bytes = 0;
    for letter in &mut letters {
        bytes += letter.body.len();
        if bytes > LETTERS_BYTES {
            letter.body.clear();
        }
    }
    letters
}
