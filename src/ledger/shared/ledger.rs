//! The ledger that processors share, in PostgreSQL: any number of them count one channel's plays, each once.
//!
//! What each has counted of which video is its own, and is published under its id; which plays are counted all share. In
//! memory are the own videos and what the dashboard is still to be told; a start loads the videos, and nothing of producers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;
use uuid::Uuid;

use super::committer::{Landed, SharedCommitter};
use super::confirm;
use super::ledger_report::LedgerReport;
use super::link::{Link, is_conflict};
use super::membership::{give_back, write_told};
use super::open::{Opened, PostgresLedgerConfig, open};
use super::sweep::SweepSlice;
use super::transaction::VERSIONS_PER_START;
use super::trouble::Trouble;
use super::upkeep::{SharedUpkeep, SharedUpkept, Upkeeper};
use crate::ledger::away::LedgerAway;
use crate::ledger::commit::{Arrivals, Committed};
use crate::ledger::counters::Counters;
use crate::ledger::dead::{DeadLedgers, ToldOfLedger};
use crate::ledger::ledger_trait::{Ledger, LedgerSize, NextUpkeep};
use crate::ledger::message_window::MessageWindowSize;
use crate::ledger::unreported::AllUnreported;
use crate::ledger::upkeep::{LedgerUpkeep, LedgerUpkept};
use crate::model::dashboard_index::DashboardIndex;
use crate::model::video::{VideoCount, VideoState};
use crate::wire::{Confirmed, LedgerKind, LedgerStatus, ProducerConfirmed};

/// Messages in one commit: enough that a play costs the database little, and no lock is held for long.
const GROUP_MAX: usize = 10_000;

/// How long the database may take to tell what is confirmed: the ledger is held for it, and a dashboard takes a processor for
/// silent that has not reported for 10 s.
const READ_PATIENCE: Duration = Duration::from_secs(3);

/// Tries of one commit that is in another's way.
const CONFLICT_TRIES: u32 = 5;

/// So long after the one before a sweep begins: each writes all rows that have changed.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Videos in one slice of a sweep: some 20 ms of the database's.
const SLICE: usize = 2_000;

/// Producers that wait for their full segments to be given up; more are found again when they are told of.
const FOLD_MAX: usize = 1_000;

/// Of these in each upkeep.
const FOLD_AT_ONCE: usize = 20;

/// The videos that a sweep has still to write.
struct Sweeping {
    upto: u64,
    /// The highest first: slices are cut off the end.
    numbers: Vec<u32>,
}

/// Counts in PostgreSQL, beside others.
pub struct PostgresLedger {
    committer: SharedCommitter,
    life: Uuid,
    unreported: AllUnreported,
    to_fold: HashSet<Uuid>,
    /// To read what is confirmed.
    reading: Link,
    upkeeper: Arc<Mutex<Upkeeper>>,
    sweeping: Option<Sweeping>,
    /// A slice is being written; whether it ends its sweep, at that record.
    writing: Option<Option<u64>>,
    swept: u64,
    swept_at: Instant,
    /// Each dashboard's database, as far as it was met.
    databases: Vec<Option<Uuid>>,
    /// A database of the first dashboard that was told all before this start.
    told_before: Option<Uuid>,
    /// Those that were told all, at the end.
    told_all: Vec<Uuid>,
    /// What came of the publication of others' counts, to be noted.
    told_of_dead: Vec<ToldOfLedger>,
    /// What has changed with them, to be fetched.
    dead: DeadLedgers,
    /// Of the tables.
    bytes: u64,
    /// Why the database was not there at the last try. The next one is made without the ledger's lock.
    away: Option<String>,
    /// What a report tells of it.
    report: LedgerReport,
}

