//! `bench`: how fast this machine produces and counts, without any peer. Runs on the main thread.
//!
//! The processor, `run` and the brokers are children, this very binary, so that each one's CPU time is its own; only
//! the producer runs in this process. What is measured is also checked: a wrong count ends it.

mod part;
mod report;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use crossbeam_channel::select;
use nsq_protocol::thread::StopToken;
use nsq_protocol::{Admin, ChannelName, Producer, ProducerConfig, TopicName};
use serde::Deserialize;
use uuid::Uuid;

use crate::command::shared::run_files::RunFiles;
use crate::model::config::{Durability, Popularity};
use crate::nsqd::topic::RemoteTopic;
use crate::producer::{Production, ProductionConfig};
use crate::storage::data_dir::DataDir;
use crate::wire::ConsumptionTimes;
use part::{Part, STOPPED, Usage};
pub use report::{BenchReport, Row, Spread};
use report::{Machine, Samples};

/// The rates at which the time from enqueued to counted is measured, in plays a second.
const RATES: [u64; 2] = [100, 1_000];

/// How long each of them lasts, in seconds: enough for a p99, short enough to wait for.
const LATENCY_SECONDS: u64 = 3;

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchConfig {
    /// Plays in each measurement.
    pub messages: u64,
    /// Videos that they are plays of.
    pub videos: usize,
    /// How often everything is measured.
    pub rounds: u64,
    /// The nsqd to use; `None`: the embedded broker.
    pub nsqd: Option<NsqdAddresses>,
    /// Where the files of the measurements go, until its end.
    pub data_dir: PathBuf,
}

/// Where a running nsqd is.
#[derive(Clone, Debug)]
pub struct NsqdAddresses {
    /// `host:port` for clients.
    pub tcp: String,
    /// `host:port` of its HTTP API.
    pub http: String,
}

/// Measures; `progress` is told what comes next.
///
/// # Errors
/// What kept a part from starting or ending well, a count that is wrong, or `stop`.
pub fn run(config: &BenchConfig, stop: &StopToken, progress: impl Fn(&str)) -> Result<BenchReport> {
    let scratch = Scratch::make(&config.data_dir)?;
    let mut samples = Samples::default();
    for round in 1..=config.rounds {
        let of = format!("round {round} of {}", config.rounds);
        let bench = Bench { config, scratch: &scratch, stop };
        for durability in [Durability::None, Durability::Process, Durability::Power] {
            let work = format!("process, durability {durability}");
            progress(&format!("{of}: produce, then {work}"));
            bench.produce_and_process(durability, &work, &mut samples).context(work)?;
        }
        progress(&format!("{of}: run, end to end"));
        bench.run(&mut samples).context("run, end to end")?;
        for rate in RATES {
            let work = format!("at {rate} plays a second");
            progress(&format!("{of}: {work}"));
            bench.latency(rate, &work, &mut samples).context(work)?;
        }
    }
    Ok(BenchReport {
        playcounts: env!("CARGO_PKG_VERSION"),
        machine: Machine::this(),
        debug_build: cfg!(debug_assertions),
        broker: config.nsqd.as_ref().map_or("embedded", |_| "nsqd"),
        messages: config.messages,
        videos: config.videos as u64,
        rounds: config.rounds,
        rows: samples.rows(),
        verified: true,
    })
}

/// What `run` and `process` say at their end, as far as it is of use here.
#[derive(Debug, Deserialize)]
struct Told {
    counted: u64,
    rejected: u64,
    messages_per_second: f64,
    consumption_ms: Option<ConsumptionTimes>,
    verified: Option<bool>,
}

/// One round.
struct Bench<'a> {
    config: &'a BenchConfig,
    scratch: &'a Scratch,
    stop: &'a StopToken,
}

