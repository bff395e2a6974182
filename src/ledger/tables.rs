//! The ledger's tables in SQLite: their schema, how a slice of a checkpoint is written, and how all is read and checked.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, MAIN_DB, OptionalExtension, Row, Transaction, params};
use uuid::Uuid;

use super::checkpoint::{CheckpointSlice, SavedVideo};
use super::counters::Counters;
use super::letter::{DEAD_LETTERS_MAX, GoneLetters, SavedDeadLetter};
use super::load::{LoadedLedger, StateLoader, TablesAsOf};
use super::message_window::MessageBudget;
use super::producer_rows::{each_producer_row, producer_row};
use super::record::{count_messages, decode_messages};
use super::table_rows::{RowCounts, check_rows, unsigned};
use crate::journal::{
    JournalConfig, JournalKind, JournalOwner, OnDamage, Position, SEGMENT_BYTES, SyncPolicy,
};
use crate::storage::boot::boot_id;
use crate::storage::way_out::way_out;

/// Producers of the journal whose rows are looked up one by one; of more, all rows are walked: a look-up costs as much as
/// some ten rows.
const LOOKED_UP: usize = 1_000;

/// The one row: whose ledger it is, and what the tables hold.
#[derive(Clone, Debug)]
pub(super) struct LedgerRow {
    pub(super) processor: Uuid,
    pub(super) machine: String,
    pub(super) simulation: bool,
    pub(super) starts: u64,
    /// As in the heads of the journal's segments.
    pub(super) life: Uuid,
    /// From where on the journal is read; `None`: there is none yet.
    pub(super) position: Option<Position>,
    pub(super) as_of: TablesAsOf,
    pub(super) rows: RowCounts,
    /// How often the tables were written, for a start or a checkpoint. The journal says so, too: SQLite takes a damaged
    /// WAL for a short one, and its tables are older then, and whole.
    pub(super) generation: u64,
}

/// What a transaction of a checkpoint writes.
#[derive(Debug)]
pub(super) struct TablesUpdate {
    pub(super) slice: CheckpointSlice,
    /// New dead letters, oldest first.
    pub(super) letters: Vec<SavedDeadLetter>,
    /// Numbers of letters that are gone.
    pub(super) gone: GoneLetters,
    pub(super) dashboard: Option<Uuid>,
    /// Of the dashboard that the slice's videos were published to.
    pub(super) epoch: u64,
    /// With the last slice: from where on the journal is needed.
    pub(super) position: Option<Position>,
    /// How many messages are kept: those that a start remembers.
    pub(super) message_budget: MessageBudget,
}

