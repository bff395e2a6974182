//! What becomes of a change of the catalog that somebody asks for: why it is refused, or what is committed of it.

use std::sync::Arc;

use foldhash::HashMap;
use uuid::Uuid;

use super::told_titles::ToldTitles;
use super::{PROCESSORS_MAX, Writer};
use crate::dashboard::store::catalog::{Catalog, Import, VisibilitySet};
use crate::dashboard::store::catalog_change::CatalogChange;
use crate::dashboard::store::job::{CatalogWrite, Job};
use crate::model::unix_time::UnixMs;
use crate::model::video::{MAX_PLAYS, VideoCount};
use crate::model::video_id::VideoId;
use crate::wire::{Correction, ImportUpdate, ImportedCount, VideoTexts, Visibility};

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
            CatalogWrite::Texts(videos) if are_too_many(catalog, videos, TITLES_MAX) => {
                return Some(format!("{TITLES_MAX} titles are known already").into());
            }
            CatalogWrite::Texts(_) | CatalogWrite::TakeBack(_) => return None,
            _ if catalog.changes_len() >= CHANGES_MAX && is_new_change(catalog, write) => {
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

    /// Of each job, what its plays say of titles that is news.
    pub(super) fn told_titles(&self, jobs: &[&Job]) -> Vec<Option<CatalogChange>> {
        let index = self.state.index.read();
        let mut told = ToldTitles::new(index.catalog(), TITLES_MAX);
        let mut all = Vec::with_capacity(jobs.len());
        for job in jobs {
            all.push(match job {
                Job::Counts(update) => told.news(&update.titles),
                _ => None,
            });
        }
        all
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

/// Whether there are more than `most` titles with those, and more than before. Of a video that is named twice the last counts.
fn are_too_many(catalog: &Catalog, videos: &[(VideoId, VideoTexts)], most: usize) -> bool {
    let titles = catalog.titles();
    let last: HashMap<&VideoId, bool> =
        videos.iter().map(|(id, texts)| (id, *texts != VideoTexts::default())).collect();
    let (new, gone) = last.iter().fold((0, 0), |(new, gone), (id, is_any)| {
        let before = titles.get(id).is_some();
        (new + usize::from(*is_any && !before), gone + usize::from(!*is_any && before))
    });
    new > gone && titles.len() + new - gone > most
}

/// Whether a change is of a video of which nothing was changed before.
fn is_new_change(catalog: &Catalog, write: &CatalogWrite) -> bool {
    match write {
        CatalogWrite::Visibility(id, change) => {
            change.visibility != Visibility::Shown && catalog.changes(id).is_none()
        }
        CatalogWrite::Correction(id, change) => change.plays != 0 && catalog.changes(id).is_none(),
        CatalogWrite::Texts(_) | CatalogWrite::Import(_) | CatalogWrite::TakeBack(_) => false,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{CorrectionChange, VisibilityChange};

    fn id(text: &str) -> VideoId {
        text.parse().unwrap()
    }

    fn texts(title: Option<&str>) -> VideoTexts {
        VideoTexts { title: title.map(str::to_owned), url: None }
    }

    #[test]
    fn only_titles_of_videos_without_any_are_too_many() {
        let mut catalog = Catalog::default();
        for video in ["a", "b"] {
            catalog.set_by_hand(id(video), &texts(Some("one")));
        }
        for (videos, is_refused) in [
            (&[("a", Some("two"))][..], false),
            (&[("a", None)], false),
            (&[("c", None)], false),
            (&[("c", Some("one"))], true),
            (&[("a", None), ("c", Some("one"))], false),
            (&[("a", None), ("c", Some("one")), ("d", Some("one"))], true),
            // The last one of a video counts, and it counts once.
            (&[("a", None), ("c", Some("one")), ("a", Some("one"))], true),
            (&[("c", Some("one")), ("c", None)], false),
            (&[("a", None), ("c", Some("one")), ("c", Some("two"))], false),
        ] {
            let told: Vec<_> =
                videos.iter().map(|(video, title)| (id(video), texts(*title))).collect();
            assert_eq!(are_too_many(&catalog, &told, 2), is_refused, "{videos:?}");
            // More than there may be, as an older program may have left: less is always taken.
            assert_eq!(are_too_many(&catalog, &told, 1), is_refused, "{videos:?}");
            assert!(!are_too_many(&catalog, &told, 4), "{videos:?}");
        }
    }

    #[test]
    fn only_changes_of_unchanged_videos_are_new() {
        let mut catalog = Catalog::default();
        let hidden = VisibilitySet { visibility: Visibility::Hidden, reason: None, at: UnixMs(1) };
        catalog.set_visibility(id("a"), hidden);
        assert_eq!(catalog.changes_len(), 1);
        let show = |video, visibility| {
            CatalogWrite::Visibility(id(video), VisibilityChange { visibility, reason: None })
        };
        let correct = |video, plays| {
            CatalogWrite::Correction(id(video), CorrectionChange { plays, reason: String::new() })
        };
        let is_new = |write| is_new_change(&catalog, &write);
        assert!(is_new(show("b", Visibility::Hidden)) && is_new(show("b", Visibility::Deleted)));
        assert!(is_new(correct("b", 5)) && is_new(correct("b", -5)));
        for known in [
            show("a", Visibility::Shown),
            show("a", Visibility::Deleted),
            correct("a", 5),
            correct("a", 0),
            show("b", Visibility::Shown),
            correct("b", 0),
            CatalogWrite::TakeBack(Uuid::nil()),
        ] {
            assert!(!is_new(known));
        }
    }
}
