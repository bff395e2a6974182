//! `produce`: only the producer. Runs on the main thread, which waits for its end or the stop signal.

mod confirming;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};
use crossbeam_channel::select;
use nsq_protocol::thread::StopToken;
use nsq_protocol::{Producer, ProducerConfig, TlsConfig};
use serde::Serialize;

use crate::command::shared::https;
use crate::command::shared::nsq::{self, ProducerOption};
use crate::command::shared::output::{OutputFormat, listed, print_report, status};
use crate::command::shared::report::rate;
use crate::command::shared::run_files::RunFiles;
use crate::command::shared::status::StatusWatch;
use crate::command::shared::values::{self, Count, HumanDuration, MAX_VIDEOS, Ratio};
use crate::model::config::{Durability, Popularity};
use crate::model::words::{grouped, many, of_number};
use crate::nsqd::waiting::{NotThere, StartWait};
use crate::producer::{
    DiskOutbox, OUTBOX_MAX, OutboxConfig, Production, ProductionConfig, ProductionReport,
    RunIdentity,
};
use crate::runtime::links::{LinkSource, LinkState, Links, PartLink};
use crate::storage::data_dir::DataDir;
use crate::wire::client::DashboardClient;
use confirming::{Confirming, StallNotice};

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
    num_videos: Count<MAX_VIDEOS>,
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
    /// use the nsqds that the nsqlookupd at this HTTP host:port, or https://host:port, knows at the start, instead;
    /// repeatable [default: none]
    #[argh(option)]
    lookupd_http_address: Vec<String>,
    /// PEM file of the certificate authorities of nsqds and nsqlookupds at https://, and no others [default: what options
    /// of the consumer or producer say of TLS, else SSL_CERT_FILE, else those that browsers trust]
    #[argh(option)]
    nsqd_http_ca: Option<String>,
    /// give up when no nsqd, or no nsqlookupd, is there after that long [default: never]
    #[argh(option)]
    connect_timeout: Option<HumanDuration>,
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
    /// PEM file of the certificate authorities of dashboards at https://, and no others [default: SSL_CERT_FILE, else
    /// those that browsers trust]
    #[argh(option)]
    dashboard_ca: Option<String>,
    /// the dashboard's token for reads, where it is private; others see it in ps, but not --read-token-file
    /// or PLAYCOUNTS_READ_TOKEN [default: none]
    #[argh(option)]
    read_token: Option<String>,
    /// file that holds that token, for its owner alone (chmod 600) [default: none]
    #[argh(option)]
    read_token_file: Option<String>,
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
    /// print the report as one JSON object on one line, and nothing else on stdout
    #[argh(switch)]
    json: bool,
}

/// What its status lines begin with.
const PART: &str = "produce";

/// How often it is looked whether plays still move.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What to produce, for which nsqds, and what is kept of it.
struct ProduceConfig {
    production: ProductionConfig,
    producer: ProducerConfig,
    /// Who knows the nsqds; none: they are named.
    lookupds: Vec<String>,
    /// Whom those at `https://` must prove to be.
    lookupd_tls: TlsConfig,
    /// After which the start fails while no nsqd is there; `None`: never.
    connect_timeout: Option<Duration>,
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
        let mut producer = ProducerConfig::new();
        if self.lookupd_http_address.is_empty() {
            producer = producer.nsqds(nsq::nsqds_or_local(self.nsqd_tcp_address));
        }
        ProducerOption::apply(&self.producer_opt, &mut producer)?;
        let (own, lookupds) = (producer.get_tls(), &self.lookupd_http_address);
        let lookupd_tls = https::nsq_tls(self.nsqd_http_ca, own, &[], lookupds)?.lookupd;
        nsq::check_lookupds(lookupds, &lookupd_tls)?;
        let outbox = match self.data_dir {
            Some(data_dir) => Some(DiskOutboxConfig {
                data_dir,
                dashboard: https::readable_dashboard(
                    self.dashboard_url,
                    self.dashboard_ca,
                    self.read_token,
                    self.read_token_file,
                )?,
                republish_after: self.republish_after.0,
                max: self.max_outbox.0,
                durability: self.durability,
            }),
            None => None,
        };
        let format = OutputFormat::from_switch(self.json);
        Ok(ProduceConfig {
            production,
            producer,
            lookupds: self.lookupd_http_address,
            lookupd_tls,
            connect_timeout: self.connect_timeout.map(|timeout| timeout.0),
            outbox,
            format,
        })
    }
}

