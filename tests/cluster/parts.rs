//! The parts as processes: started, killed, stopped for a while, cut off, started again with the same command.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::database::Database;
use crate::link::Link;
use crate::name::{Act, Kind, Name};
use crate::network::{Namespaces, Network, machine};
use crate::options::{LedgerKind, Options};
use crate::ports::free_addrs;
use crate::programs::Programs;
use crate::sql::Observer;
use crate::state::State;

/// How long a part may take to end in order, or to be ready. Far beyond what it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The topic that plays are on.
pub(crate) const TOPIC: &str = "plays";

/// Where a part listens, and where the others find it: its link's address, if it has one.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) listens: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) found: SocketAddr,
}

/// All parts, in a directory of their own.
pub(crate) struct Cluster {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) programs: Programs,
    names: Vec<Name>,
    places: HashMap<Name, Place>,
    children: BTreeMap<Name, Child>,
    stopped: Vec<Name>,
    /// By the part that they lead to; a processor's leads to the database.
    pub(crate) links: HashMap<Name, Link>,
    pub(crate) database: Option<Database>,
    observer: Option<Observer>,
    state: State,
    pub(crate) token: String,
    /// Last, so that it goes when nothing runs in it any more.
    pub(crate) network: Network,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for name in self.children.keys().copied().collect::<Vec<_>>() {
            let _ = self.kill(name);
        }
        self.state.clear();
    }
}

impl Cluster {
    /// Nothing runs yet. The directory is empty.
    pub(crate) fn new(dir: &Path, options: Options, programs: Programs) -> Result<Self> {
        let names = options.parts();
        let network = if options.netns {
            Network::Namespaces(Namespaces::new(&names, options.rate.as_deref())?)
        } else {
            Network::Loopback
        };
        let mut cluster = Self {
            dir: dir.to_owned(),
            names,
            places: HashMap::new(),
            children: BTreeMap::new(),
            stopped: Vec::new(),
            links: HashMap::new(),
            database: None,
            observer: None,
            state: State::new(dir),
            token: uuid::Uuid::new_v4().to_string(),
            network,
            options,
            programs,
        };
        cluster.place()?;
        if cluster.options.ledger == LedgerKind::Postgres {
            let address = cluster.place_of(Name::POSTGRES).listens;
            let database = Database::create(dir, address)?;
            cluster.state.note_directory(database.data());
            cluster.observer = Some(Observer::new(&Database::url(address), database.passwords())?);
            cluster.database = Some(database);
        }
        fs::create_dir_all(dir.join("log"))?;
        Ok(cluster)
    }

    /// Decides where each part listens, and makes the links.
    fn place(&mut self) -> Result<()> {
        let serving =
            |name: &&Name| !matches!(name.kind, Kind::Process | Kind::Produce | Kind::GoNsq);
        let serving: Vec<Name> = self.names.iter().filter(serving).copied().collect();
        let free = match self.network {
            Network::Loopback => free_addrs(2 * serving.len())?,
            Network::Namespaces(_) => Vec::new(),
        };
        for (index, name) in serving.into_iter().enumerate() {
            let ip = self.network.ip(name);
            let (listens, http) = match name.kind {
                _ if !free.is_empty() => (free[2 * index], free[2 * index + 1]),
                Kind::Nsqd => ((ip, 4150).into(), (ip, 4151).into()),
                Kind::Nsqlookupd => ((ip, 4160).into(), (ip, 4161).into()),
                Kind::Postgres => ((ip, 5432).into(), (ip, 5432).into()),
                _ => ((ip, 8000).into(), (ip, 8000).into()),
            };
            let is_linked = !free.is_empty() && matches!(name.kind, Kind::Nsqd | Kind::Dashboard);
            let found = if is_linked { self.link(name, listens, Duration::ZERO)? } else { listens };
            self.places.insert(name, Place { listens, http, found });
        }
        let delay = self.options.db_delay.unwrap_or_default();
        if self.options.ledger == LedgerKind::Postgres && (!free.is_empty() || !delay.is_zero()) {
            let database = self.place_of(Name::POSTGRES).listens;
            for number in 1..=self.options.processors {
                self.link(Name::new(Kind::Process, number), database, delay)?;
            }
        }
        Ok(())
    }

    fn link(&mut self, name: Name, target: SocketAddr, delay: Duration) -> Result<SocketAddr> {
        if self.options.direct && delay.is_zero() {
            return Ok(target);
        }
        let link = Link::start(self.network.own_ip(), target, delay)?;
        let addr = link.addr();
        self.links.insert(name, link);
        Ok(addr)
    }

