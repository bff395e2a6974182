//! What makes counts exact: the counts and the set of plays that are in them, made durable together.
//!
//! A [`Ledger`] takes what arrived, counts what is new, and returns when that is durable; only then are the messages
//! finished, the counts shown and the producers told. [`DurableLedger`] keeps it in the data directory; [`MemoryLedger`]
//! nowhere, to measure what durability costs. Holds no thread: the processor's commit, checkpoint and publish.

mod away;
mod check;
mod checkpoint;
mod commit;
mod copy;
mod counters;
mod dead;
mod dead_letters;
mod dedupe;
mod durable;
mod entry;
mod integrity;
mod ledger_trait;
mod letter;
mod load;
mod memory;
mod message_key;
mod message_parts;
mod message_window;
#[cfg(test)]
mod model;
mod old_tables;
mod owner;
mod producer_filter;
mod producer_rows;
mod producers;
mod record;
mod retry;
mod rewrite;
mod schema;
#[cfg(feature = "postgres")]
mod shared;
mod snapshot;
mod state;
mod table_rows;
mod tables;
mod unreported;
mod upkeep;
mod video_counts;
#[cfg(feature = "postgres")]
mod whole;

use anyhow::Result;

use crate::model::config::Durability;

pub use away::{LedgerAway, LedgerFenced};
pub use check::{accept_loss, check};
pub use commit::{
    Arrivals, ArrivedPlay, Committed, DeadLetter, Noticed, ReusedNumbers, VideoDelta,
};
pub use copy::copy;
pub use counters::Counters;
pub use dead::{DeadLedger, DeadLedgers, ToldOfLedger};
pub use dead_letters::dead_letters;
pub use dedupe::{CrowdedProducer, Dedupe, Learned, Seen};
pub use durable::DurableLedger;
pub use integrity::IntegrityCheck;
pub use ledger_trait::{Ledger, LedgerSize, NextUpkeep};
pub(crate) use letter::{BODY_MAX, LETTERS_OF_MESSAGE, append_element, array_of, has_room};
pub use letter::{DEAD_LETTERS_MAX, SavedDeadLetter};
pub use memory::MemoryLedger;
pub use message_key::MessageKey;
pub use message_parts::PartOf;
pub use message_window::{MessageBudget, MessageWindowSize};
pub use owner::LedgerConfig;
pub use record::{Damaged, Delta, Record, RecordError};
pub use retry::{JudgeLetter, LetterRest, LetterRetry, LetterVerdict, Retried, RetriedPlay};
#[cfg(feature = "postgres")]
pub use shared::{
    BehindPolicy, ImportConfig, Imported, LedgerBehind, PostgresLedger, PostgresLedgerConfig,
    SHARED_WINDOW_HOURS, SharedProcessor, SharedRetry, SharedSchema, SharedStatus, SharedTable,
    SharedUpkeep, SharedUpkept, import_files, init_shared, shared_dead_letters, shared_status,
};
pub use snapshot::{Snapshot, exists, read, remove, remove_simulation};
pub use upkeep::{FilesUpkeep, FilesUpkept, LedgerUpkeep, LedgerUpkept};

/// Opens the ledger of a data directory whose dead letters are to be looked at again, each commit on the disk. The caller holds
/// the directory's processor lock.
///
/// # Errors
/// As [`DurableLedger::open`]; or the directory counts in a shared ledger.
pub fn open_to_retry(config: &LedgerConfig) -> Result<Box<dyn LetterRetry>> {
    owner::check_not_shared(&config.directory)?;
    Ok(Box::new(DurableLedger::open(config, Durability::Power.into())?))
}

/// Opens the ledger of a data directory with the durability that is wanted.
///
/// # Errors
/// As [`DurableLedger::open`]; or the directory counts in a shared ledger.
pub fn open(config: &LedgerConfig, durability: Durability) -> Result<Box<dyn Ledger>> {
    Ok(match durability {
        Durability::None => Box::new(MemoryLedger::with_budget(config.message_budget)),
        Durability::Process | Durability::Power => {
            owner::check_not_shared(&config.directory)?;
            Box::new(DurableLedger::open(config, durability.into())?)
        }
    })
}
