//! The tables of an outbox: `outbox.sqlite3` in the data directory of `produce`. A start reads them, and only a checkpoint
//! writes them: on the thread `outbox`, while no publish waits for it.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::batch::PlayBatch;
use super::contents::{OutboxChanges, OutboxContents};
use crate::journal::Position;
use crate::model::words::{grouped, many};
use crate::storage::failpoint;
use crate::storage::in_place::FilesInPlace;
use crate::storage::sqlite::{self, Schema};

/// The file in the data directory.
pub(super) const FILE: &str = "outbox.sqlite3";

pub(super) const SCHEMA: Schema = Schema {
    name: "the producer's outbox",
    // "play", and two more than the dashboard's.
    application: 0x706c_617b,
    version: 3,
    sql: include_str!("schema.sql"),
    migrations: &[include_str!("schema_1_to_2.sql"), LATER],
    migrate: sqlite::nothing_more,
    way_out: "bring back a copy of it and of outbox.journal, or remove both, and the plays that are only in them",
};

/// The table that schema 3 has more.
const LATER: &str = "CREATE TABLE later (
    first     INTEGER PRIMARY KEY,
    producer  BLOB    NOT NULL,
    row_check INTEGER NOT NULL
) STRICT;";

/// What the checkpoint's connection is opened with: what it has committed is on the disk.
const PRAGMAS: &str =
    "PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; PRAGMA journal_size_limit = 67108864;";

/// The columns of `run` that its check is over.
const RUN: &str = "only, producer, topic, messages, num_videos, popularity, life, segment, number, next, \
                   acknowledged, gone, num_batches";

/// Bytes of a video's number in a batch's row.
const NUMBER_LEN: usize = 4;

/// What makes a run this run: the same command goes on with it, another is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunIdentity {
    /// Where the plays go.
    pub topic: String,
    /// How many plays, in all.
    pub messages: u64,
    /// How many videos they are plays of.
    pub videos: usize,
    /// How they spread over the videos.
    pub popularity: String,
}

/// What the tables say.
#[derive(Debug)]
pub(super) struct StoredOutbox {
    pub(super) contents: OutboxContents,
    /// Drawn when the files were made.
    pub(super) life: Uuid,
    /// Where the journal goes on; `None`: there is none yet.
    pub(super) position: Option<Position>,
}

/// The tables, to write.
pub(super) struct OutboxTables {
    connection: Connection,
    file: PathBuf,
}

impl OutboxTables {
    /// Opens the tables of a run, which are made if there are none, and reads them.
    ///
    /// # Errors
    /// One line with the way out: they are of another run, or cannot be used.
    pub(super) fn open(directory: &Path, run: &RunIdentity) -> Result<(Self, StoredOutbox)> {
        let file = path(directory);
        let connection =
            SCHEMA.open_or_make(&file, PRAGMAS, |transaction| make_run(transaction, run))?;
        SCHEMA.usable(&file, SCHEMA.check_structure(&connection))?;
        let stored = SCHEMA.usable(&file, stored(&connection))?;
        check_run(&connection, run, &file)?;
        Ok((Self { connection, file }, stored))
    }

    /// Their files, to look whether they stay where they are.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn in_place(&self) -> Result<FilesInPlace> {
        SCHEMA.usable(&self.file, FilesInPlace::of_database(&self.file))
    }

    /// Where the journal begins, as it was made.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn begin_journal(&mut self, position: Position) -> Result<()> {
        let transaction = begin(&mut self.connection).context(CANNOT_WRITE)?;
        transaction
            .execute(
                "UPDATE run SET segment = ?1, number = ?2",
                params![position.segment as i64, position.number as i64],
            )
            .and_then(|_| check_row_of_run(&transaction))
            .and_then(|()| transaction.commit())
            // From here on the file says by itself that there is a journal: alone it is never taken for a whole outbox.
            .and_then(|()| sqlite::write_back(&self.connection))
            .context(CANNOT_WRITE)
    }

    /// Writes what has changed, in one transaction; the journal goes on at `position`. When this returns it is on the disk.
    ///
    /// # Errors
    /// What changes is damaged, or cannot be written.
    pub(super) fn write(&mut self, changes: &OutboxChanges, position: Position) -> Result<()> {
        let transaction = begin(&mut self.connection).context(CANNOT_WRITE)?;
        SCHEMA.usable(&self.file, write(&transaction, changes, position))?;
        failpoint::hit("outbox-in-checkpoint");
        transaction.commit().context(CANNOT_WRITE)
    }
}

