//! `process`: only the processor. Runs on the main thread, which waits for its target, its failure or the stop signal.

mod config;
mod open_ledger;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use argh::{ArgsInfo, FromArgs};
use crossbeam_channel::select;
use nsq_protocol::ConsumerConfig;
use nsq_protocol::thread::StopToken;

use self::config::{PART, ProcessConfig, Takeover};
use crate::command::shared::https;
use crate::command::shared::ledger_choice::{FILES, LedgerChoice};
use crate::command::shared::nsq::{self, ConsumerOption};
use crate::command::shared::output::{OutputFormat, listed, print_report, status};
use crate::command::shared::report::RunReport;
use crate::command::shared::run_files::{RunEnding, RunFiles};
use crate::command::shared::status::StatusWatch;
use crate::command::shared::token::write_token;
use crate::command::shared::values::{
    self, Count, HumanDuration, MAX_IN_FLIGHT, MAX_MSG_SIZE, MAX_THREADS,
};
use crate::ledger::{Ledger, MessageBudget};
use crate::model::config::Durability;
use crate::model::play::{JsonPointer, PlayShape};
use crate::model::words::{grouped, many};
use crate::nsqd::neighbours::Neighbours;
use crate::nsqd::waiting::StartWait;
use crate::processor::{OnLoss, Processor, ProcessorConfig, ProcessorReport};
use crate::runtime::links;
use crate::runtime::notify;
use crate::storage::data_dir::{DataDir, Lock, PROCESSOR};
use crate::wire::LedgerKind;
use crate::wire::client::DashboardClient;

/// only the processor: counts plays from a running nsqd and publishes the counts to the dashboards, until
/// Ctrl-C or --num-messages
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "process", help_triggers("-h", "--help", "help"))]
pub(super) struct ProcessArgs {
    // What is counted, and when it is published.
    /// end when the ledger holds that many messages, those of earlier starts included, and they are
    /// published [default: none, runs until Ctrl-C]
    #[argh(option)]
    num_messages: Option<Count>,
    /// worker threads [default: 2]
    #[argh(option, default = "Count(2)")]
    num_threads: Count<MAX_THREADS>,
    /// how often a video with --realtime-below plays or more is published [default: 30s]
    #[argh(option, default = "HumanDuration::from_secs(30)")]
    update_interval: HumanDuration,
    /// below how many plays a video is published at once, at each change [default: 100]
    #[argh(option, default = "Count(100)")]
    realtime_below: Count,

    // The queue.
    /// use the nsqd at this host:port; repeatable [default: 127.0.0.1:4150]
    #[argh(option)]
    nsqd_tcp_address: Vec<String>,
    /// that nsqd's HTTP host:port, or https://host:port; repeatable, in the same order
    /// [default: same host, TCP port + 1]
    #[argh(option)]
    nsqd_http_address: Vec<String>,
    /// find the nsqds through the nsqlookupd at this HTTP host:port, or https://host:port, instead, also later ones;
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
    /// option for the consumer by go-nsq's name, as name,value; repeatable [default: none]
    #[argh(option)]
    consumer_opt: Vec<ConsumerOption>,
    /// topic that the plays are on [default: plays]
    #[argh(option, default = "values::TOPIC.into()")]
    topic: String,
    /// channel to read [default: processor]
    #[argh(option, default = "values::CHANNEL.into()")]
    channel: String,
    /// messages in flight for each nsqd; with nsqlookupd, for all [default: 2500]
    #[argh(option, default = "Count(2500)")]
    max_in_flight: Count<MAX_IN_FLIGHT>,
    /// bytes of one message body, at most 16777186, each held for --max-in-flight messages; a larger one is kept as
    /// a dead letter, by its size and its first 16 KiB [default: 1048576]
    #[argh(option, default = "Count(1 << 20)")]
    max_msg_size: Count<MAX_MSG_SIZE>,
    /// start beside a processor with another ledger on the same channel: both together may count a play twice
    #[argh(switch)]
    beside_others: bool,
    /// where a body has the video's id, as a JSON Pointer: empty for the whole body, else it begins with a slash
    /// [default: /video_id]
    #[argh(option, default = "PlayShape::default_video()")]
    video_field: JsonPointer,
    /// where a body has the time of the play, as a JSON Pointer: seconds to nanoseconds since 1970, or RFC 3339; a play
    /// without one has the time at which nsqd took it [default: /enqueued_at]
    #[argh(option, default = "PlayShape::default_time()")]
    time_field: JsonPointer,
    /// where a body has the play's own id, as a JSON Pointer: text or whole number of 1 to 128 bytes; plays of one id
    /// count once within a window: at least 10000 plays for each MiB of --message-window-mb, or 48 hours in PostgreSQL
    /// [default: none, /producer and /seq identify a play]
    #[argh(option)]
    id_field: Option<JsonPointer>,
    /// where a body has the video's title, as a JSON Pointer: dashboards show its first 300 characters [default: none]
    #[argh(option)]
    title_field: Option<JsonPointer>,
    /// where a body has an array of plays, up to 10000, as a JSON Pointer: the other fields are then those of its
    /// elements [default: none, a body is a play or an array of them]
    #[argh(option)]
    plays_field: Option<JsonPointer>,
    /// how old a play's time may be to be believed; an older one is left out of the consumption times [default: 7d]
    #[argh(option, default = "values::TIME_WINDOW_BACK")]
    time_window_back: HumanDuration,
    /// how far ahead of this machine's clock it may be [default: 1m]
    #[argh(option, default = "values::TIME_WINDOW_AHEAD")]
    time_window_ahead: HumanDuration,

