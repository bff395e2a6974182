//! What a processor's report tells of the shared ledger (pure but for the time that passes).

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::members::LedgerMembers;
use crate::wire::LedgerStatus;

/// The newest commits whose times are told.
const TIMES: usize = 1_000;

/// Gathered by the ledger.
#[derive(Debug)]
pub(super) struct LedgerReport {
    /// `host:port/database`, without a password.
    name: String,
    pub(super) members: LedgerMembers,
    /// Why the database cannot be used, and since when.
    away: Option<(String, Instant)>,
    pub(super) behind: Option<String>,
    /// Of the newest commits, in ms; the oldest is overwritten.
    times: Vec<f32>,
    commits: usize,
}

impl LedgerReport {
    /// Of a database that was just opened.
    pub(super) fn new(name: String) -> Self {
        let (members, times) = (LedgerMembers::default(), Vec::new());
        Self { name, members, away: None, behind: None, times, commits: 0 }
    }

    /// The database cannot be used.
    pub(super) fn away(&mut self, reason: String) {
        let since = self.away.as_ref().map_or_else(Instant::now, |(_, since)| *since);
        self.away = Some((reason, since));
    }

    /// The database can be used.
    pub(super) fn there(&mut self) {
        self.away = None;
    }

    /// A commit took so long.
    pub(super) fn committed(&mut self, took: Duration) {
        self.there();
        let ms = took.as_secs_f32() * 1e3;
        match self.times.get_mut(self.commits % TIMES) {
            Some(oldest) => *oldest = ms,
            None => self.times.push(ms),
        }
        self.commits += 1;
    }

    /// As processor `me` tells it, which has counted so many plays.
    pub(super) fn status(&self, me: &Uuid, plays: u64) -> LedgerStatus {
        let mut processors = self.members.each.clone();
        if let Some(own) = processors.iter_mut().find(|known| known.id == *me) {
            own.plays = plays;
        }
        let mut times = self.times.clone();
        times.sort_unstable_by(f32::total_cmp);
        let percentile = |percent: usize| Some(f64::from(*times.get(times.len() * percent / 100)?));
        LedgerStatus {
            name: self.name.clone(),
            processors,
            left_out: self.members.left_out,
            away: self.away.as_ref().map(|(reason, _)| reason.clone()),
            away_for_ms: self.away.as_ref().map(|(_, since)| since.elapsed().as_millis() as u64),
            commit_ms_p50: percentile(50),
            commit_ms_p99: percentile(99),
            behind: self.behind.clone(),
            ..LedgerStatus::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_newest_commits() {
        let mut report = LedgerReport::new("db:5432/plays".to_owned());
        let status = |report: &LedgerReport| report.status(&Uuid::nil(), 7);
        assert_eq!(status(&report).commit_ms_p50, None);
        (0..TIMES as u64).for_each(|_| report.committed(Duration::from_secs(9)));
        (1..=TIMES as u64).for_each(|ms| report.committed(Duration::from_millis(ms)));
        let (p50, p99) = (status(&report).commit_ms_p50, status(&report).commit_ms_p99);
        assert_eq!((p50.map(f64::round), p99.map(f64::round)), (Some(501.0), Some(991.0)));
        report.away("down".to_owned());
        report.away("still down".to_owned());
        assert_eq!(status(&report).away.as_deref(), Some("still down"));
        assert!(status(&report).away_for_ms.is_some());
        report.committed(Duration::ZERO);
        assert_eq!(status(&report).away, None);
    }
}
