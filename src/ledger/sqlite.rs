//! The ledger in SQLite: `ledger.sqlite3` in the data directory.
//!
//! A commit is one row, appended: the cost does not depend on how many videos there are. Every [`CHECKPOINT_EVERY`] a checkpoint
//! takes the rows into the tables, at most [`SLICE`] videos a transaction. A start reads the tables and the rows that
//! are newer, and checks that all of it adds up.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::dedupe::MESSAGE_WINDOW;
use super::record::{Counters, Record, decode_messages, decode_runs, encode_messages};
use super::state::{CheckpointSlice, LedgerState, StateLoader, VideoRow};
use super::{Arrivals, Committed, Ledger, dead_letters};
use crate::model::seq_set::SeqSet;
use crate::model::video::{VideoCount, VideoState};
use crate::runtime::clock::unix_ms;
use crate::storage::failpoint;
use crate::storage::sqlite::Schema;
use crate::wire::{Confirmed, ProducerConfirmed};

/// The file in the data directory.
pub(super) const FILE: &str = "ledger.sqlite3";

pub(super) const SCHEMA: Schema = Schema {
    name: "the processor's ledger",
    // "play", and one more than the dashboard's.
    application: 0x706c_617a,
    version: 2,
    sql: include_str!("schema.sql"),
    migrations: &[
        // Both 0: what was published stays so.
        "ALTER TABLE ledger ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
         ALTER TABLE videos ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;",
    ],
    way_out: "bring back a backup, or `playcounts reset` throws the counts away",
};

/// How long after the start of a checkpoint the next one starts: about how much a start has to read again.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

/// Videos in one slice of a checkpoint: 2 to 3 ms.
const SLICE: usize = 1_000;

/// How long another connection's write lock is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of one message's key.
const KEY_LEN: usize = 24;

/// Versions of one start: the versions of the next start lie above.
const VERSIONS_PER_START: u64 = 1 << 32;

/// How a ledger is opened.
#[derive(Clone, Debug)]
pub struct LedgerConfig {
    /// Where `ledger.sqlite3` lies. The caller holds the directory's processor lock.
    pub directory: PathBuf,
    /// Made by `run`, which may throw it away.
    pub simulation: bool,
    /// Take a ledger that was made on another machine.
    pub adopt: bool,
}

/// Counts in a file.
pub struct SqliteLedger {
    file: PathBuf,
    state: LedgerState,
    connection: Connection,
    processor: Uuid,
    starts: u64,
    dashboard: Option<Uuid>,
    /// Counts the dashboards: a row of another epoch tells of one that is not asked any more.
    epoch: u64,
    next_checkpoint: Instant,
    /// Videos in one slice of a checkpoint.
    slice: usize,
    /// The newest record's bytes.
    buffer: Vec<u8>,
    /// A commit has failed: the state is ahead of the file.
    failed: bool,
}

impl SqliteLedger {
    /// Opens the ledger, made if missing, and reads it. `synchronous` is SQLite's: with NORMAL a commit survives the
    /// process, with FULL a power loss.
    ///
    /// # Errors
    /// One line with the way out: the file is broken, does not add up, is somebody else's, of a newer version, of
    /// another machine, or of the other kind (a simulation's, or none's).
    pub fn open(config: &LedgerConfig, synchronous: &str) -> Result<Self> {
        let file = config.directory.join(FILE);
        // A checkpoint every 16 MB: each one costs an fsync of both files, whatever the durability.
        let pragmas = format!(
            "PRAGMA synchronous = {synchronous}; PRAGMA busy_timeout = {}; PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -16384; PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864;",
            BUSY_TIMEOUT.as_millis()
        );
        let mut connection = SCHEMA.open(&file, &pragmas)?;
        let machine = machine_id();
        let unusable = || SCHEMA.unusable(&file);
        let (made_on, simulation) =
            made(&mut connection, config, &machine).with_context(unusable)?;
        check_owner(config, &made_on, &machine, simulation, &file)?;
        let Started { processor, starts, dashboard, epoch } =
            count_start(&connection, &machine).with_context(unusable)?;
        let state = read_state(&connection, &file)?;
        let next_checkpoint = Instant::now() + CHECKPOINT_EVERY;
        Ok(Self {
            file,
            state,
            connection,
            processor,
            starts,
            dashboard,
            epoch,
            next_checkpoint,
            slice: SLICE,
            buffer: Vec::new(),
            failed: false,
        })
    }

