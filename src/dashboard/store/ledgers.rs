//! Which ledger each processor counts in, and how many plays that is known to hold: in memory to be compared, in a table to be
//! kept.
//!
//! A processor's counts are kept under its own id. Where a loss of its ledger was accepted they are kept under another from then
//! on, and those of before are forgotten: so a change of the journal that is played again is never taken for a new one.

use anyhow::Result;
use foldhash::{HashMap, HashSet};
use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

use super::row::{check_row, damaged};

/// A processor has said which ledger it counts in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClaimedLedger {
    /// Who counts.
    pub(super) processor: Uuid,
    /// Of its ledger.
    pub(super) life: Uuid,
    /// What its counts are kept under from now on.
    pub(super) key: Uuid,
    /// A loss was accepted: what is forgotten.
    pub(super) forget: Option<ForgottenCounts>,
}

/// What is forgotten with an accepted loss: counts of one processor, and all watermarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ForgottenCounts {
    /// What the counts were kept under.
    pub(super) key: Uuid,
    /// Which database it is from now on, so that every processor tells everything again.
    pub(super) id: Uuid,
}

/// Every ledger that was claimed.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledgers {
    // Of each processor: the life of its ledger, and what its counts are kept under.
    claimed: HashMap<Uuid, (Uuid, Uuid)>,
    // By what the counts are kept under: plays that the ledger has said to hold.
    held: HashMap<Uuid, u64>,
    // What counts were kept under that are forgotten.
    forgotten: HashSet<Uuid>,
    // Of those what was an import's.
    taken_back: HashSet<Uuid>,
    // The table does not have all of it.
    has_changed: bool,
}

impl Ledgers {
    /// The life of the ledger that a processor counts in; `None`: it has not said.
    pub(super) fn life(&self, processor: &Uuid) -> Option<Uuid> {
        self.claimed.get(processor).map(|(life, _)| *life)
    }

    /// What a processor's counts are kept under.
    pub(super) fn key(&self, processor: Uuid) -> Uuid {
        self.claimed.get(&processor).map_or(processor, |(_, key)| *key)
    }

    /// Plays that the ledger has said to hold whose counts are kept under `key`.
    pub(super) fn held(&self, key: &Uuid) -> u64 {
        self.held.get(key).copied().unwrap_or_default()
    }

    /// Whether [`Ledgers::hold`] would change anything.
    pub(super) fn is_news(&self, key: &Uuid, held: Option<u64>) -> bool {
        held.is_some_and(|held| held > self.held(key))
    }

    /// A ledger has said how many plays it holds.
    pub(super) fn hold(&mut self, key: Uuid, held: Option<u64>) {
        let Some(held) = held.filter(|_| self.is_news(&key, held)) else { return };
        self.held.insert(key, held);
        self.has_changed = true;
    }

    /// A processor counts in a ledger from now on.
    pub(super) fn claim(&mut self, claimed: &ClaimedLedger) {
        let ClaimedLedger { processor, life, key, forget } = *claimed;
        self.claimed.insert(processor, (life, key));
        self.has_changed = true;
        if let Some(ForgottenCounts { key, .. }) = forget {
            self.held.remove(&key);
            self.forgotten.insert(key);
        }
    }

    /// An import is taken back: what is kept under `key` is forgotten from now on.
    pub(super) fn take_back(&mut self, key: Uuid) {
        self.has_changed |= self.forgotten.insert(key) | self.taken_back.insert(key);
    }

    /// What counts of imports were kept under that are taken back.
    pub(super) fn taken_back(&self) -> impl Iterator<Item = &Uuid> {
        self.taken_back.iter()
    }

    /// Whether what is kept under `key` was forgotten.
    pub(super) fn is_forgotten(&self, key: &Uuid) -> bool {
        self.forgotten.contains(key)
    }

