//! The steps of a processor: what it does with its messages, and what is done to it.

use super::{BrokenRule, PLAYS, Phase, SharedProcessor, SharedState, Transaction, plays_in};
use crate::ledger::model::TakeStep;

impl SharedState {
    pub(super) fn steps_of(
        &self,
        who: usize,
        one: &SharedProcessor,
        broken: BrokenRule,
        step: &mut TakeStep<'_, Self>,
    ) {
        let is_late = one.stopped || one.phase == Phase::Lost;
        for play in plays_in(one.in_flight) {
            if is_late && self.faults > 0 && self.timeouts > 0 {
                step("times out", who, play, &|s| {
                    (s.faults, s.timeouts) = (s.faults - 1, s.timeouts - 1);
                    s.processors[who].in_flight &= !(1 << play);
                    s.queued[play] += 1;
                });
            }
        }
        let has_some = one.held | one.to_finish != 0;
        if has_some && self.faults > 0 && self.kills > 0 {
            step("is killed", who, 0, &|s| {
                (s.faults, s.kills) = (s.faults - 1, s.kills - 1);
                s.end(who);
            });
        }
        if one.stopped {
            step("continues", who, 0, &|s| s.processors[who].stopped = false);
            return;
        }
        if has_some && self.faults > 0 && self.stops > 0 {
            step("is stopped", who, 0, &|s| {
                (s.faults, s.stops) = (s.faults - 1, s.stops - 1);
                s.processors[who].stopped = true;
            });
        }
        let is_at_it = matches!(one.phase, Phase::Locks | Phase::Sent | Phase::Committed);
        if is_at_it && self.faults > 0 && self.cuts > 0 {
            step("its connection is cut", who, 0, &|s| {
                (s.faults, s.cuts) = (s.faults - 1, s.cuts - 1);
                s.lose(who);
            });
        }
        if one.to_finish != 0 {
            step("finishes", who, 0, &|s| {
                let one = &mut s.processors[who];
                // The broker refuses what is not in flight any more.
                let finished = std::mem::take(&mut one.to_finish) & one.in_flight;
                one.in_flight &= !finished;
                s.finished |= finished;
            });
        }
        match one.phase {
            Phase::Down => self.steps_of_start(who, one, step),
            Phase::Lost => self.steps_of_lost(who, one, broken, step),
            Phase::Idle => self.steps_of_idle(who, one, broken, step),
            Phase::Locks => self.steps_of_locks(who, one, broken, step),
            Phase::Sent => {}
            Phase::Committed => self.steps_of_committed(who, one, broken, step),
        }
    }

    /// Once the commit is flushed, what it has counted is shown and finished.
    fn steps_of_committed(
        &self,
        who: usize,
        one: &SharedProcessor,
        broken: BrokenRule,
        step: &mut TakeStep<'_, Self>,
    ) {
        let known = one.known + one.news.count_ones() as u8;
        let is_counted = |s: &mut Self| {
            s.processors[who].news = 0;
            s.is_counted(who);
        };
        match broken {
            BrokenRule::FinishBeforeFlush => step("does not flush", who, 0, &is_counted),
            BrokenRule::RepeatsNotFlushed if one.news == 0 => {
                step("does not flush", who, 0, &is_counted);
            }
            BrokenRule::ShowBeforeFlush if self.shown[one.id] < known => {
                step("shows", who, 0, &|s| s.shown[one.id] = known);
            }
            _ => step("flushes", who, 0, &|s| {
                s.flush();
                s.knows(who, known);
                is_counted(s);
            }),
        }
    }

    /// It is itself again, or takes an id whose lease has run out.
    fn steps_of_start(&self, who: usize, one: &SharedProcessor, step: &mut TakeStep<'_, Self>) {
        for id in 0..2 {
            let is_own = self.holders[id] == Some(who);
            let is_free = is_own || self.holders[id].is_none();
            if is_free && !self.is_locked(id) && one.transaction == Transaction::None {
                let name = if is_own { "starts" } else { "adopts" };
                step(name, who, id, &|s| s.take(who, id));
            }
        }
    }