/// What stands before an error of a write that was refused.
pub(super) const CANNOT_WRITE: &str = "the outbox cannot be written";

fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// Writes the check of the row of `run`.
fn check_row_of_run(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute(&format!("UPDATE run SET row_check = row_check({RUN})"), []).map(|_| ())
}

fn make_run(transaction: &Transaction<'_>, run: &RunIdentity) -> Result<()> {
    transaction.execute(
        "INSERT INTO run VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, NULL, NULL, 0, 0, 0, 0, 0)",
        params![
            Uuid::new_v4(),
            run.topic,
            run.messages as i64,
            run.videos as i64,
            run.popularity,
            Uuid::new_v4(),
        ],
    )?;
    check_row_of_run(transaction)?;
    let mut insert =
        transaction.prepare("INSERT INTO videos VALUES (?1, ?2, 0, row_check(?1, ?2, 0))")?;
    for number in 0..run.videos as i64 {
        insert.execute(params![number, Uuid::new_v4()])?;
    }
    Ok(())
}

fn check_run(connection: &Connection, run: &RunIdentity, file: &Path) -> Result<()> {
    let found = connection.query_row(
        "SELECT topic, messages, num_videos, popularity FROM run",
        [],
        |row| {
            Ok(RunIdentity {
                topic: row.get(0)?,
                messages: row.get::<_, i64>(1)?.unsigned_abs(),
                videos: row.get::<_, i64>(2)?.unsigned_abs() as usize,
                popularity: row.get(3)?,
            })
        },
    )?;
    if found != *run {
        let RunIdentity { topic, messages, videos, popularity } = found;
        bail!(
            "{} is the outbox of another run: {messages} plays of {videos} videos, {popularity}, on topic {topic}; give the same options to go on with it, or --data-dir another directory",
            file.display()
        );
    }
    Ok(())
}

/// The one row of `run`.
struct RunRow {
    producer: Uuid,
    life: Uuid,
    position: Option<Position>,
    videos: u64,
    next: u64,
    acknowledged: u64,
    gone: u64,
    batches: u64,
}

fn run_row(connection: &Connection) -> Result<RunRow> {
    let sql = format!(
        "SELECT row_check = row_check({RUN}), producer, life, segment, number, num_videos, next, acknowledged,
                gone, num_batches
         FROM run"
    );
    let found = connection.query_row(&sql, [], |row| {
        let number = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs);
        let optional =
            |column: usize| row.get::<_, Option<i64>>(column).map(|n| n.map(i64::unsigned_abs));
        let position = optional(3)?.zip(optional(4)?);
        let run = RunRow {
            producer: row.get(1)?,
            life: row.get(2)?,
            position: position.map(|(segment, number)| Position { segment, number }),
            videos: number(5)?,
            next: number(6)?,
            acknowledged: number(7)?,
            gone: number(8)?,
            batches: number(9)?,
        };
        Ok((row.get::<_, bool>(0)?, run))
    });
    let (is_whole, row) = found.optional()?.context("the row of `run` is missing")?;
    ensure!(is_whole, "the row of `run` does not fit its check");
    Ok(row)
}

