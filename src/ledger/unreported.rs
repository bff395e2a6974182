//! Of which producers each dashboard is still to be told (pure).
//!
//! What was counted lately is a set of ids. Where that grows too large, and after a start or for another dashboard, it is
//! "all that the table has": walked in the order of the ids, some at a time. Who is told twice is not told wrong: what is
//! counted only grows.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::model::dashboard_index::DashboardIndex;
use crate::model::seq_set::SeqSet;
use crate::wire::CONFIRMED_RUNS_MAX;

/// The most ids that are kept: 4 MB. More, and all of the table are told again.
const IDS_MAX: usize = 100_000;

/// The newest of them that are told first: whoever publishes now waits for it.
const NEWEST: usize = 1_000;

/// Producers that each dashboard has not been told the newest of.
#[derive(Debug)]
pub(super) struct AllUnreported {
    /// One at least.
    dashboards: Vec<Unreported>,
}

impl Default for AllUnreported {
    fn default() -> Self {
        Self { dashboards: vec![Unreported::default()] }
    }
}

impl AllUnreported {
    /// There are so many dashboards.
    pub(super) fn resize(&mut self, dashboards: usize) {
        self.dashboards.resize_with(dashboards, Unreported::default);
    }

    /// Those of one dashboard.
    pub(super) fn of(&mut self, dashboard: DashboardIndex) -> &mut Unreported {
        &mut self.dashboards[dashboard.get()]
    }

    /// As [`Unreported::known`], of one dashboard.
    pub(super) fn known(&self, dashboard: DashboardIndex, id: &Uuid) -> u64 {
        self.dashboards[dashboard.get()].known(id)
    }

    /// More of a producer's plays are counted.
    pub(super) fn add(&mut self, id: Uuid) {
        self.dashboards.iter_mut().for_each(|unreported| unreported.add(id));
    }

    /// A dashboard for which so many were added that [`Unreported::forget`] is called for.
    pub(super) fn full(&self) -> Option<DashboardIndex> {
        let mut dashboards = DashboardIndex::all(self.dashboards.len()).zip(&self.dashboards);
        dashboards.find(|(_, unreported)| unreported.is_full()).map(|(dashboard, _)| dashboard)
    }
}

/// Producers that a dashboard has not been told the newest of.
#[derive(Debug)]
pub(super) struct Unreported {
    /// The dashboard's database, as it was met last; `None`: not since the start.
    database: Option<Uuid>,
    ids: HashSet<Uuid>,
    /// Some that were added last, the newest last; those that are told meanwhile as well.
    newest: Vec<Uuid>,
    /// Above so many the set is given up: more than were not in the table at the last time.
    most: usize,
    /// Of the table: all from this id on.
    from: Option<Uuid>,
    /// Of producers of which more runs are counted than one message tells: below which number the dashboard knows all.
    known: HashMap<Uuid, u64>,
    /// Those of which runs are left to tell.
    untold: HashSet<Uuid>,
}

impl Default for Unreported {
    fn default() -> Self {
        Self {
            database: None,
            ids: HashSet::new(),
            newest: Vec::new(),
            most: IDS_MAX,
            from: None,
            known: HashMap::new(),
            untold: HashSet::new(),
        }
    }
}

impl Unreported {
    /// More of a producer's plays are counted.
    pub(super) fn add(&mut self, id: Uuid) {
        self.ids.insert(id);
        if self.newest.len() >= 2 * NEWEST {
            self.newest.drain(..NEWEST);
        }
        self.newest.push(id);
    }

    /// The dashboard's database has this id. True if it is another one than was met before: it has been told of nothing.
    pub(super) fn meet(&mut self, database: Uuid) -> bool {
        self.database.replace(database).is_some_and(|before| before != database)
    }

    /// Whether so many were added that [`Unreported::forget`] is called for.
    fn is_full(&self) -> bool {
        self.ids.len() > self.most
    }

    /// All are to be told: those that the table has, and these, which it has not or not all of.
    pub(super) fn forget(&mut self, unsaved: impl Iterator<Item = Uuid>) {
        self.ids.clear();
        self.ids.extend(unsaved);
        self.most = IDS_MAX.max(2 * self.ids.len());
        self.from = Some(Uuid::nil());
        self.known.clear();
        self.untold.clear();
    }

