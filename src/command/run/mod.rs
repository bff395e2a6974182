//! `run`: the whole simulation in one process. Builds the parts, drives them, and owns the order in which they stop.
//! Runs on the main thread.

mod bars;
mod broker;
mod config;
mod phases;

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use nsq_protocol::thread::StopToken;

use crate::command::shared::output::{
    OutputFormat, configuration, note, print, print_report, status,
};
use crate::command::shared::report::RunReport;
use crate::command::shared::run_files::{RunEnding, RunFiles};
use crate::command::shared::status::StatusWatch;
use crate::command::shared::tls;
use crate::dashboard::{self, Dashboard, DashboardConfig, RunFigure, RunOutcome, WatchedQueue};
use crate::ledger;
use crate::model::words::{grouped, many};
use crate::runtime::links::Links;
use crate::runtime::signals::ReloadWatch;
use crate::storage::data_dir::{DataDir, PROCESSOR};
use broker::RunBroker;
pub(super) use config::RunArgs;
use config::{AtEnd, RunConfig};
use phases::{Finished, Phases};

/// What its status lines begin with.
const PART: &str = "run";

/// Runs the simulation, prints its report, and serves the page until `stop` unless told to end.
pub(super) fn run(args: RunArgs, stop: &StopToken) -> Result<()> {
    let config = args.config()?;
    for (name, value) in &config.shown() {
        note(format_args!("{name:<16} {value}"));
    }
    let run = simulate(&config, stop)?;
    if run.shortfall.is_none() {
        match config.format {
            OutputFormat::Text => print(format_args!("All consumed"))?,
            // stdout holds the report and nothing else.
            OutputFormat::Json => note(format_args!("All consumed")),
        }
    }
    print_report(config.format, &run.report)?;
    // Counts that are wrong are there to be looked at; a run that did not come so far has none to show.
    if config.at_end == AtEnd::ServePage && run.is_whole && !stop.is_stopped() {
        if let Some(shortfall) = &run.shortfall {
            status(PART, format_args!("NOT verified: {shortfall}"));
        }
        status(PART, format_args!("the page is live at {}; Ctrl-C ends it", run.dashboard.url()));
        let _ = stop.channel().recv();
    }
    run.dashboard.shutdown()?;
    run.shortfall.map_or(Ok(()), |shortfall| bail!(shortfall))
}

/// A run that has ended, its page still served. The fields stop in their order: the dashboard asks the broker how many
/// messages wait.
struct FinishedRun {
    report: RunReport,
    /// Why not every play was counted and published; `None` when all were.
    shortfall: Option<String>,
    /// Whether it came to its end, and its counts can be compared.
    is_whole: bool,
    dashboard: Dashboard,
    _reload: ReloadWatch,
    _broker: RunBroker,
}

/// Runs until all is counted and published, or `stop`.
fn simulate(config: &RunConfig, stop: &StopToken) -> Result<FinishedRun> {
    let data_dir = DataDir::open(&config.data_dir)?;
    let lock = data_dir.lock(PROCESSOR)?;
    // Before anything is thrown away.
    dashboard::check_disposable(data_dir.path())?;
    ledger::remove_simulation(data_dir.path())?;
    let files = RunFiles::new(data_dir.path());
    files.clear()?;
    let broker = RunBroker::start(config, &data_dir)?;
    let dashboard = start_dashboard(config, &broker)?;
    // Before anybody is told: a SIGHUP that nobody waits for ends the process.
    let reload = tls::reload_on_hangup(PART, dashboard.certificate().cloned())?;
    note(format_args!("{:<16} {}", "page", dashboard.url()));
    let start = Instant::now();
    let links = Arc::new(Links::default());
    let watch = StatusWatch::start(PART, &links)?;
    let finished = Phases::new(config, &broker, &dashboard, lock, links).drive(stop)?;
    drop(watch);
    let seconds = start.elapsed().as_secs_f64();
    let ending = finished.ending(config.production.messages, stop);
    files.write_produced(&finished.produced.counts)?;
    files.write_counted(finished.processed.consumed, &finished.counts, ending)?;
    let verification = files.verify()?;
    let mut report = RunReport::new(&finished.processed, seconds, config.durability);
    report.dashboard_plays = Some(dashboard.totals().plays);
    report.stopped = ending == RunEnding::Stopped;
    // What was stopped is not all that was to be counted, however right it is.
    let is_right = verification.is_verified();
    report.verified = (!report.stopped || !is_right).then_some(is_right);
    let wanted = config.production.messages;
    let incomplete = incomplete(&finished, wanted);
    let is_whole = incomplete.is_none();
    let wrong = || {
        let check = verification.first_failure()?;
        Some(format!("the counts are wrong: {check}"))
    };
    let shortfall = incomplete.or_else(wrong);
    if is_whole {
        dashboard.run_ended(outcome(&report, wanted, shortfall.clone()));
    }
    Ok(FinishedRun { report, shortfall, is_whole, dashboard, _reload: reload, _broker: broker })
}

/// How it has ended, for its page.
fn outcome(report: &RunReport, wanted: u64, fault: Option<String>) -> RunOutcome {
    let figure = |(name, value)| RunFigure { name, value };
    let report_lines = report.lines().into_iter().map(figure).collect();
    RunOutcome { counted: report.counted, wanted, fault, report: report_lines }
}

fn start_dashboard(config: &RunConfig, broker: &RunBroker) -> Result<Dashboard> {
    Dashboard::start(DashboardConfig {
        http_address: config.http_address.clone(),
        data_dir: config.data_dir.clone(),
        write_token: config.write_token.clone(),
        read_token: config.read_token.clone(),
        configuration: configuration(&config.shown()),
        clean: true,
        keep: config.keep,
        watched: Some(WatchedQueue {
            nsqds: broker.http_addresses(),
            lookupds: config.lookupds.clone(),
            tls: config.tls.clone(),
            topic: config.production.topic,
            channel: config.channel,
            depth_alert: config.depth_alert,
        }),
        allowed_hosts: config.allowed_hosts.clone(),
        video_url: config.video_url.clone(),
        idle_alert: None,
        webhook: None,
        embed: Vec::new(),
        tls: config.served.clone(),
    })
}

/// What a run of `wanted` plays is short of, the part nearest to the cause first; `None`: all were counted and published.
fn incomplete(finished: &Finished, wanted: u64) -> Option<String> {
    let Finished { produced, processed, .. } = finished;
    if let Some(failure) = &processed.failure {
        return Some(format!("counting ended: {failure}"));
    }
    if produced.messages < wanted || produced.unconfirmed.unwrap_or(0) > 0 {
        return Some(format!(
            "stopped before the end: {} of {} were produced, {} counted",
            grouped(produced.messages),
            many(wanted, "play"),
            grouped(processed.counters.counted)
        ));
    }
    processed.unpublished()
}
