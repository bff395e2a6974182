//! The ledger in SQLite: `ledger.sqlite3` in the data directory.
//!
//! A commit is one row, appended: the cost does not depend on how many videos there are. Every [`CHECKPOINT_EVERY`] a
//! checkpoint takes the rows into the tables, at most [`SLICE`] videos a transaction. A start reads the tables and the
//! rows that are newer, and checks that all of it adds up.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, TransactionBehavior, params};
use uuid::Uuid;

use super::commit::{Arrivals, Committed};
use super::counters::Counters;
use super::dead_letters;
use super::ledger_trait::{CommitTraffic, Ledger};
use super::owner::{LedgerConfig, Started, check_owner, count_start, machine_id, made};
use super::state::LedgerState;
use super::tables::{FILE, SCHEMA, read_state, write_slice};
use crate::model::video::{VideoCount, VideoState};
use crate::runtime::clock::unix_ms;
use crate::storage::failpoint;
use crate::wire::{Confirmed, ProducerConfirmed};

/// How long after the start of a checkpoint the next one starts: about how much a start has to read again.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

/// Videos in one slice of a checkpoint: 2 to 3 ms.
const SLICE: usize = 1_000;

/// How long another connection's write lock is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Versions of one start: the versions of the next start lie above.
const VERSIONS_PER_START: u64 = 1 << 32;

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

    /// Writes the newest record of the state, if `arrivals` has led to one, and a slice of the checkpoint, if one is on its
    /// way.
    fn write(&mut self, arrivals: Option<&[Arrivals]>) -> Result<()> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(arrivals) = arrivals {
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
    fn try_write(&mut self, arrivals: Option<&[Arrivals]>) -> Result<()> {
        self.failed = true;
        self.write(arrivals).context("the ledger cannot be written")?;
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
            self.try_write(Some(arrivals))?;
            failpoint::hit("ledger-after-commit");
        }
        self.failed = false;
        Ok(Committed { counters, video_deltas })
    }

    fn checkpoint(&mut self, now: Instant, traffic: CommitTraffic) -> Result<Instant> {
        let idle = traffic == CommitTraffic::Idle;
        if now >= self.next_checkpoint {
            self.state.begin_checkpoint();
            self.next_checkpoint = now + CHECKPOINT_EVERY;
        }
        if idle && self.state.is_checkpointing() {
            self.check_failed()?;
            self.try_write(None)?;
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
                self.try_write(None)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
