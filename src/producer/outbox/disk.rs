//! The outbox in SQLite: `outbox.sqlite3` in the data directory of `produce`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use uuid::Uuid;

use super::batch::PlayBatch;
use crate::model::attempted::Attempted;
use crate::model::config::Durability;
use crate::storage::data_dir::{DataDir, Lock};
use crate::storage::sqlite::{self, Schema};

/// The file in the data directory.
const FILE: &str = "outbox.sqlite3";

/// The role of the one who holds the data directory's outbox.
const ROLE: &str = "producer";

const SCHEMA: Schema = Schema {
    name: "the producer's outbox",
    // "play", and two more than the dashboard's.
    application: 0x706c_617b,
    version: 1,
    sql: include_str!("schema.sql"),
    migrations: &[],
    migrate: sqlite::nothing_more,
    way_out: "remove it, and the plays that are only in it",
};

/// Bytes of a video's number.
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

/// An outbox on disk, owned by this process.
pub struct DiskOutbox {
    connection: Connection,
    /// Whose plays these are.
    pub(in crate::producer) producer: Uuid,
    pub(in crate::producer) videos: Vec<Uuid>,
    /// Plays of each video so far.
    pub(in crate::producer) counts: Vec<u64>,
    /// The number of the next play.
    pub(in crate::producer) next: u64,
    /// nsqd has acknowledged every play with a number below.
    pub(in crate::producer) acknowledged: u64,
    /// What is held.
    pub(in crate::producer) batches: Vec<PlayBatch>,
    _lock: Lock,
}

impl DiskOutbox {
    /// Opens the outbox in a directory and reads it; makes it if there is none.
    ///
    /// # Errors
    /// One line with the way out: another producer has it, it is of another run, or it cannot be used.
    pub fn open(directory: &DataDir, run: &RunIdentity, durability: Durability) -> Result<Self> {
        let lock = directory.lock(ROLE)?;
        let file = directory.path().join(FILE);
        let pragmas = format!(
            "PRAGMA synchronous = {}; PRAGMA busy_timeout = 5000; PRAGMA wal_autocheckpoint = 4000;
             PRAGMA journal_size_limit = 67108864;",
            durability.synchronous()
        );
        let mut connection = SCHEMA.open(&file, &pragmas)?;
        make_run(&mut connection, run)?;
        check_run(&connection, run, &file)?;
        let Contents { producer, videos, counts, next, acknowledged, batches } =
            contents(&connection)
                .with_context(|| format!("the outbox {} cannot be read", file.display()))?;
        Ok(Self { connection, producer, videos, counts, next, acknowledged, batches, _lock: lock })
    }

    /// Keeps a batch: to be called before it is published. nsqd has acknowledged all plays below `acknowledged`.
    pub(in crate::producer) fn keep(&mut self, batch: &PlayBatch, acknowledged: u64) -> Result<()> {
        let numbers: Vec<u8> =
            batch.videos.iter().flat_map(|number| number.to_le_bytes()).collect();
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.prepare_cached("INSERT INTO batches VALUES (?1, ?2, ?3)")?.execute(params![
            batch.first as i64,
            batch.enqueued_at_ns as i64,
            numbers
        ])?;
        transaction
            .prepare_cached("UPDATE run SET acknowledged = ?1")?
            .execute([acknowledged as i64])?;
        transaction.commit().context("the outbox cannot be written")
    }

    /// Forgets batches that are counted for good.
    pub(in crate::producer) fn forget(&mut self, gone: &[PlayBatch]) -> Result<()> {
        let Some(last) = gone.last() else { return Ok(()) };
        let mut plays: HashMap<u32, i64> = HashMap::new();
        for video in gone.iter().flat_map(|batch| &batch.videos) {
            *plays.entry(*video).or_default() += 1;
        }
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut add = transaction
                .prepare_cached("UPDATE videos SET plays = plays + ?2 WHERE number = ?1")?;
            for (video, plays) in plays {
                add.execute(params![video, plays])?;
            }
        }
        transaction
            .prepare_cached("DELETE FROM batches WHERE first <= ?1")?
            .execute([last.first as i64])?;
        transaction
            .prepare_cached("UPDATE run SET acknowledged = max(acknowledged, ?1)")?
            .execute([last.end() as i64])?;
        transaction.commit().context("the outbox cannot be written")
    }
}

fn make_run(connection: &mut Connection, run: &RunIdentity) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let made = transaction.execute(
        "INSERT INTO run VALUES (1, ?1, ?2, ?3, ?4, ?5, 0) ON CONFLICT DO NOTHING",
        params![Uuid::new_v4(), run.topic, run.messages as i64, run.videos as i64, run.popularity],
    )?;
    if made > 0 {
        let mut insert = transaction.prepare("INSERT INTO videos VALUES (?1, ?2, 0)")?;
        for number in 0..run.videos as i64 {
            insert.execute(params![number, Uuid::new_v4()])?;
        }
    }
    transaction.commit().context("the outbox cannot be written")
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

/// What an outbox file holds.
#[derive(Debug)]
struct Contents {
    producer: Uuid,
    videos: Vec<Uuid>,
    counts: Vec<u64>,
    next: u64,
    acknowledged: u64,
    batches: Vec<PlayBatch>,
}