impl LedgerRow {
    /// Reads the row; `None` where there is none yet.
    ///
    /// # Errors
    /// SQLite's; or it is damaged.
    pub(super) fn read(connection: &Connection) -> Result<Option<Self>> {
        let row = connection
            .query_row(
                "SELECT processor, machine, simulation, starts, dashboard, epoch, life, segment, number, as_of, counted,
                   by_message, recovered, duplicates, conflicting, rejected, videos, producers, messages, letters,
                   generation,
                   row_check = row_check(processor, machine, simulation, starts, dashboard, epoch, life, segment, number,
                     as_of, counted, by_message, recovered, duplicates, conflicting, rejected, videos, producers, messages,
                     letters, generation) FROM ledger",
                [],
                |row| Ok((Self::of(row)?, row.get::<_, bool>(21)?)),
            )
            .optional()?;
        match row {
            Some((_, false)) => bail!("the row of the table ledger does not fit its check"),
            row => Ok(row.map(|(row, _)| row)),
        }
    }

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let mut fields = [0; 6];
        for (field, column) in fields.iter_mut().zip(10..) {
            *field = unsigned(row, column)?;
        }
        let position = match (row.get::<_, Option<i64>>(7)?, row.get::<_, Option<i64>>(8)?) {
            (Some(segment), Some(number)) => {
                Some(Position { segment: segment.unsigned_abs(), number: number.unsigned_abs() })
            }
            _ => None,
        };
        Ok(Self {
            processor: row.get(0)?,
            machine: row.get(1)?,
            simulation: row.get(2)?,
            starts: unsigned(row, 3)?,
            life: row.get(6)?,
            position,
            as_of: TablesAsOf {
                counters: Counters::from_fields(fields),
                as_of: unsigned(row, 9)?,
                checkpointed: position.map_or(0, |position| position.number - 1),
                dashboard: row.get(4)?,
                epoch: unsigned(row, 5)?,
            },
            rows: RowCounts {
                videos: unsigned(row, 16)?,
                producers: unsigned(row, 17)?,
                messages: unsigned(row, 18)?,
                letters: unsigned(row, 19)?,
            },
            generation: unsigned(row, 20)?,
        })
    }

    /// How the journal that belongs to these tables is opened.
    pub(super) fn journal_config(&self, sync: SyncPolicy, on_damage: OnDamage) -> JournalConfig {
        JournalConfig {
            kind: JournalKind::Ledger,
            owner: if self.simulation { JournalOwner::Simulation } else { JournalOwner::Part },
            life: self.life,
            boot: boot_id(),
            sync,
            segment_bytes: SEGMENT_BYTES,
            on_damage,
        }
    }

    /// Writes the row over what is there.
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let Self {
            processor,
            machine,
            simulation,
            starts,
            life,
            position,
            as_of,
            rows,
            generation,
        } = self;
        let [counted, by_message, recovered, duplicates, conflicting, rejected] =
            as_of.counters.fields().map(|field| field as i64);
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO ledger VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,
                   ?16, ?17, ?18, ?19, ?20, ?21, row_check(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,
                   ?16, ?17, ?18, ?19, ?20, ?21))",
            )?
            .execute(params![
                processor,
                machine,
                simulation,
                *starts as i64,
                as_of.dashboard,
                as_of.epoch as i64,
                life,
                position.map(|position| position.segment as i64),
                position.map(|position| position.number as i64),
                as_of.as_of as i64,
                counted,
                by_message,
                recovered,
                duplicates,
                conflicting,
                rejected,
                rows.videos as i64,
                rows.producers as i64,
                rows.messages as i64,
                rows.letters as i64,
                *generation as i64,
            ])?;
        Ok(())
    }

    /// Writes what a checkpoint has to write, the row included.
    pub(super) fn update(
        &mut self,
        transaction: &Transaction<'_>,
        update: &TablesUpdate,
    ) -> Result<()> {
        let TablesUpdate { slice, letters, gone, dashboard, epoch, position, message_budget } =
            update;
        for video in &slice.videos {
            self.rows.videos += write_video(transaction, video, slice.as_of, *epoch)?;
        }
        for (id, counted) in &slice.producers {
            self.rows.producers += write_producer(transaction, id, counted)?;
        }
        if !letters.is_empty() || !gone.is_empty() {
            let more = write_letters(transaction, letters, gone)?;
            self.rows.letters = self.rows.letters.saturating_add_signed(more);
        }
        if let Some(end) = slice.end.as_ref().filter(|end| !end.messages.is_empty()) {
            self.rows.messages =
                write_messages(transaction, &end.messages.encode(), *message_budget)?;
        }
        self.position = position.or(self.position);
        self.as_of = TablesAsOf {
            counters: slice.counters,
            as_of: slice.as_of,
            checkpointed: self.position.map_or(0, |position| position.number - 1),
            dashboard: *dashboard,
            epoch: *epoch,
        };
        Ok(self.write(transaction)?)
    }
}

/// Writes a video's row; 1 if it is a new one.
fn write_video(
    transaction: &Transaction<'_>,
    video: &SavedVideo,
    as_of: u64,
    epoch: u64,
) -> rusqlite::Result<u64> {
    let SavedVideo { number, id, plays, published, last_played_at } = video;
    let values = params![
        number,
        id,
        *plays as i64,
        *published as i64,
        *last_played_at as i64,
        as_of as i64,
        epoch as i64
    ];
    let changed = transaction
        .prepare_cached(
            "UPDATE videos SET video_id = ?2, plays = ?3, published = ?4, last_played_at = ?5, as_of = ?6, epoch = ?7,
               row_check = row_check(?1, ?2, ?3, ?4, ?5, ?6, ?7) WHERE number = ?1",
        )?
        .execute(values)?;
    if changed == 0 {
        transaction
            .prepare_cached(
                "INSERT INTO videos VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, row_check(?1, ?2, ?3, ?4, ?5, ?6, ?7))",
            )?
            .execute(values)?;
    }
    Ok(1 - changed as u64)
}

