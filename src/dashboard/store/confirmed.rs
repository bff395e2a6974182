//! Which plays of each producer are counted for good: in a table, and in memory what it does not have yet and what was asked
//! for last. Both together say it; what is counted only grows, so that neither is ever wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use anyhow::Result;
use foldhash::HashMap;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use uuid::Uuid;

use super::row::check_row;
use crate::model::unix_time::UnixMs;
use crate::wire::{Confirmed, ProducerConfirmed};

/// Producers that stay in memory, about 20 MB: of more, those longest unchanged go, which the table has.
const RESIDENT_MAX: usize = 100_000;

/// So many changed ones begin a checkpoint.
pub(super) const CHANGED_OVERDUE: usize = 50_000;

/// The most changed ones that wait for a checkpoint: about 200 MB.
pub(super) const CHANGED_MAX: usize = 1_000_000;

/// How many that must stay are passed over for one that may go.
const PASSED_OVER: usize = 64;

/// What is known of one producer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ConfirmedEntry {
    confirmed: Confirmed,
    changed_at: UnixMs,
    /// The table does not say more.
    is_whole: bool,
}

impl ConfirmedEntry {
    /// Which plays.
    pub(super) fn confirmed(&self) -> &Confirmed {
        &self.confirmed
    }
}

/// Producers that processors have told of.
#[derive(Debug, Default)]
pub(super) struct ConfirmedProducers {
    known: HashMap<Uuid, ConfirmedEntry>,
    by_change: BTreeSet<(UnixMs, Uuid)>,
    // What the table does not have.
    changed: BTreeSet<Uuid>,
    // Of those what is being written.
    writing: BTreeSet<Uuid>,
    table: TableState,
}

/// Whether what the table says holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TableState {
    #[default]
    Holds,
    /// All of it is forgotten.
    Forgotten,
    /// The same, and it is being emptied.
    BeingEmptied,
}

impl ConfirmedProducers {
    /// What is known of a producer in memory.
    pub(super) fn of(&self, producer: &Uuid) -> Confirmed {
        self.known.get(producer).map(|known| known.confirmed.clone()).unwrap_or_default()
    }

    /// What is known of a producer, if the table need not be asked.
    pub(super) fn whole(&self, producer: &Uuid) -> Option<Confirmed> {
        if self.table != TableState::Holds {
            return Some(self.of(producer));
        }
        let known = self.known.get(producer).filter(|known| known.is_whole)?;
        Some(known.confirmed.clone())
    }

    /// How many changed ones the table does not have.
    pub(super) fn waiting(&self) -> usize {
        self.changed.len() + self.writing.len()
    }

