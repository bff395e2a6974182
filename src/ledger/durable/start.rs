//! What a start does with the files, in steps.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::journal::{Cut, FsDisk, Journal, JournalConfig, OnDamage, SyncPolicy};
use crate::ledger::load::LoadedLedger;
use crate::ledger::owner::LedgerConfig;
use crate::ledger::producer_rows::ProducerRows;
use crate::ledger::producers::ProducerLimits;
use crate::ledger::schema::SCHEMA;
use crate::ledger::snapshot::{JOURNAL, check_generation};
use crate::ledger::state::LedgerState;
use crate::ledger::tables::{finish, read_tables};
use crate::ledger::upkeep::Tables;
use crate::storage::{failpoint, sqlite};

/// The table of the producers, for what is not in memory.
pub(super) fn open_rows(file: &Path) -> Result<ProducerRows> {
    let connection = SCHEMA.open_reader(file)?.context("the ledger's file is gone")?;
    SCHEMA.usable(file, ProducerRows::new(connection))
}

/// Leaves memory for as many producers as a test says.
pub(super) fn limit_producers(state: &mut LedgerState) {
    let most = failpoint::limit("PLAYCOUNTS_PRODUCERS", 0);
    if most > 0 {
        state.producers_mut().limit(ProducerLimits::of(most));
    }
}

/// Writes into the tables that there is one more start.
pub(super) fn note_start(tables: &mut Tables, journal: &Journal) -> rusqlite::Result<()> {
    let Tables { connection, row } = tables;
    row.starts += 1;
    row.generation += 1;
    let had_journal = row.position.is_some();
    // What a start has to read next time stays where it was.
    row.position.get_or_insert_with(|| journal.position(journal.next()));
    row.write(connection)?;
    // From here on the file says by itself that there is a journal: alone it is never taken for a whole ledger.
    if had_journal { Ok(()) } else { sqlite::write_back(connection) }
}

/// Reads the tables and the journal, which is made if there is none.
pub(super) fn read_all(
    tables: &mut Tables,
    config: &LedgerConfig,
    sync: SyncPolicy,
    segment_bytes: u64,
) -> Result<(Journal, LoadedLedger, Option<Cut>)> {
    let Tables { connection, row } = tables;
    SCHEMA.check_structure(connection)?;
    let mut loader = read_tables(connection, row, config.message_budget)?;
    if row.position.is_none() {
        // From now on the journal belongs to these tables.
        row.write(connection)?;
    }
    let journal_config =
        JournalConfig { segment_bytes, ..row.journal_config(sync, OnDamage::Refuse) };
    let directory = config.directory.join(JOURNAL);
    let disk =
        FsDisk::open(&directory).with_context(|| format!("cannot use {}", directory.display()))?;
    let (journal, cut) = Journal::open(disk, journal_config, row.position, |number, payload| {
        loader.entry(number, payload).map_err(|damaged| damaged.to_string())
    })?;
    if journal.next() <= row.as_of.as_of {
        bail!(
            "the journal ends at frame {}, and the tables have taken in frame {}",
            journal.next() - 1,
            row.as_of.as_of
        );
    }
    let loaded = finish(connection, loader)?;
    check_generation(&loaded, row)?;
    Ok((journal, loaded, cut))
}
