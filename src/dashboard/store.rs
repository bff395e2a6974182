//! The dashboard's counts in SQLite. Knows nothing of HTTP.
//!
//! One thread, `dash-store`, writes: updates that wait at the same time share one transaction. Reads run on
//! the caller's thread, over read-only connections that are lent out one at a time.
//!
//! `synchronous=NORMAL`: what was accepted survives a kill -9. After a power loss the newest commits may be
//! missing; then the database takes another id, and every processor tells its whole counts again.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, Sender, bounded};
use nsq_protocol::thread::OwnedThread;
use parking_lot::Mutex;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Transaction, params, params_from_iter};
use uuid::Uuid;

use super::confirmed;
use crate::api::{Confirmed, ConfirmedUpdate, CountsUpdate, VideoCount};
use crate::failpoint;
use crate::sqlite::{self, Schema};

/// The file in the data directory.
pub(super) const FILE: &str = "dashboard.sqlite3";

const SCHEMA: Schema = Schema {
    name: "the dashboard's database",
    // "play" in ASCII.
    application: 0x706c_6179,
    version: 2,
    sql: include_str!("schema.sql"),
    migrations: &[include_str!("schema_2.sql")],
    way_out: "`playcounts reset` makes a new one",
};

/// Updates that wait for the writer. Each HTTP worker waits with one, so this is never full.
const JOBS: usize = 256;

/// The most updates in one transaction: 64 × 20 counts commit in about 50 ms.
const GROUP_MAX: usize = 64;

/// How long a caller waits for the writer, and for a connection to read with.
const WAIT: Duration = Duration::from_secs(20);

/// The most processors a database knows: one for each ledger.
const PROCESSORS_MAX: i64 = 10_000;

/// Minutes of history kept for each video.
const HISTORY_SLOTS: i64 = 60;

/// The most rows of one [`Store::list`].
pub(super) const LIST_MAX: u32 = 500;

/// The sums over all videos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many videos have a count.
    pub videos: u64,
    /// The sum of their plays.
    pub plays: u64,
}

/// One video's row.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(super) struct Video {
    pub(super) video_id: Uuid,
    pub(super) plays: i64,
    pub(super) updated_at: i64,
    pub(super) last_played_at: Option<i64>,
}

/// The count at the end of one minute.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(super) struct HistoryPoint {
    pub(super) at: i64,
    pub(super) plays: i64,
}

/// What a list is ordered by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Column {
    Plays,
    VideoId,
    UpdatedAt,
    LastPlayedAt,
}

impl Column {
    pub(super) const ALL: [(&str, Self); 4] = [
        ("plays", Self::Plays),
        ("video_id", Self::VideoId),
        ("updated_at", Self::UpdatedAt),
        ("last_played_at", Self::LastPlayedAt),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, column)| *column == self).map_or("plays", |(name, _)| name)
    }
}

/// A row's place in a list: what `next` of one page says and `after` asks the following one for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cursor {
    /// What the row is ordered by; 0 in a list by id.
    pub(super) value: i64,
    pub(super) video_id: Uuid,
}

impl Cursor {
    /// The place of `video` in a list by `column`.
    pub(super) fn of(video: &Video, column: Column) -> Self {
        let value = match column {
            Column::Plays => video.plays,
            Column::VideoId => 0,
            Column::UpdatedAt => video.updated_at,
            Column::LastPlayedAt => video.last_played_at.unwrap_or(0),
        };
        Self { value, video_id: video.video_id }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.value, self.video_id)
    }
}

impl FromStr for Cursor {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (value, video_id) = text.split_once('_').ok_or(())?;
        let value = value.parse().map_err(drop)?;
        Ok(Self { value, video_id: Uuid::try_parse(video_id).map_err(drop)? })
    }
}

/// Which rows, in which order.
#[derive(Clone, Debug)]
pub(super) struct ListQuery {
    pub(super) column: Column,
    pub(super) descending: bool,
    pub(super) limit: u32,
    pub(super) offset: u32,
    /// Only rows behind this one.
    pub(super) after: Option<Cursor>,
    /// The lowest and the highest id, both included; `None`: all.
    pub(super) range: Option<(Uuid, Uuid)>,
}

