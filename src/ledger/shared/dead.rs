//! Processors of a shared ledger that are gone, whose counts this one publishes under their ids until all dashboards know
//! them. Runs on the thread of the upkeep.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::load::load;
use super::membership::{Membership, end_publishing, renew_publishing, take_over, write_told};
use super::transaction::{Own, VERSIONS_PER_START};
use super::trouble::Trouble;
use crate::ledger::dead::{DeadLedger, DeadLedgers, ToldOfLedger};
use crate::postgres::PgConnection;

/// How often it is looked for others that are gone.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The right to publish for another lasts 10 s.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// Only who has held a lease for so long looks: where all had lost the database, the others are back in a moment.
const STEADY: Duration = Duration::from_secs(15);

/// Whose counts one processor publishes besides its own: 50 bytes of memory for each video of each.
const DEAD_MAX: usize = 4;

/// Those whose counts are published here.
#[derive(Default)]
pub(super) struct DeadMembers {
    each: Vec<DeadMember>,
    /// Those that were published, with their newest records: whatever dashboards did with that, it is not done again.
    published: HashMap<Uuid, u64>,
    looked: Option<Instant>,
    renewed: Option<Instant>,
}

struct DeadMember {
    own: Own,
    last_record: u64,
    told: HashSet<Uuid>,
    is_done: bool,
}

impl DeadMembers {
    /// Does what is due: notes what was told, keeps the right to publish, looks for others.
    ///
    /// # Errors
    /// The database's. What was told is noted the next time.
    pub(super) fn run(
        &mut self,
        connection: &mut PgConnection,
        own: &Own,
        dashboards: &[Uuid],
        steady_since: Option<Instant>,
        changes: &mut DeadLedgers,
    ) -> Result<(), Trouble> {
        self.end_done(connection, changes)?;
        if is_due(&mut self.renewed, RENEW_EVERY) {
            self.renew(connection, changes)?;
        }
        let is_steady = steady_since.is_some_and(|since| since.elapsed() >= STEADY);
        if self.each.len() < DEAD_MAX
            && is_steady
            && !dashboards.is_empty()
            && is_due(&mut self.looked, LOOK_EVERY)
        {
            changes.begun.extend(self.look(connection, own, dashboards)?);
        }
        Ok(())
    }

    /// Takes note of what dashboards were told.
    pub(super) fn note(&mut self, told: Vec<ToldOfLedger>) {
        for told in told {
            if let Some(dead) = self.each.iter_mut().find(|dead| dead.own.id == told.processor) {
                dead.is_done |= told.is_done;
                dead.told.extend(told.databases);
            }
        }
    }

    /// Gives up the right to publish for others, so that somebody else does.
    ///
    /// # Errors
    /// The database's.
    pub(super) fn leave(&mut self, connection: &mut PgConnection) -> Result<(), Trouble> {
        let mut changes = DeadLedgers::default();
        self.end_done(connection, &mut changes)?;
        for dead in self.each.drain(..) {
            end_publishing(connection, &dead.own)?;
        }
        Ok(())
    }

    fn end_done(
        &mut self,
        connection: &mut PgConnection,
        changes: &mut DeadLedgers,
    ) -> Result<(), Trouble> {
        for dead in &mut self.each {
            for database in dead.told.drain() {
                write_told(connection, dead.own.id, database, dead.last_record)?;
            }
            if dead.is_done {
                end_publishing(connection, &dead.own)?;
                changes.ended.push(dead.own.id);
            }
        }
        self.each.retain(|dead| !dead.is_done);
        Ok(())
    }

    fn renew(
        &mut self,
        connection: &mut PgConnection,
        changes: &mut DeadLedgers,
    ) -> Result<(), Trouble> {
        let mut at = 0;
        while let Some(dead) = self.each.get(at) {
            match renew_publishing(connection, &dead.own) {
                Ok(()) => at += 1,
                // It is back, or adopted, and publishes for itself.
                Err(Trouble::Fenced(_)) => changes.ended.push(self.each.remove(at).own.id),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn look(
        &mut self,
        connection: &mut PgConnection,
        own: &Own,
        dashboards: &[Uuid],
    ) -> Result<Option<DeadLedger>, Trouble> {
        let except: Vec<(Uuid, u64)> =
            self.published.iter().map(|(id, last)| (*id, *last)).collect();
        let Some(member) = take_over(connection, own, dashboards, &except)? else {
            return Ok(None);
        };
        let counts = load(connection, &member)?;
        let Membership { own, last_record, .. } = member;
        log::warn!("processor {} is gone: its counts are published for it", own.id);
        self.each.push(DeadMember { own, last_record, told: HashSet::new(), is_done: false });
        self.published.insert(own.id, last_record);
        Ok(Some(DeadLedger {
            processor: own.id,
            first_version: (own.starts * VERSIONS_PER_START).cast_unsigned(),
            videos: counts.videos().collect(),
        }))
    }
}

/// Whether something is due; it is done then.
pub(super) fn is_due(last: &mut Option<Instant>, every: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}
