//! `run`: builds the parts, drives them, and owns the order in which they stop. Runs on the main thread.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, never, select_biased};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use nsq_protocol::thread::StopToken;
use nsq_protocol::{ChannelName, ConsumerConfig, Producer, ProducerConfig, TopicName};
use uuid::Uuid;

use crate::broker::{Broker, BrokerConfig};
use crate::command::shared::report::RunReport;
use crate::command::shared::run_files::RunFiles;
use crate::dashboard::{Dashboard, DashboardConfig, Keep, WatchedQueue};
use crate::ledger::{self, LedgerConfig};
use crate::model::config::{ConsumerOption, Durability, ProducerOption};
use crate::nsqd::child::ChildNsqd;
use crate::nsqd::topic::{RemoteTopic, http_addresses};
use crate::processor::{Processor, ProcessorConfig, ProcessorReport};
use crate::producer::{
    Confirmations, OUTBOX_MAX, OutboxConfig, Production, ProductionConfig, ProductionReport,
};
use crate::storage::data_dir::{DataDir, Lock, PROCESSOR};
use crate::wire::client::DashboardClient;
use crate::wire::{Confirmed, ConfirmedAnswer, ProducerConfirmed};

/// How often the progress bars move.
const TICK: Duration = Duration::from_millis(100);

/// What one queued play costs the embedded broker at most, in bytes: its body of about 155 and what is kept with it.
pub const QUEUED_PLAY: u64 = 200;

/// Which broker a run goes through.
#[derive(Clone, Debug)]
pub enum BrokerChoice {
    /// Our own, in this process.
    Embedded,
    /// A real nsqd, started for the run.
    StartNsqd,
    /// Running nsqds.
    Named {
        /// Their `host:port`s for clients.
        tcp_addresses: Vec<String>,
        /// Their HTTP `host:port`s; empty: the next port of each.
        http_addresses: Vec<String>,
        /// Throw away what the topic holds.
        reset: bool,
    },
}

/// What to simulate.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// Which broker.
    pub broker: BrokerChoice,
    /// What is produced.
    pub production: ProductionConfig,
    /// The processor's channel.
    pub channel: ChannelName,
    /// The processor's worker threads.
    pub threads: NonZeroUsize,
    /// Messages in flight for each nsqd.
    pub max_in_flight: u32,
    /// nsqlookupds that the dashboard shows, with the nsqds that they know.
    pub lookupds: Vec<String>,
    /// With more messages waiting than these the dashboard says so.
    pub depth_alert: Option<u64>,
    /// How long the dashboard keeps history.
    pub keep: Keep,
    /// More names that the dashboard is served under.
    pub allowed_hosts: Vec<String>,
    /// More settings of the consumer.
    pub consumer_options: Vec<ConsumerOption>,
    /// More settings of the producer.
    pub producer_options: Vec<ProducerOption>,
    /// How often a video with `realtime_below` plays or more is published.
    pub update_interval: Duration,
    /// Up to how many plays a video is published at each change.
    pub realtime_below: u64,
    /// What a count survives.
    pub durability: Durability,
    /// After how long a play that is not counted is published again.
    pub republish_after: Duration,
    /// Start producers and processor together.
    pub real_life: bool,
    /// Where the page is.
    pub http_address: String,
    /// The dashboard's token for writes.
    pub write_token: Option<String>,
    /// Where the run keeps its files.
    pub data_dir: PathBuf,
    /// The configuration as the page shows it: names and values.
    pub shown: Vec<(String, String)>,
}

/// A run that has ended, its page still served. Fields in the order in which they stop.
pub struct FinishedRun {
    /// What it did.
    pub report: RunReport,
    /// Why not every play was counted and published; `None` when all were.
    pub shortfall: Option<String>,
    dashboard: Dashboard,
    _broker: RunningBroker,
}

impl FinishedRun {
    /// Where the page is.
    pub fn url(&self) -> String {
        self.dashboard.url()
    }

    /// Stops the dashboard, then the broker.
    ///
    /// # Errors
    /// When the dashboard cannot close its database.
    pub fn shutdown(self) -> Result<()> {
        self.dashboard.shutdown()
    }
}

