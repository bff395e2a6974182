//! The ledger on disk: a journal, `ledger.journal/` in the data directory, and the tables of `ledger.sqlite3`.
//!
//! A commit is one frame of the journal, appended with one write: the cost depends neither on how many videos there are nor
//! on SQLite. A checkpoint takes what has changed into the tables, a slice at a time, on another thread and without the
//! ledger's lock; then the journal's older segments are given up. A start reads the tables and the frames that are newer,
//! and checks that all of it adds up.

mod retry;
mod start;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use rusqlite::Transaction;
use uuid::Uuid;

use self::start::{limit_producers, note_start, open_rows, read_all};
use super::commit::{Arrivals, Committed};
use super::counters::Counters;
use super::entry::{encode_dashboard, encode_letters, encode_record, encode_tables, saved};
use super::ledger_trait::{Ledger, LedgerSize, NextUpkeep};
use super::letter::{GoneLetters, SavedDeadLetter};
use super::load::LoadedLedger;
use super::message_window::{MessageBudget, MessageWindowSize};
use super::owner::{LedgerConfig, check_owner, machine_id, new_row};
use super::producer_rows::ProducerRows;
use super::record::Record;
use super::schema::{FILE, SCHEMA};
use super::snapshot::JOURNAL;
use super::state::LedgerState;
use super::tables::{LedgerRow, TablesUpdate, readable};
use super::upkeep::{CANNOT_WRITE, FilesUpkeep, LedgerUpkeep, LedgerUpkept, Tables};
use crate::journal::{Cut, Journal, JournalError, SEGMENT_BYTES, Sync, SyncPolicy};
use crate::model::dashboard_index::DashboardIndex;
use crate::model::video::{MAX_PLAYS, VideoCount, VideoState};
use crate::runtime::clock::unix_ms;
use crate::storage::failpoint;
use crate::storage::in_place::FilesInPlace;
use crate::storage::sqlite::{self, LOST_CONTENT};
use crate::wire::{Confirmed, ProducerConfirmed};

/// A checkpoint is made when the journal has grown by so many bytes: what a start has to read again, in less than a
/// second. One every few seconds would write whole pages of the tables for a few plays each.
const CHECKPOINT_BYTES: u64 = 64 << 20;

/// Or after so long, if anything has changed.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);

/// How long the checkpoint at the end may take. Of what it does not write the next start has the counts from the journal, and
/// publishes them once more: that they were published stands in the tables alone.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Videos in one slice of a checkpoint: less than a millisecond under the lock, some 10 ms of SQLite's.
const SLICE: usize = 2_000;

/// Bytes of dead letters that wait for a checkpoint in memory; it is due before, and older ones go first.
const LETTERS_BYTES: usize = 32 << 20;

/// So many bytes of dead letters make a checkpoint due.
const LETTERS_DUE: usize = 1 << 20;

/// So many message IDs that are in no table make a checkpoint due: 5 MB of those of large commits, 14 MB of those that came
/// one by one.
const MESSAGES_DUE: usize = 1 << 20;

/// How long another connection's write lock is waited for, by a checkpoint: no commit waits for it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Versions of one start: the versions of the next start lie above.
const VERSIONS_PER_START: u64 = 1 << 32;

/// Counts on disk.
pub struct DurableLedger {
    file: PathBuf,
    /// Those of the tables: whether they are still there is looked at each second.
    files: Arc<FilesInPlace>,
    /// With `power` at each commit, too.
    sync: SyncPolicy,
    state: LedgerState,
    journal: Journal,
    /// For what is not in memory. Closed before the tables: who closes last must be one who can write the WAL back.
    producers: ProducerRows,
    /// Shared with an upkeep that is run: never waited for while the ledger is held, but at its end.
    tables: Arc<Mutex<Tables>>,
    processor: Uuid,
    life: Uuid,
    starts: u64,
    /// The first dashboard's database: the only one of which it is kept what it was told.
    dashboard: Option<Uuid>,
    /// Counts the dashboards: a row of another epoch tells of one that is not asked any more.
    epoch: u64,
    /// Dead letters that are in no table yet, oldest first, and bytes of their bodies.
    letters: VecDeque<SavedDeadLetter>,
    letters_bytes: usize,
    /// Numbers of letters that are gone, and may be in the table.
    gone: GoneLetters,
    /// When the newest checkpoint began, and how much the journal had written then.
    checkpoint_at: Instant,
    checkpoint_written: u64,
    /// The journal's next frame at the last upkeep: the same means a second without work.
    seen: u64,
    /// Videos in one slice of a checkpoint.
    slice: usize,
    message_budget: MessageBudget,
    cut: Option<Cut>,
    /// What was last said of the journal's upkeep.
    warned: Option<String>,
    /// The newest payload.
    buffer: Vec<u8>,
    /// A commit has failed: the state is ahead of the file.
    failed: bool,
}

