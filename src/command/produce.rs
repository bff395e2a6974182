//! `produce`: only the producer. Runs on the main thread, which waits for its end or the stop signal.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};
use crossbeam_channel::select;
use nsq_protocol::thread::StopToken;
use nsq_protocol::{Producer, ProducerConfig};
use serde::Serialize;

use crate::command::shared::nsq::{self, ProducerOption};
use crate::command::shared::output::{OutputFormat, print_report};
use crate::command::shared::report::{grouped, rate};
use crate::command::shared::run_files::RunFiles;
use crate::command::shared::values::{self, Count, HumanDuration, LogLevel, Ratio};
use crate::model::config::{Durability, Popularity};
use crate::producer::{
    Confirmations, DiskOutbox, OUTBOX_MAX, OutboxConfig, ProducerSpans, Production,
    ProductionConfig, ProductionReport, RunIdentity,
};
use crate::storage::data_dir::DataDir;
use crate::wire::client::DashboardClient;
use crate::wire::{ConfirmedAnswer, ProducerConfirmed};

/// How long between two tries to connect, while no nsqd is there.
const CONNECT_EVERY: Duration = Duration::from_millis(500);

/// only the producer: puts plays on a running nsqd and ends when it has acknowledged them all
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "produce", help_triggers("-h", "--help", "help"))]
pub(super) struct ProduceArgs {
    // What is produced.
    /// plays to make [default: 100000]
    #[argh(option, default = "Count(100_000)")]
    num_messages: Count,
    /// videos that they are plays of [default: 100]
    #[argh(option, default = "Count(100)")]
    num_videos: Count,
    /// plays a second [default: as fast as possible]
    #[argh(option)]
    rate: Option<Ratio>,
    /// how plays spread over the videos: uniform, or zipf:S with an exponent S above 0 [default: uniform]
    #[argh(option, default = "Popularity::Uniform")]
    popularity: Popularity,

    // The queue.
    /// use the nsqd at this host:port; repeatable [default: 127.0.0.1:4150]
    #[argh(option)]
    nsqd_tcp_address: Vec<String>,
    /// use the nsqds that the nsqlookupd at this HTTP host:port knows at the start, instead; repeatable
    /// [default: none]
    #[argh(option)]
    lookupd_http_address: Vec<String>,
    /// option for the producer by go-nsq's name, as name,value; repeatable [default: none]
    #[argh(option)]
    producer_opt: Vec<ProducerOption>,
    /// topic that the plays are put on [default: plays]
    #[argh(option, default = "values::TOPIC.into()")]
    topic: String,

    // The outbox.
    /// directory to keep every play in until it is counted, so that none is lost whatever is killed; the same
    /// command goes on after a kill. It ends when all is counted [default: none, ends when nsqd has all]
    #[argh(option)]
    data_dir: Option<String>,
    /// the dashboard to ask which plays are counted, with --data-dir [default: http://127.0.0.1:8000]
    #[argh(option, default = "values::DASHBOARD_URL.into()")]
    dashboard_url: String,
    /// publish a play again when no processor has counted it for that long [default: 30s]
    #[argh(option, default = "HumanDuration::from_secs(30)")]
    republish_after: HumanDuration,
    /// what a play in the outbox survives, before nsqd has it: process (kill -9) or power (a power loss, too)
    /// [default: process]
    #[argh(option, default = "Durability::default()")]
    durability: Durability,
    /// plays that may wait to be counted; then the producer waits, too [default: 10000000]
    #[argh(option, default = "Count(OUTBOX_MAX)")]
    max_outbox: Count,

    // Output.
    /// print the report as one JSON object, as the last line
    #[argh(switch)]
    json: bool,
    /// what to log: off, error, warn, info, debug or trace [default: warn]
    #[argh(option, default = "LogLevel::default()")]
    pub(super) log_level: LogLevel,
}

/// What to produce, for which nsqds, and what is kept of it.
struct ProduceConfig {
    production: ProductionConfig,
    producer: ProducerConfig,
    /// `None`: what nsqd has acknowledged is forgotten.
    outbox: Option<DiskOutboxConfig>,
    format: OutputFormat,
}

/// An outbox on disk.
struct DiskOutboxConfig {
    data_dir: String,
    dashboard: DashboardClient,
    republish_after: Duration,
    max: u64,
    durability: Durability,
}

impl ProduceArgs {
    fn config(self) -> Result<ProduceConfig> {
        let production = ProductionConfig {
            topic: nsq::topic(&self.topic)?,
            messages: self.num_messages.0,
            videos: self.num_videos.get(),
            threads: NonZeroUsize::MIN,
            rate: self.rate.map(|rate| rate.0),
            popularity: self.popularity,
        };
        nsq::nsqds_or_lookupds(&self.nsqd_tcp_address, &self.lookupd_http_address)?;
        let found = nsq::nodes(&self.lookupd_http_address)?;
        let mut producer = ProducerConfig::new();
        producer.nsqd_addresses = match found.is_empty() {
            true => nsq::nsqds_or_local(self.nsqd_tcp_address),
            false => found.into_iter().map(|node| node.tcp_address).collect(),
        };
        ProducerOption::apply(&self.producer_opt, &mut producer)?;
        let outbox = self.data_dir.map(|data_dir| DiskOutboxConfig {
            data_dir,
            dashboard: DashboardClient::new(&self.dashboard_url, None),
            republish_after: self.republish_after.0,
            max: self.max_outbox.0,
            durability: self.durability,
        });
        let format = OutputFormat::from_switch(self.json);
        Ok(ProduceConfig { production, producer, outbox, format })
    }
}

