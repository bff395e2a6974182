//! The thread of the updates, `dash-store`: it commits to the journal what waits together, shows it, and answers. It waits
//! for the journal's file and for nothing else.

mod asked;
mod told_titles;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use crossbeam_channel::Receiver;
use uuid::Uuid;

use super::catalog;
use super::catalog_change::{self, CatalogChange};
use super::change::{
    encode_claimed, encode_cleared, encode_confirmed, encode_counts, encode_nothing,
};
use super::confirmed::CHANGED_MAX;
use super::job::{ClaimJob, Job, NotStored, Posted};
use super::ledgers::{ClaimedLedger, ForgottenCounts, Ledgers};
use super::memory::{ProcessorNumbers, apply_catalog, apply_counts, forget_counts};
use super::pending::ClearedTables;
use super::state::StoreState;
use crate::model::unix_time::UnixMs;
use crate::model::video::MAX_PLAYS;
use crate::runtime::clock::unix_ms;
use crate::runtime::watchdog::Work;
use crate::storage::failpoint;
use crate::wire::{ConfirmedUpdate, CountsUpdate, LedgerClaim, LedgerMark};

/// What stands before the reason of a commit that failed.
pub(super) const CANNOT_STORE: &str = "the counts cannot be stored: ";

/// The most updates in one commit.
const GROUP_MAX: usize = 64;

/// The most processors a database knows: one for each ledger. Each costs a row and some 100 bytes of memory, and none can be
/// forgotten alone: should its ledger come back, its counts would be added a second time.
pub(super) const PROCESSORS_MAX: usize = 10_000;

/// How long a refusal of counts is told after the last: a processor tries again every few seconds.
pub(super) const REFUSAL_SHOWN: Duration = Duration::from_secs(60);

/// The most changed videos that wait for a checkpoint: about 160 MB.
const VIDEOS_MAX: usize = 2_000_000;

/// The most bytes of a journal that no checkpoint makes shorter: some seconds to play again at a start.
const JOURNAL_MAX: u64 = 1 << 30;

/// A job that is to be committed, and what is news of the titles that its plays say.
type News<'a> = (&'a Job, Option<CatalogChange>);

/// Who commits.
pub(super) struct Writer {
    state: Arc<StoreState>,
    processors: ProcessorNumbers,
    /// A commit, which must come to an end.
    work: Arc<Work>,
}

impl Writer {
    /// A writer that knows those processors.
    pub(super) fn new(state: Arc<StoreState>, processors: ProcessorNumbers) -> Self {
        Self { state, processors, work: Work::new("a commit of the dashboard") }
    }

    /// Takes what waits, until nobody can ask any more.
    pub(super) fn run(mut self, inbox: &Receiver<Posted>) {
        let work = self.work.clone();
        while let Ok(first) = inbox.recv() {
            let _begun = work.begin();
            self.take(first, inbox);
        }
    }

    /// Commits what waits, and answers.
    fn take(&mut self, first: Posted, inbox: &Receiver<Posted>) {
        let mut group = vec![first];
        // Clearing ends a group: what comes behind it begins with nothing. As does a claim: it may be kept under another key;
        // and what depends on the catalog as it is.
        while group.len() < GROUP_MAX
            && !matches!(group.last(), Some((Job::Clear | Job::Claim(_) | Job::Catalog(_), _)))
            && let Ok(next) = inbox.try_recv()
        {
            group.push(next);
        }
        let before = *self.state.id.lock();
        let refusals = self.refusals(&group);
        let accepted = group.iter().zip(&refusals).filter(|(_, refusal)| refusal.is_none());
        let accepted: Vec<&Job> = accepted.map(|((job, _), _)| job).collect();
        let done = self.commit(&accepted).map_err(|error| {
            let error = self.state.cause(error);
            let reason: Arc<str> = format!("{CANNOT_STORE}{error:#}").into();
            log::error!("{reason}");
            reason
        });
        *self.state.commit_failure.lock() = done.clone().err();
        for ((job, caller), refusal) in group.into_iter().zip(refusals) {
            let is_other = matches!(job, Job::Clear | Job::Claim(_));
            let id = if is_other { *self.state.id.lock() } else { before };
            let done = match refusal {
                Some(reason) => Err(NotStored::Refused(reason)),
                None => done.clone().map(|()| id).map_err(NotStored::Failed),
            };
            // A caller that gave up waiting will send again.
            let _ = caller.try_send(done);
        }
    }

