//! Whose files they are: `run` throws away only what a `run` made, a part goes on only from what a part made, and what is
//! damaged or somebody else's is never touched. Every state of a data directory, and every command on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use playcounts::storage::row_check;
use rusqlite::Connection;
use rustix::process::Signal;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{self, Broker, Running, copy_all, output, post};

/// How a data directory was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    ByRun,
    ByParts,
    /// A run's, of which that part's row does not fit its check.
    Damaged(&'static str),
    /// By somebody else: databases under our names.
    Foreign,
    /// By a dashboard and a processor of an older version. An outbox of one is in `crash/outbox.rs`.
    Older,
}

/// What a command does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Starts,
    /// Ends with 1 and that text, and has changed nothing.
    Refuses(&'static str),
}

const COMMANDS: [&str; 4] = ["run", "dashboard", "process", "produce"];

/// One row for each state: what `run`, `dashboard`, `process` and `produce` do. There is no outbox of a run.
const TABLE: [(Left, [Does; 4]); 8] = {
    use Does::{Refuses, Starts};
    const FOREIGN: Does =
        Refuses("but somebody else's database; give --data-dir another directory");
    const DAMAGED: Does = Refuses("does not fit its check");
    [
        (Left::Nothing, [Starts, Starts, Starts, Starts]),
        (
            Left::ByRun,
            [
                Starts,
                Refuses(
                    "dashboard.sqlite3 holds a simulation's (`run`) counts; give --data-dir another directory, or `playcounts reset --data-dir ",
                ),
                Refuses(
                    "ledger.sqlite3 holds a simulation's (`run`) counts; give --data-dir another directory, or `playcounts reset --data-dir ",
                ),
                Starts,
            ],
        ),
        (
            Left::ByParts,
            [
                Refuses(
                    "dashboard.sqlite3 holds a dashboard's (`dashboard`) counts; give --data-dir another directory, or `playcounts reset --data-dir ",
                ),
                Starts,
                Starts,
                Starts,
            ],
        ),
        (Left::Damaged("dashboard"), [DAMAGED, DAMAGED, Refuses("a simulation's"), Starts]),
        (Left::Damaged("ledger"), [DAMAGED, Refuses("a simulation's"), DAMAGED, Starts]),
        (
            Left::Damaged("outbox"),
            [Starts, Refuses("a simulation's"), Refuses("a simulation's"), DAMAGED],
        ),
        (Left::Foreign, [FOREIGN, FOREIGN, FOREIGN, FOREIGN]),
        (Left::Older, [Refuses("a dashboard's (`dashboard`) counts"), Starts, Starts, Starts]),
    ]
};

/// What all commands talk to.
struct World {
    _parts: Vec<Running>,
    broker: Broker,
    url: String,
    made: TempDir,
}

impl World {
    fn new() -> Self {
        let made = tempfile::tempdir().unwrap();
        let dir = made.path();
        let broker = Broker::ours(dir);
        let (dashboard, url) = support::dashboard(dir);
        let counts = format!(
            "process --nsqd-tcp-address {} --dashboard-url {url} --data-dir counts --update-interval 100ms",
            broker.tcp()
        );
        let process = Running::start(dir, &counts.split(' ').collect::<Vec<_>>());
        let world = Self { _parts: vec![dashboard, process], broker, url, made };
        let run = "run --num-messages 100 --http-address 127.0.0.1:0 --exit --data-dir by-run";
        support::assert_exit(&output(world.made.path(), &run.split(' ').collect::<Vec<_>>()), 0);
        let data = world.made.path().join("by-parts");
        for part in ["process", "produce", "dashboard"] {
            assert_eq!(world.does(part, &data, Does::Starts, 0), Ok(()), "{part}");
        }
        world
    }

