//! The shared ledger: a producer that forgets what is confirmed, a broker with one channel, two processors on it, and a
//! database whose commits are not durable before they are flushed.
//!
//! A processor may be killed, or stopped and go on, at each of its steps, also inside its transaction, which the others wait for
//! until the database rolls it back; its connection may be cut at each, also while its COMMIT is on its way; its lease may run
//! out, and then another processor takes its id. The database may be killed at each step, and loses any end of what was not
//! flushed.
//!
//! In every state each play is counted at most once, what is finished is counted, what the producer forgot is counted, and what
//! is shown is counted; and from every state there is a way on which every play that was published becomes counted, and shown.

mod processor;
mod tests;

use super::{ModelState, TakeStep};

/// Plays in the model: two, so that one may overtake the other, and one commit holds both.
const PLAYS: usize = 2;

/// A set of plays, stripes or ids: a bit for each.
type Bits = u8;

/// All plays.
const ALL: Bits = 0b11;

/// The states of the database that a crash may leave: what is durable, and two commits that are not.
const VERSIONS: usize = 3;

/// Who made the plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Producers {
    /// One, whose segment both plays fill: it is deleted, and the watermark tells of it.
    One,
    /// Two, each under a stripe of its own.
    Two,
}

/// What may happen.
#[derive(Clone, Copy, Debug)]
struct World {
    producers: Producers,
    /// How often a play may be published again, all plays together.
    copies: u8,
    /// How much may go wrong on one way, each thing once.
    faults: u8,
}

/// A rule of the design that is broken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum BrokenRule {
    Nothing,
    /// Messages are finished when the commit is made, before it is flushed.
    FinishBeforeFlush,
    /// The dashboard is told when the commit is made, before it is flushed.
    ShowBeforeFlush,
    /// A commit that has counted nothing is not flushed.
    RepeatsNotFlushed,
    /// What is confirmed is read, and not flushed.
    ConfirmNotFlushed,
    /// What is confirmed is read after the flush.
    ConfirmReadAfterFlush,
    /// A commit does not look whether its epoch is still that of the processor's row.
    EpochNotChecked,
    /// Where the outcome of a COMMIT is in doubt, it is looked up without raising the epoch.
    DoubtWithoutEpoch,
    /// The statement that locks a stripe also reads what is counted: as of before it waited.
    LockAndReadInOne,
    /// The second processor locks the stripes downwards.
    OpposedLocks,
    /// A full segment is deleted in one transaction and the watermark moved in another one.
    WatermarkLater,
}

/// What a processor does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Phase {
    Down,
    /// It has lost its connection. What it holds it still holds.
    Lost,
    #[default]
    Idle,
    /// Its transaction has its row, and some stripes.
    Locks,
    /// It has sent its COMMIT.
    Sent,
    /// The database has told it that the commit is made.
    Committed,
}

/// A transaction as the database has it, whether or not there still is who began it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Transaction {
    #[default]
    None,
    Open,
    /// The COMMIT is on its way.
    Ending,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct SharedProcessor {
    phase: Phase,
    /// SIGSTOP.
    stopped: bool,
    /// Under which id it counts.
    id: usize,
    /// Nobody has raised the epoch of its id since it did.
    current: bool,
    /// Plays that it knows to be counted under its id: what it shows.
    known: u8,
    /// Given out to it and neither finished nor timed out, as the broker has it.
    in_flight: Bits,
    /// Received and not committed.
    held: Bits,
    /// To be finished.
    to_finish: Bits,
    transaction: Transaction,
    stripes: Bits,
    /// What is counted, as its transaction has read it.
    seen: Bits,
    /// What its transaction counts.
    news: Bits,
    /// What it is about to tell the producer, and is not durable.
    confirms: Bits,
    /// It has flushed, and is about to read what is counted: only with [`BrokenRule::ConfirmReadAfterFlush`].
    reads_last: bool,
    /// It locks stripes from the highest on: only with [`BrokenRule::OpposedLocks`].
    downwards: bool,
    /// It has deleted a full segment and not moved the watermark: only with [`BrokenRule::WatermarkLater`].
    owes_watermark: bool,
}

/// What the tables hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Tables {
    /// Plays in segments.
    bits: Bits,
    /// All plays are below it.
    watermark: bool,
    /// How often each play is counted.
    counts: [u8; PLAYS],
    /// Plays of each id.
    of_id: [u8; 2],
}

impl Tables {
    fn seen(&self) -> Bits {
        if self.watermark { ALL } else { self.bits }
    }

