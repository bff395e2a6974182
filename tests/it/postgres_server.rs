//! A real PostgreSQL for a test: its own temporary directory, user and port, killed and removed on drop.
//!
//! As root it runs as `nobody`, because PostgreSQL refuses root. Its log is in its directory, and is printed where a test
//! fails.
#![allow(dead_code, reason = "each test uses its own part of it")]
#![allow(clippy::print_stderr, reason = "a fixture: what it prints is for a test")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::ports::free_addrs;
use crate::unpacked;

/// How long a start, a stop or a statement by psql may take, under load.
const DEADLINE: Duration = Duration::from_secs(60);

/// nobody, and its group.
const NOBODY: u32 = 65_534;

/// The user of [`Postgres::url`], which owns the database of that name, and its password.
const USER: &str = "playcounts";
const PASSWORD: &str = "never-shown";

/// Where PostgreSQL's programs are: `$POSTGRES_BIN`, else the newest of Debian's, else beside an `initdb` on `$PATH`, else
/// what `scripts/with-postgres` has unpacked.
///
/// Without them the test says so and passes; it fails where `CI=true`.
pub(crate) fn find() -> Option<PathBuf> {
    let is_there = |bin: &PathBuf| bin.join("initdb").is_file() && bin.join("postgres").is_file();
    let newest = |base: &Path| {
        let all = fs::read_dir(base.join("usr/lib/postgresql")).ok()?;
        let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
        let newest = all.flatten().map(|entry| entry.path()).max_by_key(|path| number(path))?;
        Some(newest.join("bin")).filter(is_there)
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/postgres");
    let found = match std::env::var_os("POSTGRES_BIN").filter(|bin| !bin.is_empty()) {
        Some(bin) => Some(PathBuf::from(bin)),
        None => newest(Path::new("/"))
            .or_else(|| std::env::split_paths(&path).find(is_there))
            .or_else(|| newest(&unpacked)),
    };
    if found.is_none() {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!ci, "no PostgreSQL: set POSTGRES_BIN (CI=true forbids to skip)");
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        // Past the test harness, which keeps what the print macros of a passing test say to itself.
        let skipped =
            format!("\n*** SKIPPED {test}: no PostgreSQL; see scripts/with-postgres ***\n");
        let _ = std::io::stderr().write_all(skipped.as_bytes());
    }
    found
}

/// Starts a server, or returns from the test when there is none. Arguments are settings, such as `"max_connections=5"`.
macro_rules! postgres_or_skip {
    ($($setting:expr),* $(,)?) => {
        match $crate::postgres_server::find() {
            Some(bin) => $crate::postgres_server::Postgres::start(&bin, &[$($setting),*]),
            None => return,
        }
    };
}
pub(crate) use postgres_or_skip;

/// A server, running or not.
pub(crate) struct Postgres {
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    settings: Vec<String>,
    child: Option<Child>,
}

impl Postgres {
    /// Makes a cluster with the user and the database of [`Postgres::url`], and starts it with these settings besides.
    pub(crate) fn start(bin: &Path, settings: &[&str]) -> Self {
        let mut server = Self::new(bin, settings);
        let data = server.data();
        server.run(
            "initdb",
            &[
                "--no-sync",
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "-D",
                text(&data),
            ],
        );
        // Administrators by the socket, all others by password.
        let hba = "local all postgres trust\nlocal all all scram-sha-256\n\
                   host replication postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        fs::write(data.join("pg_hba.conf"), hba).unwrap();
        server.restart();
        server.sql(&format!("CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'"));
        server.sql(&format!("CREATE DATABASE {USER} OWNER {USER}"));
        server
    }

    /// A standby that follows this server by streaming, ready to be read from.
    pub(crate) fn replica(&self) -> Self {
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        let mut replica = Self::new(&self.bin, &settings);
        let port = self.port.to_string();
        let data = replica.data();
        let from = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-D", text(&data)];
        let how = ["-R", "-X", "stream", "-c", "fast", "--no-sync"];
        // Its name there is its directory's, for synchronous_standby_names.
        replica.run("pg_basebackup", &[&from[..], &how[..]].concat());
        replica.settings.push(format!("cluster_name={}", replica.name()));
        replica.restart();
        replica
    }

