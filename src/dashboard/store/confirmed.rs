//! Which plays of each producer are counted for good: in memory to be read, in a table to be kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use anyhow::Result;
use foldhash::HashMap;
use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

use super::row::check_row;
use crate::model::unix_time::UnixMs;
use crate::wire::{Confirmed, ProducerConfirmed};

/// The most producers that are remembered; those longest unchanged go first.
const PRODUCERS_MAX: usize = 100_000;

/// What is known of one producer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ConfirmedEntry {
    confirmed: Confirmed,
    changed_at: UnixMs,
}

/// Every producer that processors have told of.
#[derive(Debug, Default)]
pub(super) struct ConfirmedProducers {
    known: HashMap<Uuid, ConfirmedEntry>,
    by_change: BTreeSet<(UnixMs, Uuid)>,
    // What the table has not, or not any more.
    changed: BTreeSet<Uuid>,
}

impl ConfirmedProducers {
    /// What is known of a producer; nothing of an unknown one.
    pub(super) fn of(&self, producer: &Uuid) -> Confirmed {
        self.known.get(producer).map(|known| known.confirmed.clone()).unwrap_or_default()
    }

    /// Whether [`ConfirmedProducers::apply`] would change anything.
    pub(super) fn is_news(&self, told: &[ProducerConfirmed]) -> bool {
        told.iter().any(|ProducerConfirmed { producer, confirmed }| {
            let known = self.known.get(producer).map(|known| &known.confirmed);
            match known {
                Some(known) => known.union(confirmed) != *known,
                None => *confirmed != Confirmed::default(),
            }
        })
    }

    /// Adds what a processor has told.
    pub(super) fn apply(&mut self, told: &[ProducerConfirmed], at: UnixMs) {
        for ProducerConfirmed { producer, confirmed } in told {
            let known = self.of(producer);
            let merged = known.union(confirmed);
            if merged != known {
                self.insert(*producer, ConfirmedEntry { confirmed: merged, changed_at: at });
                self.changed.insert(*producer);
            }
        }
        while self.known.len() > PRODUCERS_MAX
            && let Some((_, oldest)) = self.by_change.pop_first()
        {
            self.known.remove(&oldest);
            self.changed.insert(oldest);
        }
    }

    /// Forgets all of them: processors tell what is true.
    pub(super) fn forget_all(&mut self) {
        self.changed.extend(self.known.drain().map(|(producer, _)| producer));
        self.by_change.clear();
    }

    fn insert(&mut self, producer: Uuid, known: ConfirmedEntry) {
        let changed_at = known.changed_at;
        if let Some(before) = self.known.insert(producer, known) {
            self.by_change.remove(&(before.changed_at, producer));
        }
        self.by_change.insert((changed_at, producer));
    }

    /// Takes the first `most` changed producers behind `after`, in the order of their ids; `None` in place of one that is
    /// forgotten.
    pub(super) fn take_changed(
        &mut self,
        after: Option<Uuid>,
        most: usize,
    ) -> BTreeMap<Uuid, Option<ConfirmedEntry>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.changed.range((from, Bound::Unbounded)).take(most).copied();
        let taken: BTreeMap<_, _> = next.map(|id| (id, self.known.get(&id).cloned())).collect();
        for id in taken.keys() {
            self.changed.remove(id);
        }
        taken
    }

    /// The table does not have what was taken.
    pub(super) fn give_back(&mut self, taken: BTreeMap<Uuid, Option<ConfirmedEntry>>) {
        self.changed.extend(taken.into_keys());
    }
}

/// Writes what was taken.
pub(super) fn write(
    transaction: &Transaction<'_>,
    taken: &BTreeMap<Uuid, Option<ConfirmedEntry>>,
) -> Result<()> {
    for (producer, known) in taken {
        let Some(ConfirmedEntry { confirmed, changed_at }) = known else {
            transaction
                .prepare_cached("DELETE FROM confirmed WHERE producer = ?1")?
                .execute([producer])?;
            continue;
        };
        let above = serde_json::to_string(&confirmed.above)?;
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO confirmed VALUES (?1, ?2, ?3, ?4, row_check(?1, ?2, ?3, ?4))",
            )?
            .execute(params![producer, confirmed.watermark as i64, above, changed_at.0])?;
    }
    Ok(())
}

/// Reads the table.
///
/// # Errors
/// A row does not fit its check; or SQLite's.
pub(super) fn load(connection: &Connection) -> Result<ConfirmedProducers> {
    let mut statement = connection.prepare(
        "SELECT producer, watermark, above, changed_at,
                row_check = row_check(producer, watermark, above, changed_at) FROM confirmed",
    )?;
    let mut rows = statement.query([])?;
    let mut producers = ConfirmedProducers::default();
    while let Some(row) = rows.next()? {
        check_row(connection, "confirmed", row.get(4)?)?;
        let (watermark, above): (i64, String) = (row.get(1)?, row.get(2)?);
        let confirmed =
            Confirmed { watermark: watermark.unsigned_abs(), above: serde_json::from_str(&above)? };
        let changed_at = UnixMs(row.get(3)?);
        producers.insert(row.get(0)?, ConfirmedEntry { confirmed, changed_at });
    }
    Ok(producers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_longest_unchanged_go_first() {
        let mut producers = ConfirmedProducers::default();
        let told = |id: u128, watermark| ProducerConfirmed {
            producer: Uuid::from_u128(id),
            confirmed: Confirmed { watermark, above: Vec::new() },
        };
        for id in 0..PRODUCERS_MAX as u128 {
            producers.apply(&[told(id, 1)], UnixMs(id as i64));
        }
        assert!(!producers.is_news(&[told(0, 1)]) && producers.is_news(&[told(0, 2)]));
        producers.apply(&[told(0, 2)], UnixMs(1 << 40));
        assert_eq!(producers.take_changed(None, usize::MAX).len(), PRODUCERS_MAX);
        producers.apply(&[told(1 << 50, 1)], UnixMs(1 << 41));
        let watermark = |id| producers.of(&Uuid::from_u128(id)).watermark;
        assert_eq!((watermark(0), watermark(1), watermark(2), watermark(1 << 50)), (2, 0, 1, 1));
        let taken = producers.take_changed(None, 9);
        assert_eq!(taken.len(), 2);
        assert_eq!(taken[&Uuid::from_u128(1)], None);
        producers.give_back(taken);
        assert_eq!(producers.changed.len(), 2);
        assert_eq!(producers.take_changed(Some(Uuid::from_u128(1)), 9).len(), 1);
    }
}
