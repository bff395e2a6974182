//! The dashboard's counts: in memory to be read, in SQLite to be kept. Knows nothing of HTTP.
//!
//! An update is one row of a log, committed before it is answered; updates that wait at the same time share a
//! transaction. Then it is in the [`Index`], from which every list is answered without SQLite. Every half minute the
//! videos that changed are folded into the table of counts and the history, in the order of their ids, some at a time
//! (`writer`). Played again over what was folded, the log changes nothing: counts only grow, and history is written in
//! the transaction that writes the count.
//!
//! One thread, `dash-store`, writes. History is read on the caller's thread, over read-only connections that are lent
//! out one at a time.
//!
//! `synchronous=NORMAL`: what was accepted survives a kill -9. After a power loss the newest commits may be
//! missing; then the database takes another id, and every processor tells its whole counts again.

mod audit;
mod confirmed;
mod history;
mod index;
mod order;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use nsq_protocol::thread::OwnedThread;
use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::storage::sqlite::{self, Schema};
use crate::wire::{Confirmed, ConfirmedUpdate, CountsUpdate};
use index::{Index, Unfolded};
use writer::{Loaded, Writer};

pub(super) use audit::AuditLine;
pub use history::Keep;
pub(super) use history::{
    BUCKETS_MAX, MinutePoint, Period, Points, Scale, Top, TopVideo, scale_for,
};
pub use index::Totals;
pub(super) use index::{Column, Cursor, LIST_MAX, ListQuery, Page, Video};

/// The file in the data directory.
pub(super) const FILE: &str = "dashboard.sqlite3";

const SCHEMA: Schema = Schema {
    name: "the dashboard's database",
    // "play" in ASCII.
    application: 0x706c_6179,
    version: 3,
    sql: include_str!("schema.sql"),
    migrations: &[include_str!("schema_2.sql"), include_str!("schema_3.sql")],
    way_out: "`playcounts reset` makes a new one",
};

/// Updates that wait for the writer. Each HTTP worker waits with one, so this is never full.
const JOBS: usize = 256;

/// How long a caller waits for the writer, and for a connection to read with.
const WAIT: Duration = Duration::from_secs(20);

enum Job {
    Counts(CountsUpdate),
    Confirmed(ConfirmedUpdate),
    Point(MinutePoint),
    Audit(AuditLine),
    Clear,
    /// Writes without changing anything, and folds if that has failed: is the store well again?
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
    keep: Keep,
    writer: Mutex<Option<OwnedThread<()>>>,
}

/// What the writer shares with those who read.
#[derive(Default)]
struct State {
    // Which database this is: another one after each reset.
    id: Mutex<Uuid>,
    index: RwLock<Index>,
    // Locked by the writer while it commits what it takes out, and by a reader while its snapshot begins: so that
    // no play is in both, or in neither.
    unfolded: RwLock<Unfolded>,
    // Grows with each commit that changed something.
    revision: AtomicU64,
    // Why the newest transaction failed, until one succeeds.
    failure: Mutex<Option<Arc<str>>>,
    // The same of the newest fold.
    fold_failure: Mutex<Option<Arc<str>>>,
}