impl DurableLedger {
    /// Opens the ledger, made if missing, and reads it.
    ///
    /// # Errors
    /// One line with the way out: a file is damaged or missing, they do not add up, are somebody else's, of a newer
    /// version, of another machine, or of the other kind (a simulation's, or none's).
    pub fn open(config: &LedgerConfig, sync: SyncPolicy) -> Result<Self> {
        Self::open_with(config, sync, SEGMENT_BYTES)
    }

    /// As [`DurableLedger::open`], with segments of so many bytes, at least 8 KiB: smaller ones for tests.
    ///
    /// # Errors
    /// As [`DurableLedger::open`].
    pub fn open_with(config: &LedgerConfig, sync: SyncPolicy, segment_bytes: u64) -> Result<Self> {
        let file = config.directory.join(FILE);
        // FULL: what a start writes is on the disk before the journal builds on it. Each time the WAL goes back costs two
        // fsyncs: seldom, at 32 MB.
        let pragmas = format!(
            "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 8192; PRAGMA busy_timeout = {};
             PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384; PRAGMA journal_size_limit = 67108864;",
            BUSY_TIMEOUT.as_millis()
        );
        let machine = machine_id();
        let first_row =
            |transaction: &Transaction<'_>| Ok(new_row(config, &machine).write(transaction)?);
        let connection = SCHEMA.open_or_make(&file, &pragmas, first_row)?;
        failpoint::hit("ledger-after-migration");
        let row = readable(&file, LedgerRow::read(&connection))?;
        let row = readable(&file, row.context(LOST_CONTENT))?;
        check_owner(config, &row, &machine, &file)?;
        let mut tables = Tables { connection, row };
        let (mut journal, loaded, cut) =
            readable(&file, read_all(&mut tables, config, sync, segment_bytes))?;
        if let Some(cut) = &cut {
            log::warn!("the ledger {}: {cut}", config.directory.join(JOURNAL).display());
        }
        tables.row.machine = machine;
        SCHEMA.usable(&file, note_start(&mut tables, &journal))?;
        let noted = journal.put(&encode_tables(tables.row.generation)).context(CANNOT_WRITE)?;
        let LoadedLedger { mut state, letters, gone, dashboard, epoch, .. } = loaded;
        state.passed(noted);
        state.counts.forget_future(unix_ms());
        let letters_bytes = letters.iter().map(|letter| letter.body.len()).sum();
        let LedgerRow { processor, life, starts, .. } = tables.row;
        let seen = journal.next();
        let files = Arc::new(readable(&file, FilesInPlace::of_database(&file))?);
        let producers = open_rows(&file)?;
        limit_producers(&mut state);
        Ok(Self {
            file,
            files,
            sync,
            state,
            journal,
            tables: Arc::new(Mutex::new(tables)),
            producers,
            processor,
            life,
            starts,
            dashboard,
            epoch,
            letters: letters.into(),
            letters_bytes,
            gone,
            checkpoint_at: Instant::now(),
            checkpoint_written: 0,
            seen,
            slice: SLICE,
            message_budget: config.message_budget,
            cut,
            warned: None,
            buffer: Vec::new(),
            failed: false,
        })
    }

    /// Says once what keeps the journal from being made ready.
    fn warn(&mut self, error: &JournalError) {
        let reason = error.to_string();
        if self.warned.as_deref() != Some(&reason) {
            log::warn!("the ledger's journal: {reason}");
            self.warned = Some(reason);
        }
    }

    /// What a start has cut off the journal's end.
    pub fn cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    fn check_failed(&self) -> Result<()> {
        if self.failed {
            bail!("the ledger has failed before");
        }
        Ok(())
    }

    /// Makes a commit durable.
    fn write(&mut self, record: &Record, letters: &[SavedDeadLetter]) -> Result<()> {
        if self.sync == SyncPolicy::Power {
            self.files.check().context(CANNOT_WRITE)?;
        }
        let messages = encode_record(record, &mut self.buffer);
        let mut put = || {
            for frame in encode_letters(letters) {
                self.journal.append(&frame)?;
            }
            let number = self.journal.append(&self.buffer)?;
            failpoint::hit("ledger-in-commit");
            self.journal.commit()?;
            Ok::<_, JournalError>(number)
        };
        let number = put().context(CANNOT_WRITE)?;
        self.state.keep_messages(record.learned.messages.len(), &self.buffer[messages]);
        self.state.written(number);
        Ok(())
    }