impl PostgresLedger {
    /// Opens the ledger, its tables made if missing, and loads what was counted under the processor's id.
    ///
    /// # Errors
    /// One line with the way out: the database is away or refuses, its tables do not add up, are of a newer version, or older
    /// than the data directory knows; the data directory has a ledger of its own, or is of another shared one.
    pub fn open(config: &PostgresLedgerConfig) -> Result<Self> {
        let Opened { config, link, member, life, counts, upkeeper, dashboard } = open(config)?;
        let name = config.to_string();
        let mut ledger = Self {
            reading: Link::new(config.with_patience(READ_PATIENCE)),
            committer: SharedCommitter::new(link, &member, counts),
            life,
            unreported: AllUnreported::default(),
            to_fold: HashSet::new(),
            upkeeper: Arc::new(Mutex::new(upkeeper)),
            sweeping: None,
            writing: None,
            swept: member.swept,
            swept_at: Instant::now(),
            databases: vec![None],
            told_before: dashboard,
            told_all: Vec::new(),
            told_of_dead: Vec::new(),
            dead: DeadLedgers::default(),
            bytes: 0,
            away: None,
            report: LedgerReport::new(name),
        };
        if dashboard.is_some() {
            ledger.committer.counts.all_published();
        }
        Ok(ledger)
    }

    fn check_away(&self) -> Result<()> {
        match &self.away {
            Some(reason) => Err(LedgerAway::new(reason.clone()).into()),
            None => Ok(()),
        }
    }

    /// What came of something that was asked of the database.
    fn noted<T>(&mut self, done: Result<T, Trouble>) -> Result<T> {
        if let Err(Trouble::Database(error)) = &done {
            self.away = Some(error.to_string());
        }
        self.with_report(done)
    }

    /// The same, where the next try may be made at once.
    fn with_report<T>(&mut self, done: Result<T, Trouble>) -> Result<T> {
        match &done {
            Err(Trouble::Database(error)) => self.report.away(error.to_string()),
            Err(Trouble::Behind(behind)) => self.report.behind = Some(behind.to_string()),
            _ => {}
        }
        done.map_err(Trouble::while_counting)
    }

    fn note_landed(&mut self, landed: Landed) -> Committed {
        for id in landed.producers {
            self.unreported.add(id);
        }
        while let Some(dashboard) = self.unreported.full() {
            self.tell_all_producers(dashboard);
        }
        landed.committed
    }

    /// A dashboard is to be told of every producer: all are in the tables.
    fn tell_all_producers(&mut self, dashboard: DashboardIndex) {
        self.unreported.of(dashboard).forget(std::iter::empty());
    }

    /// What is counted of these producers.
    fn read(&mut self, producers: &[Uuid]) -> Result<Vec<ProducerConfirmed>> {
        self.check_away()?;
        let read = self.reading.read(|connection| confirm::read(connection, producers));
        let read = read.map_err(Trouble::while_counting)?;
        for known in read.iter().filter(|known| known.can_fold) {
            if self.to_fold.len() < FOLD_MAX {
                self.to_fold.insert(known.told.producer);
            }
        }
        Ok(read.into_iter().map(|known| known.told).collect())
    }

    /// The next slice of a sweep, if one is on its way or due.
    fn next_slice(&mut self, now: Instant) -> Option<SweepSlice> {
        if self.writing.is_some() {
            return None;
        }
        let (last, counts) = (self.committer.last, &mut self.committer.counts);
        let is_due = now.saturating_duration_since(self.swept_at) >= SWEEP_EVERY;
        if self.sweeping.is_none() && is_due && last > self.swept {
            let mut numbers = counts.changed_mut().take();
            // Rows that lie together are written together.
            numbers.sort_unstable_by(|one, other| other.cmp(one));
            self.sweeping = Some(Sweeping { upto: last, numbers });
        }
        let sweeping = self.sweeping.as_mut()?;
        let rest = sweeping.numbers.len().saturating_sub(SLICE);
        let videos = sweeping.numbers.drain(rest..).rev().map(|number| counts.saved(number));
        let videos = videos.collect();
        let upto = sweeping.numbers.is_empty().then_some(sweeping.upto);
        if upto.is_some() {
            self.sweeping = None;
        }
        self.writing = Some(upto);
        Some(SweepSlice { as_of: last, counters: counts.counters(), videos, upto })
    }