    /// What counts were kept under that are forgotten.
    pub(super) fn forgotten(&self) -> impl Iterator<Item = &Uuid> {
        self.forgotten.iter()
    }

    /// Takes all of it, if the table does not have it.
    pub(super) fn take_changed(&mut self) -> Option<Self> {
        let has_changed = std::mem::take(&mut self.has_changed);
        has_changed.then(|| self.clone())
    }

    /// The table does not have what was taken.
    pub(super) fn give_back(&mut self) {
        self.has_changed = true;
    }
}

/// Writes the table anew: a row for each processor and for each that was forgotten.
///
/// # Errors
/// SQLite's.
pub(super) fn write(transaction: &Transaction<'_>, ledgers: &Ledgers) -> Result<()> {
    transaction.execute("DELETE FROM ledgers", [])?;
    let mut insert = transaction
        .prepare_cached("INSERT INTO ledgers VALUES (?1, ?2, ?3, ?4, row_check(?1, ?2, ?3, ?4))")?;
    for (processor, (life, key)) in &ledgers.claimed {
        let held = i64::try_from(ledgers.held(key)).unwrap_or(i64::MAX);
        insert.execute(params![key, processor, life, held])?;
    }
    for key in &ledgers.forgotten {
        let is_import = ledgers.taken_back.contains(key);
        insert.execute(params![key, None::<Uuid>, None::<Uuid>, is_import])?;
    }
    Ok(())
}

/// Reads the table.
///
/// # Errors
/// A row does not fit its check; or SQLite's.
pub(super) fn load(connection: &Connection) -> Result<Ledgers> {
    let mut statement = connection.prepare(
        "SELECT key, processor, life, held, row_check = row_check(key, processor, life, held) FROM ledgers",
    )?;
    let mut rows = statement.query([])?;
    let mut ledgers = Ledgers::default();
    while let Some(row) = rows.next()? {
        check_row(connection, "ledgers", row.get(4)?)?;
        let (key, held): (Uuid, i64) = (row.get(0)?, row.get(3)?);
        match (row.get::<_, Option<Uuid>>(1)?, row.get(2)?) {
            (Some(processor), Some(life)) => {
                ledgers.claimed.insert(processor, (life, key));
                ledgers.held.insert(key, held.unsigned_abs());
            }
            (None, None) => {
                ledgers.forgotten.insert(key);
                if held != 0 {
                    ledgers.taken_back.insert(key);
                }
            }
            _ => {
                return Err(damaged(connection, "a row of the table ledgers is half").into());
            }
        }
    }
    Ok(ledgers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(life: u128, key: u128, forget: Option<u128>) -> ClaimedLedger {
        let id = Uuid::from_u128;
        let forget = forget.map(|key| ForgottenCounts { key: id(key), id: id(9) });
        ClaimedLedger { processor: id(1), life: id(life), key: id(key), forget }
    }

    #[test]
    fn what_is_forgotten_stays_so() {
        let mut ledgers = Ledgers::default();
        let id = Uuid::from_u128;
        assert_eq!((ledgers.life(&id(1)), ledgers.key(id(1))), (None, id(1)));
        ledgers.claim(&claimed(5, 1, None));
        ledgers.hold(id(1), Some(10));
        ledgers.hold(id(1), Some(7));
        assert_eq!((ledgers.life(&id(1)), ledgers.held(&id(1))), (Some(id(5)), 10));
        assert!(ledgers.is_news(&id(1), Some(11)) && !ledgers.is_news(&id(1), None));
        // The second time it is played again.
        for _ in 0..2 {
            ledgers.claim(&claimed(6, 2, Some(1)));
            assert_eq!((ledgers.key(id(1)), ledgers.held(&id(2))), (id(2), 0));
            assert!(ledgers.is_forgotten(&id(1)) && !ledgers.is_forgotten(&id(2)));
        }
        assert!(ledgers.take_changed().is_some() && ledgers.take_changed().is_none());
    }
}
