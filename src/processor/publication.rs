//! A publication: one processor's counts on their way to one dashboard, by `model::publish_rules`. Runs on that dashboard's
//! publisher.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use uuid::Uuid;

use super::claim::Claims;
use super::titles::PlayTitles;
use crate::model::dashboard_index::DashboardIndex;
use crate::model::publish_rules::PublishRules;
use crate::model::video::{MAX_PLAYS, VideoCount};
use crate::runtime::backoff::Backoff;
use crate::wire::client::{DashboardClient, RefusedCall};
use crate::wire::{CountsUpdate, LedgerMark, PublicationFigures};

/// How long to wait behind failures; at most what a dashboard that is back may wait for its counts.
pub(super) const BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// A message that a dashboard took.
pub(super) struct TakenMessage {
    pub(super) counts: Vec<VideoCount>,
    /// Which database took it, where the dashboard says so.
    pub(super) database: Option<Uuid>,
}

/// Whose counts, to which dashboard, and how far it has come.
pub(super) struct Publication {
    dashboard: DashboardIndex,
    /// With the processor, its ledger's life and its counts.
    claims: Claims,
    rules: PublishRules,
    /// Of the newest message.
    version: u64,
    /// What was published holds for this database.
    database: Option<Uuid>,
    /// What plays say of the videos' titles; `None`: the counts are a dead processor's.
    titles: Option<Arc<PlayTitles>>,
}

impl Publication {
    /// Of the counts that are claimed; the messages' versions begin above `version`.
    pub(super) fn new(
        dashboard: DashboardIndex,
        claims: Claims,
        version: u64,
        update_interval: Duration,
    ) -> Self {
        let rules = PublishRules::new(dashboard, update_interval, Instant::now());
        Self { dashboard, claims, rules, version, database: None, titles: None }
    }

    /// The same with the titles of its videos.
    pub(super) fn with_titles(self, titles: Arc<PlayTitles>) -> Self {
        Self { titles: Some(titles), ..self }
    }

    /// Who counted.
    pub(super) fn processor(&self) -> Uuid {
        self.claims.processor
    }

    /// Has the dashboard compare the ledger with what it knows, where it has not yet.
    ///
    /// # Errors
    /// [`OlderLedger`](super::claim::OlderLedger); or it does not answer.
    pub(super) fn claim(&mut self, client: &DashboardClient) -> Result<()> {
        self.claims.claim_later(client)
    }

    /// What a message says of the ledger, which holds so many plays.
    pub(super) fn mark(&self, holds: u64) -> Option<LedgerMark> {
        self.claims.mark(holds)
    }

    /// Sends the next message; `None`: nothing is due. What was not taken stays due.
    ///
    /// # Errors
    /// As [`Publication::claim`]; or the dashboard did not take it.
    pub(super) fn publish_next(
        &mut self,
        client: &DashboardClient,
    ) -> Result<Option<TakenMessage>> {
        let counts = self.rules.next_batch(&self.claims.counts, Instant::now());
        if counts.is_empty() {
            return Ok(None);
        }
        if let Err(error) = self.claim(client) {
            self.claims.counts.put_back(self.dashboard, &counts);
            return Err(error);
        }
        let ledger = self.mark(self.claims.counts.totals().plays);
        self.version += 1;
        let (processor, version) = (self.processor(), self.version);
        let titles = self.titles.as_ref();
        let videos = counts.iter().map(|count| count.video_id);
        let titles = titles.map_or(Vec::new(), |titles| titles.of(self.dashboard, videos));
        let update = CountsUpdate { processor, version, counts, titles, consumption: None, ledger };
        match client.post("/api/counts", &update) {
            Ok(database) => {
                if let Some(titles) = &self.titles {
                    titles.told(self.dashboard, &update.titles);
                }
                database.into_iter().for_each(|database| self.meet(database));
                Ok(Some(TakenMessage { counts: update.counts, database }))
            }
            Err(error) => {
                self.claims.counts.put_back(self.dashboard, &update.counts);
                self.refused(&error);
                Err(error)
            }
        }
    }

    /// Notes why a message was not taken.
    pub(super) fn refused(&mut self, error: &anyhow::Error) {
        if error.downcast_ref::<RefusedCall>().is_some_and(RefusedCall::is_conflict) {
            self.claims.forget();
        }
    }

    /// The dashboard's database has this id.
    pub(super) fn meet(&mut self, database: Uuid) {
        self.claims.meet(database);
    }

    /// The database that answered last, and whether it is another one than at the last call: what was published before it does
    /// not have.
    pub(super) fn look_at_database(&mut self) -> (Option<Uuid>, bool) {
        let met = self.claims.met();
        let before = std::mem::replace(&mut self.database, met);
        (met, before.is_some() && before != met)
    }

    /// The dashboard knows of none of it: all is due again.
    pub(super) fn forget_published(&self) {
        self.titles.iter().for_each(|titles| titles.forget());
        self.claims.counts.forget_published(self.dashboard);
    }

    /// Makes everything that changed due, as at the end.
    pub(super) fn flush(&mut self) {
        self.rules.flush(&self.claims.counts);
    }

    /// When the interval ends.
    pub(super) fn interval_ends(&self) -> Instant {
        self.rules.interval_ends()
    }

    /// What is published, and when, for a report.
    pub(super) fn figures(&self, now: Instant) -> PublicationFigures {
        let ms =
            |time: Duration| u64::try_from(time.as_millis()).unwrap_or(MAX_PLAYS).min(MAX_PLAYS);
        PublicationFigures {
            holds: self.claims.counts.totals().plays,
            from_plays: self.claims.counts.realtime_below().min(MAX_PLAYS),
            every_ms: ms(self.rules.interval()),
            next_ms: ms(self.rules.interval_ends().saturating_duration_since(now)),
        }
    }

    /// Videos whose newest count the dashboard does not have.
    pub(super) fn unpublished(&self) -> usize {
        self.claims.counts.unpublished(self.dashboard)
    }
}