    fn next_upkeep(&mut self, now: Instant) -> SharedUpkeep {
        let reconnect = self.away.is_some() && !self.committer.is_up();
        let fold: Vec<Uuid> = self.to_fold.iter().take(FOLD_AT_ONCE).copied().collect();
        self.to_fold.retain(|id| !fold.contains(id));
        SharedUpkeep {
            upkeeper: Arc::clone(&self.upkeeper),
            own: self.committer.own,
            last: self.committer.last,
            reconnect: reconnect.then(|| self.committer.give_old()),
            slice: self.next_slice(now),
            fold,
            dashboards: self.databases.iter().flatten().copied().collect(),
            told_of_dead: std::mem::take(&mut self.told_of_dead),
        }
    }

    /// Ends the last sweep, notes that all is told, and gives the lease back.
    fn leave(&mut self) -> Result<()> {
        self.upkeeper.lock().note(self.committer.last)?;
        self.check_away()?;
        // One sweep may be on its way, and what changed since it began needs another.
        while self.swept < self.committer.last {
            let done = self.next_upkeep(self.swept_at + SWEEP_EVERY).run()?;
            self.take_note(done)?;
        }
        let (own, last) = (self.committer.own, self.committer.last);
        let told = std::mem::take(&mut self.told_all);
        let told_of_dead = std::mem::take(&mut self.told_of_dead);
        let left = self.upkeeper.lock().leave(told_of_dead, |connection| {
            for dashboard in told {
                write_told(connection, own.id, dashboard, last)?;
            }
            give_back(connection, &own)
        });
        left.map_err(Trouble::while_counting)
    }

    fn take_note(&mut self, done: SharedUpkept) -> Result<NextUpkeep> {
        if let Some(bytes) = done.bytes {
            self.bytes = bytes;
        }
        self.to_fold.extend(done.fold);
        if let Some(members) = done.members {
            self.report.members = members;
        }
        if !done.dead.begun.is_empty() {
            // Nobody knows what was told of those that it has counted plays of.
            DashboardIndex::all(self.databases.len())
                .for_each(|each| self.tell_all_producers(each));
        }
        self.dead.begun.extend(done.dead.begun);
        self.dead.ended.extend(done.dead.ended);
        if let Some((link, own, newest)) = done.connection {
            self.away = None;
            let taken = self.committer.take_connection(link, own, newest);
            self.noted(taken)?;
        }
        if done.has_swept
            && let Some(upto) = self.writing.take()
        {
            if let Some(upto) = upto {
                (self.swept, self.swept_at) = (upto, Instant::now());
            }
            return Ok(if self.sweeping.is_some() { NextUpkeep::Soon } else { NextUpkeep::Later });
        }
        Ok(NextUpkeep::Later)
    }
}

impl Ledger for PostgresLedger {
    fn processor(&self) -> Uuid {
        self.committer.own.id
    }

    fn life(&self) -> Uuid {
        self.life
    }

    fn on_channel(&self) -> Uuid {
        self.life
    }

    fn first_version(&self) -> u64 {
        (self.committer.own.starts * VERSIONS_PER_START).cast_unsigned()
    }

    fn counters(&self) -> Counters {
        self.committer.counts.counters()
    }

    fn videos(&self) -> Vec<VideoState> {
        self.committer.counts.videos().collect()
    }

    fn group_max(&self) -> usize {
        GROUP_MAX
    }

    fn commit(&mut self, arrivals: &mut [Arrivals]) -> Result<Committed> {
        let began = Instant::now();
        let was_up = self.committer.is_up();
        if !was_up {
            self.check_away()?;
        }
        let mut tries = 1;
        let done = loop {
            match self.committer.commit(arrivals) {
                Err(trouble) if is_conflict(&trouble) && tries < CONFLICT_TRIES => tries += 1,
                done => break done,
            }
        };
        // One that broke is made anew at once, and by the upkeep when that fails.
        let landed =
            if was_up { done.map_err(Trouble::while_counting)? } else { self.noted(done)? };
        self.away = None;
        self.report.committed(began.elapsed());
        Ok(self.note_landed(landed))
    }

    fn upkeep(&mut self, now: Instant) -> Option<LedgerUpkeep> {
        // Never waited for: who asks is who runs it.
        match self.upkeeper.lock().failure() {
            Some(reason) => self.report.away(reason),
            None if self.committer.is_up() => self.report.there(),
            None => {}
        }
        Some(LedgerUpkeep::Shared(self.next_upkeep(now)))
    }