/// Writes a producer's row; 1 if it is a new one.
fn write_producer(
    transaction: &Transaction<'_>,
    id: &Uuid,
    counted: &[u8],
) -> rusqlite::Result<u64> {
    let changed = transaction
        .prepare_cached(
            "UPDATE producers SET counted = ?2, row_check = row_check(?1, ?2) WHERE producer = ?1",
        )?
        .execute(params![id, counted])?;
    if changed == 0 {
        transaction
            .prepare_cached("INSERT INTO producers VALUES (?1, ?2, row_check(?1, ?2))")?
            .execute(params![id, counted])?;
    }
    Ok(1 - changed as u64)
}

/// Writes dead letters that are in no table yet, and removes those that are gone and the oldest; how many
/// rows more there are then.
fn write_letters(
    transaction: &Transaction<'_>,
    letters: &[SavedDeadLetter],
    gone: &GoneLetters,
) -> rusqlite::Result<i64> {
    // Not counted anew: there may be gigabytes of them.
    let mut removed = 0;
    for SavedDeadLetter { number, at, nsqd, message_id, reason, size, body } in letters {
        removed += transaction
            .prepare_cached("DELETE FROM dead_letters WHERE number = ?1")?
            .execute([number])?;
        transaction
            .prepare_cached(
                "INSERT INTO dead_letters
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, row_check(?1, ?2, ?3, ?4, ?5, ?6, ?7))",
            )?
            .execute(params![number, at.0, nsqd, message_id, reason, size, body])?;
    }
    removed += transaction.execute(
        "DELETE FROM dead_letters WHERE number <= (SELECT max(number) FROM dead_letters) - ?1",
        [DEAD_LETTERS_MAX],
    )?;
    for run in gone.runs() {
        removed += transaction
            .prepare_cached("DELETE FROM dead_letters WHERE number >= ?1 AND number < ?2")?
            .execute(run)?;
    }
    Ok(letters.len() as i64 - removed as i64)
}

/// How many dead letters there are.
pub(super) fn count_letters(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM dead_letters", [], |row| unsigned(row, 0))
}

/// Adds a row of message IDs; how many rows there are then.
fn write_messages(
    transaction: &Transaction<'_>,
    keys: &[u8],
    budget: MessageBudget,
) -> Result<u64> {
    let next = "SELECT coalesce(max(number), 0) + 1 FROM messages";
    let number: i64 = transaction.query_row(next, [], |row| row.get(0))?;
    transaction.execute(
        "INSERT INTO messages VALUES (?1, ?2, row_check(?1, ?2))",
        params![number, keys],
    )?;
    forget_messages(transaction, budget)?;
    Ok(transaction.query_row("SELECT count(*) FROM messages", [], |row| unsigned(row, 0))?)
}

/// Keeps as many messages as are remembered: the rows go that are older than those that fill the window twice.
fn forget_messages(transaction: &Transaction<'_>, budget: MessageBudget) -> Result<()> {
    let mut numbers =
        transaction.prepare_cached("SELECT number FROM messages ORDER BY number DESC")?;
    let mut numbers = numbers.query([])?;
    let mut newer = 0;
    while let Some(row) = numbers.next()? {
        let number: i64 = row.get(0)?;
        if newer >= 2 * budget.messages() {
            transaction.execute("DELETE FROM messages WHERE number <= ?1", [number])?;
            break;
        }
        newer += count_row(transaction, number)?;
    }
    Ok(())
}

/// How many messages a row has. Of its keys, which may be megabytes, only the first bytes are read.
fn count_row(transaction: &Transaction<'_>, number: i64) -> Result<u64> {
    let keys = transaction.blob_open(MAIN_DB, "messages", "keys", number, true)?;
    let mut head = [0; 10];
    let len = keys.len().min(head.len());
    let read = keys.read_at(&mut head[..len], 0)?;
    Ok(count_messages(&head[..read])?)
}