    /// Why each job of a group is refused, if it is: the others are not kept from being stored.
    fn refusals(&self, group: &[Posted]) -> Vec<Option<Arc<str>>> {
        let (mut new, mut plays) = (Vec::new(), self.state.index.read().most());
        let refusals: Vec<Option<Arc<str>>> =
            group.iter().map(|(job, _)| self.refusal(job, &mut new, &mut plays)).collect();
        // Who asks for a change of the catalog is told, and nothing is wrong with the store.
        let of_counts = group.iter().zip(&refusals).rev();
        let of_counts = of_counts.filter(|((job, _), _)| matches!(job, Job::Counts(_)));
        if let Some(reason) = of_counts.filter_map(|(_, refusal)| refusal.as_ref()).next() {
            let before = self.state.refused.lock().replace((Arc::clone(reason), Instant::now()));
            // Whoever tells them tells them often.
            if before.is_none_or(|(_, at)| at.elapsed() >= REFUSAL_SHOWN) {
                log::error!("counts are refused: {reason}");
            }
        }
        refusals
    }

    /// Why a job is refused, if it is. Those before it have brought `new` processors, and all counts to `plays`. Every
    /// number stays one that a browser can show, because the sum of all does.
    fn refusal(&self, job: &Job, new: &mut Vec<Uuid>, plays: &mut u64) -> Option<Arc<str>> {
        let update = match job {
            Job::Counts(update) => update,
            Job::Catalog(write) => return self.catalog_refusal(write, *plays),
            _ => return None,
        };
        let CountsUpdate { processor, counts, .. } = &**update;
        let key = self.state.ledgers.read().key(*processor);
        let number = self.processors.get(&key);
        let is_new = number.is_none() && !new.contains(&key);
        if is_new && self.processors.len() + new.len() >= PROCESSORS_MAX {
            let reason = format!(
                "{PROCESSORS_MAX} processors are known already, and {processor} is another; none can be forgotten alone"
            );
            return Some(reason.into());
        }
        let sum = plays.saturating_add(self.state.index.read().growth(number, counts));
        if sum > MAX_PLAYS {
            let reason = format!(
                "with those of processor {processor} all counts would be {sum}, more than {MAX_PLAYS}"
            );
            return Some(reason.into());
        }
        new.extend(is_new.then_some(key));
        *plays = sum;
        None
    }

