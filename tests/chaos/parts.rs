//! The parts as processes: started, killed, stopped for a while, started again with the same command.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use playcounts::ledger::{self, Snapshot};
use playcounts::producer::read_outbox;
use rustix::process::{Pid, Signal, kill_process};

use crate::foreign::ID_FIELD;
use crate::ports::free_addrs;
use crate::postgres_server::Postgres;
use crate::proxy::{Proxy, Toxic};
use crate::schedule::{DASHBOARDS, LedgerKind, Link, PROCESSORS, Part};
use crate::tables;
use playcounts::model::video_id::VideoId;

/// Plays a second.
const RATE: u64 = 2000;

/// The same over an nsqd that syncs each message, which takes some 800 a second.
const SYNCED_RATE: u64 = 200;

/// How long a message may be in flight: less than a part is stopped for.
const MSG_TIMEOUT: &str = "msg_timeout,1s";

/// How long a producer may take until it publishes. Far beyond what it takes.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Which broker.
#[derive(Clone, Debug)]
pub(crate) enum BrokerKind {
    /// `playcounts broker`.
    Embedded,
    /// A real one, with its default flags.
    Nsqd(PathBuf),
}

/// A PostgreSQL, and the way to it.
struct Database {
    server: Postgres,
    proxy: Proxy,
}

/// All parts of one run, in a directory of its own.
pub(crate) struct Parts {
    dir: PathBuf,
    kind: BrokerKind,
    seed: u64,
    broker: SocketAddr,
    broker_http: SocketAddr,
    dashboards: [SocketAddr; DASHBOARDS],
    /// Of processors that share a ledger.
    database: Option<Database>,
    to_broker: Proxy,
    to_processor: Proxy,
    children: HashMap<Part, Child>,
    /// A processor that waits for the owner to end.
    standby: Option<Child>,
    /// Whether a real nsqd keeps its queues on disk, synced at each message.
    is_synced: bool,
    /// How often each processor was replaced by one that knows nothing of it.
    abandoned: [usize; PROCESSORS],
    /// Plays of each producer's run, and how many runs were started.
    plays: u64,
    runs: usize,
}

