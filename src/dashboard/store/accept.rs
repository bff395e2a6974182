//! Goes on with what is left of damaged files, where somebody has decided so. Runs on the thread of the command `check`.
//!
//! Counts that are lost come back: what is left is another database, so that every processor tells all of its counts again.
//! History does not.

use std::path::Path;

use anyhow::{Result, bail};
use rusqlite::{Transaction, TransactionBehavior};

use super::database::{FILE, JOURNAL, SCHEMA, config};
use super::identity::{self, TablesIdentity};
use super::memory::Memory;
use super::owner::owner_in_journal;
use super::tables;
use crate::journal::{self, Cut, FsDisk, JournalConfig, JournalOwner, OnDamage};
use crate::model::words::{grouped, many, of_number};
use crate::storage::aside::put_aside;
use crate::storage::boot::boot_id;
use crate::storage::way_out::way_out;

/// What the journal is called that was put aside, before a number.
const DROPPED: &str = "dashboard.journal.dropped";

/// What to do where nothing less would be honest.
const BACKUP: &str = "bring back a backup, or `playcounts reset` throws it away: processors tell a new one every count again, \
                      and the history is lost";

/// Each table whose rows can be done without, and the columns that a row's check is over. Without a row of `ledgers` counts of
/// a ledger whose loss was accepted would come back: one that does not fit is refused.
const TABLES: [(&str, &str); 11] = [
    ("processors", "number, processor"),
    ("counts", "video_id, processor, plays, updated_at, last_played_at"),
    ("history_minute", "bucket, video_id, plays"),
    ("history_hour", "bucket, video_id, plays"),
    ("history_day", "bucket, video_id, plays"),
    (
        "points",
        "minute, plays, messages_per_second, realtime_ms, average_ms, p50_ms, p99_ms, queue_depth",
    ),
    ("confirmed", "producer, watermark, above, changed_at"),
    ("titles", "video_id, title, url, by_hand"),
    (
        "changes",
        "video_id, visibility, visibility_reason, visibility_at, correction, correction_reason, correction_at",
    ),
    ("imports", "import, key, name, at"),
    ("audit", "number, at, peer, action, target, outcome"),
];

/// Drops the rows that do not fit their checks, takes what can be read of the journal into the tables, and puts the journal
/// aside as `dashboard.journal.dropped-1`. What was done, in lines. The caller holds the directory's dashboard lock.
///
/// # Errors
/// What is left is no dashboard: nothing is changed. Or the operating system's or SQLite's.
pub(crate) fn accept_loss(directory: &Path) -> Result<Vec<String>> {
    let file = directory.join(FILE);
    let cannot = |error: anyhow::Error| {
        let way_out = way_out(&error, BACKUP);
        error.context(format!("the dashboard cannot be gone on with: {way_out}"))
    };
    if owner_in_journal(directory)? == Some(JournalOwner::Simulation) {
        bail!("{} holds a simulation's counts: the next `run` throws them away", file.display());
    }
    let mut connection = SCHEMA.open(&file, "PRAGMA synchronous = FULL;").map_err(cannot)?;
    SCHEMA.check_structure(&connection).map_err(cannot)?;
    let Some(identity) = identity::read(&connection).map_err(cannot)? else {
        bail!("there is nothing in {}", file.display());
    };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut lines = drop_misfits(&transaction)?;
    let (mut memory, mut sums) = tables::load(&transaction).map_err(cannot)?;
    if let Some(cut) = replay(directory, &identity, &mut memory).map_err(cannot)? {
        let Cut { file, offset, number, .. } = cut;
        lines.push(format!(
            "left out are frame {number}, at byte {offset} of {file}, and all behind it"
        ));
    }
    tables::write_all(&transaction, &mut memory, &mut sums)?;
    let mut whole = TablesIdentity::new();
    whole.set_sums(sums);
    whole.write(&transaction)?;
    transaction.commit()?;
    lines.push(format!(
        "{} in {} {} left, of {} in {} of the tables and what the journal had besides; every processor \
         tells its whole counts again, and what its rows of history had is lost",
        many(sums.plays.unsigned_abs(), "play"),
        many(sums.rows.unsigned_abs(), "row"),
        of_number(sums.plays.unsigned_abs(), "is", "are"),
        grouped(identity.count_plays.unsigned_abs()),
        many(identity.count_rows.unsigned_abs(), "row")
    ));
    if let Some(aside) = put_aside(directory, JOURNAL, DROPPED)? {
        lines.push(format!("the journal that was there is {} now", aside.display()));
    }
    Ok(lines)
}

/// Drops rows that do not fit, and counts of processors that are not known any more; what was dropped, in lines.
fn drop_misfits(transaction: &Transaction<'_>) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (table, columns) in TABLES {
        let sql = format!("DELETE FROM {table} WHERE row_check <> row_check({columns})");
        let mut dropped = transaction.execute(&sql, [])?;
        if table == "counts" {
            dropped += transaction.execute(
                "DELETE FROM counts WHERE processor NOT IN (SELECT number FROM processors)",
                [],
            )?;
        }
        if dropped > 0 {
            let (rows, were) =
                (many(dropped as u64, "row"), of_number(dropped as u64, "was", "were"));
            lines.push(format!("{rows} of the table {table} {were} dropped"));
        }
    }
    Ok(lines)
}

/// Plays what is left of the journal.
fn replay(directory: &Path, identity: &TablesIdentity, memory: &mut Memory) -> Result<Option<Cut>> {
    let Some(disk) = FsDisk::open_reader(&directory.join(JOURNAL)) else { return Ok(None) };
    if journal::any_head(&*disk)?.is_none_or(|head| head.life != identity.life) {
        // Of an earlier life, or of nobody.
        return Ok(None);
    }
    let config = JournalConfig {
        on_damage: OnDamage::Cut,
        ..config(JournalOwner::Part, identity.life, boot_id())
    };
    let each = |number, payload: &[u8]| memory.replay(number, payload);
    let (_, cut) = journal::examine(&*disk, &config, identity.position, each)?;
    Ok(cut)
}