/// Produces until nsqd has acknowledged all, with an outbox until all is counted, or until `stop`.
pub(super) fn run(args: ProduceArgs, stop: &StopToken) -> Result<()> {
    let args = args.config()?;
    let connected = args.connected();
    let ProduceConfig { production: config, producer, lookupds, lookupd_tls, .. } = args;
    let ProduceConfig { connect_timeout, outbox, format, .. } = args;
    let data_dir = outbox.as_ref().map(|outbox| DataDir::open(&outbox.data_dir)).transpose()?;
    let links = Arc::new(Links::default());
    let confirming =
        outbox.as_ref().map(|outbox| Confirming::new(outbox.dashboard.clone(), &links));
    let asked = outbox.zip(confirming.clone());
    let outbox = data_dir.as_ref().zip(asked);
    let outbox = outbox.map(|(dir, (outbox, asked))| outbox.open(dir, &config, asked, &links));
    let outbox = outbox.transpose()?;
    let watch = StatusWatch::start(PART, &links)?;
    let wait = StartWait { timeout: connect_timeout, stop: stop.clone() };
    let waits = |reason: &str| {
        links.away(PartLink::Start, reason);
        Ok(())
    };
    let producer = wait.until_there(|| connect(&producer, &lookupds, &lookupd_tls), waits)?;
    links.there(PartLink::Start);
    status(PART, format_args!("{connected}"));
    let producer = Arc::new(producer);
    links.ask(links_of(&producer));
    let production = Production::start(&config, &producer, outbox)?;
    wait_for_end(&production, confirming.as_ref(), stop);
    // What stops now is not away.
    drop(watch);
    let report = production.stop()?;
    if let Some(dir) = data_dir {
        RunFiles::new(dir.path()).write_produced(&report.counts)?;
    }
    print_report(format, &ProduceReport::from(&report))?;
    is_complete(&report, config.messages)
}

/// Waits until all is done, or `stop`; says from time to time what is waited for when nothing moves.
fn wait_for_end(production: &Production, confirming: Option<&Confirming>, stop: &StopToken) {
    let mut stall = StallNotice::new(Instant::now());
    loop {
        select! {
            recv(production.running()) -> _ => return,
            recv(stop.channel()) -> _ => return,
            default(LOOK_EVERY) => {}
        }
        let Some(confirming) = confirming else { continue };
        let (acknowledged, waiting) = (production.acknowledged(), confirming.waiting());
        if stall.is_over(Instant::now(), acknowledged, waiting) {
            status(PART, format_args!("{}", confirming.waits_for()));
        }
    }
}

/// Which nsqds a producer reaches, for as long as it is there. One that it has not needed yet is not away.
fn links_of(producer: &Arc<Producer>) -> LinkSource {
    let producer = Arc::downgrade(producer);
    Box::new(move || {
        let connections = producer.upgrade()?.stats().connections;
        let link = |of: nsq_protocol::ProducerConnectionStats| {
            let away = of.last_error.filter(|_| !of.connected);
            let losses = of.reconnects + u64::from(away.is_some());
            (PartLink::Nsqd(of.address), LinkState { away, losses, is_news: false })
        };
        Some(connections.into_iter().map(link).collect())
    })
}

/// # Errors
/// What is missing, when it was stopped before all was done.
fn is_complete(report: &ProductionReport, wanted: u64) -> Result<()> {
    let (acknowledged, of) = (report.messages, many(wanted, "play"));
    match report.unconfirmed {
        None if acknowledged < wanted => {
            bail!("stopped before the end: {} of {of} were produced", grouped(acknowledged))
        }
        Some(unconfirmed) if acknowledged < wanted || unconfirmed > 0 => bail!(
            "stopped before the end: nsqd has acknowledged {} of {of}, and {} {} not known to be counted; the same command goes on",
            grouped(acknowledged),
            grouped(unconfirmed),
            of_number(unconfirmed, "is", "are"),
        ),
        _ => Ok(()),
    }
}

