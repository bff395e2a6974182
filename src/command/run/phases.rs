//! The phases of a run: starts producer and processor, each when its time has come, and stops them in their order.
//! Runs on the main thread.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, never, select_biased};
use nsq_protocol::thread::StopToken;
use nsq_protocol::{ConsumerConfig, Producer, ProducerConfig, TlsConfig};
use uuid::Uuid;

use super::bars::Bars;
use super::broker::RunBroker;
use super::config::{BrokerChoice, RunConfig, StartOrder};
use crate::command::shared::nsq::{self, ConsumerOption, ProducerOption};
use crate::command::shared::run_files::RunEnding;
use crate::dashboard::Dashboard;
use crate::ledger::{self, LedgerConfig};
use crate::model::play::PlayShape;
use crate::model::video_id::VideoId;
use crate::nsqd::waiting::StartWait;
use crate::processor::{OnLoss, Processor, ProcessorConfig, ProcessorReport};
use crate::producer::{Confirmations, OUTBOX_MAX, OutboxConfig, Production, ProductionReport};
use crate::runtime::links::Links;
use crate::storage::data_dir::Lock;
use crate::wire::client::DashboardClient;
use crate::wire::{Confirmed, ConfirmedAnswer, ProducerConfirmed};

/// How often the progress bars move.
const TICK: Duration = Duration::from_millis(100);

/// What producer and processor leave.
pub(super) struct Finished {
    /// What was produced.
    pub(super) produced: ProductionReport,
    /// What was counted; nothing when the run was stopped before there was a processor.
    pub(super) processed: ProcessorReport,
    /// Every video's plays, as counted.
    pub(super) counts: Vec<(VideoId, u64)>,
}

impl Finished {
    /// Whether it was `stop` that ended it before `wanted` plays were counted.
    pub(super) fn ending(&self, wanted: u64, stop: &StopToken) -> RunEnding {
        let Self { produced, processed, .. } = self;
        let is_whole = produced.messages >= wanted && processed.consumed >= wanted;
        match stop.is_stopped() && !is_whole && processed.failure.is_none() {
            true => RunEnding::Stopped,
            false => RunEnding::Complete,
        }
    }
}

/// Producer and processor of one run, each started when its time has come.
pub(super) struct Phases<'a> {
    config: &'a RunConfig,
    nsqds: Vec<String>,
    dashboard_url: String,
    lock: Option<Lock>,
    production: Option<Production>,
    processor: Option<Processor>,
    /// Who knows which plays are counted, once there is a processor.
    ledger: Arc<OnceLock<Confirm>>,
    bars: Bars,
    /// Which of what producer and processor depend on is there.
    links: Arc<Links>,
}

/// Which plays of a producer are counted for good.
type Confirm = Box<dyn Fn(&Uuid) -> Result<Confirmed> + Send + Sync>;

/// What moves a run on.
enum RunEvent {
    /// nsqd has acknowledged all.
    Published,
    /// As much is counted as was to be produced.
    Consumed,
    /// Every play is known to be counted.
    Confirmed,
    /// A signal, or the processor cannot count any more.
    Stopped,
    /// Time to move the bars.
    Tick,
}

