//! What is wrong with ledgers that processors share: the database is away, slow or behind, or one of the processors is dead (pure).

use std::collections::BTreeMap;

use uuid::Uuid;

use super::finding::{Finding, Severity};
use super::heartbeat::Heartbeat;
use crate::model::words::lasting;
use crate::wire::{LedgerProcessorState, LedgerStatus};

/// A commit that takes longer is slow: 10,000 messages take 20 ms where the database is near and four processors share it.
const SLOW_COMMIT_MS: f64 = 500.0;

/// For so long a processor may be dead before somebody must have taken over: its lease, and the time to notice.
const TAKEOVER_MS: u64 = 60_000;

/// What to do where the database has lost commits.
const BEHIND_WAY_OUT: &str = "A failover or a restored backup has lost commits. Bring the newer database back. If it is gone, start each \
    processor once with --accept-loss. So that a failover loses none, set synchronous_standby_names in PostgreSQL.";

/// What to do where the database is away.
const AWAY_WAY_OUT: &str = "Fix what the message names. Nothing is lost: the messages wait in nsqd, and processors go on by themselves.";

/// The code of the finding that a processor is dead and nobody publishes for it.
const PROCESSOR_DEAD: &str = "processor-dead";

/// A processor whose lease has run out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LapsedProcessor {
    /// Who.
    pub(crate) id: Uuid,
    /// Its ledger's name.
    pub(crate) ledger: String,
    /// Since when, in ms.
    pub(crate) dead_ms: u64,
    /// How it is: not alive.
    pub(crate) state: LedgerProcessorState,
    /// Who publishes what it has counted.
    pub(crate) published_by: Option<Uuid>,
    /// Plays that it has counted.
    pub(crate) plays: u64,
}

/// What keeps the counts of shared ledgers from being right, or from going on: `/healthz` is red with it.
pub(crate) fn ledger_faults(processors: &[Heartbeat], dead: &[LapsedProcessor]) -> Vec<Finding> {
    let mut found = databases_away(processors);
    for (id, status) in told(processors) {
        if let Some(reason) = &status.behind {
            found.push(Finding {
                code: "ledger-behind",
                severity: Severity::Error,
                text: format!(
                    "The ledger {} has lost commits of processor {id}: {reason}",
                    status.name
                ),
                way_out: BEHIND_WAY_OUT,
            });
        }
    }
    for dead in dead {
        let LapsedProcessor { id, ledger, dead_ms, state, plays, .. } = dead;
        if *state == LedgerProcessorState::Dead && *dead_ms >= TAKEOVER_MS {
            found.push(Finding {
                code: PROCESSOR_DEAD,
                severity: Severity::Error,
                text: format!(
                    "Processor {id} of the ledger {ledger} has been dead for {}, and nobody publishes what it counted: some \
                     of its {plays} plays are missing here.",
                    lasting(*dead_ms)
                ),
                way_out: "Start it again, or another processor with the same --ledger, which takes over. If some run, their logs say why they do not.",
            });
        }
    }
    found
}

/// Adds what else there is to know of them.
pub(super) fn diagnose_more(
    processors: &[Heartbeat],
    dead: &[LapsedProcessor],
    found: &mut Vec<Finding>,
) {
    for (id, status) in told(processors) {
        if let Some(ms) = status.commit_ms_p99.filter(|ms| *ms > SLOW_COMMIT_MS) {
            found.push(Finding {
                code: "ledger-slow",
                severity: Severity::Warning,
                text: format!(
                    "1 % of the commits of processor {id} to the ledger {} take {ms:.0} ms or longer. More than {SLOW_COMMIT_MS} ms is slow.",
                    status.name
                ),
                way_out: "Look at the database's disk and load, and at the network to it. Each commit waits for a flush of its WAL.",
            });
        }
    }
    for dead in dead {
        let LapsedProcessor { id, ledger, dead_ms, .. } = dead;
        let lasts = lasting(*dead_ms);
        let (code, severity, text, way_out) = match (dead.state, dead.published_by) {
            (LedgerProcessorState::Published, Some(by)) => (
                "processor-taken-over",
                Severity::Info,
                format!(
                    "Processor {id} of the ledger {ledger} has been dead for {lasts}. Processor {by} publishes what it counted."
                ),
                "Nothing is lost. If it will not come back, do nothing: the next new processor takes its place.",
            ),
            (LedgerProcessorState::Dead, _) if *dead_ms < TAKEOVER_MS => (
                PROCESSOR_DEAD,
                Severity::Warning,
                format!(
                    "Processor {id} of the ledger {ledger} has been dead for {lasts}, and nobody publishes yet what it counted."
                ),
                "Another processor of the ledger takes over within a minute. If none runs, start one.",
            ),
            _ => continue,
        };
        found.push(Finding { code, severity, text, way_out });
    }
}