    /// What a replica is called in `synchronous_standby_names` and `pg_stat_replication`.
    pub(crate) fn name(&self) -> String {
        format!("pg{}", self.port)
    }

    /// Makes a replica a primary, and waits until it can be written to.
    pub(crate) fn promote(&self) {
        // Not by a query that waits for it: what is replayed meanwhile may cancel that.
        self.wait_for("SELECT pg_promote(false)", "t");
        self.wait_for("SELECT pg_is_in_recovery()", "f");
    }

    /// Asks until that is the answer.
    fn wait_for(&self, sql: &str, want: &str) {
        let deadline = Instant::now() + DEADLINE;
        while lossy(&self.try_sql(sql).stdout).trim_end() != want {
            assert!(Instant::now() < deadline, "{sql} is not {want}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until what this server has committed can be read from its replica.
    pub(crate) fn wait_for_replica(&self, replica: &Self) {
        let wanted = self.sql("SELECT pg_current_wal_flush_lsn()");
        replica.wait_for(&format!("SELECT pg_last_wal_replay_lsn() >= '{wanted}'"), "t");
    }

    /// Speaks TLS from now on, with this certificate and key in PEM form.
    pub(crate) fn enable_tls(&self, certificate: &str, key: &str) {
        for (name, pem) in [("server.crt", certificate), ("server.key", key)] {
            let path = self.data().join(name);
            fs::write(&path, pem).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            if geteuid().is_root() {
                chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        self.set("ssl", "on");
    }

    /// Changes a setting that needs no restart, and waits until it holds for new sessions.
    pub(crate) fn set(&self, name: &str, value: &str) {
        self.sql(&format!("ALTER SYSTEM SET {name} = '{value}'"));
        self.reload();
        let deadline = Instant::now() + DEADLINE;
        while self.sql(&format!("SHOW {name}")) != value {
            assert!(Instant::now() < deadline, "{name}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Puts a line in front of its pg_hba.conf, and waits until that is read.
    pub(crate) fn add_hba(&self, line: &str) {
        let path = self.data().join("pg_hba.conf");
        let rest = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{line}\n{rest}")).unwrap();
        let loaded = || self.sql("SELECT pg_conf_load_time()");
        let before = loaded();
        self.reload();
        let deadline = Instant::now() + DEADLINE;
        while loaded() == before {
            assert!(Instant::now() < deadline, "{line}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn reload(&self) {
        self.sql("SELECT pg_reload_conf()");
    }

    fn new(bin: &Path, settings: &[&str]) -> Self {
        // Still free after a crash.
        let port = free_addrs(1).unwrap()[0].port();
        // Short: the path of a socket has at most 107 bytes.
        let dir = std::env::temp_dir().join(format!("pg-{}-{port}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        if geteuid().is_root() {
            chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let settings = settings.iter().map(|setting| setting.to_string()).collect();
        Self { bin: bin.to_owned(), dir, port, settings, child: None }
    }

    /// `postgres://…` for its user, with the password, over TCP.
    pub(crate) fn url(&self) -> String {
        format!("postgres://{USER}:{PASSWORD}@{}/{USER}", self.addr())
    }

    /// `host:port`
    pub(crate) fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its TCP port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where its Unix-domain socket is, and its files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Starts it again, on its port, and waits until it can be written to, or read from as a replica. Does nothing where
    /// it runs.
    pub(crate) fn restart(&mut self) {
        if self.child.is_some() {
            return;
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let data = self.data();
        let mut command = self.command("postgres", &["-D", text(&data), "-k", text(&self.dir)]);
        command.args(["-p", &self.port.to_string()]);
        // What a test kills are processes: what they gave to the system stays, synced or not.
        let common = ["listen_addresses=127.0.0.1", "fsync=off", "shared_buffers=32MB"];
        for setting in common.iter().copied().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        command.stdout(log.try_clone().unwrap()).stderr(log);
        // Left behind by a crash, it says "ready" of the one before.
        let status = self.data().join("postmaster.pid");
        let _ = fs::remove_file(&status);
        self.child = Some(command.spawn().unwrap());
        let deadline = Instant::now() + DEADLINE;
        let is_ready = || {
            let text = fs::read_to_string(&status).unwrap_or_default();
            text.lines().nth(7).is_some_and(|state| matches!(state.trim(), "ready" | "standby"))
        };
        while !is_ready() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `kill -9` of the postmaster and of all its children, which are gone when this returns.
    pub(crate) fn crash(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let children = self.children(child.id());
        let _ = child.kill();
        let _ = child.wait();
        let deadline = Instant::now() + DEADLINE;
        for pid in children {
            while is_running(pid) {
                assert!(Instant::now() < deadline, "process {pid} does not end");
                let _ = kill_process(pid_of(pid), Signal::KILL);
                std::thread::yield_now();
            }
        }
    }

    /// A clean stop, which ends its connections.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        kill_process(pid_of(child.id()), Signal::INT).unwrap();
        let deadline = Instant::now() + DEADLINE;
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not stop\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal to each of its processes: after `Signal::STOP` nothing of it runs, until `Signal::CONT`.
    pub(crate) fn signal(&self, signal: Signal) {
        let Some(child) = &self.child else { return };
        // The postmaster first, so that no new children come.
        let _ = kill_process(pid_of(child.id()), signal);
        for pid in self.children(child.id()) {
            let _ = kill_process(pid_of(pid), signal);
        }
    }

    /// Stops all of it for that long, and lets it go on.
    pub(crate) fn stop_for(&self, duration: Duration) {
        self.signal(Signal::STOP);
        std::thread::sleep(duration);
        self.signal(Signal::CONT);
    }

    /// Runs SQL in its user's database as administrator; what it prints, without heads, columns divided by `|`.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> String {
        let output = self.try_sql(sql);
        assert!(output.status.success(), "{sql}: {}\n{}", lossy(&output.stderr), self.log());
        lossy(&output.stdout).trim_end().to_owned()
    }

    /// As [`Postgres::sql`], where it may fail.
    pub(crate) fn try_sql(&self, sql: &str) -> Output {
        let database = if sql.starts_with("CREATE ROLE") || sql.starts_with("CREATE DATABASE") {
            "postgres"
        } else {
            USER
        };
        let port = self.port.to_string();
        let mut command = self.command("psql", &["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        command.args([
            "-h",
            text(&self.dir),
            "-p",
            &port,
            "-U",
            "postgres",
            "-d",
            database,
            "-c",
            sql,
        ]);
        command.output().unwrap()
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read(self.log_path()).map(|log| lossy(&log)).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Runs one of its programs to its end.
    fn run(&self, program: &str, args: &[&str]) {
        let output = self.command(program, args).output().unwrap();
        assert!(
            output.status.success(),
            "{program}: {}{}",
            lossy(&output.stdout),
            lossy(&output.stderr)
        );
    }

    /// One of its programs, as an unprivileged user, without the environment's PG* variables.
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let program = self.bin.join(program);
        let mut command = if geteuid().is_root() {
            let mut command = Command::new("setpriv");
            let nobody = NOBODY.to_string();
            command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
            command.arg("--").arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(args).current_dir(&self.dir).stdin(Stdio::null());
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG"))
        {
            command.env_remove(name);
        }
        command.envs(unpacked::libraries(&self.bin).map(|paths| ("LD_LIBRARY_PATH", paths)));
        command.env("LC_ALL", "C").env("TZ", "UTC");
        command
    }

    /// The processes that the postmaster has started.
    fn children(&self, postmaster: u32) -> Vec<u32> {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| stat(*pid).is_some_and(|(_, parent)| parent == postmaster)).collect()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
        if std::thread::panicking() {
            eprintln!("--- log of PostgreSQL {}:\n{}", self.addr(), self.log());
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything, in brackets.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(pid as i32).expect("a process id")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