/// Reads and checks all that the tables say.
///
/// # Errors
/// They are damaged.
pub(super) fn stored(connection: &Connection) -> Result<StoredOutbox> {
    let run = run_row(connection)?;
    let (mut videos, mut gone) = (Vec::new(), Vec::new());
    let mut select = connection.prepare(
        "SELECT number, video_id, plays, row_check = row_check(number, video_id, plays) FROM videos ORDER BY number",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        ensure!(row.get::<_, bool>(3)?, "row {number} of `videos` does not fit its check");
        ensure!(number == videos.len() as i64, "row {} of `videos` is missing", videos.len());
        videos.push(row.get(1)?);
        gone.push(row.get::<_, i64>(2)?.unsigned_abs());
    }
    let (found, wanted) = (videos.len() as u64, run.videos);
    ensure!(
        found == wanted,
        "`videos` has {}, and must have {}",
        many(found, "row"),
        grouped(wanted)
    );
    let batches = batches(connection, i64::MAX)?;
    let (found, wanted) = (batches.len() as u64, run.batches);
    ensure!(
        found == wanted,
        "`batches` has {}, and must have {}",
        many(found, "row"),
        grouped(wanted)
    );
    let later = later(connection)?;
    let RunRow { producer, life, position, next, acknowledged, gone: below, .. } = run;
    let contents =
        OutboxContents { producer, later, videos, gone, below, acknowledged, next, batches };
    contents.check()?;
    Ok(StoredOutbox { contents, life, position })
}

/// The ids under which the producer went on.
fn later(connection: &Connection) -> Result<Vec<(u64, Uuid)>> {
    let mut select = connection.prepare(
        "SELECT first, producer, row_check = row_check(first, producer) FROM later ORDER BY first",
    )?;
    let mut rows = select.query([])?;
    let mut later = Vec::new();
    while let Some(row) = rows.next()? {
        let first: i64 = row.get(0)?;
        ensure!(row.get::<_, bool>(2)?, "row {first} of `later` does not fit its check");
        later.push((first.unsigned_abs(), row.get(1)?));
    }
    Ok(later)
}

/// The batches that start below a number.
fn batches(connection: &Connection, below: i64) -> Result<VecDeque<PlayBatch>> {
    let mut select = connection.prepare_cached(
        "SELECT first, enqueued_at, videos, row_check = row_check(first, enqueued_at, videos)
         FROM batches WHERE first < ?1 ORDER BY first",
    )?;
    let mut rows = select.query([below])?;
    let mut batches = VecDeque::new();
    while let Some(row) = rows.next()? {
        let (first, enqueued_at): (i64, i64) = (row.get(0)?, row.get(1)?);
        ensure!(row.get::<_, bool>(3)?, "row {first} of `batches` does not fit its check");
        let (numbers, rest) = row.get_ref(2)?.as_blob()?.as_chunks::<NUMBER_LEN>();
        ensure!(rest.is_empty() && !numbers.is_empty(), "row {first} of `batches` has no plays");
        let numbers = numbers.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        batches.push_back(PlayBatch::new(
            first.unsigned_abs(),
            enqueued_at.unsigned_abs(),
            numbers,
        ));
    }
    Ok(batches)
}