    fn count(&mut self, id: usize, news: Bits) {
        self.bits |= news;
        self.of_id[id] += news.count_ones() as u8;
        plays_in(news).for_each(|play| self.counts[play] += 1);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct SharedState {
    producers: Producers,
    /// Confirmed, so that their producer has forgotten them, and not durable.
    forgotten: Bits,
    queued: [u8; PLAYS],
    /// Finished, and not durable.
    finished: Bits,
    processors: [SharedProcessor; 2],
    /// Whose the lease of each id is.
    holders: [Option<usize>; 2],
    /// The first is durable, the last is what everybody sees.
    versions: [Tables; VERSIONS],
    last: usize,
    /// Plays of each id that the dashboard knows.
    shown: [u8; 2],
    /// How often more a play may be published again.
    copies: u8,
    // How much more may go wrong, in all and of each kind.
    faults: u8,
    kills: u8,
    stops: u8,
    cuts: u8,
    timeouts: u8,
    leases: u8,
    crashes: u8,
}

/// The plays of a set.
fn plays_in(set: Bits) -> impl Iterator<Item = usize> {
    (0..PLAYS).filter(move |play| set & 1 << play != 0)
}

impl SharedState {
    fn tables(&self) -> &Tables {
        &self.versions[self.last]
    }

    /// Commits, asynchronously.
    fn write(&mut self, change: impl Fn(&mut Tables)) {
        let mut tables = *self.tables();
        change(&mut tables);
        if self.last + 1 == VERSIONS {
            self.flush_one();
        }
        self.last += 1;
        self.versions[self.last] = tables;
    }

    /// The oldest commit that is not durable becomes so.
    fn flush_one(&mut self) {
        if self.last > 0 {
            self.versions.copy_within(1.., 0);
            self.last -= 1;
            // What is not in use is always the same, so that equal states are equal.
            self.versions[self.last + 1..].fill(Tables::default());
        }
    }

    /// The same with the two processors and their ids exchanged.
    fn mirrored(mut self) -> Self {
        self.processors.swap(0, 1);
        self.processors.iter_mut().for_each(|one| one.id = 1 - one.id);
        self.holders.swap(0, 1);
        self.holders.iter_mut().flatten().for_each(|who| *who = 1 - *who);
        self.shown.swap(0, 1);
        self.versions.iter_mut().for_each(|tables| tables.of_id.swap(0, 1));
        self
    }

    fn flush(&mut self) {
        while self.last > 0 {
            self.flush_one();
        }
    }

    /// Whether the row of an id is locked.
    fn is_locked(&self, id: usize) -> bool {
        self.processors.iter().any(|one| one.transaction != Transaction::None && one.id == id)
    }

    /// The stripes that a set of plays is under.
    fn stripes_of(&self, plays: Bits) -> Bits {
        match self.producers {
            Producers::One => Bits::from(plays != 0),
            Producers::Two => plays,
        }
    }

    /// Its messages go to others.
    fn give_back(&mut self, who: usize) {
        let in_flight = std::mem::take(&mut self.processors[who].in_flight);
        plays_in(in_flight).for_each(|play| self.queued[play] += 1);
    }

    /// What is left of a processor that has ended: its transaction, until the database has noticed.
    fn end(&mut self, who: usize) {
        self.give_back(who);
        let SharedProcessor { id, transaction, stripes, news, downwards, .. } =
            self.processors[who];
        self.processors[who] = SharedProcessor {
            phase: Phase::Down,
            id,
            transaction,
            stripes,
            news,
            downwards,
            ..SharedProcessor::default()
        };
    }

    /// The connection is gone. What it knows it still knows.
    fn lose(&mut self, who: usize) {
        let one = &mut self.processors[who];
        if one.phase != Phase::Down {
            one.phase = Phase::Lost;
            (one.seen, one.confirms, one.reads_last) = (0, 0, false);
        }
    }

    /// Ends a transaction at the database.
    fn end_transaction(&mut self, who: usize) {
        let one = &mut self.processors[who];
        (one.transaction, one.stripes) = (Transaction::None, 0);
        if one.phase != Phase::Committed {
            one.news = 0;
        }
    }

    /// Raises the epoch of an id: a synchronous commit, so that all before it is durable. Whoever counted under it is fenced.
    fn raise(&mut self, id: usize) {
        self.flush();
        self.processors.iter_mut().filter(|one| one.id == id).for_each(|one| one.current = false);
        self.shown[id] = self.shown[id].max(self.tables().of_id[id]);
    }

    /// Takes an id and what is counted under it.
    fn take(&mut self, who: usize, id: usize) {
        self.raise(id);
        self.holders[id] = Some(who);
        let known = self.tables().of_id[id];
        let one = &mut self.processors[who];
        (one.phase, one.id, one.current, one.known) = (Phase::Idle, id, true, known);
    }

    fn knows(&mut self, who: usize, plays: u8) {
        let one = &mut self.processors[who];
        one.known = plays;
        self.shown[one.id] = self.shown[one.id].max(plays);
    }

    /// All that it holds is counted: it may be finished.
    fn is_counted(&mut self, who: usize) {
        let one = &mut self.processors[who];
        one.to_finish |= std::mem::take(&mut one.held);
        one.phase = Phase::Idle;
    }

    fn steps_of_producer(&self, step: &mut TakeStep<'_, Self>) {
        for play in 0..PLAYS {
            if self.copies > 0 {
                step("publishes again", play, 0, &|s| {
                    s.copies -= 1;
                    s.queued[play] += 1;
                });
            }
        }
    }

    fn steps_of_database(&self, broken: BrokenRule, step: &mut TakeStep<'_, Self>) {
        // Of what was not flushed some may be there all the same.
        let in_use = |one: &SharedProcessor| one.transaction != Transaction::None;
        let loses = self.last > 0 || self.processors.iter().any(in_use);
        let may_crash = loses && self.faults > 0 && self.crashes > 0;
        for kept in if may_crash { 0..self.last + 1 } else { 0..0 } {
            step("the database crashes", kept, 0, &|s| {
                (s.faults, s.crashes) = (s.faults - 1, s.crashes - 1);
                s.last = kept;
                s.versions[kept + 1..].fill(Tables::default());
                s.flush();
                for who in 0..2 {
                    s.lose(who);
                    s.end_transaction(who);
                    s.processors[who].news = 0;
                }
            });
        }
        for (who, one) in self.processors.iter().enumerate() {
            let is_orphan = !matches!(one.phase, Phase::Locks | Phase::Sent);
            if one.transaction == Transaction::Ending {
                step("commits", who, 0, &|s| s.commit(who, broken));
            }
            if one.transaction != Transaction::None && is_orphan {
                // The COMMIT, if there was one, has not arrived.
                step("is rolled back", who, 0, &|s| s.end_transaction(who));
            }
            if one.transaction == Transaction::Open && one.stopped && !is_orphan {
                step("idles in its transaction", who, 0, &|s| {
                    s.lose(who);
                    s.end_transaction(who);
                });
            }
            let is_silent = one.phase == Phase::Down || one.stopped;
            for id in (0..2).filter(|id| self.holders[*id] == Some(who)) {
                // Nobody renews it; the budget is for ids in use.
                if one.id != id {
                    step("its former lease runs out", who, id, &|s| s.holders[id] = None);
                } else if is_silent && self.faults > 0 && self.leases > 0 {
                    step("its lease runs out", who, id, &|s| {
                        (s.faults, s.leases) = (s.faults - 1, s.leases - 1);
                        s.holders[id] = None;
                    });
                }
            }
        }
    }

    /// The database makes a commit.
    fn commit(&mut self, who: usize, broken: BrokenRule) {
        let SharedProcessor { id, news, phase, .. } = self.processors[who];
        let fills = self.producers == Producers::One && self.tables().bits | news == ALL;
        if news != 0 {
            self.write(|tables| {
                tables.count(id, news);
                if fills {
                    // The full segment is deleted.
                    tables.bits = 0;
                    tables.watermark = broken != BrokenRule::WatermarkLater;
                }
            });
        }
        self.processors[who].owes_watermark =
            fills && news != 0 && broken == BrokenRule::WatermarkLater && phase == Phase::Sent;
        if phase == Phase::Sent {
            self.processors[who].phase = Phase::Committed;
        }
        self.end_transaction(who);
    }
}

impl ModelState for SharedState {
    type Broken = (BrokenRule, World);

    fn start((broken, World { producers, copies, faults }): Self::Broken) -> Self {
        let processor = |id| SharedProcessor {
            id,
            current: true,
            downwards: broken == BrokenRule::OpposedLocks && id == 1,
            ..SharedProcessor::default()
        };
        Self {
            producers,
            forgotten: 0,
            queued: [1; PLAYS],
            finished: 0,
            processors: [processor(0), processor(1)],
            holders: [Some(0), Some(1)],
            versions: [Tables::default(); VERSIONS],
            last: 0,
            shown: [0; 2],
            copies,
            faults,
            kills: 1,
            stops: 1,
            cuts: 1,
            timeouts: 1,
            leases: 1,
            crashes: 1,
        }
    }

    fn steps(&self, (broken, _): Self::Broken, step: &mut TakeStep<'_, Self>) {
        self.steps_of_producer(step);
        self.steps_of_database(broken, step);
        for (who, one) in self.processors.iter().enumerate() {
            self.steps_of(who, one, broken, step);
        }
    }

    fn normal(mut self) -> Self {
        if self.faults == 0 || self.crashes == 0 {
            // As good as durable: nothing takes it back.
            self.flush();
        }
        let durable = plays_in(ALL).filter(|play| self.versions[0].counts[*play] > 0);
        let undurable = !durable.fold(0, |set, play| set | 1 << play);
        self.finished &= undurable;
        self.forgotten &= undurable;
        self.processors.iter_mut().for_each(|one| one.confirms &= undurable);
        self.min(self.mirrored())
    }

    fn fault(&self) -> Option<&'static str> {
        let Tables { counts, of_id, .. } = *self.tables();
        let uncounted = |set| plays_in(set).any(|play| counts[play] == 0);
        if counts.iter().any(|count| *count > 1) {
            Some("counted twice")
        } else if uncounted(self.finished) {
            Some("finished and not counted")
        } else if uncounted(self.forgotten) {
            Some("forgotten and not counted")
        } else if (0..2).any(|id| self.shown[id] > of_id[id]) {
            Some("shown and not counted")
        } else {
            None
        }
    }

    fn is_all_counted(&self) -> bool {
        let Tables { counts, of_id, .. } = *self.tables();
        counts == [1; PLAYS] && self.shown == of_id
    }
}