    /// Whether [`ConfirmedProducers::apply`] would change anything, as far as is known in memory.
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
                let is_whole = self.known.get(producer).is_some_and(|known| known.is_whole);
                let entry = ConfirmedEntry { confirmed: merged, changed_at: at, is_whole };
                self.insert(*producer, entry);
                self.changed.insert(*producer);
            }
        }
    }

    /// Adds what the table says of a producer: it need not be asked again for a while.
    pub(super) fn remember(&mut self, producer: Uuid, row: ConfirmedEntry) {
        let confirmed = self.of(&producer).union(&row.confirmed);
        let changed_at = self.known.get(&producer).map_or(row.changed_at, |known| known.changed_at);
        self.insert(producer, ConfirmedEntry { confirmed, changed_at, is_whole: true });
        self.evict();
    }

    /// Forgets all of them, those of the table as well: processors tell what is true.
    pub(super) fn forget_all(&mut self) {
        *self = Self { table: TableState::Forgotten, ..Self::default() };
    }

    /// Whether the table is to be emptied before anything else is written there.
    pub(super) fn take_forgotten(&mut self) -> bool {
        let is_forgotten = self.table == TableState::Forgotten;
        if is_forgotten {
            self.table = TableState::BeingEmptied;
        }
        is_forgotten
    }

    fn insert(&mut self, producer: Uuid, known: ConfirmedEntry) {
        let changed_at = known.changed_at;
        if let Some(before) = self.known.insert(producer, known) {
            self.by_change.remove(&(before.changed_at, producer));
        }
        self.by_change.insert((changed_at, producer));
    }

    /// Takes those from memory that were longest unchanged, and that the table has.
    fn evict(&mut self) {
        while self.known.len() > RESIDENT_MAX {
            let may_go = |(_, id): &&(UnixMs, Uuid)| {
                !self.changed.contains(id) && !self.writing.contains(id)
            };
            let oldest = self.by_change.iter().take(PASSED_OVER).find(may_go).copied();
            let Some((at, id)) = oldest else { return };
            self.by_change.remove(&(at, id));
            self.known.remove(&id);
        }
    }

    /// The table has what was taken.
    pub(super) fn written(&mut self) {
        if self.table == TableState::BeingEmptied {
            self.table = TableState::Holds;
        }
        self.writing.clear();
        self.evict();
    }

    /// Takes the first `most` changed producers behind `after`, in the order of their ids.
    pub(super) fn take_changed(
        &mut self,
        after: Option<Uuid>,
        most: usize,
    ) -> BTreeMap<Uuid, ConfirmedEntry> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.changed.range((from, Bound::Unbounded)).take(most);
        let taken: BTreeMap<_, _> =
            next.filter_map(|id| Some((*id, self.known.get(id)?.clone()))).collect();
        for id in taken.keys() {
            self.changed.remove(id);
            self.writing.insert(*id);
        }
        taken
    }

    /// The table does not have what was taken.
    pub(super) fn give_back(&mut self) {
        if self.table == TableState::BeingEmptied {
            self.table = TableState::Forgotten;
        }
        self.changed.append(&mut self.writing);
    }
}

/// Writes what was taken, and what the rows say already.
///
/// # Errors
/// As [`row`].
pub(super) fn write(
    transaction: &Transaction<'_>,
    taken: &BTreeMap<Uuid, ConfirmedEntry>,
) -> Result<()> {
    for (producer, ConfirmedEntry { confirmed, changed_at, .. }) in taken {
        let before = row(transaction, producer)?.map(|row| row.confirmed).unwrap_or_default();
        let Confirmed { watermark, above } = before.union(confirmed);
        let above = serde_json::to_string(&above)?;
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO confirmed VALUES (?1, ?2, ?3, ?4, row_check(?1, ?2, ?3, ?4))",
            )?
            .execute(params![producer, watermark as i64, above, changed_at.0])?;
    }
    Ok(())
}

/// What the table says of a producer; `None` of one that it does not have.
///
/// # Errors
/// The row does not fit its check; or SQLite's.
pub(super) fn row(connection: &Connection, producer: &Uuid) -> Result<Option<ConfirmedEntry>> {
    connection
        .prepare_cached(
            "SELECT producer, watermark, above, changed_at,
                    row_check = row_check(producer, watermark, above, changed_at) FROM confirmed WHERE producer = ?1",
        )?
        .query_row([producer], |row| Ok(read(connection, row)))
        .optional()?
        .transpose()
}

fn read(connection: &Connection, row: &Row<'_>) -> Result<ConfirmedEntry> {
    check_row(connection, "confirmed", row.get(4)?)?;
    let (watermark, above): (i64, String) = (row.get(1)?, row.get(2)?);
    let confirmed =
        Confirmed { watermark: watermark.unsigned_abs(), above: serde_json::from_str(&above)? };
    Ok(ConfirmedEntry { confirmed, changed_at: UnixMs(row.get(3)?), is_whole: true })
}

/// Empties the table.
///
/// # Errors
/// SQLite's.
pub(super) fn empty(transaction: &Transaction<'_>) -> Result<()> {
    transaction.execute("DELETE FROM confirmed", [])?;
    Ok(())
}

