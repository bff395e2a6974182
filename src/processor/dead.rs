//! The counts of processors that are dead, published under their own ids by one that lives: a list that every publisher looks
//! at, and what each of them has told of it. Who adds to it runs on any thread; who publishes, on its dashboard's publisher.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use uuid::Uuid;

use super::claim::{Claims, OlderLedger, OnLoss};
use super::publication::{BACKOFF, Publication};
use super::wake::Wake;
use crate::model::counts::ShardedCounts;
use crate::model::dashboard_index::DashboardIndex;
use crate::model::video::VideoState;
use crate::runtime::backoff::Backoff;
use crate::wire::client::DashboardClient;

/// Messages about one dead processor in one round: the counts of the living one do not wait for more.
const MESSAGES: usize = 16;

/// What a processor has left that will count no more, or not before it has said so.
#[derive(Clone, Debug)]
pub struct DeadProcessor {
    /// Whose counts they are, and under whose id they are published.
    pub processor: Uuid,
    /// Of its ledger, as it has told the dashboards itself.
    pub life: Uuid,
    /// The messages' versions begin above this one.
    pub first_version: u64,
    /// Every video that it has counted. Each dashboard is told of all, whatever was published.
    pub videos: Vec<VideoState>,
}

/// What a dashboard was told of a dead processor's counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToldOfDead {
    /// Not all yet: they are many, or it is away.
    #[default]
    NotYet,
    /// All; its database, where it has said which.
    All(Option<Uuid>),
    /// Nothing any more: it knows of more plays than these; why, in one line.
    Refused(String),
}

/// A dead processor's counts on their way to every dashboard, for as long as this is kept: one that comes back with another
/// database is told of them again. Dropped, they are published no more.
pub struct PublishedForDead {
    counts: Arc<DeadCounts>,
    list: Arc<DeadList>,
    ended: Receiver<()>,
}

impl PublishedForDead {
    /// Gets a message when every dashboard was told of all, or refuses it.
    pub fn ended(&self) -> &Receiver<()> {
        &self.ended
    }

    /// What each dashboard was told, in their order.
    pub fn told(&self) -> Vec<ToldOfDead> {
        self.counts.told.lock().clone()
    }
}

impl Drop for PublishedForDead {
    fn drop(&mut self) {
        self.list.counts.lock().retain(|counts| !Arc::ptr_eq(counts, &self.counts));
    }
}

struct DeadCounts {
    processor: Uuid,
    life: Uuid,
    first_version: u64,
    counts: Arc<ShardedCounts>,
    /// Each dashboard.
    told: Mutex<Vec<ToldOfDead>>,
    /// Room for one: what is said once is known.
    ended: Sender<()>,
}

impl DeadCounts {
    /// Notes what a dashboard was told.
    fn note(&self, dashboard: DashboardIndex, now: ToldOfDead) {
        let mut told = self.told.lock();
        told[dashboard.get()] = now;
        if told.iter().all(|told| *told != ToldOfDead::NotYet) {
            // Full: it was said already.
            let _ = self.ended.try_send(());
        }
    }
}

/// The dead processors whose counts are published.
pub(super) struct DeadList {
    counts: Mutex<Vec<Arc<DeadCounts>>>,
    dashboards: usize,
    wake: Wake,
}

impl DeadList {
    /// For so many dashboards, whose publishers are woken.
    pub(super) fn new(dashboards: usize, wake: Wake) -> Self {
        Self { counts: Mutex::default(), dashboards, wake }
    }

    /// Adds one.
    pub(super) fn publish(self: &Arc<Self>, dead: DeadProcessor) -> PublishedForDead {
        let DeadProcessor { processor, life, first_version, videos } = dead;
        let counts = ShardedCounts::for_dashboards(0, self.dashboards);
        videos.into_iter().for_each(|video| counts.restore(VideoState { published: 0, ..video }));
        let told = Mutex::new(vec![ToldOfDead::NotYet; self.dashboards]);
        let (ended_tx, ended) = bounded(1);
        let counts = Arc::new(DeadCounts {
            processor,
            life,
            first_version,
            counts: Arc::new(counts),
            told,
            ended: ended_tx,
        });
        self.counts.lock().push(counts.clone());
        self.wake.counts_came();
        PublishedForDead { counts, list: self.clone(), ended }
    }
}