impl Drop for Parts {
    fn drop(&mut self) {
        for child in self.children.values_mut().chain(&mut self.standby) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Parts {
    pub(crate) fn new(dir: &Path, kind: BrokerKind, seed: u64, plays: u64) -> Result<Self> {
        let addrs = free_addrs(4)?;
        let [broker, broker_http, first, second] = [addrs[0], addrs[1], addrs[2], addrs[3]];
        Ok(Self {
            dir: dir.to_owned(),
            kind,
            seed,
            broker,
            broker_http,
            dashboards: [first, second],
            database: None,
            to_broker: Proxy::start(broker, Toxic::Clean, seed),
            to_processor: Proxy::start(broker, Toxic::Clean, seed),
            children: HashMap::new(),
            standby: None,
            is_synced: false,
            abandoned: [0; PROCESSORS],
            plays,
            runs: 0,
        })
    }

    /// The processors are to share a ledger in this server.
    pub(crate) fn share_ledger(&mut self, server: Postgres) -> Result<()> {
        let proxy = Proxy::start(server.addr().parse()?, Toxic::Clean, self.seed);
        self.database = Some(Database { server, proxy });
        Ok(())
    }

    /// Those that are there: with a shared ledger more than with one in files.
    pub(crate) fn all(&self) -> &'static [Part] {
        let kind = if self.database.is_some() { LedgerKind::Postgres } else { LedgerKind::Files };
        kind.parts()
    }

    /// What the ledger holds.
    pub(crate) fn read_ledger(&self) -> Result<Snapshot> {
        match &self.database {
            Some(database) => tables::read(&database.server),
            None => ledger::read(&self.ledger())?.context("there is a ledger"),
        }
    }

    /// Another processor, which knows nothing of this one, is to take its place.
    pub(crate) fn abandon(&mut self, part: Part) {
        if let Part::Processor(index) = part {
            self.abandoned[index] += 1;
        }
    }

    /// A real nsqd is to keep its queues on disk, synced at each message.
    pub(crate) fn keep_queues(&mut self) {
        self.is_synced = true;
        self.plays = self.plays * SYNCED_RATE / RATE;
    }

    pub(crate) fn broker(&self) -> SocketAddr {
        self.broker
    }

    pub(crate) fn broker_http(&self) -> SocketAddr {
        self.broker_http
    }

    pub(crate) fn broker_url(&self) -> String {
        format!("http://{}", self.broker_http)
    }

    /// Whether the broker is a real nsqd.
    pub(crate) fn is_nsqd(&self) -> bool {
        matches!(self.kind, BrokerKind::Nsqd(_))
    }

    /// The broker, which is stopped, will be found under another address.
    pub(crate) fn move_broker(&mut self) -> Result<()> {
        let addrs = free_addrs(2)?;
        let broker = addrs[0];
        (self.broker, self.broker_http) = (broker, addrs[1]);
        self.to_broker = Proxy::start(broker, Toxic::Clean, self.seed);
        self.to_processor = Proxy::start(broker, Toxic::Clean, self.seed);
        Ok(())
    }

    /// The most memory that a part has had, in KiB.
    pub(crate) fn peak_memory(&self, part: Part) -> Result<u64> {
        let child = self.children.get(&part).context("it was started")?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// The first dashboard.
    pub(crate) fn url(&self) -> String {
        self.url_of(0)
    }

    fn url_of(&self, dashboard: usize) -> String {
        format!("http://{}", self.dashboards[dashboard])
    }

    /// The data directory of the ledger in files.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.dir.join("ledger")
    }

    /// The data directory of a part that has one; of the newest producer.
    pub(crate) fn directory(&self, part: Part) -> PathBuf {
        match part {
            Part::Broker => self.dir.join("nsqd"),
            Part::Dashboard(0) => self.dir.join("dashboard"),
            Part::Dashboard(index) => self.dir.join(format!("dashboard-{index}")),
            Part::Processor(index) if self.database.is_some() => {
                self.dir.join(format!("processor-{index}-{}", self.abandoned[index]))
            }
            Part::Processor(_) => self.ledger(),
            Part::Database => self.dir.join("database"),
            Part::Producer => self.dir.join(format!("outbox-{}", self.runs)),
        }
    }

    /// Each producer run's data directory, the newest last.
    pub(crate) fn outboxes(&self) -> Vec<PathBuf> {
        (1..=self.runs).map(|run| self.dir.join(format!("outbox-{run}"))).collect()
    }

    fn command(&self, part: Part) -> Command {
        let mut command = match &self.kind {
            BrokerKind::Nsqd(program) if part == Part::Broker => Command::new(program),
            _ => Command::new(env!("CARGO_BIN_EXE_playcounts")),
        };
        let args: Vec<String> = match (part, &self.kind) {
            (Part::Broker, kind) => {
                let (tcp, http) = (self.broker.to_string(), self.broker_http.to_string());
                let ours = ["broker", "--tcp-address", &tcp, "--http-address", &http];
                let data = self.directory(part).display().to_string();
                let real = ["-tcp-address", &tcp, "-http-address", &http, "-data-path", &data];
                // What it has acknowledged it has on its disk then; what is in flight it loses all the same.
                let synced = ["-sync-every", "1", "-mem-queue-size", "0"];
                let real = [&real[..], if self.is_synced { &synced[..] } else { &[] }].concat();
                let args = if matches!(kind, BrokerKind::Embedded) { &ours[..] } else { &real[..] };
                args.iter().map(ToString::to_string).collect()
            }
            (Part::Dashboard(index), _) => words(&format!(
                "dashboard --http-address {} --data-dir {}",
                self.dashboards[index],
                self.directory(part).display()
            )),
            (Part::Processor(_), _) => words(&format!(
                "process --nsqd-tcp-address {} --data-dir {} --consumer-opt {MSG_TIMEOUT} \
                 --realtime-below 1000000000 --update-interval 100ms {} {}",
                self.to_processor.addr(),
                self.directory(part).display(),
                ID_FIELD.join(" "),
                self.ledger_options()
            )),
            (Part::Database, _) => unreachable!("it has its own way to be started"),
            (Part::Producer, _) => words(&format!(
                "produce --nsqd-tcp-address {} --dashboard-url {} --data-dir {} --num-messages {} --num-videos 50 \
                 --rate {} --republish-after 2s --producer-opt dial_timeout,500ms",
                self.to_broker.addr(),
                self.url(),
                self.directory(part).display(),
                self.plays,
                if self.is_synced { SYNCED_RATE } else { RATE },
            )),
        };
        command.args(args);
        command
    }

    /// Which ledger a processor counts in, and whom it tells.
    fn ledger_options(&self) -> String {
        match &self.database {
            None => format!("--dashboard-url {}", self.url()),
            Some(Database { server, proxy }) => format!(
                "--dashboard-url {} --dashboard-url {} --ledger {}",
                self.url_of(0),
                self.url_of(1),
                server.url().replace(&server.addr(), &proxy.addr())
            ),
        }
    }

    /// Starts a part, to kill itself at a point if one is given.
    pub(crate) fn start(&mut self, part: Part, failpoint: Option<(&str, u64)>) -> Result<()> {
        if part == Part::Database {
            self.database()?.server.restart();
            return Ok(());
        }
        let mut command = self.command(part);
        if let Some((point, pass)) = failpoint {
            command.env("PLAYCOUNTS_FAILPOINT", format!("{point}:{pass}"));
        }
        let child = self.spawn(part, command)?;
        self.children.insert(part, child);
        Ok(())
    }

    /// Starts a producer on a run of its own, and waits until it publishes: one that finds no broker at its start ends.
    pub(crate) fn start_producer(&mut self) -> Result<()> {
        self.runs += 1;
        self.start(Part::Producer, None)?;
        let outbox = self.directory(Part::Producer);
        let deadline = Instant::now() + START_LIMIT;
        while read_outbox(&outbox)?.is_none_or(|run| run.plays == 0) {
            let ended = self.ended(Part::Producer)?;
            if ended.is_some_and(|status| !status.success()) || Instant::now() > deadline {
                bail!(
                    "the producer does not start: {ended:?}\n{}",
                    self.last_words(Part::Producer)
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts a processor that waits for the one that runs.
    pub(crate) fn start_standby(&mut self) -> Result<()> {
        let mut command = self.command(Part::Processor(0));
        command.arg("--standby");
        self.standby = Some(self.spawn(Part::Processor(0), command)?);
        Ok(())
    }

    /// The standby is the processor now.
    pub(crate) fn promote(&mut self) {
        if let Some(standby) = self.standby.take() {
            self.children.insert(Part::Processor(0), standby);
        }
    }

    /// Runs a command of ours that copies files, to its end.
    pub(crate) fn copy(&self, command: &str, from: &Path, to: &Path) -> Result<()> {
        let [from_option, to_option] = match command {
            "backup" => ["--data-dir", "--output"],
            _ => ["--from", "--data-dir"],
        };
        let mut program = Command::new(env!("CARGO_BIN_EXE_playcounts"));
        let output =
            program.arg(command).arg(from_option).arg(from).arg(to_option).arg(to).output()?;
        if !output.status.success() {
            bail!("{command} has failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn spawn(&self, part: Part, mut command: Command) -> Result<Child> {
        std::fs::create_dir_all(self.dir.join("nsqd"))?;
        let log = OpenOptions::new().create(true).append(true).open(self.log(part))?;
        command.stdin(Stdio::null()).stdout(File::create("/dev/null")?).stderr(log);
        command.spawn().with_context(|| format!("cannot start {command:?}"))
    }

    fn database(&mut self) -> Result<&mut Database> {
        self.database.as_mut().context("there is a database")
    }

    fn log(&self, part: Part) -> PathBuf {
        self.dir.join(format!("{}.log", part.name()))
    }

    /// The end of what a part has said.
    pub(crate) fn last_words(&self, part: Part) -> String {
        let text = std::fs::read_to_string(self.log(part)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(12).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn signal(&self, part: Part, signal: Signal) -> Result<()> {
        if let (Part::Database, Some(database)) = (part, &self.database) {
            database.server.signal(signal);
            return Ok(());
        }
        let child = self.children.get(&part).context("it was started")?;
        let pid = Pid::from_raw(child.id() as i32).context("a pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Kills a part, whatever it does.
    pub(crate) fn kill(&mut self, part: Part) -> Result<()> {
        if part == Part::Database {
            self.database()?.server.crash();
            return Ok(());
        }
        let child = self.children.get_mut(&part).context("it was started")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// How a part has ended, if it has.
    pub(crate) fn ended(&mut self, part: Part) -> Result<Option<ExitStatus>> {
        Ok(self.children.get_mut(&part).context("it was started")?.try_wait()?)
    }

    /// Waits for a part to end.
    pub(crate) fn wait(&mut self, part: Part, limit: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            let ended = self.ended(part)?;
            if ended.is_some() || Instant::now() > deadline {
                return Ok(ended);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn reset(&self, link: Link) {
        match link {
            Link::ProducerToBroker => self.to_broker.reset(),
            Link::BrokerToProcessor => self.to_processor.reset(),
            Link::ProcessorToDatabase => {
                self.database.iter().for_each(|database| database.proxy.reset());
            }
        }
    }

    /// Whether the broker holds no message.
    pub(crate) fn is_queue_empty(&self) -> Result<bool> {
        let url = format!("{}/stats?format=json&topic=plays", self.broker_url());
        let text = ureq::get(&url).call()?.body_mut().read_to_string()?;
        let stats: serde_json::Value = serde_json::from_str(&text)?;
        let channel = &stats["topics"][0]["channels"][0];
        Ok(["depth", "in_flight_count", "deferred_count"].iter().all(|name| channel[name] == 0)
            && stats["topics"][0]["depth"] == 0)
    }

    /// What the first dashboard shows in all; `None` while it does not answer.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total_of(0)
    }

    /// What a dashboard shows in all; `None` while it does not answer.
    pub(crate) fn total_of(&self, dashboard: usize) -> Option<u64> {
        self.get(dashboard, "/api/counts?limit=1").ok()?["total_plays"].as_u64()
    }

    /// How many dashboards there are.
    pub(crate) fn dashboards(&self) -> usize {
        if self.database.is_some() { DASHBOARDS } else { 1 }
    }

    /// Whether the dashboard answers that it is not well.
    pub(crate) fn is_red(&self) -> bool {
        matches!(
            ureq::get(format!("{}/healthz", self.url())).call(),
            Err(ureq::Error::StatusCode(503))
        )
    }

    /// What a dashboard shows of one video.
    pub(crate) fn shown(&self, dashboard: usize, video: VideoId) -> Result<u64> {
        let video = video.to_string();
        let video = utf8_percent_encode(&video, NON_ALPHANUMERIC);
        self.get(dashboard, &format!("/api/counts/{video}"))?["plays"].as_u64().context("plays")
    }

    fn get(&self, dashboard: usize, path: &str) -> Result<serde_json::Value> {
        let url = format!("{}{path}", self.url_of(dashboard));
        let text = ureq::get(url).call()?.body_mut().read_to_string()?;
        Ok(serde_json::from_str(&text)?)
    }

    /// No part may have panicked, not even in a thread whose end goes unnoticed.
    pub(crate) fn check_panics(&self) -> Result<()> {
        for part in self.all().iter().copied().filter(|part| *part != Part::Database) {
            let said = std::fs::read_to_string(self.log(part))?;
            if let Some(line) = said.lines().find(|line| line.contains("panicked at")) {
                bail!("the {} has panicked: {line}", part.name());
            }
        }
        Ok(())
    }

    /// No part may end by itself, but a producer that is done: the next run follows.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        let lasting = |part: &Part| !matches!(part, Part::Producer | Part::Database);
        for part in self.all().iter().copied().filter(lasting) {
            if let Some(status) = self.ended(part)? {
                bail!("{} ended by itself, {status}:\n{}", part.name(), self.last_words(part));
            }
        }
        self.check_producer()
    }

    /// The next run, if the producer is done with this one.
    pub(crate) fn check_producer(&mut self) -> Result<()> {
        match self.ended(Part::Producer)? {
            None => Ok(()),
            // Not while the broker is on its way up.
            Some(status) if status.success() && TcpStream::connect(self.broker).is_err() => Ok(()),
            Some(status) if status.success() => self.start_producer(),
            Some(status) => {
                bail!("the producer ended with {status}:\n{}", self.last_words(Part::Producer))
            }
        }
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(String::from).collect()
}