/// Looks at every row of the table, and keeps none.
///
/// # Errors
/// As [`row`].
pub(super) fn check_rows(connection: &Connection) -> Result<()> {
    let mut statement = connection.prepare(
        "SELECT producer, watermark, above, changed_at,
                row_check = row_check(producer, watermark, above, changed_at) FROM confirmed",
    )?;
    let mut rows = statement.query([])?;
    while let Some(found) = rows.next()? {
        read(connection, found)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::store::database;

    fn told(id: u128, watermark: u64) -> ProducerConfirmed {
        let confirmed = Confirmed { watermark, above: Vec::new() };
        ProducerConfirmed { producer: Uuid::from_u128(id), confirmed }
    }

    /// What memory and table say together.
    fn of(producers: &ConfirmedProducers, connection: &Connection, id: u128) -> u64 {
        let id = Uuid::from_u128(id);
        let row = row(connection, &id).unwrap().map(|row| row.confirmed).unwrap_or_default();
        producers.of(&id).union(&row).watermark
    }

    fn write_all(producers: &mut ConfirmedProducers, connection: &mut Connection) -> usize {
        let taken = producers.take_changed(None, usize::MAX);
        let transaction = connection.transaction().unwrap();
        write(&transaction, &taken).unwrap();
        transaction.commit().unwrap();
        producers.written();
        taken.len()
    }

    #[test]
    fn what_is_forgotten_is_in_the_table_no_more() {
        let mut connection = database::empty().unwrap();
        let mut producers = ConfirmedProducers::default();
        producers.apply(&[told(1, 9), told(2, 9)], UnixMs(1));
        write_all(&mut producers, &mut connection);
        producers.forget_all();
        producers.apply(&[told(1, 4)], UnixMs(2));
        let whole = |producers: &ConfirmedProducers, id| {
            producers.whole(&Uuid::from_u128(id)).map(|confirmed| confirmed.watermark)
        };
        assert_eq!([1, 2].map(|id| whole(&producers, id)), [Some(4), Some(0)]);
        // A transaction that fails leaves it to the next.
        assert!(producers.take_forgotten() && !producers.take_forgotten());
        producers.give_back();
        assert!(producers.take_forgotten());
        let transaction = connection.transaction().unwrap();
        empty(&transaction).unwrap();
        transaction.commit().unwrap();
        write_all(&mut producers, &mut connection);
        assert!(!producers.take_forgotten());
        assert_eq!([1, 2].map(|id| of(&producers, &connection, id)), [4, 0]);
    }

    #[test]
    fn what_the_table_has_goes_and_is_not_forgotten() {
        const MORE: u128 = RESIDENT_MAX as u128 + 10;
        let mut connection = database::empty().unwrap();
        let mut producers = ConfirmedProducers::default();
        for id in 0..MORE {
            producers.apply(&[told(id, 1)], UnixMs(id as i64));
        }
        assert!(!producers.is_news(&[told(0, 1)]) && producers.is_news(&[told(0, 2)]));
        assert_eq!((producers.known.len(), producers.waiting()), (MORE as usize, MORE as usize));
        producers.take_changed(None, usize::MAX);
        producers.give_back();
        assert_eq!(write_all(&mut producers, &mut connection), MORE as usize);
        assert_eq!((producers.known.len(), producers.waiting()), (RESIDENT_MAX, 0));
        assert_eq!(producers.of(&Uuid::from_u128(3)), Confirmed::default());
        // A part is told of one that is in the table only: nothing of it is lost.
        let above = Confirmed { watermark: 0, above: vec![[1, 4]] };
        producers.apply(
            &[ProducerConfirmed { producer: Uuid::from_u128(3), confirmed: above }],
            UnixMs(1 << 40),
        );
        assert_eq!(of(&producers, &connection, 3), 4);
        assert_eq!(producers.whole(&Uuid::from_u128(3)), None);
        assert_eq!(write_all(&mut producers, &mut connection), 1);
        assert!((0..MORE).all(|id| of(&producers, &connection, id) == if id == 3 { 4 } else { 1 }));
        let found = row(&connection, &Uuid::from_u128(5)).unwrap().unwrap();
        producers.remember(Uuid::from_u128(5), found);
        assert_eq!(producers.known.len(), RESIDENT_MAX);
        check_rows(&connection).unwrap();
        connection.execute("UPDATE confirmed SET watermark = 9 WHERE watermark = 4", []).unwrap();
        assert!(check_rows(&connection).is_err());
        assert!(row(&connection, &Uuid::from_u128(3)).is_err());
    }
}
