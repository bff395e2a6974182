//! What a shared ledger does where no commit waits for it: its lease, sweeps, the look for processors that are gone, a new
//! connection for one that broke. Taken from the ledger while it is held, done while it is not, by the thread `ledger`, on a
//! connection of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;
use uuid::Uuid;

use super::dead::{DeadMembers, is_due};
use super::holder::{Holder, HolderFile};
use super::link::{Link, connect};
use super::membership::{reclaim, renew};
use super::sweep::{FoldedProducer, SweepSlice, fold_producer, forget_old, write_slice};
use super::transaction::Own;
use super::trouble::{LedgerBehind, Trouble};
use crate::ledger::dead::{DeadLedgers, ToldOfLedger};
use crate::postgres::{Param, PgConfig, PgConnection};

/// A lease lasts 10 s: two renewals may fail.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// Partitions are emptied an hour ahead; dead letters and others above their limits do no harm.
const FORGET_EVERY: Duration = Duration::from_secs(300);

/// How far the data directory's note of the newest record may lag: so many commits of the last seconds before a failure of
/// the database that lost them are not noticed by a processor that fails with it.
const NOTE_EVERY: Duration = Duration::from_secs(10);

/// How often the tables' size is asked for.
const SIZE_EVERY: Duration = Duration::from_secs(60);

const READ_SIZE: &str = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::int8 FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'playcounts' AND c.relkind = 'r'";

/// The one who does it, from time to time.
pub(super) struct Upkeeper {
    config: PgConfig,
    link: Link,
    file: HolderFile,
    holder: Holder,
    renewed: Option<Instant>,
    forgotten: Option<Instant>,
    noted: Option<Instant>,
    sized: Option<Instant>,
    /// What could not be written: it is before others.
    slice: Option<SweepSlice>,
    dead: DeadMembers,
    /// What the ledger has not been told of: should something fail, it is told the next time.
    done: SharedUpkept,
    /// Since then the lease was always renewed.
    steady_since: Option<Instant>,
}

/// What is to be done: see [`Ledger::upkeep`](crate::ledger::Ledger::upkeep).
#[must_use = "it does nothing until it is run"]
pub struct SharedUpkeep {
    pub(super) upkeeper: Arc<Mutex<Upkeeper>>,
    pub(super) own: Own,
    /// The newest record; it is durable.
    pub(super) last: u64,
    /// The commits' connection broke, and did not come back at once.
    pub(super) reconnect: bool,
    pub(super) slice: Option<SweepSlice>,
    /// Producers whose full segments are to be given up.
    pub(super) fold: Vec<Uuid>,
    /// The dashboards' databases.
    pub(super) dashboards: Vec<Uuid>,
    /// What came of the publication of others' counts.
    pub(super) told_of_dead: Vec<ToldOfLedger>,
}

/// What was done.
#[must_use = "the ledger must be told"]
#[derive(Default)]
pub struct SharedUpkept {
    /// For the commits, with the epoch that it has raised, and the newest record.
    pub(super) connection: Option<(PgConnection, Own, u64)>,
    pub(super) has_swept: bool,
    /// Producers with more to give up.
    pub(super) fold: Vec<Uuid>,
    /// Bytes of the tables.
    pub(super) bytes: Option<u64>,
    /// Others whose counts are to be published, or no more.
    pub(super) dead: DeadLedgers,
}

impl Upkeeper {
    /// For a data directory that has this note of its processor.
    pub(super) fn new(config: PgConfig, file: HolderFile, holder: Holder) -> Self {
        let link = Link::new(config.clone());
        let (renewed, forgotten, noted, sized) = (None, None, None, None);
        let (slice, dead, steady_since) = (None, DeadMembers::default(), None);
        let done = SharedUpkept::default();
        Self {
            config,
            link,
            file,
            holder,
            renewed,
            forgotten,
            noted,
            sized,
            slice,
            dead,
            done,
            steady_since,
        }
    }

    /// Gives up what others may take over, and does the last.
    ///
    /// # Errors
    /// The database's.
    pub(super) fn leave(
        &mut self,
        told_of_dead: Vec<ToldOfLedger>,
        last: impl FnOnce(&mut PgConnection) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        self.dead.note(told_of_dead);
        let dead = &mut self.dead;
        self.link.run(|connection| {
            dead.leave(connection)?;
            last(connection)
        })
    }

    /// Notes the newest record in the data directory.
    pub(super) fn note(&mut self, record: u64) -> Result<()> {
        if record > self.holder.record {
            self.holder.record = record;
            self.file.write(&self.holder)?;
        }
        Ok(())
    }

    fn run(&mut self, work: SharedUpkeep) -> Result<SharedUpkept, Trouble> {
        let SharedUpkeep { own, last, .. } = work;
        self.dead.note(work.told_of_dead);
        if work.slice.is_some() {
            self.slice = work.slice;
        }
        if work.reconnect {
            let mut own = own;
            let mut connection = connect(&self.config)?;
            let newest = reclaim(&mut connection, &mut own, last)?;
            self.done.connection = Some((connection, own, newest));
            // The rest comes in a second.
            return Ok(std::mem::take(&mut self.done));
        }
        if is_due(&mut self.renewed, RENEW_EVERY) {
            let found = self.link.run(|connection| renew(connection, &own))?;
            self.steady_since.get_or_insert_with(Instant::now);
            if found < last {
                return Err(LedgerBehind { found, known: last }.into());
            }
        }
        if let Some(slice) = &self.slice {
            self.link.run(|connection| write_slice(connection, &own, slice))?;
            (self.slice, self.done.has_swept) = (None, true);
        }
        for producer in work.fold {
            let folded = self.link.run(|connection| fold_producer(connection, producer))?;
            self.done.fold.extend((folded == FoldedProducer::Some).then_some(producer));
        }
        let (dead, steady_since) = (&mut self.dead, self.steady_since);
        let changes = &mut self.done.dead;
        self.link.run(|connection| {
            dead.run(connection, &own, &work.dashboards, steady_since, changes)
        })?;
        if is_due(&mut self.forgotten, FORGET_EVERY) {
            self.link.run(forget_old)?;
        }
        if is_due(&mut self.sized, SIZE_EVERY) {
            let size = self.link.run(|connection| {
                Ok(connection.query(READ_SIZE, &[] as &[Param<'_>])?.first()?.int(0)?)
            })?;
            self.done.bytes = Some(size.cast_unsigned());
        }
        Ok(std::mem::take(&mut self.done))
    }
}

impl SharedUpkeep {
    /// Does it.
    ///
    /// # Errors
    /// [`LedgerAway`](crate::ledger::LedgerAway) while the database is; fenced, or behind.
    pub(in crate::ledger) fn run(self) -> Result<SharedUpkept> {
        let upkeeper = Arc::clone(&self.upkeeper);
        let mut upkeeper = upkeeper.lock();
        let last = self.last;
        let done = upkeeper.run(self);
        if done.is_err() {
            (upkeeper.renewed, upkeeper.steady_since) = (None, None);
        }
        if let Err(Trouble::Behind(behind)) = &done {
            // So that a start knows it, too.
            upkeeper.note(behind.known)?;
        }
        let done = done.map_err(Trouble::while_counting)?;
        if is_due(&mut upkeeper.noted, NOTE_EVERY) {
            upkeeper.note(last)?;
        }
        Ok(done)
    }
}