/// What one publisher has to do of it.
pub(super) struct DeadPublications {
    dashboard: DashboardIndex,
    update_interval: Duration,
    list: Arc<DeadList>,
    each: Vec<DeadPublication>,
}

struct DeadPublication {
    counts: Arc<DeadCounts>,
    publication: Publication,
    /// There is nothing more to tell.
    is_done: bool,
    backoff: Backoff,
    /// When to go on.
    next_at: Instant,
}

impl DeadPublications {
    /// Those to one dashboard.
    pub(super) fn new(
        dashboard: DashboardIndex,
        update_interval: Duration,
        list: Arc<DeadList>,
    ) -> Self {
        Self { dashboard, update_interval, list, each: Vec::new() }
    }

    /// Takes up what has come to the list, and drops what is gone from it.
    fn look(&mut self) {
        let list = self.list.counts.lock();
        let is_there = |counts: &Arc<DeadCounts>| list.iter().any(|one| Arc::ptr_eq(one, counts));
        self.each.retain(|dead| is_there(&dead.counts));
        for counts in &*list {
            if self.each.iter().all(|dead| !Arc::ptr_eq(&dead.counts, counts)) {
                let counts = counts.clone();
                self.each.push(DeadPublication::new(self.dashboard, counts, self.update_interval));
            }
        }
    }

    /// Sends some of each. One that fails waits by itself.
    pub(super) fn publish(&mut self, client: &DashboardClient) {
        self.look();
        for dead in self.each.iter_mut().filter(|dead| !dead.is_done) {
            if Instant::now() < dead.next_at {
                continue;
            }
            let published = dead.publish_some(client);
            let (database, is_other) = dead.publication.look_at_database();
            match published {
                _ if is_other => dead.begin_again(self.dashboard),
                Ok(is_all) => {
                    dead.backoff.succeeded();
                    if is_all {
                        dead.end(self.dashboard, ToldOfDead::All(database));
                    }
                }
                Err(error) if error.is::<OlderLedger>() => {
                    let processor = dead.publication.processor();
                    log::error!("the counts of processor {processor} are not published: {error:#}");
                    dead.end(self.dashboard, ToldOfDead::Refused(format!("{error:#}")));
                }
                Err(error) => dead.wait(&error, client),
            }
        }
    }

    /// The dashboard's database has this id.
    pub(super) fn meet(&mut self, database: Uuid) {
        for dead in &mut self.each {
            dead.publication.meet(database);
            if dead.publication.look_at_database().1 {
                dead.begin_again(self.dashboard);
            }
        }
    }

    /// When to go on; `None`: there is nothing to do.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.each.iter().filter(|dead| !dead.is_done).map(|dead| dead.next_at).min()
    }
}

impl DeadPublication {
    fn new(dashboard: DashboardIndex, counts: Arc<DeadCounts>, update_interval: Duration) -> Self {
        let DeadCounts { processor, life, first_version, .. } = *counts;
        let claims = Claims::new(processor, life, OnLoss::Refuse, counts.counts.clone());
        let mut publication = Publication::new(dashboard, claims, first_version, update_interval);
        publication.flush();
        let (backoff, next_at) = (BACKOFF, Instant::now());
        Self { counts, publication, is_done: false, backoff, next_at }
    }

    /// Sends some messages; whether that was all.
    fn publish_some(&mut self, client: &DashboardClient) -> Result<bool> {
        // Also where there is no video to tell of.
        self.publication.claim(client)?;
        for _ in 0..MESSAGES {
            if self.publication.publish_next(client)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// There is nothing more to tell.
    fn end(&mut self, dashboard: DashboardIndex, told: ToldOfDead) {
        self.is_done = true;
        self.counts.note(dashboard, told);
    }

    /// The dashboard's database is another one than was told.
    fn begin_again(&mut self, dashboard: DashboardIndex) {
        self.publication.forget_published();
        (self.is_done, self.next_at) = (false, Instant::now());
        self.counts.note(dashboard, ToldOfDead::NotYet);
    }

    /// The dashboard cannot be told now.
    fn wait(&mut self, error: &anyhow::Error, client: &DashboardClient) {
        if !self.backoff.is_failing() {
            let processor = self.publication.processor();
            // Of its own counts the same is told.
            log::debug!(
                "cannot publish for processor {processor} to {}: {error:#}; trying again",
                client.url()
            );
        }
        self.next_at = Instant::now() + self.backoff.failed();
    }
}