    /// Below which number the dashboard knows all plays of a producer, if one message does not tell of all that is counted.
    pub(super) fn known(&self, id: &Uuid) -> u64 {
        self.known.get(id).copied().unwrap_or(0)
    }

    /// The dashboard has been told of a producer of which that is counted, and knows of all plays below `watermark`. Whether
    /// more is to be told at once.
    pub(super) fn reported(&mut self, id: Uuid, counted: &SeqSet, watermark: u64) -> bool {
        let own = counted.watermark();
        let fits = |above: u64| {
            let runs = counted.runs().filter(|run| run.start > own && run.end > above);
            runs.take(CONFIRMED_RUNS_MAX + 1).count() <= CONFIRMED_RUNS_MAX
        };
        if fits(0) {
            self.known.remove(&id);
            self.untold.remove(&id);
            return false;
        }
        let known = self.known.entry(id).or_default();
        let before = *known;
        *known = before.max(watermark);
        if fits(before) {
            self.untold.remove(&id);
            return false;
        }
        self.untold.insert(id);
        let moved = watermark > before;
        if moved {
            self.add(id);
        }
        moved
    }

    /// At most `limit` producers come again of which not all is told; whether there are any.
    pub(super) fn retell(&mut self, limit: usize) -> bool {
        let again: Vec<Uuid> = self.untold.iter().take(limit).copied().collect();
        again.into_iter().for_each(|id| self.add(id));
        !self.untold.is_empty()
    }

    /// Takes some of those that were counted lately.
    pub(super) fn take(&mut self, limit: usize) -> Vec<Uuid> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(id) = self.newest.pop()
        {
            taken.extend(self.ids.take(&id));
        }
        let rest: Vec<Uuid> = self.ids.iter().take(limit - taken.len()).copied().collect();
        for id in rest {
            taken.extend(self.ids.take(&id));
        }
        taken
    }

    /// The id from which on the table's are to be told; `None`: all are.
    pub(super) fn from(&self) -> Option<Uuid> {
        self.from
    }

    /// Those of the table are told up to this one; `None`: there are no more.
    pub(super) fn told_up_to(&mut self, last: Option<Uuid>) {
        let behind = last.and_then(|id| id.as_u128().checked_add(1));
        self.from = behind.map(Uuid::from_u128);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dashboard_that_is_away_makes_no_other_be_told_all_again() {
        let mut all = AllUnreported::default();
        all.resize(2);
        let [first, away]: [DashboardIndex; 2] =
            DashboardIndex::all(2).collect::<Vec<_>>().try_into().unwrap();
        for id in 0..=IDS_MAX as u128 {
            all.add(Uuid::from_u128(id));
            assert_eq!(all.of(first).take(10), [Uuid::from_u128(id)]);
        }
        assert_eq!(all.full(), Some(away));
        all.of(away).forget(std::iter::empty());
        assert_eq!(all.full(), None);
        assert_eq!((all.of(first).from(), all.of(away).from()), (None, Some(Uuid::nil())));
        // The first answer is of no other database.
        let answers = [1, 1, 2, 2].map(|id| all.of(away).meet(Uuid::from_u128(id)));
        assert_eq!(answers, [false, false, true, false]);
    }

    #[test]
    fn too_many_are_all_of_the_table() {
        let mut unreported = Unreported::default();
        (0..=IDS_MAX as u128).for_each(|id| unreported.add(Uuid::from_u128(id)));
        assert!(unreported.is_full() && unreported.from().is_none());
        let newest = Uuid::from_u128(IDS_MAX as u128);
        assert_eq!(unreported.take(1), [newest]);
        assert_eq!(unreported.take(usize::MAX).len(), IDS_MAX);
        unreported.forget(std::iter::once(Uuid::from_u128(9)));
        assert_eq!(unreported.from(), Some(Uuid::nil()));
        assert_eq!(unreported.take(10), [Uuid::from_u128(9)]);
        unreported.told_up_to(Some(Uuid::from_u128(41)));
        assert_eq!(unreported.from(), Some(Uuid::from_u128(42)));
        for last in [None, Some(Uuid::max())] {
            unreported.told_up_to(last);
            assert_eq!(unreported.from(), None);
        }
    }
}
