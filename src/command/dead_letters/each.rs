//! Reads the dead letters of a ledger, wherever it is. Runs on the main thread.

use std::path::Path;

use anyhow::{Error, Result, anyhow};

use crate::command::shared::ledger_choice::LedgerChoice;
use crate::ledger::{self, SavedDeadLetter};

/// Calls `each` for every dead letter of a ledger, oldest first, whether or not processors count in it.
///
/// # Errors
/// `each`'s; or there is no ledger, or it cannot be read.
pub(super) fn each_letter(
    ledger: &LedgerChoice,
    data_dir: &str,
    each: impl FnMut(SavedDeadLetter) -> Result<()>,
) -> Result<()> {
    match ledger {
        LedgerChoice::Files => {
            if !ledger::dead_letters(Path::new(data_dir), each)? {
                return Err(no_ledger(data_dir));
            }
            Ok(())
        }
        #[cfg(feature = "postgres")]
        LedgerChoice::Postgres(database) => ledger::shared_dead_letters(database, each),
    }
}

/// There is none in files.
pub(super) fn no_ledger(data_dir: &str) -> Error {
    anyhow!(
        "no processor has kept a ledger in {data_dir}; give --data-dir the one of `process`, or --ledger"
    )
}
