//! The shared ledgers, put together from what each of their processors tells (pure).

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::reports::{KnownProcessor, Live};
use crate::dashboard::nsqds::LapsedProcessor;
use crate::wire::{LedgerKind, LedgerProcessor, LedgerProcessorState, LedgerStatus};

/// A shared ledger.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct SharedLedgerShown {
    kind: LedgerKind,
    /// Its database, as `host:port/name`.
    name: String,
    /// The processor that tells this: the one that was heard last of those that reach the database.
    told_by: Uuid,
    /// How long ago, in ms.
    told_ms_ago: u64,
    /// Who counts in it, or has.
    processors: Vec<LedgerProcessorShown>,
    /// Processors that are left out.
    left_out: u64,
}

/// A processor of a shared ledger.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct LedgerProcessorShown {
    processor: Uuid,
    /// Whether it reports to this dashboard.
    reports: bool,
    /// How it was when that was told.
    state: LedgerProcessorState,
    /// How much of its lease was left then, in ms; below 0: since when it has run out.
    lease_ms_left: i64,
    /// How often it was taken over, by a new start of it or by another processor.
    epoch: u64,
    /// Who publishes what it has counted in its place.
    published_by: Option<Uuid>,
    /// The number of its newest commit.
    last_record: u64,
    /// Plays that it has counted since it was made.
    plays: u64,
    /// Of its commits, those that a dashboard has not been told of; null: not known.
    untold: Option<u64>,
}

/// Which ledger a processor counts in, and how it is with that.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(in super::super) struct LedgerGlance {
    kind: LedgerKind,
    /// Its database, as `host:port/name`; empty of files.
    name: String,
    /// How many processors of it are alive, this one or others.
    shared_by: usize,
    /// How the ledger knows the processor to be; null of files, and where the ledger does not know it.
    state: Option<LedgerProcessorState>,
    /// How much of its lease is left, in ms; below 0: since when it has run out.
    lease_ms_left: Option<i64>,
    /// Who publishes what it has counted in its place.
    published_by: Option<Uuid>,
    /// Why it cannot use the ledger.
    away: Option<String>,
    /// For how long that is so, in ms.
    away_for_ms: Option<u64>,
    /// How it is known that the ledger lacks commits.
    behind: Option<String>,
    /// The median time of its newest commits, in ms.
    commit_ms_p50: Option<f64>,
    /// Their 99th percentile, in ms.
    commit_ms_p99: Option<f64>,
}

/// One shared ledger, as its processors know it.
pub(super) struct LedgerShown<'a> {
    /// As the processor tells that was heard last of those that reach the database.
    status: &'a LedgerStatus,
    told_by: Uuid,
    told: &'a KnownProcessor,
    /// Each as it was told last.
    processors: BTreeMap<Uuid, &'a LedgerProcessor>,
}

impl LedgerShown<'_> {
    /// Whether `status`, told by `id`, is of this ledger.
    fn is_of(&self, id: &Uuid, status: &LedgerStatus) -> bool {
        let is_known = |id: &Uuid| self.processors.contains_key(id) || self.told_by == *id;
        is_known(id)
            || status.processors.iter().any(|other| is_known(&other.id))
            || self.status.life.is_some() && self.status.life == status.life
    }
}

impl Live {
    /// Each shared ledger once.
    pub(super) fn shared_ledgers(&self, now: Instant) -> Vec<LedgerShown<'_>> {
        let told = |(id, known): (&Uuid, &'_ KnownProcessor)| known.ledger.is_some().then_some(*id);
        let mut told: Vec<_> = self.processors.iter().filter_map(told).collect();
        told.sort_by_key(|id| {
            let known = &self.processors[id];
            let is_away = known.ledger.as_ref().is_some_and(|status| status.away.is_some());
            (!known.reports(now), is_away, known.reported_ago(now))
        });
        let mut ledgers: Vec<LedgerShown<'_>> = Vec::new();
        for told_by in told {
            let told = &self.processors[&told_by];
            let Some(status) = told.ledger.as_deref() else { continue };
            let found = ledgers.iter().position(|ledger| ledger.is_of(&told_by, status));
            let index = found.unwrap_or_else(|| {
                let processors = BTreeMap::new();
                ledgers.push(LedgerShown { status, told_by, told, processors });
                ledgers.len() - 1
            });
            for processor in &status.processors {
                ledgers[index].processors.entry(processor.id).or_insert(processor);
            }
        }
        ledgers
    }