    /// With a new connection it raises its epoch, which waits for its old transaction, and looks whether that was committed.
    fn steps_of_lost(
        &self,
        who: usize,
        one: &SharedProcessor,
        broken: BrokenRule,
        step: &mut TakeStep<'_, Self>,
    ) {
        let is_doubtful = broken == BrokenRule::DoubtWithoutEpoch;
        if self.is_locked(one.id) && !is_doubtful {
            return;
        }
        if !one.current && broken != BrokenRule::EpochNotChecked {
            step("is fenced", who, 0, &|s| s.end(who));
            return;
        }
        step("connects again", who, 0, &|s| {
            let SharedProcessor { id, known, .. } = s.processors[who];
            if is_doubtful {
                s.flush();
            } else {
                s.raise(id);
                s.processors[who].current = true;
            }
            let counted = s.tables().of_id[id];
            s.knows(who, counted);
            if counted > known {
                s.is_counted(who);
            }
            s.processors[who].phase = Phase::Idle;
        });
    }

    fn steps_of_idle(
        &self,
        who: usize,
        one: &SharedProcessor,
        broken: BrokenRule,
        step: &mut TakeStep<'_, Self>,
    ) {
        for play in 0..PLAYS {
            let bit = 1 << play;
            let has_it = (one.in_flight | one.held | one.to_finish) & bit != 0;
            if self.queued[play] > 0 && !has_it {
                step("receives", who, play, &|s| {
                    s.queued[play] -= 1;
                    s.processors[who].in_flight |= bit;
                    s.processors[who].held |= bit;
                });
            }
        }
        let may_commit = one.to_finish == 0 && one.transaction == Transaction::None;
        if one.held != 0 && may_commit && !self.is_locked(one.id) {
            if one.current || broken == BrokenRule::EpochNotChecked {
                step("begins", who, 0, &|s| {
                    let seen = s.tables().seen();
                    let one = &mut s.processors[who];
                    (one.phase, one.transaction) = (Phase::Locks, Transaction::Open);
                    if broken == BrokenRule::LockAndReadInOne {
                        one.seen = seen;
                    }
                });
            } else {
                step("is fenced", who, 0, &|s| s.end(who));
            }
        }
        if one.owes_watermark {
            step("moves the watermark", who, 0, &|s| {
                s.processors[who].owes_watermark = false;
                s.write(|tables| tables.watermark = true);
            });
        }
        let other = 1 - one.id;
        let is_untold = self.shown[other] < self.tables().of_id[other];
        if self.holders[other].is_none() && is_untold && !self.is_locked(other) {
            step("publishes for a dead one", who, other, &|s| s.raise(other));
        }
        self.steps_of_confirming(who, one, broken, step);
    }

    /// It tells the producer what is counted. Of what is durable already nothing can go wrong.
    fn steps_of_confirming(
        &self,
        who: usize,
        one: &SharedProcessor,
        broken: BrokenRule,
        step: &mut TakeStep<'_, Self>,
    ) {
        let new = self.tables().seen() & !self.versions[0].seen();
        if broken == BrokenRule::ConfirmReadAfterFlush {
            let name = if one.reads_last { "confirms" } else { "flushes what it confirms" };
            step(name, who, 0, &|s| {
                if one.reads_last {
                    s.forgotten |= new;
                } else {
                    s.flush();
                }
                s.processors[who].reads_last = !one.reads_last;
            });
        } else if one.confirms != 0 {
            step("confirms", who, 0, &|s| {
                if broken != BrokenRule::ConfirmNotFlushed {
                    s.flush();
                }
                s.forgotten |= std::mem::take(&mut s.processors[who].confirms);
            });
        } else if new != 0 {
            step("reads what is counted", who, 0, &|s| s.processors[who].confirms = new);
        }
    }

    /// It locks one stripe after another; with all of them it reads, counts and sends its COMMIT.
    fn steps_of_locks(
        &self,
        who: usize,
        one: &SharedProcessor,
        broken: BrokenRule,
        step: &mut TakeStep<'_, Self>,
    ) {
        let wanted = self.stripes_of(one.held) & !one.stripes;
        let next = plays_in(wanted).reduce(|low, high| if one.downwards { high } else { low });
        match next {
            Some(stripe)
                if self.processors.iter().all(|other| other.stripes & 1 << stripe == 0) =>
            {
                step("locks", who, stripe, &|s| s.processors[who].stripes |= 1 << stripe);
            }
            // Somebody else has it.
            Some(_) => {}
            None => step("reads and sends COMMIT", who, 0, &|s| {
                let now = s.tables().seen();
                let one = &mut s.processors[who];
                let seen = std::mem::take(&mut one.seen);
                let seen = if broken == BrokenRule::LockAndReadInOne { seen } else { now };
                one.news = one.held & !seen;
                (one.phase, one.transaction) = (Phase::Sent, Transaction::Ending);
            }),
        }
    }
}
