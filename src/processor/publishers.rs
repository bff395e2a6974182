//! A processor's publishers, one for each dashboard: made and stopped together, so that none is told of what the others are not.
//! Runs on the thread that starts or stops the processor.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nsq_protocol::thread::{Crew, stop_pair};

use super::claim::Claims;
use super::dead::{DeadList, DeadProcessor, DeadPublications, PublishedForDead};
use super::publication::Publication;
use super::publisher::{DashboardReport, Publisher, PublisherConfig, SharedParts};
use super::titles::PlayTitles;
use super::wake::{Wake, Woken};
use crate::model::dashboard_index::DashboardIndex;
use crate::wire::client::DashboardClient;

pub(super) struct PublishersConfig {
    /// Each dashboard, and the claim of the ledger from it.
    pub(super) claims: Vec<(Claims, DashboardClient)>,
    /// The versions of the messages begin above this one.
    pub(super) first_version: u64,
    pub(super) update_interval: Duration,
    /// What plays say of the videos' titles.
    pub(super) titles: Arc<PlayTitles>,
    pub(super) parts: SharedParts,
    /// Wakes them.
    pub(super) wake: Wake,
    /// Their ends of it.
    pub(super) woken: Vec<Woken>,
}

/// The publishers, which are started once.
pub(super) struct Publishers {
    crew: Crew<DashboardReport>,
    /// Those that are not started.
    waiting: Vec<Publisher>,
    dead: Arc<DeadList>,
    parts: Arc<SharedParts>,
}

impl Publishers {
    /// Not started yet.
    pub(super) fn new(config: PublishersConfig) -> Self {
        let PublishersConfig { claims, first_version, update_interval, titles, parts, wake, woken } =
            config;
        let dead = Arc::new(DeadList::new(claims.len(), wake));
        let (source, stop) = stop_pair();
        let parts = Arc::new(parts);
        let each = DashboardIndex::all(claims.len()).zip(claims).zip(woken);
        let one = |((dashboard, (claims, client)), woken)| {
            Publisher::new(PublisherConfig {
                dashboard,
                client,
                own: Publication::new(dashboard, claims, first_version, update_interval)
                    .with_titles(titles.clone()),
                dead: DeadPublications::new(dashboard, update_interval, dead.clone()),
                parts: parts.clone(),
                woken,
                stop: stop.clone(),
            })
        };
        let waiting = each.map(one).collect();
        Self { crew: Crew::stopped_by(source), waiting, dead, parts }
    }

    /// Starts them, if they are not.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub(super) fn start(&mut self) -> io::Result<()> {
        for (index, publisher) in self.waiting.drain(..).enumerate() {
            let name = match index {
                0 => "publisher".to_owned(),
                _ => format!("publisher-{}", index + 1),
            };
            self.crew.spawn(&name, move || publisher.run())?;
        }
        Ok(())
    }

    /// Has the counts of a processor that is dead published, too.
    pub(super) fn publish_for(&self, dead: DeadProcessor) -> PublishedForDead {
        self.dead.publish(dead)
    }

    /// The processors that are dead and whose counts they publish.
    pub(super) fn dead(&self) -> Arc<DeadList> {
        self.dead.clone()
    }

    /// The processor's stop begins: from now on the time runs in which dashboards may take what is left.
    pub(super) fn stop_begins(&self) {
        // Once is enough.
        let _ = self.parts.stop_began.set(Instant::now());
    }

    /// Publishes what is left; what each dashboard was told.
    pub(super) fn stop(self) -> Vec<DashboardReport> {
        self.crew.stop()
    }
}