/// Produces until nsqd has acknowledged all, with an outbox until all is counted, or until `stop`.
pub(super) fn run(args: ProduceArgs, stop: &StopToken) -> Result<()> {
    let ProduceConfig { production: config, producer, outbox, format } = args.config()?;
    let data_dir = outbox.as_ref().map(|outbox| DataDir::open(&outbox.data_dir)).transpose()?;
    let outbox = data_dir.as_ref().zip(outbox).map(|(dir, outbox)| outbox.open(dir, &config));
    let outbox = outbox.transpose()?;
    let producer = match outbox {
        Some(_) => connect_when_there(&producer, stop)?,
        None => Producer::connect(producer)?,
    };
    let production = Production::start(&config, &Arc::new(producer), outbox)?;
    select! {
        recv(production.running()) -> _ => {}
        recv(stop.channel()) -> _ => {}
    }
    let report = production.stop()?;
    if let Some(dir) = data_dir {
        RunFiles::new(dir.path()).write_produced(&report.counts)?;
    }
    print_report(format, &ProduceReport::from(&report))?;
    is_complete(&report, config.messages)
}

/// # Errors
/// What is missing, when it was stopped before all was done.
fn is_complete(report: &ProductionReport, wanted: u64) -> Result<()> {
    let acknowledged = report.messages;
    match report.unconfirmed {
        None if acknowledged < wanted => {
            bail!("stopped: {acknowledged} of {wanted} plays were produced")
        }
        Some(unconfirmed) if acknowledged < wanted || unconfirmed > 0 => bail!(
            "stopped: nsqd has acknowledged {acknowledged} of {wanted} plays, and {unconfirmed} are not known to be counted; the same command goes on"
        ),
        _ => Ok(()),
    }
}

/// Connects to an nsqd, also to one that is not there yet: with an outbox nothing is lost by waiting, and the same
/// command must go on while the nsqd is away.
fn connect_when_there(config: &ProducerConfig, stop: &StopToken) -> Result<Producer> {
    let mut waiting = false;
    loop {
        match Producer::connect(config.clone()) {
            Err(error @ nsq_protocol::Error::Connect { .. }) => {
                if !std::mem::replace(&mut waiting, true) {
                    log::warn!("{:#}; trying again", anyhow::Error::from(error));
                }
            }
            connected => return Ok(connected?),
        }
        if stop.wait(CONNECT_EVERY) {
            bail!("stopped: no nsqd was there; the same command goes on");
        }
    }
}

impl DiskOutboxConfig {
    /// Opens it for the run that `config` describes: an outbox belongs to one.
    fn open(self, dir: &DataDir, config: &ProductionConfig) -> Result<OutboxConfig> {
        let run = RunIdentity {
            topic: config.topic.to_string(),
            messages: config.messages,
            videos: config.videos,
            popularity: config.popularity.to_string(),
        };
        let disk = DiskOutbox::open(dir, &run, self.durability)?;
        Ok(OutboxConfig {
            confirmations: confirmations(self.dashboard, disk.producers().clone()),
            republish_after: self.republish_after,
            max: self.max,
            disk: Some(disk),
        })
    }
}

/// Asks the dashboard for all of an outbox's plays, by the outbox's numbers.
fn confirmations(dashboard: DashboardClient, producers: ProducerSpans) -> Confirmations {
    Arc::new(move |present, outbox| {
        let mut processors = 0;
        let confirmed = producers.confirmed(|producer| {
            // Of a former one the plays are in the same outbox.
            let outbox = if producer == present { outbox } else { 0 };
            let answer = dashboard.confirmed(producer, outbox)?;
            processors = answer.processors;
            anyhow::Ok(answer.told.confirmed)
        })?;
        Ok(ConfirmedAnswer {
            told: ProducerConfirmed { producer: *present, confirmed },
            processors,
        })
    })
}

/// The report of `produce`.
#[derive(Clone, Debug, Serialize)]
struct ProduceReport {
    /// Plays that nsqd has acknowledged.
    messages: u64,
    /// Videos that they are plays of.
    videos: u64,
    /// Copies that were published again.
    republished: u64,
    /// Whether every play is counted for good, where known.
    confirmed: Option<bool>,
    /// From the first play to the last OK, or until the last is known to be counted.
    seconds: f64,
    /// `messages / seconds`.
    messages_per_second: f64,
}

impl From<&ProductionReport> for ProduceReport {
    fn from(report: &ProductionReport) -> Self {
        let ProductionReport { messages, counts, seconds, republished, unconfirmed } = report;
        let messages_per_second = rate(*messages, *seconds);
        Self {
            messages: *messages,
            videos: counts.len() as u64,
            republished: *republished,
            confirmed: unconfirmed.map(|plays| plays == 0),
            seconds: *seconds,
            messages_per_second,
        }
    }
}

impl fmt::Display for ProduceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, videos, seconds, messages_per_second, .. } = self;
        writeln!(
            f,
            "  messages     {} in {seconds:.2} s: {} a second",
            grouped(*messages),
            grouped(*messages_per_second as u64)
        )?;
        writeln!(f, "  videos       {}", grouped(*videos))?;
        if self.republished > 0 {
            writeln!(f, "  republished  {} plays", grouped(self.republished))?;
        }
        f.write_str(match self.confirmed {
            Some(true) => "  promise      every play is in a processor's ledger",
            Some(false) => "  promise      every play is in the outbox until it is counted",
            None => {
                "  promise      nsqd has acknowledged every play; what it loses when killed is not sent again"
            }
        })
    }
}