    /// Each shared ledger, with who counts in it.
    pub(in super::super) fn ledgers(&self, now: Instant) -> Vec<SharedLedgerShown> {
        let show = |ledger: LedgerShown<'_>| {
            let processor = |(id, known): (&Uuid, &&LedgerProcessor)| LedgerProcessorShown {
                processor: *id,
                reports: self.processors.get(id).is_some_and(|known| known.reports(now)),
                state: known.state(),
                lease_ms_left: known.lease_ms_left,
                epoch: known.epoch,
                published_by: known.published_by,
                last_record: known.last_record,
                plays: known.plays,
                untold: known.untold,
            };
            let told_ms_ago = ledger.told.reported_ago(now).as_millis();
            SharedLedgerShown {
                kind: ledger.status.kind,
                name: ledger.status.name.clone(),
                told_by: ledger.told_by,
                told_ms_ago: u64::try_from(told_ms_ago).unwrap_or(u64::MAX),
                processors: ledger.processors.iter().map(processor).collect(),
                left_out: ledger.status.left_out,
            }
        };
        self.shared_ledgers(now).into_iter().map(show).collect()
    }

    /// Processors of shared ledgers whose leases have run out, as a processor tells now that reaches the database.
    pub(in super::super) fn dead(&self, now: Instant) -> Vec<LapsedProcessor> {
        let told =
            |ledger: &LedgerShown<'_>| ledger.told.reports(now) && ledger.status.away.is_none();
        let dead = |ledger: LedgerShown<'_>| {
            let name = ledger.status.name.clone();
            let dead = |known: &LedgerProcessor| LapsedProcessor {
                id: known.id,
                ledger: name.clone(),
                dead_ms: known.lease_ms_left.min(0).unsigned_abs(),
                state: known.state(),
                published_by: known.published_by,
                plays: known.plays,
            };
            let all = ledger.processors.into_values().filter(|known| !known.is_alive);
            all.map(dead).collect::<Vec<_>>()
        };
        self.shared_ledgers(now).into_iter().filter(told).flat_map(dead).collect()
    }

    /// Processors without whom others of their shared ledger count on.
    pub(super) fn replaced(&self, now: Instant) -> HashSet<Uuid> {
        self.dead(now).into_iter().map(|dead| dead.id).collect()
    }

    /// What each processor tells now of its shared ledger, for the metrics.
    pub(in super::super) fn ledger_statuses(
        &self,
        now: Instant,
    ) -> impl Iterator<Item = (&Uuid, &LedgerStatus)> {
        self.processors.iter().filter_map(move |(id, known)| {
            Some((id, known.ledger.as_deref().filter(|_| known.reports(now))?))
        })
    }

    /// Where the ledger of each processor is that tells it now.
    pub(in super::super) fn ledger_kinds(
        &self,
        now: Instant,
    ) -> impl Iterator<Item = (&Uuid, LedgerKind)> {
        self.processors.iter().filter_map(move |(id, known)| {
            let told = known.consumption.as_ref().filter(|_| known.reports(now))?;
            let shared = known.ledger.as_ref().map(|status| status.kind);
            // One that is on disk has figures of its own.
            Some((id, shared.or(told.ledger.map(|_| LedgerKind::Files))?))
        })
    }

    /// Whether two processors count in one shared ledger, as either tells.
    pub(in super::super) fn share_ledger(&self, one: &Uuid, other: &Uuid) -> bool {
        let told = |id| self.processors.get(id)?.ledger.as_deref();
        let lists = |teller, listed| told(teller).is_some_and(|status| status.lists(listed));
        let life = |id| told(id)?.life;
        lists(one, other) || lists(other, one) || life(one).is_some() && life(one) == life(other)
    }
}

impl KnownProcessor {
    /// Which ledger it counts in, as it tells itself or, where it does not, another one of that ledger.
    pub(super) fn glance(
        &self,
        id: &Uuid,
        ledgers: &[LedgerShown<'_>],
        now: Instant,
    ) -> Option<LedgerGlance> {
        let knows =
            |ledger: &&LedgerShown<'_>| ledger.told_by == *id || ledger.processors.contains_key(id);
        let Some(ledger) = ledgers.iter().find(knows) else {
            // One that is on disk has figures of its own.
            return self.consumption.as_ref()?.ledger.map(|_| LedgerGlance::of_files());
        };
        let own = self.ledger.as_deref().filter(|_| self.reports(now));
        let known = ledger.processors.get(id);
        let LedgerStatus { kind, name, .. } = own.unwrap_or(ledger.status);
        Some(LedgerGlance {
            kind: *kind,
            name: name.clone(),
            shared_by: ledger.processors.values().filter(|known| known.is_alive).count(),
            state: known.map(|known| known.state()),
            lease_ms_left: known.map(|known| known.lease_ms_left),
            published_by: known.and_then(|known| known.published_by),
            away: own.and_then(|own| own.away.clone()),
            away_for_ms: own.and_then(|own| own.away_for_ms),
            behind: own.and_then(|own| own.behind.clone()),
            commit_ms_p50: own.and_then(|own| own.commit_ms_p50),
            commit_ms_p99: own.and_then(|own| own.commit_ms_p99),
        })
    }
}

impl LedgerGlance {
    /// Of a processor that has files of its own.
    fn of_files() -> Self {
        Self {
            kind: LedgerKind::Files,
            name: String::new(),
            shared_by: 1,
            state: None,
            lease_ms_left: None,
            published_by: None,
            away: None,
            away_for_ms: None,
            behind: None,
            commit_ms_p50: None,
            commit_ms_p99: None,
        }
    }
}

#[cfg(test)]
mod tests;
