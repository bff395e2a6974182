//! `run`: the whole simulation in one process. Builds the parts, drives them, and owns the order in which they stop.
//! Runs on the main thread.

mod bars;
mod broker;
mod config;
mod phases;

use std::time::Instant;

use anyhow::{Result, bail};
use nsq_protocol::thread::StopToken;

use crate::command::shared::output::{configuration, note, print, print_report};
use crate::command::shared::report::RunReport;
use crate::command::shared::run_files::RunFiles;
use crate::command::shared::verification::Verification;
use crate::dashboard::{self, Dashboard, DashboardConfig, WatchedQueue};
use crate::ledger;
use crate::storage::data_dir::{DataDir, PROCESSOR};
use broker::RunBroker;
pub(super) use config::RunArgs;
use config::{AtEnd, RunConfig};
use phases::{Finished, Phases};

/// Runs the simulation, prints its report, and serves the page until `stop` unless told to end.
pub(super) fn run(args: RunArgs, stop: &StopToken) -> Result<()> {
    let config = args.config()?;
    for (name, value) in &config.shown() {
        note(format_args!("{name:<16} {value}"));
    }
    let run = simulate(&config, stop)?;
    if run.shortfall.is_none() {
        print(format_args!("All consumed"))?;
    }
    print_report(config.format, &run.report)?;
    if config.at_end == AtEnd::ServePage && run.shortfall.is_none() && !stop.is_stopped() {
        note(format_args!("the page is live at {}; Ctrl-C ends it", run.dashboard.url()));
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
    dashboard: Dashboard,
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
    note(format_args!("{:<16} {}", "page", dashboard.url()));
    let start = Instant::now();
    let finished = Phases::new(config, &broker, &dashboard, lock).drive(stop)?;
    let seconds = start.elapsed().as_secs_f64();
    files.write_produced(&finished.produced.counts)?;
    files.write_counted(finished.processed.consumed, &finished.counts)?;
    let verification = files.verify()?;
    let mut report = RunReport::new(&finished.processed, seconds, config.durability);
    report.dashboard_plays = Some(dashboard.totals().plays);
    report.verified = Some(verification.is_verified());
    let shortfall = shortfall(&finished, config.production.messages, &verification);
    Ok(FinishedRun { report, shortfall, dashboard, _broker: broker })
}

fn start_dashboard(config: &RunConfig, broker: &RunBroker) -> Result<Dashboard> {
    Dashboard::start(DashboardConfig {
        http_address: config.http_address.clone(),
        data_dir: config.data_dir.clone(),
        write_token: config.write_token.clone(),
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
    })
}

/// What a run of `wanted` plays is short of, the part nearest to the cause first.
fn shortfall(finished: &Finished, wanted: u64, verification: &Verification) -> Option<String> {
    let Finished { produced, processed, .. } = finished;
    if let Some(failure) = &processed.failure {
        return Some(format!("counting ended: {failure}"));
    }
    if produced.messages < wanted || produced.unconfirmed.unwrap_or(0) > 0 {
        return Some(format!(
            "stopped: {} of {wanted} plays were produced, {} counted",
            produced.messages, processed.counters.counted
        ));
    }
    if let Some(unpublished) = processed.unpublished() {
        return Some(unpublished);
    }
    verification.first_failure().map(|check| format!("the counts are wrong: {check}"))
}