    fn keep_letters(&mut self, letters: Vec<SavedDeadLetter>) {
        self.letters_bytes += letters.iter().map(|letter| letter.body.len()).sum::<usize>();
        self.letters.extend(letters);
        while self.letters_bytes > LETTERS_BYTES
            && let Some(oldest) = self.letters.pop_front()
        {
            self.letters_bytes -= oldest.body.len();
        }
    }

    /// Whether it is time for a checkpoint.
    fn is_due(&self, now: Instant) -> bool {
        let grown = self.journal.written() - self.checkpoint_written;
        let is_late = now.saturating_duration_since(self.checkpoint_at) >= CHECKPOINT_EVERY;
        grown >= CHECKPOINT_BYTES
            || self.letters_bytes >= LETTERS_DUE
            || self.state.unsaved_messages() >= MESSAGES_DUE
            || self.state.producers().is_due()
            || is_late && (self.state.has_changes() || !self.letters.is_empty())
    }

    fn begin_checkpoint(&mut self, now: Instant) {
        self.state.begin_checkpoint();
        (self.checkpoint_at, self.checkpoint_written) = (now, self.journal.written());
    }

    /// The next slice of a checkpoint, as the tables take it.
    fn next_update(&mut self) -> Option<TablesUpdate> {
        let slice = self.state.next_slice(self.slice)?;
        let position = slice.end.as_ref().map(|end| self.journal.position(end.upto + 1));
        self.letters_bytes = 0;
        let letters = self.letters.drain(..).collect();
        let gone = std::mem::take(&mut self.gone);
        let Self { dashboard, epoch, message_budget, .. } = *self;
        Some(TablesUpdate { slice, letters, gone, dashboard, epoch, position, message_budget })
    }

    /// [`Ledger::close`], with a checkpoint that takes at most so long.
    fn close_within(&mut self, within: Duration) -> Result<()> {
        self.check_failed()?;
        let began = Instant::now();
        // One checkpoint may be on its way, and what changed since it began needs another.
        for _ in 0..2 {
            if began.elapsed() < within {
                self.begin_checkpoint(Instant::now());
            }
            while self.state.is_checkpointing() && began.elapsed() < within {
                if let Some(work) = self.upkeep(Instant::now()) {
                    let done = work.run()?;
                    self.upkept(done)?;
                }
            }
        }
        self.journal.close().context(CANNOT_WRITE)
    }
}

impl Ledger for DurableLedger {
    fn processor(&self) -> Uuid {
        self.processor
    }

    fn life(&self) -> Uuid {
        self.life
    }

    fn first_version(&self) -> u64 {
        self.starts * VERSIONS_PER_START
    }

    fn counters(&self) -> Counters {
        self.state.counts.counters()
    }

    fn videos(&self) -> Vec<VideoState> {
        self.state.counts.videos().collect()
    }

    fn commit(&mut self, arrivals: &mut [Arrivals]) -> Result<Committed> {
        self.check_failed()?;
        // From here to the commit the state is ahead of the file: were there a panic in between, the publisher, which
        // outlives this thread, must not tell a producer what is not durable.
        self.failed = true;
        let producers = arrivals.iter().flat_map(Arrivals::producers);
        self.producers.fetch(&mut self.state, producers)?;
        let messages = arrivals.iter().map(Arrivals::len).sum::<usize>();
        if !self.state.counts.has_room(messages as u64) {
            bail!("the ledger has counted {MAX_PLAYS} messages, the most that can be told");
        }
        let first_letter = self.state.counts.counters().rejected + 1;
        let counted = self.state.count_arrivals(arrivals);
        let counters = counted.record.counters;
        // Repeats alone change nothing that must outlive the process.
        if counters.counted + counters.rejected > 0 {
            let letters = arrivals.iter().flat_map(|arrivals| &arrivals.rejected);
            let letters = match counters.rejected {
                0 => Vec::new(),
                _ => saved(letters, first_letter, unix_ms()),
            };
            failpoint::hit("ledger-before-commit");
            self.write(&counted.record, &letters)?;
            failpoint::hit("ledger-after-commit");
            self.keep_letters(letters);
        }
        self.failed = false;
        Ok(counted.into())
    }

    fn upkeep(&mut self, now: Instant) -> Option<LedgerUpkeep> {
        if self.failed {
            return None;
        }
        let next = self.journal.next();
        let is_idle = std::mem::replace(&mut self.seen, next) == next;
        if self.is_due(now) {
            self.begin_checkpoint(now);
        }
        let update = self.next_update();
        let sync = if is_idle || update.is_some() { Sync::All } else { Sync::Closed };
        let journal = self.journal.upkeep(sync);
        let in_place = self.journal.check_in_place();
        let slice = update.map(|update| (Arc::clone(&self.tables), update));
        let files = Arc::clone(&self.files);
        Some(LedgerUpkeep::Files(FilesUpkeep { files, in_place, journal, slice }))
    }