impl Bench<'_> {
    /// Fills a queue, then has a processor of its own drain it.
    fn produce_and_process(
        &self,
        durability: Durability,
        work: &str,
        samples: &mut Samples,
    ) -> Result<()> {
        let broker = Broker::start(self.config, self.stop)?;
        let topic = Topic::make(&broker)?;
        let dir = self.scratch.fresh()?;
        let files = RunFiles::new(&dir);
        self.produce(&broker, topic.name, &files, samples)?;
        let dir = dir.to_string_lossy().into_owned();
        let dashboard = Part::start(&strings(&[
            "dashboard",
            "--http-address=127.0.0.1:0",
            "--data-dir",
            &dir,
        ]))?;
        let url = dashboard.address("live at ", self.stop)?;
        let process = Part::start(&strings(&[
            "process",
            "--num-messages",
            &self.config.messages.to_string(),
            "--nsqd-tcp-address",
            &broker.tcp,
            "--topic",
            topic.name.as_str(),
            "--channel",
            topic.channel.as_str(),
            "--dashboard-url",
            &url,
            "--durability",
            &durability.to_string(),
            "--data-dir",
            &dir,
            "--json",
        ]))?;
        let (told, usage): (Told, Usage) = process.finish(self.stop)?;
        self.check(&told)?;
        // Every video's plays, as produced, as counted and as the dashboard shows them.
        let verification = files.verify()?;
        if !verification.is_verified() {
            let [consumed, counted, shown] = &verification.checks;
            bail!("the counts are wrong: {consumed}; {counted}; {shown}");
        }
        samples.speed(work, told.messages_per_second, usage, self.config.messages);
        Ok(())
    }

    /// In this process: only so are the counts of each video known without an outbox, which would be measured too.
    fn produce(
        &self,
        broker: &Broker,
        topic: TopicName,
        files: &RunFiles,
        samples: &mut Samples,
    ) -> Result<()> {
        let mut producer = ProducerConfig::new();
        producer.nsqd_addresses = vec![broker.tcp.clone()];
        let producer = Arc::new(Producer::connect(producer)?);
        let config = ProductionConfig {
            topic,
            messages: self.config.messages,
            videos: self.config.videos,
            threads: NonZeroUsize::MIN,
            rate: None,
            popularity: Popularity::Uniform,
        };
        let before = Usage::of_self();
        let production = Production::start(&config, &producer, None)?;
        select! {
            recv(production.running()) -> _ => {}
            recv(self.stop.channel()) -> _ => {}
        }
        let produced = production.stop()?;
        let usage = Usage::of_self().since(before);
        if self.stop.is_stopped() {
            bail!(STOPPED);
        }
        let plays: u64 = produced.counts.iter().map(|(_, plays)| plays).sum();
        if produced.messages != self.config.messages || plays != produced.messages {
            let wanted = self.config.messages;
            bail!("{} of {wanted} plays were acknowledged, {plays} made", produced.messages);
        }
        files.write_produced(&produced.counts)?;
        let speed = produced.messages as f64 / produced.seconds.max(f64::MIN_POSITIVE);
        samples.speed("produce", speed, usage, produced.messages);
        Ok(())
    }

    /// All parts at once, in one process: fills the queue, then drains it.
    fn run(&self, samples: &mut Samples) -> Result<()> {
        let (told, usage) = self.run_child(self.config.messages, &[])?;
        let messages = self.config.messages;
        samples.speed("run, end to end", told.messages_per_second, usage, messages);
        Ok(())
    }

    /// Producer and processor at the same time, at a rate that leaves them waiting.
    fn latency(&self, rate: u64, work: &str, samples: &mut Samples) -> Result<()> {
        let messages = (rate * LATENCY_SECONDS).min(self.config.messages);
        let (told, _) = self.run_child(messages, &["--real-life", "--rate", &rate.to_string()])?;
        let times = told.consumption_ms.context("it does not say how long counting took")?;
        samples.latency(work, times.p50, times.p99);
        Ok(())
    }

    fn run_child(&self, messages: u64, more: &[&str]) -> Result<(Told, Usage)> {
        let dir = self.scratch.fresh()?;
        let mut args = strings(&[
            "run",
            "--exit",
            "--json",
            "--http-address=127.0.0.1:0",
            "--num-messages",
            &messages.to_string(),
            "--num-videos",
            &self.config.videos.to_string(),
            "--data-dir",
            &dir.to_string_lossy(),
        ]);
        args.extend(strings(more));
        // Dropped behind the run: only then may its topic go.
        let topic = self.config.nsqd.as_ref().map(|nsqd| {
            let broker = Broker::named(nsqd);
            Topic::make(&broker)
        });
        let topic = topic.transpose()?;
        if let (Some(nsqd), Some(topic)) = (&self.config.nsqd, &topic) {
            let (name, channel) = (topic.name.as_str(), topic.channel.as_str());
            args.extend(strings(&["--nsqd-tcp-address", &nsqd.tcp, "--topic", name]));
            args.extend(strings(&["--nsqd-http-address", &nsqd.http, "--channel", channel]));
        }
        let (told, usage): (Told, Usage) = Part::start(&args)?.finish(self.stop)?;
        if told.verified != Some(true) || told.counted != messages {
            bail!("{} of {messages} plays were counted, or not verified", told.counted);
        }
        Ok((told, usage))
    }

    fn check(&self, told: &Told) -> Result<()> {
        let Told { counted, rejected, .. } = told;
        let wanted = self.config.messages;
        if *counted != wanted || *rejected > 0 {
            bail!("{counted} of {wanted} plays were counted, {rejected} rejected");
        }
        Ok(())
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The broker of one measurement.
struct Broker {
    tcp: String,
    http: String,
    // Ends with it; `None` where the user named an nsqd.
    _part: Option<Part>,
}

impl Broker {
    fn start(config: &BenchConfig, stop: &StopToken) -> Result<Self> {
        if let Some(nsqd) = &config.nsqd {
            return Ok(Self::named(nsqd));
        }
        let addresses = ["broker", "--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"];
        let part = Part::start(&strings(&addresses))?;
        let tcp = part.address("TCP: listening on ", stop)?;
        let http = part.address("HTTP: listening on ", stop)?;
        Ok(Self { tcp, http, _part: Some(part) })
    }

    fn named(nsqd: &NsqdAddresses) -> Self {
        Self { tcp: nsqd.tcp.clone(), http: nsqd.http.clone(), _part: None }
    }
}

/// A topic that nobody else uses; gone with its messages when dropped.
struct Topic {
    name: TopicName,
    channel: ChannelName,
    admin: Admin,
}

impl Topic {
    fn make(broker: &Broker) -> Result<Self> {
        let name = TopicName::new(&format!("playcounts-bench-{}", Uuid::new_v4().simple()))?;
        let channel = ChannelName::new("processor")?;
        let topic = Self { name, channel, admin: Admin::new(&broker.http) };
        // With its channel: else what is published waits in the topic, and moves while the processor is measured.
        RemoteTopic::new(std::slice::from_ref(&broker.http), name, channel).prepare(false)?;
        Ok(topic)
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        match self.admin.delete_topic(&self.name) {
            Err(error) if !error.is_not_found() => {
                log::warn!("the topic {} is left behind: {error}", self.name);
            }
            _ => {}
        }
    }
}

/// A directory that is removed at the end, whatever the end.
struct Scratch {
    path: PathBuf,
    /// Made for this, so that it goes, too.
    parent: Option<PathBuf>,
}

impl Scratch {
    fn make(data_dir: &Path) -> Result<Self> {
        let parent = (!data_dir.exists()).then(|| data_dir.to_owned());
        DataDir::open(data_dir)?;
        let path = data_dir.join(format!("bench-{}", Uuid::new_v4().simple()));
        let scratch = Self { path, parent };
        fs::create_dir(&scratch.path)
            .with_context(|| format!("cannot make {}", scratch.path.display()))?;
        Ok(scratch)
    }

    /// A directory in it for one measurement; those of before are removed, so that the disk need not hold all.
    fn fresh(&self) -> Result<PathBuf> {
        let shown = || format!("cannot empty {}", self.path.display());
        for entry in fs::read_dir(&self.path).with_context(shown)? {
            fs::remove_dir_all(entry.with_context(shown)?.path()).with_context(shown)?;
        }
        let path = self.path.join(Uuid::new_v4().simple().to_string());
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            log::warn!("{} is left behind: {error}", self.path.display());
        }
        if let Some(parent) = &self.parent {
            // Not empty: someone else has use for it by now.
            let _ = fs::remove_dir(parent);
        }
    }
}