    fn commit(&mut self, accepted: &[&Job]) -> Result<()> {
        self.state.check_in_place()?;
        self.check_room()?;
        let (at, new_id) = (unix_ms(), Uuid::new_v4());
        let claimed = accepted.iter().find_map(|job| self.compare(job));
        // One at most, and the last: it ends its group.
        let change = accepted.iter().find_map(|job| self.catalog_change(job, at));
        let is_news = |(job, titles): &News<'_>| match job {
            Job::Claim(_) => claimed.is_some(),
            Job::Catalog(_) => change.is_some(),
            job => titles.is_some() || self.is_news(job),
        };
        let told = self.told_titles(accepted);
        let news: Vec<News<'_>> = accepted.iter().copied().zip(told).filter(is_news).collect();
        if news.is_empty() {
            return Ok(());
        }
        let next = self.append(&news, claimed.as_ref(), change.as_ref(), at, new_id)?;
        let mut has_changed = self.apply(&news, at);
        has_changed |= claimed.is_some_and(|claimed| self.claim(&claimed, at));
        has_changed |= change.is_some_and(|change| self.change(&change, at));
        // It ends its group. Titles of those before it stay, as they do when the journal is played again.
        if news.iter().any(|(job, _)| matches!(job, Job::Clear)) {
            self.clear(ClearedTables { id: new_id, next });
            has_changed = true;
        }
        self.state.applied.store(next, Ordering::Release);
        if has_changed {
            self.state.revision.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    /// Commits the jobs to the journal; the number of the next change.
    fn append(
        &self,
        news: &[News<'_>],
        claimed: Option<&ClaimedLedger>,
        change: Option<&CatalogChange>,
        at: UnixMs,
        new_id: Uuid,
    ) -> Result<u64> {
        let ledgers = self.state.ledgers.read();
        let mut journal = self.state.journal.lock();
        for titles in news.iter().filter_map(|(_, titles)| titles.as_ref()) {
            journal.append(&catalog_change::encode(at, titles))?;
        }
        for (job, _) in news {
            if let (Job::Catalog(_), Some(change)) = (job, change) {
                journal.append(&catalog_change::encode(at, change))?;
                continue;
            }
            let payload = match (job, claimed) {
                (Job::Counts(update), _) => {
                    let CountsUpdate { processor, ledger, counts, .. } = &**update;
                    encode_counts(at, ledgers.key(*processor), held(ledger.as_ref()), counts)
                }
                (Job::Confirmed(update), _) => {
                    let ConfirmedUpdate { processor, ledger, producers } = update;
                    encode_confirmed(at, ledgers.key(*processor), held(ledger.as_ref()), producers)
                }
                (Job::Claim(_), Some(claimed)) => encode_claimed(at, claimed),
                (Job::Clear, _) => encode_cleared(at, new_id),
                (Job::Probe | Job::Claim(_) | Job::Catalog(_), _) => encode_nothing(),
            };
            journal.append(&payload)?;
        }
        failpoint::hit("dashboard-before-commit");
        journal.commit()?;
        failpoint::hit("dashboard-after-commit");
        Ok(journal.next())
    }

    /// Whether there is room for more changes.
    ///
    /// # Errors
    /// Too much waits for a checkpoint: why the newest one failed, if so.
    fn check_room(&self) -> Result<()> {
        let videos = self.state.pending.read().len();
        let producers = self.state.confirmed.read().waiting();
        let of_catalog = self.state.index.read().catalog().waiting();
        let is_full = videos > VIDEOS_MAX
            || producers > CHANGED_MAX
            || of_catalog > catalog::CHANGED_MAX
            || self.state.journal.lock().size() > JOURNAL_MAX;
        if !is_full {
            return Ok(());
        }
        match &*self.state.checkpoint_failure.lock() {
            Some(reason) => bail!("{reason}"),
            None => bail!("more changes come than the tables take; they must catch up first"),
        }
    }

    /// Whether a job has news besides titles.
    fn is_news(&self, job: &Job) -> bool {
        match job {
            Job::Counts(update) => {
                let key = self.state.ledgers.read().key(update.processor);
                let Some(number) = self.processors.get(&key) else { return true };
                let index = self.state.index.read();
                update.counts.iter().any(|count| index.is_news(number, count))
                    || self.holds_more(key, update.ledger.as_ref())
            }
            Job::Confirmed(update) => {
                let key = self.state.ledgers.read().key(update.processor);
                self.state.confirmed.read().is_news(&update.producers)
                    || self.holds_more(key, update.ledger.as_ref())
            }
            Job::Claim(_) | Job::Catalog(_) | Job::Clear | Job::Probe => true,
        }
    }

    fn holds_more(&self, key: Uuid, ledger: Option<&LedgerMark>) -> bool {
        self.state.ledgers.read().is_news(&key, held(ledger))
    }

    /// Compares a ledger that is claimed with what is known of it. What is to be noted of it, if anything is.
    fn compare(&self, job: &Job) -> Option<ClaimedLedger> {
        let Job::Claim(ClaimJob { claim, refused }) = job else { return None };
        let LedgerClaim { processor, ledger, accept_loss, .. } = *claim;
        let (life, key, held) = {
            let ledgers = self.state.ledgers.read();
            let key = ledgers.key(processor);
            (ledgers.life(&processor), key, ledgers.held(&key))
        };
        let number = self.processors.get(&key);
        let told = number.map_or(0, |number| self.state.index.read().plays_of(number));
        let known = told.max(held);
        let mut claimed = ClaimedLedger { processor, life: ledger.life, key, forget: None };
        if claim.is_older(life, known) {
            if !accept_loss {
                // Room for one, and this is it.
                let _ = refused.try_send(known);
                return None;
            }
            claimed.key = Uuid::new_v4();
            claimed.forget = Some(ForgottenCounts { key, id: Uuid::new_v4() });
        }
        (claimed.forget.is_some() || life != Some(ledger.life)).then_some(claimed)
    }

    /// Notes which ledger a processor counts in; whether any count has changed.
    fn claim(&mut self, claimed: &ClaimedLedger, at: UnixMs) -> bool {
        let Some(ForgottenCounts { key, id }) = claimed.forget else {
            self.state.ledgers.write().claim(claimed);
            return false;
        };
        let mut index = self.state.index.write();
        let mut pending = self.state.pending.write();
        self.state.ledgers.write().claim(claimed);
        let before = index.most();
        forget_counts(&mut index, &mut pending, &self.processors, &key, at);
        let left = index.most();
        index.lose_told(before.saturating_sub(left));
        // Before that: who has just read a row of the table must see that it is forgotten.
        *self.state.id.lock() = id;
        self.state.confirmed.write().forget_all();
        true
    }

    /// Shows a change of the catalog that is committed.
    fn change(&mut self, change: &CatalogChange, at: UnixMs) -> bool {
        let mut index = self.state.index.write();
        let mut pending = self.state.pending.write();
        let mut ledgers = self.state.ledgers.write();
        let processors = &mut self.processors;
        apply_catalog(&mut index, &mut pending, processors, &mut ledgers, change, at);
        true
    }

    /// Shows what is committed; whether any count or title has changed.
    fn apply(&mut self, news: &[News<'_>], at: UnixMs) -> bool {
        let mut has_changed = false;
        if news.iter().any(|(job, _)| matches!(job, Job::Counts(_))) {
            let mut index = self.state.index.write();
            let mut pending = self.state.pending.write();
            for (job, titles) in news {
                let Job::Counts(update) = job else { continue };
                let CountsUpdate { processor, ledger, counts, .. } = &**update;
                let mut ledgers = self.state.ledgers.write();
                let key = ledgers.key(*processor);
                ledgers.hold(key, held(ledger.as_ref()));
                drop(ledgers);
                let processors = &mut self.processors;
                has_changed |= apply_counts(&mut index, &mut pending, processors, key, counts, at);
                let Some(CatalogChange::Titles(titles)) = titles else { continue };
                for told in titles {
                    has_changed |= index.set_by_play(told.video_id, &told.title);
                }
            }
        }
        for (job, _) in news {
            if let Job::Confirmed(update) = job {
                let mut ledgers = self.state.ledgers.write();
                let key = ledgers.key(update.processor);
                ledgers.hold(key, held(update.ledger.as_ref()));
                drop(ledgers);
                self.state.confirmed.write().apply(&update.producers, at);
            }
        }
        has_changed
    }

    /// Forgets everything. What the tables have is left to a checkpoint, and until then nobody sees it.
    fn clear(&mut self, tables: ClearedTables) {
        let (index, pending, confirmed);
        {
            let mut shown = self.state.index.write();
            let mut waiting = self.state.pending.write();
            *self.state.id.lock() = tables.id;
            index = shown.reset();
            pending = waiting.clear(tables);
            confirmed = std::mem::take(&mut *self.state.confirmed.write());
            *self.state.ledgers.write() = Ledgers::default();
        }
        self.processors = ProcessorNumbers::default();
        // A million videos take a while to drop: nobody waits for it in a lock.
        drop((index, pending, confirmed));
    }
}

/// Plays that a ledger says to hold.
fn held(ledger: Option<&LedgerMark>) -> Option<u64> {
    ledger.map(|ledger| ledger.holds)
}
