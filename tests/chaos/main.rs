//! Kills the parts of a real system again and again, in an order that the seed decides, and then checks that every
//! play is counted once: `scripts/chaos`. Without arguments, as `cargo test` runs it, a short run on each broker.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "it waits for processes")]

mod files;
mod foreign;
#[path = "../../nsq-protocol/tests/it/nsqd.rs"]
mod nsqd;
mod parts;
mod ports;
#[path = "../it/postgres_server.rs"]
#[allow(unused_imports, unused_macros, reason = "shared with the tests")]
mod postgres_server;
#[path = "../../nsq-protocol/tests/it/proxy.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod proxy;
mod schedule;
mod tables;
mod twice;
#[path = "../it/unpacked.rs"]
mod unpacked;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use argh::FromArgs;
use foreign::Foreign;
use parts::{BrokerKind, Parts};
use playcounts::ledger::IntegrityCheck;
use playcounts::model::attempted::Attempted;
use playcounts::model::video::VideoState;
use playcounts::producer;
use postgres_server::Postgres;
use rustix::process::Signal;
use schedule::{Fault, LedgerKind, Part, schedule};

/// Plays of one producer's run: at 2,000 a second, two seconds and the time to be confirmed.
const PLAYS: u64 = 4000;

/// How long a part may take to make progress after it was started again. Far beyond what it takes.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

/// How long a part may take to reach its failpoint before it is killed after all.
const FAILPOINT_LIMIT: Duration = Duration::from_secs(8);