impl Store {
    /// Opens the database in `directory`, made if missing, with `readers` connections to read.
    pub(super) fn open(directory: &Path, readers: usize, keep: Keep) -> Result<Self> {
        let file = directory.join(FILE);
        let connection = open_writer(&file)?;
        let Loaded { index, unfolded, numbers } = writer::load(&connection)?;
        let state = Arc::new(State {
            id: Mutex::new(read_id(&connection)?),
            index: RwLock::new(index),
            unfolded: RwLock::new(unfolded),
            ..State::default()
        });
        let pool = bounded(readers);
        for _ in 0..readers {
            let reader = SCHEMA.open_reader(&file)?.context("the database is gone")?;
            pool.0.send(reader).expect("both ends are held here");
        }
        let (jobs, inbox) = bounded(JOBS);
        let writer = {
            let writer = Writer::new(connection, Arc::clone(&state), numbers, keep);
            OwnedThread::spawn("dash-store", move || writer.run(&inbox))?
        };
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            readers: pool,
            state,
            keep,
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

    /// Keeps a minute of the charts.
    pub(super) fn add_point(&self, point: MinutePoint) -> Reply {
        self.write(Job::Point(point))
    }

    /// Keeps a line of who touched what.
    pub(super) fn add_audit(&self, line: AuditLine) -> Reply {
        self.write(Job::Audit(line))
    }

    /// The newest lines of who touched what, newest first.
    pub(super) fn audit(&self) -> Result<Vec<AuditLine>> {
        self.read(audit::newest)
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
        let has_failed =
            self.state.failure.lock().is_some() || self.state.fold_failure.lock().is_some();
        if has_failed {
            self.write(Job::Probe)?;
        }
        if let Some(reason) = &*self.state.fold_failure.lock() {
            return Err(Arc::clone(reason));
        }
        self.read(read_id).map(|_| ()).map_err(|error| format!("{error:#}").into())
    }

    /// The sums after the newest commit.
    pub(super) fn totals(&self) -> Totals {
        self.state.index.read().totals()
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

    /// Reads history: what `pick` takes of what is not folded, and a snapshot of the tables of the same moment.
    fn read_history<P, T>(
        &self,
        pick: impl FnOnce(&Unfolded) -> P,
        query: impl FnOnce(&Connection, P) -> Result<T>,
    ) -> Result<T> {
        self.read(|connection| {
            let unfolded = self.state.unfolded.read();
            let snapshot = connection.unchecked_transaction()?;
            // A transaction begins with its first read.
            read_id(&snapshot)?;
            let picked = pick(&unfolded);
            drop(unfolded);
            query(&snapshot, picked)
        })
    }

    /// A page of videos.
    pub(super) fn list(&self, query: &ListQuery) -> Page {
        self.state.index.read().list(query)
    }

    /// One video, and its place by plays: 1 for the most.
    pub(super) fn video(&self, id: Uuid) -> Option<(Video, u64)> {
        let index = self.state.index.read();
        let video = index.video(&id)?;
        let rank = index.rank(&video);
        Some((video, rank))
    }

    /// A video's plays in each bucket of a period that has any: (start in ms, plays), oldest first.
    pub(super) fn series(&self, id: Uuid, scale: Scale, period: Period) -> Result<Vec<(i64, i64)>> {
        self.read_history(
            |unfolded| unfolded.get(&id).cloned().unwrap_or_default(),
            |snapshot, own| history::series(snapshot, &own, &id, scale, period),
        )
    }

    /// The buckets from the oldest that is kept to the present one.
    pub(super) fn kept(&self, scale: Scale) -> Result<Period> {
        self.read(|connection| history::kept(connection, scale, now_ms()))
    }

    /// Since when plays by `scale` are all kept, in ms; 0: for ever.
    pub(super) fn kept_from(&self, scale: Scale) -> i64 {
        scale.oldest(self.keep, now_ms()).map_or(0, |oldest| oldest * scale.step_ms())
    }

    /// The most played videos of a period.
    pub(super) fn top(&self, scale: Scale, period: Period, limit: usize) -> Result<Top> {
        let flat = |unfolded: &Unfolded| -> Vec<(Uuid, i64, i64)> {
            let minutes = |(id, minutes): (&Uuid, &Vec<(i64, i64)>)| {
                let id = *id;
                minutes.clone().into_iter().map(move |(minute, plays)| (id, minute, plays))
            };
            unfolded.iter().flat_map(minutes).collect()
        };
        self.read_history(flat, |snapshot, unfolded| {
            history::top(snapshot, &unfolded, self.keep, now_ms(), scale, period, limit)
        })
    }

    /// The finest scale that is kept for all of `from` to `to` in ms and has at most `buckets_max` buckets.
    pub(super) fn scale_for(&self, from: i64, to: i64, buckets_max: i64) -> Scale {
        scale_for(self.keep, now_ms(), from, to, buckets_max)
    }

    /// The charts from `from` to `to` in ms.
    pub(super) fn points(&self, from: i64, to: i64) -> Result<Points> {
        self.read(|connection| history::points(connection, from, to))
    }

    /// Every video's plays, ordered by id.
    pub(super) fn counts(&self) -> Vec<(Uuid, u64)> {
        self.state.index.read().counts()
    }

    /// Lets the updates that wait go in, folds everything and closes the files. Later calls do nothing.
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
    let Some(reader) = SCHEMA.open_reader(&directory.join(FILE))? else { return Ok(None) };
    Ok(Some(writer::load(&reader)?.index.counts()))
}

/// Writes a copy of the database in `directory` to the new file `to`, also while a dashboard runs on it; `None` where
/// none has run.
pub(super) fn backup(directory: &Path, to: &Path) -> Result<Option<()>> {
    let Some(reader) = SCHEMA.open_reader(&directory.join(FILE))? else { return Ok(None) };
    let name = to.to_str().context("the path of a backup must be UTF-8")?;
    reader
        .execute("VACUUM INTO ?1", [name])
        .with_context(|| format!("cannot write {name}, which must not exist yet"))?;
    Ok(Some(()))
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
    // The writer makes the checkpoints, where nobody waits for its locks.
    let connection = SCHEMA.open(
        file,
        "PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;
         PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 67108864;",
    )?;
    connection.execute(
        "INSERT INTO identity VALUES (1, ?1, ?2) ON CONFLICT DO UPDATE SET
           dashboard = iif(?3 OR boot = excluded.boot, dashboard, excluded.dashboard), boot = excluded.boot",
        params![Uuid::new_v4(), boot, was_closed],
    )?;
    Ok(connection)
}

fn read_id(connection: &Connection) -> Result<Uuid> {
    Ok(connection
        .prepare_cached("SELECT dashboard FROM identity")?
        .query_row([], |row| row.get(0))?)
}

/// Ms since the Unix epoch.
pub(super) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::VideoCount;

    fn store() -> (tempfile::TempDir, Store) {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path(), 2, Keep::default()).unwrap();
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
        store.counts().into_iter().map(|(id, plays)| (id.as_u128(), plays)).collect()
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
        let store = Store::open(temp.path(), 1, Keep::default()).unwrap();
        store.merge(update(1, 2, &[(7, 6)])).unwrap();
        assert_eq!(all(&store), [(7, 6), (8, 0)]);
        assert_eq!(store.totals(), Totals { videos: 2, plays: 6 });
        store.clear().unwrap();
        assert_eq!((all(&store), store.totals()), (vec![], Totals::default()));
    }