/// Each database that processors cannot use, once.
fn databases_away(processors: &[Heartbeat]) -> Vec<Finding> {
    let mut away: BTreeMap<&str, Vec<(&str, &str, u64)>> = BTreeMap::new();
    for (id, status) in told(processors) {
        if let Some(reason) = &status.away {
            let told = (id, &**reason, status.away_for_ms.unwrap_or_default());
            away.entry(&status.name).or_default().push(told);
        }
    }
    let finding = |(name, mut told): (&str, Vec<(&str, &str, u64)>)| {
        // Whoever waits for longest first.
        told.sort_by_key(|(_, _, ms)| std::cmp::Reverse(*ms));
        let (id, reason, ms) = *told.first()?;
        let others = match told.len() {
            1 => String::new(),
            more => format!(" and {} more", more - 1),
        };
        Some(Finding {
            code: "ledger-away",
            severity: Severity::Error,
            text: format!(
                "Processor {id}{others} could not use the ledger {name} for {}: {reason}",
                lasting(ms)
            ),
            way_out: AWAY_WAY_OUT,
        })
    };
    away.into_iter().filter_map(finding).collect()
}

/// Those that count in a shared ledger, and what they tell of it now.
fn told(processors: &[Heartbeat]) -> impl Iterator<Item = (&str, &LedgerStatus)> {
    processors.iter().filter_map(|known| Some((&*known.id, known.ledger.as_ref()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::LedgerKind;

    fn heartbeat(id: &str, change: impl FnOnce(&mut LedgerStatus)) -> Heartbeat {
        let (kind, name) = (LedgerKind::Postgres, "db:5432/plays".to_owned());
        let mut status = LedgerStatus { kind, name, ..LedgerStatus::default() };
        change(&mut status);
        Heartbeat {
            id: id.to_owned(),
            silent_ms: 100,
            ended: None,
            failure: None,
            per_second: 5.0,
            consumer: None,
            arrivals: None,
            ledger: Some(status),
        }
    }

    fn dead(
        state: LedgerProcessorState,
        dead_ms: u64,
        published_by: Option<u128>,
    ) -> LapsedProcessor {
        LapsedProcessor {
            id: Uuid::from_u128(7),
            ledger: "db:5432/plays".to_owned(),
            dead_ms,
            state,
            published_by: published_by.map(Uuid::from_u128),
            plays: 40,
        }
    }

    #[track_caller]
    fn check(processors: &[Heartbeat], dead: &[LapsedProcessor], want: &[(&str, Severity, &str)]) {
        let mut found = ledger_faults(processors, dead);
        assert!(found.iter().all(|one| one.severity == Severity::Error), "{found:?}");
        let mut more = Vec::new();
        diagnose_more(processors, dead, &mut more);
        assert!(more.iter().all(|one| one.severity != Severity::Error), "{more:?}");
        found.append(&mut more);
        let got: Vec<_> = found.iter().map(|one| (one.code, one.severity, &*one.text)).collect();
        assert_eq!(got, want);
        assert!(found.iter().all(|one| !one.way_out.is_empty()));
    }

    #[test]
    fn a_database_that_is_away_is_told_once() {
        check(&[heartbeat("p", |_| {})], &[], &[]);
        let away = |id, ms, reason: &str| {
            heartbeat(id, |status| {
                (status.away, status.away_for_ms) = (Some(reason.to_owned()), Some(ms));
            })
        };
        let one = [away("p", 12_300, "connection refused")];
        let text =
            "Processor p could not use the ledger db:5432/plays for 12 s: connection refused";
        check(&one, &[], &[("ledger-away", Severity::Error, text)]);
        let three = [away("p", 1_000, "a"), away("q", 9_000, "b"), away("r", 2_000, "c")];
        let text = "Processor q and 2 more could not use the ledger db:5432/plays for 9 s: b";
        check(&three, &[], &[("ledger-away", Severity::Error, text)]);
    }

    #[test]
    fn one_that_is_slow_or_behind_is_told() {
        let at = |ms| heartbeat("p", |status| status.commit_ms_p99 = Some(ms));
        check(&[at(SLOW_COMMIT_MS)], &[], &[]);
        let text = "1 % of the commits of processor p to the ledger db:5432/plays take 501 ms or longer. More than 500 ms is slow.";
        check(&[at(501.0)], &[], &[("ledger-slow", Severity::Warning, text)]);
        let behind = heartbeat("p", |status| status.behind = Some("record 7 is gone".to_owned()));
        let text = "The ledger db:5432/plays has lost commits of processor p: record 7 is gone";
        check(&[behind], &[], &[("ledger-behind", Severity::Error, text)]);
        assert!(BEHIND_WAY_OUT.contains("synchronous_standby_names"));
    }

    #[test]
    fn a_dead_processor_is_told_with_who_publishes_for_it() {
        use LedgerProcessorState::{Dead, Done, Published};
        let id = "00000000-0000-0000-0000-000000000007";
        let by = "00000000-0000-0000-0000-000000000009";
        let text = format!(
            "Processor {id} of the ledger db:5432/plays has been dead for 1 min 10 s. Processor {by} publishes what it counted."
        );
        check(
            &[],
            &[dead(Published, 70_500, Some(9))],
            &[("processor-taken-over", Severity::Info, &text)],
        );
        let text = format!(
            "Processor {id} of the ledger db:5432/plays has been dead for 5 s, and nobody publishes yet what it counted."
        );
        check(&[], &[dead(Dead, 5_000, None)], &[(PROCESSOR_DEAD, Severity::Warning, &text)]);
        let text = format!(
            "Processor {id} of the ledger db:5432/plays has been dead for 1 min, and nobody publishes what it counted: some of its 40 plays are missing here."
        );
        check(&[], &[dead(Dead, 60_000, None)], &[(PROCESSOR_DEAD, Severity::Error, &text)]);
        check(&[], &[dead(Done, 600_000, None)], &[]);
    }
}
