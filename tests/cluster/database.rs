//! PostgreSQL: found, made in a folder of its own for a user who is not root, started and crashed.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::name::Name;
use crate::network::Network;
use crate::unpacked;

/// The role and the database of the processors.
pub(crate) const ROLE: &str = "playcounts";

/// The role's password: of a server that lives as long as this program.
const PASSWORD: &str = "of a cluster to try";

/// What the server is told besides where it listens: more connections than there are processors, and no sockets in /tmp.
const SETTINGS: [&str; 4] =
    ["max_connections=100", "unix_socket_directories=", "log_lock_waits=on", "deadlock_timeout=1s"];

/// What it logs when it takes connections.
const READY: &str = "database system is ready to accept connections";

/// A server that may be started and killed.
pub(crate) struct Database {
    programs: PathBuf,
    /// Whose the files are, when this runs as root: PostgreSQL refuses root.
    owner: Option<(u32, u32)>,
    data: PathBuf,
    address: SocketAddr,
    passwords: PathBuf,
}

impl Database {
    /// Makes an empty database with the role of the processors. `dir` is where they find its password.
    pub(crate) fn create(dir: &Path, address: SocketAddr) -> Result<Self> {
        let programs = crate::postgres_server::find().context(
            "no PostgreSQL: install the package postgresql, or set POSTGRES_BIN to the directory of initdb",
        )?;
        let owner = rustix::process::geteuid().is_root().then(unprivileged).transpose()?;
        // Of its own, because another user must get there.
        let data = match owner {
            None => dir.join("postgres"),
            Some(_) => {
                std::env::temp_dir().join(format!("playcounts-cluster-{}", std::process::id()))
            }
        };
        let passwords = dir.join("pgpass");
        let database = Self { programs, owner, data, address, passwords };
        database.init()?;
        Ok(database)
    }

    fn init(&self) -> Result<()> {
        fs::DirBuilder::new().mode(0o700).create(&self.data)?;
        if let Some((user, group)) = self.owner {
            std::os::unix::fs::chown(&self.data, Some(user), Some(group))?;
        }
        let mut initdb = self.program(None, "initdb");
        // Nobody is trusted in the end: the next file replaces what this says.
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8"]);
        initdb.args(["--locale=C", "--pgdata"]).arg(&self.data);
        feed(&mut initdb, "")?;
        let who = format!("host {ROLE} {ROLE} 0.0.0.0/0 scram-sha-256\n");
        fs::write(self.data.join("pg_hba.conf"), who)?;
        // One statement a line.
        let role = format!(
            "CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}';\nCREATE DATABASE {ROLE} OWNER {ROLE};\n"
        );
        let mut single = self.program(None, "postgres");
        single.args(["--single", "-D"]).arg(&self.data).arg("postgres");
        feed(&mut single, &role)?;
        let mut file = fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.passwords)?;
        Ok(file.write_all(format!("*:*:*:*:{PASSWORD}\n").as_bytes())?)
    }

    /// A program of PostgreSQL, as the user whose the files are; on the database's machine if one is given.
    fn program(&self, network: Option<&Network>, name: &str) -> Command {
        let path = self.programs.join(name);
        let who = self.owner.map(|(user, group)| {
            [format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".into()]
        });
        let mut command = match network {
            Some(network) => network.command(Name::POSTGRES, Path::new("setpriv")),
            None => Command::new("setpriv"),
        };
        // A change of the user forgets this.
        command.args(["--pdeathsig", "KILL"]).args(who.into_iter().flatten()).arg("--").arg(path);
        // A directory that it may be in.
        command.current_dir(&self.data);
        command.envs(unpacked::libraries(&self.programs).map(|paths| ("LD_LIBRARY_PATH", paths)));
        command
    }

    /// The command that runs the server.
    pub(crate) fn command(&self, network: &Network) -> Command {
        let mut command = self.program(Some(network), "postgres");
        command.arg("-D").arg(&self.data);
        let (ip, port) = (self.address.ip(), self.address.port());
        command.args(["-c", &format!("listen_addresses={ip}"), "-c", &format!("port={port}")]);
        command.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        command
    }

    /// Whether a server whose log begins at `from` takes connections.
    pub(crate) fn is_ready(log: &Path, from: u64) -> bool {
        let said = fs::read(log).unwrap_or_default();
        String::from_utf8_lossy(said.get(from as usize..).unwrap_or_default()).contains(READY)
    }

    /// The URL of a server at that address, which holds no password: that is in [`Self::passwords`].
    pub(crate) fn url(address: SocketAddr) -> String {
        format!("postgres://{ROLE}@{address}/{ROLE}")
    }

    /// For `PGPASSFILE`.
    pub(crate) fn passwords(&self) -> &Path {
        &self.passwords
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Kills the whole server: who listens, and then all that it has started, which would otherwise end a moment later.
    pub(crate) fn crash(postmaster: u32) -> Result<()> {
        let children = children(postmaster);
        for pid in std::iter::once(postmaster).chain(children) {
            if let Some(pid) = Pid::from_raw(pid as i32) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        Ok(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.owner.is_some() {
            let _ = fs::remove_dir_all(&self.data);
        }
    }
}

/// The children of a process.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which may hold anything: the state, then the parent.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        rest.split(' ').nth(1) == Some(&parent.to_string())
    })
    .collect()
}

/// The user and the group of `postgres`, or else of `nobody`.
fn unprivileged() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd")?;
    let ids = |user: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{user}:")))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody")).context("there is no user nobody")
}

/// Runs a command to its end, with that on its stdin.
fn feed(command: &mut Command, input: &str) -> Result<()> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    child.stdin.take().context("piped")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || said.contains("ERROR") {
        bail!("{command:?} has failed: {said}");
    }
    Ok(())
}
