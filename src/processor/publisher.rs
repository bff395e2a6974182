//! A publisher: the timer thread that tells one dashboard which counts changed, which plays of producers are counted, and how
//! the processor fares (`reports`). There is one for each dashboard, and none waits for another.

mod reports;

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use crossbeam_channel::{Sender, at, select};
use nsq_protocol::thread::StopToken;
use serde::Serialize;
use uuid::Uuid;

use super::claim::{LedgerRefusal, OlderLedger};
use super::commit::SharedLedger;
use super::dead::DeadPublications;
use super::letters::LettersPost;
use super::publication::{BACKOFF, Publication};
use super::report::{ReportedConsumer, ReportedLedger};
use super::report_post::ReportPost;
use super::stats::Stats;
use super::wake::Woken;
use crate::ledger::Ledger;
use crate::model::dashboard_index::DashboardIndex;
use crate::runtime::backoff::Backoff;
use crate::runtime::links::{Links, PartLink};
use crate::wire::client::DashboardClient;
use crate::wire::{CONFIRMED_PRODUCERS_MAX, ConfirmedUpdate};

/// How often a dashboard hears how the processor fares.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// The least time between two rounds of telling which producers' plays are counted: how much later than its count a
/// play leaves its producer's outbox.
const CONFIRM_EVERY: Duration = Duration::from_millis(100);

/// The longest pause between two tries to tell of plays above what the dashboard knows: as long as the other ledger is silent.
const RETELL_MAX: Duration = Duration::from_secs(5);

/// Messages about producers in one round: after a start, and for another dashboard, all of them are told again, and the
/// counts must not wait for that. 16,000 producers a second.
const CONFIRM_MESSAGES: usize = 16;

/// The least time between two rounds of telling of dead processors while there are counts of its own: 160 messages a second.
const DEAD_EVERY: Duration = Duration::from_millis(100);

/// How long a stop may take until the last batches are told: then a dashboard that is away is left alone. Whoever stops us
/// waits 10 s in all, and files are to be closed behind it.
const STOP_WITHIN: Duration = Duration::from_secs(7);

/// So long a dashboard is given at least, however long the last commits took.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// What all publishers of a processor share.
pub(super) struct SharedParts {
    /// Of this start of the processor.
    pub(super) instance: Uuid,
    pub(super) ledger: SharedLedger,
    pub(super) stats: Arc<Stats>,
    /// Whose connections a report tells of.
    pub(super) consumer: Arc<ReportedConsumer>,
    /// Where it is told whether a dashboard is there.
    pub(super) links: Arc<Links>,
    /// Whether a dashboard has said that the ledger is older: then nothing is published any more.
    pub(super) refusal: LedgerRefusal,
    /// Says that nothing is counted any more; has room for one.
    pub(super) failed: Sender<()>,
    /// When the stop began, of which they hear later: once all is counted.
    pub(super) stop_began: OnceLock<Instant>,
}

impl SharedParts {
    /// Of a processor that starts now.
    pub(super) fn new(
        ledger: &SharedLedger,
        stats: &Arc<Stats>,
        consumer: &Arc<ReportedConsumer>,
        links: &Arc<Links>,
        failed: Sender<()>,
    ) -> Self {
        Self {
            instance: Uuid::new_v4(),
            ledger: ledger.clone(),
            stats: stats.clone(),
            consumer: consumer.clone(),
            links: links.clone(),
            refusal: LedgerRefusal::default(),
            failed,
            stop_began: OnceLock::new(),
        }
    }
}

/// One dashboard, and what it is told.
pub(super) struct PublisherConfig {
    pub(super) dashboard: DashboardIndex,
    pub(super) client: DashboardClient,
    /// Of the processor's own counts.
    pub(super) own: Publication,
    pub(super) dead: DeadPublications,
    pub(super) parts: Arc<SharedParts>,
    /// Says when there is something to tell.
    pub(super) woken: Woken,
    /// Stops when all is counted: what changed is published then.
    pub(super) stop: StopToken,
}

/// What one dashboard was told.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DashboardReport {
    /// Its URL.
    pub url: String,
    /// Messages with counts that it took, each with at most 20.
    pub published_messages: u64,
    /// Videos whose newest count it did not take; 0 unless it was away to the end.
    pub unpublished_videos: usize,
    /// Why not: the last error.
    pub error: Option<String>,
}

pub(super) struct Publisher {
    config: PublisherConfig,
    messages: u64,
    error: Option<String>,
    backoff: Backoff,
    reported_at: Instant,
    reported_count: u64,
    report_post: ReportPost,
    letters_post: LettersPost,
    /// As of the newest report that found nobody at it.
    reported_ledger: Option<ReportedLedger>,
    confirmed_at: Instant,
    /// Something was counted since `confirmed_at`.
    to_confirm: bool,
    /// When to tell again what other ledgers had to tell first, and how long after that; it doubles while nothing comes of it.
    retell_at: Instant,
    retell_pause: Duration,
    dead_at: Instant,
    /// When the last call must be over, once all is counted.
    deadline: Option<Instant>,
}