    // The dashboards.
    /// where the dashboard is; repeatable, up to 8 times: each is told every count, at its own pace
    /// [default: http://127.0.0.1:8000]
    #[argh(option)]
    dashboard_url: Vec<String>,
    /// PEM file of the certificate authorities of dashboards at https://, and no others [default: SSL_CERT_FILE, else
    /// those that browsers trust]
    #[argh(option)]
    dashboard_ca: Option<String>,
    /// the token for writes, the same of all dashboards; others see it in ps, but not --write-token-file
    /// or PLAYCOUNTS_WRITE_TOKEN [default: none]
    #[argh(option)]
    write_token: Option<String>,
    /// file that holds that token, for its owner alone (chmod 600) [default: none]
    #[argh(option)]
    write_token_file: Option<String>,

    // The ledger.
    /// where the counts are kept: files in --data-dir, or postgres://user@host:port/database, which any number of
    /// processors on one channel share; others see a password in it in ps, but not PGPASSWORD or PGPASSFILE
    /// [default: files]
    #[argh(option, default = "FILES.into()")]
    ledger: String,
    /// what a count in files survives: process (kill -9 of any part) or power (a power loss, too); none is for
    /// measurements [default: process]
    #[argh(option, default = "Durability::default()")]
    durability: Durability,
    /// memory for the newest messages of plays without (producer, seq), in MiB, up to 2048: one that nsqd delivers
    /// again is known while it is among them; 32 hold at least a million [default: 32]
    #[argh(option, default = "Count(MessageBudget::DEFAULT_MB)")]
    message_window_mb: Count<{ MessageBudget::MAX_MB }>,
    /// wait for the data directory's processor to end, then take its place at once
    #[argh(switch)]
    standby: bool,
    /// take a ledger in files that was made on another machine, whose processor will never run again
    #[argh(switch)]
    adopt_ledger: bool,
    /// go on with a ledger that is older than a dashboard, such as an old copy: plays that it does not hold are
    /// lost, and that dashboard forgets what it has of this processor; counting is refused without this
    #[argh(switch)]
    accept_loss: bool,
    /// directory for the ledger and the processor's other files [default: playcounts-data]
    #[argh(option, default = "values::DATA_DIR.into()")]
    data_dir: String,

    // Output.
    /// print the report as one JSON object on one line, and nothing else on stdout
    #[argh(switch)]
    json: bool,
}

/// A processor that is fenced again so soon has not been away: somebody else goes by its name.
const FENCED_AGAIN: Duration = Duration::from_secs(30);