    /// A directory that was left so.
    fn left(&self, left: Left) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (made, data) = (self.made.path(), dir.path().join("data"));
        fs::create_dir(&data).unwrap();
        let old = Path::new(env!("CARGO_MANIFEST_DIR"));
        match left {
            Left::Nothing => {}
            Left::ByRun => copy_all(&made.join("by-run"), &data),
            Left::ByParts => copy_all(&made.join("by-parts"), &data),
            Left::Damaged(part) => {
                copy_all(&made.join("by-run"), &data);
                if part == "outbox" {
                    copy_all(&made.join("by-parts/outbox.journal"), &data.join("outbox.journal"));
                    fs::copy(made.join("by-parts/outbox.sqlite3"), data.join("outbox.sqlite3"))
                        .unwrap();
                }
                let sql = match part {
                    "dashboard" => "UPDATE identity SET life = randomblob(16)",
                    "ledger" => "UPDATE ledger SET simulation = NOT simulation",
                    _ => "UPDATE run SET producer = randomblob(16)",
                };
                database(&data, part, sql);
            }
            Left::Foreign => {
                for part in ["dashboard", "ledger", "outbox"] {
                    database(&data, part, "CREATE TABLE mine (x); INSERT INTO mine VALUES (1)");
                }
            }
            Left::Older => {
                let schema = old.join("src/dashboard/store/schema_1.sql");
                let sql = fs::read_to_string(schema).unwrap();
                let sql =
                    format!("{sql}; PRAGMA application_id = 1886151033; PRAGMA user_version = 1;");
                database(&data, "dashboard", &sql);
                copy_all(&old.join("tests/it/data/ledger-2-closed"), &data);
            }
        }
        dir
    }

    /// Runs a command on a directory; whether it starts, and what it said where it did not.
    fn does(&self, command: &str, data: &Path, wanted: Does, in_ledger: u64) -> Result<(), String> {
        let (tcp, url, dir) = (self.broker.tcp(), &self.url, self.made.path());
        let queue = format!("--nsqd-tcp-address {tcp} --dashboard-url {url}");
        let line = match command {
            "run" => "run --num-messages 100 --http-address 127.0.0.1:0 --exit".to_owned(),
            "dashboard" => "dashboard --http-address 127.0.0.1:0".to_owned(),
            "produce" => format!("produce --num-messages 50 --num-videos 7 {queue}"),
            _ => {
                let play = format!(r#"{{"video_id":"{}"}}"#, Uuid::new_v4());
                post(&format!("http://{}/pub?topic=others", self.broker.http()), &play);
                let count = in_ledger + 1;
                format!("process --topic others --num-messages {count} --adopt-ledger {queue}")
            }
        };
        let mut args: Vec<&str> = line.split(' ').collect();
        args.extend(["--data-dir", data.to_str().unwrap()]);
        if (command, wanted) == ("dashboard", Does::Starts) {
            let mut dashboard = Running::start(dir, &args);
            dashboard.wait_for("live at ");
            dashboard.signal(Signal::TERM);
            support::assert_exit(&dashboard.wait(), 0);
            return Ok(());
        }
        let done = output(dir, &args);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        if done.status.success() { Ok(()) } else { Err(said) }
    }
}

/// Changes a part's database, or makes it.
fn database(data: &Path, part: &str, sql: &str) {
    let connection = Connection::open(data.join(format!("{part}.sqlite3"))).unwrap();
    row_check::add_function(&connection).unwrap();
    connection.execute_batch(sql).unwrap();
}

/// All that is kept, without lock files and what SQLite makes to read.
fn kept(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = path.to_string_lossy();
        if path.is_dir() {
            found.extend(kept(&path));
        } else if !name.ends_with(".lock") && !name.ends_with("-shm") && !name.ends_with("-wal") {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

#[test]
fn every_command_takes_its_own_files_and_no_others() {
    let world = World::new();
    for (left, row) in TABLE {
        for (command, wanted) in COMMANDS.into_iter().zip(row) {
            let dir = world.left(left);
            let data = dir.path().join("data");
            let before = kept(&data);
            let in_ledger = match left {
                Left::ByParts => 1,
                // Plays and dead letters.
                Left::Older => 458,
                _ => 0,
            };
            let does = world.does(command, &data, wanted, in_ledger);
            match (wanted, does) {
                (Does::Starts, Ok(())) => {}
                (Does::Refuses(text), Err(said)) => {
                    assert!(said.contains(text), "{command} on {left:?}: {said}");
                    assert!(kept(&data) == before, "{command} on {left:?} has changed something");
                }
                (_, does) => panic!("{command} on {left:?}: {does:?}"),
            }
        }
    }
}
