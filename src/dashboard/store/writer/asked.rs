//! What becomes of a change of the catalog that somebody asks for: why it is refused, or what is committed of it.

use std::sync::Arc;

use uuid::Uuid;

use super::{PROCESSORS_MAX, Writer};
use crate::dashboard::store::catalog::{Catalog, Import, VisibilitySet};
use crate::dashboard::store::catalog_change::CatalogChange;
use crate::dashboard::store::job::{CatalogWrite, Job};
use crate::model::unix_time::UnixMs;
use crate::model::video::{MAX_PLAYS, VideoCount};
use crate::wire::{Correction, ImportUpdate, ImportedCount, VideoTitle, Visibility};

/// The most titles: some 4 GB of memory. Whoever may write could fill it otherwise.
const TITLES_MAX: usize = 20_000_000;

/// The most videos of which something is changed, each by hand.
const CHANGES_MAX: usize = 1_000_000;

impl Writer {
    /// Why a change is refused, if it is; all counts together are `plays` before it. Every number stays one that a browser can
    /// show, because the sum of all does.
    pub(super) fn catalog_refusal(&self, write: &CatalogWrite, plays: u64) -> Option<Arc<str>> {
        let index = self.state.index.read();
        let catalog = index.catalog();
        let sum = match write {
            CatalogWrite::Texts(videos) if catalog.titles().len() + videos.len() > TITLES_MAX => {
                return Some(format!("{TITLES_MAX} titles are known already").into());
            }
            CatalogWrite::Texts(_) | CatalogWrite::TakeBack(_) => return None,
            CatalogWrite::Visibility(..) | CatalogWrite::Correction(..)
                if catalog.all_changes().count() >= CHANGES_MAX =>
            {
                return Some(format!("{CHANGES_MAX} videos are changed already").into());
            }
            CatalogWrite::Visibility(..) => return None,
            CatalogWrite::Correction(id, correction) => {
                let before = catalog.changes(id).map_or(0, |changes| changes.added().max(0));
                let less = plays.saturating_sub(before.unsigned_abs());
                less.saturating_add(correction.plays.max(0).unsigned_abs())
            }
            CatalogWrite::Import(update) => {
                let known = catalog.import(&update.import);
                let number = known.and_then(|import| self.processors.get(&import.key));
                if known.is_none() && self.processors.len() >= PROCESSORS_MAX {
                    let reason =
                        format!("{PROCESSORS_MAX} processors and imports are known already");
                    return Some(reason.into());
                }
                plays.saturating_add(index.growth(number, &counts(&update.counts)))
            }
        };
        (sum > MAX_PLAYS)
            .then(|| format!("with that all counts would be {sum}, more than {MAX_PLAYS}").into())
    }

    /// What a job's plays say of titles that is not known yet.
    pub(super) fn news_of_titles(&self, job: &Job) -> Option<CatalogChange> {
        let Job::Counts(update) = job else { return None };
        if update.titles.is_empty() {
            return None;
        }
        let index = self.state.index.read();
        let is_news =
            |told: &&VideoTitle| index.catalog().is_news_by_play(&told.video_id, &told.title);
        let news: Vec<_> = update.titles.iter().filter(is_news).cloned().collect();
        (!news.is_empty()).then_some(CatalogChange::Titles(news))
    }

    /// What is to be committed of a change at `at`; `None`: it changes nothing, or is none.
    pub(super) fn catalog_change(&self, job: &Job, at: UnixMs) -> Option<CatalogChange> {
        let Job::Catalog(write) = job else { return None };
        let index = self.state.index.read();
        let catalog = index.catalog();
        match write {
            CatalogWrite::Texts(videos) => {
                let is_news = videos.iter().any(|(id, texts)| catalog.is_news_by_hand(id, texts));
                is_news.then(|| CatalogChange::Texts(videos.clone()))
            }
            CatalogWrite::Visibility(id, change) => {
                let before = catalog.changes(id).and_then(|changes| changes.visibility.as_ref());
                let is_as_before = match before {
                    None => change.visibility == Visibility::Shown,
                    Some(set) => {
                        (set.visibility, &set.reason) == (change.visibility, &change.reason)
                    }
                };
                let set = VisibilitySet {
                    visibility: change.visibility,
                    reason: change.reason.clone(),
                    at,
                };
                (!is_as_before).then_some(CatalogChange::Visibility(*id, set))
            }
            CatalogWrite::Correction(id, change) => {
                let before = catalog.changes(id).and_then(|changes| changes.correction.as_ref());
                let is_as_before = match before {
                    None => change.plays == 0,
                    Some(known) => (known.plays, &known.reason) == (change.plays, &change.reason),
                };
                let correction =
                    Correction { plays: change.plays, reason: change.reason.clone(), at };
                (!is_as_before).then_some(CatalogChange::Correction(*id, correction))
            }
            CatalogWrite::Import(update) => {
                let (import, is_new) = import(catalog, update, at);
                let number = self.processors.get(&import.key);
                let is_news =
                    |count: &VideoCount| number.is_none_or(|number| index.is_news(number, count));
                let is_news = is_new || counts(&update.counts).iter().any(is_news);
                let counts = update.counts.clone();
                is_news.then_some(CatalogChange::Import { id: update.import, import, counts })
            }
            CatalogWrite::TakeBack(id) => {
                let key = catalog.import(id)?.key;
                Some(CatalogChange::TakenBack { id: *id, key })
            }
        }
    }
}

/// The import that counts are of, and whether it is new.
fn import(catalog: &Catalog, update: &ImportUpdate, at: UnixMs) -> (Import, bool) {
    match catalog.import(&update.import) {
        Some(known) => (known.clone(), false),
        None => (Import { key: Uuid::new_v4(), name: update.name.clone(), at }, true),
    }
}

fn counts(imported: &[ImportedCount]) -> Vec<VideoCount> {
    let count = |count: &ImportedCount| VideoCount {
        video_id: count.video_id,
        plays: count.plays,
        last_played_at: None,
    };
    imported.iter().map(count).collect()
}