impl Publisher {
    pub(super) fn new(config: PublisherConfig) -> Self {
        let now = Instant::now();
        Self {
            config,
            messages: 0,
            error: None,
            backoff: BACKOFF,
            reported_at: now,
            reported_count: 0,
            report_post: ReportPost::default(),
            letters_post: LettersPost::default(),
            reported_ledger: None,
            confirmed_at: now,
            // What was counted before this start, and perhaps not told.
            to_confirm: true,
            retell_at: now,
            retell_pause: CONFIRM_EVERY,
            dead_at: now,
            deadline: None,
        }
    }

    pub(super) fn run(mut self) -> DashboardReport {
        let mut stopping = false;
        // First of all: is it the dashboard that was told before?
        self.report_consumption();
        while !stopping {
            let published = self
                .claim()
                .and_then(|()| self.publish_due())
                .and_then(|()| self.confirm_when_due());
            if self.is_refused() {
                // Who is told that it has failed stops it.
                let _ = self.config.stop.channel().recv();
                break;
            }
            let pause = published.err().map(|error| self.pause(&error));
            if pause.is_none() {
                // Whatever had failed was tried again.
                self.backoff.succeeded();
                self.publish_for_dead();
            }
            self.report_when_due();
            let timer = at(self.next_round());
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
        if !self.is_refused() {
            self.publish_last();
        }
        self.report(self.ending());
        let url = self.config.client.url().to_owned();
        let (published_messages, error) = (self.messages, self.error);
        let unpublished_videos = self.config.own.unpublished();
        DashboardReport { url, published_messages, unpublished_videos, error }
    }

    /// When there is something to do, if nobody wakes it before.
    fn next_round(&self) -> Instant {
        let mut next = (self.reported_at + REPORT_EVERY).min(self.config.own.interval_ends());
        if self.to_confirm {
            next = next.min(self.confirmed_at + CONFIRM_EVERY);
        }
        next = next.min(self.retell_at);
        self.config.dead.next_at().map_or(next, |dead| next.min(dead))
    }

    /// The ledger is older than what one of the dashboards knows of it.
    fn is_refused(&self) -> bool {
        self.config.parts.refusal.is_said()
    }

    /// Nothing is, once any dashboard has refused the ledger; and not for long, once the processor stops.
    fn may_publish(&mut self) -> Result<()> {
        let stops_by = self.config.parts.stop_began.get().map(|began| *began + STOP_WITHIN);
        if let Some(deadline) = self.deadline.or(stops_by) {
            self.config.client.hurry(deadline);
        }
        if self.is_refused() {
            bail!("a dashboard has said that the ledger is older");
        }
        Ok(())
    }

    /// Has the dashboard compare the ledger with what it knows, where it has not yet.
    fn claim(&mut self) -> Result<()> {
        self.may_publish()?;
        let claimed = self.config.own.claim(&self.config.client);
        claimed.inspect_err(|error| self.check_refusal(error))
    }

    /// Notes an error that says that the ledger is older, which every publisher has to know.
    fn check_refusal(&self, error: &anyhow::Error) {
        let SharedParts { refusal, stats, failed, .. } = &*self.config.parts;
        if error.is::<OlderLedger>() && refusal.say() {
            let reason = format!("{error:#}");
            log::error!("nothing is counted any more: {reason}");
            stats.fail(&reason);
            // Room for one: it was said already.
            let _ = failed.try_send(());
        }
    }

    /// Sends batches until none is due.
    fn publish_due(&mut self) -> Result<()> {
        loop {
            self.may_publish()?;
            let published = self.config.own.publish_next(&self.config.client);
            let published = published.inspect_err(|error| self.check_refusal(error))?;
            let Some(published) = published else { return Ok(()) };
            let dashboard = self.config.dashboard;
            self.with_ledger(|ledger| ledger.published(dashboard, &published.counts));
            self.check_database(published.database);
            self.backoff.succeeded();
            self.messages += 1;
            // A long row of batches must not hide how the processor fares, nor keep producers from forgetting what is
            // counted: they would publish it again.
            self.report_when_due();
            self.confirm_when_due()?;
            if self.dead_at.elapsed() >= DEAD_EVERY {
                self.publish_for_dead();
            }
        }
    }

    /// Tells some of what dead processors have counted.
    fn publish_for_dead(&mut self) {
        self.config.dead.publish(&self.config.client);
        self.dead_at = Instant::now();
    }

    /// Tells everything again if the dashboard is another one than before, or has forgotten.
    fn check_database(&mut self, id: Option<Uuid>) {
        let Some(id) = id else { return };
        self.config.own.meet(id);
        self.config.dead.meet(id);
        let dashboard = self.config.dashboard;
        match self.with_ledger(|ledger| ledger.publishes_to(dashboard, id)) {
            Ok(false) => {}
            Ok(true) => {
                self.config.own.forget_published();
                self.to_confirm = true;
            }
            Err(error) => log::warn!("{error:#}"),
        }
    }

    fn confirm_when_due(&mut self) -> Result<()> {
        self.to_confirm |= self.config.woken.to_confirm.load(Ordering::SeqCst);
        if self.retell_at <= Instant::now() {
            let dashboard = self.config.dashboard;
            let has_more =
                self.with_ledger(|ledger| ledger.retell(dashboard, CONFIRMED_PRODUCERS_MAX));
            self.to_confirm |= has_more;
            self.retell_pause = (self.retell_pause * 2).min(RETELL_MAX);
            self.retell_at = Instant::now() + self.retell_pause;
        }
        if !self.to_confirm || self.confirmed_at.elapsed() < CONFIRM_EVERY {
            return Ok(());
        }
        self.confirm()
    }

    /// Tells which producers' plays are counted: not all where there are many, none in a stop whose ledger is away.
    fn confirm(&mut self) -> Result<()> {
        self.confirmed_at = Instant::now();
        let SharedParts { stop_began, stats, .. } = &*self.config.parts;
        if stop_began.get().is_some() && stats.is_ledger_away() {
            self.to_confirm = false;
            return Ok(());
        }
        // What is committed from here on says so again; what was, is taken below.
        self.config.woken.to_confirm.store(false, Ordering::SeqCst);
        self.to_confirm = true;
        let dashboard = self.config.dashboard;
        for _ in 0..CONFIRM_MESSAGES {
            let (producers, holds) = self.with_ledger(|ledger| {
                let producers = ledger.take_unreported(dashboard, CONFIRMED_PRODUCERS_MAX);
                (producers, ledger.counters().counted)
            });
            let producers = producers?;
            if producers.is_empty() {
                self.to_confirm = false;
                return Ok(());
            }
            if let Err(error) = self.claim() {
                self.with_ledger(|ledger| ledger.put_back_unreported(dashboard, &producers));
                return Err(error);
            }
            let (processor, ledger) = (self.config.own.processor(), self.config.own.mark(holds));
            let update = ConfirmedUpdate { processor, producers, ledger };
            let (database, watermarks) = match self.config.client.confirm(&update) {
                Ok(answer) => answer,
                Err(error) => {
                    let producers = &update.producers;
                    self.with_ledger(|ledger| ledger.put_back_unreported(dashboard, producers));
                    self.config.own.refused(&error);
                    return Err(error);
                }
            };
            self.check_database(database);
            let told = update.producers.iter().zip(watermarks);
            let has_more = self.with_ledger(|ledger| {
                told.fold(false, |more, (told, watermark)| {
                    ledger.reported(dashboard, told, watermark) || more
                })
            });
            if has_more {
                self.retell_pause = CONFIRM_EVERY;
                self.retell_at = Instant::now() + self.retell_pause;
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

    /// Sends all that changed; gives up [`STOP_WITHIN`] behind the stop's beginning, or [`LAST_CALLS`] from now.
    fn publish_last(&mut self) {
        let began = *self.config.parts.stop_began.get_or_init(Instant::now);
        let deadline = (began + STOP_WITHIN).max(Instant::now() + LAST_CALLS);
        self.deadline = Some(deadline);
        let (_never_stops, timer) = nsq_protocol::thread::stop_pair();
        self.config.own.flush();
        while let Err(error) = self.publish_due().and_then(|()| self.confirm_all(deadline)) {
            let pause = self.pause(&error);
            if self.is_refused() || Instant::now() + pause > deadline {
                self.error = Some(format!("{error:#}"));
                return;
            }
            timer.wait(pause);
        }
    }

    /// Counts a failure; how long to wait before the next try.
    fn pause(&mut self, error: &anyhow::Error) -> Duration {
        self.is_away(error);
        self.backoff.failed()
    }

    fn link(&self) -> PartLink {
        PartLink::Dashboard(self.config.client.url().to_owned())
    }

    fn is_away(&self, error: &anyhow::Error) {
        self.config.parts.links.away(self.link(), &format!("{error:#}"));
    }

    /// Does something with the ledger. A commit that waits for its database has it for that long: meanwhile the dashboard hears
    /// all the same how the processor fares.
    fn with_ledger<T>(&mut self, act: impl FnOnce(&mut dyn Ledger) -> T) -> T {
        let ledger = self.config.parts.ledger.clone();
        loop {
            let next = self.reported_at + REPORT_EVERY;
            if let Some(mut ledger) = ledger.try_lock_until(next) {
                return act(&mut **ledger);
            }
            // Which database answers the next report tells again.
            self.post_report(None);
        }
    }
}
