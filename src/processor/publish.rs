//! The publisher: the timer thread that tells the dashboard which counts changed, by
//! `model::publish_rules`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Sender, at, select};
use nsq_protocol::thread::StopToken;
use uuid::Uuid;

use super::claim::{Claims, OlderLedger};
use super::commit::SharedLedger;
use super::report::{self, ReportedConsumer};
use super::report_post::ReportPost;
use super::stats::Stats;
use super::wake::Woken;
use crate::model::counts::ShardedCounts;
use crate::model::publish_rules::PublishRules;
use crate::runtime::clock::unix_ns;
use crate::wire::client::{DashboardClient, RefusedCall};
use crate::wire::{CONFIRMED_PRODUCERS_MAX, ConfirmedUpdate, ConsumptionReport, CountsUpdate};

/// How often the dashboard hears how the processor fares.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// The least time between two rounds of telling which producers' plays are counted: how much later than its count a
/// play leaves its producer's outbox.
const CONFIRM_EVERY: Duration = Duration::from_millis(100);

/// The longest pause between two tries to tell of plays above what the dashboard knows: as long as the other ledger is silent.
const RETELL_MAX: Duration = Duration::from_secs(5);
/// Messages about producers in one round: after a start, and for another dashboard, all of them are told again, and the
/// counts must not wait for that. 16,000 producers a second.
const CONFIRM_MESSAGES: usize = 16;

/// The pause behind the first failure; it doubles with each, up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(100);

/// The longest pause: how long a dashboard that is back may wait for its counts.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// How long the last batches are tried for at the end, while the dashboard is away.
const LAST_TRIES: Duration = Duration::from_secs(10);

pub(super) struct PublisherConfig {
    pub(super) processor: Uuid,
    /// The version of the first message.
    pub(super) first_version: u64,
    /// What the dashboard is told of the ledger.
    pub(super) claims: Claims,
    /// Says that nothing is counted any more; has room for one.
    pub(super) failed: Sender<()>,
    pub(super) dashboard: DashboardClient,
    pub(super) update_interval: Duration,
    pub(super) ledger: SharedLedger,
    pub(super) counts: Arc<ShardedCounts>,
    pub(super) stats: Arc<Stats>,
    /// Whose connections a report tells of.
    pub(super) consumer: Arc<ReportedConsumer>,
    /// Says when there is something to tell.
    pub(super) woken: Woken,
    /// Stops when all is counted: what changed is published then.
    pub(super) stop: StopToken,
}

/// What the publisher did.
#[derive(Debug, Default)]
pub(super) struct PublishReport {
    /// Messages that the dashboard took.
    pub(super) messages: u64,
    /// The last error, if something is left unpublished.
    pub(super) error: Option<String>,
}

pub(super) struct Publisher {
    config: PublisherConfig,
    /// Of this start.
    instance: Uuid,
    rules: PublishRules,
    version: u64,
    report: PublishReport,
    /// Failures in a row.
    failures: u32,
    reported_at: Instant,
    reported_count: u64,
    report_post: ReportPost,
    confirmed_at: Instant,
    /// Something was counted since `confirmed_at`.
    to_confirm: bool,
    /// When to tell again what other ledgers had to tell first, and how long after that; it doubles while nothing comes of it.
    retell_at: Instant,
    retell_pause: Duration,
    /// The ledger is older than what the dashboard knows of it: nothing is published.
    is_refused: bool,
}

impl Publisher {
    pub(super) fn new(config: PublisherConfig) -> Self {
        let now = Instant::now();
        let rules = PublishRules::new(config.update_interval, now);
        let report = PublishReport::default();
        let version = config.first_version;
        Self {
            config,
            instance: Uuid::new_v4(),
            rules,
            version,
            report,
            failures: 0,
            reported_at: now,
            reported_count: 0,
            report_post: ReportPost::default(),
            confirmed_at: now,
            // What was counted before this start, and perhaps not told.
            to_confirm: true,
            retell_at: now,
            retell_pause: CONFIRM_EVERY,
            is_refused: false,
        }
    }