fn contents(connection: &Connection) -> Result<Contents> {
    let (producer, acknowledged) =
        connection.query_row("SELECT producer, acknowledged FROM run", [], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?))
        })?;
    let (videos, mut counts): (Vec<Uuid>, Vec<u64>) = connection
        .prepare("SELECT video_id, plays FROM videos ORDER BY number")?
        .query_map([], |row| Ok((row.get::<_, Uuid>(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?
        .collect::<rusqlite::Result<_>>()?;
    let batches = connection
        .prepare("SELECT first, enqueued_at, videos FROM batches ORDER BY first")?
        .query_map([], |row| {
            let numbers: Vec<u8> = row.get(2)?;
            let (numbers, _) = numbers.as_chunks::<NUMBER_LEN>();
            let numbers = numbers.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
            let (first, enqueued_at): (i64, i64) = (row.get(0)?, row.get(1)?);
            Ok(PlayBatch::new(first.unsigned_abs(), enqueued_at.unsigned_abs(), numbers))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    // Without gaps, behind the plays that are gone.
    let mut next: u64 = counts.iter().sum();
    for batch in &batches {
        if batch.first != next {
            bail!("play {next} is missing, the next is {}", batch.first);
        }
        next = batch.end();
        for video in &batch.videos {
            *counts
                .get_mut(*video as usize)
                .context("a play of a video that is none of the run's")? += 1;
        }
    }
    Ok(Contents {
        producer,
        videos,
        counts,
        next,
        acknowledged: acknowledged.unsigned_abs(),
        batches,
    })
}

/// Whether a data directory has an outbox.
pub fn exists(directory: &Path) -> bool {
    path(directory).exists()
}

/// What the outbox in a data directory tells; `None` where there is none.
///
/// # Errors
/// As [`DiskOutbox::open`].
pub fn read(directory: &Path) -> Result<Option<Attempted>> {
    let Some(mut connection) = SCHEMA.open_reader(&path(directory))? else { return Ok(None) };
    let transaction = connection.transaction()?;
    let made = transaction.query_row("SELECT 1 FROM run", [], |_| Ok(())).optional()?;
    if made.is_none() {
        return Ok(None);
    }
    let Contents { producer, videos, counts, next, acknowledged, .. } = contents(&transaction)?;
    let counts = videos.into_iter().zip(counts).filter(|(_, plays)| *plays > 0).collect();
    Ok(Some(Attempted { producer, plays: next, acknowledged, counts }))
}

/// Throws the outbox of a data directory away.
///
/// # Errors
/// When a producer uses it, or it cannot be removed.
pub fn remove(directory: &DataDir) -> Result<()> {
    let _lock = directory.lock(ROLE)?;
    sqlite::remove(&path(directory.path()))
}

fn path(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunIdentity {
        RunIdentity {
            topic: "plays".into(),
            messages: 100,
            videos: 3,
            popularity: "uniform".into(),
        }
    }

    #[test]
    fn it_goes_on_where_it_was() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).unwrap();
        assert!(read(temp.path()).unwrap().is_none());
        let mut outbox = DiskOutbox::open(&dir, &run(), Durability::Process).unwrap();
        let (producer, videos) = (outbox.producer, outbox.videos.clone());
        let batches = [
            PlayBatch::new(0, 5, vec![0, 1].into()),
            PlayBatch::new(2, 6, vec![1, 1, 2].into()),
            PlayBatch::new(5, 7, vec![0].into()),
        ];
        for (batch, acknowledged) in batches.iter().zip([0, 2, 2]) {
            outbox.keep(batch, acknowledged).unwrap();
        }
        drop(outbox);
        let mut outbox = DiskOutbox::open(&dir, &run(), Durability::Process).unwrap();
        assert_eq!((outbox.producer, &outbox.videos), (producer, &videos));
        assert_eq!((outbox.next, outbox.acknowledged, &outbox.counts[..]), (6, 2, &[2, 3, 1][..]));
        assert_eq!(outbox.batches, batches);
        outbox.forget(&batches[..2]).unwrap();
        outbox.forget(&[]).unwrap();
        drop(outbox);
        let outbox = DiskOutbox::open(&dir, &run(), Durability::Process).unwrap();
        assert_eq!((outbox.next, outbox.acknowledged, &outbox.counts[..]), (6, 5, &[2, 3, 1][..]));
        assert_eq!(outbox.batches, batches[2..]);
        let attempted = read(temp.path()).unwrap().unwrap();
        assert_eq!((attempted.producer, attempted.plays, attempted.acknowledged), (producer, 6, 5));
        assert_eq!(attempted.counts, [(videos[0], 2), (videos[1], 3), (videos[2], 1)]);
        let text = remove(&dir).unwrap_err().to_string();
        assert!(text.starts_with("another producer"), "{text}");
        drop(outbox);
        remove(&dir).unwrap();
        assert!(!exists(temp.path()));
    }

    #[test]
    fn another_run_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).unwrap();
        drop(DiskOutbox::open(&dir, &run(), Durability::Process).unwrap());
        for other in [
            RunIdentity { topic: "other".into(), ..run() },
            RunIdentity { messages: 101, ..run() },
            RunIdentity { videos: 4, ..run() },
            RunIdentity { popularity: "zipf:1".into(), ..run() },
        ] {
            let text =
                DiskOutbox::open(&dir, &other, Durability::Process).err().unwrap().to_string();
            assert!(text.contains("100 plays of 3 videos, uniform, on topic plays"), "{text}");
        }
        Connection::open(path(temp.path()))
            .unwrap()
            .execute("INSERT INTO batches VALUES (7, 1, x'00000000')", [])
            .unwrap();
        let text =
            format!("{:#}", DiskOutbox::open(&dir, &run(), Durability::Process).err().unwrap());
        assert!(text.ends_with("play 0 is missing, the next is 7"), "{text}");
    }
}
