//! What a publisher tells of how the processor fares: once a second, with its newest dead letters, and at the end why it ends.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{Publisher, REPORT_EVERY, SharedParts};
use crate::processor::report::{self, ReportedLedger};
use crate::runtime::clock::unix_ns;
use crate::wire::{ConsumptionReport, ProcessorEnding};

/// How long a report waits for the ledger, which a commit may hold for as long as its database does not answer; then it tells
/// of the ledger what the one before did.
const REPORT_WAITS: Duration = Duration::from_millis(50);

impl Publisher {
    pub(super) fn report_when_due(&mut self) {
        if self.reported_at.elapsed() >= REPORT_EVERY {
            self.report_consumption();
        }
    }

    /// Why this is the end; `None` where it is not in order, or the dashboard lacks something.
    pub(super) fn ending(&self) -> Option<ProcessorEnding> {
        let SharedParts { stats, refusal, .. } = &*self.config.parts;
        let is_orderly = stats.failure().is_none() && !stats.is_fenced() && !refusal.is_said();
        let has_told_all = self.error.is_none() && self.config.own.unpublished() == 0;
        (is_orderly && has_told_all).then(|| match stats.has_reached_target() {
            true => ProcessorEnding::Finished,
            false => ProcessorEnding::Stopped,
        })
    }

    pub(super) fn report_consumption(&mut self) {
        self.report(None);
    }

    /// Tells how the processor fares.
    pub(super) fn report(&mut self, ending: Option<ProcessorEnding>) {
        let database = self.post_report(ending);
        self.check_database(database);
    }

    /// Tells of dead letters, where it has not, to a dashboard that takes reports.
    fn tell_letters(&mut self) {
        if let Some(newest) = self.config.parts.stats.letters_since(self.letters_post.known()) {
            self.letters_post.post(&self.config.client, self.config.own.processor(), newest);
        }
    }

    /// Posts a report; the dashboard's database, where it says which. One that fails is not repeated: the next is newer.
    pub(super) fn post_report(&mut self, ending: Option<ProcessorEnding>) -> Option<Uuid> {
        let seconds = self.reported_at.elapsed().as_secs_f64();
        let SharedParts { instance, ledger, stats, consumer, .. } = &*self.config.parts;
        if let Some(ledger) = ledger.try_lock_for(REPORT_WAITS) {
            self.reported_ledger = Some(ReportedLedger::of(&**ledger));
        }
        let told = self.reported_ledger.get_or_insert_with(|| ReportedLedger::of(&**ledger.lock()));
        let window = report::window_figures(told.window, unix_ns());
        let (dashboard, before) = (self.config.dashboard, self.reported_count);
        let mut consumption = stats.report(dashboard, before, seconds, told.size, window);
        consumption.consumer = consumer.figures().map(Box::new);
        consumption.publication = Some(self.config.own.figures(Instant::now()));
        let is_shared = told.status.is_shared();
        consumption.ledger_status = is_shared.then(|| Box::new(told.status.clone()));
        self.reported_at = Instant::now();
        self.reported_count = consumption.counted;
        let (processor, instance) = (self.config.own.processor(), Some(*instance));
        let report = ConsumptionReport { processor, instance, consumption, ending };
        match self.report_post.post(&self.config.client, report) {
            Ok(database) => {
                // One that takes reports and no counts is not well.
                if !self.backoff.is_failing() {
                    self.config.parts.links.there(self.link());
                }
                self.tell_letters();
                database
            }
            Err(error) => {
                self.is_away(&error);
                None
            }
        }
    }
}