    /// Writes the newest record of the state, if there is one, and a slice of the checkpoint, if one is on its way.
    fn write(&mut self, arrivals: &[Arrivals], record: bool) -> Result<()> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if record {
            transaction
                .prepare_cached("INSERT INTO records (number, record) VALUES (?1, ?2)")?
                .execute(params![self.state.last() as i64, self.buffer])?;
            let letters = arrivals.iter().flat_map(|arrivals| &arrivals.rejected);
            dead_letters::keep(&transaction, letters, unix_ms())?;
            failpoint::hit("ledger-in-commit");
        }
        let slice = self.state.next_slice(self.slice);
        if let Some(slice) = &slice {
            write_slice(&transaction, slice, self.epoch)?;
            failpoint::hit("ledger-in-checkpoint");
        }
        transaction.commit()?;
        if slice.is_some() {
            failpoint::hit("ledger-after-checkpoint");
        }
        Ok(())
    }

    fn check_failed(&self) -> Result<()> {
        if self.failed {
            bail!("the ledger has failed before");
        }
        Ok(())
    }

    /// Does what `write` does, and remembers a failure.
    fn try_write(&mut self, arrivals: &[Arrivals], record: bool) -> Result<()> {
        self.failed = true;
        self.write(arrivals, record).context("the ledger cannot be written")?;
        self.failed = false;
        Ok(())
    }
}

impl Ledger for SqliteLedger {
    fn processor(&self) -> Uuid {
        self.processor
    }

    fn first_version(&self) -> u64 {
        self.starts * VERSIONS_PER_START
    }

    fn counters(&self) -> Counters {
        self.state.counters()
    }

    fn videos(&self) -> Vec<VideoState> {
        self.state.videos().collect()
    }

    fn commit(&mut self, arrivals: &mut [Arrivals]) -> Result<Committed> {
        self.check_failed()?;
        // From here to the commit the state is ahead of the file: were there a panic in between, the publisher, which
        // outlives this thread, must not tell a producer what is not durable.
        self.failed = true;
        let (record, video_deltas) = self.state.count_arrivals(arrivals);
        let counters = record.counters;
        // Repeats alone change nothing that must outlive the process.
        if counters.counted + counters.rejected > 0 {
            self.buffer.clear();
            record.encode(&mut self.buffer);
            failpoint::hit("ledger-before-commit");
            self.try_write(arrivals, true)?;
            failpoint::hit("ledger-after-commit");
        }
        self.failed = false;
        Ok(Committed { counters, video_deltas })
    }

    fn checkpoint(&mut self, now: Instant, idle: bool) -> Result<Instant> {
        if now >= self.next_checkpoint {
            self.state.begin_checkpoint();
            self.next_checkpoint = now + CHECKPOINT_EVERY;
        }
        if idle && self.state.is_checkpointing() {
            self.check_failed()?;
            self.try_write(&[], false)?;
        }
        Ok(if idle && self.state.is_checkpointing() { now } else { self.next_checkpoint })
    }

    fn published(&mut self, counts: &[VideoCount]) {
        self.state.published(counts);
    }

    fn publishes_to(&mut self, dashboard: Uuid) -> Result<bool> {
        if self.dashboard == Some(dashboard) {
            return Ok(false);
        }
        // One row, however many videos there are: theirs tell of an older epoch from now on.
        self.connection
            .execute("UPDATE ledger SET dashboard = ?1, epoch = epoch + 1", [dashboard])
            .context("the ledger cannot be written")?;
        self.epoch += 1;
        self.state.forget_published();
        self.dashboard = Some(dashboard);
        Ok(true)
    }

    fn confirmed(&self, producer: &Uuid) -> Confirmed {
        if self.failed { Confirmed::default() } else { self.state.confirmed(producer) }
    }

    fn take_unreported(&mut self, limit: usize) -> Vec<ProducerConfirmed> {
        if self.failed { Vec::new() } else { self.state.take_unreported(limit) }
    }

    fn put_back_unreported(&mut self, producers: &[ProducerConfirmed]) {
        self.state.put_back_unreported(producers.iter().map(|told| told.producer));
    }

    fn size(&self) -> Option<(u64, u64)> {
        let size = |file: &Path| std::fs::metadata(file).map_or(0, |found| found.len());
        let mut wal = self.file.clone().into_os_string();
        wal.push("-wal");
        Some((self.state.pending_records(), size(&self.file) + size(Path::new(&wal))))
    }

    fn close(&mut self) -> Result<()> {
        self.check_failed()?;
        // One checkpoint may be on its way, and what changed since it began needs another.
        for _ in 0..2 {
            self.state.begin_checkpoint();
            while self.state.is_checkpointing() {
                self.try_write(&[], false)?;
            }
        }
        Ok(())
    }
}