impl ProcessArgs {
    fn config(self) -> Result<ProcessConfig> {
        let (topic, channel) = (nsq::topic(&self.topic)?, nsq::channel(&self.channel)?);
        let threads = self.num_threads.threads();
        nsq::nsqds_or_lookupds(&self.nsqd_tcp_address, &self.lookupd_http_address)?;
        let mut max_in_flight = self.max_in_flight.max_in_flight();
        let mut nsqds = Vec::new();
        if self.lookupd_http_address.is_empty() {
            nsqds = nsq::nsqds_or_local(self.nsqd_tcp_address);
            max_in_flight = max_in_flight.saturating_mul(nsqds.len() as u32);
        }
        let mut consumer = ConsumerConfig::new(topic, channel)
            .nsqds(nsqds)
            .lookupds(self.lookupd_http_address)
            .max_in_flight(max_in_flight)
            .max_msg_size(self.max_msg_size.get());
        ConsumerOption::apply(&self.consumer_opt, &mut consumer)?;
        let (own, lookupds) = (consumer.get_tls(), consumer.get_lookup().get_addresses());
        let tls = https::nsq_tls(self.nsqd_http_ca, own, &self.nsqd_http_address, lookupds)?;
        consumer = consumer.lookupd_tls(tls.lookupd);
        let token = write_token(self.write_token, self.write_token_file)?;
        let ledger = LedgerChoice::parse(&self.ledger)?;
        let neighbours = Neighbours::new(
            consumer.get_nsqds(),
            self.nsqd_http_address,
            tls.nsqd,
            consumer.get_lookup().clone(),
            topic,
            channel,
        )?;
        let urls = match self.dashboard_url {
            urls if urls.is_empty() => vec![values::DASHBOARD_URL.to_owned()],
            urls => urls,
        };
        Ok(ProcessConfig {
            consumer,
            connect_timeout: self.connect_timeout.map(|timeout| timeout.0),
            neighbours: (!self.beside_others).then_some(neighbours),
            threads,
            time_window: values::time_window(self.time_window_back, self.time_window_ahead),
            shape: PlayShape {
                plays: self.plays_field,
                video: self.video_field,
                time: self.time_field,
                id: self.id_field,
                title: self.title_field,
            },
            update_interval: self.update_interval.0,
            realtime_below: self.realtime_below.0,
            dashboards: https::dashboards(&urls, token.as_deref(), self.dashboard_ca)?,
            target: self.num_messages.map(|count| count.0),
            data_dir: self.data_dir.into(),
            takeover: if self.standby { Takeover::WhenFree } else { Takeover::Never },
            adopt: self.adopt_ledger,
            on_loss: if self.accept_loss { OnLoss::Accept } else { OnLoss::Refuse },
            durability: ledger.durability(self.durability)?,
            message_budget: MessageBudget::from_mb(self.message_window_mb.0),
            ledger,
            format: OutputFormat::from_switch(self.json),
        })
    }
}

impl ProcessConfig {
    /// What it is connected to, where it stores and publishes, in one line.
    fn connected(&self, ledger: &dyn Ledger) -> String {
        let consumer = &self.consumer;
        let (topic, channel) = (consumer.get_topic(), consumer.get_channel());
        let from = match consumer.get_lookup().get_addresses() {
            [] => listed("nsqd", consumer.get_nsqds()),
            lookupds => format!("the nsqds that {} knows", listed("nsqlookupd", lookupds)),
        };
        let told = ledger.status();
        let into = match told.kind {
            LedgerKind::Files => self.data_dir.display().to_string(),
            LedgerKind::Postgres => {
                format!("PostgreSQL {} (its own files: {})", told.name, self.data_dir.display())
            }
        };
        let dashboards: Vec<_> = self.dashboards.iter().map(DashboardClient::url).collect();
        let tells = listed("dashboard", &dashboards);
        format!("counts {topic}/{channel} of {from} into {into}, tells {tells}")
    }
}

/// How a processor's run ended.
enum Ended {
    /// For good.
    Done,
    /// Another one has taken over what it counted under: it may start again.
    Fenced,
}

/// Counts until the target is reached, counting fails, or `stop`.
pub(super) fn run(args: ProcessArgs, stop: &StopToken) -> Result<()> {
    let config = args.config()?;
    let data_dir = DataDir::open(&config.data_dir)?;
    let links = Arc::new(links::Links::default());
    let mut fenced_at = None::<Instant>;
    loop {
        let watch = StatusWatch::start(PART, &links)?;
        let lock = lock(&data_dir, &config.takeover, stop)?;
        let Some(ledger) = open_ledger::open_ledger(&config, &links, stop)? else {
            bail!("stopped while waiting for the ledger: nothing was counted");
        };
        // It serves: an nsqd or a dashboard that is away is waited for as long as it takes.
        notify::ready();
        match run_once(&config, &data_dir, ledger, lock, (&links, watch), stop)? {
            Ended::Done => return Ok(()),
            Ended::Fenced => {
                if fenced_at.is_some_and(|before| before.elapsed() < FENCED_AGAIN) {
                    bail!(
                        "another process has taken this processor's place again and again: a copy of the data directory {} is in use",
                        config.data_dir.display()
                    );
                }
                fenced_at = Some(Instant::now());
                status(
                    PART,
                    format_args!(
                        "another processor had taken over while this one was away; starting again"
                    ),
                );
            }
        }
    }
}

