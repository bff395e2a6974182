//! One round of measurements. Only the producer runs in this process; all else are children, so that each one's CPU time
//! is its own. Runs on the main thread.

use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use crossbeam_channel::select;
use nsq_protocol::thread::StopToken;
use nsq_protocol::{Producer, ProducerConfig, TopicName};
use serde::Deserialize;

use super::config::BenchConfig;
use super::own::{BenchBroker, BenchTopic, Scratch};
use super::part::{Part, STOPPED};
use super::proc::Usage;
use super::report::Samples;
use crate::command::shared::run_files::RunFiles;
use crate::model::config::{Durability, Popularity};
use crate::producer::{Production, ProductionConfig};
use crate::wire::ConsumptionTimes;

/// How long each latency is measured, in seconds: enough for a p99, short enough to wait for.
const LATENCY_SECONDS: u64 = 3;

/// What `run` and `process` say at their end, as far as it is of use here.
#[derive(Debug, Deserialize)]
struct ChildReport {
    counted: u64,
    rejected: u64,
    messages_per_second: f64,
    consumption_ms: Option<ConsumptionTimes>,
    verified: Option<bool>,
}

/// One round.
pub(super) struct Round<'a> {
    pub(super) config: &'a BenchConfig,
    pub(super) scratch: &'a Scratch,
    pub(super) stop: &'a StopToken,
}

impl Round<'_> {
    /// Fills a queue, then has a processor of its own drain it.
    pub(super) fn produce_and_process(
        &self,
        durability: Durability,
        work: &str,
        samples: &mut Samples,
    ) -> Result<()> {
        let broker = BenchBroker::start(self.config.nsqd.as_ref(), self.stop)?;
        let topic = BenchTopic::make(&broker.addresses)?;
        let dir = self.scratch.fresh()?;
        let files = RunFiles::new(&dir);
        self.produce(&broker, topic.name, &files, samples)?;
        let dir = dir.to_string_lossy();
        let dashboard =
            Part::start(&["dashboard", "--http-address=127.0.0.1:0", "--data-dir", &dir])?;
        let [url] = dashboard.addresses(["live at "], self.stop)?;
        let process = Part::start(&[
            "process",
            "--num-messages",
            &self.config.messages.to_string(),
            "--nsqd-tcp-address",
            &broker.addresses.tcp,
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
        ])?;
        let (report, usage): (ChildReport, Usage) = process.finish(self.stop)?;
        self.check(&report)?;
        // Every video's plays, as produced, as counted and as the dashboard shows them.
        let verification = files.verify()?;
        if !verification.is_verified() {
            let [consumed, counted, shown] = &verification.checks;
            bail!("the counts are wrong: {consumed}; {counted}; {shown}");
        }
        samples.speed(work, report.messages_per_second, usage, self.config.messages);
        Ok(())
    }

    /// In this process: only so are the counts of each video known without an outbox, which would be measured too.
    fn produce(
        &self,
        broker: &BenchBroker,
        topic: TopicName,
        files: &RunFiles,
        samples: &mut Samples,
    ) -> Result<()> {
        let producer = ProducerConfig::new().nsqd(&broker.addresses.tcp);
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
    pub(super) fn run(&self, samples: &mut Samples) -> Result<()> {
        let (report, usage) = self.run_child(self.config.messages, &[])?;
        let messages = self.config.messages;
        samples.speed("run, end to end", report.messages_per_second, usage, messages);
        Ok(())
    }

    /// Producer and processor at the same time, at a rate that leaves them waiting.
    pub(super) fn latency(&self, rate: u64, work: &str, samples: &mut Samples) -> Result<()> {
        let messages = (rate * LATENCY_SECONDS).min(self.config.messages);
        let (report, _) =
            self.run_child(messages, &["--real-life", "--rate", &rate.to_string()])?;
        let times = report.consumption_ms.context("it does not say how long counting took")?;
        samples.latency(work, times.p50, times.p99);
        Ok(())
    }

    fn run_child(&self, messages: u64, more: &[&str]) -> Result<(ChildReport, Usage)> {
        let dir = self.scratch.fresh()?;
        let (dir, plays) = (dir.to_string_lossy(), messages.to_string());
        let videos = self.config.videos.to_string();
        let mut args = vec!["run", "--exit", "--json", "--http-address=127.0.0.1:0"];
        args.extend(["--num-messages", &plays, "--num-videos", &videos, "--data-dir", &dir]);
        args.extend(more);
        // Dropped behind the run: only then may its topic go.
        let topic = self.config.nsqd.as_ref().map(BenchTopic::make).transpose()?;
        if let (Some(nsqd), Some(topic)) = (&self.config.nsqd, &topic) {
            args.extend(["--nsqd-tcp-address", &nsqd.tcp, "--nsqd-http-address", &nsqd.http]);
            args.extend(["--topic", topic.name.as_str(), "--channel", topic.channel.as_str()]);
        }
        let (report, usage): (ChildReport, Usage) = Part::start(&args)?.finish(self.stop)?;
        if report.verified != Some(true) || report.counted != messages {
            bail!("{} of {messages} plays were counted, or not verified", report.counted);
        }
        Ok((report, usage))
    }

    fn check(&self, report: &ChildReport) -> Result<()> {
        let ChildReport { counted, rejected, .. } = report;
        let wanted = self.config.messages;
        if *counted != wanted || *rejected > 0 {
            bail!("{counted} of {wanted} plays were counted, {rejected} rejected");
        }
        Ok(())
    }
}