/// Runs the simulation until all is counted and published, or `stop`.
///
/// # Errors
/// What kept a part from starting, or the producer from publishing.
pub fn run(
    config: &RunConfig,
    stop: &StopToken,
    started: impl FnOnce(&str),
) -> Result<FinishedRun> {
    let data_dir = DataDir::open(&config.data_dir)?;
    let lock = data_dir.lock(PROCESSOR)?;
    ledger::remove(data_dir.path(), true)?;
    let files = RunFiles::new(data_dir.path());
    files.clear()?;
    let broker = RunningBroker::start(config, &data_dir)?;
    let dashboard = start_dashboard(config, &broker)?;
    started(&dashboard.url());
    let start = Instant::now();
    let (produced, processed) = Parts::new(config, &broker, &dashboard, lock).drive(stop)?;
    let seconds = start.elapsed().as_secs_f64();
    files.write_produced(&produced.counts)?;
    let mut report = RunReport::new(&processed.report, seconds, config.durability);
    files.write_counted(processed.report.consumed, &processed.counts)?;
    report.dashboard_plays = Some(dashboard.totals().plays);
    let verification = files.verify()?;
    report.verified = Some(verification.is_verified());
    let wanted = config.production.messages;
    let unconfirmed = produced.unconfirmed.unwrap_or(0);
    let shortfall = if let Some(failure) = processed.report.failure {
        Some(format!("counting ended: {failure}"))
    } else if produced.messages < wanted || unconfirmed > 0 {
        Some(format!(
            "stopped: {} of {wanted} plays were produced, {} counted",
            produced.messages, report.counted
        ))
    } else if let Some(error) = processed.report.publish_error {
        let videos = processed.report.unpublished_videos;
        Some(format!("the counts of {videos} videos are not published: {error}"))
    } else {
        verification.first_failure().map(|check| format!("the counts are wrong: {check}"))
    };
    Ok(FinishedRun { report, shortfall, dashboard, _broker: broker })
}

fn start_dashboard(config: &RunConfig, broker: &RunningBroker) -> Result<Dashboard> {
    Dashboard::start(DashboardConfig {
        http_address: config.http_address.clone(),
        data_dir: config.data_dir.clone(),
        write_token: config.write_token.clone(),
        configuration: shown_as_json(&config.shown),
        clean: true,
        keep: config.keep,
        watched: Some(WatchedQueue {
            nsqds: broker.http_addresses(),
            lookupds: config.lookupds.clone(),
            topic: config.production.topic,
            channel: config.channel,
            depth_alert: config.depth_alert,
        }),
        allowed_hosts: config.allowed_hosts.clone(),
    })
}

/// Names and values as the dashboard's page takes them.
pub fn shown_as_json(shown: &[(String, String)]) -> serde_json::Value {
    shown.iter().map(|(name, value)| serde_json::json!({ "name": name, "value": value })).collect()
}

/// The broker of a run.
enum RunningBroker {
    Embedded(Broker),
    Child(ChildNsqd),
    Named { tcp: Vec<String>, http: Vec<String> },
}

impl RunningBroker {
    fn start(config: &RunConfig, data_dir: &DataDir) -> Result<Self> {
        let topic = config.production.topic;
        let broker = match &config.broker {
            BrokerChoice::Embedded => {
                // Free ports: nobody but this run needs to know them.
                let any = || "127.0.0.1:0".to_owned();
                let broker = BrokerConfig {
                    tcp_address: any(),
                    http_address: Some(any()),
                    ..Default::default()
                };
                Self::Embedded(Broker::start(broker)?)
            }
            BrokerChoice::StartNsqd => {
                Self::Child(ChildNsqd::start(&data_dir.path().join("nsqd"))?)
            }
            BrokerChoice::Named { tcp_addresses, http_addresses: http, .. } => Self::Named {
                tcp: tcp_addresses.clone(),
                http: http_addresses(tcp_addresses, http)?,
            },
        };
        let reset = matches!(config.broker, BrokerChoice::Named { reset: true, .. });
        broker.queue(topic, config.channel)?.prepare(reset)?;
        Ok(broker)
    }