    pub(crate) fn names(&self) -> Vec<Name> {
        self.names.clone()
    }

    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = Name> + '_ {
        self.names.iter().copied().filter(move |name| name.kind == kind)
    }

    pub(crate) fn place_of(&self, name: Name) -> Place {
        self.places[&name]
    }

    /// Where a dashboard's page is.
    pub(crate) fn dashboard_url(&self, name: Name) -> String {
        format!("http://{}", self.place_of(name).listens)
    }

    /// Where this program finds the database.
    pub(crate) fn database_url(&self) -> Option<String> {
        self.database.as_ref().map(|_| Database::url(self.place_of(Name::POSTGRES).listens))
    }

    /// What reads the shared database for this program; `None` without one.
    pub(crate) fn observer(&mut self) -> Option<&mut Observer> {
        self.observer.as_mut()
    }

    /// The file with the password of the database's role.
    pub(crate) fn passwords(&self) -> Option<&Path> {
        self.database.as_ref().map(Database::passwords)
    }

    /// The files of a part of ours.
    pub(crate) fn directory(&self, name: Name) -> PathBuf {
        self.dir.join(name.to_string())
    }

    pub(crate) fn log(&self, name: Name) -> PathBuf {
        self.dir.join("log").join(format!("{name}.log"))
    }

    /// The end of what a part has said.
    pub(crate) fn last_words(&self, name: Name) -> String {
        let text = fs::read(self.log(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(12).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Whether a part has said that, in any run of it.
    pub(crate) fn has_said(&self, name: Name, what: &str) -> bool {
        let said = fs::read(self.log(name)).unwrap_or_default();
        String::from_utf8_lossy(&said).contains(what)
    }

    /// Starts a part, and waits until those that need it may start.
    pub(crate) fn start(&mut self, name: Name) -> Result<()> {
        let mut command = self.command(name)?;
        fs::create_dir_all(self.directory(name))?;
        let path = self.log(name);
        let log = OpenOptions::new().create(true).append(true).open(&path)?;
        let said = log.metadata()?.len();
        let output = match name.kind {
            Kind::GoNsq => File::create(self.report(name))?,
            _ => OpenOptions::new().write(true).open("/dev/null")?,
        };
        // Ctrl-C is for this program alone, which stops them in order.
        command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        self.children.insert(name, child);
        self.note()?;
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready(name, said) {
            if let Some(status) = self.ended(name)? {
                bail!("{name} does not start, {status}:\n{}", self.last_words(name));
            }
            ensure!(Instant::now() < deadline, "{name} is not ready:\n{}", self.last_words(name));
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn is_ready(&self, name: Name, said: u64) -> bool {
        match name.kind {
            Kind::Postgres => Database::is_ready(&self.log(name), said),
            Kind::Nsqlookupd | Kind::Nsqd | Kind::Dashboard => {
                std::net::TcpStream::connect_timeout(
                    &self.place_of(name).http_or_page(name),
                    Duration::from_secs(1),
                )
                .is_ok()
            }
            Kind::Process | Kind::Produce | Kind::GoNsq => true,
        }
    }

    /// Where a foreign producer says at its end what it has published.
    pub(crate) fn report(&self, name: Name) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    /// How a part has ended, if it has.
    pub(crate) fn ended(&mut self, name: Name) -> Result<Option<ExitStatus>> {
        let child =
            self.children.get_mut(&name).with_context(|| format!("{name} was not started"))?;
        Ok(child.try_wait()?)
    }

    /// Sends a signal to a part that runs.
    pub(crate) fn signal(&mut self, name: Name, signal: Signal) -> Result<()> {
        ensure!(self.runs(name), "{name} does not run");
        let pid = Pid::from_raw(self.children[&name].id() as i32).context("a pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Whether it was started and has not ended.
    pub(crate) fn runs(&mut self, name: Name) -> bool {
        self.children.contains_key(&name) && self.ended(name).is_ok_and(|ended| ended.is_none())
    }

    /// Kills a part, whatever it does.
    pub(crate) fn kill(&mut self, name: Name) -> Result<()> {
        let child = self.children.get_mut(&name).with_context(|| format!("{name} does not run"))?;
        if name.kind == Kind::Postgres && child.try_wait()?.is_none() {
            Database::crash(child.id())?;
        }
        child.kill()?;
        child.wait()?;
        self.children.remove(&name);
        self.stopped.retain(|of| *of != name);
        self.note()
    }

    /// Asks a part to end, and waits for it; how it ended.
    pub(crate) fn terminate(&mut self, name: Name) -> Result<ExitStatus> {
        // PostgreSQL's "fast": SIGTERM waits for its clients.
        let signal = if name.kind == Kind::Postgres { Signal::INT } else { Signal::TERM };
        let _ = self.signal(name, Signal::CONT);
        self.signal(name, signal)?;
        let status = self.wait(name)?;
        self.children.remove(&name);
        Ok(status)
    }

    /// Waits for a part to end.
    pub(crate) fn wait(&mut self, name: Name) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended(name)? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "{name} does not end:\n{}", self.last_words(name));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Does to a part what somebody asked for; what to answer.
    pub(crate) fn act(&mut self, act: Act, name: Name) -> Result<String> {
        ensure!(self.names.contains(&name), "this cluster has no {name}");
        match act {
            Act::Kill => self.kill(name)?,
            Act::Stop => {
                self.signal(name, Signal::STOP)?;
                self.stopped.push(name);
            }
            Act::Cont => {
                self.signal(name, Signal::CONT)?;
                self.stopped.retain(|of| *of != name);
            }
            Act::Cut => return self.set_link(name, false),
            Act::Start => {
                if self.is_cut(name) {
                    return self.set_link(name, true);
                }
                ensure!(!self.runs(name), "{name} runs already");
                self.start(name)?;
            }
        }
        Ok(format!("{name}: {}", self.condition(name)))
    }

    fn set_link(&mut self, name: Name, is_up: bool) -> Result<String> {
        let way = if is_up { "up" } else { "down" };
        if let Network::Namespaces(namespaces) = &mut self.network {
            let machine = machine(name);
            namespaces.set_link(&machine, is_up)?;
            let on_it: Vec<String> = self
                .names
                .iter()
                .filter(|of| crate::network::machine(**of) == machine)
                .map(Name::to_string)
                .collect();
            return Ok(format!("the link of {machine} is {way}: {}", on_it.join(", ")));
        }
        let is_meant =
            |of: &Name| *of == name || name == Name::POSTGRES && of.kind == Kind::Process;
        let links: Vec<&Link> =
            self.links.iter().filter(|(of, _)| is_meant(of)).map(|(_, link)| link).collect();
        ensure!(!links.is_empty(), "without --netns there is no link that leads to {name} alone");
        links.iter().for_each(|link| if is_up { link.mend() } else { link.cut() });
        let of = match name.kind {
            Kind::Process => format!("from {name} to the database"),
            _ => format!("to {name}"),
        };
        Ok(format!("the link {of} is {way}"))
    }

    fn is_cut(&self, name: Name) -> bool {
        match &self.network {
            Network::Namespaces(namespaces) => namespaces.is_cut(&machine(name)),
            Network::Loopback if name == Name::POSTGRES => {
                let mut links = self.links.iter().filter(|(of, _)| of.kind == Kind::Process);
                links.any(|(_, link)| link.is_cut())
            }
            Network::Loopback => self.links.get(&name).is_some_and(Link::is_cut),
        }
    }

    /// Whether a part runs, in a word or two.
    pub(crate) fn condition(&mut self, name: Name) -> String {
        let cut = if self.is_cut(name) { ", cut off" } else { "" };
        let ended = self.children.contains_key(&name).then(|| self.ended(name).ok().flatten());
        match ended {
            None => format!("does not run{cut}"),
            Some(Some(status)) => format!("has ended, {status}{cut}"),
            Some(None) if self.stopped.contains(&name) => format!("stopped{cut}"),
            Some(None) => format!("runs, pid {}{cut}", self.children[&name].id()),
        }
    }

    /// Writes down what runs, for who must clean up after this program.
    fn note(&mut self) -> Result<()> {
        let running = self.children.iter().map(|(name, child)| (name.to_string(), child.id()));
        let running: Vec<(String, u32)> = running.collect();
        self.state.write(&running)
    }

    /// No part of ours may have panicked, not even in a thread whose end goes unnoticed.
    pub(crate) fn check_panics(&self) -> Result<()> {
        for name in &self.names {
            let said = fs::read(self.log(*name)).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            if let Some(line) = said.lines().find(|line| line.contains("panicked at")) {
                bail!("{name} has panicked: {line}");
            }
        }
        Ok(())
    }
}

impl Place {
    fn http_or_page(&self, name: Name) -> SocketAddr {
        if name.kind == Kind::Dashboard { self.listens } else { self.http }
    }
}