/// Reads and checks the tables.
///
/// # Errors
/// SQLite's; or what is damaged.
pub(super) fn read_tables(
    connection: &Connection,
    row: &LedgerRow,
    messages: MessageBudget,
) -> Result<StateLoader> {
    check_rows(connection, &row.rows)?;
    let mut loader = StateLoader::new(row.as_of, messages);
    read_videos(connection, row, &mut loader)?;
    read_producers(connection, &mut loader)?;
    let mut messages = connection.prepare(
        "SELECT keys, row_check = row_check(number, keys) FROM messages ORDER BY number",
    )?;
    let mut rows = messages.query([])?;
    while let Some(found) = rows.next()? {
        if !found.get::<_, bool>(1)? {
            bail!("a row of the table messages does not fit its check");
        }
        loader.messages(decode_messages(&found.get::<_, Vec<u8>>(0)?)?);
    }
    Ok(loader)
}

/// As [`read_tables`], but without the rows of messages that do not fit their check, and as if these were in no table.
///
/// # Errors
/// As [`read_tables`]: without a video's or a producer's row nothing can be said.
pub(super) fn read_left(connection: &Connection, row: &LedgerRow) -> Result<StateLoader> {
    let mut loader = StateLoader::new(row.as_of, MessageBudget::default());
    read_videos(connection, row, &mut loader)?;
    read_producers(connection, &mut loader)?;
    let mut messages = connection.prepare(
        "SELECT keys FROM messages WHERE row_check = row_check(number, keys) ORDER BY number",
    )?;
    let mut rows = messages.query([])?;
    while let Some(found) = rows.next()? {
        loader.old_messages(decode_messages(&found.get::<_, Vec<u8>>(0)?)?);
    }
    Ok(loader)
}

fn read_videos(connection: &Connection, row: &LedgerRow, loader: &mut StateLoader) -> Result<()> {
    let mut videos = connection.prepare(
        "SELECT number, video_id, plays, published, last_played_at, as_of, epoch,
           row_check = row_check(number, video_id, plays, published, last_played_at, as_of, epoch) FROM videos",
    )?;
    let mut rows = videos.query([])?;
    while let Some(found) = rows.next()? {
        let number: i64 = found.get(0)?;
        let damaged = || format!("the row {number} of the table videos does not fit its check");
        if !found.get::<_, bool>(7)? {
            bail!(damaged());
        }
        let is_told = unsigned(found, 6)? == row.as_of.epoch;
        let video = SavedVideo {
            number: u32::try_from(number)?,
            id: found.get(1).with_context(damaged)?,
            plays: unsigned(found, 2)?,
            published: if is_told { unsigned(found, 3)? } else { 0 },
            last_played_at: unsigned(found, 4)?,
        };
        loader.video(&video, unsigned(found, 5)?)?;
    }
    Ok(())
}

/// Looks at every producer's row, and keeps none.
fn read_producers(connection: &Connection, loader: &mut StateLoader) -> Result<()> {
    each_producer_row(connection, |(id, runs)| {
        loader.producer_row(&id, &runs);
        Ok(())
    })
}

/// What is loaded of the tables that `connection` has and of the journal, if it adds up.
///
/// # Errors
/// It does not; or as [`read_tables`].
pub(super) fn finish(connection: &Connection, mut loader: StateLoader) -> Result<LoadedLedger> {
    let ids = loader.in_journal();
    if ids.len() > LOOKED_UP {
        let ids: HashSet<Uuid> = ids.into_iter().collect();
        each_producer_row(connection, |(id, runs)| {
            if ids.contains(&id) {
                loader.complete(id, runs);
            }
            Ok(())
        })?;
        return Ok(loader.finish()?);
    }
    for id in ids {
        if let Some(runs) = producer_row(connection, &id)? {
            loader.complete(id, runs);
        }
    }
    Ok(loader.finish()?)
}

/// Says in an error which ledger cannot be read, and the way out.
///
/// # Errors
/// The result's.
pub(super) fn readable<T, E: Into<anyhow::Error>>(file: &Path, result: Result<T, E>) -> Result<T> {
    result.map_err(|error| {
        let error = error.into();
        let way_out = way_out(&error, "bring back a backup: nothing was changed");
        let what = format!("the ledger {} cannot be read; {way_out}", file.display());
        error.context(what)
    })
}