    fn tcp_addresses(&self) -> Vec<String> {
        match self {
            Self::Embedded(broker) => vec![broker.tcp_addr().to_string()],
            Self::Child(nsqd) => vec![nsqd.tcp_address.clone()],
            Self::Named { tcp, .. } => tcp.clone(),
        }
    }

    fn queue(&self, topic: TopicName, channel: ChannelName) -> Result<RemoteTopic> {
        Ok(RemoteTopic::new(&self.http_addresses(), topic, channel))
    }

    fn http_addresses(&self) -> Vec<String> {
        match self {
            Self::Embedded(broker) => broker.http_addr().iter().map(ToString::to_string).collect(),
            Self::Child(nsqd) => vec![nsqd.http_address.clone()],
            Self::Named { http, .. } => http.clone(),
        }
    }
}

/// What the processor leaves: its report, and every video's plays.
struct Processed {
    report: ProcessorReport,
    counts: Vec<(Uuid, u64)>,
}

/// Producer and processor of one run, each started when its time has come.
struct Parts<'a> {
    config: &'a RunConfig,
    nsqds: Vec<String>,
    dashboard_url: String,
    lock: Option<Lock>,
    production: Option<Production>,
    processor: Option<Processor>,
    /// Who knows which plays are counted, once there is a processor.
    ledger: Arc<OnceLock<Confirm>>,
    bars: Bars,
}

/// Which plays of a producer are counted for good.
type Confirm = Box<dyn Fn(&Uuid) -> Confirmed + Send + Sync>;

/// What ends a phase of the run.
enum Event {
    /// nsqd has acknowledged all.
    Published,
    /// As much is counted as was to be produced.
    Consumed,
    /// Every play is known to be counted.
    Confirmed,
    Stopped,
    Tick,
}

impl<'a> Parts<'a> {
    fn new(
        config: &'a RunConfig,
        broker: &RunningBroker,
        dashboard: &Dashboard,
        lock: Lock,
    ) -> Self {
        Self {
            config,
            nsqds: broker.tcp_addresses(),
            dashboard_url: dashboard.url(),
            lock: Some(lock),
            production: None,
            processor: None,
            ledger: Arc::default(),
            bars: Bars::new(config.production.messages),
        }
    }

    /// Produces and consumes all, or as much as there is before `stop`; all that is counted is published.
    fn drive(mut self, stop: &StopToken) -> Result<(ProductionReport, Processed)> {
        self.start_production()?;
        if self.config.real_life || self.queue_would_overflow() {
            self.start_processor()?;
        }
        let mut publishing = true;
        loop {
            let event = self.next_event(stop, publishing);
            self.bars.show(self.production.as_ref(), self.processor.as_ref());
            match event {
                Event::Tick => {}
                Event::Published => {
                    publishing = false;
                    if self.processor.is_none() {
                        self.start_processor()?;
                    }
                }
                Event::Consumed => {
                    self.production.iter().for_each(Production::check_now);
                }
                Event::Confirmed | Event::Stopped => return self.finish(),
            }
        }
    }

    fn next_event(&self, stop: &StopToken, publishing: bool) -> Event {
        let nothing: Receiver<()> = never();
        let production = self.production.as_ref();
        let published = production.filter(|_| publishing).map_or(&nothing, Production::publishing);
        let confirmed = production.map_or(&nothing, Production::running);
        let consumed = self.processor.as_ref().map_or(&nothing, Processor::reached);
        let failed = self.processor.as_ref().map_or(&nothing, Processor::failed);
        // In this order: a production that has failed has published nothing more, and must not start a processor.
        select_biased! {
            recv(stop.channel()) -> _ => Event::Stopped,
            recv(failed) -> _ => Event::Stopped,
            recv(confirmed) -> _ => Event::Confirmed,
            recv(consumed) -> _ => Event::Consumed,
            recv(published) -> _ => Event::Published,
            default(TICK) => Event::Tick,
        }
    }