/// On which machine the ledger was made, and whether for a simulation: here and now, if it is new.
fn made(
    connection: &mut Connection,
    config: &LedgerConfig,
    machine: &str,
) -> rusqlite::Result<(String, bool)> {
    connection.execute(
        "INSERT INTO ledger VALUES (1, ?1, ?2, ?3, 0, NULL, 0, 0, 0, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING",
        params![Uuid::new_v4(), machine, config.simulation],
    )?;
    connection.query_row("SELECT machine, simulation FROM ledger", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// What a start finds in the ledger.
struct Started {
    processor: Uuid,
    /// How many there were, this one included.
    starts: u64,
    dashboard: Option<Uuid>,
    epoch: u64,
}

/// Notes that a processor starts: whose counts these are, how many starts there were, and which dashboard was told.
fn count_start(connection: &Connection, machine: &str) -> rusqlite::Result<Started> {
    connection.execute("UPDATE ledger SET starts = starts + 1, machine = ?1", [machine])?;
    connection.query_row("SELECT processor, starts, dashboard, epoch FROM ledger", [], |row| {
        Ok(Started {
            processor: row.get(0)?,
            starts: unsigned(row, 1)?,
            dashboard: row.get(2)?,
            epoch: unsigned(row, 3)?,
        })
    })
}

fn check_owner(
    config: &LedgerConfig,
    made_on: &str,
    machine: &str,
    simulation: bool,
    file: &Path,
) -> Result<()> {
    let file = file.display();
    if simulation != config.simulation {
        let owner = if simulation { "a simulation's (`run`)" } else { "a processor's (`process`)" };
        bail!(
            "{file} holds {owner} counts; give --data-dir another directory, or `playcounts reset` throws them away"
        );
    }
    if made_on != machine && !made_on.is_empty() && !config.adopt {
        bail!(
            "{file} was made on another machine, whose processor counts under the same id; if that one will never run again say --adopt-ledger, else give --data-dir another directory"
        );
    }
    Ok(())
}

/// What tells this machine from others; empty where nothing does, as in many containers.
fn machine_id() -> String {
    std::fs::read_to_string("/etc/machine-id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// `epoch` is that of the dashboard which the slice's videos were published to.
fn write_slice(transaction: &Transaction<'_>, slice: &CheckpointSlice, epoch: u64) -> Result<()> {
    let (as_of, epoch) = (slice.as_of as i64, epoch as i64);
    let mut insert =
        transaction.prepare_cached("INSERT INTO videos VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    let mut update = transaction.prepare_cached(
        "UPDATE videos SET plays = ?2, published = ?3, last_played_at = ?4, as_of = ?5, epoch = ?6 WHERE number = ?1",
    )?;
    for VideoRow { number, id, plays, published, last_played_at } in &slice.videos {
        let (plays, published, played) = (*plays as i64, *published as i64, *last_played_at as i64);
        match id {
            Some(id) => {
                insert.execute(params![number, id, plays, published, played, as_of, epoch])?
            }
            None => update.execute(params![number, plays, published, played, as_of, epoch])?,
        };
    }
    for (id, counted) in &slice.producers {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO producers VALUES (?1, ?2)")?
            .execute(params![id, counted])?;
    }
    let [counted, by_message, recovered, duplicates, conflicting, rejected] =
        slice.counters.fields().map(|field| field as i64);
    transaction
        .prepare_cached(
            "UPDATE ledger SET as_of = ?1, counted = ?2, by_message = ?3, recovered = ?4, duplicates = ?5,
             conflicting = ?6, rejected = ?7",
        )?
        .execute(params![as_of, counted, by_message, recovered, duplicates, conflicting, rejected])?;
    let Some((upto, messages)) = &slice.end else { return Ok(()) };
    if !messages.is_empty() {
        let mut keys = Vec::with_capacity(messages.len() * KEY_LEN);
        encode_messages(messages, &mut keys);
        transaction.execute("INSERT INTO messages (keys) VALUES (?1)", [keys])?;
        // As many as are remembered: older rows than those that fill the window twice.
        transaction.execute(
            "DELETE FROM messages WHERE number IN (SELECT number FROM
               (SELECT number, sum(length(keys)) OVER (ORDER BY number DESC) - length(keys) AS newer FROM messages)
             WHERE newer >= ?1)",
            [(2 * MESSAGE_WINDOW * KEY_LEN) as i64],
        )?;
    }
    transaction
        .prepare_cached("DELETE FROM records WHERE number <= ?1")?
        .execute([*upto as i64])?;
    Ok(())
}

fn read_state(connection: &Connection, file: &Path) -> Result<LedgerState> {
    read_tables(connection).with_context(|| {
        format!(
            "the ledger {} cannot be read; bring back a backup: nothing was changed",
            file.display()
        )
    })
}

fn read_tables(connection: &Connection) -> Result<LedgerState> {
    let records = all(connection, "SELECT number, record FROM records ORDER BY number", |row| {
        Ok((unsigned(row, 0)?, row.get::<_, Vec<u8>>(1)?))
    })?;
    let records = records
        .into_iter()
        .map(|(number, bytes)| Ok((number, Record::decode(&bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    let saved: u64 =
        connection.query_row("SELECT count(*) FROM videos", [], |row| unsigned(row, 0))?;
    let new: usize = records.iter().map(|(_, record)| record.new_videos.len()).sum();
    let (counters, as_of, epoch) = connection.query_row(
        "SELECT counted, by_message, recovered, duplicates, conflicting, rejected, as_of, epoch FROM ledger",
        [],
        |row| {
            let mut fields = [0; 6];
            for (index, field) in fields.iter_mut().enumerate() {
                *field = unsigned(row, index)?;
            }
            Ok((Counters::from_fields(fields), unsigned(row, 6)?, unsigned(row, 7)?))
        },
    )?;
    let mut loader = StateLoader::new(counters, as_of, saved as usize + new);
    let mut videos = connection.prepare(
        "SELECT number, video_id, plays, published, last_played_at, as_of, epoch FROM videos",
    )?;
    let mut rows = videos.query([])?;
    while let Some(row) = rows.next()? {
        let is_told = unsigned(row, 6)? == epoch;
        let video = VideoRow {
            number: row.get(0)?,
            id: None,
            plays: unsigned(row, 2)?,
            published: if is_told { unsigned(row, 3)? } else { 0 },
            last_played_at: unsigned(row, 4)?,
        };
        loader.video(&video, row.get(1)?, unsigned(row, 5)?)?;
    }
    let producers = all(connection, "SELECT producer, counted FROM producers", |row| {
        Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?))
    })?;
    for (id, runs) in producers {
        loader.producer(id, decode_runs(&runs)?);
    }
    for keys in all(connection, "SELECT keys FROM messages ORDER BY number", |row| {
        row.get::<_, Vec<u8>>(0)
    })? {
        loader.messages(decode_messages(&keys)?);
    }
    for (number, record) in &records {
        loader.record(*number, record)?;
    }
    Ok(loader.finish()?)
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    Ok(connection.prepare(sql)?.query_map([], read)?.collect::<rusqlite::Result<_>>()?)
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.unsigned_abs())
}

/// What a ledger holds.
#[derive(Debug)]
pub struct Snapshot {
    /// Whose counts these are.
    pub processor: Uuid,
    /// By outcome.
    pub counters: Counters,
    /// Every video, in no order.
    pub videos: Vec<VideoState>,
    /// The counted plays of each producer.
    pub producers: Vec<(Uuid, SeqSet)>,
}

/// What the ledger in a data directory holds, whether or not a processor uses it; `None` where there is none.
///
/// # Errors
/// As [`SqliteLedger::open`], and the operating system's.
pub fn read(directory: &Path) -> Result<Option<Snapshot>> {
    let file = directory.join(FILE);
    let Some(mut connection) = SCHEMA.open_reader(&file)? else { return Ok(None) };
    // One moment in time, although the processor goes on.
    let transaction = connection.transaction()?;
    let processor =
        transaction.query_row("SELECT processor FROM ledger", [], |row| row.get(0)).optional()?;
    let Some(processor) = processor else { return Ok(None) };
    let state = read_state(&transaction, &file)?;
    Ok(Some(Snapshot {
        processor,
        counters: state.counters(),
        videos: state.videos().collect(),
        producers: state.dedupe().producers().map(|(id, set)| (*id, set.clone())).collect(),
    }))
}

/// Whether a data directory has a ledger.
pub fn exists(directory: &Path) -> bool {
    directory.join(FILE).exists()
}

/// Throws the ledger of a data directory away; only a simulation's if `simulation`. The caller holds the directory's
/// processor lock.
///
/// # Errors
/// When it may not be thrown away, or cannot.
pub fn remove(directory: &Path, simulation: bool) -> Result<()> {
    let file = directory.join(FILE);
    if simulation && let Some(connection) = SCHEMA.open_reader(&file)? {
        let others: bool = connection.query_row(
            "SELECT count(*) > 0 FROM ledger WHERE simulation = 0",
            [],
            |row| row.get(0),
        )?;
        if others {
            bail!(
                "{} holds the counts of a processor (`process`), and `run` starts clean; give --data-dir another directory, or `playcounts reset` throws them away",
                file.display()
            );
        }
    }
    crate::storage::sqlite::remove(&file)
}

#[cfg(test)]
mod tests;