impl<'a> Phases<'a> {
    /// Nothing is started yet. `lock` is the right to be the processor on the run's data directory.
    pub(super) fn new(
        config: &'a RunConfig,
        broker: &RunBroker,
        dashboard: &Dashboard,
        lock: Lock,
        links: Arc<Links>,
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
            links,
        }
    }

    /// Produces and consumes all, or as much as there is before `stop`; all that is counted is published.
    ///
    /// # Errors
    /// What kept a part from starting, or the producer from publishing.
    pub(super) fn drive(mut self, stop: &StopToken) -> Result<Finished> {
        self.start_production()?;
        if self.config.order == StartOrder::Together || self.queue_would_overflow() {
            self.start_processor(stop)?;
        }
        let mut publishing = true;
        loop {
            let event = self.next(stop, publishing);
            self.bars.show(self.production.as_ref(), self.processor.as_ref());
            match event {
                RunEvent::Tick => {}
                RunEvent::Published => {
                    publishing = false;
                    if self.processor.is_none() {
                        self.start_processor(stop)?;
                    }
                }
                RunEvent::Consumed => {
                    self.production.iter().for_each(Production::check_now);
                }
                RunEvent::Confirmed | RunEvent::Stopped => return self.finish(),
            }
        }
    }

    fn next(&self, stop: &StopToken, publishing: bool) -> RunEvent {
        let nothing: Receiver<()> = never();
        let production = self.production.as_ref();
        let published = production.filter(|_| publishing).map_or(&nothing, Production::publishing);
        let confirmed = production.map_or(&nothing, Production::running);
        let consumed = self.processor.as_ref().map_or(&nothing, Processor::reached);
        let failed = self.processor.as_ref().map_or(&nothing, Processor::failed);
        // In this order: a production that has failed has published nothing more, and must not start a processor.
        select_biased! {
            recv(stop.channel()) -> _ => RunEvent::Stopped,
            recv(failed) -> _ => RunEvent::Stopped,
            recv(confirmed) -> _ => RunEvent::Confirmed,
            recv(consumed) -> _ => RunEvent::Consumed,
            recv(published) -> _ => RunEvent::Published,
            default(TICK) => RunEvent::Tick,
        }
    }

    fn start_production(&mut self) -> Result<()> {
        let mut producer = ProducerConfig::new().nsqds(&self.nsqds);
        ProducerOption::apply(&self.config.producer_options, &mut producer)?;
        let producer = Arc::new(Producer::connect(producer)?);
        let ledger = self.ledger.clone();
        let confirmations: Confirmations = Arc::new(move |producer, _| {
            let confirmed = ledger.get().map(|confirm| confirm(producer)).transpose()?;
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
            links: self.links.clone(),
        };
        self.production =
            Some(Production::start(&self.config.production, &producer, Some(outbox))?);
        Ok(())
    }

    /// A person waits for it, so that nothing else does: an nsqd that was there a moment ago and is not any more ends the run.
    fn start_processor(&mut self, stop: &StopToken) -> Result<()> {
        let config = self.config;
        let mut consumer = ConsumerConfig::new(config.production.topic, config.channel)
            .nsqds(&self.nsqds)
            .max_in_flight(config.max_in_flight.saturating_mul(self.nsqds.len() as u32));
        ConsumerOption::apply(&config.consumer_options, &mut consumer)?;
        let ledger = LedgerConfig {
            directory: config.data_dir.clone(),
            simulation: true,
            adopt: false,
            message_budget: config.message_budget,
        };
        let processor = Processor::start(ProcessorConfig {
            consumer,
            wait: StartWait { timeout: Some(Duration::ZERO), stop: stop.clone() },
            // Of a named nsqd it was asked before there was a play.
            neighbours: None,
            threads: config.threads,
            time_window: config.time_window,
            shape: PlayShape::default(),
            update_interval: config.update_interval,
            realtime_below: config.realtime_below,
            dashboards: vec![self.own_dashboard()],
            target: Some(config.production.messages),
            ledger: ledger::open(&ledger, config.durability)?,
            on_loss: OnLoss::Refuse,
            lock: self.lock.take().context("a run has one processor")?,
            links: self.links.clone(),
        })?;
        // Set once: a run has one processor.
        let _ = self.ledger.set(Box::new(processor.confirmations()));
        self.processor = Some(processor);
        Ok(())
    }

    /// The dashboard of this process. Over TLS it may present whatever certificate it was given, for whatever name: the port
    /// of its address is this process's own, and nobody else can answer there.
    fn own_dashboard(&self) -> DashboardClient {
        let tls = TlsConfig::new().dangerous_accept_any_certificate();
        DashboardClient::with_tls(&self.dashboard_url, self.config.write_token.clone(), tls)
    }

    /// Whether the embedded broker, unless it has a disk, or the outbox cannot hold all plays at once: then they are
    /// consumed while they are produced.
    fn queue_would_overflow(&self) -> bool {
        let plays = self.config.production.messages;
        let in_memory = matches!(self.config.broker, BrokerChoice::Embedded { on_disk: false });
        let overflow = plays > OUTBOX_MAX || in_memory && plays > nsq::embedded_broker_capacity();
        if overflow {
            log::warn!(
                "{plays} plays do not fit the queue's memory at once: consuming while producing, as with --real-life"
            );
        }
        overflow
    }

    /// Stops producer, then processor.
    fn finish(mut self) -> Result<Finished> {
        let production = self.production.take().context("a run has a producer")?;
        let produced = production.stop()?;
        // Without a processor the run was stopped before its time: nothing is counted, and the report says so.
        let (processed, counts) = self.processor.take().map(Processor::stop).unwrap_or_default();
        self.bars.clear();
        Ok(Finished { produced, processed, counts })
    }
}
