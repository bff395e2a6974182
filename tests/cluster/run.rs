//! One run: everything up, what is asked for or planned is done to it, everything down in order.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use crossbeam_channel::RecvTimeoutError;
use nsq_protocol::thread::StopToken;

use crate::check::check;
use crate::control::{Control, Request};
use crate::faults::Timed;
use crate::figures::{Figures, Rates};
use crate::foreign::Foreign;
use crate::http::{agent, get, post};
use crate::name::{Act, Kind, Name};
use crate::options::Options;
use crate::parts::{Cluster, PATIENCE, TOPIC};
use crate::programs::Programs;

/// How often the parts are looked at.
const TICK: Duration = Duration::from_millis(50);

/// How long a second is, of `--watch`.
const SECOND: Duration = Duration::from_secs(1);

/// How long the last plays of a run may take until they are counted and shown: what an nsqd lost is published again, a
/// processor's lease has run out, a checkpoint is written. Far beyond what it takes.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);

/// A cluster that runs.
struct Run {
    cluster: Cluster,
    /// Where go-nsq is not there, or for the tests.
    foreign: Option<Foreign>,
    control: Control,
    stopped: StopToken,
    agent: ureq::Agent,
    began: Instant,
    faults: Vec<Timed>,
    /// The next of the faults.
    next: usize,
    watched: Option<Figures>,
    lines: usize,
    /// Parts that have ended by themselves, which is said once.
    ended: Vec<Name>,
}

/// Runs a cluster in the directory, which is empty, until it is told to stop, or as long as the options say.
pub(crate) fn run(
    dir: &Path,
    options: Options,
    programs: Programs,
    faults: Vec<Timed>,
    stopped: StopToken,
) -> Result<()> {
    let mut run = Run {
        cluster: Cluster::new(dir, options, programs)?,
        foreign: None,
        control: Control::listen(dir)?,
        stopped,
        agent: agent(),
        began: Instant::now(),
        faults,
        next: 0,
        watched: None,
        lines: 0,
        ended: Vec::new(),
    };
    if !run.start()? {
        return Ok(());
    }
    run.began = Instant::now();
    let down = run.under_load()?;
    match run.cluster.options.run_for {
        Some(_) if down.is_none() && !run.stopped.is_stopped() => run.finish()?,
        _ => println!("stopping"),
    }
    let outcome = run.down();
    if let Some(request) = down {
        request.answer(
            &outcome.as_ref().map(|()| "down".into()).map_err(|error| anyhow::anyhow!("{error:#}")),
        );
    }
    outcome
}

impl Run {
    /// Starts all; false when it was told to stop.
    fn start(&mut self) -> Result<bool> {
        for name in self.cluster.names() {
            if self.stopped.is_stopped() {
                return Ok(false);
            }
            if name.kind == Kind::Dashboard && name.number == 1 {
                self.make_topic()?;
            }
            self.cluster.start(name)?;
        }
        self.wait_for_processors()?;
        let options = &self.cluster.options;
        if options.foreign > 0 && !self.cluster.names().contains(&Name::GO_NSQ) {
            let nsqd = self.cluster.place_of(Name::new(Kind::Nsqd, 1));
            self.foreign = Some(Foreign::start(nsqd.http, options.foreign)?);
        }
        self.tell();
        Ok(true)
    }

    /// Makes topic and channel on each nsqd, and waits until each nsqlookupd knows all: so nobody finds a part of them only.
    fn make_topic(&self) -> Result<()> {
        for nsqd in self.cluster.of_kind(Kind::Nsqd) {
            let at = self.cluster.place_of(nsqd).http;
            post(&self.agent, at, &format!("/topic/create?topic={TOPIC}"))?;
            post(&self.agent, at, &format!("/channel/create?topic={TOPIC}&channel=processor"))?;
        }
        let nsqds = self.cluster.of_kind(Kind::Nsqd).count();
        for lookupd in self.cluster.of_kind(Kind::Nsqlookupd) {
            let at = self.cluster.place_of(lookupd).http;
            let path = format!("/lookup?topic={TOPIC}");
            wait("each nsqlookupd knows each nsqd", PATIENCE, || {
                let found = get(&self.agent, at, &path).ok();
                Ok(found.is_some_and(|found| {
                    found["producers"].as_array().is_some_and(|all| all.len() == nsqds)
                }))
            })?;
        }
        Ok(())
    }

    /// Waits until each processor counts: the first fault is to meet one that does, not one that opens its ledger.
    fn wait_for_processors(&mut self) -> Result<()> {
        let counts = format!("counts {TOPIC}/");
        for name in self.cluster.of_kind(Kind::Process).collect::<Vec<_>>() {
            wait(&format!("{name} counts"), PATIENCE, || {
                ensure!(self.cluster.runs(name), "{}", self.cluster.last_words(name));
                Ok(self.cluster.has_said(name, &counts) || self.stopped.is_stopped())
            })
            .with_context(|| self.cluster.last_words(name))?;
        }
        Ok(())
    }

    /// Where everything is.
    fn tell(&self) {
        for name in self.cluster.names() {
            match name.kind {
                Kind::Dashboard => println!("{name:<14} {}", self.cluster.dashboard_url(name)),
                Kind::Nsqd | Kind::Nsqlookupd => {
                    println!("{name:<14} http://{}", self.cluster.place_of(name).http)
                }
                Kind::Postgres => {
                    println!("{name:<14} {}", self.cluster.database_url().unwrap_or_default())
                }
                _ => println!("{name:<14} {}", self.cluster.log(name).display()),
            }
        }
        if let Some(passwords) = self.cluster.passwords() {
            println!("{:<14} PGPASSFILE={}", "password", passwords.display());
        }
    }

