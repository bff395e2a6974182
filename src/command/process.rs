//! `process`: only the processor. Runs on the main thread, which waits for its target, its failure or the stop signal.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use argh::{ArgsInfo, FromArgs};
use crossbeam_channel::select;
use nsq_protocol::ConsumerConfig;
use nsq_protocol::thread::StopToken;

use crate::command::shared::nsq::{self, ConsumerOption};
use crate::command::shared::output::{OutputFormat, note, print_report};
use crate::command::shared::report::RunReport;
use crate::command::shared::run_files::RunFiles;
use crate::command::shared::values::{self, Count, HumanDuration, LogLevel};
use crate::ledger::{self, Ledger, LedgerConfig};
use crate::model::config::Durability;
use crate::processor::{OnLoss, Processor, ProcessorConfig, ProcessorReport};
use crate::storage::data_dir::{DataDir, Lock, PROCESSOR};
use crate::wire::client::DashboardClient;

/// only the processor: counts plays from a running nsqd and publishes the counts to the dashboard, until
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
    num_threads: Count,
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
    /// find the nsqds through the nsqlookupd at this HTTP host:port, instead, also later ones; repeatable
    /// [default: none]
    #[argh(option)]
    lookupd_http_address: Vec<String>,
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
    max_in_flight: Count,

    // The dashboard.
    /// where the dashboard is [default: http://127.0.0.1:8000]
    #[argh(option, default = "values::DASHBOARD_URL.into()")]
    dashboard_url: String,
    /// the dashboard's token for writes [default: none]
    #[argh(option)]
    write_token: Option<String>,

    // The ledger.
    /// what a count survives: process (kill -9 of any part) or power (a power loss, too); none is for
    /// measurements [default: process]
    #[argh(option, default = "Durability::default()")]
    durability: Durability,
    /// wait for the data directory's processor to end, then take its place at once
    #[argh(switch)]
    standby: bool,
    /// take a ledger that was made on another machine, whose processor will never run again
    #[argh(switch)]
    adopt_ledger: bool,
    /// go on with a ledger that is older than the dashboard, such as an old copy: plays that it does not hold are
    /// lost, and the dashboard forgets what it has of this processor; counting is refused without this
    #[argh(switch)]
    accept_loss: bool,
    /// directory for the ledger and the processor's other files [default: playcounts-data]
    #[argh(option, default = "values::DATA_DIR.into()")]
    data_dir: String,

    // Output.
    /// print the report as one JSON object, as the last line
    #[argh(switch)]
    json: bool,
    /// what to log: off, error, warn, info, debug or trace [default: warn]
    #[argh(option, default = "LogLevel::default()")]
    pub(super) log_level: LogLevel,
}

/// What to count, where the counts go, and where they are kept.
struct ProcessConfig {
    consumer: ConsumerConfig,
    threads: NonZeroUsize,
    update_interval: Duration,
    realtime_below: u64,
    dashboard: DashboardClient,
    /// Messages in the ledger at which it ends; `None`: never.
    target: Option<u64>,
    data_dir: PathBuf,
    takeover: Takeover,
    /// Take a ledger that was made on another machine.
    adopt: bool,
    on_loss: OnLoss,
    durability: Durability,
    format: OutputFormat,
}

/// What to do when another processor holds the data directory.
enum Takeover {
    /// Fail.
    Never,
    /// Wait until it ends.
    WhenFree,
}