    pub(super) fn run(mut self) -> PublishReport {
        let mut stopping = false;
        // First of all: is it the dashboard that was told before?
        self.report_consumption();
        while !stopping {
            let published = self
                .claim()
                .and_then(|()| self.publish_due())
                .and_then(|()| self.confirm_when_due());
            if self.is_refused {
                // Who is told that it has failed stops it.
                let _ = self.config.stop.channel().recv();
                break;
            }
            let pause = published.err().map(|error| self.pause(&error));
            self.report_when_due();
            let mut timer = (self.reported_at + REPORT_EVERY).min(self.rules.interval_ends());
            if self.to_confirm {
                timer = timer.min(self.confirmed_at + CONFIRM_EVERY);
            }
            timer = timer.min(self.retell_at);
            let timer = at(timer);
            stopping = match pause {
                Some(pause) => self.config.stop.wait(pause),
                None => select! {
                    recv(self.config.stop.channel()) -> _ => true,
                    recv(self.config.woken.receiver) -> _ => {
                        self.to_confirm = true;
                        false
                    }
                    recv(timer) -> _ => false,
                },
            };
        }
        if !self.is_refused {
            self.publish_last();
        }
        self.report_consumption();
        self.report
    }

    /// Has the dashboard compare the ledger with what it knows, where it has not yet.
    fn claim(&mut self) -> Result<()> {
        let claimed = self.config.claims.claim_later(&self.config.dashboard);
        if let Err(error) = &claimed
            && error.is::<OlderLedger>()
        {
            let reason = format!("{error:#}");
            log::error!("nothing is counted any more: {reason}");
            self.config.stats.fail(&reason);
            self.is_refused = true;
            // Room for one: it was said already.
            let _ = self.config.failed.try_send(());
        }
        claimed
    }

    /// Notes why a message was not taken.
    fn refused(&mut self, error: &anyhow::Error) {
        if error.downcast_ref::<RefusedCall>().is_some_and(RefusedCall::is_conflict) {
            self.config.claims.forget();
        }
    }

    /// Sends batches until none is due.
    fn publish_due(&mut self) -> Result<()> {
        loop {
            let counts = self.rules.next_batch(&self.config.counts, Instant::now());
            if counts.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.claim() {
                self.config.counts.put_back(&counts);
                return Err(error);
            }
            let ledger = self.config.claims.mark(self.config.counts.totals().plays);
            self.version += 1;
            let (processor, version) = (self.config.processor, self.version);
            let update = CountsUpdate { processor, version, counts, consumption: None, ledger };
            match self.config.dashboard.post("/api/counts", &update) {
                Ok(dashboard) => {
                    self.config.ledger.lock().published(&update.counts);
                    self.check_dashboard(dashboard);
                }
                Err(error) => {
                    self.config.counts.put_back(&update.counts);
                    self.refused(&error);
                    return Err(error);
                }
            }
            self.failures = 0;
            self.report.messages += 1;
            // A long row of batches must not hide how the processor fares, nor keep producers from forgetting what is
            // counted: they would publish it again.
            self.report_when_due();
            self.confirm_when_due()?;
        }
    }

    /// Tells everything again if the dashboard is another one than before, or has forgotten.
    fn check_dashboard(&mut self, id: Option<Uuid>) {
        let Some(id) = id else { return };
        self.config.claims.meet(id);
        match self.config.ledger.lock().publishes_to(id) {
            Ok(false) => {}
            Ok(true) => {
                self.config.counts.forget_published();
                self.to_confirm = true;
            }
            Err(error) => log::warn!("{error:#}"),
        }
    }

    fn confirm_when_due(&mut self) -> Result<()> {
        self.to_confirm |= self.config.woken.to_confirm.load(Ordering::SeqCst);
        if self.retell_at <= Instant::now() {
            self.to_confirm |= self.config.ledger.lock().retell(CONFIRMED_PRODUCERS_MAX);
            self.retell_pause = (self.retell_pause * 2).min(RETELL_MAX);
            self.retell_at = Instant::now() + self.retell_pause;
        }
        if !self.to_confirm || self.confirmed_at.elapsed() < CONFIRM_EVERY {
            return Ok(());
        }
        self.confirm()
    }