    fn upkept(&mut self, done: LedgerUpkept) -> Result<NextUpkeep> {
        match done {
            LedgerUpkept::Shared(done) => self.take_note(done),
            LedgerUpkept::Files(_) => Ok(NextUpkeep::Later),
        }
    }

    fn publish_to(&mut self, dashboards: usize) {
        self.databases.resize(dashboards, None);
        self.unreported.resize(dashboards);
        // Nobody knows what they were told of producers.
        DashboardIndex::all(dashboards).for_each(|each| self.tell_all_producers(each));
    }

    fn published(&mut self, _dashboard: DashboardIndex, _counts: &[VideoCount]) {
        // Kept of all videos together, at the end.
    }

    fn publishes_to(&mut self, dashboard: DashboardIndex, database: Uuid) -> Result<bool> {
        let is_other = match self.databases[dashboard.get()].replace(database) {
            Some(before) => before != database,
            None => dashboard == DashboardIndex::FIRST && self.told_before != Some(database),
        };
        if is_other {
            self.tell_all_producers(dashboard);
        }
        Ok(is_other)
    }

    fn confirmed(&mut self, producer: &Uuid) -> Result<Confirmed> {
        let read = self.read(&[*producer])?.pop();
        Ok(read.map_or_else(Confirmed::default, |told| told.confirmed))
    }

    fn take_unreported(
        &mut self,
        dashboard: DashboardIndex,
        limit: usize,
    ) -> Result<Vec<ProducerConfirmed>> {
        self.check_away()?;
        let mut ids = self.unreported.of(dashboard).take(limit);
        let read =
            self.take_of_all(dashboard, &mut ids, limit).and_then(|()| match ids.is_empty() {
                true => Ok(Vec::new()),
                false => self.read(&ids),
            });
        if read.is_err() {
            ids.into_iter().for_each(|id| self.unreported.of(dashboard).add(id));
        }
        read
    }

    fn reported(
        &mut self,
        _dashboard: DashboardIndex,
        _told: &ProducerConfirmed,
        _watermark: u64,
    ) -> bool {
        // What one message does not tell lies behind holes: who fills them tells of the rest.
        false
    }

    fn retell(&mut self, _dashboard: DashboardIndex, _limit: usize) -> bool {
        false
    }

    fn put_back_unreported(&mut self, dashboard: DashboardIndex, producers: &[ProducerConfirmed]) {
        let unreported = self.unreported.of(dashboard);
        producers.iter().for_each(|told| unreported.add(told.producer));
    }

    fn look_at_dead(&mut self, told: Vec<ToldOfLedger>) -> DeadLedgers {
        self.told_of_dead.extend(told);
        std::mem::take(&mut self.dead)
    }

    fn told_all(&mut self, dashboard: DashboardIndex) {
        self.told_all.extend(self.databases[dashboard.get()]);
    }

    fn size(&self) -> Option<LedgerSize> {
        let unswept = self.committer.last - self.swept;
        Some(LedgerSize { unswept, bytes: self.bytes, ..LedgerSize::default() })
    }

    fn status(&self) -> LedgerStatus {
        let mut status = self.report.status(&self.committer.own.id, self.counters().counted);
        (status.kind, status.life) = (LedgerKind::Postgres, Some(self.life));
        status.cut();
        status
    }

    fn message_window(&self) -> MessageWindowSize {
        // In the database.
        MessageWindowSize::default()
    }

    fn close(&mut self) -> Result<()> {
        self.leave()
    }
}

impl PostgresLedger {
    /// Adds producers of all that there are, where a dashboard is to be told of them again.
    fn take_of_all(
        &mut self,
        dashboard: DashboardIndex,
        ids: &mut Vec<Uuid>,
        limit: usize,
    ) -> Result<()> {
        let room = limit.saturating_sub(ids.len());
        let Some(from) = self.unreported.of(dashboard).from().filter(|_| room > 0) else {
            return Ok(());
        };
        let walked = self.reading.read(|connection| confirm::walk(connection, from, room));
        let walked = walked.map_err(Trouble::while_counting)?;
        self.unreported.of(dashboard).told_up_to(walked.last().copied());
        ids.extend(walked);
        Ok(())
    }
}