enum Job {
    Counts(CountsUpdate),
    Confirmed(ConfirmedUpdate),
    Clear,
    /// Writes without changing anything: is the store well again?
    Probe,
}

type Reply = Result<(), Arc<str>>;

/// A job and where its caller waits.
type Posted = (Job, Sender<Reply>);

/// The open database.
pub(super) struct Store {
    jobs: Mutex<Option<Sender<Posted>>>,
    readers: (Sender<Connection>, Receiver<Connection>),
    state: Arc<State>,
    writer: Mutex<Option<OwnedThread<()>>>,
}

/// What the writer tells the others without asking SQLite.
#[derive(Default)]
struct State {
    // Which database this is: another one after each reset.
    id: Mutex<Uuid>,
    totals: Mutex<Totals>,
    // Grows with each commit that changed something.
    revision: AtomicU64,
    // Why the newest transaction failed, until one succeeds.
    failure: Mutex<Option<Arc<str>>>,
}

impl Store {
    /// Opens the database in `directory`, made if missing, with `readers` connections to read.
    pub(super) fn open(directory: &Path, readers: usize) -> Result<Self> {
        let file = directory.join(FILE);
        let connection = open_writer(&file)?;
        let state = Arc::new(State::default());
        *state.totals.lock() = read_totals(&connection)?;
        *state.id.lock() = read_id(&connection)?;
        let pool = bounded(readers);
        for _ in 0..readers {
            let reader = SCHEMA.open_reader(&file)?.context("the database is gone")?;
            pool.0.send(reader).expect("both ends are held here");
        }
        let (jobs, inbox) = bounded(JOBS);
        let writer = {
            let state = Arc::clone(&state);
            OwnedThread::spawn("dash-store", move || write_all(connection, &inbox, &state))?
        };
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            readers: pool,
            state,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Merges an update; returns after the commit.
    pub(super) fn merge(&self, update: CountsUpdate) -> Reply {
        self.write(Job::Counts(update))
    }

    /// Merges what a processor has counted of producers' plays; returns after the commit.
    pub(super) fn confirm(&self, update: ConfirmedUpdate) -> Reply {
        self.write(Job::Confirmed(update))
    }

    /// Which plays of a producer are counted for good; none of one that nobody has told of.
    pub(super) fn confirmed(&self, producer: &Uuid) -> Result<Confirmed> {
        self.read(|connection| confirmed::read(connection, producer))
    }

    /// Which database this is: another one after each reset.
    pub(super) fn id(&self) -> Uuid {
        *self.state.id.lock()
    }

    /// Forgets every count and processor.
    pub(super) fn clear(&self) -> Reply {
        self.write(Job::Clear)
    }

    fn write(&self, job: Job) -> Reply {
        let jobs = self.jobs.lock().clone().ok_or("the store is closed")?;
        let (reply, answer) = bounded(1);
        jobs.send_timeout((job, reply), WAIT).map_err(|_| "the store takes no more updates")?;
        answer.recv_timeout(WAIT).map_err(|_| "the store did not answer in time")?
    }

    /// Whether counts can be stored and read; if not, why.
    pub(super) fn health(&self) -> Reply {
        if self.state.failure.lock().is_some() {
            self.write(Job::Probe)?;
        }
        self.read(read_totals).map(|_| ()).map_err(|error| format!("{error:#}").into())
    }

    /// The sums after the newest commit.
    pub(super) fn totals(&self) -> Totals {
        *self.state.totals.lock()
    }

    /// Differs from its value of before if any count may have changed.
    pub(super) fn revision(&self) -> u64 {
        self.state.revision.load(Ordering::Acquire)
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let connection = self.readers.1.recv_timeout(WAIT).context("every reader is busy")?;
        let result = query(&connection);
        // Cannot be full: this is the connection taken above.
        let _ = self.readers.0.try_send(connection);
        result
    }

    /// Rows, and how many there are in the range.
    pub(super) fn list(&self, query: &ListQuery) -> Result<(Vec<Video>, u64)> {
        let column = query.column.name();
        let (direction, beyond) = if query.descending { ("DESC", "<") } else { ("ASC", ">") };
        let (low, high) = query.range.unwrap_or((Uuid::nil(), Uuid::max()));
        let mut conditions = Vec::new();
        let mut values: Vec<Value> = vec![query.limit.min(LIST_MAX).into(), query.offset.into()];
        let id = |id: Uuid| Value::Blob(id.as_bytes().to_vec());
        if query.range.is_some() {
            conditions.push("video_id BETWEEN ?3 AND ?4".to_owned());
            values.extend([id(low), id(high)]);
        }
        if let Some(Cursor { value, video_id }) = query.after {
            let (first, second) = (values.len() + 1, values.len() + 2);
            conditions.push(format!("({column}, video_id) {beyond} (?{first}, ?{second})"));
            let value = if query.column == Column::VideoId { id(video_id) } else { value.into() };
            values.extend([value, id(video_id)]);
        }
        let condition = match &conditions[..] {
            [] => String::new(),
            conditions => format!("WHERE {}", conditions.join(" AND ")),
        };
        // The inner query walks an index alone, so that skipping to a far page reads no rows.
        let sql = format!(
            "SELECT v.video_id, v.plays, v.updated_at, v.last_played_at FROM
               (SELECT video_id FROM videos {condition} ORDER BY {column} {direction}, video_id {direction}
                LIMIT ?1 OFFSET ?2) AS page
             CROSS JOIN videos AS v ON v.video_id = page.video_id
             ORDER BY v.{column} {direction}, v.video_id {direction}",
        );
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement
                .query_map(params_from_iter(&values), read_video)?
                .collect::<Result<Vec<_>, _>>()?;
            let matching = match query.range {
                Some(_) => connection
                    .prepare_cached("SELECT count(*) FROM videos WHERE video_id BETWEEN ?1 AND ?2")?
                    .query_row([low, high], |row| row.get::<_, i64>(0))?
                    .unsigned_abs(),
                None => self.totals().videos,
            };
            Ok((rows, matching))
        })
    }

    /// One video and its history, oldest first.
    pub(super) fn video(&self, video_id: Uuid) -> Result<Option<(Video, Vec<HistoryPoint>)>> {
        self.read(|connection| {
            let video = connection
                .prepare_cached(
                    "SELECT video_id, plays, updated_at, last_played_at FROM videos WHERE video_id = ?1",
                )?
                .query_row([video_id], read_video)
                .optional()?;
            let Some(video) = video else { return Ok(None) };
            let history = connection
                .prepare_cached("SELECT minute, plays FROM history WHERE video_id = ?1 ORDER BY minute")?
                .query_map([video_id], |row| {
                    Ok(HistoryPoint { at: row.get::<_, i64>(0)? * 60_000, plays: row.get(1)? })
                })?
                .collect::<Result<_, _>>()?;
            Ok(Some((video, history)))
        })
    }

    /// Every video's plays, ordered by id.
    pub(super) fn counts(&self) -> Result<Vec<(Uuid, u64)>> {
        self.read(read_all)
    }

    /// Lets the updates that wait go in, and closes the files. Later calls do nothing.
    pub(super) fn shutdown(&self) {
        drop(self.jobs.lock().take());
        // SQLite folds the WAL into the database when the last connection closes: the writer's.
        while self.readers.1.try_recv().is_ok() {}
        if let Some(writer) = self.writer.lock().take() {
            writer.join();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Every (video, plays) in `directory`, ordered by id; `None` where no dashboard has run.
pub(super) fn read_counts(directory: &Path) -> Result<Option<Vec<(Uuid, u64)>>> {
    let reader = SCHEMA.open_reader(&directory.join(FILE))?;
    reader.as_ref().map(read_all).transpose()
}

/// Removes the database. The caller holds the directory's dashboard lock.
pub(super) fn remove(directory: &Path) -> Result<()> {
    sqlite::remove(&directory.join(FILE))
}

fn open_writer(file: &Path) -> Result<Connection> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    open_in(file, boot.trim())
}

/// Opens the database in this start of the machine.
fn open_in(file: &Path, boot: &str) -> Result<Connection> {
    // SQLite removes it when the last connection closes in order.
    let was_closed = !file.with_extension("sqlite3-wal").exists();
    // A checkpoint every 16,000 pages and not every 1,000: updates of a million videos touch pages all over
    // the file, and each checkpoint writes every one of them (20,000 counts took 8.7 s at 4,000, 5.6 at 16,000).
    let connection = SCHEMA.open(
        file,
        "PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -65536;
         PRAGMA wal_autocheckpoint = 16000; PRAGMA journal_size_limit = 134217728;",
    )?;
    connection.execute(
        "INSERT INTO identity VALUES (1, ?1, ?2) ON CONFLICT DO UPDATE SET
           dashboard = iif(?3 OR boot = excluded.boot, dashboard, excluded.dashboard), boot = excluded.boot",
        params![Uuid::new_v4(), boot, was_closed],
    )?;
    Ok(connection)
}

fn read_id(connection: &Connection) -> Result<Uuid> {
    Ok(connection.query_row("SELECT dashboard FROM identity", [], |row| row.get(0))?)
}

fn read_totals(connection: &Connection) -> Result<Totals> {
    let read =
        connection.prepare_cached("SELECT videos, plays FROM totals")?.query_row([], |row| {
            Ok(Totals {
                videos: row.get::<_, i64>(0)?.unsigned_abs(),
                plays: row.get::<_, i64>(1)?.unsigned_abs(),
            })
        })?;
    Ok(read)
}

fn read_all(connection: &Connection) -> Result<Vec<(Uuid, u64)>> {
    let mut statement =
        connection.prepare("SELECT video_id, plays FROM videos ORDER BY video_id")?;
    let rows =
        statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read_video(row: &rusqlite::Row<'_>) -> rusqlite::Result<Video> {
    let last_played_at: i64 = row.get(3)?;
    Ok(Video {
        video_id: row.get(0)?,
        plays: row.get(1)?,
        updated_at: row.get(2)?,
        last_played_at: (last_played_at > 0).then_some(last_played_at),
    })
}

/// Ms since the Unix epoch.
pub(super) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The writer: takes what waits, commits it together, then answers.
fn write_all(mut connection: Connection, inbox: &Receiver<Posted>, state: &State) {
    while let Ok(first) = inbox.recv() {
        let mut group = vec![first];
        group.extend(inbox.try_iter().take(GROUP_MAX - 1));
        let before = *state.totals.lock();
        let outcome = commit(&mut connection, &group, before);
        let reply = match outcome {
            Ok((totals, changed, id)) => {
                *state.totals.lock() = totals;
                id.into_iter().for_each(|id| *state.id.lock() = id);
                if changed {
                    state.revision.fetch_add(1, Ordering::Release);
                }
                *state.failure.lock() = None;
                Ok(())
            }
            Err(error) => {
                let reason: Arc<str> = format!("the counts cannot be stored: {error:#}").into();
                log::error!("{reason}");
                *state.failure.lock() = Some(Arc::clone(&reason));
                Err(reason)
            }
        };
        for (_, caller) in group {
            // A caller that gave up waiting will send again.
            let _ = caller.try_send(reply.clone());
        }
    }
}

/// The sums after it, whether a count changed, and the database's new id if it was reset.
fn commit(
    connection: &mut Connection,
    group: &[Posted],
    before: Totals,
) -> Result<(Totals, bool, Option<Uuid>)> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let now = now_ms();
    let mut totals = before;
    let (mut changed, mut id) = (false, None);
    for (job, _) in group {
        match job {
            Job::Counts(update) => changed |= merge(&transaction, update, now, &mut totals)?,
            Job::Confirmed(update) => confirmed::merge_all(&transaction, &update.producers, now)?,
            Job::Clear => {
                transaction.execute_batch(
                    "DELETE FROM plays; DELETE FROM videos; DELETE FROM history; DELETE FROM processors;
                     DELETE FROM confirmed;",
                )?;
                let drawn = Uuid::new_v4();
                transaction.execute("UPDATE identity SET dashboard = ?1", [drawn])?;
                id = Some(drawn);
                totals = Totals::default();
                changed = true;
            }
            Job::Probe => changed = true,
        }
    }
    if changed {
        transaction
            .prepare_cached("UPDATE totals SET videos = ?1, plays = ?2")?
            .execute([signed(totals.videos), signed(totals.plays)])?;
    }
    failpoint::hit("dashboard-before-commit");
    transaction.commit()?;
    failpoint::hit("dashboard-after-commit");
    Ok((totals, changed, id))
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Raises the processor's counts to those of the update; lower ones change nothing.
fn merge(
    transaction: &Transaction<'_>,
    update: &CountsUpdate,
    now: i64,
    totals: &mut Totals,
) -> Result<bool> {
    let processor = processor_number(transaction, update)?;
    let mut changed = false;
    for count in &update.counts {
        changed |= merge_video(transaction, processor, count, now, totals)?;
    }
    Ok(changed)
}

fn processor_number(transaction: &Transaction<'_>, update: &CountsUpdate) -> Result<i64> {
    let known = transaction
        .prepare_cached(
            "UPDATE processors SET version = max(version, ?2) WHERE processor = ?1 RETURNING number",
        )?
        .query_row(params![update.processor, signed(update.version)], |row| row.get(0))
        .optional()?;
    if let Some(number) = known {
        return Ok(number);
    }
    let count: i64 =
        transaction.query_row("SELECT count(*) FROM processors", [], |row| row.get(0))?;
    if count >= PROCESSORS_MAX {
        bail!("{PROCESSORS_MAX} processors are known already; reset the dashboard");
    }
    transaction.execute(
        "INSERT INTO processors (processor, version) VALUES (?1, ?2)",
        params![update.processor, signed(update.version)],
    )?;
    Ok(transaction.last_insert_rowid())
}

fn merge_video(
    transaction: &Transaction<'_>,
    processor: i64,
    count: &VideoCount,
    now: i64,
    totals: &mut Totals,
) -> Result<bool> {
    let id = count.video_id;
    let plays = signed(count.plays);
    let played = signed(count.last_played_at.unwrap_or(0));
    let known: Option<i64> = transaction
        .prepare_cached("SELECT plays FROM plays WHERE video_id = ?1 AND processor = ?2")?
        .query_row(params![id, processor], |row| row.get(0))
        .optional()?;
    let delta = match known {
        Some(known) if known >= plays => return Ok(false),
        Some(known) => plays - known,
        None => plays,
    };
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO plays (video_id, processor, plays) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![id, processor, plays])?;
    let video: Option<i64> = transaction
        .prepare_cached("SELECT plays FROM videos WHERE video_id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    // Added here and not in SQL, where a sum past i64 would become a float.
    let sum = video.unwrap_or(0).saturating_add(delta);
    if video.is_some() {
        transaction
            .prepare_cached(
                "UPDATE videos SET plays = ?2, updated_at = ?3, last_played_at = max(last_played_at, ?4)
                 WHERE video_id = ?1",
            )?
            .execute(params![id, sum, now, played])?;
    } else {
        transaction
            .prepare_cached(
                "INSERT INTO videos (video_id, plays, updated_at, last_played_at) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![id, sum, now, played])?;
        totals.videos += 1;
    }
    let minute = now / 60_000;
    transaction
        .prepare_cached("INSERT OR REPLACE INTO history (video_id, slot, minute, plays) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id, minute % HISTORY_SLOTS, minute, sum])?;
    totals.plays = totals.plays.saturating_add(delta.unsigned_abs());
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path(), 2).unwrap();
        (temp, store)
    }

    fn update(processor: u128, version: u64, counts: &[(u128, u64)]) -> CountsUpdate {
        CountsUpdate {
            processor: Uuid::from_u128(processor),
            version,
            counts: counts
                .iter()
                .map(|(id, plays)| VideoCount {
                    video_id: Uuid::from_u128(*id),
                    plays: *plays,
                    last_played_at: None,
                })
                .collect(),
            consumption: None,
        }
    }

    fn all(store: &Store) -> Vec<(u128, u64)> {
        store.counts().unwrap().into_iter().map(|(id, plays)| (id.as_u128(), plays)).collect()
    }

    #[test]
    fn repeats_old_versions_and_any_order_change_nothing() {
        let (_temp, store) = store();
        store.merge(update(1, 2, &[(7, 5), (8, 1)])).unwrap();
        let revision = store.revision();
        store.merge(update(1, 2, &[(7, 5), (8, 1)])).unwrap();
        store.merge(update(1, 1, &[(7, 3)])).unwrap();
        assert_eq!(store.revision(), revision);
        assert_eq!(all(&store), [(7, 5), (8, 1)]);
        store.merge(update(2, 1, &[(7, 10)])).unwrap();
        assert_eq!(all(&store), [(7, 15), (8, 1)]);
        assert_eq!(store.totals(), Totals { videos: 2, plays: 16 });
    }

    #[test]
    fn it_is_all_there_after_opening_again() {
        let (temp, store) = store();
        store.merge(update(1, 1, &[(7, 5), (8, 0)])).unwrap();
        drop(store);
        assert!(!temp.path().join(format!("{FILE}-wal")).exists());
        assert_eq!(read_counts(temp.path()).unwrap().unwrap().len(), 2);
        let store = Store::open(temp.path(), 1).unwrap();
        store.merge(update(1, 2, &[(7, 6)])).unwrap();
        assert_eq!(all(&store), [(7, 6), (8, 0)]);
        assert_eq!(store.totals(), Totals { videos: 2, plays: 6 });
        store.clear().unwrap();
        assert_eq!((all(&store), store.totals()), (vec![], Totals::default()));
    }

    #[test]
    fn lists_are_ordered_paged_and_searched() {
        let (_temp, store) = store();
        let id = |first: u8| u128::from(first) << 120;
        let counts: Vec<_> = (1..=10).map(|n| (id(n), u64::from(n % 3))).collect();
        store.merge(update(1, 1, &counts)).unwrap();
        let query = |column, descending, offset, range| ListQuery {
            column,
            descending,
            limit: 4,
            offset,
            after: None,
            range,
        };
        let listed = |query: ListQuery| -> (Vec<u8>, u64) {
            let (rows, matching) = store.list(&query).unwrap();
            (rows.iter().map(|row| row.video_id.as_bytes()[0]).collect(), matching)
        };
        assert_eq!(listed(query(Column::Plays, true, 0, None)), (vec![8, 5, 2, 10], 10));
        assert_eq!(listed(query(Column::Plays, true, 8, None)), (vec![6, 3], 10));
        assert_eq!(listed(query(Column::VideoId, false, 2, None)), (vec![3, 4, 5, 6], 10));
        let range = (Uuid::from_u128(id(4)), Uuid::from_u128(id(6)));
        assert_eq!(listed(query(Column::Plays, false, 0, Some(range))), (vec![6, 4, 5], 3));
        let (video, history) = store.video(Uuid::from_u128(id(8))).unwrap().unwrap();
        assert_eq!((video.plays, history.len(), history[0].plays), (2, 1, 2));
        assert_eq!(store.video(Uuid::nil()).unwrap(), None);
    }

    #[test]
    fn foreign_newer_and_broken_files_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join(FILE);
        let connection = Connection::open(&file).unwrap();
        connection.execute_batch("CREATE TABLE mine (x)").unwrap();
        let refusal =
            |temp: &tempfile::TempDir| format!("{:#}", Store::open(temp.path(), 1).err().unwrap());
        assert!(refusal(&temp).contains("somebody else's database"), "{}", refusal(&temp));
        drop(connection);
        remove(temp.path()).unwrap();
        drop(Store::open(temp.path(), 1).unwrap());
        Connection::open(&file).unwrap().pragma_update(None, "user_version", 3).unwrap();
        assert!(refusal(&temp).contains("has schema 3, of a newer playcounts; this one knows 2"));
        assert!(read_counts(temp.path()).is_err());
        remove(temp.path()).unwrap();
        assert_eq!(read_counts(temp.path()).unwrap(), None);
        std::fs::write(
            &file,
            "no database at all, but text that is long enough to be read as a header",
        )
        .unwrap();
        assert!(
            refusal(&temp).contains("`playcounts reset` makes a new one"),
            "{}",
            refusal(&temp)
        );
    }

    #[test]
    fn a_database_of_schema_1_keeps_its_counts() {
        let temp = tempfile::tempdir().unwrap();
        let old = Connection::open(temp.path().join(FILE)).unwrap();
        let newer = include_str!("schema_2.sql");
        old.execute_batch(&SCHEMA.sql.replace(newer, "")).unwrap();
        old.execute_batch(
            "INSERT INTO processors VALUES (1, x'00000000000000000000000000000001', 4);
             INSERT INTO plays VALUES (x'00000000000000000000000000000007', 1, 5);
             INSERT INTO videos VALUES (x'00000000000000000000000000000007', 5, 1, 1);
             UPDATE totals SET videos = 1, plays = 5;
             PRAGMA application_id = 0x706c6179; PRAGMA user_version = 1;",
        )
        .unwrap();
        old.prepare("SELECT * FROM confirmed").unwrap_err();
        drop(old);
        let store = Store::open(temp.path(), 1).unwrap();
        assert_eq!((all(&store), store.totals().plays), (vec![(7, 5)], 5));
        store.merge(update(1, 5, &[(7, 6)])).unwrap();
        assert_eq!(all(&store), [(7, 6)]);
        assert_eq!(store.confirmed(&Uuid::nil()).unwrap(), Confirmed::default());
    }

    #[test]
    fn it_is_another_database_after_a_reset() {
        let (temp, store) = store();
        let id = store.id();
        drop(store);
        let store = Store::open(temp.path(), 1).unwrap();
        assert_eq!(store.id(), id);
        store.clear().unwrap();
        assert_ne!(store.id(), id);
        let id = store.id();
        drop(store);
        assert_eq!(Store::open(temp.path(), 1).unwrap().id(), id);
    }

    #[test]
    fn it_is_another_database_after_a_power_loss() {
        let temp = tempfile::tempdir().unwrap();
        let opened = |name: &str, boot: &str| {
            let connection = open_in(&temp.path().join(name), boot).unwrap();
            (read_id(&connection).unwrap(), connection)
        };
        // What a kill leaves: both files as they are.
        let copied = |from: &str, to: &str| {
            for suffix in ["", "-wal"] {
                let path = |name: &str| temp.path().join(format!("{name}{suffix}"));
                std::fs::copy(path(from), path(to)).unwrap();
            }
        };
        let (id, open) = opened("a.sqlite3", "first");
        copied("a.sqlite3", "b.sqlite3");
        copied("a.sqlite3", "c.sqlite3");
        assert_eq!(opened("b.sqlite3", "first").0, id, "only the process has ended");
        let (other, _open) = opened("c.sqlite3", "second");
        assert_ne!(other, id, "the machine has");
        drop(open);
        assert_eq!(opened("a.sqlite3", "second").0, id, "it was closed before");
    }

    #[test]
    fn a_failing_store_says_so_and_recovers() {
        let (temp, store) = store();
        store.merge(update(1, 1, &[(7, 5)])).unwrap();
        let other = Connection::open(temp.path().join(FILE)).unwrap();
        other.execute_batch("ALTER TABLE plays RENAME TO gone").unwrap();
        let reason = store.merge(update(1, 2, &[(7, 6)])).unwrap_err();
        assert!(reason.starts_with("the counts cannot be stored: no such table"), "{reason}");
        assert_eq!(store.totals(), Totals { videos: 1, plays: 5 });
        // Reads go on.
        assert_eq!(all(&store), [(7, 5)]);
        other.execute_batch("ALTER TABLE gone RENAME TO plays").unwrap();
        store.health().unwrap();
        store.merge(update(1, 2, &[(7, 6)])).unwrap();
        assert_eq!(all(&store), [(7, 6)]);
    }

    #[test]
    fn sums_past_every_integer_stay_integers() {
        let (_temp, store) = store();
        let most = crate::api::MAX_PLAYS;
        for processor in 1..=3 {
            store.merge(update(processor, 1, &[(7, most)])).unwrap();
        }
        assert_eq!(all(&store), [(7, 3 * most)]);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(16))]
        #[test]
        fn any_history_of_updates_ends_in_the_sum_of_maxima(
            updates in proptest::collection::vec((0u128..3, 0u128..5, 0u64..50), 1..60)
        ) {
            let (_temp, store) = store();
            let mut model = std::collections::BTreeMap::new();
            for (processor, video, plays) in updates {
                store.merge(update(processor, 1, &[(video, plays)])).unwrap();
                let known = model.entry((video, processor)).or_insert(0);
                *known = plays.max(*known);
            }
            let mut sums = std::collections::BTreeMap::new();
            for ((video, _), plays) in model {
                *sums.entry(video).or_insert(0) += plays;
            }
            let want: Vec<_> = sums.into_iter().collect();
            proptest::prop_assert_eq!(store.totals().plays, want.iter().map(|(_, plays)| plays).sum::<u64>());
            proptest::prop_assert_eq!(store.totals().videos, want.len() as u64);
            proptest::prop_assert_eq!(all(&store), want);
        }
    }
}