    /// Tells which producers' plays are counted; not all, where there are many.
    fn confirm(&mut self) -> Result<()> {
        self.confirmed_at = Instant::now();
        // What is committed from here on says so again; what was, is taken below.
        self.config.woken.to_confirm.store(false, Ordering::SeqCst);
        self.to_confirm = true;
        for _ in 0..CONFIRM_MESSAGES {
            let (producers, holds) = {
                let mut ledger = self.config.ledger.lock();
                (ledger.take_unreported(CONFIRMED_PRODUCERS_MAX)?, ledger.counters().counted)
            };
            if producers.is_empty() {
                self.to_confirm = false;
                return Ok(());
            }
            if let Err(error) = self.claim() {
                self.config.ledger.lock().put_back_unreported(&producers);
                return Err(error);
            }
            let ledger = self.config.claims.mark(holds);
            let update = ConfirmedUpdate { processor: self.config.processor, producers, ledger };
            let watermarks = match self.config.dashboard.confirm(&update) {
                Ok(watermarks) => watermarks,
                Err(error) => {
                    self.config.ledger.lock().put_back_unreported(&update.producers);
                    self.refused(&error);
                    return Err(error);
                }
            };
            let mut ledger = self.config.ledger.lock();
            for (told, watermark) in update.producers.iter().zip(watermarks) {
                if ledger.reported(told, watermark) {
                    self.retell_pause = CONFIRM_EVERY;
                    self.retell_at = Instant::now() + self.retell_pause;
                }
            }
        }
        Ok(())
    }

    /// Tells of every producer, until `deadline`: the next start tells of the others.
    fn confirm_all(&mut self, deadline: Instant) -> Result<()> {
        self.confirm()?;
        while self.to_confirm && Instant::now() < deadline {
            self.confirm()?;
        }
        Ok(())
    }

    /// Sends all that changed, trying for [`LAST_TRIES`].
    fn publish_last(&mut self) {
        let deadline = Instant::now() + LAST_TRIES;
        let (_never_stops, timer) = nsq_protocol::thread::stop_pair();
        self.rules.flush(&self.config.counts);
        while let Err(error) = self.publish_due().and_then(|()| self.confirm_all(deadline)) {
            let pause = self.pause(&error);
            if self.is_refused || Instant::now() + pause > deadline {
                self.report.error = Some(format!("{error:#}"));
                return;
            }
            timer.wait(pause);
        }
    }

    /// Counts a failure; how long to wait before the next try.
    fn pause(&mut self, error: &anyhow::Error) -> Duration {
        let pause = (MIN_BACKOFF * 2u32.saturating_pow(self.failures.min(16))).min(MAX_BACKOFF);
        if self.failures == 0 {
            log::warn!(
                "cannot publish to {}: {error:#}; trying again",
                self.config.dashboard.url()
            );
        }
        self.failures += 1;
        // Many processors must not come back in step.
        pause.mul_f64(rand::random_range(0.75..1.0))
    }

    fn report_when_due(&mut self) {
        if self.reported_at.elapsed() >= REPORT_EVERY {
            self.report_consumption();
        }
    }

    /// Tells how the processor fares. A report that fails is not repeated: the next is newer.
    fn report_consumption(&mut self) {
        let seconds = self.reported_at.elapsed().as_secs_f64();
        let (size, window, status) = {
            let ledger = self.config.ledger.lock();
            (ledger.size(), ledger.message_window(), ledger.status())
        };
        let window = report::window_figures(window, unix_ns());
        let mut consumption = self.config.stats.report(self.reported_count, seconds, size, window);
        consumption.consumer = self.config.consumer.figures().map(Box::new);
        consumption.ledger_status = status.is_shared().then(|| Box::new(status));
        self.reported_at = Instant::now();
        self.reported_count = consumption.counted;
        let (processor, instance) = (self.config.processor, Some(self.instance));
        let report = ConsumptionReport { processor, instance, consumption };
        match self.report_post.post(&self.config.dashboard, report) {
            Ok(dashboard) => self.check_dashboard(dashboard),
            Err(error) => {
                log::debug!("cannot report to {}: {error:#}", self.config.dashboard.url())
            }
        }
    }
}