    #[test]
    fn history_is_whole_before_while_and_after_it_is_folded() {
        let (temp, store) = store();
        let minute = now_ms() / 60_000;
        let period = Period { first: minute - 10, last: minute + 10 };
        let id = Uuid::from_u128(7);
        let plays = |store: &Store| -> i64 {
            [Scale::Minute, Scale::Hour, Scale::Day]
                .map(|scale| {
                    let period = Period::of(scale, period.first * 60_000, period.last * 60_000);
                    store.series(id, scale, period).unwrap().iter().map(|(_, plays)| plays).sum()
                })
                .into_iter()
                .reduce(|one: i64, other| {
                    assert_eq!(one, other);
                    one
                })
                .unwrap()
        };
        store.merge(update(1, 1, &[(7, 5), (8, 1)])).unwrap();
        store.merge(update(2, 1, &[(7, 2)])).unwrap();
        assert_eq!(plays(&store), 7);
        let top = store.top(Scale::Minute, period, 1).unwrap();
        assert_eq!((top.total, top.videos, top.top[0].plays), (8, 2, 7));
        assert_eq!((top.top[0].video_id, top.top[0].spark.iter().sum::<i64>()), (id, 7));
        drop(store);
        let log_is_empty = || {
            let file = Connection::open(temp.path().join(FILE)).unwrap();
            file.query_row("SELECT count(*) = 0 FROM log", [], |row| row.get::<_, bool>(0)).unwrap()
        };
        assert!(log_is_empty(), "it was closed in order");
        let store = Store::open(temp.path(), 1, Keep::default()).unwrap();
        assert_eq!(plays(&store), 7);
        store.merge(update(1, 2, &[(7, 6)])).unwrap();
        assert_eq!(plays(&store), 8);
        assert_eq!(
            store.top(Scale::Hour, Period::of(Scale::Hour, 0, i64::MAX), 5).unwrap().total,
            9
        );
        assert_eq!(store.video(id).unwrap().1, 1);
    }