    /// Until its time is over, or somebody says that it is: who asked for that, if somebody did.
    fn under_load(&mut self) -> Result<Option<Request>> {
        let end = self.cluster.options.run_for.map(|long| self.began + long);
        let mut second = self.began;
        loop {
            let now = Instant::now();
            if self.stopped.is_stopped()
                || end.is_some_and(|end| now >= end) && self.next == self.faults.len()
            {
                return Ok(None);
            }
            self.strike(now)?;
            self.look()?;
            if self.cluster.options.watch && now >= second {
                second = now + SECOND;
                self.watch();
            }
            match self.control.requests.recv_timeout(TICK) {
                Ok(request) if request.line == "down" => return Ok(Some(request)),
                Ok(request) => {
                    let answer = self.answer(&request.line);
                    request.answer(&answer);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the control socket is gone"),
            }
        }
    }

    /// Does what is due.
    fn strike(&mut self, now: Instant) -> Result<()> {
        while let Some((due, act, name)) = self.faults.get(self.next).copied() {
            if now < self.began + due {
                break;
            }
            self.next += 1;
            self.cluster.act(act, name).with_context(|| format!("{} {name}", act.word()))?;
            if self.cluster.options.watch {
                println!("{:>6.1?} {} {name}", self.began.elapsed(), act.word());
            }
        }
        Ok(())
    }

    /// Notices what has ended by itself.
    fn look(&mut self) -> Result<()> {
        for name in self.cluster.names() {
            let Ok(Some(status)) = self.cluster.ended(name) else {
                self.ended.retain(|of| *of != name);
                continue;
            };
            if name.kind == Kind::Produce && status.success() || self.ended.contains(&name) {
                continue;
            }
            self.ended.push(name);
            let said =
                format!("{name} has ended by itself, {status}:\n{}", self.cluster.last_words(name));
            ensure!(self.cluster.options.run_for.is_none(), "{said}");
            println!("{said}");
        }
        Ok(())
    }

    fn watch(&mut self) {
        let commits = self.commits();
        let now = Figures::take(&self.cluster, &self.agent, commits);
        if let Some(before) = &self.watched {
            if self.lines.is_multiple_of(20) {
                println!("{}  a second, but for what waits", now.head());
            }
            self.lines += 1;
            println!("{}", Rates(before, &now));
        }
        self.watched = Some(now);
    }

    /// Transactions of the database; `None` while it does not answer.
    fn commits(&mut self) -> Option<u64> {
        self.cluster.observer()?.commits().ok()
    }

    fn answer(&mut self, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["status"] => Ok(self.status()),
            [act, name] => {
                let act: Act = act.parse().map_err(anyhow::Error::msg)?;
                let name: Name = name.parse().map_err(anyhow::Error::msg)?;
                let answer = self.cluster.act(act, name)?;
                println!("{} {name}", act.word());
                Ok(answer)
            }
            _ => bail!("{line:?} is nothing that can be asked for"),
        }
    }

    fn status(&mut self) -> String {
        let mut lines = vec![format!("for {:.0?}", self.began.elapsed())];
        for name in self.cluster.names() {
            lines.push(format!("{:<14} {}", name.to_string(), self.cluster.condition(name)));
        }
        let commits = self.commits();
        let figures = Figures::take(&self.cluster, &self.agent, commits);
        lines.push(format!(
            "{:<14} {:?}",
            "shown",
            figures.shown.iter().flatten().collect::<Vec<_>>()
        ));
        lines.push(format!(
            "{:<14} {}",
            "waiting",
            figures.waiting.map_or("-".into(), |of| of.to_string())
        ));
        lines.join("\n")
    }

    /// Lets the last plays be counted and shown, and compares.
    fn finish(&mut self) -> Result<()> {
        if let Some(foreign) = &mut self.foreign {
            foreign.stop();
        }
        if self.cluster.runs(Name::GO_NSQ) {
            self.cluster.terminate(Name::GO_NSQ)?;
        }
        let drained = Instant::now();
        let limit = self.cluster.options.run_for.unwrap_or_default() + DRAIN_LIMIT;
        for producer in self.cluster.of_kind(Kind::Produce).collect::<Vec<_>>() {
            wait(&format!("{producer} knows that all is counted"), limit, || {
                self.look()?;
                Ok(!self.cluster.runs(producer))
            })
            .with_context(|| self.status())?;
        }
        wait("the queue is empty", DRAIN_LIMIT, || {
            self.look()?;
            Ok(Figures::take(&self.cluster, &self.agent, None).waiting == Some(0))
        })?;
        println!("drained in {:.1?}", drained.elapsed());
        let nsqd_kills = self
            .faults
            .iter()
            .filter(|(_, act, name)| *act == Act::Kill && name.kind == Kind::Nsqd)
            .count();
        check(&mut self.cluster, &self.agent, self.foreign.as_ref(), nsqd_kills)?;
        self.cluster.check_panics()
    }

    /// Stops everything, who depends on others first.
    fn down(&mut self) -> Result<()> {
        self.foreign = None;
        let mut names = self.cluster.names();
        names.reverse();
        for name in names {
            if !self.cluster.runs(name) {
                continue;
            }
            let status = self.cluster.terminate(name)?;
            // What a signal ends has no status of its own: go-nsq and nsqlookupd handle theirs, too.
            if !status.success() && self.cluster.options.run_for.is_some() {
                bail!("{name} ended with {status}:\n{}", self.cluster.last_words(name));
            }
        }
        Ok(())
    }
}

/// Asks again and again until it is so.
pub(crate) fn wait(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !probe()? {
        if Instant::now() > deadline {
            bail!("never: {what}");
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}