impl ProcessArgs {
    fn config(self) -> Result<ProcessConfig> {
        let (topic, channel) = (nsq::topic(&self.topic)?, nsq::channel(&self.channel)?);
        let threads = self.num_threads.threads()?;
        nsq::nsqds_or_lookupds(&self.nsqd_tcp_address, &self.lookupd_http_address)?;
        let mut consumer = ConsumerConfig::new(topic, channel);
        consumer.max_in_flight = self.max_in_flight.max_in_flight()?;
        if self.lookupd_http_address.is_empty() {
            consumer.nsqd_addresses = nsq::nsqds_or_local(self.nsqd_tcp_address);
            let nsqds = consumer.nsqd_addresses.len() as u32;
            consumer.max_in_flight = consumer.max_in_flight.saturating_mul(nsqds);
        }
        consumer.lookup.addresses = self.lookupd_http_address;
        ConsumerOption::apply(&self.consumer_opt, &mut consumer)?;
        Ok(ProcessConfig {
            consumer,
            threads,
            update_interval: self.update_interval.0,
            realtime_below: self.realtime_below.0,
            dashboard: DashboardClient::new(&self.dashboard_url, self.write_token),
            target: self.num_messages.map(|count| count.0),
            data_dir: self.data_dir.into(),
            takeover: if self.standby { Takeover::WhenFree } else { Takeover::Never },
            adopt: self.adopt_ledger,
            on_loss: if self.accept_loss { OnLoss::Accept } else { OnLoss::Refuse },
            durability: self.durability,
            format: OutputFormat::from_switch(self.json),
        })
    }
}

/// Counts until the target is reached, counting fails, or `stop`.
pub(super) fn run(args: ProcessArgs, stop: &StopToken) -> Result<()> {
    let config = args.config()?;
    let data_dir = DataDir::open(&config.data_dir)?;
    let lock = lock(&data_dir, &config.takeover, stop)?;
    let ledger = open_ledger(&config)?;
    let processor = Processor::start(ProcessorConfig {
        consumer: config.consumer,
        threads: config.threads,
        update_interval: config.update_interval,
        realtime_below: config.realtime_below,
        dashboard: config.dashboard,
        target: config.target,
        ledger,
        on_loss: config.on_loss,
        lock,
    })?;
    select! {
        recv(processor.reached()) -> _ => {}
        recv(processor.failed()) -> _ => {}
        recv(stop.channel()) -> _ => {}
    }
    let (processed, counts) = processor.stop();
    RunFiles::new(data_dir.path()).write_counted(processed.in_ledger, &counts)?;
    let report = RunReport::new(&processed, processed.seconds, config.durability);
    print_report(config.format, &report)?;
    is_complete(processed, config.target)
}

fn lock(data_dir: &DataDir, takeover: &Takeover, stop: &StopToken) -> Result<Lock> {
    match takeover {
        Takeover::Never => data_dir.lock(PROCESSOR),
        Takeover::WhenFree => {
            let waiting = |owner| note(format_args!("standing by: {owner}"));
            let lock = data_dir.lock_when_free(PROCESSOR, stop, waiting)?;
            lock.context("stopped while standing by: nothing was counted")
        }
    }
}

fn open_ledger(config: &ProcessConfig) -> Result<Box<dyn Ledger>> {
    let ledger =
        LedgerConfig { directory: config.data_dir.clone(), simulation: false, adopt: config.adopt };
    let ledger = ledger::open(&ledger, config.durability)?;
    let before = ledger.counters();
    if before.counted > 0 {
        let (plays, videos) = (before.counted, ledger.videos().len());
        note(format_args!(
            "the ledger holds {plays} plays of {videos} videos; going on from there"
        ));
    }
    Ok(ledger)
}

/// # Errors
/// What is missing: plays that are not counted, counts that are not published, messages up to the target.
fn is_complete(processed: ProcessorReport, target: Option<u64>) -> Result<()> {
    if let Some(failure) = processed.failure {
        bail!(
            "counting ended, and what was not counted went back to nsqd: {failure}; mend it and start again"
        );
    }
    if let Some(error) = processed.publish_error {
        bail!("the counts of {} videos are not published: {error}", processed.unpublished_videos);
    }
    match target {
        Some(target) if processed.in_ledger < target => {
            bail!("stopped: {} of {target} messages were consumed", processed.in_ledger)
        }
        _ => Ok(()),
    }
}