/// Connects to the nsqds that are named, or that the nsqlookupds know now. Nothing is lost by trying until one is there.
fn connect(
    config: &ProducerConfig,
    lookupds: &[String],
    tls: &TlsConfig,
) -> Result<Producer, NotThere> {
    let found = nsq::nodes(lookupds, tls).map_err(NotThere::Yet)?;
    let config = config.clone().nsqds(found.into_iter().map(|node| node.tcp_address));
    Ok(Producer::connect(config)?)
}

impl ProduceConfig {
    /// Where the plays go, and until when they are kept, in one line.
    fn connected(&self) -> String {
        let topic = self.production.topic;
        let to = match &self.lookupds[..] {
            [] => listed("nsqd", self.producer.get_nsqds()),
            lookupds => format!("the nsqds that {} knew", listed("nsqlookupd", lookupds)),
        };
        let kept = match &self.outbox {
            None => "keeps none of them: it ends when nsqd has acknowledged all".to_owned(),
            Some(outbox) => format!(
                "keeps them in {} until {} says that they are counted",
                outbox.data_dir,
                outbox.dashboard.url()
            ),
        };
        format!("publishes to topic {topic} of {to}; {kept}")
    }
}

impl DiskOutboxConfig {
    /// Opens it for the run that `config` describes: an outbox belongs to one. `confirming` says what is counted.
    fn open(
        self,
        dir: &DataDir,
        config: &ProductionConfig,
        confirming: Confirming,
        links: &Arc<Links>,
    ) -> Result<OutboxConfig> {
        let run = RunIdentity {
            topic: config.topic.to_string(),
            messages: config.messages,
            videos: config.videos,
            popularity: config.popularity.to_string(),
        };
        Ok(OutboxConfig {
            confirmations: Arc::new(move |producer, figures| confirming.ask(producer, figures)),
            republish_after: self.republish_after,
            max: self.max,
            disk: Some(DiskOutbox::open(dir, &run, self.durability)?),
            links: links.clone(),
        })
    }
}

/// The report of `produce`.
#[derive(Clone, Debug, Serialize)]
struct ProduceReport {
    /// Plays that nsqd has acknowledged, those of earlier starts included.
    messages: u64,
    /// Those that it had acknowledged before this start; left out where there are none.
    #[serde(skip_serializing_if = "is_zero")]
    resumed: u64,
    /// Videos that they are plays of.
    videos: u64,
    /// Copies that were published again.
    republished: u64,
    /// Plays that are counted as its own and that it never made; left out where there are none.
    #[serde(skip_serializing_if = "is_zero")]
    foreign: u64,
    /// Whether every play is counted for good, where known.
    confirmed: Option<bool>,
    /// From the first play to the last OK, or until the last is known to be counted.
    seconds: f64,
    /// Those of this start, `(messages - resumed) / seconds`.
    messages_per_second: f64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl From<&ProductionReport> for ProduceReport {
    fn from(report: &ProductionReport) -> Self {
        let ProductionReport { messages, resumed, counts, seconds, .. } = report;
        let ProductionReport { republished, unconfirmed, foreign, .. } = report;
        let messages_per_second = rate(messages.saturating_sub(*resumed), *seconds);
        Self {
            messages: *messages,
            resumed: *resumed,
            videos: counts.len() as u64,
            republished: *republished,
            foreign: *foreign,
            confirmed: unconfirmed.map(|plays| plays == 0),
            seconds: *seconds,
            messages_per_second,
        }
    }
}

impl fmt::Display for ProduceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, resumed, videos, seconds, messages_per_second, .. } = self;
        let now = messages.saturating_sub(*resumed);
        match (now, resumed) {
            (0, 1..) => writeln!(
                f,
                "  messages     {}, all of them by an earlier start: nothing was left to do",
                grouped(*messages)
            )?,
            (now, resumed) => {
                let rate = grouped(*messages_per_second as u64);
                writeln!(f, "  messages     {} in {seconds:.2} s: {rate} a second", grouped(now))?;
                if *resumed > 0 {
                    let (before, all) = (grouped(*resumed), grouped(*messages));
                    writeln!(f, "  before       {before} by an earlier start: {all} in all")?;
                }
            }
        }
        writeln!(f, "  videos       {}", grouped(*videos))?;
        if self.republished > 0 {
            writeln!(f, "  republished  {}", many(self.republished, "play"))?;
        }
        if self.foreign > 0 {
            writeln!(
                f,
                "  foreign      {} of its id, never made by it",
                many(self.foreign, "play")
            )?;
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