    #[test]
    fn a_copy_is_written_while_it_runs() {
        let (temp, store) = store();
        store.merge(update(1, 1, &[(7, 5)])).unwrap();
        let to = temp.path().join("copy");
        std::fs::create_dir(&to).unwrap();
        backup(temp.path(), &to.join(FILE)).unwrap().unwrap();
        store.merge(update(1, 2, &[(7, 6)])).unwrap();
        assert_eq!(read_counts(&to).unwrap().unwrap(), [(Uuid::from_u128(7), 5)]);
        assert_eq!(read_counts(temp.path()).unwrap().unwrap(), [(Uuid::from_u128(7), 6)]);
        let again = format!("{:#}", backup(temp.path(), &to.join(FILE)).unwrap_err());
        assert!(again.contains("which must not exist yet"), "{again}");
        assert_eq!(backup(&to.join("none"), &to.join("x")).unwrap(), None);
    }

    #[test]
    fn foreign_newer_and_broken_files_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join(FILE);
        let connection = Connection::open(&file).unwrap();
        connection.execute_batch("CREATE TABLE mine (x)").unwrap();
        let refusal = |temp: &tempfile::TempDir| {
            format!("{:#}", Store::open(temp.path(), 1, Keep::default()).err().unwrap())
        };
        assert!(refusal(&temp).contains("somebody else's database"), "{}", refusal(&temp));
        drop(connection);
        remove(temp.path()).unwrap();
        drop(Store::open(temp.path(), 1, Keep::default()).unwrap());
        Connection::open(&file).unwrap().pragma_update(None, "user_version", 4).unwrap();
        assert!(refusal(&temp).contains("has schema 4, of a newer playcounts; this one knows 3"));
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
        old.execute_batch(include_str!("schema_1.sql")).unwrap();
        old.execute_batch(
            "INSERT INTO processors VALUES (1, x'00000000000000000000000000000001', 4);
             INSERT INTO plays VALUES (x'00000000000000000000000000000007', 1, 5);
             INSERT INTO videos VALUES (x'00000000000000000000000000000007', 5, 1, 1);
             INSERT INTO history VALUES (x'00000000000000000000000000000007', 1, 61, 2);
             INSERT INTO history VALUES (x'00000000000000000000000000000007', 3, 63, 5);
             UPDATE totals SET videos = 1, plays = 5;
             PRAGMA application_id = 0x706c6179; PRAGMA user_version = 1;",
        )
        .unwrap();
        old.prepare("SELECT * FROM confirmed").unwrap_err();
        drop(old);
        let store = Store::open(temp.path(), 1, Keep::default()).unwrap();
        assert_eq!((all(&store), store.totals().plays), (vec![(7, 5)], 5));
        let series = |scale, last| {
            store.series(Uuid::from_u128(7), scale, Period { first: 0, last }).unwrap()
        };
        assert_eq!(series(Scale::Minute, 1_000), [(63 * 60_000, 3)]);
        assert_eq!(series(Scale::Hour, 2_000), [(3_600_000, 3)]);
        assert_eq!(series(Scale::Day, 2_000), [(0, 3)]);
        store.merge(update(1, 5, &[(7, 6)])).unwrap();
        assert_eq!(all(&store), [(7, 6)]);
        assert_eq!(store.confirmed(&Uuid::nil()).unwrap(), Confirmed::default());
    }

    #[test]
    fn it_is_another_database_after_a_reset() {
        let (temp, store) = store();
        let id = store.id();
        drop(store);
        let store = Store::open(temp.path(), 1, Keep::default()).unwrap();
        assert_eq!(store.id(), id);
        store.clear().unwrap();
        assert_ne!(store.id(), id);
        let id = store.id();
        drop(store);
        assert_eq!(Store::open(temp.path(), 1, Keep::default()).unwrap().id(), id);
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
        other.execute_batch("ALTER TABLE log RENAME TO gone").unwrap();
        let reason = store.merge(update(1, 2, &[(7, 6)])).unwrap_err();
        assert!(reason.starts_with("the counts cannot be stored: no such table"), "{reason}");
        assert_eq!(store.totals(), Totals { videos: 1, plays: 5 });
        // Reads go on.
        assert_eq!(all(&store), [(7, 5)]);
        other.execute_batch("ALTER TABLE gone RENAME TO log").unwrap();
        store.health().unwrap();
        store.merge(update(1, 2, &[(7, 6)])).unwrap();
        assert_eq!(all(&store), [(7, 6)]);
    }

    #[test]
    fn sums_past_every_integer_stay_integers() {
        let (_temp, store) = store();
        let most = crate::wire::MAX_PLAYS;
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