fn write(transaction: &Transaction<'_>, changes: &OutboxChanges, position: Position) -> Result<()> {
    let run = run_row(transaction)?;
    let mut gone: HashMap<u32, u64> = changes.gone.clone();
    let old = batches(transaction, changes.below as i64)?;
    for video in old.iter().flat_map(|batch| &batch.videos) {
        *gone.entry(*video).or_default() += 1;
    }
    let plays: u64 = gone.values().sum();
    ensure!(run.gone + plays == changes.below, "no batch ends at {}", changes.below);
    let deleted = transaction
        .prepare_cached("DELETE FROM batches WHERE first < ?1")?
        .execute([changes.below as i64])?;
    let mut insert = transaction
        .prepare_cached("INSERT INTO batches VALUES (?1, ?2, ?3, row_check(?1, ?2, ?3))")?;
    for PlayBatch { first, enqueued_at_ns, videos, .. } in &changes.kept {
        let numbers: Vec<u8> = videos.iter().flat_map(|number| number.to_le_bytes()).collect();
        insert.execute(params![*first as i64, *enqueued_at_ns as i64, numbers])?;
    }
    for (first, id) in &changes.later {
        // Nothing was published under one that is replaced at once.
        transaction
            .prepare_cached("INSERT OR REPLACE INTO later VALUES (?1, ?2, row_check(?1, ?2))")?
            .execute(params![*first as i64, id])?;
    }
    // One that does not fit its check must not get a new one.
    let mut add = transaction.prepare_cached(
        "UPDATE videos SET plays = plays + ?2, row_check = row_check(number, video_id, plays + ?2)
         WHERE number = ?1 AND row_check = row_check(number, video_id, plays)",
    )?;
    for (video, plays) in gone {
        let changed = add.execute(params![video, plays as i64])?;
        ensure!(changed == 1, "row {video} of `videos` does not fit its check, or is missing");
    }
    let batches = run.batches + changes.kept.len() as u64 - deleted as u64;
    transaction.execute(
        "UPDATE run SET segment = ?1, number = ?2, next = ?3, acknowledged = ?4, gone = ?5, num_batches = ?6",
        [
            position.segment as i64,
            position.number as i64,
            changes.next as i64,
            changes.acknowledged as i64,
            changes.below as i64,
            batches as i64,
        ],
    )?;
    check_row_of_run(transaction)?;
    Ok(())
}

/// Makes a copy of the tables an outbox by itself, with `changes` in them, which are all of its journal: it has no journal and
/// another life, and its new plays are of another producer.
///
/// # Errors
/// What it has is damaged, or cannot be written.
pub(super) fn make_own(connection: &mut Connection, changes: &OutboxChanges) -> Result<()> {
    let mut changes = changes.clone();
    changes.later.push((changes.next, Uuid::new_v4()));
    let transaction = begin(connection)?;
    write(&transaction, &changes, Position { segment: 0, number: 0 })?;
    transaction
        .execute("UPDATE run SET life = ?1, segment = NULL, number = NULL", [Uuid::new_v4()])?;
    check_row_of_run(&transaction)?;
    Ok(transaction.commit()?)
}

/// A reader of the tables beside the one who writes them.
pub(super) struct OutboxTablesReader {
    connection: Connection,
    file: PathBuf,
}

impl OutboxTablesReader {
    /// The tables in a data directory; `None` where there are none.
    ///
    /// # Errors
    /// One line with the way out: they cannot be used.
    pub(super) fn open(directory: &Path) -> Result<Option<Self>> {
        let file = path(directory);
        let connection = SCHEMA.open_reader(&file)?;
        Ok(connection.map(|connection| Self { connection, file }))
    }

    /// Checks what reading all rows does not tell.
    ///
    /// # Errors
    /// They are damaged.
    pub(super) fn check_structure(&self) -> Result<()> {
        SCHEMA.usable(&self.file, SCHEMA.check_structure(&self.connection))
    }

    /// All that they say, at one moment.
    ///
    /// # Errors
    /// They are damaged, or cannot be read.
    pub(super) fn read(&mut self) -> Result<StoredOutbox> {
        let snapshot = self.connection.transaction()?;
        SCHEMA.usable(&self.file, stored(&snapshot))
    }

    /// Where the journal goes on from them, now.
    ///
    /// # Errors
    /// As [`OutboxTablesReader::read`].
    pub(super) fn position(&self) -> Result<Option<Position>> {
        let run = SCHEMA.usable(&self.file, run_row(&self.connection))?;
        Ok(run.position)
    }
}

/// Whether a data directory has tables.
pub(super) fn exist(directory: &Path) -> bool {
    path(directory).exists()
}

/// Removes the tables.
///
/// # Errors
/// The file that cannot be removed, and why.
pub(super) fn remove(directory: &Path) -> Result<()> {
    sqlite::remove(&path(directory))
}

fn path(directory: &Path) -> PathBuf {
    directory.join(FILE)
}