/// kills the parts of a real system again and again, and checks that every play is counted once
#[derive(FromArgs, Debug)]
struct Options {
    /// how many kills [default: 12]
    #[argh(option, default = "12")]
    kills: usize,
    /// what decides the order and the times of the faults [default: 1]
    #[argh(option, default = "1")]
    seed: u64,
    /// embedded, nsqd or both [default: both]
    #[argh(option, default = "\"both\".into()")]
    broker: String,
    /// files, or postgres: three processors that share a ledger there, and two dashboards [default: files]
    #[argh(option, default = "\"files\".into()")]
    ledger: String,
    /// plays a second of a producer that is none of ours, on an nsqd with -sync-every 1 [default: none]
    #[argh(option)]
    foreign: Option<u64>,
    /// only say what would happen
    #[argh(switch)]
    dry_run: bool,
    /// kill nothing, but deliver that many plays twice, each time in another order, and say what memory it took
    #[argh(option)]
    twice: Option<u64>,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test NAME` gives every test program the name.
    if args.first().is_some_and(|arg| !arg.starts_with('-') && !"chaos".contains(&arg[..])) {
        return Ok(());
    }
    let is_ours = |arg: &&str| arg.starts_with('-') && !["--nocapture", "--quiet"].contains(arg);
    let first = args.iter().position(|arg| is_ours(&&arg[..])).unwrap_or(args.len());
    let args: Vec<&str> = args[first..].iter().map(String::as_str).collect();
    let options = match Options::from_args(&["chaos"], &args) {
        Ok(options) => options,
        Err(exit) => {
            println!("{}", exit.output);
            std::process::exit(if exit.status.is_ok() { 0 } else { 2 });
        }
    };
    let ledgers: &[LedgerKind] = match &options.ledger[..] {
        // As the tests run it.
        "files" if args.is_empty() => &[LedgerKind::Files, LedgerKind::Postgres],
        "files" => &[LedgerKind::Files],
        "postgres" => &[LedgerKind::Postgres],
        other => bail!("--ledger {other}: it is files or postgres"),
    };
    for ledger in ledgers {
        let faults = schedule(options.seed, options.kills, *ledger);
        if options.dry_run {
            faults.iter().for_each(|(peace, fault)| println!("{peace:>6?} {fault}"));
        } else {
            run_all(&options, *ledger, &faults)?;
        }
    }
    Ok(())
}

/// Runs it on each broker that is wanted and there.
fn run_all(options: &Options, ledger: LedgerKind, faults: &[(Duration, Fault)]) -> Result<()> {
    let postgres = match ledger {
        LedgerKind::Files => None,
        LedgerKind::Postgres => match postgres_server::find() {
            Some(bin) => Some(bin),
            // It was said.
            None => return Ok(()),
        },
    };
    let mut kinds = Vec::new();
    if options.broker != "nsqd" {
        kinds.push(("embedded", BrokerKind::Embedded));
    }
    match nsqd::find() {
        Some(program) if options.broker != "embedded" => {
            kinds.push(("nsqd", BrokerKind::Nsqd(program)))
        }
        None if options.broker == "nsqd" => bail!("no nsqd: set $NSQD, or use scripts/with-nsqd"),
        _ => {}
    }
    for (name, kind) in kinds {
        match options.twice {
            Some(plays) => println!("{plays} plays twice on {name}"),
            None => println!(
                "chaos on {name}, ledger {ledger:?}: {} kills, seed {}",
                options.kills, options.seed
            ),
        }
        let dir = tempfile::tempdir()?;
        let outcome = match options.twice {
            Some(plays) => twice::run(dir.path(), kind, plays),
            None => {
                // Nothing is flushed by the way: what a crash may take it takes.
                let start = |bin: &PathBuf| Postgres::start(bin, &["wal_writer_delay=10s"]);
                run(dir.path(), kind, options, postgres.as_ref().map(start), faults)
            }
        };
        if let Err(error) = outcome {
            println!("FAILED, files kept in {}: {error:#}", dir.keep().display());
            std::process::exit(1);
        }
    }
    Ok(())
}

/// What came of the faults.
#[derive(Default)]
struct Tally {
    /// How long each part took to recover from its kills.
    recoveries: BTreeMap<Part, Vec<Duration>>,
    /// How many were to kill themselves at a failpoint, and how many did: the others never came there.
    armed: usize,
    reached: usize,
}

impl Tally {
    fn report(&self) {
        for (part, times) in &self.recoveries {
            let mut times = times.clone();
            times.sort();
            println!(
                "  {:<9} {:>3} kills; recovered in {:>6.0?} (median), {:>6.0?} (worst)",
                part.name(),
                times.len(),
                times[times.len() / 2],
                times[times.len() - 1]
            );
        }
        println!("  {} of {} failpoints were reached", self.reached, self.armed);
    }
}

fn run(
    dir: &Path,
    kind: BrokerKind,
    options: &Options,
    shared: Option<Postgres>,
    faults: &[(Duration, Fault)],
) -> Result<()> {
    let mut parts = Parts::new(dir, kind, options.seed, PLAYS)?;
    if let Some(server) = shared {
        parts.share_ledger(server)?;
    }
    // The embedded broker keeps its queues in memory: who has no outbox loses what it holds with it.
    let foreign = options.foreign.filter(|_| parts.is_nsqd());
    if foreign.is_some() {
        parts.keep_queues();
    }
    start_all(&mut parts)?;
    let mut foreign = foreign.map(|rate| Foreign::start(parts.broker_http(), rate)).transpose()?;
    parts.start_producer()?;
    wait("the first plays are counted", || Ok(parts.total() > Some(0)))?;
    let tally = strike_all(&mut parts, faults, foreign.as_ref())?;
    if let Some(foreign) = &mut foreign {
        foreign.stop();
    }
    end(&mut parts)?;
    tally.report();
    // As the processor has left it: its last checkpoint is in it.
    let nsqd_kills = faults.iter().filter(|(_, fault)| fault.kills_broker()).count();
    let (check, said) = integrity(&parts, foreign.as_ref().map(|foreign| (foreign, nsqd_kills)))?;
    println!("  {check}");
    if let Some(said) = said {
        println!("  {said}");
    }
    if !check.is_exact() || check.attempted != check.counted {
        bail!("the counts are not exact");
    }
    check_dashboards(&parts)?;
    parts.check_panics()
}

/// Lets everything go wrong that is to, each after a time of peace.
fn strike_all(
    parts: &mut Parts,
    faults: &[(Duration, Fault)],
    foreign: Option<&Foreign>,
) -> Result<Tally> {
    let mut tally = Tally::default();
    for (index, (peace, fault)) in faults.iter().enumerate() {
        let calm = Instant::now() + *peace;
        while Instant::now() < calm {
            parts.check_alive()?;
            std::thread::sleep(Duration::from_millis(10));
        }
        strike(parts, *fault, &mut tally).with_context(|| format!("fault {index}: {fault}"))?;
        if let Some(foreign) = foreign {
            foreign.moved_to(parts.broker_http());
        }
    }
    Ok(tally)
}

/// Waits until all is counted and shown, and ends the processors.
fn end(parts: &mut Parts) -> Result<()> {
    let ended = parts.wait(Part::Producer, 3 * RECOVERY_LIMIT)?;
    if !ended.is_some_and(|status| status.success()) {
        let said = parts.last_words(Part::Producer);
        bail!(
            "the last producer has not ended well but {ended:?}:\n{said}\n{:?}",
            integrity(parts, None)?.0
        );
    }
    wait("the queue is empty", || parts.is_queue_empty())?;
    let counted = parts.read_ledger()?.counters.counted;
    for dashboard in 0..parts.dashboards() {
        wait("the dashboard shows all", || Ok(parts.total_of(dashboard) == Some(counted)))?;
    }
    for part in processors(parts) {
        parts.signal(part, Signal::TERM)?;
        let ended = parts.wait(part, RECOVERY_LIMIT)?;
        if !ended.is_some_and(|status| status.success()) {
            bail!("the {} ended with {ended:?}:\n{}", part.name(), parts.last_words(part));
        }
    }
    Ok(())
}

/// That each dashboard shows each video as the ledger has it.
fn check_dashboards(parts: &Parts) -> Result<()> {
    for VideoState { video_id, plays, .. } in parts.read_ledger()?.videos {
        for dashboard in 0..parts.dashboards() {
            let shown = parts.shown(dashboard, video_id)?;
            if shown != plays {
                bail!(
                    "dashboard {dashboard} shows {shown} plays of video {video_id}, the ledger has {plays}"
                );
            }
        }
    }
    Ok(())
}

fn processors(parts: &Parts) -> Vec<Part> {
    let all = parts.all().iter().copied();
    all.filter(|part| matches!(part, Part::Processor(_))).collect()
}

/// Starts broker, dashboards and processors.
fn start_all(parts: &mut Parts) -> Result<()> {
    let lasting = |part: &Part| !matches!(part, Part::Producer | Part::Database);
    let mut all: Vec<Part> = parts.all().iter().copied().filter(lasting).collect();
    all.sort_by_key(|part| matches!(part, Part::Processor(_)));
    for part in all {
        parts.start(part, None)?;
        // Each needs the one before: without it a part may refuse to start.
        if part == Part::Broker {
            wait(
                "the broker answers",
                || Ok(std::net::TcpStream::connect(parts.broker()).is_ok()),
            )?;
        }
    }
    Ok(())
}

/// Lets something go wrong, and waits until it is well again.
fn strike(parts: &mut Parts, fault: Fault, tally: &mut Tally) -> Result<()> {
    let started = match fault {
        Fault::Reset(link) => {
            parts.reset(link);
            return Ok(());
        }
        Fault::Freeze { part, frozen } => {
            parts.signal(part, Signal::STOP)?;
            std::thread::sleep(frozen);
            return parts.signal(part, Signal::CONT);
        }
        Fault::Kill { part, down } => {
            parts.kill(part)?;
            std::thread::sleep(down);
            start_again(parts, part, None)?
        }
        Fault::Failpoint { part, point, pass } => {
            parts.kill(part)?;
            start_again(parts, part, Some((point, pass)))?;
            let deadline = Instant::now() + FAILPOINT_LIMIT;
            while parts.ended(part)?.is_none() && Instant::now() < deadline {
                if part != Part::Producer && parts.ended(Part::Producer)?.is_some() {
                    parts.check_producer()?;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            tally.armed += 1;
            tally.reached +=
                usize::from(parts.ended(part)?.is_some_and(|end| end.code().is_none()));
            parts.kill(part)?;
            start_again(parts, part, None)?
        }
        Fault::TakeOver => {
            parts.start_standby()?;
            std::thread::sleep(Duration::from_millis(200));
            parts.kill(Part::Processor(0))?;
            parts.promote();
            Instant::now()
        }
        Fault::Abandon(part) => {
            parts.kill(part)?;
            parts.abandon(part);
            start_again(parts, part, None)?
        }
        Fault::OlderDashboard => files::older_dashboard(parts)?,
        Fault::OlderLedger => files::older_ledger(parts)?,
        Fault::TakeAway(part) => files::take_away(parts, part)?,
        Fault::MoveBroker { in_order } => files::move_broker(parts, in_order)?,
    };
    let part = fault.killed().context("a part was killed")?;
    let took = recovered(parts, part, started)?;
    tally.recoveries.entry(part).or_default().push(took);
    Ok(())
}

/// Starts a part again; when.
fn start_again(parts: &mut Parts, part: Part, failpoint: Option<(&str, u64)>) -> Result<Instant> {
    let now = Instant::now();
    parts.start(part, failpoint)?;
    Ok(now)
}

/// Waits for progress: plays that are newly kept by a producer, newly shown else. How long after the start it came.
fn recovered(parts: &mut Parts, part: Part, started: Instant) -> Result<Duration> {
    let progress = |parts: &Parts| match part {
        Part::Producer => {
            attempted(parts).map(|all| Some(all.iter().map(|run| run.plays).sum::<u64>()))
        }
        Part::Dashboard(index) => Ok(parts.total_of(index)),
        _ => Ok(parts.total()),
    };
    let mut before = None;
    wait(&format!("the {} makes progress", part.name()), || {
        parts.check_producer()?;
        // A dashboard that only answers again has not moved yet.
        let Some(now) = progress(parts)? else { return Ok(false) };
        Ok(now > *before.get_or_insert(now))
    })?;
    Ok(started.elapsed())
}

fn attempted(parts: &Parts) -> Result<Vec<Attempted>> {
    let mut all = Vec::new();
    for dir in parts.outboxes() {
        all.extend(producer::read_outbox(&dir)?);
    }
    Ok(all)
}

/// Compares the ledger with what was published: by ours, and what became of the foreign producer's plays.
fn integrity(
    parts: &Parts,
    foreign: Option<(&Foreign, usize)>,
) -> Result<(IntegrityCheck, Option<String>)> {
    let mut ledger = parts.read_ledger()?;
    let said = foreign.map(|(foreign, kills)| foreign.settle(&mut ledger, kills)).transpose()?;
    Ok((IntegrityCheck::new(&ledger, &attempted(parts)?), said))
}

fn wait(what: &str, mut probe: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + RECOVERY_LIMIT;
    while !probe()? {
        if Instant::now() > deadline {
            bail!("never: {what}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