    fn start_production(&mut self) -> Result<()> {
        let mut producer = ProducerConfig::new();
        producer.nsqd_addresses = self.nsqds.clone();
        ProducerOption::apply(&self.config.producer_options, &mut producer)?;
        let producer = Arc::new(Producer::connect(producer)?);
        let ledger = self.ledger.clone();
        let confirmations: Confirmations = Arc::new(move |producer, _| {
            let confirmed = ledger.get().map(|confirm| confirm(producer));
            let processors = usize::from(confirmed.is_some());
            let told =
                ProducerConfirmed { producer: *producer, confirmed: confirmed.unwrap_or_default() };
            Ok(ConfirmedAnswer { told, processors })
        });
        let outbox = OutboxConfig {
            confirmations,
            republish_after: self.config.republish_after,
            max: OUTBOX_MAX,
            disk: None,
        };
        self.production =
            Some(Production::start(&self.config.production, &producer, Some(outbox))?);
        Ok(())
    }

    fn start_processor(&mut self) -> Result<()> {
        let config = self.config;
        let mut consumer = ConsumerConfig::new(config.production.topic, config.channel);
        consumer.nsqd_addresses = self.nsqds.clone();
        consumer.max_in_flight = config.max_in_flight.saturating_mul(self.nsqds.len() as u32);
        ConsumerOption::apply(&config.consumer_options, &mut consumer)?;
        let ledger =
            LedgerConfig { directory: config.data_dir.clone(), simulation: true, adopt: false };
        let processor = Processor::start(ProcessorConfig {
            consumer,
            threads: config.threads,
            update_interval: config.update_interval,
            realtime_below: config.realtime_below,
            dashboard: DashboardClient::new(&self.dashboard_url, config.write_token.clone()),
            target: Some(config.production.messages),
            ledger: ledger::open(&ledger, config.durability)?,
            lock: self.lock.take().context("a run has one processor")?,
        })?;
        // Set once: a run has one processor.
        let _ = self.ledger.set(Box::new(processor.confirmations()));
        self.processor = Some(processor);
        Ok(())
    }

    /// Whether the embedded broker, which has no disk, or the outbox cannot hold all plays at once: then they are
    /// consumed while they are produced.
    fn queue_would_overflow(&self) -> bool {
        let needed = self.config.production.messages.saturating_mul(QUEUED_PLAY);
        let overflow = self.config.production.messages > OUTBOX_MAX
            || matches!(self.config.broker, BrokerChoice::Embedded)
                && needed > BrokerConfig::default().max_memory as u64;
        if overflow {
            log::warn!(
                "{} plays do not fit the queue's memory at once: consuming while producing, as with --real-life",
                self.config.production.messages
            );
        }
        overflow
    }

    /// Stops producer, then processor.
    fn finish(mut self) -> Result<(ProductionReport, Processed)> {
        let production = self.production.take().context("a run has a producer")?;
        let produced = production.stop()?;
        // Without a processor the run was stopped before its time: nothing is counted, and the report says so.
        let (report, counts) = self.processor.take().map(Processor::stop).unwrap_or_default();
        self.bars.clear();
        Ok((produced, Processed { report, counts }))
    }
}

/// Progress on a terminal; nothing elsewhere.
struct Bars {
    all: MultiProgress,
    queued: ProgressBar,
    counted: ProgressBar,
}

impl Bars {
    fn new(messages: u64) -> Self {
        let all = MultiProgress::new();
        let template = "{prefix:>8} {bar:40} {human_pos}/{human_len} {per_sec}";
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = |prefix: &'static str| {
            all.add(ProgressBar::new(messages).with_style(style.clone()).with_prefix(prefix))
        };
        let (queued, counted) = (bar("queued"), bar("counted"));
        Self { all, queued, counted }
    }

    fn show(&self, production: Option<&Production>, processor: Option<&Processor>) {
        match production {
            Some(production) => self.queued.set_position(production.acknowledged()),
            None => self.queued.set_position(self.queued.length().unwrap_or(0)),
        }
        if let Some(processor) = processor {
            self.counted.set_position(processor.progress().consumed());
        }
    }

    fn clear(&self) {
        // Cosmetic: a terminal that is gone is no error of the run.
        let _ = self.all.clear();
    }
}