    fn upkept(&mut self, done: LedgerUpkept) -> Result<NextUpkeep> {
        let done = done.of_files()?;
        if let Some(journal) = done.journal
            && let Err(error) = self.journal.upkept(journal)
        {
            // What is committed is safe. A commit that finds no room fails by itself.
            self.warn(&error);
        }
        if let Some(generation) = done.generation {
            match self.journal.put(&encode_tables(generation)) {
                Ok(number) => {
                    self.state.passed(number);
                    // That is no work.
                    self.seen += u64::from(self.seen == number);
                }
                // The tables are ahead of what the journal says of them, which is no damage.
                Err(error) => self.warn(&error),
            }
        }
        if let Some(position) = done.needed_from {
            self.journal.release(position);
        }
        if done.has_written {
            self.state.slice_written();
        }
        self.state.producers_mut().evict();
        let goes_on = self.state.is_checkpointing() || self.state.producers().is_crowded();
        Ok(match goes_on {
            true if self.is_behind() => NextUpkeep::Now,
            true => NextUpkeep::Soon,
            false => NextUpkeep::Later,
        })
    }

    fn publish_to(&mut self, dashboards: usize) {
        self.state.publish_to(dashboards);
    }

    fn published(&mut self, dashboard: DashboardIndex, counts: &[VideoCount]) {
        if dashboard == DashboardIndex::FIRST {
            self.state.counts.published(counts);
        }
    }

    fn publishes_to(&mut self, dashboard: DashboardIndex, database: Uuid) -> Result<bool> {
        if dashboard != DashboardIndex::FIRST {
            let is_other = self.state.unreported.of(dashboard).meet(database);
            if is_other {
                self.state.tell_all_producers(dashboard);
            }
            return Ok(is_other);
        }
        if self.dashboard == Some(database) {
            return Ok(false);
        }
        self.check_failed()?;
        self.failed = true;
        let number = self.journal.put(&encode_dashboard(database)).context(CANNOT_WRITE)?;
        self.failed = false;
        self.state.written(number);
        // However many videos there are: theirs tell of an older epoch from now on.
        self.epoch += 1;
        self.state.forget_published();
        self.dashboard = Some(database);
        Ok(true)
    }

    fn confirmed(&mut self, producer: &Uuid) -> Result<Confirmed> {
        if self.failed {
            return Ok(Confirmed::default());
        }
        self.producers.confirmed(&self.state, DashboardIndex::FIRST, producer)
    }

    fn take_unreported(
        &mut self,
        dashboard: DashboardIndex,
        limit: usize,
    ) -> Result<Vec<ProducerConfirmed>> {
        if self.failed {
            return Ok(Vec::new());
        }
        self.producers.take_unreported(&mut self.state, dashboard, limit)
    }

    fn is_behind(&self) -> bool {
        !self.failed && self.state.producers().is_behind()
    }

    fn reported(
        &mut self,
        dashboard: DashboardIndex,
        told: &ProducerConfirmed,
        watermark: u64,
    ) -> bool {
        let more = self.producers.reported(&mut self.state, dashboard, told, watermark);
        more.unwrap_or_else(|error| {
            log::warn!("{error:#}");
            false
        })
    }

    fn retell(&mut self, dashboard: DashboardIndex, limit: usize) -> bool {
        self.state.unreported.of(dashboard).retell(limit)
    }

    fn put_back_unreported(&mut self, dashboard: DashboardIndex, producers: &[ProducerConfirmed]) {
        let unreported = self.state.unreported.of(dashboard);
        producers.iter().for_each(|told| unreported.add(told.producer));
    }

    fn size(&self) -> Option<LedgerSize> {
        let size = |file: &Path| std::fs::metadata(file).map_or(0, |found| found.len());
        let [file, wal, _] = sqlite::all_files(&self.file);
        let cut_bytes = self.cut.as_ref().map_or(0, |cut| cut.bytes);
        let bytes = size(&file) + size(&wal) + self.journal.size();
        let crowded = self.state.crowded();
        Some(LedgerSize { unswept: self.state.pending_records(), bytes, cut_bytes, crowded })
    }

    fn message_window(&self) -> MessageWindowSize {
        self.state.message_window()
    }

    fn close(&mut self) -> Result<()> {
        self.close_within(CLOSE_WITHIN)
    }
}

#[cfg(test)]
mod tests;
