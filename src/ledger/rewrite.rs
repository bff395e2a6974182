//! Writes a ledger anew from what is loaded: after a migration, or after a loss that somebody has accepted (pure but for
//! SQLite's).

use anyhow::Result;
use rusqlite::Transaction;

use super::load::LoadedLedger;
use super::message_window::MessageBudget;
use super::tables::{LedgerRow, TablesUpdate};

/// Writes all of it to tables that have no row of a video or message, and of producers only those that are not in memory,
/// or older ones. The journal that is begun then has frames
/// from 1 on.
///
/// # Errors
/// SQLite's.
pub(super) fn write_whole(
    transaction: &Transaction<'_>,
    row: &mut LedgerRow,
    loaded: LoadedLedger,
) -> Result<()> {
    let LoadedLedger { mut state, mut letters, mut gone, dashboard, epoch, .. } = loaded;
    state.change_all();
    state.begin_checkpoint();
    row.position = None;
    row.as_of.as_of = 0;
    row.write(transaction)?;
    while let Some(mut slice) = state.next_slice(usize::MAX) {
        slice.as_of = 0;
        let (letters, gone) = (std::mem::take(&mut letters), std::mem::take(&mut gone));
        // What is left is kept, however much a processor wants to remember.
        let message_budget = MessageBudget::from_mb(MessageBudget::MAX_MB);
        let update =
            TablesUpdate { slice, letters, gone, dashboard, epoch, position: None, message_budget };
        row.update(transaction, &update)?;
    }
    Ok(())
}