fn run_once(
    config: &ProcessConfig,
    data_dir: &DataDir,
    ledger: Box<dyn Ledger>,
    lock: Lock,
    (links, watch): (&Arc<links::Links>, StatusWatch),
    stop: &StopToken,
) -> Result<Ended> {
    let connected = config.connected(&*ledger);
    let processor = Processor::start(ProcessorConfig {
        consumer: config.consumer.clone(),
        wait: StartWait { timeout: config.connect_timeout, stop: stop.clone() },
        neighbours: config.neighbours.clone(),
        threads: config.threads,
        time_window: config.time_window,
        shape: config.shape.clone(),
        update_interval: config.update_interval,
        realtime_below: config.realtime_below,
        dashboards: config.dashboards.clone(),
        target: config.target,
        ledger,
        on_loss: config.on_loss,
        lock,
        links: links.clone(),
    })?;
    status(PART, format_args!("{connected}"));
    let mut yielded = None;
    select! {
        recv(processor.reached()) -> _ => {}
        recv(processor.failed()) -> _ => {}
        recv(processor.yielded()) -> reason => yielded = reason.ok(),
        recv(stop.channel()) -> _ => {}
    }
    // What stops now is not away; what is not published in the end is told below.
    drop(watch);
    let (processed, counts) = processor.stop();
    if processed.is_fenced && !stop.wait(Duration::ZERO) {
        return Ok(Ended::Fenced);
    }
    let written = RunFiles::new(data_dir.path()).write_counted(
        processed.in_ledger,
        &counts,
        RunEnding::Complete,
    );
    if processed.failure.is_none() {
        written?;
    } else if let Err(error) = written {
        // Why nothing is counted is what is to be told at the end; the directory itself may be gone.
        log::warn!("{error:#}");
    }
    let mut report = RunReport::new(&processed, processed.seconds, config.durability);
    report.has_ids = config.shape.id.is_some();
    print_report(config.format, &report)?;
    yielded.map_or(Ok(()), Err)?;
    is_complete(&processed, config)?;
    Ok(Ended::Done)
}

fn lock(data_dir: &DataDir, takeover: &Takeover, stop: &StopToken) -> Result<Lock> {
    match takeover {
        Takeover::Never => data_dir.lock(PROCESSOR),
        Takeover::WhenFree => {
            let mut waited = false;
            let waiting = |owner| {
                waited = true;
                status(PART, format_args!("standing by: {owner}; takes over when that ends"));
                notify::ready();
            };
            let lock = data_dir.lock_when_free(PROCESSOR, stop, waiting)?;
            if waited && lock.is_some() {
                status(PART, format_args!("takes over: the processor before it has ended"));
            }
            lock.context("stopped while standing by: nothing was counted")
        }
    }
}

/// Says how the counts are, when all is done.
///
/// # Errors
/// What is missing: plays that are not counted, counts that are not published, messages up to the target.
fn is_complete(processed: &ProcessorReport, config: &ProcessConfig) -> Result<()> {
    let kept = match config.durability {
        Durability::None => "the counts were in memory only",
        Durability::Process | Durability::Power => "the counts are safe in the ledger",
    };
    if let Some(failure) = &processed.failure {
        bail!(
            "counting ended, and what was not counted went back to nsqd: {failure}; fix that and start again"
        );
    }
    if let Some(unpublished) = processed.unpublished() {
        bail!("{kept}; {unpublished}; the next start publishes them");
    }
    match config.target {
        Some(target) if processed.in_ledger < target => {
            let consumed = grouped(processed.in_ledger);
            bail!(
                "stopped before the end: {consumed} of {} were consumed; {kept}, and all are published",
                many(target, "message")
            )
        }
        _ => {
            status(PART, format_args!("{kept}, and all are published"));
            Ok(())
        }
    }
}
